"""A checkpoint opens in one line of Python, without flags."""

import numpy as np
import pytest
import torch
from PIL import Image

import network
from network import ARCHS
from network.archs import REBUILT
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import MissingFile, UserError

ARCH, CODES = "DeepR18V3PlusD", [0, 0, 2, 2, 0, 0, 0]
ANIMALS = ClassTable(("cat", "dog", "cow"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def write(path, table=CITYSCAPES, **settings):
    """Write a checkpoint as training does, of a network whose predictions differ from pixel to pixel."""
    torch.manual_seed(0)
    net = ARCHS[ARCH](num_classes=len(table), wt_layer=CODES)
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"state_dict": state, **({"settings": settings} if settings else {})}, path)
    return net.eval()


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def labels_by_hand(net, photo, mean, std):
    image = (photo / 255 - np.array(mean)) / np.array(std)
    with torch.inference_mode():
        logits = net(torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None]).logits
    return logits[0].argmax(0).numpy()


@pytest.mark.parametrize("image_in", [False, True])
def test_a_checkpoint_needs_no_more_arguments(tmp_path, photo, image_in):
    """ImageNet's mean and std, or with image_in those of the image, which is (std unbiased) + 1e-5."""
    net = write(
        tmp_path / "a.pth", arch=ARCH, wt_layer=CODES, image_in=image_in, classes=CITYSCAPES.to_dict()
    )
    segmenter = network.load(tmp_path / "a.pth")
    values = photo.reshape(-1, 3) / 255
    own = values.mean(0), values.std(0, ddof=1) + 1e-5
    mean, std = own if image_in else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    labels = segmenter.segment(photo)
    assert labels.dtype == np.uint8 and labels.shape == (48, 80) and len(np.unique(labels)) > 1
    assert (labels == labels_by_hand(net, photo, mean, std)).mean() > 0.999  # except ties within rounding
    assert segmenter.classes == CITYSCAPES and segmenter.image_in is image_in and segmenter.report.complete
    assert (segmenter.settings["arch"], segmenter.settings["wt_layer"]) == (ARCH, CODES)
    assert not segmenter.training and segmenter(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 19, 32, 32)


def test_path_image_and_array_give_the_same(tmp_path, photo):
    write(tmp_path / "a.pth", arch=ARCH, wt_layer=CODES)
    segmenter, image = network.load(str(tmp_path / "a.pth")), Image.fromarray(photo)
    image.save(tmp_path / "photo.png")
    expected, before = segmenter.segment(photo), photo.copy()
    image.putalpha(255)  # a fourth channel, which is dropped
    for form in (tmp_path / "photo.png", str(tmp_path / "photo.png"), image, photo):
        assert np.array_equal(segmenter.segment(form), expected)
    assert np.array_equal(photo, before)


def test_images_that_cannot_be_read(tmp_path):
    write(tmp_path / "a.pth", arch=ARCH, wt_layer=CODES)
    segmenter = network.load(tmp_path / "a.pth")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(MissingFile, match="nowhere.png"):
        segmenter.segment("nowhere.png")
    with pytest.raises(UserError, match="notes.txt"):
        segmenter.segment(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"\(H, W, 3\), not float64 \(2, 2\)"):
        segmenter.segment(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arch": "DeepR50V3PlusD"}, "--arch DeepR18V3PlusD, not DeepR50V3PlusD"),
        ({"wt_layer": (0,) * 7}, r"--wt_layer \[0, 0, 2, .*not \[0, 0, 0"),
        ({"classes": ANIMALS}, "cat, dog, cow"),
    ],
)
def test_arguments_that_contradict_the_record(tmp_path, given, message):
    write(tmp_path / "a.pth", arch=ARCH, wt_layer=CODES, classes=CITYSCAPES.to_dict())
    with pytest.raises(UserError, match=message):
        network.load(tmp_path / "a.pth", **given)
    agreeing = {"arch": f"network.deepv3.{ARCH}", "wt_layer": tuple(CODES), "classes": CITYSCAPES}
    assert network.load(tmp_path / "a.pth", **agreeing).report.complete


def test_a_published_checkpoint_needs_a_name(tmp_path, caplog):
    """It records nothing; a norm without weights leaves no trace in them, so the assumption is logged."""
    write(tmp_path / "a.pth")
    with pytest.raises(UserError, match="a.pth .*--arch"):
        network.load(tmp_path / "a.pth")
    assert network.load(tmp_path / "a.pth", arch=ARCH, wt_layer=CODES).classes == CITYSCAPES
    assert "--wt_layer" not in caplog.text
    with pytest.raises(UserError, match="layer0.1"), caplog.at_level("WARNING", "robustnet"):
        network.load(tmp_path / "a.pth", arch=ARCH)  # the stem has a batch norm then
    assert "--wt_layer" in caplog.text


def test_classes_fit_the_head(tmp_path, photo):
    write(tmp_path / "a.pth", ANIMALS, arch=ARCH, wt_layer=CODES)
    assert network.load(tmp_path / "a.pth", classes=ANIMALS).segment(photo).max() < 3
    with pytest.raises(UserError, match="scores 3 .* has 19"):
        network.load(tmp_path / "a.pth")
    write(tmp_path / "b.pth", ANIMALS, arch=ARCH, wt_layer=CODES, classes=ANIMALS.to_dict())
    assert network.load(tmp_path / "b.pth").classes == ANIMALS


def test_a_missing_checkpoint():
    with pytest.raises(MissingFile, match="nowhere.pth"):
        network.load("nowhere.pth")


@pytest.mark.parametrize("arch", REBUILT)
def test_a_checkpoint_of_an_earlier_network_is_refused(arch, tmp_path):
    """Its weights may have the same names and shapes; the strides differ."""
    weights = {"layer0.0.weight": torch.zeros(1)}
    settings = {"arch": arch, "wt_layer": [0] * 7}
    torch.save({"state_dict": weights, "settings": settings, "version": 1}, tmp_path / "old.pth")
    with pytest.raises(UserError, match=f"old.pth was written when {arch}.*train it again"):
        network.load(tmp_path / "old.pth")
