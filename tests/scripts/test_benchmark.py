import re
import subprocess
import sys
from pathlib import Path

import pytest


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
