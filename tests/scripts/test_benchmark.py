import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import benchmark


@pytest.mark.slow
def test_eval_table():
    """Every form of the network and every mode has a row, and the forms in float32 agree."""
    command = [sys.executable, "-m", "scripts.benchmark", "eval", "--arch", "DeepMobileNetV3PlusD"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, "--seconds", "0"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\S.*?) +(float32|bf16) .* (\d+\.\d+)$", done.stdout, re.M)
    assert len(rows) == 2 * (5 + 3)
    assert all(float(agreement) > 99 for _, precision, agreement in rows if precision == "float32")


def test_data_table(tmp_path, monkeypatch, capsys):
    """Images of a few pixels, made on the first call: every way to a sample and the centroids have a row."""
    monkeypatch.setattr(benchmark, "SIZES", {"cityscapes": (48, 96), "gtav": (40, 72)})
    monkeypatch.setattr(benchmark, "CROP", 32)
    benchmark.measure_data(tmp_path / "streets", 2)
    rows = re.findall(r"^(cityscapes|gtav) +(.*?) +(\d+\.\d\d) +\d+\.\d$", capsys.readouterr().out, re.M)
    assert len(rows) == 2 * 5 and all(float(units) > 0 for *_, units in rows)
    assert {"class centroids of an image", "sample, --aug_device gpu, cached"} < {
        title for _, title, _ in rows
    }
