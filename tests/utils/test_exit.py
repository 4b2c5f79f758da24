"""A user's mistake is one sentence and exit code 2; a mistake in the code keeps its traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from utils.errors import MissingFile, UserError
from utils.exit import exit_cleanly

ROOT = Path(__file__).parents[2]


class Broken(Dataset):
    """A dataset whose items raise `error`."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("--lr must be above 0"), "--lr must be above 0"),
        (MissingFile("no file at x.pth: it is not there"), "no file at x.pth: it is not there"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_mistake_is_one_sentence(error, sentence, workers, capsys):
    with pytest.raises(SystemExit) as end, exit_cleanly():
        next(iter(DataLoader(Broken(error), num_workers=workers)))
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_a_file_that_the_system_refuses_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as end, exit_cleanly():
        (tmp_path / "missing.txt").read_text()
    assert end.value.code == 2 and "missing.txt" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("unpack"), NameError("np"), OSError("no file name")])
@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_keep_their_traceback(error, workers):
    with pytest.raises(type(error), match=str(error)), exit_cleanly():
        next(iter(DataLoader(Broken(error), num_workers=workers)))


@pytest.mark.parametrize(("kind", "code"), [("UserError", 2), ("ValueError", 1)])
def test_one_of_several_processes_ends_at_once(kind, code, tmp_path):
    """The first process fails while the second one waits for it; the launcher then ends both."""
    program = tmp_path / "program.py"
    program.write_text(
        "from utils import distributed\n"
        "from utils.errors import UserError\n"
        "from utils.exit import exit_cleanly\n"
        "with exit_cleanly():\n"
        "    distributed.init()\n"
        "    if distributed.is_main():\n"
        f"        raise {kind}('what is wrong')\n"
        "    distributed.broadcast_object(None)\n"
    )
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(program),
    ]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert f"exitcode  : {code}" in done.stderr
    sentence, trace = "\nerror: what is wrong\n", "raise ValueError('what is wrong')"
    assert (sentence in f"\n{done.stderr}") == (code == 2) and (trace in done.stderr) == (code == 1)
