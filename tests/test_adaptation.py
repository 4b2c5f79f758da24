"""Adaptation to a target domain as a user runs it: batch norm first, then self-training from its weights."""

import re
import struct
from types import SimpleNamespace

import pytest
import torch

import config
from datasets.loaders import setup_loaders
from network.adaptation import NormAdaptation
from tests.helpers import ISW, events, flags, run, run_command, the_checkpoint, torchrun
from utils import checkpoint
from utils.errors import UserError
from utils.training.trainer import Trainer

SMALL = ["--sac_crop", "32", "64", "--sac_views", "2", "--sac_images", "2", "--lr_schedule", "constant"]
SMALL += ["--adapt_dataset", "cityscapes", "--lr", "0.0001", "--lr_bias", "2", "--bs_mult", "4"]


def sac(snapshot, *more):
    return [*SMALL, "--sac_teacher_every", "3", "--snapshot", str(snapshot), *more]


@pytest.fixture(scope="module")
def adapted(toy_town, tmp_path_factory):
    """An epoch of batch norm adaptation, then two of self-training, 2 iterations each.

    A network this young is sure of no pixel, so that nothing would be taught: self-training starts from
    sure.pth, whose logits are 60 times as large.
    """
    folder = tmp_path_factory.mktemp("adapted")
    run(flags(toy_town, folder / "abn", *SMALL, "--sac_phase", "abn", "--max_epoch", "1"))
    state = checkpoint.load(the_checkpoint(folder / "abn"))
    for name in ("weight", "bias"):
        state["state_dict"][f"module.final2.0.{name}"] *= 60
    torch.save(state, folder / "sure.pth")
    run(flags(toy_town, folder / "sac", *sac(folder / "sure.pth"), "--max_epoch", "2"))
    return folder


def target_losses(folder):
    """Read what was logged: in the protobuf record of a scalar its tag, 0x15 (field 2, 32 bits), a float."""
    (file,) = folder.glob("tb/**/events*")
    found = re.findall(rb"loss/target_loss\x15(.{4})", file.read_bytes(), re.DOTALL)
    return [struct.unpack("<f", value)[0] for value in found]


def test_what_is_written(adapted):
    """No best checkpoint: labels of validation datasets select nothing."""
    names = {path.name.split("_epoch")[0] for path in adapted.glob("*/ckpt/**/*.pth")}
    assert names - {"previous_gtav"} == {"last_gtav", "ema_gtav-teacher"}
    state = checkpoint.load(the_checkpoint(adapted / "sac"))
    assert (state["iteration"], state["adaptation"]["_extra_state"]["batches"]) == (4, 4)
    assert state["target_sampler"] == {"epoch": 0, "position": 8}  # 2 images per iteration
    ema = checkpoint.load(the_checkpoint(adapted / "sac", "ema"))["state_dict"]
    teacher = {k.removeprefix("teacher."): v for k, v in state["adaptation"].items() if "teacher." in k}
    torch.testing.assert_close({k.removeprefix("module."): v for k, v in ema.items()}, teacher)
    assert not torch.equal(ema["module.final2.0.weight"], state["state_dict"]["module.final2.0.weight"])


def test_the_second_phase_takes_over_only_the_weights(adapted):
    """Not the epoch (1 was finished), the iteration (2) or the momentum: it trains its whole length."""
    first, second = (checkpoint.load(the_checkpoint(adapted / name)) for name in ("abn", "sac"))
    assert (first["epoch"], first["iteration"]) == (0, 2)
    assert (second["epoch"], second["iteration"], second["best"]) == (1, 4, {})


def test_the_teachers_count_does_not_start_anew_with_each_epoch(adapted):
    """Updates at batches 0 and 3 (--sac_teacher_every 3) of 2 epochs of 2: the teacher has moved."""
    state = checkpoint.load(the_checkpoint(adapted / "sac"))["adaptation"]
    sure = checkpoint.load(adapted / "sure.pth")["state_dict"]
    assert state["_extra_state"]["batches"] == 4
    assert not torch.equal(state["teacher.layer0.0.weight"], sure["module.layer0.0.weight"])


def test_statistics_of_batch_norm_stay_in_self_training_only(adapted):
    abn, after = (checkpoint.load(the_checkpoint(adapted / name))["state_dict"] for name in ("abn", "sac"))
    assert abn["module.layer0.1.num_batches_tracked"] == 4  # 2 source and 2 target batches
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(abn[f"module.layer0.1.{name}"], after[f"module.layer0.1.{name}"])
    for name in ("layer0.0.weight", "layer0.1.weight", "layer0.1.bias"):
        assert not torch.equal(abn[f"module.{name}"], after[f"module.{name}"])


def test_what_is_logged(adapted):
    tags = events(adapted / "sac")
    scalars = {
        "loss/target_loss",
        "loss/train_loss",
        "prior/road",
        "kept/bicycle",
        "cityscapes-teacher/mean_iu",
    }
    assert {(tag, "simple_value") for tag in scalars} <= tags
    assert ("views/student-fused-label", "image") in tags


def test_the_target_loss_is_logged_and_trains(adapted, toy_town, tmp_path):
    """A log line per epoch; without the target loss the same batches of the source lead elsewhere."""
    losses = target_losses(adapted / "sac")
    assert len(losses) == 2 and min(losses) > 0
    more = ["--sac_weight", "0", "--val_dataset", "null", "--max_epoch", "2"]
    run(flags(toy_town, tmp_path, *sac(adapted / "sure.pth", *more)))
    assert target_losses(tmp_path) == [0, 0]
    name = "module.layer0.0.weight"
    weights = [the_checkpoint(adapted / "sac"), the_checkpoint(tmp_path, "last_unscored")]
    taught, untaught = (checkpoint.load(path)["state_dict"][name] for path in weights)
    assert not torch.allclose(taught, untaught)


def test_self_training_continues_exactly(adapted, toy_town, tmp_path):
    """Teacher, prior and the place among the target's images included."""
    run(flags(toy_town, tmp_path / "a", *sac(adapted / "sure.pth"), "--max_epoch", "1"))
    rest = sac(the_checkpoint(tmp_path / "a"), "--restore_optimizer", "--max_epoch", "2")
    run(flags(toy_town, tmp_path / "b", *rest))
    once, twice = (checkpoint.load(the_checkpoint(folder)) for folder in (adapted / "sac", tmp_path / "b"))
    for part in ("state_dict", "optimizer", "adaptation", "target_sampler", "iteration"):
        torch.testing.assert_close(twice[part], once[part], rtol=0, atol=0)


def test_a_whitened_student_and_a_selected_checkpoint(toy_town, tmp_path):
    run(flags(toy_town, tmp_path / "isw", *ISW, "--max_iter", "1"))
    more = ["--max_iter", "2", "--select_on", "cityscapes", *ISW]
    run(flags(toy_town, tmp_path / "sac", *sac(the_checkpoint(tmp_path / "isw"), *more)))
    assert the_checkpoint(tmp_path / "sac", "best_cityscapes")
    assert {("loss/whitening_loss", "simple_value"), ("loss/target_loss", "simple_value")} <= events(
        tmp_path / "sac"
    )


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes(processes, adapted, toy_town, tmp_path):
    """With 4 processes each has one of the two views of an image."""
    argv = flags(toy_town, tmp_path, *sac(adapted / "sure.pth"), "--bs_mult", "1", "--max_iter", "2")
    done = run_command(torchrun(processes, "train.py", *argv))
    assert done.returncode == 0, done.stderr
    assert checkpoint.load(the_checkpoint(tmp_path))["target_sampler"] == {"epoch": 0, "position": 4}
    assert min(target_losses(tmp_path)) > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--sac_phase sac .*--snapshot"),
        (["--sac_phase", "abn", "--sac_crop", "33", "64"], r"--sac_crop .*\[33, 64\]"),
        (["--snapshot", "x", "--select_on", "kitti"], "--select_on kitti .*--val_dataset"),
        (
            ["--snapshot", "x", "--dataset", "gtav", "synthia", "--domain_steps", "separate"],
            "--domain_steps separate .*--adapt_dataset",
        ),
    ],
)
def test_flags_that_cannot_work(more, message):
    with pytest.raises(UserError, match=message):
        config.parse_train_args(["--adapt_dataset", "cityscapes", *more])


def adaptation(phase, *more):
    return config.parse_train_args(
        ["--dataset", "gtav", "--adapt_dataset", "cityscapes", "--sac_phase", phase, "--snapshot", "x", *more]
    )


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_a_batch_of_views_is_divided(processes):
    config.complete(adaptation("sac"), processes, 19)


@pytest.mark.parametrize("processes", [3, 16])
def test_a_batch_of_views_that_cannot_be_divided(processes):
    with pytest.raises(UserError, match=f"--sac_images 2 of --sac_views 4 .* {processes} processes"):
        config.complete(adaptation("sac"), processes, 19)


def test_images_of_the_first_phase_are_divided_or_shared():
    for images, processes in (("8", 4), ("2", 4), ("2", 2)):
        config.complete(adaptation("abn", "--sac_images", images), processes, 19)
    with pytest.raises(UserError, match="--sac_images 8 .* 3 processes"):
        config.complete(adaptation("abn", "--sac_images", "8"), 3, 19)


def test_more_processes_than_images_share_them(toy_town, monkeypatch):
    """Two target images on 4 processes: each crop is seen by two, so that the statistics are those of two."""
    flags = ["--data_root", str(toy_town), "--num_workers", "0", "--crop_size", "32", "--bs_mult", "1"]
    args = adaptation("abn", "--val_dataset", "null", *flags)
    monkeypatch.setattr("utils.distributed.world_size", lambda: 4)
    crops = []
    for rank in range(4):
        monkeypatch.setattr("utils.distributed.rank", lambda rank=rank: rank)
        crops.append(next(iter(setup_loaders(args).target))["teacher"])
    assert crops[0].shape == (1, 1, 3, 32, 32)
    assert torch.equal(crops[0], crops[1]) and torch.equal(crops[2], crops[3])
    assert not torch.equal(crops[0], crops[2])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sac_zoom", "0.5", "1.5"], r"--sac_zoom .*\[0.5, 1.5\]"),
        (["--sac_scale", "1.2", "1.1"], r"--sac_scale .*\[1.2, 1.1\]"),
        (["--sac_blur", "0", "2"], r"--sac_blur .*\[0.0, 2.0\]"),
        (["--sac_jitter", "0.4", "0.6"], r"--sac_jitter .*\[0.4, 0.6\]"),
        (["--sac_conf_lower", "1.5"], "--sac_conf_lower .*1.5"),
        (["--sac_beta", "0"], "--sac_beta .*0"),
        (["--sac_uniform_classes", "x"], "--sac_uniform_classes .*'x'"),
        (["--jitter", "-1", "0"], r"--jitter .*\[-1.0, 0.0\]"),
        (["--augmentation", "da_sac", "--pre_size", "9", "--rrotate", "3"], "da_sac .*--pre_size, --rrotate"),
        (["--augmentation", "da_sac", "--crop_shape", "0", "5"], r"--crop_shape .*\[0, 5\]"),
        (["--augmentation", "da_sac", "--aug_device", "gpu"], "da_sac .*--aug_device gpu"),
        (["--lr_head", "0"], "--lr_head .*0"),
        (["--weight_decay_bias", "-1"], "--weight_decay_bias .*-1"),
    ],
)
def test_settings_that_cannot_work(flags, message):
    with pytest.raises(UserError, match=message):
        adaptation("sac", *flags)


def test_a_class_beyond_the_table_cannot_draw_uniformly():
    with pytest.raises(UserError, match="--sac_uniform_classes takes train ids 0..18, not 19"):
        config.complete(adaptation("sac", "--sac_uniform_classes", "19"), 1, 19)


def test_the_published_data_reach_the_network(toy_town, tmp_path):
    """The source's crops are not square and padded by 0; the target's have the same size and padding."""
    small = [
        "--adapt_dataset",
        "cityscapes",
        "--crop_shape",
        "40",
        "64",
        "--num_workers",
        "0",
        "--bs_mult",
        "2",
    ]
    small += ["--sac_phase", "abn", "--sac_images", "2", "--source_colors", "gtav", "cityscapes"]
    small += [
        "--augmentation",
        "da_sac",
        "--scale_min",
        "0.5",
        "--scale_max",
        "0.5",
        "--data_root",
        str(toy_town),
    ]
    args = config.parse_train_args(["--dataset", "gtav", "--val_dataset", "null", *small])
    loaders = setup_loaders(config.complete(args, 1, 19))
    batch, target = next(iter(loaders.train)), next(iter(loaders.target))
    assert batch["image"].shape == (2, 3, 40, 64) and target["teacher"].shape == (2, 1, 3, 40, 64)
    for image in (batch["image"][0], target["teacher"][0, 0]):  # 32x64 px of 64x128, centred in 40 rows
        assert (image[:, :4] == 0).all() and (image[:, -4:] == 0).all() and (image[:, 4:-4] != 0).any()
    assert (batch["label"][:, :4] == 255).all()


def test_the_target_moves_the_statistics_after_the_optimizer_step():
    """The mean after two passes is 0.9 (0.1 source) + 0.1 target; the target's is of the new weights."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4))
    trainer = Trainer(
        net,
        lambda output, label, iteration: {"main": output.square().mean() + output.sum()},
        None,
        torch.optim.SGD(net.parameters(), 0.5),
        None,
        SimpleNamespace(photometric=None, steps_per_batch=1),
        {"fp16": False},
        NormAdaptation(),
    )
    trainer.source_losses = lambda image, label: {"main": (net(image) * image[:, :1]).mean()}
    trainer.schedule, loader = SimpleNamespace(step=lambda: None), SimpleNamespace(batch_size=1)
    loader.sampler = SimpleNamespace(advance=lambda count: None)
    trainer.loaders.train = loader
    source, target = torch.randn(2, 3, 8, 8), torch.randn(2, 1, 3, 8, 8)
    before = net[0].weight.detach().clone()
    mean = torch.nn.functional.conv2d(source, before).mean((0, 2, 3))
    net.train()
    trainer.step({"image": source, "label": torch.zeros(2, 8, 8)}, {"teacher": target})
    assert not torch.allclose(before, net[0].weight)
    moved = net[0](target.flatten(0, 1)).mean((0, 2, 3))
    expected = 0.9 * (0.1 * mean) + 0.1 * moved
    torch.testing.assert_close(net[1].running_mean, expected.detach(), rtol=1e-4, atol=1e-6)
    assert net[1].num_batches_tracked == 2
