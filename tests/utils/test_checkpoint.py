import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from network.weights import load_weights
from tests.helpers import Payload, rename_in_pickle, run_processes
from utils import checkpoint, torch_files
from utils.errors import DamagedFile, DiskFull, MissingFile, UserError


def small_net():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_round_trip_leaves_no_partial_file(tmp_path):
    checkpoint.save(tmp_path / "a.pth", {"state_dict": small_net().state_dict(), "epoch": 3})
    assert os.listdir(tmp_path) == ["a.pth"]
    state = checkpoint.load(tmp_path / "a.pth")
    assert (state["epoch"], state["version"]) == (3, checkpoint.VERSION)


def test_a_folder_that_is_removed_while_a_checkpoint_is_written(tmp_path, monkeypatch, caplog):
    """It is made again, and the checkpoint written again."""
    write = torch.save

    def removed(*args):
        write(*args)
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(torch, "save", removed)
    checkpoint.save(tmp_path / "run" / "a.pth", {"state_dict": {}, "epoch": 3})
    assert checkpoint.load(tmp_path / "run" / "a.pth")["epoch"] == 3
    assert "run was removed while a.pth was written to it; it is written again" in caplog.text


def load_two_files(rank, world_size, folder):
    """Return what comes of loading the same weights, in two layouts of memory and with gaps, and others."""
    weights = torch.arange(8.0).reshape(1, 2, 2, 2)
    layouts = weights, weights.contiguous(memory_format=torch.channels_last)
    every = {"a": layouts[rank], "b": torch.tensor(3), "c": torch.arange(4.0)[::2]}
    checkpoint.save(folder / f"{rank}.pth", {"state_dict": every})
    loaded = checkpoint.load_on_all(folder / f"{rank}.pth")["state_dict"]["a"]
    checkpoint.save(folder / f"{rank}.pth", {"state_dict": {"a": weights + rank}})
    with pytest.raises(UserError, match=f"{rank}.pth was replaced by another file while it was read"):
        checkpoint.load_on_all(folder / f"{rank}.pth")
    return loaded.flatten().tolist()


def test_all_processes_load_the_same_weights(tmp_path):
    assert run_processes(load_two_files, 2, tmp_path) == [[*range(8)]] * 2


def test_published_form_loads(tmp_path):
    """`module.` names, and NumPy 1 scalars beside the tensors."""
    net = small_net()
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    path = tmp_path / "published.pth"
    torch.save({"state_dict": state, "mean_iu": np.float64(0.4), "epoch": np.int64(7)}, path)
    rename_in_pickle(path, b"numpy._core.multiarray", b"numpy.core.multiarray")
    loaded = checkpoint.load(path)
    assert (loaded["mean_iu"], loaded["epoch"]) == (0.4, 7)
    other = small_net()
    assert str(load_weights(other, loaded["state_dict"])) == "7 entries loaded"
    torch.testing.assert_close(other.state_dict(), net.state_dict())


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "payload": Payload()}, "bad.pth")
    with pytest.raises(ValueError, match="cannot be read safely"):
        checkpoint.load("bad.pth")
    assert not os.path.exists("executed")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1])])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match="x.pth"):
        checkpoint.load(tmp_path / "x.pth")


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="no checkpoint at nowhere.pth"):
        checkpoint.load("nowhere.pth")


def test_a_bare_state_dict_is_no_checkpoint(tmp_path):
    torch.save(small_net().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="holds no state_dict"):
        checkpoint.load(tmp_path / "bare.pth")


# Which checkpoint of a folder


def write(path, iteration=None, seconds=0):
    """Write a checkpoint that is `seconds` old."""
    state = {"state_dict": small_net().state_dict()}
    checkpoint.save(path, state if iteration is None else state | {"iteration": iteration})
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def flip(path, share=0.5):
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1
    path.write_bytes(data)


def test_the_newest_has_the_highest_iteration_then_the_latest_time(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a/last_gtav_epoch_1.pth", 20, seconds=50)
    last = write(tmp_path / "b/last_gtav_epoch_1.pth", 20, seconds=10)
    write(tmp_path / "b/best_gtav_epoch_1.pth", 20)
    write(tmp_path / "b/last_gtav_epoch_0.pth", 10)
    write(tmp_path / "b/ema_gtav-teacher_epoch_1.pth", 30)
    write(tmp_path / "b/last_published.pth")
    assert checkpoint.newest(tmp_path) == last
    assert checkpoint.load(tmp_path)["iteration"] == 20
    assert checkpoint.find(tmp_path) == last and checkpoint.find(str(last)) == last
    assert checkpoint.newest(tmp_path / "a").parent.name == "a"
    later = write(tmp_path / "a/best_cityscapes_epoch_2.pth", 21, seconds=100)
    assert checkpoint.newest(tmp_path) == later


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_damaged_ones_are_skipped_and_named(tmp_path, share, caplog):
    sound = write(tmp_path / "last_gtav_epoch_0.pth", 10)
    for iteration in (20, 30):
        flip(write(tmp_path / f"last_gtav_epoch_{iteration}.pth", iteration), share)
    with caplog.at_level("WARNING", "robustnet"):
        assert checkpoint.newest(tmp_path) == sound
    for iteration in (20, 30):
        assert f"last_gtav_epoch_{iteration}.pth is damaged" in caplog.text or share == 0
        assert f"last_gtav_epoch_{iteration}.pth" in caplog.text
    sound.unlink()
    with pytest.raises(DamagedFile, match=f"no sound checkpoint in {tmp_path}: .*epoch_"):
        checkpoint.newest(tmp_path)


def test_a_file_that_another_run_replaces_meanwhile_is_no_damage(tmp_path, monkeypatch, caplog):
    """It vanishes before it is read, or before it is checked as the newest."""
    sound = write(tmp_path / "last_gtav_epoch_0.pth", 10)
    skim, check = torch_files.skim, torch_files.check
    for reads in (0, 1):
        newer = write(tmp_path / "last_gtav_epoch_1.pth", 20)

        def vanish(path, what, newer=newer, read=(skim, check)[reads]):
            newer.unlink(missing_ok=True)
            return read(path, what)

        with monkeypatch.context() as patch:
            patch.setattr(torch_files, ("skim", "check")[reads], vanish)
            assert checkpoint.newest(tmp_path) == sound
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("read", ["skim", "check"])
def test_a_disk_that_cannot_be_read_costs_that_file(tmp_path, read, monkeypatch, caplog):
    """Folders and dangling links of a checkpoint's name are no checkpoints."""
    sound = write(tmp_path / "last_gtav_epoch_0.pth", 10)
    newer = write(tmp_path / "last_gtav_epoch_1.pth", 20)
    (tmp_path / "last_gtav_epoch_2.pth").mkdir()
    (tmp_path / "last_gtav_epoch_3.pth").symlink_to("nowhere")
    original = getattr(torch_files, read)

    def broken(path, what):
        if path == newer:
            raise OSError(5, "Input/output error", str(path))
        return original(path, what)

    monkeypatch.setattr(torch_files, read, broken)
    with caplog.at_level("WARNING", "robustnet"):
        assert checkpoint.newest(tmp_path) == sound
    assert "Input/output error" in caplog.text and str(newer) in caplog.text
    assert "epoch_2" not in caplog.text and "epoch_3" not in caplog.text
    checkpoint.write_files([checkpoint.File(sound, {"state_dict": {}}, "last_gtav_epoch_")])
    assert sorted(path.name[-5:-4] for path in tmp_path.glob("*.pth")) == ["0", "2", "3"]


def test_what_a_run_leaves_behind_is_no_newest(tmp_path):
    """It goes back to iteration 10; the files of later ones stay under another name."""
    for times in (1, 2):
        back = write(tmp_path / "last_gtav_epoch_0.pth", 10)
        for name, iteration in (("last_gtav_epoch_1", 20), ("ema_gtav-teacher_epoch_1", 20)):
            write(tmp_path / f"{name}.pth", iteration)
        flip(write(tmp_path / "last_gtav_epoch_9.pth", 90), 0.1)  # of the weights
        assert len(checkpoint.set_aside(tmp_path, 10)) == 2
        assert len(list(tmp_path.glob("aside_*gtav*"))) == 2 * times
    assert checkpoint.newest(tmp_path) == back and checkpoint.set_aside(tmp_path, 10) == []


def test_a_folder_without_checkpoints_says_where_runs_are(tmp_path):
    with pytest.raises(
        MissingFile, match=f"no checkpoint in {tmp_path}; train.py .*--ckpt, --date and --exp"
    ):
        checkpoint.load(tmp_path)


# What is never lost


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    path = tmp_path / "last_gtav_epoch_1.pth"
    checkpoint.save(path, {"state_dict": {"a": torch.ones(2), "b": torch.ones(2), "n": torch.ones(2).long()}})
    old = path.read_bytes()
    for bad in (torch.nan, torch.inf, -torch.inf):
        weights = {"a": torch.tensor([1, bad]), "b": torch.ones(2), "c": torch.tensor(bad).half()}
        with pytest.raises(UserError, match="the weights a, c are not finite"):
            checkpoint.save(path, {"state_dict": weights})
        with checkpoint.BackgroundWriter() as writer, pytest.raises(UserError, match="a, c are not finite"):
            writer.submit([checkpoint.File(path, {"state_dict": weights}, "last_gtav_epoch_")])
    assert path.read_bytes() == old and os.listdir(tmp_path) == [path.name]
    many = {str(i): torch.tensor(torch.nan) for i in range(9)}
    with pytest.raises(UserError, match="0, 1, 2, 3, 4, 5 and 3 more are"):
        checkpoint.require_finite(many)
    checkpoint.require_finite({})


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("last_unscored_epoch_2_mean-iu_nan", "isw/11_29_13 last epoch 2"),
        ("best_dark_zurich_epoch_10_mean-iu_0.5", "isw/11_29_13 best_dark_zurich epoch 10"),
        ("ema_gtav-teacher_epoch_3_mean-iu_0.4", "isw/11_29_13 ema epoch 3"),
        ("published", "published"),
    ],
)
def test_the_title_in_tables(tmp_path, name, title):
    """Without run.json the folder is not that of a run."""
    folder = tmp_path / "isw/11_29_13"
    folder.mkdir(parents=True)
    assert checkpoint.title(folder / f"{name}.pth") == title.removeprefix("isw/11_29_13 ")
    (folder / "run.json").touch()
    assert checkpoint.title(folder / f"{name}.pth") == title


def file(folder, epoch, keep=1, kind="last"):
    state = {"state_dict": {"a": torch.full((3,), float(epoch))}, "epoch": epoch}
    stem = f"{kind}_gtav_epoch_"
    return checkpoint.File(folder / f"{stem}{epoch}_mean-iu_0.1.pth", state, stem, keep)


def epochs(folder, kind="last"):
    return sorted(int(path.name.split("_")[3]) for path in folder.glob(f"{kind}*"))


def test_older_files_of_a_kind_go_once_the_new_one_is_written(tmp_path, monkeypatch):
    for epoch in range(4):
        checkpoint.write_files([file(tmp_path, epoch, 2), file(tmp_path, epoch, kind="best")])
        time.sleep(0.01)
    checkpoint.write_files([file(tmp_path, 3, 2)])  # again
    assert epochs(tmp_path) == [2, 3] and epochs(tmp_path, "best") == [3]

    def fail(path, content):
        raise DiskFull("disk full")

    monkeypatch.setattr(torch_files, "write", fail)
    with pytest.raises(DiskFull):
        checkpoint.write_files([file(tmp_path, 4)])
    assert epochs(tmp_path) == [2, 3]


def test_the_newest_epochs_stay_although_the_clock_was_set_back(tmp_path):
    checkpoint.write_files([file(tmp_path, 0, 2)])
    (old,) = tmp_path.iterdir()
    os.utime(old, (4e9, 4e9))  # in the year 2096
    for epoch in (1, 2):
        checkpoint.write_files([file(tmp_path, epoch, 2)])
    assert epochs(tmp_path) == [1, 2]


def test_stale_files_go_with_the_next_checkpoint(tmp_path):
    (tmp_path / ".0123456789abcdef.partial").write_bytes(b"cut off")
    write(tmp_path / "last.pth")
    assert os.listdir(tmp_path) == ["last.pth"]


# In the background


def test_the_background_writer_writes_what_was_submitted(tmp_path, monkeypatch):
    """Tensors may change after submit; equal ones are copied once; the next submit waits."""
    begun, go_on, save = [], [], torch_files.write

    def slow(path, content):
        begun.append(path)
        while not go_on:
            time.sleep(0.001)
        save(path, content)

    monkeypatch.setattr(torch_files, "write", slow)
    weight = torch.ones(3)
    state = {"state_dict": {"a": weight}, "optimizer": {"state": [{"b": weight}, (weight, 2)]}, "epoch": 1}
    one = checkpoint.File(tmp_path / "last_1.pth", state, "last_")
    with checkpoint.BackgroundWriter() as writer:
        writer.submit([one])
        weight += 1
        assert not list(tmp_path.iterdir())
        go_on.append(True)
        writer.submit([one._replace(path=tmp_path / "last_2.pth", keep=2)])
        assert (tmp_path / "last_1.pth").exists()
        writer.wait()
        assert len(begun) == 2
    for number in (1, 2):
        state = checkpoint.load(tmp_path / f"last_{number}.pth")
        first, second = state["optimizer"]["state"]
        for tensor in (state["state_dict"]["a"], first["b"], second[0]):
            assert tensor.tolist() == [number] * 3
        assert second[1] == 2


def test_errors_in_the_background_are_raised_once(tmp_path, monkeypatch, caplog):
    def fail(path, content):
        raise DiskFull(f"disk full: {Path(path).name}")

    monkeypatch.setattr(torch_files, "write", fail)
    writer = checkpoint.BackgroundWriter()
    writer.submit([file(tmp_path, 1)])
    with pytest.raises(DiskFull, match="epoch_1"):
        writer.submit([file(tmp_path, 2)])
    writer.submit([file(tmp_path, 3)])
    with pytest.raises(DiskFull, match="epoch_3"):
        writer.close()
    with pytest.raises(KeyError), checkpoint.BackgroundWriter() as writer:
        writer.submit([file(tmp_path, 4)])
        raise KeyError
    assert "disk full: last_gtav_epoch_4" in caplog.text
