"""Real processes that are stopped or killed: the continued run ends bit for bit like one without a stop."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import ISW, ROOT, event_list, flags, free_port, run_command, the_checkpoint, torchrun
from utils import checkpoint
from utils.signals import CONTINUE

PROGRAM = ROOT / "tests/programs/faults.py"
EVERY = 2  # iterations that a kill may lose
KILLS = int(os.environ.get("KILLS", 20))  # random points of the slow test
PARTS = (
    "state_dict optimizer scheduler whitening sampler rng means best epoch iteration pending mean_iu".split()
)


def argv(town, folder, *more):
    """Three epochs of four iterations, masks after the first; a kill loses at most EVERY."""
    small = ["--max_iter", "12", "--cov_stat_epoch", "0", *ISW]
    every = ["--save_every_iters", str(EVERY), "--global_batch_size", "2"]
    return flags(town, folder, *small, *every, "--resume", "auto", *more)


class Runs:
    """Runs of train.py in processes of their own, by tests/programs/faults.py."""

    def __init__(self, town, folder):
        self.town, self.folder = town, folder
        self.program = subprocess.Popen(
            [sys.executable, PROGRAM],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.made = {}

    def __call__(self, folder, *more, processes=1, town=None, **fault):
        """Train; return what the program answers."""
        request = {
            "argv": argv(town or self.town, folder, *more),
            "log": str(folder / "log"),
            "processes": processes,
        }
        request |= fault | {"port": free_port()}
        self.ask(request)
        return self.answer()

    def ask(self, request):
        self.program.stdin.write(json.dumps(request) + "\n")
        self.program.stdin.flush()

    def answer(self):
        return json.loads(self.program.stdout.readline())

    def whole(self, processes=1):
        """Return the folder of a run without a fault, and what the program answered."""
        if processes not in self.made:
            folder = self.folder / f"whole{processes}"
            self.made[processes] = folder, self(folder, processes=processes)
            assert set(self.made[processes][1]["codes"]) == {0}, printed(folder)
        return self.made[processes]

    def close(self):
        self.program.stdin.close()
        self.program.stdout.close()
        self.program.kill()
        self.program.wait()


@pytest.fixture(scope="module")
def train(toy_town, tmp_path_factory):
    runs = Runs(toy_town, tmp_path_factory.mktemp("whole"))
    yield runs
    runs.close()


def printed(folder):
    """Return what the processes of all runs in a folder printed."""
    return "\n".join(file.read_text() for file in sorted(folder.glob("log/*.txt")))


def assert_equal(folder, whole):
    """The last checkpoint, its name and all events are the same."""
    file, expected = the_checkpoint(folder), the_checkpoint(whole)
    assert file.name == expected.name
    state, other = checkpoint.load(file), checkpoint.load(expected)
    for part in PARTS:
        torch.testing.assert_close(state[part], other[part], rtol=0, atol=0)
    assert event_list(folder) == event_list(whole)


def test_a_stop_and_a_kill_lose_nothing(train, tmp_path):
    """SIGTERM within the second step, then SIGKILL in a later epoch, then the rest."""
    stopped = train(tmp_path, number=signal.SIGTERM, rank=0, step=2)
    assert stopped["codes"] == [CONTINUE] and stopped["steps"] == [1, 2]
    (last,) = re.findall("stopped by SIGTERM; continue with: python.*", printed(tmp_path))
    assert f"--resume {tmp_path}" in last
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == 2
    killed = train(tmp_path, number=signal.SIGKILL, rank=0, step=10)
    assert killed["codes"] == [-signal.SIGKILL] and killed["steps"] == [*range(3, 10)]
    rest = train(tmp_path)
    assert rest["codes"] == [0] and rest["steps"][-1] == 12
    assert_equal(tmp_path, train.whole()[0])
    log = next(tmp_path.glob("ckpt/**/log.txt")).read_text()
    assert "stopped by SIGTERM" in log and "last_gtav_epoch_0_mean-iu_nan.pth from iteration 2" in log


def test_a_finished_run_says_so(train):
    folder, _ = train.whole()
    before = event_list(folder)
    assert train(folder) == {"codes": [0], "events": [0], "steps": []}
    assert "finished run, iteration 12: nothing is left to do" in printed(folder)
    assert event_list(folder) == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(train, tmp_path):
    train(tmp_path, "--stop_after", "7")
    file = the_checkpoint(tmp_path)
    assert checkpoint.load(file)["iteration"] == 7
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # the state before has the same content under another name
    file.write_bytes(content)
    train(tmp_path)
    text = printed(tmp_path)
    assert f"{file}" in text and "previous_gtav" in text and "from iteration 6" in text
    assert_equal(tmp_path, train.whole()[0])


def test_a_stop_in_the_last_step_of_an_epoch_does_not_wait_for_the_validation(train, tmp_path):
    assert train(tmp_path, number=signal.SIGTERM, rank=0, step=4)["codes"] == [CONTINUE]
    assert "mean-iu_nan" in the_checkpoint(tmp_path).name


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 3), (signal.SIGTERM, 4), (signal.SIGKILL, 3)])
def test_two_processes_end_together(number, step, train, tmp_path):
    """One of them gets the signal within a step. After SIGTERM both end with the same checkpoint."""
    ended = train(tmp_path, processes=2, number=number, rank=1, step=step)
    if number == signal.SIGTERM:
        assert ended["codes"] == [CONTINUE, CONTINUE] and ended["steps"][-1] < 6
        assert "mean-iu_nan" in the_checkpoint(tmp_path).name
    else:
        assert ended["codes"] == [2, -signal.SIGKILL], printed(tmp_path)
        assert "another process ended" in printed(tmp_path)
    train(tmp_path, processes=2)
    assert_equal(tmp_path, train.whole(2)[0])


def test_the_sound_checkpoint_stays_until_there_is_another(train, tmp_path):
    """A run that continues previous_..., as last_... is damaged, is killed before its first checkpoint."""
    train(tmp_path, "--stop_after", "7")
    file = the_checkpoint(tmp_path)
    file.unlink()
    file.write_bytes(b"damaged")
    os.utime(file, (4e9, 4e9))  # and the clock was set back
    assert train(tmp_path, number=signal.SIGKILL, rank=0, write=1)["codes"] == [-signal.SIGKILL]
    assert train(tmp_path)["steps"][0] == 7
    assert_equal(tmp_path, train.whole()[0])


def test_two_jobs_that_start_at_once_share_folders_and_caches(train, toy_town, tmp_path):
    """Each has a run of its own; both fill the caches of images and centroids, and end alike."""
    caches = ["--cache_images", str(tmp_path / "images"), "--cache_dir", str(tmp_path / "centroids")]
    caches += ["--class_uniform_pct", "0.5", "--class_uniform_tile", "32"]
    words = [word for word in argv(toy_town, tmp_path, *caches) if word not in ("--resume", "auto")]
    train.ask({"argv": words, "log": str(tmp_path / "log"), "processes": 2, "alone": True})
    assert train.answer()["codes"] == [0, 0], printed(tmp_path)
    states = [checkpoint.load(file) for file in tmp_path.glob("ckpt/**/last_*.pth")]
    assert len(states) == 2 and len(list(tmp_path.glob("tb/**/events*"))) == 2
    torch.testing.assert_close(*[state["state_dict"] for state in states], rtol=0, atol=0)
    assert len(list(tmp_path.glob("images/**/*.npy"))) == 16 and len(list(tmp_path.glob("centroids/*"))) == 1


def test_the_events_before_a_checkpoint_are_on_disk_with_it(train, tmp_path):
    """Killed as soon as the checkpoint with the scores of epoch 0 is written."""
    killed = train(tmp_path, number=signal.SIGKILL, rank=0, written="last_gtav_epoch_0_mean-iu_0")
    assert killed["codes"] == [-signal.SIGKILL]
    counted = checkpoint.load(the_checkpoint(tmp_path, "last_gtav_epoch_0_mean-iu_0"))["events"]
    (file,) = tmp_path.glob(f"tb/**/{counted['file']}")
    assert file.stat().st_size >= counted["bytes"]
    os.truncate(file, counted["bytes"])
    found, whole = event_list(tmp_path), event_list(train.whole()[0])
    assert found == whole[: len(found)] and whole[len(found)][:2] == ("loss/main_loss", 8)


def test_a_run_that_goes_back_does_not_return_to_what_it_left(train, tmp_path):
    """It continues iteration 2 of 6, and is killed when it has saved iteration 4, or 5 if that was fast."""
    train(tmp_path, "--stop_after", "2")
    assert train(tmp_path, "--stop_after", "2")["steps"] == []
    assert "already stopped (--stop_after) run, iteration 2: nothing is left" in printed(tmp_path)
    early = the_checkpoint(tmp_path)
    shutil.copy(early, tmp_path / "early.pth")
    train(tmp_path, "--stop_after", "6")
    shutil.move(tmp_path / "early.pth", early)
    killed = train(tmp_path, "--resume", str(early), number=signal.SIGKILL, rank=0, step=6)
    assert killed["steps"] == [3, 4, 5] and "goes back to iteration 2" in printed(tmp_path)
    assert train(tmp_path)["steps"][0] in (5, 6)
    assert_equal(tmp_path, train.whole()[0])
    assert list(tmp_path.glob("ckpt/**/aside_last_gtav_epoch_1_mean-iu_nan.pth"))


def test_two_jobs_that_continue_one_run(train, tmp_path):
    """The second one says so and ends; the first one ends as if it were alone."""
    train(tmp_path, "--stop_after", "2")
    log = str(tmp_path / "log")
    train.ask({"argv": argv(train.town, tmp_path), "log": log, "processes": 2, "alone": True, "slow": 0.1})
    assert sorted(train.answer()["codes"]) == [0, 2]
    assert printed(tmp_path).count("error: another process trains in") == 1
    assert_equal(tmp_path, train.whole()[0])


@pytest.mark.parametrize("when", [{"step": 1}, {"last": 1}])
def test_killed_before_the_first_checkpoint(when, train, tmp_path):
    """The run begins anew where it was, also if run.json was being written: no second folder or event."""
    train(tmp_path, number=signal.SIGKILL, rank=0, **when)
    assert train(tmp_path)["steps"][0] == 1
    assert len(list(tmp_path.glob("ckpt/*/*/*"))) == len(list(tmp_path.glob("tb/*/*/*"))) == 1
    assert not list(tmp_path.glob("ckpt/**/.*.partial"))
    assert_equal(tmp_path, train.whole()[0])


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_is_stopped_within_the_validation(rank, train, tmp_path):
    """What stopped it is said once. The store of the processes ends with the first one, of code 75 then."""
    ended = train(tmp_path, processes=2, number=signal.SIGTERM, rank=rank, validated=2)
    assert ended["codes"] == ([CONTINUE, CONTINUE] if rank else [CONTINUE, 2])
    assert printed(tmp_path).count("stopped by SIGTERM; continue with: ") == 1
    train(tmp_path, processes=2)
    assert_equal(tmp_path, train.whole(2)[0])


def test_other_data_are_noticed(train, toy_town, tmp_path):
    """Images that vanish while the run is stopped, more than are left of the epoch."""
    town = tmp_path / "town"
    shutil.copytree(toy_town, town)
    train(tmp_path, "--stop_after", "3", town=town)
    assert "not the data of the checkpoint" not in printed(tmp_path)
    for file in (*town.glob("gtav/*/train/**/0000[5-8].png"), *town.glob("gtav/*/valid/**/00002.png")):
        file.unlink()
    assert train(tmp_path, "--strict_data", town=town)["codes"] == [2]
    assert train(tmp_path, town=town)["codes"] == [0]
    text = printed(tmp_path)
    for words in ("gtav are others (4, not 8)", "gtav val are others (1, not 2)"):
        assert text.count(f"the images of {words}") == 2
    assert text.count("not the data of the checkpoint") == 3  # one error, two warnings


def test_a_second_signal_ends_the_process_at_once(train, tmp_path):
    """Half a second after the first one, within one step."""
    ended = train(tmp_path, number=signal.SIGTERM, rank=0, step=4, second=signal.SIGINT, slow=0.6)
    assert ended["codes"] == [128 + signal.SIGINT] and ended["steps"] == [1, 2, 3]
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == 3


def test_a_launcher_ends_no_process_that_still_writes(train, tmp_path):
    """It asks all to end once one has; of two processes the second one has nothing to write."""
    fault = {"number": signal.SIGUSR1, "rank": 0, "step": 4, "slow": 0.3}
    more = {"writing": 2, "launcher": True, "processes": 2}
    ended = train(tmp_path, "--save_every_iters", "1000", **more, **fault)
    assert ended["codes"] == [CONTINUE] * 2
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == ended["steps"][-1]
    assert printed(tmp_path).count("stopped by") == 1


def test_a_launcher_ends_no_process_that_still_writes_within_the_validation(train, tmp_path):
    """All get the signal. The second process has nothing to write, and is busy for a second when it comes."""
    fault = {"number": signal.SIGTERM, "rank": "all", "validated": 1, "late": 1}
    more = {"writing": 4, "launcher": True, "processes": 2}
    ended = train(tmp_path, "--save_every_iters", "1000", **more, **fault)
    assert ended["codes"] == [CONTINUE] * 2, printed(tmp_path)
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == 4
    assert printed(tmp_path).count("stopped by") == 1


@pytest.mark.slow
def test_a_mistake_in_a_flag_is_said_once(tmp_path):
    """Of the lines that torchrun prints, one is the sentence."""
    done = run_command(torchrun(2, "train.py", "--lr", "-1"), OMP_NUM_THREADS="1")
    assert done.returncode != 0 and done.stderr.count("error: --lr must be") == 1


@pytest.mark.slow
def test_torchrun_starts_a_killed_process_again_and_the_run_goes_on(train, toy_town, tmp_path):
    """Without --resume: the second process is killed in its seventh step; nothing else is done by hand."""
    words = [word for word in argv(toy_town, tmp_path) if word not in ("--resume", "auto")]
    fault = {"number": signal.SIGKILL, "rank": 1, "step": 7}
    request = json.dumps({"argv": words, "log": str(tmp_path / "log")} | fault)
    command = torchrun(2, PROGRAM, request)
    command.insert(command.index("--standalone"), "--max-restarts=1")
    done = run_command(command, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("ckpt/*/*/*"))) == 1
    assert "from iteration 6" in printed(tmp_path) or "from iteration 4" in printed(tmp_path)
    assert_equal(tmp_path, train.whole(2)[0])


@pytest.fixture(scope="module")
def damaged_town(toy_town, tmp_path_factory):
    """The toy town with a training image and a training label of GTAV cut off."""
    town = tmp_path_factory.mktemp("damaged") / "town"
    shutil.copytree(toy_town, town)
    images, labels = (sorted(town.glob(f"gtav/{kind}/train/**/*.png")) for kind in ("images", "labels"))
    for file in (images[2], labels[5]):
        file.write_bytes(file.read_bytes()[:-100])
    return town


def test_images_that_cannot_be_read_are_replaced(train, damaged_town, tmp_path):
    """Named, counted in each epoch, the same in a continued run; left out of centroids and statistics."""
    uniform = "--class_uniform_pct", "0.5", "--class_uniform_tile", "32"
    assert train(tmp_path / "a", *uniform, town=damaged_town)["steps"] == [*range(1, 13)]
    text = printed(tmp_path / "a")
    assert text.count("; another image takes its place") == 2
    summaries = re.findall(r"(\d+) times, data could not be used for epoch (\d): (.*)", text)
    assert [int(epoch) for _, epoch, _ in summaries] == [0, 1, 2]
    assert "class centroids of gtav leave out 1 labels" in text
    assert text.count("; the statistics do without it") == 1
    assert "2 times, data could not be used for the statistics of 2 trials" in text
    train(tmp_path / "b", *uniform, town=damaged_town, number=signal.SIGKILL, rank=0, step=7)
    train(tmp_path / "b", *uniform, town=damaged_town)
    assert_equal(tmp_path / "b", tmp_path / "a")
    assert summaries == re.findall(
        r"(\d+) times, data could not be used for epoch (\d): (.*)",
        next(tmp_path.glob("b/ckpt/**/log.txt")).read_text(),
    )


def test_strict_data_ends_the_run(train, damaged_town, tmp_path):
    assert train(tmp_path, "--strict_data", town=damaged_town)["codes"] == [2]
    assert re.search(r"error: (image|label) \S+gtav\S+png cannot be read", printed(tmp_path))


def test_a_folder_that_vanishes_ends_the_run(train, damaged_town, tmp_path):
    """Everything is gone after the third step, of two processes; both end."""
    town = tmp_path / "town"
    shutil.copytree(damaged_town, town)
    gone = str(town / "gtav/images/train")
    ended = train(tmp_path, town=town, processes=2, gone=gone, rank=0, step=3)
    assert ended["codes"] == [2, 2] and ended["steps"] == [1, 2, 3]
    text = printed(tmp_path)
    assert text.count("error: 20 training images in a row cannot be used; the last one: image") >= 1


@pytest.mark.parametrize("place", ["ckpt", "tb"])
def test_what_a_run_writes_may_be_removed(place, train, tmp_path):
    """Warnings say so; what follows is written where it was, so that the run can be continued."""
    gone = {"gone": str(tmp_path / place), "rank": 0, "step": 6, "slow": 0.3}
    ended = train(tmp_path, "--save_every_iters", "1000", "--stop_after", "9", **gone)
    assert ended["codes"] == [0] and ended["steps"][-1] == 9
    (log,) = tmp_path.glob("ckpt/**/log.txt")
    folder, text = log.parent, log.read_text()
    assert {file.name for file in folder.iterdir()} > {".lock", "run.json"}
    found = re.findall("(\\S+) was removed", text)
    events = next(tmp_path.glob("tb/**/events*"))
    assert found == {"ckpt": [str(log), str(folder / "run.json")], "tb": [str(events)]}[place]
    assert train(tmp_path)["steps"] == [10, 11, 12]
    torch.testing.assert_close(
        *(checkpoint.load(the_checkpoint(run))["state_dict"] for run in (tmp_path, train.whole()[0])),
        rtol=0,
        atol=0,
    )
    assert event_list(tmp_path)[-1] == event_list(train.whole()[0])[-1]


@pytest.fixture
def changing_town(toy_town, tmp_path):
    """The toy town; and which files get which others' content: the first one keeps its size."""
    town = tmp_path / "town"
    shutil.copytree(toy_town, town)
    parts = "images/train", "labels/train", "images/valid"
    images, labels, val = (sorted((town / "gtav" / part).rglob("*.png")) for part in parts)
    picture, other = np.asarray(Image.open(images[1])), tmp_path / "other.png"
    Image.fromarray(picture).save(images[1], compress_level=0)
    Image.fromarray(255 - picture).save(other, compress_level=0)
    os.utime(images[1], (1e9, 1e9))
    assert images[1].stat().st_size == other.stat().st_size
    return town, {str(images[1]): str(other), str(labels[5]): str(labels[2]), str(val[0]): str(val[1])}


def test_files_that_change_are_replaced_like_those_that_vanish(train, changing_town, tmp_path):
    """An image, a label and a validation image change in the last step of epoch 0: named and counted."""
    town, changed = changing_town
    shutil.copytree(town, tmp_path / "again")
    again = {file.replace(str(town), str(tmp_path / "again")): None for file in changed}
    assert train(tmp_path / "a", town=town, changed=changed, rank=0, step=4)["codes"] == [0]
    assert train(tmp_path / "b", town=tmp_path / "again", changed=again, rank=0, step=4)["codes"] == [0]
    assert_equal(tmp_path / "a", tmp_path / "b")
    text, said = printed(tmp_path / "a"), "was changed after it was listed: .* then, .* now"
    assert len(re.findall(f"(?:image|label) .* {said}; another image takes its place", text)) == 2
    assert len(re.findall(f"left out of the validation: image .* {said}", text)) == 3
    counts = [
        re.findall(r"(\d+) times, data could not be used for ([^:]*)", printed(tmp_path / run))
        for run in "ab"
    ]
    assert counts[0] == counts[1]
    assert [what for _, what in counts[0]] == ["the statistics of 2 trials", "epoch 1", "epoch 2"]


def test_strict_data_ends_a_run_whose_files_change(train, changing_town, tmp_path):
    town, changed = changing_town
    ended = train(tmp_path, "--strict_data", town=town, changed=changed, rank=0, step=4)
    assert ended["codes"] == [2] and ended["steps"] == [1, 2, 3, 4]
    assert re.search("error: image .* was changed after it was listed", printed(tmp_path))


def repeated(steps):
    """Return how many iterations were done more than once in the runs of one training."""
    return len(steps) - len(set(steps))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_random_kills(seed, train, tmp_path):
    """A signal at a random event of one of one or two processes; the rest follows."""
    rng = random.Random(seed)
    processes = 1 + seed % 2
    whole, answer = train.whole(processes)
    rank = rng.randrange(processes)
    last = rng.randint(1, answer["events"][rank])
    number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *3 * [signal.SIGKILL]])
    first = train(tmp_path, processes=processes, number=number, rank=rank, last=last)
    expected = -signal.SIGKILL if number == signal.SIGKILL else CONTINUE
    assert first["codes"][rank] in (expected, 0), printed(tmp_path)
    rest = train(tmp_path, processes=processes)
    assert set(rest["codes"]) == {0}, printed(tmp_path)
    again = repeated(first["steps"] + rest["steps"])
    print(
        f"seed {seed}: {processes} processes, {signal.Signals(number).name} at event {last} of rank {rank}, "
        f"codes {first['codes']}, {again} iterations repeated"
    )
    assert again <= (EVERY if number == signal.SIGKILL or processes > 1 else 0)
    assert_equal(tmp_path, whole)
