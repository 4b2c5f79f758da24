"""Adaptation to a target domain as a user runs it: batch norm first, then self-training from its weights."""

import re
import struct

import pytest
import torch

import config
from tests.helpers import ISW, events, flags, run, run_command, the_checkpoint, torchrun
from utils import checkpoint
from utils.errors import UserError

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
    assert names == {"last_gtav", "ema_gtav-teacher"}
    state = checkpoint.load(the_checkpoint(adapted / "sac"))
    assert (state["iteration"], state["adaptation"]["_extra_state"]["batches"]) == (4, 4)
    assert state["target_sampler"] == {"epoch": 0, "position": 8}  # 2 images per iteration
    ema = checkpoint.load(the_checkpoint(adapted / "sac", "ema"))["state_dict"]
    teacher = {k.removeprefix("teacher."): v for k, v in state["adaptation"].items() if "teacher." in k}
    torch.testing.assert_close({k.removeprefix("module."): v for k, v in ema.items()}, teacher)
    assert not torch.equal(ema["module.final2.0.weight"], state["state_dict"]["module.final2.0.weight"])


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


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_a_batch_of_views_is_divided(processes):
    args = config.parse_train_args(["--adapt_dataset", "cityscapes", "--sac_phase", "abn"])
    config.complete(args, processes, 19)


@pytest.mark.parametrize("processes", [3, 16])
def test_a_batch_of_views_that_cannot_be_divided(processes):
    args = config.parse_train_args(["--adapt_dataset", "cityscapes", "--sac_phase", "abn"])
    with pytest.raises(UserError, match=f"--sac_images 2 of --sac_views 4 .* {processes} processes"):
        config.complete(args, processes, 19)
