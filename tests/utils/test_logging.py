"""Log lines on the console and in the file."""

import errno
import os
import shutil
from pathlib import Path

from utils.logging import logger, setup


def test_a_name_that_is_not_utf8_is_logged(tmp_path, capsys):
    setup(tmp_path / "log.txt")
    logger.info("left out: %s", os.fsdecode(b"M\xfcnchen.png"))
    setup()
    assert capsys.readouterr().err == ""
    assert (tmp_path / "log.txt").read_text().splitlines()[-1].endswith(r"left out: M\udcfcnchen.png")


def test_a_log_that_is_removed_begins_anew(tmp_path, capsys):
    """Once its folder is there again."""
    file = tmp_path / "run" / "log.txt"
    file.parent.mkdir()
    setup(file)
    shutil.rmtree(file.parent)
    logger.info("line 0")
    file.parent.mkdir()
    logger.info("line 1")
    logger.info("line 2")
    setup()
    assert capsys.readouterr().out.count(f"{file} was removed; it begins anew\n") == 1
    found = [line.split(" ", 2)[2] for line in file.read_text().splitlines()]
    assert found == [f"{file} was removed; it begins anew", "line 1", "line 2"]


def test_a_disk_that_does_not_answer_ends_no_run(tmp_path, capsys, monkeypatch):
    """As one of the network: not even whether the file is there can be asked."""
    file, stat = tmp_path / "log.txt", os.stat

    def stale(path, **options):
        if os.fspath(path) == str(file):
            raise OSError(errno.ESTALE, "Stale file handle")
        return stat(path, **options)

    setup(file)
    monkeypatch.setattr(os, "stat", stale)
    logger.info("line 0")
    setup()
    assert "line 0" in capsys.readouterr().out


def test_a_full_disk_is_said_once(capsys):
    setup(Path("/dev/full"))
    for number in range(3):
        logger.info("line %d", number)
    setup()
    printed = capsys.readouterr()
    assert printed.out.count("cannot be written: [Errno 28]") == 1 and "line 2" in printed.out
    assert printed.err == ""
