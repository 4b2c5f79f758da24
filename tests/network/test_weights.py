"""How the weights of a checkpoint fill a network."""

import pytest
import torch
from torch import nn

from network.weights import load_weights
from utils.errors import UserError


def small_net():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_a_checkpoint_that_fits_no_entry_is_an_error():
    with pytest.raises(UserError, match="1 unexpected: foo.*--arch"):
        load_weights(small_net(), {"foo": torch.zeros(1)}, allow_partial=True)


def test_entries_that_do_not_fit_are_named():
    state = small_net().state_dict()
    state["0.weight"] = torch.zeros(5, 1, 1, 1)
    state["extra"] = state.pop("1.bias")
    with pytest.raises(UserError, match="1 missing: 1.bias; 1 unexpected: extra; 1 mismatched: 0.weight"):
        load_weights(small_net(), state)
    report = load_weights(small_net(), state, allow_partial=True)
    assert len(report.loaded) == 5 and not report.complete


def test_names_may_begin_with_module():
    net, other = small_net(), small_net()
    report = load_weights(other, {f"module.{key}": value for key, value in net.state_dict().items()})
    assert report.complete and str(report) == "7 entries loaded"
    torch.testing.assert_close(other.state_dict(), net.state_dict())
