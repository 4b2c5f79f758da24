"""Log lines on the console and in the file."""

import os
from pathlib import Path

from utils.logging import logger, setup


def test_a_name_that_is_not_utf8_is_logged(tmp_path, capsys):
    setup(tmp_path / "log.txt")
    logger.info("left out: %s", os.fsdecode(b"M\xfcnchen.png"))
    setup()
    assert capsys.readouterr().err == ""
    assert (tmp_path / "log.txt").read_text().splitlines()[-1].endswith(r"left out: M\udcfcnchen.png")


def test_a_full_disk_is_said_once(capsys):
    setup(Path("/dev/full"))
    for number in range(3):
        logger.info("line %d", number)
    setup()
    printed = capsys.readouterr()
    assert printed.out.count("cannot be written: [Errno 28]") == 1 and "line 2" in printed.out
    assert printed.err == ""
