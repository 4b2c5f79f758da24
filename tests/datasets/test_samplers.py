from itertools import chain

import numpy as np
import pytest

from datasets.samplers import EvalSampler, ImportanceSampler, StatisticsSampler, TrainSampler
from utils.errors import UserError


def shards(world_size, length=11, **options):
    return [TrainSampler(length, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_train_shards_are_equal_and_disjoint(world_size):
    parts = [list(sampler) for sampler in shards(world_size)]
    assert {len(part) for part in parts} == {11 // world_size} == {len(s) for s in shards(world_size)}
    assert len(set(chain(*parts))) == 11 // world_size * world_size


def test_train_order_depends_on_seed_and_epoch():
    sampler = TrainSampler(20)
    first = list(sampler)
    assert first == list(TrainSampler(20)) and first != list(TrainSampler(20, seed=1))
    sampler.set_epoch(1)
    assert list(sampler) != first and sorted(sampler) == list(range(20))


@pytest.mark.parametrize("resumed_world", [1, 2, 4])
def test_resumed_epoch_covers_exactly_the_rest(resumed_world):
    """12 indices on 2 processes; after 2 steps of 1 each, 8 are left, also for 1 or 4 processes."""
    before = shards(2, 12)
    used = [list(sampler)[:2] for sampler in before]
    for sampler in before:
        sampler.set_epoch(0)
        sampler.advance(1)
        sampler.advance(1)
    states = [sampler.state_dict() for sampler in before]
    assert states == [{"epoch": 0, "position": 4}] * 2
    after = shards(resumed_world, 12)
    for sampler in after:
        sampler.load_state_dict(states[0])
        sampler.set_epoch(0)
    rest = [list(sampler) for sampler in after]
    assert {len(part) for part in rest} == {8 // resumed_world}
    assert sorted(chain(*used, *rest)) == list(range(12))
    after[0].set_epoch(1)
    assert len(list(after[0])) == 12 // resumed_world


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 7, 12])
def test_evaluation_covers_every_image_once(world_size, length):
    parts = [EvalSampler(range(length), rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(chain(*parts)) == list(range(length))
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]


@pytest.mark.parametrize("world_size", [1, 3])
def test_statistics_images(world_size):
    """At most 500 of 1200, other ones in each trial, no image twice."""

    def drawn(trial, length=1200):
        parts = [StatisticsSampler(length, rank=r, world_size=world_size) for r in range(world_size)]
        for part in parts:
            part.set_epoch(trial)
        assert [len(part) for part in parts] == [len(list(part)) for part in parts]
        return sorted(chain(*parts))

    assert len(set(drawn(0))) == len(drawn(0)) == 500
    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0, length=7) == list(range(7))


def test_importance_by_hand():
    """Two of three classes occur: class 0 only in image 0, class 2 in images 1 and 2, as 3 to 1.

    Classes take turns, so image 0 has half of 0.75 + 1/12 and of 1/12, or 0.458.
    """
    shares = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0.75, 0.25, 0]])
    sampler = ImportanceSampler(shares, uniform=0.25)
    drawn = []
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        drawn += list(sampler)
    images = np.array(drawn) % 4  # index i + 4 n is image i, drawn again
    frequency = [np.bincount(images[turn::2], minlength=4) / 4000 for turn in (0, 1)]
    near = {"atol": 0.03, "rtol": 0}
    np.testing.assert_allclose(frequency[0], [0.8125, 0.0625, 0.0625, 0.0625], **near)
    np.testing.assert_allclose(frequency[1], [0.0625, 0.625, 0.25, 0.0625], **near)


def test_importance_is_shared_by_processes():
    """The same indices in the same order on 1 and 2 processes, and from the middle of an epoch."""
    shares = np.random.default_rng(0).random((5, 12))
    alone, *parts = [ImportanceSampler(shares, rank=r, world_size=w) for r, w in ((0, 1), (0, 2), (1, 2))]
    for sampler in (alone, *parts):
        sampler.set_epoch(3)
    whole = list(alone)
    assert list(chain(*zip(*parts, strict=True))) == whole != list(ImportanceSampler(shares))
    parts[1].advance(2)
    assert list(parts[1]) == whole[5::2]


def test_importance_with_classes_that_draw_uniformly_and_longer_epochs():
    """Class 1, which does not occur, takes its turn and draws all images equally often."""
    shares = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1.0, 0]])
    sampler = ImportanceSampler(shares, uniform=0.25, uniform_classes=(1,), draws=9000)
    drawn = np.array(list(sampler))
    assert len(drawn) == len(sampler) == 9000 and len(set(drawn)) == 9000
    frequency = [np.bincount(drawn[turn::3] % 4, minlength=4) / 3000 for turn in range(3)]
    near = {"atol": 0.03, "rtol": 0}
    np.testing.assert_allclose(frequency[0], [0.8125, 0.0625, 0.0625, 0.0625], **near)
    np.testing.assert_allclose(frequency[1], [0.25] * 4, **near)
    np.testing.assert_allclose(frequency[2], [0.0625, 0.0625, 0.8125, 0.0625], **near)
    assert (shares[1] == 0).all()


def test_importance_needs_a_class():
    with pytest.raises(UserError, match="no class occurs"):
        ImportanceSampler(np.zeros((3, 4)))
