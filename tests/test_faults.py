"""Real processes that are stopped or killed: the continued run ends bit for bit like one without a stop."""

import random
import signal
import sys

import pytest
import torch

from tests.helpers import ISW, ROOT, event_list, flags, run, run_command, the_checkpoint, torchrun
from utils import checkpoint
from utils.signals import CONTINUE

# A run that sends itself a signal at its N-th event: before and after each step, each batch of statistics and
# validation, and each file. With several processes, only the one of rank RANK does.
DRIVER = """
import os, sys
sys.path.insert(0, {root!r})
import config, train
from network.instance_whitening import Whitening
from utils import torch_files
from utils.evaluation import validation
from utils.exit import exit_cleanly
from utils.logging import warn_in_log
from utils.training import Trainer

number, last, rank = map(int, sys.argv[1:4])
del sys.argv[1:4]
count = 0

def event():
    global count
    count += 1
    if count == last and int(os.environ.get("RANK", 0)) == rank:
        os.kill(os.getpid(), number)

def watch(owner, name):
    function = getattr(owner, name)
    def watched(*args, **kwargs):
        event()
        result = function(*args, **kwargs)
        event()
        return result
    setattr(owner, name, watched)

watch(Trainer, "step")
watch(Whitening, "observe")
watch(validation, "predict")
watch(torch_files, "write")
with exit_cleanly():
    warn_in_log()
    train.main(config.parse_train_args())
"""
EVENTS = 108  # of a whole run of one process
PARTS = (
    "state_dict optimizer scheduler whitening sampler rng means best epoch iteration pending mean_iu".split()
)


def argv(town, folder):
    """Three epochs of four iterations, masks after the first, a checkpoint after every second."""
    small = ["--crop_size", "32", "--max_iter", "12", "--cov_stat_epoch", "0", *ISW]
    return flags(town, folder, *small, "--save_every_iters", "2", "--resume", "auto")


@pytest.fixture(scope="module")
def whole(toy_town, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(argv(toy_town, folder))
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    path = tmp_path_factory.mktemp("driver") / "driver.py"
    path.write_text(DRIVER.format(root=str(ROOT)))
    return path


def assert_equal(folder, whole):
    """The last checkpoint, its name and all events are the same."""
    file, expected = the_checkpoint(folder), the_checkpoint(whole)
    assert file.name == expected.name
    state, other = checkpoint.load(file), checkpoint.load(expected)
    for part in PARTS:
        torch.testing.assert_close(state[part], other[part], rtol=0, atol=0)
    assert event_list(folder) == event_list(whole)


def test_a_stop_and_a_kill_lose_nothing(whole, driver, toy_town, tmp_path):
    """SIGTERM after the second step, then SIGKILL in a later epoch, then the rest."""
    words = argv(toy_town, tmp_path)
    stopped = run_command([sys.executable, driver, str(int(signal.SIGTERM)), "4", "0", *words])
    assert stopped.returncode == CONTINUE
    last = stopped.stderr.splitlines()[-1]
    assert "stopped by SIGTERM; continue with: python" in last and f"--resume {tmp_path}" in last
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == 2
    killed = run_command([sys.executable, driver, str(int(signal.SIGKILL)), "50", "0", *words])
    assert killed.returncode == -signal.SIGKILL
    run(words)
    assert_equal(tmp_path, whole)
    log = next(tmp_path.glob("ckpt/**/log.txt")).read_text()
    assert "stopped by SIGTERM" in log and "last_gtav_epoch_0_mean-iu_nan.pth from iteration 2" in log


def test_a_finished_run_says_so(whole, toy_town, capsys):
    before = event_list(whole)
    run(argv(toy_town, whole))
    assert "finished run, iteration 12: nothing is left to do" in capsys.readouterr().out
    assert event_list(whole) == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(whole, toy_town, tmp_path, capsys):
    words = argv(toy_town, tmp_path)
    run([*words, "--stop_after", "7"])
    file = the_checkpoint(tmp_path)
    assert checkpoint.load(file)["iteration"] == 7
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # the state before has the same content under another name
    file.write_bytes(content)
    run(words)
    printed = capsys.readouterr().out
    assert f"{file}" in printed and "previous_gtav" in printed and "from iteration 6" in printed
    assert_equal(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_kills(seed, whole, driver, toy_town, tmp_path):
    """Stops and kills at random events until the run is finished; at most 2 iterations are done again."""
    rng, words = random.Random(seed), argv(toy_town, tmp_path)
    for _ in range(3):
        number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL, signal.SIGKILL])
        run_command([sys.executable, driver, str(int(number)), str(rng.randint(1, EVENTS // 2)), "0", *words])
    run(words)
    assert_equal(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_kills_of_one_of_two_processes(seed, driver, toy_town, tmp_path):
    """torchrun starts the processes again, and they continue by themselves; then the rest."""
    rng, words = random.Random(seed), argv(toy_town, tmp_path / "b")
    whole = run_command(torchrun(2, "train.py", *argv(toy_town, tmp_path / "a"), "--bs_mult", "1"))
    assert whole.returncode == 0, whole.stderr
    number = rng.choice([signal.SIGTERM, signal.SIGKILL])
    program = [driver, int(number), rng.randint(1, EVENTS // 2), rng.randint(0, 1)]
    run_command(torchrun(2, *program, *words, "--bs_mult", "1"))
    done = run_command(torchrun(2, "train.py", *words, "--bs_mult", "1"))
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "b", tmp_path / "a")
