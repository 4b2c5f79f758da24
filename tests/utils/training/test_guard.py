"""A step that is not finite changes nothing; several in a row end the run with the names of their files."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from network.adaptation import SelfTraining
from tests.helpers import small_trainer
from utils.errors import UserError
from utils.training.guard import MOST_IN_A_ROW, Guard
from utils.training.means import RunningMeans


@pytest.fixture
def trainer():
    net = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    return SimpleNamespace(
        net=net,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        device=torch.device("cpu"),
        iteration=0,
        means=RunningMeans(),
        adaptation=None,
    )


def step(trainer, guard, value, names=("a", "b")):
    trainer.optimizer.zero_grad()
    loss = trainer.net(torch.full((1, 2), value)).sum()
    loss.backward()
    trainer.optimizer.step()
    trainer.iteration += 1
    trainer.means.add({"train": loss.detach()})
    guard.check(names)


def test_a_step_that_is_not_finite_leaves_weights_and_momentum(trainer, capsys):
    guard = Guard(trainer)
    step(trainer, guard, 1.0)
    weight = trainer.net.weight.clone()
    momentum = trainer.optimizer.state[trainer.net.weight]["momentum_buffer"].clone()
    step(trainer, guard, float("inf"))
    assert torch.equal(trainer.net.weight, weight)
    assert torch.equal(trainer.optimizer.state[trainer.net.weight]["momentum_buffer"], momentum)
    assert (guard.in_a_row, guard.left_out) == (1, 1)
    step(trainer, guard, 1.0)
    assert not torch.equal(trainer.net.weight, weight)
    assert (guard.in_a_row, guard.left_out) == (0, 1)
    means, _ = trainer.means.take()
    assert torch.tensor(means["train"]).isfinite()  # the step in between does not count


def test_several_in_a_row_end_the_run_with_the_names(trainer):
    guard = Guard(trainer)
    with pytest.raises(UserError, match=f"iteration {MOST_IN_A_ROW}: train .*last one of c, d"):
        for names in ("ab", "ab", "cd"):
            step(trainer, guard, float("nan"), names)


def views(images):
    """Target views of images (V, 3, H, W) that are not moved, as one group."""
    matrix = torch.eye(2, 3, dtype=torch.float64).expand(len(images), 2, 3)
    valid = torch.ones_like(images[:, 0], dtype=torch.bool)
    group = {"student": images, "teacher": images, "matrix": matrix, "inverse": matrix, "valid": valid}
    return {name: values[None] for name, values in group.items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_left_out_leaves_everything(value):
    """Weights, momentum, statistics of batch norm, the teacher and the class prior stay bit for bit."""
    trainer, batch = small_trainer()
    trainer.adaptation = SelfTraining(trainer.net, 19, views=2)
    guard = Guard(trainer)

    def state():
        parts = trainer.net, trainer.adaptation.class_prior, trainer.adaptation.teacher
        return copy.deepcopy(
            [part.state_dict() for part in parts] + [trainer.optimizer.state_dict()["state"]]
        )

    def step(image):
        trainer.step(batch | {"image": image}, views(image))
        guard.check("ab")
        return state()

    first = step(batch["image"])
    spoilt = batch["image"].clone()
    spoilt[0, 0, 0, 0] = value
    for ours, expected in zip(step(spoilt), first, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert guard.left_out == 1
    moved = step(batch["image"])
    assert not any(torch.equal(moved[0][name], first[0][name]) for name in moved[0] if "running" in name)


def test_a_step_that_the_scaler_leaves_out_restores_the_statistics(trainer):
    trainer.net.register_buffer("mean", torch.zeros(2))
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    Guard(trainer)
    for value, mean in ((1.0, 1.0), (float("inf"), 1.0), (3.0, 3.0)):
        trainer.optimizer.zero_grad()
        trainer.net.mean.fill_(value)
        trainer.scaler.scale(trainer.net(torch.full((1, 2), value)).sum()).backward()
        trainer.scaler.step(trainer.optimizer)
        trainer.scaler.update()
        assert (trainer.net.mean == mean).all()


def test_a_step_of_one_s_own_restores_the_statistics_too():
    """README invites to override Trainer.step, which then knows nothing of the statistics."""
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1, bias=False))
    trainer = SimpleNamespace(
        net=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.1),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        device=torch.device("cpu"),
        iteration=0,
        means=RunningMeans(),
        adaptation=None,
    )
    guard = Guard(trainer)
    before = copy.deepcopy(net[0].state_dict())
    for value, moves in ((float("nan"), False), (2.0, True), (float("inf"), False)):
        trainer.optimizer.zero_grad()
        net(torch.tensor([[1.0, 2.0], [3.0, value]])).sum().backward()
        trainer.optimizer.step()
        guard.check(["a"])
        after = copy.deepcopy(net[0].state_dict())
        assert torch.equal(after["running_mean"], before["running_mean"]) is not moves
        assert after["num_batches_tracked"] - before["num_batches_tracked"] == moves
        before = after
