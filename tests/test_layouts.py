"""One global batch on 1, 2 or 4 processes: the same data, random numbers and, up to rounding, losses."""

import pytest
import torch

import config
import train
from tests.helpers import ISW, flags, run_processes, the_checkpoint
from utils import checkpoint
from utils.training.trainer import Trainer


def losses(rank, world_size, argv):
    """Run train.main in float64 in the group that is there; return this process's loss of each step."""

    def double_net(*args):
        net = get_net(*args).double()
        net.layer0.register_forward_pre_hook(lambda layer, images: images[0].double())
        return net

    def step(self, *batches):
        plain_step(self, *batches)
        seen.append(self.means.last["train"].item())

    get_net, plain_step, seen = train.get_net, Trainer.step, []
    train.get_net, Trainer.step = double_net, step
    train.distributed.init = lambda *args: torch.device("cpu")
    train.main(config.parse_train_args(argv))
    return seen


def joint_losses(processes, argv):
    """Return the losses of each step on that many processes, whose mean is the loss of the joint batch."""
    return torch.tensor(run_processes(losses, processes, argv), dtype=torch.float64).mean(0)


def arguments(town, folder, *more):
    """Three epochs of two steps of 4 samples, masks after the first.

    With a larger lr a difference of rounding grows more than tenfold in each step.
    """
    setting = [
        "--cov_stat_epoch",
        "0",
        "--max_iter",
        "6",
        "--lr",
        "0.0003",
        "--crop_size",
        "32",
        "--class_uniform_pct",
        "0.5",
    ]
    setting += ["--global_batch_size", "4", "--val_dataset", "null", "--resume", "auto", *ISW]
    return flags(town, folder, *setting, *more)


def assert_near(folder, other):
    states = [checkpoint.load(the_checkpoint(place, "last_unscored")) for place in (folder, other)]
    assert states[0]["whitening"]["masks.0.num_selected"] > 0
    for part, tolerance in (("whitening", 0), ("state_dict", 1e-3)):
        ours, expected = (state[part] for state in states)
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance / 1000)
    return True


DOMAINS = ["--dataset", "gtav", "synthia", "--global_batch_size", "8"]
SEPARATE = [*DOMAINS, "--domain_steps", "separate", "--jointwtborder", "--batch_weighting"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "compared"),
    [([], 6), (DOMAINS, 6), (SEPARATE, 3)],  # with two steps in an iteration, rounding grows much faster
    ids=["one domain", "joint domains", "separate domains"],
)
def test_layouts_are_equal(more, compared, toy_town, tmp_path):
    """Dropout, means over labelled pixels, batch norm, masks; then 2 processes are continued by 1."""
    expected = joint_losses(1, arguments(toy_town, tmp_path / "1", *more))
    assert len(expected) == 6 and expected.isfinite().all()
    for processes in (2, 4):
        found = joint_losses(processes, arguments(toy_town, tmp_path / str(processes), *more))
        torch.testing.assert_close(found[:compared], expected[:compared], rtol=1e-5, atol=0)
        assert compared < 6 or assert_near(tmp_path / str(processes), tmp_path / "1")
    first = joint_losses(2, arguments(toy_town, tmp_path / "both", *more, "--stop_after", "3"))
    rest = joint_losses(1, arguments(toy_town, tmp_path / "both", *more))
    again = torch.cat([first, rest])
    torch.testing.assert_close(again[:compared], expected[:compared], rtol=1e-5, atol=0)
    assert compared < 6 or assert_near(tmp_path / "both", tmp_path / "1")
