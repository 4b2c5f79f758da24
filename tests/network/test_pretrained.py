import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model, get_model_weights, resnet18

from network import ARCHS, DeepV3Plus, mnasnet, resnet
from network.archs import builder, find_family
from network.pretrained import RECIPE, imagenet_state, renamed
from network.weights import load_weights
from tests.helpers import Payload, rename_in_pickle
from utils import checkpoint
from utils.errors import DamagedFile

BUILD = ARCHS["DeepR18V3PlusD"]
GOLDEN = Path(__file__).parents[1] / "golden"
DEEP_STEM = json.loads((GOLDEN / "fidelity_F2.json").read_text())["F2 resnet101 file"]
CASES = json.loads((GOLDEN / "models.json").read_text())["cases"]
TRUNKS = [
    *(("resnet", name) for name in resnet.VARIANTS if not name.endswith("deep_stem")),
    *(("mnasnet", name) for name in mnasnet.ALPHAS),
    ("mobilenet", "mobilenet_v2"),
    ("shufflenet", "shufflenet_v2_x1_0"),
]


@pytest.mark.parametrize(("family", "name"), TRUNKS)
def test_torchvisions_entries_are_those_of_the_stages(family, name):
    """Shapes are equal, except the classifier's; torchvision offers weights of the recipe."""
    with torch.device("meta"):
        trunk, net = get_model(name).state_dict(), builder(DeepV3Plus, f"{family}.build", name, 16)()
        prefixes = find_family(f"{family}.build")(name, (0,) * 7, 16).prefixes
    theirs = {renamed(key, prefixes): value.shape for key, value in trunk.items()}
    ours = {key: value.shape for key, value in net.state_dict().items() if key.startswith("layer")}
    assert {key: shape for key, shape in theirs.items() if not key.startswith(("fc", "classifier"))} == ours
    assert RECIPE in get_model_weights(name).__members__


@pytest.mark.parametrize(
    ("arch", "name", "ours", "theirs"),
    [
        ("DeepMobileNetV3PlusD", "mobilenet_v2", "layer3.2.conv.1.0.weight", "features.13.conv.1.0.weight"),
        ("DeepShuffleNetV3PlusD", "shufflenet_v2_x1_0", "layer4.layer.0.weight", "conv5.0.weight"),
        ("DeepMNASNet05V3PlusD", "mnasnet0_5", "layer4.1.running_var", "layers.15.running_var"),
    ],
)
def test_mobile_trunks_load(arch, name, ours, theirs, tmp_path):
    """MobileNet's layer3 begins with features[11], MNASNet's layer4 with layers[14]."""
    state = {key: torch.rand_like(value.float()) for key, value in get_model(name).state_dict().items()}
    torch.save(state, tmp_path / "trunk.pth")
    net = ARCHS[arch](pretrained=str(tmp_path / "trunk.pth"))
    torch.testing.assert_close(net.state_dict()[ours], state[theirs])


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['arch']}-{''.join(map(str, c['wt_layer']))}")
def test_published_checkpoints_load_strictly(case, tmp_path):
    """With `module.` names and NumPy 1 scalars: all entries load, and also as --pretrained."""
    build, codes = ARCHS[case["arch"]], tuple(case["wt_layer"])
    with torch.device("meta"):
        entries = build(wt_layer=codes).state_dict()
    # one stored number each: the file is small
    state = {
        f"module.{key}": torch.tensor(0.5).to(value.dtype).expand(value.shape)
        for key, value in entries.items()
    }
    path = tmp_path / "published.pth"
    scalars = {"mean_iu": np.float64(0.4), "epoch": np.int64(7), "acc": np.float32(0.9), "command": "python"}
    torch.save({"state_dict": state, "optimizer": {}, **scalars}, path)
    rename_in_pickle(path, b"numpy._core.multiarray", b"numpy.core.multiarray")
    net = build(wt_layer=codes)
    report = load_weights(net, checkpoint.load(path)["state_dict"])
    assert report.complete and len(report.loaded) == len(entries)
    again = build(wt_layer=codes, pretrained=str(path))
    for value in (*net.parameters(), *again.parameters()):
        assert (value == 0.5).all()


def test_nothing_in_a_file_of_weights_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": BUILD().state_dict(), "payload": Payload()}, "bad.pth")
    with pytest.raises(ValueError, match="bad.pth"):
        BUILD(pretrained="bad.pth")
    assert not os.path.exists("executed")


def test_torchvision_names_reach_the_stages(tmp_path, caplog):
    trunk = resnet18()
    torch.save(trunk.state_dict(), tmp_path / "trunk.pth")
    with caplog.at_level("INFO", "robustnet"):
        net = BUILD(pretrained=str(tmp_path / "trunk.pth"))
    torch.testing.assert_close(net.layer0[0].weight, trunk.conv1.weight)
    torch.testing.assert_close(net.layer0[1].running_var, trunk.bn1.running_var)
    torch.testing.assert_close(net.layer4[1].conv2.weight, trunk.layer4[1].conv2.weight)
    assert "120 entries loaded" in caplog.text  # 122 of torchvision less the two of fc
    assert "left random: aspp, bot_aspp, bot_fine, dsn, final1, final2" in caplog.text
    assert "2 not of this network: fc" in caplog.text


def test_entries_of_another_shape_are_left_out_and_named(tmp_path, caplog):
    state = BUILD(num_classes=11).state_dict()
    torch.save(state, tmp_path / "camvid.pth")
    with caplog.at_level("INFO", "robustnet"):
        BUILD(pretrained=str(tmp_path / "camvid.pth"))
    assert "4 of another shape: dsn, final2" in caplog.text  # weight and bias of both last convolutions


def test_a_whitened_stem_leaves_its_batch_norm_entries_out(tmp_path, caplog):
    """The 5 entries of the trunk's first batch norm have no place, but its convolution loads."""
    trunk = resnet18()
    torch.save(trunk.state_dict(), tmp_path / "trunk.pth")
    with caplog.at_level("INFO", "robustnet"):
        net = BUILD(wt_layer=(0, 0, 2, 2, 2, 0, 0), pretrained=str(tmp_path / "trunk.pth"))
    torch.testing.assert_close(net.layer0[0].weight, trunk.conv1.weight)
    assert [key for key in net.state_dict() if key.startswith("layer0")] == ["layer0.0.weight"]
    assert "115 entries loaded" in caplog.text  # 120 less those 5
    assert "7 not of this network: fc, layer0" in caplog.text  # fc has 2


def test_published_prefix_and_checkpoint_form(tmp_path):
    source = BUILD()
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "checkpoint.pth")
    net = BUILD(pretrained=str(tmp_path / "checkpoint.pth"))
    torch.testing.assert_close(net.state_dict(), source.state_dict())


def published_file():
    """Return entries like those of the published file of the deep stem: entry k is k + 1 everywhere."""
    stem = [(key, shape) for key, (_, shape) in DEEP_STEM["renamed"].items()]
    shapes = [*stem, *DEEP_STEM["entries"].items(), *DEEP_STEM["not_of_the_network"].items()]
    return {key: torch.tensor(k + 1.0).expand(shape) for k, (key, shape) in enumerate(shapes)}


@pytest.mark.parametrize("case", DEEP_STEM["unused"], ids=lambda case: "".join(map(str, case["wt_layer"])))
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_file_of_the_deep_stem_loads_whole(case, prefix, tmp_path, caplog):
    """F2: every entry is taken except those of fc and those that the norms of the stem have no place for."""
    file = published_file()
    torch.save({prefix + key: value for key, value in file.items()}, tmp_path / "resnet101.pth")
    with caplog.at_level("INFO", "robustnet"):
        net = ARCHS["DeepR101V3PlusD_OS8"](
            wt_layer=case["wt_layer"], pretrained=str(tmp_path / "resnet101.pth")
        )
    own, left_out = net.state_dict(), {*case["entries"], *DEEP_STEM["not_of_the_network"]}
    names = {key: ours for key, (ours, _) in DEEP_STEM["renamed"].items()}
    taken = {names.get(key, key): value for key, value in file.items() if key not in left_out}
    for key, value in taken.items():
        assert own[key].shape == value.shape and (own[key] == value[(0,) * value.ndim]).all(), key
    assert f"{len(taken)} entries loaded" in caplog.text
    if not any(case["wt_layer"]):
        assert len(taken) == 530
        random = [key for key in own if key.startswith("layer") and key not in taken]
        assert all(key.endswith("num_batches_tracked") for key in random)


def test_the_deep_stem_takes_a_file_only(tmp_path):
    """The stem of this form of file is called conv1.0 to conv1.6, and its last norm is bn1."""
    build = ARCHS["DeepR101V3PlusD"]
    with pytest.raises(ValueError, match="ResNet-101 .*network/README.md .*--pretrained PATH"):
        build(pretrained="imagenet")
    weight, norm = torch.randn(128, 64, 3, 3), torch.randn(128)
    torch.save({"conv1.6.weight": weight, "bn1.weight": norm}, tmp_path / "stem.pth")
    net = build(pretrained=str(tmp_path / "stem.pth"))
    torch.testing.assert_close(net.layer0[6].weight, weight)
    torch.testing.assert_close(net.layer0[7].weight, norm)


def test_nothing_that_fits_is_an_error(tmp_path):
    torch.save({"foo": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: .* 1 entries"):
        BUILD(pretrained=str(tmp_path / "other.pth"))


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(ValueError, match="notes.txt"):
        BUILD(pretrained=str(tmp_path / "notes.txt"))


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="--pretrained .*nowhere.pth"):
        BUILD(pretrained="nowhere.pth")


def test_without_a_network_the_expected_file_and_the_flag_are_named(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(FileNotFoundError, match=r"checkpoints/resnet18-\w+\.pth .*--pretrained PATH.*none"):
        imagenet_state("resnet18")


def test_a_damaged_download_is_named(tmp_path, monkeypatch):
    """torchvision's file of the old form has no checksums; its name has the hash."""
    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    url = get_model_weights("resnet18")[RECIPE].url
    path = tmp_path / "hub/checkpoints" / url.rpartition("/")[2]
    torch.save(resnet18().state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(DamagedFile, match=f"{path} is damaged: .* delete it, then it is downloaded again"):
        imagenet_state("resnet18")


def test_the_newest_checkpoint_of_a_folder(tmp_path):
    source = BUILD()
    checkpoint.save(tmp_path / "run/last_gtav_epoch_1.pth", {"state_dict": source.state_dict()})
    net = BUILD(pretrained=str(tmp_path))
    torch.testing.assert_close(net.state_dict(), source.state_dict())
