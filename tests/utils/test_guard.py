"""A step that is not finite changes nothing; several in a row end the run with the names of their files."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from utils.errors import UserError
from utils.guard import MOST_IN_A_ROW, Guard
from utils.logging import RunningMeans


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
