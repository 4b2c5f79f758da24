"""Dropout of a joint batch, with processes played one after the other."""

import pytest
import torch

from network.dropout import JointDropout2d
from utils import distributed


@pytest.mark.parametrize("domains", [1, 2])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_an_image_loses_the_same_channels_on_any_number_of_processes(processes, domains, monkeypatch):
    """Four samples of one image for each domain; sample i is on process i % n."""
    layer = JointDropout2d(0.5)
    layer.domains = domains
    x = torch.rand(4 * domains, 8, 2, 3) + 1
    torch.manual_seed(0)
    expected = torch.nn.functional.dropout2d(x, 0.5)
    assert 0 < (expected == 0).float().mean() < 1
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    samples, parts = x.unflatten(0, (-1, domains)), []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        part = layer(samples[rank::processes].flatten(0, 1))
        parts.append(part.unflatten(0, (-1, domains)))
    joint = torch.empty_like(samples)
    for rank, part in enumerate(parts):
        joint[rank::processes] = part
    torch.testing.assert_close(joint.flatten(0, 1), expected, rtol=0, atol=0)


def test_nothing_is_dropped_in_eval_mode(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(JointDropout2d(0.5).eval()(x), x)
