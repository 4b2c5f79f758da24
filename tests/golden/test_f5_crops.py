"""Where class-uniform training crops lie; fidelity_F5.json holds the published frequencies."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from transforms.joint import RandomScaleCrop

CASES = json.loads(Path(__file__).with_name("fidelity_F5.json").read_text())["crops"]["cases"]
DRAWS = 4000


def starts(height, width, crop, centroid, scale=1.0):
    """Count where DRAWS crops start: (columns, rows)."""
    transform, rng = RandomScaleCrop(crop, scale, scale), np.random.default_rng(0)
    windows = [transform.draw(height, width, centroid, rng) for _ in range(DRAWS)]
    return Counter(w.left for w in windows), Counter(w.top for w in windows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['scaled']} {case['centroid']}")
def test_starts_are_the_published_ones(case):
    """Within 5 standard deviations. Padded axes: any published start, ours is the middle."""
    drawn = starts(*case["size"], case["crop"], case["centroid"], case["scale"])
    for axis, counts, padding in zip("xy", drawn, reversed(case["padding"]), strict=True):
        published = {int(start): many / out_of for start, (many, out_of) in case[axis].items()}
        assert counts.keys() <= published.keys()
        if padding:
            assert len(counts) == 1
            continue
        # The first of the published crop + 1 starts misses the centroid by one px. Ours leaves it out.
        (out_of,) = {out_of for _, out_of in case[axis].values()}
        first = min(published)
        for start, share in published.items():
            ours = (share * out_of - (start == first)) / (out_of - 1)
            assert abs(counts[start] - DRAWS * ours) <= 5 * np.sqrt(DRAWS * ours * (1 - ours)), (axis, start)


@pytest.mark.parametrize("centroid", [None, (1, 1), (5, 20)])
def test_a_smaller_image_is_in_the_middle(centroid):
    """Crop 24 around 21 rows and 20 columns: 1 row before, 2 after; 2 columns on both sides."""
    columns, rows = starts(21, 20, 24, centroid)
    assert (columns.keys(), rows.keys()) == ({-2}, {-1})


def test_the_centroid_moves_with_the_resized_image():
    """Scale 1.5: 24 x 40 px become 36 x 60, the centroid (13, 5) becomes (19, 7), cut off from 19.5 and 7.5.

    Crop 8: columns 12..19, each in 1/8 of the crops. Rows 0..7, uniform.
    """
    columns, rows = starts(24, 40, 8, (13, 5), 1.5)
    assert columns.keys() == set(range(12, 20)) and rows.keys() == set(range(8))
    assert min(columns.values()) > 400 and min(rows.values()) > 400


def test_most_crops_of_a_street_image_touch_an_edge():
    """1024 px high, crop 768, centroids c uniform: starts are uniform in c - 767..c, then moved into 0..256.

    They lie strictly between in c / 768 of the draws for c < 256, which is 1/6 on average, in 1/3 for c up to
    768 and again in 1/6 for the last 256. So 1 - (1/4 1/6 + 1/2 1/3 + 1/4 1/6) = 3/4 touch the top or bottom.
    """
    transform, rng = RandomScaleCrop(768, 1, 1), np.random.default_rng(0)
    tops = [transform.draw(1024, 2048, (1000, int(rng.integers(1024))), rng).top for _ in range(DRAWS)]
    assert abs(np.isin(tops, (0, 256)).mean() - 3 / 4) < 5 * np.sqrt(3 / 16 / DRAWS)
