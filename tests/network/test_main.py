import subprocess
import sys
from pathlib import Path

import pytest
import torch

from network import ARCHS
from network.__main__ import describe, main
from network.normalization import NORMS
from utils.norms import Norm


def test_description():
    text = describe(ARCHS["DeepR18V3PlusD"](wt_layer=(0, 0, 2, 4, 0, 0, 0)), 64, 128)
    assert "layer1     64 channels, 16 x 32 (1/4)" in text
    assert "layer4    512 channels, 2 x 4 (1/32)" in text
    assert "layer0.1: SelectiveInstanceWhitening(64); its covariance enters the loss" in text
    assert "layer1.1.instance_norm_layer: InstanceNorm(64" in text


def test_parameters_and_multiply_adds_of_the_trunk():
    """torchvision's ResNet-18 has 11.69 M parameters, 0.51 M of them in the classifier this network lacks."""
    net = ARCHS["DeepR18V3PlusD"]()
    trunk = sum(p.numel() for name, p in net.named_parameters() if name.startswith("layer"))
    assert trunk == 11_689_512 - (512 * 1000 + 1000)


def test_loading_is_reported(tmp_path, monkeypatch, caplog, capsys):
    file = str(tmp_path / "weights.pth")
    torch.save(ARCHS["DeepR18V3PlusD"]().state_dict(), file)
    codes = ["--wt_layer", *"0020000"]  # no norm with weights in the stem: its 5 entries stay unused
    argv = ["network", "--arch", "DeepR18V3PlusD", *codes, "--size", "64", "64", "--pretrained", file]
    monkeypatch.setattr(sys, "argv", argv)
    with caplog.at_level("INFO", "robustnet"):
        main()
    total = len(ARCHS["DeepR18V3PlusD"]().state_dict())
    assert f"pretrained {file}: {total - 5} entries loaded; 5 not of this network: layer0" in caplog.text
    assert "layer0.1: SelectiveInstanceWhitening(64)" in capsys.readouterr().out


def test_a_new_norm_is_shown(monkeypatch):
    """One line in the factory, for a code that some new norm took over."""
    monkeypatch.setitem(NORMS, Norm.IBN, lambda channels: torch.nn.GroupNorm(1, channels))
    text = describe(ARCHS["DeepR18V3PlusD"](wt_layer=(0, 0, 0, 4, 0, 0, 0)), 64, 64)
    assert "layer1.1.instance_norm_layer: GroupNorm(1, 64" in text


def test_command_line():
    command = [sys.executable, "-m", "network", "--arch", "DeepWV3Plus"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 2 and "--arch DeepWV3Plus" in done.stderr and "Traceback" not in done.stderr


def test_a_pattern_that_matched_two_files_is_explained(monkeypatch, capsys):
    for words, expected in (
        (["--snapshot", "a.pth", "b.pth"], "error: no flag takes b.pth, "),
        (["--foo"], "error: unrecognized arguments: --foo; --help lists the flags"),
    ):
        monkeypatch.setattr(sys, "argv", ["network", *words])
        with pytest.raises(SystemExit, match="2"):
            main()
        assert capsys.readouterr().err.startswith(expected)
