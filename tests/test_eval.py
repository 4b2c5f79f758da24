import json
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import config
import eval as evaluation
from datasets.labels import TRAIN_ID_COLORS, TRAIN_ID_TO_ID
from datasets.samplers import EvalSampler
from tests.processes import run_processes
from utils import checkpoint, visualize
from utils.logging import exit_cleanly

Output = namedtuple("Output", "logits")


class ColourReader(nn.Module):
    """Scores class k by 2 rgb . c_k - |c_k|^2 = |rgb|^2 - |rgb - c_k|^2, so c_k is read as class k."""

    def __init__(self):
        super().__init__()
        self.final2 = nn.Conv2d(3, 19, 1)

    def paint(self):
        colors = torch.tensor(TRAIN_ID_COLORS) / 255
        with torch.no_grad():
            self.final2.weight.copy_(2 * colors[:, :, None, None])
            self.final2.bias.copy_(-colors.square().sum(1))
        return self

    def forward(self, image):
        mean, std = torch.tensor(visualize.IMAGENET_MEAN), torch.tensor(visualize.IMAGENET_STD)
        return Output(self.final2(image * std[:, None, None] + mean[:, None, None]))


@pytest.fixture
def town(tmp_path, monkeypatch):
    """Cityscapes images of four stripes in the colours of classes 0..3, two in val, one unlabelled in test.

    In the first, 4 of the 10 columns painted as road are labelled sky (10), and the last 4 of 20 rows have no
    label. The checkpoint net.pth reads colours without an error.
    """
    ids = np.repeat(np.arange(4, dtype=np.uint8), 10)[None].repeat(20, 0)  # (20, 40)
    for name, split in (("a_000000_000000", "val"), ("a_000001_000000", "val"), ("a_000002_000000", "test")):
        image, label = np.array(TRAIN_ID_COLORS, np.uint8)[ids], TRAIN_ID_TO_ID[ids]
        if name == "a_000000_000000":
            label[:, :4] = 23
            label[16:] = 0
        if split == "test":
            label[:] = 0
        for top, kind, array in (("leftImg8bit", "leftImg8bit", image), ("gtFine", "gtFine_labelIds", label)):
            folder = tmp_path / "data" / top / split / "a"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / f"{name}_{kind}.png")
    monkeypatch.setattr(evaluation, "get_net", lambda args: ColourReader())
    state = {f"module.{key}": value for key, value in ColourReader().paint().state_dict().items()}
    checkpoint.save(
        tmp_path / "net.pth", {"state_dict": state, "command": "train.py --dataset gtav --lr 0.1"}
    )
    return tmp_path


def evaluate(town, *flags):
    snapshot = ["--snapshot", str(town / "net.pth")]
    data = ["--dataset_dir", str(town / "data"), "--num_workers", "0"]
    evaluation.main(config.parse_eval_args(["--arch", "DeepR50V3PlusD", *snapshot, *data, *flags]))


def test_scores_pictures_and_record(town, capsys):
    """Labelled pixels: 16 * 40 + 20 * 40 = 1440. 16 * 4 = 64 are sky, predicted road.

    Road: 16 * 6 + 20 * 10 = 296 right, 64 false: IoU 296/360 = 82.22. Sidewalk, building, wall 100, sky 0;
    the mean of the five is 76.44. acc 1376/1440 = 95.56.
    """
    evaluate(town, "--scales", "1.0", "--crop_size", "16", "--dump_images")
    out = capsys.readouterr().out
    assert "road            82.22      82.22  100.00" in out
    assert "mIoU 76.44, acc 95.56" in out
    assert out.rstrip().splitlines()[-2].split() == ["net", "76.44", "76.44"]

    record = json.loads((town / "eval_cityscapes" / "results.json").read_text())
    assert record["metrics"]["cityscapes"]["mean_iu"] == pytest.approx((296 / 360 + 3) / 5)
    assert record["protocol"]["mode"] == "sliding" and record["protocol"]["scales"] == [1.0]
    assert record["protocol"]["flip"] is True and record["protocol"]["crop"] == 16
    assert record["snapshot"] == str(town / "net.pth")

    files = sorted(
        path.relative_to(town / "eval_cityscapes" / "val").parts
        for path in (town / "eval_cityscapes" / "val").glob("*/*")
    )
    assert [folder for folder, _ in files] == sorted(2 * ["compose", "diff", "pred", "rgb"])
    assert all(name.startswith("a_00000") and name.endswith(".png") for _, name in files)

    def read(kind):
        (path,) = (town / "eval_cityscapes" / "val" / kind).glob("a_000000_000000*.png")
        return np.asarray(Image.open(path))

    classes = np.arange(40) // 10
    assert np.array_equal(read("pred"), np.broadcast_to(TRAIN_ID_TO_ID[classes], (20, 40)))
    assert np.array_equal(read("rgb")[0], np.array(TRAIN_ID_COLORS)[classes])
    assert np.array_equal(read("compose"), read("rgb"))  # the photo has these colours too
    wrong = np.zeros((20, 40), np.uint8)
    wrong[:16, :4] = 255
    assert np.array_equal(read("diff"), wrong)


@pytest.mark.parametrize("mode", ["pooling", "whole"])
def test_other_modes(town, mode):
    """A pointwise network at scale 1 scores the same in every mode."""
    evaluate(town, "--inference_mode", mode, "--single_scale", "--exp_name", mode)
    record = json.loads((town / mode / "results.json").read_text())
    assert record["metrics"]["cityscapes"]["acc"] == pytest.approx(1376 / 1440)
    assert record["protocol"]["flip"] is (mode != "whole")


def test_without_labels_there_are_pictures_but_no_scores(town, capsys):
    evaluate(town, "--split", "test", "--single_scale", "--dump_images")
    assert "cityscapes: no labels, so no scores" in capsys.readouterr().out
    assert json.loads((town / "eval_cityscapes" / "results.json").read_text())["metrics"] == {
        "cityscapes": None
    }
    assert sorted(path.name for path in (town / "eval_cityscapes" / "test").iterdir()) == [
        "compose",
        "pred",
        "rgb",
    ]


def test_several_datasets_have_a_folder_each_and_a_table(town, capsys):
    """The same images stand for two domains; the checkpoint says that it was trained on gtav."""
    loader = evaluation.setup_eval_loader

    def same_images(args, name):
        args.roots["cityscapes"] = town / "data"
        return loader(args, "cityscapes")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "setup_eval_loader", same_images)
        flags = ["--arch", "x", "--snapshot", str(town / "net.pth"), "--num_workers", "0", "--dump_images"]
        evaluation.main(config.parse_eval_args([*flags, "--single_scale", "--dataset", "gtav", "bdd100k"]))
    assert sorted(path.name for path in (town / "eval").iterdir()) == [
        "bdd100k_val",
        "gtav_val",
        "results.json",
    ]
    header, row, _ = capsys.readouterr().out.rstrip().splitlines()[-3:]
    assert header.split() == ["mIoU", "(%)", "gtav*", "bdd100k", "mean", "of", "unseen"]
    assert row.split() == ["net", "76.44", "76.44", "76.44"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--scales", "0"], "scale 0.0"),
        (["--inference_mode", "tiles"], "sliding, pooling, whole"),
        (["--sliding_overlap", "1"], "overlap 1.0"),
        (["--dataset", "cityscape"], "cityscape"),
        (["--dataset_dir", "nowhere"], "nowhere"),
        (["--snapshot", "nothing.pth"], "nothing.pth"),
    ],
)
def test_mistakes_end_with_a_sentence(town, capsys, flags, words):
    with pytest.raises(SystemExit) as end, exit_cleanly():
        evaluate(town, *flags)
    assert end.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert words in line


@pytest.mark.parametrize(
    ("command", "domains"),
    [
        ("train.py --dataset gtav synthia --val_dataset bdd100k", ["gtav", "synthia"]),
        ("--val_dataset bdd100k --dataset gtav", ["gtav"]),
        ("train.py --dataset=gtav", ["gtav"]),
        ("train.py --covstat_val_dataset gtav", []),
        ("", []),
    ],
)
def test_source_domains_from_the_command(command, domains):
    assert evaluation.trained_on(command) == domains


def count(rank, world_size):
    """Return the confusion matrix of three images of different sizes, the processes' shares added up."""
    samples = []
    for i, (height, width) in enumerate([(12, 20), (20, 9), (7, 7)]):
        ids = np.random.default_rng(i).integers(0, 19, (height, width))
        pixels = torch.tensor(np.array(TRAIN_ID_COLORS)[ids] / 255, dtype=torch.float32).permute(2, 0, 1)
        mean, std = (
            torch.tensor(v)[:, None, None] for v in (visualize.IMAGENET_MEAN, visualize.IMAGENET_STD)
        )
        samples.append(
            {"image": (pixels - mean) / std, "label": torch.tensor(ids[::-1].copy()), "name": str(i)}
        )
    loader = DataLoader(samples, sampler=EvalSampler(range(3)))
    protocol = {"mode": "sliding", "scales": [0.5, 1.0], "flip": True, "crop": 8, "overlap": 1 / 3}
    confusion = evaluation.evaluate(
        ColourReader().paint().eval(), loader, torch.device("cpu"), protocol, "three"
    )
    confusion.all_reduce()
    return confusion.counts


def test_scores_do_not_depend_on_the_number_of_processes():
    alone = count(0, 1)
    assert alone.sum() == 12 * 20 + 20 * 9 + 7 * 7
    assert all(torch.equal(alone, counts) for counts in run_processes(count, 2))
