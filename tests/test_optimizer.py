import json
from pathlib import Path

import pytest
import torch

from config import parse_train_args
from network import ARCHS
from optimizer import get_optimizer, poly, rescaled_poly
from utils.errors import UserError

GOLDEN = json.loads((Path(__file__).parent / "golden/misc.json").read_text())
FIDELITY = json.loads((Path(__file__).parent / "golden/fidelity_F4.json").read_text())
CONFIGURATIONS = FIDELITY["F4 settings"]["configurations"]


def test_poly_golden():
    factor = poly(40000, 0.9)
    for iteration, expected in GOLDEN["poly lr factor (max_iter 40000, exp 0.9)"].items():
        assert factor(int(iteration)) == pytest.approx(expected, rel=1e-12)


def test_rescaled_poly_by_hand():
    factor = rescaled_poly(100, 1.0, switch=20, rescale=0.5, repoly=2.0)
    assert factor(19) == pytest.approx(0.81)  # still the first: 1 - 19 / 100
    assert factor(20) == pytest.approx(0.5)  # 0.5 * (1 - 0 / 80) ** 2
    assert factor(60) == pytest.approx(0.5 * 0.25)  # 0.5 * (1 - 40 / 80) ** 2


@pytest.fixture(scope="module")
def net():
    return ARCHS["DeepR18V3PlusD"]()


def test_sgd_as_published(net):
    optimizer, schedule = get_optimizer(parse_train_args(["--max_iter", "100"]), net)
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 5e-4)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.99**0.9)


def test_flags_the_published_code_ignored_work(net):
    args = ["--adam", "--amsgrad", "--weight_decay", "0.1", "--freeze_trunk"]
    optimizer, _ = get_optimizer(parse_train_args(args), net)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["amsgrad"] and optimizer.param_groups[0]["weight_decay"] == 0.1
    trained = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert not any(id(p) in trained for p in net.layer0.parameters())
    assert all(id(p) in trained for p in net.final2.parameters())


def test_unknown_schedule_is_named(net):
    args = parse_train_args([])
    args.lr_schedule = "cosine"
    with pytest.raises(UserError, match="--lr_schedule cosine .*scl-poly"):
        get_optimizer(args, net)


def test_biases_learn_faster_at_a_constant_rate():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    args = parse_train_args(["--lr", "0.1", "--lr_bias", "2", "--lr_schedule", "constant", "--max_iter", "5"])
    optimizer, schedule = get_optimizer(args, net)
    for _ in range(7):
        optimizer.step()
        schedule.step()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {"0.weight": 0.1, "0.bias": 0.2, "1.weight": 0.1, "1.bias": 0.2}
    assert {name: rates[id(p)] for name, p in net.named_parameters()} == expected
    assert {group["weight_decay"] for group in optimizer.param_groups} == {5e-4}


def group_settings(optimizer):
    """Return (tensors, values, learning rate, weight decay) of each group."""
    return [
        [len(g["params"]), sum(p.numel() for p in g["params"]), g["lr"], g["weight_decay"]]
        for g in optimizer.param_groups
    ]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_published_groups_of_adaptation(name):
    """Batch norm scales are weights, their shifts biases; the order of the groups does not matter."""
    published = CONFIGURATIONS[name]
    with torch.device("meta"):
        net = ARCHS[published["arch"]]()
    flags = ["--lr", str(published["lr"]), "--lr_bias", "2", "--lr_head", "10", "--weight_decay_bias", "0"]
    optimizer, _ = get_optimizer(parse_train_args([*flags, "--lr_schedule", "constant"]), net)
    expected = [group[1:] for group in published["groups"]]
    for found, group in zip(sorted(group_settings(optimizer)), sorted(expected), strict=True):
        assert found == pytest.approx(group, rel=1e-12)
    options = optimizer.param_groups[0]
    assert (options["momentum"], options["nesterov"]) == (published["momentum"], published["nesterov"])


@pytest.mark.parametrize(
    ("flags", "groups"),
    [
        ([], 1),
        (["--lr_bias", "2"], 2),
        (["--weight_decay_bias", "0"], 2),
        (["--lr_head", "10"], 2),
        (["--lr_bias", "2", "--lr_head", "10"], 4),
    ],
)
def test_no_more_groups_than_needed(flags, groups):
    with torch.device("meta"):
        net = ARCHS["DeepR18V3PlusD"]()
    optimizer, _ = get_optimizer(parse_train_args(flags), net)
    assert len(optimizer.param_groups) == groups
    trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in net.parameters() if p.requires_grad)
