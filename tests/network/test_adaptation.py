"""The rules of DA-SAC on examples by hand; golden/sac.json holds a teacher update of the published code."""

import inspect
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import config
import network
from network import SegOutput
from network.adaptation import (
    BETA,
    ClassPrior,
    NormAdaptation,
    SelfTraining,
    consistency_loss,
    fuse,
    pseudo_label,
    thresholds,
    update_teacher,
)
from tests.helpers import run_processes

PROBE = json.loads((Path(__file__).parents[1] / "golden/sac.json").read_text())["ema_probe"]
IDENTITY = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
MIRROR = torch.tensor([[-1.0, 0, 0], [0, 1, 0]])
# the right half, at double width and height, of the middle rows: x' = 2 x - 1, y' = 2 y, and back
RIGHT, RIGHT_BACK = torch.tensor([[2.0, 0, -1], [0, 2, 0]]), torch.tensor([[0.5, 0, 0.5], [0, 0.5, 0]])


def test_the_flags_have_the_defaults_of_the_class(monkeypatch):
    given = {}
    monkeypatch.setattr(network, "SelfTraining", lambda net, classes, **options: given.update(options))
    network.get_adaptation(
        config.parse_train_args(["--adapt_dataset", "cityscapes", "--snapshot", "s"]), None
    )
    parameters = inspect.signature(SelfTraining).parameters.values()
    assert given == {p.name: p.default for p in parameters if p.default is not p.empty}


class Net(nn.Module):
    """A tiny segmentation network with parameters, running statistics and a count."""

    def __init__(self, classes=3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, classes, 1), nn.BatchNorm2d(classes)

    def forward(self, image):
        return SegOutput(self.norm(self.conv(image)), None, ())


def test_a_published_teacher_update():
    teacher, student = nn.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    for net, values in ((teacher, "before"), (student, "student")):
        for tensor in (net.weight, net.bias, net.running_mean, net.running_var):
            tensor.data.copy_(torch.tensor(PROBE[values]).double())
    student.num_batches_tracked += 7
    update_teacher(teacher, student, 0.99)
    for tensor in (teacher.weight, teacher.bias, teacher.running_mean, teacher.running_var):
        torch.testing.assert_close(tensor.detach(), torch.tensor(PROBE["after"]).double(), rtol=1e-6, atol=0)
    assert teacher.num_batches_tracked == 7


def one_hot(classes, count=3):
    """Return class ids (H, W) as (1, K, H, W)."""
    return F.one_hot(torch.tensor(classes), count).permute(2, 0, 1)[None].float()


def test_mirrored_views_are_averaged_in_the_reference():
    """View 1 is a mirror image. In the reference its classes are (1, 0); those of view 0 are (0, 0)."""
    probs = torch.cat([one_hot([[0, 0]]), one_hot([[0, 1]])])
    fused = fuse(probs, torch.stack([IDENTITY, MIRROR]), torch.stack([IDENTITY, MIRROR]), views=2)
    assert fused[0, :, 0].T.tolist() == [[0.5, 0.5, 0], [1, 0, 0]]
    assert fused[1, :, 0].T.tolist() == [[1, 0, 0], [0.5, 0.5, 0]]


def test_only_views_that_see_a_pixel_count():
    """A zoomed view of class 1 covers columns 4 to 7 and rows 1 and 2 of the reference, which is class 0."""
    probs = torch.cat([one_hot([[0] * 8] * 4), one_hot([[1] * 8] * 4)])
    fused = fuse(probs, torch.stack([IDENTITY, RIGHT]), torch.stack([IDENTITY, RIGHT_BACK]), views=2)
    torch.testing.assert_close(fused[0, :2, 0, 0], torch.tensor([1.0, 0]))  # only view 0 sees it
    torch.testing.assert_close(fused[0, :2, 1, 5], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(fused[1, :2, 1:3, 2:-1], torch.full((2, 2, 5), 0.5))


def test_padding_does_not_count_and_stays_empty():
    """Column 0 is padding in both views, column 1 only in the first, so that the second's class counts."""
    probs = torch.cat([one_hot([[0, 0, 0]]), one_hot([[1, 1, 1]])])
    probs *= torch.tensor([[[0.0, 0, 1]], [[0, 1, 1]]])[:, None]
    fused = fuse(probs, IDENTITY.expand(2, 2, 3), IDENTITY.expand(2, 2, 3), views=2)
    assert fused[0, :2, 0].T.tolist() == [[0, 0], [0, 1], [0.5, 0.5]]


def test_a_faint_sum_is_not_blown_up():
    """Probabilities that add up to 0.05 are divided by 0.1, the smallest divisor."""
    probs = torch.tensor([0.03, 0.02]).view(1, 2, 1, 1)
    fused = fuse(probs, IDENTITY[None], IDENTITY[None], views=1)
    torch.testing.assert_close(fused.flatten(), torch.tensor([0.3, 0.2]))


def test_groups_do_not_mix():
    probs = torch.cat([one_hot([[0, 0]]), one_hot([[0, 0]]), one_hot([[2, 2]]), one_hot([[2, 2]])])
    same = IDENTITY.expand(4, 2, 3)
    torch.testing.assert_close(fuse(probs, same, same, views=2), probs)


def test_the_prior_by_hand():
    """A class in the first batch is set to its mean; later every class moves by a hundredth of the way.

    Second prior: class 0 from 0.6 towards 0.2, class 1 stays at 0.4, and class 2, absent from the first
    batch, is at 0.99 BETA when it is first seen, with mean 0.4: it is not set to that mean.
    """
    prior = ClassPrior(3)
    assert prior.prior.tolist() == [BETA] * 3
    prior.update(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(2, 3, 4, 4))
    torch.testing.assert_close(prior.prior, torch.tensor([1, 0.99 * BETA, 0.99 * BETA]).double())
    prior = ClassPrior(3)
    prior.update(torch.tensor([0.6, 0.4, 0.0]).view(1, 3, 1, 1))
    prior.update(torch.tensor([0.2, 0.4, 0.4]).view(1, 3, 1, 1))
    expected = [0.99 * 0.6 + 0.01 * 0.2, 0.4, 0.99 * 0.99 * BETA + 0.01 * 0.4]
    torch.testing.assert_close(prior.prior, torch.tensor(expected).double(), rtol=1e-6, atol=0)


def test_thresholds_by_hand():
    """0.75 of the peak for a frequent class, 1 - 1/e of that for a prior of BETA, never below 0.2."""
    best = torch.tensor([[[0, 0, 1, 2]], [[0, 0, 0, 0]]])
    confidence = torch.tensor([[[0.9, 0.8, 0.8, 0.5]], [[0.4, 0.4, 0.4, 0.4]]])
    prior = torch.tensor([0.5, BETA, 1e-9])
    least = thresholds(confidence, best, prior)
    expected = [[0.675, 0.6 * (1 - math.exp(-1)), 0.2], [0.3, 0.2, 0.2]]
    torch.testing.assert_close(least, torch.tensor(expected))


def test_pseudo_labels_by_hand():
    """Peaks 0.8 and 0.6 give thresholds 0.6 and 0.45. 0.6 does not exceed 0.6; padding has no label."""
    first = torch.tensor([0.8, 0.6, 0.61, 0.4, 0.6, 0.8])
    probs = torch.stack([first, 1 - first])[None, :, None]
    valid = torch.tensor([[[True] * 5 + [False]]])
    label, confidence = pseudo_label(probs, torch.ones(2), valid)
    assert label.tolist() == [[[0, 255, 0, 1, 255, 255]]]
    torch.testing.assert_close(confidence[0, 0], torch.tensor([0.8, 0.6, 0.61, 0.6, 0.6, 0.8]))


def test_the_loss_by_hand():
    """Of three pixels one is ignored; logits (0, 0) cost log 2, (log 3, 0) cost log 4/3 for class 0."""
    logits = torch.tensor([[0.0, 0], [math.log(3), 0], [5, 5]]).T[None, :, None]
    label, confidence = torch.tensor([[[1, 0, 255]]]), torch.tensor([[[0.5, 0.9, 0.7]]])
    loss = consistency_loss(logits, label, confidence, torch.tensor([0.5, 0.1]))
    expected = (0.5 * 0.9**3 * math.log(2) + 0.9 * 0.5**3 * math.log(4 / 3)) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_published_loss_pairs_all_views():
    """The mean of the product of (N, H, W) and (N, 1, H, W), which broadcasting makes (N, N, H, W)."""
    logits, label = torch.randn(3, 5, 4, 6), torch.randint(0, 5, (3, 4, 6))
    confidence, prior = torch.rand(3, 4, 6), torch.rand(5)
    cross_entropy = F.cross_entropy(logits, label, (1 - prior) ** 3, reduction="none")
    ours = consistency_loss(logits, label, confidence, prior, published=True)
    torch.testing.assert_close(ours, (cross_entropy * confidence[:, None]).mean())
    assert not torch.isclose(ours, consistency_loss(logits, label, confidence, prior))


def batch(count=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.stack([IDENTITY, MIRROR, RIGHT, IDENTITY] * (count // 4))
    inverse = torch.stack([IDENTITY, MIRROR, RIGHT_BACK, IDENTITY] * (count // 4))
    images = torch.randn(2, count, 3, 8, 12, generator=draw)
    valid = torch.rand(count, 8, 12, generator=draw) > 0.1
    return {"student": images[0], "teacher": images[1], "matrix": matrix, "inverse": inverse, "valid": valid}


def self_training(views=4, published=False):
    torch.manual_seed(1)
    net = Net()
    net.norm.running_mean.uniform_(-0.1, 0.1)
    return net, SelfTraining(net, 3, views=views, update_every=2, published_loss=published)


def two_steps(rank, world, views, published, device="cpu"):
    """Return losses, gradients and priors of two batches of 8 views, and how many pixels had a label."""
    net, training = self_training(views, published)
    net, training = net.to(device), training.to(device)
    training.prepare(net.train())
    results = []
    for seed in (0, 1):
        part_of = slice(rank * 8 // world, (rank + 1) * 8 // world)
        part = {key: value[part_of].to(device) for key, value in batch(seed=seed).items()}
        loss = training.losses(net, part)["target"]
        net.zero_grad()
        loss.backward()
        labelled = world * (training.labelled_views["pseudo_label"] != 255).sum()
        results += [loss.detach(), net.conv.weight.grad.clone(), training.class_prior.prior.clone(), labelled]
    return [value.float().cpu() for value in results]


SETTINGS = [(4, False), (4, True), (8, False), (8, True)]  # 8: half of the group is on each of 2 processes


def in_all_settings(rank=0, world=1):
    return [value for setting in SETTINGS for value in two_steps(rank, world, *setting)]


def test_two_processes_share_a_batch_and_even_a_group():
    """The means over processes of losses, gradients and priors equal those of one process."""
    single, shares = in_all_settings(), run_processes(in_all_settings, 2)
    assert len(single) == 4 * len(SETTINGS) * 2 and min(single[3::4]) > 0
    for expected, *values in zip(single, *shares, strict=True):
        torch.testing.assert_close(torch.stack(values).mean(0), expected)
    assert not torch.equal(shares[0][0], shares[1][0])


@pytest.mark.gpu
@pytest.mark.parametrize("published", [False, True])
def test_a_gpu_computes_the_same(published):
    """Except pixels whose confidence equals the threshold up to rounding."""
    on_cpu, on_gpu = (two_steps(0, 1, 4, published, device) for device in ("cpu", "cuda"))
    for expected, value in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(value, expected, rtol=2e-2, atol=2e-3)


def test_the_teacher_follows_every_second_batch():
    """It starts as the student at batch 0, stays at batch 1 and takes 0.99 of itself at batch 2."""
    net, training = self_training()
    nn.init.constant_(net.conv.weight, 1.0)
    for expected in (1.0, 1.0, 0.99 + 0.01 * 3):
        training.losses(net, batch())
        torch.testing.assert_close(training.teacher.conv.weight, torch.full((3, 3, 1, 1), expected))
        nn.init.constant_(net.conv.weight, net.conv.weight[0, 0, 0, 0].item() + 1)
    assert not training.train().teacher.training
    assert not any(p.requires_grad for p in training.parameters())


def test_thresholds_are_those_of_the_prior_after_the_batch():
    """Pixels of confidence 0.9 and 0.6 of class 0, whose prior goes from BETA to their mean, 0.75.

    The threshold is 0.75 * 0.9 = 0.675, which 0.6 fails; at BETA it would be 0.675 * (1 - 1 / e) = 0.427.
    """
    training = SelfTraining(Net(2), 2, views=1)
    training.teacher.forward = lambda image: SegOutput(image.log(), None, ())
    probs = torch.tensor([[0.9, 0.6], [0.1, 0.4]]).view(1, 2, 1, 2)
    same, valid = IDENTITY[None], torch.ones(1, 1, 2, dtype=torch.bool)
    views = {"student": probs, "teacher": probs, "matrix": same, "inverse": same, "valid": valid}
    assert training.label_views(views)["pseudo_label"].tolist() == [[[0, 255]]]
    torch.testing.assert_close(training.class_prior.prior, torch.tensor([0.75, 0.25]).double())


def test_the_prior_takes_in_padding_and_each_view_before_fusion():
    """Two views of two pixels; the second pixel of view 1 is padding, and view 1 is a mirror image.

    Class 0 has 0.9, 0.6 and 0.2, 0.1: their mean, 0.45, is the prior. Without the padding it would be 0.57.
    """
    training = SelfTraining(Net(2), 2, views=2)
    training.teacher.forward = lambda image: SegOutput(image.log(), None, ())
    first = torch.tensor([[0.9, 0.6], [0.2, 0.1]])
    probs = torch.stack([first, 1 - first], 1)[:, :, None]
    valid = torch.tensor([[[True, True]], [[True, False]]])
    matrix = torch.stack([IDENTITY, MIRROR])
    views = {"student": probs, "teacher": probs, "matrix": matrix, "inverse": matrix, "valid": valid}
    fused = training.label_views(views)["probs"]
    torch.testing.assert_close(training.class_prior.prior, torch.tensor([0.45, 0.55]).double())
    torch.testing.assert_close(fused[0, 0, 0], torch.tensor([0.9, (0.6 + 0.2) / 2]))


def test_everything_is_in_the_state():
    net, training = self_training()
    for seed in (0, 1, 2):
        training.losses(net, batch(seed=seed))
    other = SelfTraining(Net(), 3, update_every=2)
    other.load_state_dict(training.state_dict())
    losses = [t.losses(net, batch(seed=3))["target"] for t in (training, other)]
    assert torch.equal(*losses) and other.batches == 4


def test_self_training_trains_batch_norms_with_fixed_statistics():
    net, training = self_training()
    training.prepare(net.train())
    before = net.norm.running_mean.clone()
    training.losses(net, batch())["target"].backward()
    assert not net.norm.training and net.conv.training
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    assert torch.equal(net.norm.running_mean, before)


def test_norm_adaptation_moves_the_statistics_and_nothing_else():
    net, adaptation = Net(), NormAdaptation()
    adaptation.prepare(net.train())
    weight, before = net.conv.weight.clone(), net.norm.running_mean.clone()
    assert adaptation.losses(net, batch()) == {}
    maps = net.conv(batch()["teacher"]).mean((0, 2, 3))
    torch.testing.assert_close(net.norm.running_mean, (0.9 * before + 0.1 * maps).detach())
    assert torch.equal(net.conv.weight, weight)
