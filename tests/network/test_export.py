import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from network import ARCHS, load
from network.__main__ import main
from network.export import Logits, export
from utils.errors import UserError

CODES = [0, 0, 2, 2, 4, 3, 0]


@pytest.fixture
def snapshot(tmp_path):
    torch.manual_seed(0)
    net = ARCHS["DeepR18V3PlusD"](wt_layer=CODES)
    file = tmp_path / "last.pth"
    settings = {"arch": "DeepR18V3PlusD", "wt_layer": CODES}
    torch.save({"state_dict": net.state_dict(), "settings": settings}, file)
    return file


def image():
    """Return an image of other sizes than the one that was traced."""
    return torch.randn(2, 3, 75, 110, generator=torch.Generator().manual_seed(0))


def test_a_torchscript_file_computes_the_networks_logits(snapshot, tmp_path):
    net = load(snapshot)
    export(net, tmp_path / "deep/net.pt", "torchscript")
    written = torch.jit.load(tmp_path / "deep/net.pt")
    with torch.no_grad():
        torch.testing.assert_close(written(image()), Logits(net)(image()))


def test_an_onnx_file_computes_the_networks_logits(snapshot, tmp_path):
    net = load(snapshot)
    export(net, tmp_path / "net.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (logits,) = session.run(["logits"], {"image": image().numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, Logits(net)(image()).numpy(), atol=1e-4)


def test_a_missing_package_and_an_unknown_format_are_named(snapshot, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)  # import raises ImportError
    net = load(snapshot)
    with pytest.raises(UserError, match="pip install onnx"):
        export(net, tmp_path / "net.onnx", "onnx")
    with pytest.raises(UserError, match="onnx or torchscript, not 'tflite'"):
        export(net, tmp_path / "net.tflite", "tflite")
    assert list(tmp_path.iterdir()) == [snapshot]


def test_command_line(snapshot, tmp_path, monkeypatch, capsys):
    command = [sys.executable, "-m", "network", "--snapshot", str(snapshot), "--export", "torchscript"]
    run = {"cwd": Path(__file__).parents[2], "capture_output": True, "text": True}
    done = subprocess.run([*command, str(tmp_path / "net.pt")], **run)
    assert done.returncode == 0 and (tmp_path / "net.pt").is_file(), done.stderr
    monkeypatch.setattr(sys, "argv", ["network", "--snapshot", str(snapshot)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--export FORMAT FILE" in capsys.readouterr().err
