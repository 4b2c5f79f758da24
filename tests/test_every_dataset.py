"""Every dataset, in its real layout and encoding, trains and is scored on 2 processes by the command line."""

import json
import re

import pytest

from datasets import DATASETS
from datasets.splits import read_split
from datasets.toy_city import write_toy_city
from tests.helpers import add_datasets, copy, run_command, torchrun

TRAIN, VAL, STEPS = 40, 2, 20
ARCH = ["--arch", "DeepR18V3PlusD", "--wt_layer", "0", "0", "2", "2", "2", "0", "0"]
TOWN = ["cityscapes", "gtav", "synthia", "bdd100k", "mapillary"]
ADVERSE = ["acdc", "foggy_cityscapes", "idd", "dark_zurich", "nighttime_driving"]  # folders of the toy town
CONDITIONS = ["acdc_fog", "acdc_night", "acdc_rain", "acdc_snow"]
TRAINABLE = [*TOWN, "camvid", "kitti", "acdc", *CONDITIONS, "foggy_cityscapes", "foggy_cityscapes_0.01"]
TRAINABLE += ["foggy_cityscapes_0.005", "idd"]
LABELLED = [*TRAINABLE, "dark_zurich", "nighttime_driving"]
UNLABELLED = ["folder", "null"]


def launch(*argv):
    """Run a program on 2 processes of one thread each and return what it printed."""
    done = run_command(torchrun(2, *argv), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def train_flags(town, out):
    """Return the flags of a training of 20 iterations."""
    flags = ["--pretrained", "none", "--crop_size", "64", "--bs_mult", "1", "--max_iter", str(STEPS)]
    flags += ["--num_workers", "0", "--color_aug", "0.5", "--gblur"]
    flags += ["--class_uniform_pct", "0.5", "--class_uniform_tile", "48"]
    flags += ["--clusters", "3", "--trials", "1", "--cov_stat_epoch", "0", "--wt_reg_weight", "0.6"]
    paths = ["--data_root", str(town), "--ckpt", str(out / "ckpt"), "--tb_path", str(out / "tb")]
    return ["train.py", *ARCH, *flags, *paths]


def train(town, out, *argv):
    """Train for 20 iterations; return what was printed and the checkpoint."""
    printed = launch(*train_flags(town, out), *argv)
    (checkpoint,) = out.glob("ckpt/**/last_*.pth")
    return printed, checkpoint


@pytest.fixture(scope="session")
def town(tmp_path_factory):
    """The toy town and what can be made of its Cityscapes."""
    root = tmp_path_factory.mktemp("every") / "town"
    write_toy_city(root, size=(64, 128), train=TRAIN, val=VAL, seed=0, domains=[*TOWN, *ADVERSE])
    return add_datasets(root, root)


@pytest.fixture(scope="session")
def flat(town, tmp_path_factory):
    """GTAV and SYNTHIA as they are downloaded, with the first numbers of the published splits."""
    root = tmp_path_factory.mktemp("flat")
    for name, images, labels, digits in (("gtav", "images", "labels", 5), ("synthia", "RGB", "GT/LABELS", 7)):
        for split, count in (("train", TRAIN), ("val", VAL)):
            samples = DATASETS[name](town / name, split, None).samples
            for (image, label, _), number in zip(
                samples, sorted(read_split(f"{name}_{split}"))[:count], strict=True
            ):
                copy(image, root / name / images / f"{number:0{digits}d}.png")
                copy(label, root / name / labels / f"{number:0{digits}d}.png")
    return root


def flags(dataset, *more):
    return ["--dataset", dataset, "--val_dataset", dataset, "--covstat_val_dataset", dataset, *more]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLE)
def test_every_dataset_trains(name, town, tmp_path):
    """Class-uniform crops, photometric pairs for the statistics (after whole epochs), and validation."""
    steps = 4 * TRAIN // 2 if name == "acdc" else STEPS
    printed, _ = train(town, tmp_path, *flags(name), "--max_iter", str(steps))
    assert f"[iter {steps} / {steps} : {steps}], [loss " in printed
    assert printed.count("sensitive covariances") == 3
    assert re.search(rf"\[epoch 0\], {name}: .*mean_iu", printed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dark_zurich", "folder"])
def test_a_dataset_without_labels_trains_nothing(name, town, tmp_path):
    """The photographs of Dark Zurich by night, and a folder: an error, once an epoch shows it."""
    argv = [*train_flags(town, tmp_path), *flags(name), "--max_iter", str((TRAIN + VAL) // 2)]
    done = run_command(torchrun(2, *argv), OMP_NUM_THREADS="1")
    assert done.returncode != 0
    assert f"nothing is learnt from {name}: its training images have no labels" in done.stdout
    assert "no image of epoch 0 has a labelled pixel, so nothing was trained" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gtav", "synthia"])
def test_a_flat_download_trains(name, flat, tmp_path):
    printed, _ = train(flat, tmp_path, *flags(name))
    assert f"[iter {STEPS} / {STEPS} : {STEPS}], [loss " in printed
    assert printed.count("published images are missing") == 3  # training, validation, statistics


@pytest.mark.slow
def test_coarse_labels_and_video_train(town, tmp_path):
    """Three times the images: 40 of 120 // 2 steps of an epoch are 20 iterations of the limit."""
    more = ["--coarse_boost_classes", "3,4,16", "--maxSkip", "2", "--strict_data"]
    printed, _ = train(town, tmp_path, *flags("cityscapes", *more))
    assert f"[iter {STEPS} / {3 * TRAIN // 2} : {STEPS}], [loss " in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "steps_per_epoch"),
    [(["--image_uniform_sampling"], TRAIN), ([], TRAIN // 2), (["--domain_steps", "separate"], TRAIN // 2)],
    ids=["concatenated", "joint", "separate"],
)
def test_several_domains_train(more, steps_per_epoch, town, tmp_path):
    argv = [
        "--dataset",
        "gtav",
        "synthia",
        "--val_dataset",
        "null",
        "--covstat_val_dataset",
        "gtav",
        "synthia",
    ]
    printed, checkpoint = train(town, tmp_path, *argv, *more)
    assert f"[iter {STEPS} / {steps_per_epoch} : {STEPS}], [loss " in printed
    assert checkpoint.name == "last_unscored_epoch_0_mean-iu_nan.pth"


@pytest.mark.slow
def test_every_dataset_is_scored(town, tmp_path):
    """All of them are in these lists. One process and two give the same results."""
    assert sorted([*LABELLED, *UNLABELLED]) == sorted(DATASETS)
    _, checkpoint = train(town, tmp_path, *flags("gtav"))
    names = [*LABELLED, *UNLABELLED]
    argv = [*ARCH, "--snapshot", str(checkpoint), "--data_root", str(town), "--num_workers", "0"]
    argv += ["--inference_mode", "whole", "--dump_images", "--ckpt_path", str(tmp_path), "--dataset", *names]
    argv += ["--calibration", "--boundary_iou"]
    printed = launch("eval.py", *argv)
    for name in LABELLED:
        assert re.search(rf"^{name}\nclass +IoU", printed, re.MULTILINE), name
    alone = run_command(torchrun(1, "eval.py", *argv, "--exp_name", "alone"), OMP_NUM_THREADS="1")
    assert alone.returncode == 0, alone.stderr[-4000:]
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "eval"))
    assert one["metrics"] == two["metrics"] and set(one["metrics"]) == set(names)
    assert all({"ece", "boundary_iou"} <= set(one["metrics"][name]) for name in LABELLED)
    for name in UNLABELLED:
        assert f"{name}: no labels, so no scores" in printed
    pictures = sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("eval/folder_val/pred/*/*")
    )
    assert len(pictures) == TRAIN + VAL and pictures[0] == "eval/folder_val/pred/train/0.png"
