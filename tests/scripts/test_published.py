"""Each published experiment's script says the same as the published one (golden/scripts.json)."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

import config

ROOT = Path(__file__).parents[2]
SCRIPTS = json.loads((ROOT / "tests/golden/scripts.json").read_text())
BATCH = ("bs_mult", "global_batch_size")


def command(name, *argv):
    """Return the words of the command that a script would start."""
    environment = os.environ | {"PRINT_COMMAND": "1"}
    script = ["bash", f"scripts/{name}", *argv]
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return shlex.split(done.stdout)


def parsed(parse, argv):
    args = vars(parse(argv))
    args["arch"] = args["arch"].removeprefix("network.deepv3.")
    del args["given"]
    return args


@pytest.mark.parametrize("name", [name for name in SCRIPTS if SCRIPTS[name]["program"] == "train.py"])
def test_training(name):
    published = parsed(config.parse_train_args, shlex.split(SCRIPTS[name]["flags"]))
    program, *argv = command(name)
    ours = parsed(config.parse_train_args, argv)
    assert program == "train.py"
    processes = int(SCRIPTS[name]["launch"].split("=")[1])
    assert ours["global_batch_size"] == processes * published["bs_mult"]
    assert {k: v for k, v in ours.items() if k not in BATCH} == {
        k: v for k, v in published.items() if k not in BATCH
    }


@pytest.mark.parametrize("name", [name for name in SCRIPTS if SCRIPTS[name]["program"] != "train.py"])
def test_scoring(name):
    flags = SCRIPTS[name]["flags"].replace("${1}", "run/x.pth").replace("${2}", "out")
    published = parsed(config.parse_eval_args, shlex.split(flags))
    program, *argv = (
        command(name, "run/x.pth", "out") if "${2}" in SCRIPTS[name]["flags"] else command(name, "run/x.pth")
    )
    ours = parsed(config.parse_eval_args, argv)
    assert program == "eval.py"
    if SCRIPTS[name]["program"] == "valid.py":
        published["inference_mode"] = "whole"
        published["date"] = ours["date"]  # where the published program logged
    assert ours == published


def test_more_flags_are_appended():
    assert command("train_r50os16_gtav_isw.sh", "--test_mode")[-1] == "--test_mode"


def test_a_missing_checkpoint_is_asked_for():
    done = subprocess.run(
        ["bash", "scripts/valid_r50os16_gtav_isw.sh"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "usage: bash scripts/valid_r50os16_gtav_isw.sh CHECKPOINT" in done.stderr
