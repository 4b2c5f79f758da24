"""Scripts run in any folder: relative paths are the caller's, printed commands can be pasted."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def shell(text, folder, **environment):
    environment = os.environ | {"PATH": PATH} | environment
    return subprocess.run(["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True)


def printed(script, folder, *argv, **environment):
    text = shlex.join(["bash", str(ROOT / "scripts" / script), *argv])
    done = shell(text, folder, PRINT_COMMAND="1", **environment)
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
    return done.stdout


ODD = ["a b", "it's", '"', "$HOME", "*", "back\\slash", "ü", "new\nline"]


def test_a_printed_command_can_be_pasted(tmp_path):
    """A shell reads the words that were given, and the program starts."""
    line = printed("train_r50os16_gtav_isw.sh", tmp_path, "--data_root", *ODD, NPROC="3")
    words = shlex.split(
        shell(f"printf '%q ' {line}", tmp_path).stdout.replace("$'new\\nline'", "'new\nline'")
    )
    assert words[-len(ODD) :] == ODD
    assert words[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    assert Path(words[5]) == ROOT / "train.py"


@pytest.mark.slow
def test_a_pasted_command_runs(tmp_path):
    """In another folder; the given checkpoint is looked for there."""
    line = printed("valid_r50os16_gtav_isw.sh", tmp_path, "some run/x.pth", NPROC="1")
    done = shell(line, tmp_path)
    assert (
        done.returncode
        and "some run/x.pth" in done.stderr
        and "Traceback" not in done.stderr.split("torch/")[0]
    )


def test_the_printed_number_of_processes(tmp_path):
    for given, count in (
        ({"NPROC": "2"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "0,3"}, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 1),
    ):
        assert f"--nproc_per_node={count} " in printed("train_r50os16_gtav_isw.sh", tmp_path, **given)


def test_in_the_repository_the_program_has_no_folder():
    assert " train.py " in printed("train_sac_gta_r101_abn.sh", ROOT)


def fake_python(folder):
    """Return a PATH whose python writes its arguments, one a line, and its folder to python.txt there."""
    folder.mkdir()
    python = folder / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" > "$(dirname "$0")/python.txt"\n')
    python.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_relative_paths_are_those_of_the_caller(tmp_path):
    if (ROOT / ".venv/bin/python").exists():
        pytest.skip("the scripts use .venv")
    path, folder = fake_python(tmp_path / "bin"), tmp_path / "own work"
    folder.mkdir()
    command = shlex.join(["bash", str(ROOT / "scripts/infer_r50os16_cty_isw.sh"), "runs/a.pth", "out"])
    assert shell(command, folder, PATH=path, NPROC="1").returncode == 0
    where, *words = (tmp_path / "bin/python.txt").read_text().splitlines()
    assert where == str(folder) and f"{ROOT}/eval.py" in words
    assert (
        words[words.index("--snapshot") + 1] == "runs/a.pth"
        and words[words.index("--ckpt_path") + 1] == "out"
    )


@pytest.fixture
def environment(tmp_path):
    """Return a function that runs make_environment in tmp_path and returns what it printed."""
    (tmp_path / "needs.txt").write_text("")

    def make():
        text = f"set -euo pipefail; source {shlex.quote(str(ROOT / 'scripts/environment.sh'))}"
        done = shell(
            f"{text}; make_environment venv needs.txt; which python", tmp_path, PYTHON=sys.executable
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(tmp_path / "venv/bin/python")
        return done.stdout

    return make


def without_pip(folder):
    (pip,) = folder.glob("lib/python*/site-packages/pip")
    pip.rename(folder / "gone")


def dangling_python(folder):
    for path in folder.glob("bin/python*"):
        path.unlink()
        path.symlink_to("/nowhere/python")


def empty_folder(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [without_pip, dangling_python, empty_folder])
def test_a_half_made_environment_is_made_again(spoil, environment, tmp_path):
    assert "making the virtual environment" in environment()
    assert "making the virtual environment" not in environment()
    spoil(tmp_path / "venv")
    (tmp_path / "venv/lower-bounds.txt").touch()  # scripts/test.sh keeps a file there
    assert "making the virtual environment" in environment()
    assert (tmp_path / "venv/lower-bounds.txt").exists() and "making" not in environment()
