"""A user's mistake is one sentence and exit code 2; a mistake in the code keeps its traceback."""

import builtins
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from tests.helpers import free_port, run_processes
from utils import distributed, logging
from utils.errors import MissingFile, UserError
from utils.exit import exit_cleanly, mendable
from utils.parser import Parser
from utils.signals import CONTINUE

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


def print_and_notice_a_stop():
    """As a process does whose neighbour a signal stopped."""
    with exit_cleanly():
        distributed.init()
        dist.distributed_c10d._get_default_store().set("why stopped", "stopped by SIGTERM")
        print("a result")
        raise RuntimeError("Connection closed by peer")


def test_what_was_printed_is_written_when_another_process_was_stopped():
    program = "from tests.utils.test_exit import print_and_notice_a_stop as f; f()"
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env = {"OMP_NUM_THREADS": "1"} | place
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (CONTINUE, "a result\n"), done.stderr
    assert done.stderr.endswith("stopped by SIGTERM\n")


@pytest.mark.parametrize(
    ("error", "code", "beginning"),
    [
        ("UserError('what is wrong')", 2, "error: what is wrong"),
        ("UserError('what is wrong in M\\udcfcnchen.png')", 2, r"error: what is wrong in M\udcfcnchen.png"),
        ("ValueError('what is wrong')", 1, "Traceback (most recent call last)"),
        ("SystemExit(3)", 3, "error: sys.exit(3) in "),
        ("SystemExit('what is wrong')", 1, "error: sys.exit('what is wrong') in "),
        ("KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_the_log_file_says_why_another_process_failed(error, code, beginning, tmp_path):
    """Also if the launcher, which sees that process end, asks the one with the file to end meanwhile."""
    program = tmp_path / "program.py"
    program.write_text(
        "import signal\n"
        "from pathlib import Path\n"
        "from utils import distributed, exit, logging\n"
        "from utils.errors import UserError\n"
        "mendable = exit.mendable\n"
        "def at_a_signal(error):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    return mendable(error)\n"
        "exit.mendable = at_a_signal\n"
        "with exit.exit_cleanly(launched=True):\n"
        "    distributed.init()\n"
        f"    logging.setup(Path({str(tmp_path)!r}, 'log.txt') if distributed.is_main() else None)\n"
        "    if not distributed.is_main():\n"
        f"        raise {error}\n"
        "    distributed.all_gather_objects(0)\n"
    )
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", **place}
    processes = [
        subprocess.Popen([sys.executable, program], cwd=ROOT, env={**env, "RANK": rank}) for rank in "01"
    ]
    assert [process.wait(120) for process in processes] == [2, code]
    log = (tmp_path / "log.txt").read_text()
    assert f" process 1: {beginning}" in log and ("what" in error) == ("what is wrong" in log)


@pytest.mark.parametrize(
    ("leave", "workers", "code"), [(sys.exit, 0, 3), (builtins.exit, 0, 3), (sys.exit, 1, 2)]
)
def test_sys_exit_of_a_user_is_said(leave, workers, code, tmp_path, capsys, monkeypatch):
    """In the log file, too. A loader process says only that it has ended so."""
    monkeypatch.setattr(sys, "stdin", None)  # which exit closes
    logging.setup(tmp_path / "log.txt")
    with pytest.raises(SystemExit) as end, exit_cleanly(launched=True):
        next(iter(DataLoader(Zeros(lambda: leave(3)), num_workers=workers)))
    logging.setup()
    text = capsys.readouterr().err
    said = "a loader process ended by itself" if workers else f"sys.exit(3) in {__file__}, line "
    assert end.value.code == code and text.startswith(f"error: {said}") and text.count("\n") == 1
    assert text in (tmp_path / "log.txt").read_text()


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit), exit_cleanly(launched=True):
        Parser().parse_args(["--help"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("pass", 0),
        ("raise UserError('what is wrong')", 2),
        ("raise ValueError('what is wrong')", 1),
        ("raise Stopped('stopped')", CONTINUE),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_threads_of_a_group_do_not_outlive_python(end, code, tmp_path):
    """A thread of gloo that asks for Python's lock while Python ends would abort the process.

    Here its last work takes 2 s. DistributedDataParallel holds the group, as in training.
    """
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "import torch\n"
        "import torch.distributed as dist\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "from utils import distributed\n"
        "from utils.errors import UserError\n"
        "from utils.exit import exit_cleanly\n"
        "from utils.signals import Stopped\n"
        "def main():\n"
        "    distributed.init()\n"
        "    model = DistributedDataParallel(torch.nn.Linear(1, 1))\n"
        "    model.cycle = [model]\n"
        "    work = dist.all_reduce(torch.zeros(1), async_op=True)\n"
        "    work.get_future().then(lambda _: time.sleep(2))\n"
        f"    {end}\n"
        "with exit_cleanly(launched=True):\n"
        "    main()\n"
        "names = map(Path.read_text, Path('/proc/self/task').glob('*/comm'))\n"
        "print([name for name in names if 'gloo' in name])\n"
    )
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RANK": "0", "WORLD_SIZE": "1", **place}
    done = subprocess.run([sys.executable, program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "terminate called" not in done.stderr
    assert done.stdout == ("" if code else "[]\n")


# What the system refuses, provoked as it really happens.

NO_MEMORY, NO_SHM = "error: the memory does not suffice; ", "error: no room in /dev/shm for the batches"


class Zeros(Dataset):
    """Images of 7 MiB. `spoil` is called before each, where it is read."""

    def __init__(self, spoil=lambda: None):
        self.spoil = spoil

    def __len__(self):
        return 1

    def __getitem__(self, index):
        self.spoil()
        return torch.zeros(3, 800, 800)


def lack_memory():
    """Ask for 1 GiB where this process may have 64 MiB more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**26
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    torch.empty(2**28)


def limit_files():
    """Let this process write no file, also in /dev/shm, of more than 64 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))


def open_many_files():
    """Open one more file than this process may."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    files = [open("/dev/null") for _ in range(64)]
    assert not files


@pytest.mark.parametrize("name", [None, "x.png"])
def test_no_more_files_or_processes(name):
    for number, sentence in ((errno.EMFILE, "open no more files"), (errno.EAGAIN, "no more processes")):
        text = mendable(OSError(number, os.strerror(number), name))
        assert text and sentence in text and "ulimit" in text
    assert mendable(PermissionError(errno.EACCES, "Permission denied", "x.png")).endswith("'x.png'")


@pytest.mark.parametrize("allocate", [torch.empty, np.empty, bytearray, lambda n: [0] * n])
def test_more_memory_than_there_is(allocate, capsys):
    """2^50 bytes. torch, NumPy and Python say it in their own words, or in none."""
    with pytest.raises(SystemExit) as end, exit_cleanly():
        allocate(2**50)
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith(NO_MEMORY) and text.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lack_memory, NO_MEMORY),
        (limit_files, NO_SHM),
        (open_many_files, "error: the system lets a process open no more files; "),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "error: a loader process was killed"),
    ],
    ids=["memory", "shm", "files", "killed"],
)
def test_a_loader_that_the_system_refuses_something(spoil, sentence, capsys):
    with pytest.raises(SystemExit) as end, exit_cleanly():
        next(iter(DataLoader(Zeros(spoil), num_workers=1)))
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith(sentence) and text.count("\n") == 1


def test_a_small_dev_shm():
    """As in a container: 1 MiB, mounted in a namespace of its own."""
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    try:
        possible = subprocess.run([*own, mount], capture_output=True).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this system gives no namespaces to its users")
    program = (
        "from tests.utils.test_exit import DataLoader, Zeros, exit_cleanly\n"
        "with exit_cleanly():\n"
        "    next(iter(DataLoader(Zeros(), num_workers=1)))"
    )
    command = [*own, f'{mount} && exec "$0" -c "$1"', sys.executable, program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1].lstrip("\0")  # torch 2.6 lets the loader process say something, too
    assert done.returncode == 2 and said.startswith("error: ") and "/dev/shm" in said and "--shm-size" in said


def test_a_port_in_use(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SystemExit) as end, exit_cleanly():
            dist.TCPStore("127.0.0.1", port, 1, True)
    text = capsys.readouterr().err
    assert end.value.code == 2 and str(port) in text
    assert text.startswith("error: another program has the port of the process group")


def lose_the_other_process(rank, world_size):
    """Wait for a process that does not answer, then for one that has ended; return both sentences."""
    patient = dist.new_group()
    hasty = dist.new_group(timeout=timedelta(seconds=1))
    if rank:
        time.sleep(3)
        dist.destroy_process_group()
        return []
    found = []
    for group in (hasty, patient):
        try:
            dist.all_reduce(torch.zeros(1), group=group)
        except RuntimeError as error:
            found.append(mendable(error))
    return found


def test_a_lost_connection_without_a_launcher_keeps_its_traceback(monkeypatch):
    """There is no other process that could have ended."""
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert mendable(ConnectionResetError("Connection reset by peer")) is None


def test_a_process_that_hangs_and_one_that_ended():
    hangs, ended = run_processes(lose_the_other_process, 2)[0]
    assert hangs.startswith("another process did not answer") and ended.startswith("another process ended")


def test_a_stray_rank(monkeypatch, capsys):
    """A pod or a cluster may export RANK. Programs that are never launched as several processes speak."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), exit_cleanly():
        raise UserError("a mistake")
    assert capsys.readouterr().err == "error: a mistake\n"
    with pytest.raises(SystemExit), exit_cleanly(launched=True):
        distributed.init()
    assert (
        "has RANK, but not WORLD_SIZE and MASTER_ADDR and MASTER_PORT: unset RANK" in capsys.readouterr().err
    )
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(SystemExit), exit_cleanly(launched=True):
        raise UserError("a mistake")
    assert capsys.readouterr().err == ""  # the first process says it
