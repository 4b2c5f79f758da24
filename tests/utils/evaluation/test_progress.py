import errno
import threading

import pytest
import torch
from PIL import Image

from utils.classes import ClassTable
from utils.errors import DiskFull
from utils.evaluation.counts import Counts
from utils.evaluation.progress import Background, Progress, merged
from utils.evaluation.recorder import Pictures, Predicted
from utils.evaluation.records import finished_images
from utils.evaluation.scores import prune_pictures, score_dataset

CLASSES = ClassTable(("road", "sky"), ((1, 2, 3), (4, 5, 6)))
PICTURE = Image.new("RGB", (4, 2))


def diagonal(right, wrong=0):
    return Counts(torch.tensor([[right, wrong], [0, 0]]))


def test_counts_come_back_after_a_crash(tmp_path):
    """A line cut off does not count; finished images count only under the same settings."""
    progress = Progress(tmp_path / "r", {"scale": (1.0,)})
    progress.add("sub/a", diagonal(2**40, 3), PICTURE)
    progress.add("b", diagonal(0), PICTURE)
    with open(progress.file, "a") as file:
        file.write('{"name": "c", "cl')
    again = Progress(tmp_path / "r", {"scale": (1.0,)}, resume=True)
    assert set(again.finished) == {"sub/a", "b"}
    again.add("c", diagonal(1), PICTURE)
    images = again.gather()
    assert list(images) == ["b", "c", "sub/a"]
    assert images["sub/a"].confusion.tolist() == [[2**40, 3], [0, 0]]
    finished, damaged = finished_images(tmp_path / "r")
    assert damaged == 0 and set(finished) == set(images)
    for name, image in finished.items():
        assert torch.equal(images[name].confusion, image.counts.confusion)
    with pytest.raises(ValueError, match=r"scale \[1.0\].*\[2.0\]"):
        Progress(tmp_path / "r", {"scale": [2.0]}, resume=True)
    assert Progress(tmp_path / "r", {"scale": [2.0]}).gather() == {}


def test_lines_of_an_evaluation_that_still_runs_do_not_mix_with_another_s(tmp_path):
    """The second one was started with --overwrite, ended early and is resumed."""
    first = Progress(tmp_path, {"snapshot": "1", "scales": (1.0, 2.0)})
    second = Progress(tmp_path, {"snapshot": "2", "scales": (1.0, 2.0)})
    first.add("a", diagonal(1), PICTURE)
    second.add("b", diagonal(2), PICTURE)
    again = Progress(tmp_path, {"snapshot": "2", "scales": [1.0, 2.0]}, resume=True)
    assert list(again.finished) == ["b"]


def test_a_full_disk_is_said_with_the_name_of_the_picture(tmp_path, monkeypatch):
    def save(self, path, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(DiskFull, match=f"disk full: {tmp_path}/r/pictures/a.jpg .* MiB are free"):
        Progress(tmp_path / "r", {}).add("a", diagonal(1), PICTURE)
    done = Predicted("a", torch.zeros(3, 2, 4), *torch.zeros(2, 2, 4, dtype=torch.uint8), diagonal(1))
    with pytest.raises(DiskFull, match=f"disk full: {tmp_path}/val/pred/a.png .* MiB are free"):
        Pictures(tmp_path, tmp_path / "val", ["pred"], CLASSES, False).write(done)


def test_slices_of_other_settings_do_not_merge(tmp_path):
    for name, settings in (("a", {"s": 1}), ("b", {"s": 1}), ("c", {"s": 2})):
        Progress(tmp_path / name, settings).add(name, diagonal(1), PICTURE)
    assert list(merged([tmp_path / "b", tmp_path / "a"])) == ["a", "b"]
    with pytest.raises(ValueError, match="/c.*/a"):
        merged([tmp_path / "a", tmp_path / "c"])


def test_pictures_of_best_median_and_worst_stay(tmp_path, monkeypatch):
    """IoU of class 0 is 9/9, 5/9, 1/9, 0/9, of class 1, never true, 0. Of four the third is the median."""
    progress = Progress(tmp_path, {})
    for name, right in (("d", 9), ("c", 5), ("b", 1), ("a", 0)):
        progress.add(name, diagonal(right, 9 - right), PICTURE)
    monkeypatch.setattr("utils.evaluation.scores.WORST", 1)
    scores = score_dataset(progress.gather(), CLASSES, {}, [tmp_path])
    assert [(kind, name) for kind, name, _ in scores.pictures] == [
        ("best", "d"),
        ("median", "b"),
        ("worst 1", "a"),
    ]
    prune_pictures(tmp_path, scores)
    assert sorted(path.stem for path in tmp_path.glob("pictures/*")) == ["a", "b", "d"]
    assert score_dataset(progress.gather(), CLASSES, {}, [tmp_path]).pictures == scores.pictures


def test_background_is_bounded_and_raises_errors():
    """With room for 2 the third submit waits; an error comes out of the block."""
    gate, started = threading.Event(), []

    def wait(i):
        started.append(i)
        gate.wait()

    with Background(threads=2, limit=2) as background:
        for i in range(2):
            background.submit(wait, i)
        first = background.pending[0]
        result, waited_for = first.result, threading.Event()
        first.result = lambda: (waited_for.set(), result())
        blocked = threading.Thread(target=background.submit, args=(wait, 2))
        blocked.start()
        assert waited_for.wait(60) and 2 not in started and not first.done()
        gate.set()
        blocked.join()
    assert sorted(started) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError), Background() as background:
        background.submit(lambda: 1 / 0)
