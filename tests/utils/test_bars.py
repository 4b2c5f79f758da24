"""Bars and log lines on a terminal never share a line; elsewhere there are no bars."""

import re
import sys

import pytest

import config
import eval as evaluation
from tests.helpers import ISW, flags, run, terminal, the_checkpoint
from utils import bars, distributed
from utils.errors import UserError
from utils.exit import exit_cleanly
from utils.logging import logger, own_logger, setup, warn_in_log

STAMP = r"\d\d-\d\d \d\d:\d\d:\d\d "
BAR = r"([^\r\n]*?): +\d+%\|[^|\r]*\| (\d+)/(\d+) \[\d\d:\d\d<[\d:?]+"  # title, done, total; ETA


@pytest.fixture(autouse=True)
def own_console():
    """Take away the handlers that write to a terminal which is closed."""
    yield
    setup()


def test_lines_beside_a_bar(monkeypatch):
    """Four steps, a line after each; the second holds work of three parts. The bar says what it does."""
    with terminal(monkeypatch) as screen:
        setup()
        bar = bars.Bar("training", 4, unit="it")
        for step in range(1, 5):
            if step == 2:
                list(bar.within("abc", "validation: batch"))
            bar.at(step)
            logger.info("step %d", step)
        with bars.aside():
            print("a table")
        bar.close()
        print("the end")
    assert [re.sub(STAMP, "", row) for row in screen.rows] == [
        *["step 1", "step 2", "step 3", "step 4", "a table", "the end", ""]
    ]
    shown = re.findall(BAR, screen.written)
    assert ("training", "4", "4") in shown and ("validation: batch 2/3", "1", "4") in shown


def test_time_left_is_that_of_the_steps_that_took_time(monkeypatch):
    """After 2 of 10 steps in 8 s, and 4 that took none, 4 are left: 16 s."""
    with terminal(monkeypatch) as screen:
        bar = bars.Bar("evaluation", 10)
        bar.skip(4)
        bar.start_t -= 8
        bar.at(6)
        bar.refresh()
        bar.close()
    assert "6/10 [00:08<00:16" in screen.written


def test_an_error_has_its_own_line(monkeypatch):
    with terminal(monkeypatch) as screen, pytest.raises(SystemExit), exit_cleanly():
        for _ in bars.over([1, 2], "reading"):
            raise UserError("no room")
    assert screen.rows == ["error: no room", ""] and "reading:   0%|" in screen.written


def test_files_hold_no_bar(tmp_path, monkeypatch):
    with open(tmp_path / "out", "w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        assert list(bars.over("ab", "reading")) == ["a", "b"]
    assert not (tmp_path / "out").read_text()


def test_only_the_main_process_shows_a_bar_and_says_what_all_know(monkeypatch):
    with terminal(monkeypatch) as screen:
        monkeypatch.setattr(distributed, "rank", lambda: 1)
        setup()
        list(bars.over("ab", "reading"))
        logger.warning("known to all")
        own_logger.warning("left out: 1.png")
    assert [re.sub(STAMP, "", row) for row in screen.rows] == ["left out: 1.png", ""]


@pytest.fixture(scope="module")
def run_on_a_terminal(toy_town, tmp_path_factory):
    """A training of two epochs with statistics and validation, then an evaluation of two datasets."""
    folder = tmp_path_factory.mktemp("run")
    argv = flags(toy_town, folder, "--max_epoch", "2", "--cov_stat_epoch", "0", *ISW)
    with pytest.MonkeyPatch.context() as patch:
        with terminal(patch) as training:
            warn_in_log()
            run(argv)
        with terminal(patch) as scoring:
            words = ["--snapshot", str(the_checkpoint(folder)), "--dataset", "gtav", "cityscapes"]
            words += ["--data_root", str(toy_town), "--inference_mode", "whole", "--num_workers", "0"]
            with exit_cleanly():
                evaluation.main(config.parse_eval_args(words))
    return training, scoring


def test_a_training_has_one_bar(run_on_a_terminal):
    """2 epochs of 4 steps: every bar that is drawn is of 8, whatever --max_iter (20) says; so is the ETA."""
    screen = run_on_a_terminal[0]
    rows = [row for row in screen.rows if row]
    assert all(re.match(STAMP, row) and "%|" not in row for row in rows), rows
    shown = re.findall(BAR, screen.written)
    assert {total for *_, total in shown} == {"8"}
    titles = {re.sub(r" \d+/\d+$", "", title).split("\x1b")[-1] for title, *_ in shown}
    assert {"epoch 0", "epoch 1", "validation on cityscapes: batch"} <= titles
    assert {"statistics of gtav, trial 1 of 2: batch", "statistics of gtav, trial 2 of 2: batch"} <= titles
    (last,) = [row for row in rows if "[total 8 / 8]" in row]
    assert "[ETA 0:00:00]" in last


def test_an_evaluation_has_one_bar(run_on_a_terminal):
    """2 images of each of 2 datasets."""
    screen = run_on_a_terminal[1]
    assert not any("%|" in row for row in screen.rows)
    assert sum(row == "gtav" or row == "cityscapes" for row in screen.rows) == 2  # titles of tables
    shown = re.findall(BAR, screen.written)
    assert {total for *_, total in shown} == {"4"} and {title for title, *_ in shown} >= {
        "gtav",
        "cityscapes",
    }


def test_work_between_steps_does_not_count_as_their_time(monkeypatch):
    """Two steps of 1 s with statistics of 100 s between them: 1 s a step, so 8 s for the other eight."""
    now = [1000.0]
    monkeypatch.setattr(bars.time, "time", lambda: now[0])
    with terminal(monkeypatch), bars.Bar("training", 10) as bar:
        monkeypatch.setattr(bar, "_time", lambda: now[0])
        bar.start_t = bar.last_print_t = now[0]
        for _ in range(2):
            now[0] += 1
            bar.update()
            for _ in bar.within(range(4), "statistics"):
                now[0] += 12.5
        bar.refresh()
        assert bar.format_dict["elapsed"] == 2
