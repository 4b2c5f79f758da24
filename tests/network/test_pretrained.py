import pytest
import torch
from torchvision.models import resnet18

from network import ARCHS
from network.pretrained import imagenet_state, load_pretrained

BUILD = ARCHS["DeepR18V3PlusD"]


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


def test_a_whitened_stem_leaves_its_batch_norm_entries_out(tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "trunk.pth")
    BUILD(wt_layer=(0, 0, 2, 2, 2, 0, 0), pretrained=str(tmp_path / "trunk.pth"))


def test_published_prefix_and_checkpoint_form(tmp_path):
    source = BUILD()
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "checkpoint.pth")
    net = BUILD(pretrained=str(tmp_path / "checkpoint.pth"))
    torch.testing.assert_close(net.state_dict(), source.state_dict())


def test_the_deep_stem_takes_a_file_only(tmp_path):
    build = ARCHS["DeepR101V3PlusD"]
    with pytest.raises(ValueError, match="name a file with --pretrained PATH"):
        build(pretrained="imagenet")
    weight, norm = torch.randn(128, 64, 3, 3), torch.randn(128)
    torch.save({"conv1.6.weight": weight, "bn1.weight": norm}, tmp_path / "stem.pth")
    net = build(pretrained=str(tmp_path / "stem.pth"))
    torch.testing.assert_close(net.layer0[6].weight, weight)
    torch.testing.assert_close(net.layer0[7].weight, norm)


def test_nothing_that_fits_is_an_error(tmp_path):
    torch.save({"foo": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="none of its 1 entries fits"):
        load_pretrained(BUILD(), "resnet18", str(tmp_path / "other.pth"))


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(ValueError, match="notes.txt holds no weights that can be read safely"):
        BUILD(pretrained=str(tmp_path / "notes.txt"))


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.pth: no such file"):
        BUILD(pretrained="nowhere.pth")


def test_without_a_network_the_expected_file_and_the_flag_are_named(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(FileNotFoundError, match=r"checkpoints/resnet18-\w+\.pth .*--pretrained PATH.*none"):
        imagenet_state("resnet18")
