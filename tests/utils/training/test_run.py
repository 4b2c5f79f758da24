"""The folders of runs, and what run.json and log.txt say."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers import ROOT, event_list
from utils.errors import UserError
from utils.signals import StopSignal
from utils.training import resume, run


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        places = tmp_path / "ckpt", tmp_path / "tb", ""
        stamps = list(pool.map(lambda _: run.make_folders(*places), range(16)))
    assert len(set(stamps)) == 16
    assert {path.name for path in (tmp_path / "tb").iterdir()} == set(stamps)


def test_one_folder_may_hold_checkpoints_and_events(tmp_path):
    first, second = (run.make_folders(tmp_path, tmp_path, "") for _ in range(2))
    assert second == f"{first}_2"


@pytest.mark.timeout(20)  # it went on for ever
def test_both_folders_may_be_one_through_a_link(tmp_path):
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "tb").symlink_to("ckpt")
    first, second = (run.make_folders(tmp_path / "ckpt", tmp_path / "tb", "") for _ in range(2))
    assert second == f"{first}_2"


def test_run_json_has_all_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.1"])
    with run.Run(str(tmp_path / "ckpt"), str(tmp_path / "tb"), "d", "e") as first:
        first.record({"flags": {"lr": 0.1}})
    with run.Run(
        str(tmp_path / "ckpt"), str(tmp_path / "tb"), "d", "e", continued=first.checkpoints
    ) as again:
        again.record({"flags": {"lr": 0.1}})
    record = json.loads((first.checkpoints / "run.json").read_text())
    assert record["flags"] == {"lr": 0.1} and len(record["starts"]) == 2
    assert {"torch", "python", "numpy"} <= record["versions"].keys()
    assert again.checkpoints == first.checkpoints
    assert any(b'"lr": 0.1' in file.read_bytes() for file in first.tensorboard.glob("events*"))  # as text
    assert (first.checkpoints / "log.txt").read_text().count("train.py --lr 0.1") == 2


@pytest.fixture
def lock_elsewhere():
    """Return a function with which another process locks the folder of a run until it ends."""
    code = (
        "import pathlib, sys; from utils.training.run import claim; "
        "claim(pathlib.Path(sys.argv[1])); print(); input()"
    )
    started = []

    def lock(folder):
        command = [sys.executable, "-c", code, str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        assert started[-1].stdout.readline()
        return started[-1]

    yield lock
    for process in started:
        process.communicate()


def test_only_one_process_continues_a_run(tmp_path, lock_elsewhere):
    folder = tmp_path / "ckpt/d/e/11_29_10"
    folder.mkdir(parents=True)
    (folder / "last_a_epoch_0.pth").touch()
    other = lock_elsewhere(folder)
    places = str(tmp_path / "ckpt"), str(tmp_path / "tb"), "d", "e"
    for continuing in (
        lambda: run.Run(*places, continued=folder),
        lambda: resume.find("auto", folder.parent),
        lambda: resume.find(str(folder / "last_a_epoch_0.pth"), folder.parent),
    ):
        with pytest.raises(UserError, match=f"another process trains in {folder}"):
            continuing()
    other.kill()
    other.wait()
    with run.Run(*places, continued=folder):
        assert folder in run.claimed
    assert not run.claimed


def test_a_run_that_saved_nothing_is_begun_again_in_its_folder(tmp_path, monkeypatch, lock_elsewhere):
    """Only by the same command, if no process trains there, and if a run may be continued at all."""
    places = str(tmp_path / "ckpt"), str(tmp_path / "tb"), "d", "e"

    def start(*argv, again=True):
        monkeypatch.setattr(sys, "argv", ["train.py", *argv])
        with run.Run(*places, again=again) as started:
            started.record({})
            started.writer.add_scalar("loss", 1.0, 1)
            return started.checkpoints

    first = start("--lr", "1")
    assert start("--lr", "1") == first and len(event_list(tmp_path)) == 1
    second = start("--lr", "2")
    assert second != first and start("--lr", "1", again=False) not in (first, second)
    other = lock_elsewhere(second)
    third = start("--lr", "2")
    assert third not in (first, second)
    other.kill()
    other.wait()
    (second / "last_a_epoch_0.pth").touch()
    assert start("--lr", "2") == third


def test_without_locks_runs_continue_but_none_takes_a_folder_that_may_be_in_use(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run.fcntl, "lockf", refuse)
    places = str(tmp_path / "ckpt"), str(tmp_path / "tb"), "d", "e"
    with run.Run(*places) as first:
        first.record({})
    with run.Run(*places, again=True) as second:
        assert second.checkpoints != first.checkpoints
    with run.Run(*places, continued=first.checkpoints) as third:
        assert third.checkpoints == first.checkpoints


@pytest.mark.parametrize("given", [["--resume", "auto"], ["--resume=auto"], []])
def test_the_command_that_continues(given, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", *given, "--exp", "a b"])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert resume.command("x y") == "python train.py --exp 'a b' --resume 'x y'"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert resume.command("f").startswith("torchrun --nproc_per_node=2 train.py")


def test_auto_starts_a_new_run_where_there_is_none(tmp_path):
    assert resume.find("auto", tmp_path) is None and resume.find(None, tmp_path) is None


def test_signal_handlers_are_restored():
    import signal

    import torch

    before = signal.getsignal(signal.SIGTERM)
    with StopSignal(torch.device("cpu"), "command"):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_without_checkpoint_begins_anew_by_its_command(tmp_path, monkeypatch):
    """That is the command without --resume, which a user adds to continue. Closing a lock's file frees it."""
    folder = tmp_path / "a"
    folder.mkdir()
    for words, expected in (
        ([], None),
        (["--resume", "auto"], folder),
        (["--resume", "auto", "--lr", "1"], None),
    ):
        monkeypatch.setattr(sys, "argv", ["train.py", "--exp", "a", *words])
        assert run.without_checkpoint(tmp_path) == expected
        if not expected:
            (folder / ".lock").unlink(missing_ok=True)
            run.claim(folder)
        os.close(run.claimed.pop(folder))
