"""Every published experiment runs from its script: a short training or scoring on small pictures."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from datasets.toy_city import write_toy_city
from network import ARCHS
from tests.helpers import ROOT, run_command, script_command
from utils import checkpoint

pytestmark = pytest.mark.slow

SCRIPTS = json.loads((ROOT / "tests/golden/scripts.json").read_text())

CODES = {"base": 0, "ibn": 4, "isw": 2}


@pytest.fixture(scope="module")
def tiny_town(tmp_path_factory):
    """The five domains, 64x128 px, 2 training images, of which one batch is made, and 1 validation image."""
    root = tmp_path_factory.mktemp("town")
    write_toy_city(root, size=(64, 128), train=2, val=1, seed=0)
    return root


def run(name, *argv):
    """Run a script in one process and return its log; the interpreter is the one of the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = run_command(["bash", f"scripts/{name}", *map(str, argv)], NPROC="1", PATH=path)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", [name for name in SCRIPTS if SCRIPTS[name]["program"] == "train.py"])
def test_training(name, tiny_town, tmp_path):
    log = run(
        *[name, "--test_mode", "--data_root", tiny_town, "--pretrained", "none", "--num_workers", "0"],
        *["--crop_size", "64", "--global_batch_size", "2", "--ckpt", tmp_path, "--tb_path", tmp_path],
    )
    assert "[epoch 1], [iter 1 / 1 : 2], [loss " in log
    (path,) = tmp_path.glob("**/last_bdd100k_epoch_1_*.pth")
    state, command = checkpoint.load(path), script_command(name)
    assert shlex.split(state["command"])[1 : len(command)] == command[1:]
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    masks = [value for key, value in state["whitening"].items() if key.endswith("num_selected")]
    assert len(masks) == sum(code in (1, 2) for code in state["settings"]["wt_layer"])


@pytest.mark.parametrize("name", [name for name in SCRIPTS if SCRIPTS[name]["program"] != "train.py"])
def test_scoring(name, tiny_town, tmp_path):
    arch = "DeepMobileNetV3PlusD" if "mobile" in name else "DeepR50V3PlusD"
    code = next(code for kind, code in CODES.items() if kind in name)
    snapshot = tmp_path / "snapshot.pth"
    checkpoint.save(
        snapshot, {"state_dict": ARCHS[arch](wt_layer=(0, 0, code, code, code, 0, 0)).state_dict()}
    )
    folder = [tmp_path] if name.startswith("infer") else []
    run(name, snapshot, *folder, "--test_mode", "--data_root", tiny_town, "--num_workers", "0")
    assert list(tmp_path.glob("**/results.json"))
