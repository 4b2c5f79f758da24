"""Which files a save leaves, whenever it is cut off."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from utils import checkpoint, distributed, torch_files
from utils.errors import UserError
from utils.training.events import EventWriter, NoWriter
from utils.training.saving import Keeper, save
from utils.training.trainer import Scores


class Small:
    """What `save` reads of a Trainer."""

    def __init__(self):
        self.net, self.teacher, self.epoch, self.best = nn.Linear(2, 2), None, 0, {}
        self.iteration = 0

    def state_dict(self):
        return {
            "settings": {},
            "epoch": self.epoch,
            "iteration": self.epoch,
            "command": "",
            "best": self.best,
        }


def scores(mean_iu):
    return {"gtav": Scores(0.5, 0.5, mean_iu, 1.0)}


def trained(folder, *mean_ius, **options):
    """Save one epoch after the other."""
    trainer = Small()
    for trainer.epoch, mean_iu in enumerate(mean_ius):
        save(trainer, scores(mean_iu), folder, ["gtav"], **options)
    return trainer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_best_and_last(tmp_path):
    trainer = trained(tmp_path, 0.2, 0.3, 0.1)
    best, last = "best_gtav_epoch_1_mean-iu_0.30000.pth", "last_gtav_epoch_2_mean-iu_0.10000.pth"
    assert names(tmp_path) == [best, last] and trainer.best == {"gtav": 0.3}
    assert checkpoint.load(tmp_path / last)["best"] == {"gtav": 0.3}
    assert checkpoint.load(tmp_path / best)["mean_iu"] == 0.3
    assert checkpoint.newest(tmp_path).name == last


def test_the_last_ones_are_kept(tmp_path):
    trained(tmp_path, 0.3, 0.2, 0.1, 0.05, keep_last=2)
    epochs = [name.split("_")[3] for name in names(tmp_path)]
    assert epochs == ["0", "2", "3"]  # the best one, then two last ones


def test_a_writer_takes_the_files(tmp_path):
    with checkpoint.BackgroundWriter() as writer:
        trained(tmp_path, 0.2, 0.3, writer=writer)
    assert [name.split("_")[3] for name in names(tmp_path)] == ["1", "1"]


@pytest.mark.parametrize("written", [0, 1])
def test_a_save_that_is_cut_off_loses_neither_best_nor_last(written, tmp_path, monkeypatch):
    """The second save ends after `written` of its two files, best_ and last_; each old one stays until then.

    The file that a run continues from never claims a best score whose file was not written.
    """
    trainer = trained(tmp_path, 0.2)
    old, count, write = names(tmp_path), [0], torch_files.write

    def cut_off(path, content):
        if count[0] == written:
            raise KeyboardInterrupt
        count[0] += 1
        write(path, content)

    monkeypatch.setattr(torch_files, "write", cut_off)
    trainer.epoch = 1
    with pytest.raises(KeyboardInterrupt):
        save(trainer, scores(0.4), tmp_path, ["gtav"])
    left = names(tmp_path)
    assert left == old if not written else left == ["best_gtav_epoch_1_mean-iu_0.40000.pth", old[1]]
    best = max(float(name[-11:-4]) for name in left if name.startswith("best"))
    assert checkpoint.load(tmp_path)["best"] == {"gtav": best}


def test_weights_that_are_not_finite_leave_everything(tmp_path):
    trainer = trained(tmp_path, 0.2)
    old = {name: os.stat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
    with torch.no_grad():
        trainer.net.bias[0] = torch.nan
    trainer.epoch = 1
    with pytest.raises(UserError, match="module.bias are not finite"):
        save(trainer, scores(0.9), tmp_path, ["gtav"])
    assert {name: os.stat(tmp_path / name).st_mtime_ns for name in names(tmp_path)} == old
    assert trainer.best == {"gtav": 0.2}


def test_about_ten_minutes_may_be_lost(tmp_path):
    """The first known time of a step decides; --save_every_iters decides before that, 0 for never.

    A save waits until the one before it is on disk. So with a save after every 150 iterations, a kill loses
    299 at most.
    """
    trainer, run = Small(), SimpleNamespace(checkpoints=tmp_path, writer=NoWriter())
    with Keeper(trainer, run, "gtav", every=None) as keeper:
        trainer.iteration = 300
        assert not keeper.due() and keeper.due(2.0) and keeper.every == 300
        due = []
        for trainer.iteration in range(301, 901):
            due += [trainer.iteration] * keeper.due(1.0)
        assert due == [450, 600, 750, 900]
    with Keeper(trainer, run, "gtav", every=0) as keeper:
        assert not keeper.due(2.0)
    for every, half in ((1, 1), (2, 1), (3, 2), (90, 45)):
        with Keeper(trainer, run, "gtav", every=every) as keeper:
            trainer.iteration = half
            assert keeper.due() and 2 * half - 1 <= every


def test_events_are_flushed_before_the_checkpoint_that_counts_them_is_written(tmp_path, monkeypatch):
    """A power cut leaves what was flushed to disk, so no event that a checkpoint counts may come later."""
    trainer, writer = Small(), EventWriter(tmp_path / "tb")
    trainer.loaders = SimpleNamespace(files={})
    flushed, found, fsync, write = {}, [], os.fsync, torch_files.write

    def flush(descriptor):
        flushed[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size
        fsync(descriptor)

    def written(path, content):
        found.append((flushed.get(str(writer.path)), content["events"]["bytes"]))
        write(path, content)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(torch_files, "write", written)
    run = SimpleNamespace(checkpoints=tmp_path, writer=writer, restore=lambda: None)
    with Keeper(trainer, run, "gtav") as keeper:
        for trainer.epoch in range(3):
            writer.add_scalar("loss", 0.5, trainer.epoch)
            keeper.save()
            keeper.writer.wait()  # with more events, the next save flushes again
    writer.close()
    sizes = [size for size, _ in found]
    assert sizes == [counted for _, counted in found] == sorted(set(sizes)) and len(sizes) == 3


def test_only_the_main_process_needs_the_folder(tmp_path, monkeypatch):
    """Machines may have separate disks."""
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    run = SimpleNamespace(checkpoints=tmp_path / "elsewhere", writer=NoWriter())
    with Keeper(Small(), run, "gtav"):
        pass
