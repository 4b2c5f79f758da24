"""The demonstration's table, and a run of it."""

import sys

import pytest

from scripts.demo_adaptation import table
from tests.helpers import run_command


def test_mean_and_deviation():
    """0.1 and 0.3: mean 0.2, standard deviation (n - 1) 0.1 * sqrt(2)."""
    rows = table([{"ABN": 0.1}, {"ABN": 0.3}], [4, 5])
    assert rows[0] == ["mIoU (%)", "seed 4", "seed 5", "mean", "std"]
    assert rows[1] == ["ABN", "10.00", "30.00", "20.00", "14.14"]
    assert table([{"ABN": 0.1}], [0])[1] == ["ABN", "10.00", "10.00", "-"]


@pytest.mark.slow
def test_a_run(toy_town, tmp_path):
    command = [sys.executable, "-m", "scripts.demo_adaptation", "--data_root", str(toy_town)]
    command += ["--out", str(tmp_path), "--seeds", "0", "--", "--max_iter", "1", "--sac_crop", "32", "64"]
    done = run_command(command)
    assert done.returncode == 0, done.stderr
    assert "gtav to cityscapes, scored on cityscapes val" in done.stdout
    assert all(f"| {name} " in done.stdout for name in ("source only", "ABN", "SAC", "SAC, teacher"))
    again = run_command(command)
    assert "$ python" not in again.stdout and done.stdout.endswith(again.stdout)
