"""Colours that put one dataset on another are the published ones of DA-SAC."""

import json
from pathlib import Path

import pytest
import torch

import config
from utils.pixels import DATASET_COLORS, IMAGENET, matched_colors, normalize_

FIDELITY = json.loads((Path(__file__).parents[1] / "golden/fidelity_F4.json").read_text())
SOURCE = FIDELITY["F4 settings"]["configurations"]["gta_r101_abn"]["source"]


def test_the_published_source_colours():
    colors = matched_colors(DATASET_COLORS["gtav"], DATASET_COLORS["cityscapes"])
    assert colors.mean == pytest.approx(SOURCE["mean"], abs=1e-6)
    assert colors.std == pytest.approx(SOURCE["std"], abs=1e-6)


def test_the_mean_colour_of_the_source_becomes_that_of_the_target():
    source, target = DATASET_COLORS["gtav"], DATASET_COLORS["cityscapes"]

    def levels(colors, deviations):
        values = [m + deviations * s for m, s in zip(*colors, strict=True)]
        return 255 * torch.tensor(values)[:, None, None]

    for deviations in (0, 1, -2):
        ours = normalize_(levels(source, deviations), colors=matched_colors(source, target))
        torch.testing.assert_close(ours, normalize_(levels(target, deviations)), rtol=0, atol=1e-6)


def test_nothing_changes_between_equal_colours():
    colors = matched_colors(DATASET_COLORS["cityscapes"], DATASET_COLORS["cityscapes"])
    assert colors.mean == pytest.approx(IMAGENET.mean) and colors.std == pytest.approx(IMAGENET.std)


def test_the_flag_knows_the_datasets():
    assert set(config.COLORED) == set(DATASET_COLORS)
