import hashlib
import json
import math
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import config
import eval as evaluation
from datasets import DATASETS
from network import ARCHS
from tests.helpers import ROOT, run_command, run_processes, save
from utils import checkpoint
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import MissingFile, UserError
from utils.evaluation import loop
from utils.evaluation.recorder import Recorder
from utils.exit import exit_cleanly
from utils.files import sha256
from utils.pixels import IMAGENET_MEAN, IMAGENET_STD

Output = namedtuple("Output", "logits")
TRAIN_ID_TO_ID = np.zeros(256, np.uint8)  # 0 is unlabelled
TRAIN_ID_TO_ID[: len(CITYSCAPES)] = CITYSCAPES.ids


FILES = {"results.json", "results.csv", "images.csv", "results.md", "index.html", "records"}


class ColourReader(nn.Module):
    """Scores class k by 2 rgb . c_k - |c_k|^2 = |rgb|^2 - |rgb - c_k|^2, so c_k is read as class k."""

    classifiers = ("final2",)

    def __init__(self, num_classes=19, wt_layer=(0,) * 7, pretrained=None):
        super().__init__()
        self.final2 = nn.Conv2d(3, num_classes, 1)
        self.layer0, self.layer1 = nn.Identity(), nn.Identity()

    def paint(self):
        colors = torch.tensor(CITYSCAPES.colors) / 255
        with torch.no_grad():
            self.final2.weight.copy_(2 * colors[:, :, None, None])
            self.final2.bias.copy_(-colors.square().sum(1))
        return self

    def forward(self, image):
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        return Output(self.final2(image * std[:, None, None] + mean[:, None, None]))


def write_pair(town, split, name, image, train_ids):
    for top, kind, array in (
        ("leftImg8bit", "leftImg8bit", image),
        ("gtFine", "gtFine_labelIds", TRAIN_ID_TO_ID[train_ids]),
    ):
        folder = town / "data" / top / split / "a"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / f"{name}_{kind}.png")


@pytest.fixture
def town(tmp_path, monkeypatch):
    """Cityscapes images of four stripes in the colours of classes 0..3, two in val, one unlabelled in test.

    In the first, 4 of the 10 columns painted as road are labelled sky (10), and the last 4 of 20 rows have no
    label. The checkpoint net.pth reads colours without an error.
    """
    ids = np.repeat(np.arange(4, dtype=np.uint8), 10)[None].repeat(20, 0)  # (20, 40)
    for name, split in (("a_000000_000000", "val"), ("a_000001_000000", "val"), ("a_000002_000000", "test")):
        image, labelled = np.array(CITYSCAPES.colors, np.uint8)[ids], ids.copy()
        if name == "a_000000_000000":
            labelled[:, :4] = 10
            labelled[16:] = 255
        if split == "test":
            labelled[:] = 255
        write_pair(tmp_path, split, name, image, labelled)
    monkeypatch.setitem(ARCHS, "ColourReader", ColourReader)
    weights = ColourReader().paint().state_dict()
    settings = {"arch": "ColourReader", "wt_layer": [0] * 7, "image_in": False, "dataset": ["gtav"]}
    write_checkpoint(tmp_path / "net.pth", weights, settings=settings)
    return tmp_path


def write_checkpoint(path, weights, **record):
    checkpoint.save(
        path, {"state_dict": {f"module.{key}": value for key, value in weights.items()}, **record}
    )


def rerecord(town, **settings):
    """Write the checkpoint's weights again with other settings."""
    state = checkpoint.load(town / "net.pth")
    checkpoint.save(town / "net.pth", state | {"settings": state["settings"] | settings})


def evaluate(town, *flags):
    snapshot = ["--snapshot", str(town / "net.pth")]
    data = ["--dataset_dir", str(town / "data"), "--num_workers", "0"]
    return evaluation.main(config.parse_eval_args([*snapshot, *data, *flags]))


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
    assert record["protocol"]["mapillary_protocol"] == "full" and record["protocol"]["precision"] == "float32"
    assert record["snapshot"] == str(town / "net.pth")
    assert record["snapshot_sha256"] == hashlib.sha256((town / "net.pth").read_bytes()).hexdigest()
    assert record["peak_gpu_memory_gib"] == 0 or torch.cuda.is_available()
    assert {"git_commit", "versions", "command"} <= set(record)
    assert record["metrics"]["cityscapes"]["confusion"][10][0] == 64

    files = sorted(
        path.relative_to(town / "eval_cityscapes" / "val").parts
        for path in (town / "eval_cityscapes" / "val").glob("*/*")
    )
    assert [folder for folder, _ in files] == sorted(2 * ["compose", "diff", "pred", "rgb", "truth"])
    assert all(name.startswith("a_00000") and name.endswith(".png") for _, name in files)

    def read(kind):
        (path,) = (town / "eval_cityscapes" / "val" / kind).glob("a_000000_000000*.png")
        return np.asarray(Image.open(path))

    classes = np.arange(40) // 10
    assert np.array_equal(read("pred"), np.broadcast_to(TRAIN_ID_TO_ID[classes], (20, 40)))
    assert np.array_equal(read("rgb")[0], np.array(CITYSCAPES.colors)[classes])
    assert np.array_equal(read("compose"), read("rgb"))  # the photo has these colours too
    sky = np.zeros((20, 40), bool)
    sky[:16, :4] = True
    truth = np.where(sky[..., None], CITYSCAPES.colors[10], np.array(CITYSCAPES.colors)[classes])
    truth[16:] = 0  # not labelled
    assert np.array_equal(read("truth"), truth)
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
    assert json.loads((town / "eval_cityscapes_test" / "results.json").read_text())["metrics"] == {
        "cityscapes": None
    }
    assert sorted(path.name for path in (town / "eval_cityscapes_test" / "test").iterdir()) == [
        "compose",
        "pred",
        "rgb",
    ]


def test_several_datasets_have_a_folder_each_and_a_table(town, capsys):
    """The same images serve as two domains; the checkpoint records that it was trained on gtav."""
    loader = evaluation.setup_eval_loader

    def same_images(args, name):
        args.roots.folders["cityscapes"] = town / "data"
        return loader(args, "cityscapes")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "setup_eval_loader", same_images)
        flags = ["--snapshot", str(town / "net.pth"), "--num_workers", "0", "--dump_images"]
        evaluation.main(config.parse_eval_args([*flags, "--single_scale", "--dataset", "gtav", "bdd100k"]))
    assert {path.name for path in (town / "eval").iterdir()} == {*FILES, "bdd100k_val", "gtav_val"}
    header, row, _ = capsys.readouterr().out.rstrip().splitlines()[-3:]
    assert header.split() == ["mIoU", "(%)", "gtav*", "bdd100k", "mean", "of", "unseen"]
    assert row.split() == ["net", "76.44", "76.44", "76.44"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--scales", "0"], "--scales"),
        (["--scales", "1,x"], "'1,x'"),
        (["--resume", "--overwrite"], "only one of them"),
        (["--crop_size", "0"], "--crop_size"),
        (["--max_memory_gb", "0"], "--max_memory_gb"),
        (["--split_index", "2", "--split_count", "2"], "--split_index"),
        (["--split_count", "0"], "split_count must be at least 1"),
        (["--ckpt_path", "/dev/null"], "results cannot be written"),
        (["--image_in"], "--image_in"),
        (["--inference_mode", "tiles"], "tiles"),
        (["--sliding_overlap", "1"], "--sliding_overlap"),
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
    ("flags", "words"),
    [
        (["--arch", "DeepR18V3PlusD"], ["arch", "ColourReader", "DeepR18V3PlusD"]),
        (["--wt_layer", *"0020000"], ["wt_layer", "[0, 0, 0, 0, 0, 0, 0]", "[0, 0, 2, 0, 0, 0, 0]"]),
        (["--image_in"], ["--image_in", "False", "True"]),
    ],
)
def test_flags_that_contradict_the_checkpoint(town, flags, words):
    with pytest.raises(UserError) as error:
        evaluate(town, *flags)
    assert all(word in str(error.value) for word in words)
    assert not list(town.glob("eval*"))  # no empty folder stays


def test_flags_that_agree_with_the_checkpoint(town):
    evaluate(town, "--single_scale", "--arch", "network.deepv3.ColourReader", "--wt_layer", *"0000000")


def test_image_in_comes_from_the_checkpoint(town):
    """The images are constant within a channel nowhere, so their own statistics change what is read."""
    evaluate(town, "--single_scale", "--exp_name", "imagenet")
    rerecord(town, image_in=True)
    evaluate(town, "--single_scale", "--exp_name", "own")
    records = [json.loads((town / name / "results.json").read_text()) for name in ("imagenet", "own")]
    assert [record["protocol"]["image_in"] for record in records] == [False, True]
    first, second = (record["metrics"]["cityscapes"]["confusion"] for record in records)
    assert first != second


def test_a_checkpoint_without_a_record(town):
    """It needs --arch; nothing is known of its training domains; --image_in decides."""
    weights = ColourReader().paint().state_dict()
    write_checkpoint(town / "net.pth", weights)
    with pytest.raises(UserError, match="--arch"):
        evaluate(town, "--single_scale")
    evaluate(town, "--single_scale", "--arch", "ColourReader", "--image_in")
    record = json.loads((town / "eval_cityscapes" / "results.json").read_text())
    assert record["protocol"]["image_in"] is True


def test_training_domains_are_marked(town, capsys):
    rerecord(town, dataset=["gtav", "synthia"], adapt_dataset="cityscapes")
    evaluate(town, "--single_scale")
    assert "cityscapes*" in capsys.readouterr().out


def test_classes_of_the_checkpoint(town):
    """Three classes of their own: names in the results, ids in the predictions, colours in the pictures."""
    table = ClassTable(("hay", "mud", "ice"), CITYSCAPES.colors[:3], ids=(5, 6, 7))
    reader = ColourReader(num_classes=3)
    full = ColourReader().paint().state_dict()
    reader.load_state_dict({key: value[:3] for key, value in full.items()})
    settings = {"arch": "ColourReader", "classes": table.to_dict()}
    write_checkpoint(town / "net.pth", reader.state_dict(), settings=settings)
    with pytest.raises(UserError, match="(?s)hay.*road"):
        evaluate(town, "--single_scale")
    folder = town / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 4), CITYSCAPES.colors[1]).save(folder / "mud.png")
    evaluate(town, "--dataset", "folder", "--dataset_dir", str(folder), "--single_scale", "--dump_images")
    record = json.loads((town / "eval_folder" / "results.json").read_text())
    assert record["classes"] == ["hay", "mud", "ice"]
    pictures = town / "eval_folder" / "val"
    assert np.unique(Image.open(pictures / "pred" / "mud.png")).tolist() == [6]
    assert Image.open(pictures / "rgb" / "mud_color.png").getpixel((0, 0)) == CITYSCAPES.colors[1]


FAST = ["--scales", "1.0,1.5", "--crop_size", "8"]


def share(rank, world_size, town):
    """Evaluate three images of different sizes as one of the processes."""
    ARCHS["ColourReader"] = ColourReader
    evaluation.distributed.init = lambda *args: torch.device("cpu")  # the group is there
    sys.argv = ["eval.py"]
    evaluate(town, *FAST, "--exp_name", "shared")


@pytest.mark.parametrize("world_size", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_results_do_not_depend_on_the_number_of_processes(town, monkeypatch, world_size):
    """Every file except the records has the same bytes; one process has an image more than the others."""
    for i, (height, width) in enumerate([(12, 20), (20, 9), (7, 7), (9, 31), (1, 40)]):
        ids = np.random.default_rng(i).integers(0, 19, (height, width))
        write_pair(town, "val", f"b_{i:06d}_000000", np.array(CITYSCAPES.colors, np.uint8)[ids], ids[::-1])
    monkeypatch.setattr(sys, "argv", ["eval.py"])
    evaluate(town, *FAST, "--exp_name", "alone")
    run_processes(share, world_size, town)
    for file in FILES - {"records"}:
        assert (town / "shared" / file).read_bytes() == (town / "alone" / file).read_bytes(), file
    metrics = json.loads((town / "shared" / "results.json").read_text())["metrics"]["cityscapes"]
    assert np.sum(metrics["confusion"]) == 1440 + 12 * 20 + 20 * 9 + 7 * 7 + 9 * 31 + 40
    assert metrics["images"] == 7


class Interrupted(Exception):
    pass


def test_an_interrupted_evaluation_is_resumed(town, monkeypatch):
    """It stops within the second image; the next run predicts only that image, with the same results."""
    whole = "--single_scale", "--exp_name", "whole"
    evaluate(town, *whole)
    once, seen = Recorder.finish, []

    def stop(recorder, done):
        seen.append(done.name)
        if len(seen) == 2:
            raise Interrupted
        once(recorder, done)

    part = "--single_scale", "--exp_name", "part"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Recorder, "finish", stop)
        evaluate(town, *part)
    assert not (town / "part" / "results.json").exists()
    with open(town / "part" / "records" / "cityscapes_val" / "process_0.jsonl", "a") as file:
        file.write('{"name": "a_0000')  # a line cut off
    predicted = []

    def remember(recorder, done):
        predicted.append(done.name)
        once(recorder, done)

    monkeypatch.setattr(Recorder, "finish", remember)
    evaluate(town, *part, "--resume")
    assert predicted == seen[1:]
    for file in ("results.csv", "images.csv"):
        assert (town / "part" / file).read_bytes() == (town / "whole" / file).read_bytes()
    evaluate(town, *part, "--resume")  # all images are finished
    assert predicted == seen[1:]


def test_only_the_same_evaluation_is_resumed(town):
    evaluate(town, "--single_scale")
    with pytest.raises(UserError, match=r"scales \[1.0\].*\[0.5\].*--resume"):
        evaluate(town, "--scales", "0.5", "--resume")
    state = checkpoint.load(town / "net.pth")
    state["state_dict"]["module.final2.bias"] += 1
    checkpoint.save(town / "net.pth", state)
    with pytest.raises(UserError, match="snapshot_sha256"):
        evaluate(town, "--single_scale", "--resume")
    with pytest.raises(UserError, match=r"scales \[1.0\], not \[0.5\].*--exp_name.*--overwrite"):
        evaluate(town, "--scales", "0.5")
    evaluate(town, "--scales", "0.5", "--overwrite")
    assert json.loads((town / "eval_cityscapes" / "results.json").read_text())["protocol"]["scales"] == [0.5]


def test_slices_add_up_to_the_whole(town, capsys):
    evaluate(town, "--single_scale", "--exp_name", "whole")
    for index in ("1", "0"):
        assert not (town / "parts" / "results.json").exists()
        evaluate(town, "--single_scale", "--split_count", "2", "--split_index", index, "--exp_name", "parts")
    assert "slices 0 of 2" in capsys.readouterr().out
    for file in ("results.csv", "images.csv"):
        assert (town / "parts" / file).read_bytes() == (town / "whole" / file).read_bytes()


def test_slices_of_different_settings_are_not_merged(town):
    evaluate(town, "--single_scale", "--split_count", "2", "--split_index", "0")
    with pytest.raises(UserError, match=r"scales.*0\.5"):
        evaluate(town, "--scales", "0.5", "--split_count", "2", "--split_index", "1")


def test_images_without_labels_become_a_submission(town):
    """For the test split, and for any folder, the label ids are written without --dump_images."""
    evaluate(town, "--split", "test", "--single_scale")
    (picture,) = (town / "eval_cityscapes_test" / "test").glob("*/*")
    assert picture.parts[-2:] == ("pred", "a_000002_000000.png")
    assert np.asarray(Image.open(picture))[0].tolist() == [7] * 10 + [8] * 10 + [11] * 10 + [12] * 10


def test_an_unreadable_image_of_a_folder_is_named_and_the_others_are_segmented(town, capsys):
    """Portrait, tiny and of mixed sizes, smaller than the windows."""
    folder = town / "photos"
    for i, size in enumerate([(9, 40), (40, 9), (1, 1), (1, 30)]):
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, CITYSCAPES.colors[i]).save(folder / "sub" / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    flags = ["--dataset", "folder", "--dataset_dir", str(folder), "--scales", "1.0,2.0"]
    assert evaluate(town, *flags) == 1
    out = capsys.readouterr().out
    assert "folder: 1 images cannot be read: broken" in out and "folder: no labels" in out
    record = json.loads((town / "eval_folder" / "results.json").read_text())
    assert record["unreadable"] == {"folder": ["broken"]}
    files = sorted((town / "eval_folder" / "val" / "pred" / "sub").iterdir())
    assert [np.unique(Image.open(file)).tolist() for file in files] == [[7], [8], [11], [12]]
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        evaluate(town, *flags, "--strict_data")


def test_images_that_differ_only_in_their_suffix_are_all_segmented(town, capsys):
    folder = town / "photos"
    folder.mkdir()
    for i, name in enumerate(("x.png", "x.bmp", "y.png")):
        Image.new("RGB", (8, 4), CITYSCAPES.colors[i]).save(folder / name)
    assert evaluate(town, "--dataset", "folder", "--dataset_dir", str(folder), "--single_scale") == 0
    assert (
        "results keep the suffix of images that differ in nothing else: x.bmp, x.png"
        in capsys.readouterr().out
    )
    pred = town / "eval_folder" / "val" / "pred"
    values = {path.name: np.unique(Image.open(path)).tolist() for path in pred.iterdir()}
    assert values == {"x.png.png": [7], "x.bmp.png": [8], "y.png": [11]}


def test_nothing_readable(town, capsys):
    (town / "photos").mkdir()
    (town / "photos" / "broken.jpg").write_bytes(b"no image")
    assert evaluate(town, "--dataset", "folder", "--dataset_dir", str(town / "photos")) == 1
    assert "folder: 1 images cannot be read: broken" in capsys.readouterr().out


def test_no_image_at_all(town, capsys):
    assert evaluate(town, "--dataset", "null") == 0
    assert "null: no labels, so no scores" in capsys.readouterr().out


def test_mistakes_are_found_before_the_checkpoint_is_loaded(town, monkeypatch):
    monkeypatch.setattr(evaluation.network, "load", lambda *args, **options: pytest.fail("it was loaded"))
    (town / "file").touch()
    for flags in (["--ckpt_path", str(town / "file")], ["--dataset_dir", "nowhere"], ["--scales", "-1"]):
        with pytest.raises((ValueError, OSError)):
            evaluate(town, *flags)


def test_other_classes_are_found_before_any_dataset_is_listed(town, monkeypatch):
    own = type("Own", (DATASETS["camvid"],), {"name": "own", "classes": ClassTable(("a",), ((0, 0, 0),))})
    monkeypatch.setitem(DATASETS, "own", own)
    monkeypatch.setattr(evaluation, "setup_eval_loader", lambda *args: pytest.fail("it was listed"))
    with pytest.raises(UserError, match=r"cityscapes \(19.* own \(1"):
        flags = ["--snapshot", str(town / "net.pth"), "--dataset", "cityscapes", "own"]
        evaluation.main(config.parse_eval_args(flags))


def test_a_mistyped_checkpoint_leaves_no_folder(town):
    with pytest.raises(MissingFile, match="none/net.pth"):
        evaluate(town, "--snapshot", str(town / "none" / "net.pth"))
    assert not (town / "none").exists()


def test_of_a_runs_folder_the_newest_checkpoint_is_scored(town):
    """A damaged one is not; the results are beside the one that is scored."""
    (town / "run").mkdir()
    (town / "net.pth").rename(town / "run" / "best_gtav_epoch_1_mean-iu_0.5.pth")
    (town / "run" / "last_gtav_epoch_2_mean-iu_0.5.pth").write_bytes(b"cut off")
    evaluate(town, "--snapshot", str(town))
    (results,) = town.glob("run/*/results.json")
    assert results.parent.name.endswith("_best_gtav")
    assert json.loads(results.read_text())["snapshot"] == str(next(town.glob("run/best*")))


def test_an_image_without_its_label_is_named(town):
    (town / "data" / "gtFine" / "val" / "a" / "a_000001_000000_gtFine_labelIds.png").unlink()
    with pytest.raises(FileNotFoundError, match="a_000001_000000_leftImg8bit.png.*labelIds.png"):
        evaluate(town, "--single_scale")


def test_too_little_memory_for_one_image(town, monkeypatch, capsys):
    """The larger of two images does not fit: it is named, and the other one is scored."""
    write_pair(town, "val", "b_000000_000000", np.zeros((20, 60, 3), np.uint8), np.zeros((20, 60), np.uint8))
    forward = evaluation.network.Segmenter.forward

    def fail(self, image):
        if image.shape[-1] > 40:
            raise NO_MEMORY[len(image) % 2]
        return forward(self, image)

    monkeypatch.setattr(evaluation.network.Segmenter, "forward", fail)
    assert evaluate(town, "--inference_mode", "whole") == 1
    out = capsys.readouterr().out
    assert "--max_memory_gb" in out
    assert "cityscapes: 1 images are too large for the memory: b_000000_000000" in out
    record = json.loads((town / "eval_cityscapes" / "results.json").read_text())
    assert record["metrics"]["cityscapes"]["images"] == 2


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
]


def files_of(folder):
    """Map every file and link below a folder to its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink() and path.exists()
    }


def test_what_is_wrong_with_one_labelled_image_costs_that_image(town, capsys):
    """A truncated image, a dangling link, an unknown label value, a label of another size, 1x1 px at 0.5."""
    for i in range(4):
        write_pair(town, "val", f"b_{i:06d}_000000", np.zeros((20, 40, 3), np.uint8), np.zeros((20, 40), int))
    write_pair(town, "val", "b_000004_000000", np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), int))
    images, labels = (town / "data" / top / "val" / "a" for top in ("leftImg8bit", "gtFine"))
    broken = images / "b_000000_000000_leftImg8bit.png"
    broken.write_bytes(broken.read_bytes()[:60])
    link = images / "b_000001_000000_leftImg8bit.png"
    link.unlink()
    link.symlink_to(town / "nothing.png")
    Image.new("L", (40, 20), 99).save(labels / "b_000002_000000_gtFine_labelIds.png")
    Image.new("L", (41, 20), 7).save(labels / "b_000003_000000_gtFine_labelIds.png")
    assert evaluate(town, "--scales", "0.5,1.0", "--crop_size", "16") == 4
    out = capsys.readouterr().out
    names = ", ".join(f"b_{i:06d}_000000" for i in range(4))
    assert f"cityscapes: 4 images cannot be read: {names}" in out
    assert "class id 99" in out and "differ in size" in out
    record = json.loads((town / "eval_cityscapes" / "results.json").read_text())
    assert record["metrics"]["cityscapes"]["images"] == 3
    assert record["unreadable"] == {"cityscapes": names.split(", ")}
    with pytest.raises(UserError, match="b_00000"):
        evaluate(town, "--scales", "0.5,1.0", "--crop_size", "16", "--strict_data")


def test_an_image_that_vanishes_is_left_out(town, monkeypatch):
    loader = evaluation.setup_eval_loader

    def vanish(args, name):
        opened = loader(args, name)
        loop.base_of(opened).samples[0].image.unlink()
        return opened

    monkeypatch.setattr(evaluation, "setup_eval_loader", vanish)
    assert evaluate(town, "--single_scale") == 1


def test_an_image_that_changes_is_left_out_and_evaluated_with_resume(town, monkeypatch, capsys):
    """Only its time changes, so with --resume the mean is that of both images."""
    predicted = loop.predicted

    def touch(evaluation, name, batch):
        for file in (town / "data/leftImg8bit/val").rglob("a_000001*"):
            os.utime(file, (1, 1))
        return predicted(evaluation, name, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "predicted", touch)
        assert evaluate(town, "--single_scale") == 1
    out = capsys.readouterr().out
    assert "left out: image " in out and "was changed after it was listed" in out
    assert "cityscapes: 1 images were changed meanwhile: a_000001_000000" in out
    assert evaluate(town, "--single_scale", "--resume") == 0
    assert "mIoU 76.44" in capsys.readouterr().out


def test_an_error_in_the_last_dataset_does_not_cost_the_first(town, monkeypatch, capsys):
    """A mistake of the program in the third dataset: scores of the first two are printed and written."""
    flags = ["--snapshot", str(town / "net.pth"), "--num_workers", "0", "--single_scale"]
    loader, predicted = evaluation.setup_eval_loader, loop.predicted

    def same_images(args, name):
        args.roots.folders["cityscapes"] = town / "data"
        return loader(args, "cityscapes")

    calls = []

    def fail(evaluation, name, batch):
        calls.append(name)
        if len(calls) == 5:
            raise Interrupted
        return predicted(evaluation, name, batch)

    monkeypatch.setattr(evaluation, "setup_eval_loader", same_images)
    monkeypatch.setattr(loop, "predicted", fail)
    with pytest.raises(Interrupted):
        evaluation.main(config.parse_eval_args([*flags, "--dataset", "gtav", "bdd100k", "kitti"]))
    assert capsys.readouterr().out.count("mIoU 76.44") == 2
    record = json.loads((town / "eval" / "results.json").read_text())
    assert list(record["metrics"]) == ["gtav", "bdd100k"] and record["unfinished"] == ["kitti"]
    assert "kitti" in (town / "eval" / "results.md").read_text()


def list_of_images(town):
    """Write a list in town/p/lists that names images outside, with absolute, odd and colliding names."""
    lists, photos = town / "p" / "lists", town / "p" / "photos"
    paths = [
        photos / "cat.png",
        lists / "x.png.png",
        lists / "x.png" / "y.png",
        photos / ("n" * 250 + ".png"),
    ]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 4), CITYSCAPES.colors[i]).save(path)
    relative = ["../photos/cat.png", "x.png.png", "x.png/y.png", str(paths[3])]
    (lists / "list.txt").write_text("\n".join(relative))
    return lists / "list.txt"


def test_names_do_not_lead_out_of_the_folder_of_the_results(town, capsys):
    """Everything is below the results' folder; the photographs are as they were; changed names are said."""
    listed = list_of_images(town)
    before = files_of(town / "p")
    flags = ["--dataset", "folder", "--dataset_dir", str(listed), "--single_scale", "--dump_images"]
    assert evaluate(town, *flags, "--ckpt_path", str(town / "p"), "--exp_name", "out") == 0
    after = files_of(town / "p")
    assert {name: data for name, data in after.items() if not name.startswith("out/")} == before
    preds = [path for path in (town / "p" / "out" / "val" / "pred").rglob("*.png")]
    assert sorted(int(np.unique(Image.open(path))[0]) for path in preds) == [7, 8, 11, 12]
    assert "x.png/y as x_png/y~" in capsys.readouterr().out


def test_a_name_that_is_not_text(town, capsys, monkeypatch):
    """Names of files, folders and the checkpoint's folder may be any bytes; what is written is UTF-8."""
    folder = Path(os.fsdecode(bytes(town) + b"/M\xfcnchen"))
    folder.mkdir()
    shutil.copy(town / "net.pth", folder / "net.pth")
    for name in (b"Stra\xdfe.png", b"a\nb.png", b"broken\xdf.png"):
        Image.new("RGB", (8, 4), CITYSCAPES.colors[1]).save(os.fsdecode(bytes(folder) + b"/" + name))
    Path(os.fsdecode(bytes(folder) + b"/broken\xdf.png")).write_bytes(b"no image")
    flags = ["--dataset", "folder", "--dataset_dir", str(folder), "--snapshot", str(folder / "net.pth")]
    monkeypatch.setattr(sys, "argv", ["eval.py", *flags])
    assert evaluate(town, *flags, "--single_scale") == 1
    assert r"Stra\xdfe as Stra_e~" in capsys.readouterr().out
    for name in FILES - {"records"}:
        (folder / "eval_folder" / name).read_text(encoding="utf-8")
    assert len(list((folder / "eval_folder" / "val" / "pred").iterdir())) == 2


def test_files_of_others_are_not_replaced(town):
    """Pictures, reports and records in the way, and links out of the folder, end the evaluation."""
    photos = town / "photos"
    Path(photos / "val" / "pred").mkdir(parents=True)
    Image.new("RGB", (8, 4), 1).save(photos / "x.png")
    Image.new("RGB", (8, 4), 2).save(photos / "val" / "pred" / "x.png")
    into = ["--dataset", "folder", "--dataset_dir", str(photos / "x.txt"), "--ckpt_path", str(town)]
    (photos / "x.txt").write_text("x.png\n")
    before = files_of(photos)
    for flags in (["--exp_name", "photos"], ["--exp_name", "photos", "--overwrite"]):
        with pytest.raises(UserError, match=r"pred/x\.png was not written by eval.py"):
            evaluate(town, *into, *flags)
    assert files_of(photos) == before
    for name in ("results.csv", "index.html", "records/folder_val/notes.txt"):
        path = town / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        with pytest.raises(UserError, match=f"{path.name} was not written by eval.py"):
            evaluate(town, *into, "--exp_name", "mine")
        assert path.read_text() == "mine"
        path.unlink()
    (town / "linked").mkdir()
    (town / "linked" / "val").symlink_to(photos / "val")
    with pytest.raises(UserError, match="by a link"):
        evaluate(town, *into, "--exp_name", "linked")
    assert files_of(photos) == before


def test_a_link_to_a_photograph_does_not_replace_it(town):
    """A picture of an earlier evaluation became a link to a photograph."""
    folder = town / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 4), CITYSCAPES.colors[1]).save(folder / "x.png")
    before = files_of(folder)
    flags = ["--dataset", "folder", "--dataset_dir", str(folder), "--single_scale"]
    evaluate(town, *flags)
    picture = town / "eval_folder" / "val" / "pred" / "x.png"
    for link in (picture.symlink_to, picture.hardlink_to):
        picture.unlink()
        link(folder / "x.png")
        evaluate(town, *flags)
        assert files_of(folder) == before and not picture.is_symlink()
        assert np.unique(Image.open(picture)).tolist() == [8]


def test_the_folder_holds_no_mixture(town):
    """Other splits, protocols and test mode are refused; --overwrite leaves nothing of the earlier one."""
    first = ["--single_scale", "--dump_images", "--exp_name", "out"]
    evaluate(town, *first)
    before = files_of(town / "out")
    for other in (["--split", "test"], ["--scales", "0.5,1"], ["--no_flip"], ["--test_mode"]):
        flags = [flag for flag in first if flag != "--single_scale" or other[0] != "--scales"]
        with pytest.raises(UserError, match="--overwrite"):
            evaluate(town, *flags, *other)
        with pytest.raises(UserError, match="--overwrite"):
            evaluate(town, *flags, *other, "--resume")
    assert files_of(town / "out") == before
    (town / "out" / "notes.txt").write_text("mine")
    evaluate(town, "--single_scale", "--exp_name", "out", "--split", "test", "--overwrite")
    after = files_of(town / "out")
    assert not [name for name in after if "val" in name and name != "notes.txt"]
    assert "test/pred/a_000002_000000.png" in after and after["notes.txt"] == b"mine"
    evaluate(town, *first, "--overwrite")
    assert set(files_of(town / "out")) == {*before, "notes.txt"}
    evaluate(town, "--single_scale", "--exp_name", "out")  # the same evaluation without pictures
    assert not (town / "out" / "val").exists()


def test_other_data_are_not_resumed(town, capsys):
    """Of two images one has other pixels: only that one is evaluated again. A vanished one does not count."""
    flags = ["--single_scale", "--exp_name", "out", "--dump_images"]
    evaluate(town, *flags)
    road = np.array(CITYSCAPES.colors, np.uint8)[np.zeros((20, 40), int)]
    write_pair(town, "val", "a_000001_000000", road, np.zeros((20, 40), int))
    evaluate(town, *flags, "--resume")
    assert "1 finished images have other data" in capsys.readouterr().out
    resumed = (town / "out" / "images.csv").read_bytes()
    evaluate(town, "--single_scale", "--exp_name", "anew")
    assert resumed == (town / "anew" / "images.csv").read_bytes()
    for top, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        (town / "data" / top / "val" / "a" / f"a_000000_000000_{kind}.png").unlink()
    evaluate(town, *flags, "--resume")
    assert "1 finished images are not in the data" in capsys.readouterr().out
    assert not list((town / "out" / "val").glob("*/a_000000*"))
    record = json.loads((town / "out" / "results.json").read_text())
    assert record["metrics"]["cityscapes"]["confusion"][0][0] == 800


def test_deleted_pictures_are_made_again(town):
    flags = ["--single_scale", "--exp_name", "out", "--dump_images"]
    evaluate(town, *flags)
    before = files_of(town / "out")
    pictures = [name for name in before if name.endswith((".png", ".jpg"))]
    assert len(pictures) == 2 * 5 + 2
    for name in pictures[::4]:
        file = town / "out" / name
        file.unlink() if name.endswith("_color.png") else file.write_bytes(before[name][:-1])
        evaluate(town, *flags, "--resume")
        after = files_of(town / "out")
        assert all(after[name] == before[name] for name in [*pictures, "results.csv", "images.csv"])


def test_a_flipped_bit_in_the_records_changes_no_score(town):
    """Bits of the records and the settings are flipped, one at a time, then resumed or refused."""
    flags = ["--single_scale", "--exp_name", "out", "--inference_mode", "whole"]
    evaluate(town, *flags)
    expected = (town / "out" / "images.csv").read_bytes()
    folder = town / "out" / "records" / "cityscapes_val"
    content = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path, good in content.items():
        for position in range(3, len(good), 151):
            for other, whole in content.items():
                other.write_bytes(whole)
            bad = bytearray(good)
            bad[position] ^= 1 << position % 8
            path.write_bytes(bad)
            try:
                evaluate(town, *flags, "--resume")
            except UserError:
                continue
            assert (town / "out" / "images.csv").read_bytes() == expected, (path, position)


def test_a_checkpoint_that_is_replaced_while_it_is_read(town, monkeypatch):
    """As by a training that goes on: the results would name the hash of another file."""
    load = evaluation.load_network

    def replaced(*args):
        content = (town / "net.pth").read_bytes()
        (town / "net.pth").unlink()
        (town / "net.pth").write_bytes(content)
        return load(*args)

    monkeypatch.setattr(evaluation, "load_network", replaced)
    with pytest.raises(UserError, match="net.pth was replaced or removed while it was read"):
        evaluate(town, "--single_scale")


def test_a_checkpoint_that_is_replaced_once_it_is_hashed(town, monkeypatch):
    """By another network, before anything else is read."""
    other = {"arch": "ColourReader", "wt_layer": [0] * 7, "image_in": True}
    write_checkpoint(town / "other.pth", ColourReader().state_dict(), settings=other)

    def replaced(*args):
        digest = sha256(*args)
        os.replace(town / "other.pth", town / "net.pth")
        return digest

    monkeypatch.setattr(evaluation, "sha256", replaced)
    with pytest.raises(UserError, match="net.pth was replaced or removed while it was read"):
        evaluate(town, "--single_scale")


def compare_files(rank, world_size, folders):
    """Return what this process says when the file that was in the first folder is now that of its own."""
    before = evaluation.state_of_file(folders[0] / "net.pth")
    os.chdir(folders[rank])
    with pytest.raises(UserError) as error:
        evaluation.check_same_file("net.pth", before, "the hash")
    return str(error.value)


@pytest.mark.parametrize("there", [True, False])
def test_all_processes_know_that_the_checkpoint_was_replaced_or_removed(there, town):
    """None waits for one that has noticed it."""
    other = town / "other"
    other.mkdir()
    if there:
        (other / "net.pth").touch()
    said = run_processes(compare_files, 2, [town, other])
    assert "was replaced or removed" in said[0] and said[0] == said[1]


def test_networks_from_synthia_are_scored_over_its_16_classes_too(town, capsys):
    """A third image of 800 px is road, read as truck, which SYNTHIA lacks.

    Road 296/(360 + 800), sky and truck 0, three classes 1: six classes, the truck not among the 16.
    """
    road = np.zeros((20, 40), np.uint8)
    write_pair(town, "val", "a_000003_000000", np.array(CITYSCAPES.colors, np.uint8)[road + 14], road)
    rerecord(town, dataset=["synthia"])
    evaluate(town, "--single_scale")
    assert "mIoU of 16 classes 65.10" in capsys.readouterr().out
    scores = json.loads((town / "eval_cityscapes" / "results.json").read_text())["metrics"]["cityscapes"]
    assert scores["mean_iu_16"] == pytest.approx((296 / 1160 + 3) / 5)
    assert scores["mean_iu"] == pytest.approx((296 / 1160 + 3) / 6)
    assert set(evaluation.class_subsets(["synthia"])) == {"mean_iu_16"}
    assert evaluation.class_subsets(["gtav", "gtav"]) == {}


def test_scores_are_those_of_the_official_tool(town, toy_town):
    """Cityscapes' own evaluation (PyPI cityscapesscripts) of the `pred` pictures, to every printed digit.

    It leaves classes in neither truth nor prediction out of its mean (nan), as we do; a licence plate (-1) is
    never drawn. Reading street colours as classes is mostly wrong, but predicts most classes.
    """
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    official.args.evalInstLevelScore, official.args.JSONOutput, official.args.quiet = False, False, True
    flags = ["--scales", "0.5,1.0", "--crop_size", "48", "--dump_images"]
    evaluate(town, *flags, "--dataset_dir", str(toy_town / "cityscapes"))
    ours = json.loads((town / "eval_cityscapes" / "results.json").read_text())["metrics"]["cityscapes"]
    preds = sorted((town / "eval_cityscapes" / "val" / "pred").iterdir())
    samples = DATASETS["cityscapes"](toy_town / "cityscapes", "val", None).samples
    truths = sorted((str(sample.label) for sample in samples), key=lambda path: Path(path).name)
    theirs = official.evaluateImgLists([str(pred) for pred in preds], truths, official.args)
    assert ours["mean_iu"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    scores = [math.nan if iou is None else iou for iou in ours["iou"]]
    expected = [theirs["classScores"][name] for name in CITYSCAPES.names]
    assert scores == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert sum(iou > 0 for iou in scores) > 3 and any(math.isnan(iou) for iou in scores)


def test_camvid_is_scored_over_its_11_classes(town, capsys):
    """Half of the road is read as truck, which CamVid lacks: road 1/2, the mean of the only class is 1/2."""
    ids = np.zeros((20, 40), np.uint8)
    ids[:10] = 14
    folder = town / "camvid"
    save(folder / "val" / "x.png", np.array(CITYSCAPES.colors, np.uint8)[ids])
    save(folder / "valannot" / "x.png", np.full((20, 40), 3))  # road
    evaluate(town, "--dataset", "camvid", "--dataset_dir", str(folder), "--single_scale")
    assert len(DATASETS["camvid"].occurring) == 11
    record = json.loads((town / "eval_camvid" / "results.json").read_text())
    assert record["metrics"]["camvid"]["mean_iu"] == 0.5
    assert record["averaged"] == {"camvid": [0]} and record["network"]["arch"] == "ColourReader"
    assert record["training_domains"] == ["gtav"]
    out = capsys.readouterr().out
    assert (
        "mIoU 50.00" in out
        and "mean over 1 classes" in out
        and "predicted, excluded from the mean: truck" in out
    )
    assert "sliding, scales 1.0, mirrored, crop 1024 px" in out and "split val" in out


def test_a_run_folder_is_enough(town, monkeypatch, capsys):
    """The checkpoint is the newest in the folder, and the data are where the training had them.

    Data elsewhere that the environment names come first, which is said.
    """
    run = town / "run"
    run.mkdir()
    shutil.copy(town / "net.pth", run / "last_gtav_epoch_1_mean-iu_0.10000.pth")
    state = checkpoint.load(town / "net.pth")
    (town / "root").mkdir()
    (town / "root" / "cityscapes").symlink_to(town / "data")
    state["settings"]["data_root"] = str(town / "root")
    checkpoint.save(run / "last_gtav_epoch_2_mean-iu_0.20000.pth", state)
    monkeypatch.chdir(town)
    monkeypatch.delenv("CITYSCAPES_DIR", raising=False)
    argv = ["--snapshot", str(run), "--dataset", "cityscapes", "--single_scale", "--num_workers", "0"]
    assert evaluation.main(config.parse_eval_args(argv)) == 0
    record = json.loads((run / "eval_cityscapes" / "results.json").read_text())
    assert "epoch_2" in record["snapshot"] and record["metrics"]["cityscapes"]["images"] == 2
    assert "(--data_root" not in capsys.readouterr().out
    shutil.copytree(town / "data", town / "other")
    monkeypatch.setenv("CITYSCAPES_DIR", str(town / "other"))
    assert evaluation.main(config.parse_eval_args([*argv, "--exp_name", "other"])) == 0
    words = f"is read from {town}/other; the training had {town}/root/cityscapes (--data_root {town}/root)"
    assert words in capsys.readouterr().out


PEAK = """
import sys
import config, eval as evaluation
from network import ARCHS
from tests.test_eval import ColourReader
from utils.evaluation import memory

ARCHS["ColourReader"] = ColourReader
left_out = evaluation.main(config.parse_eval_args(sys.argv[1:]))
print("peak", left_out, memory._status("VmHWM") / 2**30)  # getrusage would give that of the parent
"""


def evaluate_large(town, width, height, limit, *flags):
    """Segment a large image and a small one in another process; return what it printed, and its peak."""
    folder = town / "photos"
    folder.mkdir()
    stripes = np.array(CITYSCAPES.colors, np.uint8)[np.arange(height) * 8 // height]
    Image.fromarray(np.broadcast_to(stripes[:, None], (height, width, 3))).save(folder / "large.png")
    Image.new("RGB", (20, 10), CITYSCAPES.colors[1]).save(folder / "small.png")
    data = ["--dataset", "folder", "--dataset_dir", str(folder), "--max_memory_gb", str(limit)]
    snapshot = ["--snapshot", str(town / "net.pth")]
    done = run_command([sys.executable, "-c", PEAK, *snapshot, *data, *flags], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    *_, left_out, peak = done.stdout.split()
    return done.stdout, int(left_out), float(peak)


def test_a_large_image_stays_within_the_memory(town):
    """1000 x 1000 px: the scores at scale 2 are 0.28 GiB, their copies as much; 0.25 GiB are free."""
    flags = "--crop_size", "256", "--scales", "2.0", "--no_flip"
    out, left_out, peak = evaluate_large(town, 1000, 1000, 0.95, *flags)
    assert left_out == 0 and peak < 0.95, out
    pred = np.asarray(Image.open(town / "eval_folder" / "val" / "pred" / "large.png"))
    assert pred.shape == (1000, 1000)
    middle = np.arange(8) * 1000 // 8 + 60
    assert pred[middle, 500].tolist() == list(CITYSCAPES.ids[:8])


def test_an_image_that_does_not_fit_is_named(town):
    """One pass over the whole image cannot be divided; its scores are 0.32 GiB."""
    out, left_out, peak = evaluate_large(town, 3000, 1500, 0.95, "--inference_mode", "whole")
    assert left_out == 1 and peak < 0.95
    assert "folder: 1 images are too large for the memory: large" in out
    assert (town / "eval_folder" / "val" / "pred" / "small.png").is_file()


@pytest.mark.slow
def test_12000_by_6000_px(town):
    """The scores at both scales and their copies would be 10 GiB."""
    flags = "--scales", "0.5,1.0", "--no_flip"
    out, left_out, peak = evaluate_large(town, 12000, 6000, 5, *flags)
    assert left_out == 0 and peak < 5, out
