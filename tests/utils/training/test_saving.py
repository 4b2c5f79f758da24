"""What a run keeps: the epoch before its validation, and best_ only where labels may choose."""

import re
import shutil
from concurrent.futures import wait
from types import SimpleNamespace

import pytest
from PIL import Image

import config
import train
from datasets.toy_city import write_toy_city
from tests.helpers import flags, run, the_checkpoint
from utils import checkpoint, torch_files
from utils.errors import DiskFull
from utils.training.saving import Keeper

EPOCH = ["--max_iter", "2"]  # of 4 images


@pytest.fixture
def town(tmp_path):
    """Four training images; of the two validation images of cityscapes one has a label that is unknown."""
    write_toy_city(tmp_path, size=(48, 96), train=4, val=2, seed=0, domains=["gtav", "cityscapes"])
    path = next(tmp_path.glob("cityscapes/gtFine_trainvaltest/**/val/**/*_labelIds.png"))
    label = Image.open(path)
    label.paste(77, (0, 0, 4, 4))
    label.save(path)
    return tmp_path


def test_an_image_that_cannot_be_read_is_left_out_of_the_validation(town, capsys):
    run(flags(town, town, *EPOCH))
    printed = capsys.readouterr().out
    assert re.search(r"left out of the validation: label \S+labelIds.png.*class id 77", printed)
    assert "cityscapes: 1 images were left out" in printed
    assert re.search(r"cityscapes: acc 0\.\d+", printed)
    last = the_checkpoint(town)
    assert re.fullmatch(r"last_gtav_epoch_0_mean-iu_0\.\d{5}.pth", last.name)
    assert not list(last.parent.glob("previous_*"))  # the run is finished


def test_a_validation_that_fails_costs_no_training(town, capsys):
    """Continued without --strict_data, the run needs only its validation."""
    with pytest.raises(SystemExit) as end:
        run(flags(town, town / "a", *EPOCH, "--strict_data"))
    assert end.value.code == 2 and "class id 77" in capsys.readouterr().err
    saved = the_checkpoint(town / "a")
    assert saved.name == "last_gtav_epoch_0_mean-iu_nan.pth"
    assert checkpoint.load(saved)["iteration"] == 2
    run(flags(town, town / "b", *EPOCH, "--snapshot", str(saved), "--restore_optimizer"))
    printed = capsys.readouterr().out
    assert "[iter" not in printed and "[epoch 0], cityscapes: acc" in printed
    assert checkpoint.load(the_checkpoint(town / "b"))["iteration"] == 2


def test_a_full_disk_ends_the_run_before_its_validation(town, capsys, monkeypatch):
    """The first batch waits here until the writing has failed, as it would in a validation of an hour."""

    def full(*args):
        raise DiskFull("disk full: last")

    def slow(self, show):
        def steps(items, title):
            wait([self.writer.pending])
            yield from watched(self, show)(items, title)

        return steps

    watched = Keeper.watched
    monkeypatch.setattr(Keeper, "watched", slow)
    monkeypatch.setattr(torch_files, "write", full)
    with pytest.raises(SystemExit) as end:
        run(flags(town, town / "a", *EPOCH))
    printed = capsys.readouterr()
    assert end.value.code == 2 and printed.err.count("disk full: last") == 1
    assert "[iter 2" in printed.out and "left out of the validation" not in printed.out


def test_a_disk_with_little_room_is_said_at_the_start(town, capsys, monkeypatch):
    """Two files do not fit. The size that is foretold is that of the file, within a tenth."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, 200 * 2**20))
    run(flags(town, town / "a", "--max_iter", "1", "--val_dataset", "null"))
    printed = re.search(r"room for 200 MiB, but a checkpoint takes about (\d+) MiB", capsys.readouterr().out)
    size = next(town.glob("a/ckpt/**/last_*.pth")).stat().st_size / 2**20
    assert abs(int(printed[1]) - size) < size / 10


def test_images_of_two_sizes_are_validated_together(town, capsys):
    image = next(town.glob("gtav/images/valid/**/*.png"))
    label = town / "gtav/labels" / image.relative_to(town / "gtav/images")
    for path in (image, label):
        with Image.open(path) as picture:
            picture.crop((0, 0, 64, 48)).save(path)
    run(flags(town, town, *EPOCH, "--val_dataset", "gtav", "--bs_mult_val", "2"))
    assert re.search(r"gtav: acc 0\.\d+", capsys.readouterr().out)


def test_the_only_source_is_validated_at_the_end_and_chooses(town, capsys):
    run(flags(town, town, "--max_iter", "4", "--val_dataset", "cityscapes"))
    printed = capsys.readouterr().out
    assert re.findall(r"\[epoch (\d)\], (\w+): ", printed) == [
        ("0", "cityscapes"),
        ("1", "cityscapes"),
        ("1", "gtav"),
    ]
    assert the_checkpoint(town, "best").name.startswith("best_gtav_epoch_1")
    assert "report the scores of last_...; labels of gtav chose best_" in printed


@pytest.mark.parametrize(
    ("argv", "select", "own"),
    [
        (["--dataset", "gtav", "--val_dataset", "bdd100k"], ["gtav"], ["gtav"]),
        (["--dataset", "gtav", "--val_dataset", "bdd100k", "gtav"], ["gtav"], []),
        (["--dataset", "gtav", "--val_dataset", "bdd100k", "--select_on", "bdd100k"], ["bdd100k"], ["gtav"]),
        (["--dataset", "gtav", "--val_dataset", "null"], [], []),
        (["--dataset", "gtav", "--val_dataset"], [], []),
        (["--dataset", "gtav", "synthia", "--val_dataset", "bdd100k"], [], ["gtav", "synthia"]),
        (["--dataset", "gtav", "null", "--val_dataset", "bdd100k"], ["gtav"], ["gtav"]),
        (["--dataset", "gtav", "--val_dataset", "bdd100k", "--select_on"], [], ["gtav"]),
    ],
)
def test_labels_of_unseen_domains_choose_only_when_asked(argv, select, own):
    args = config.parse_train_args(argv)
    assert (args.select_on, args.own_val) == (select, own)


def test_an_epoch_limit_counts_only_when_it_is_given(town, capsys):
    assert config.parse_train_args([]).max_epoch is None
    run(flags(town, town, "--max_epoch", "1", "--val_dataset", "null"))
    assert "training ends after --max_epoch 1, at iteration 2 of --max_iter 20" in capsys.readouterr().out


def test_validation_is_due_every_few_epochs_and_at_the_end(town, capsys):
    run(flags(town, town, "--max_iter", "10", "--val_dataset", "gtav", "--val_every", "2"))
    assert re.findall(r"\[epoch (\d)\], gtav: ", capsys.readouterr().out) == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("argv", "nets", "epochs"),
    [
        ([], 1, 34),  # 6,300 images are 0.015 x 12,400 x 33.9
        (["--val_every", "3"], 1, 3),
        (["--val_dataset", "null"], 1, None),
        (["--select_on", "gtav"], 1, 36),  # with 300 of the source domain: 35.5
        ([], 2, 68),  # a teacher is validated, too
        (["--dataset", "gtav", "synthia"], 1, 17),  # two images are trained on at a time
    ],
)
def test_three_images_are_validated_for_two_hundred_trained_on(argv, nets, epochs):
    args = config.parse_train_args(["--dataset", "gtav", "--val_dataset", "bdd100k", "synthia", *argv])
    args.bs_mult = 4
    lengths = {name: n for name, n in (("bdd100k", 1000), ("synthia", 5300)) if name in args.val_dataset}
    val = {name: SimpleNamespace(dataset=range(n)) for name, n in (lengths | {"gtav": 300}).items()}
    loaders = SimpleNamespace(train=range(3100), val=val)  # batches
    plan = train.validation_plan(args, loaders, nets)
    found = [epoch + 1 for epoch in range(140) if plan.due(epoch, end=False)]
    assert found[:2] == [epochs, 2 * epochs] if epochs else not found


def test_a_run_without_training_images_validates(town, capsys):
    run(flags(town, town, "--dataset", "null", "--val_dataset", "gtav", "--max_iter", "9"))
    assert "[epoch 0], gtav: " in capsys.readouterr().out
