"""Means and degradations of two runs, by hand."""

import json
import math

import pytest

from utils.errors import MissingFile, UserError
from utils.evaluation.robustness import collect, read_reference, rows, to_dict

# Means over severities: fog (0.6 + 0.4) / 2 = 0.5, frost 0.3, saturate 0.1 (not one of the benchmark's).
MEANS = {
    "town": 0.8,
    "town@fog-1": 0.6,
    "town@fog-5": 0.4,
    "town@frost-1": 0.4,
    "town@frost-5": 0.2,
    "town@saturate-1": 0.1,
    "town@saturate-5": 0.1,
    "other": 0.5,
}
# The errors of fog sum to 1.2, those of frost to 1.1; the losses to 0.3 and 0.2.
REFERENCE = {
    "town": 0.55,
    "town@fog-1": 0.45,
    "town@fog-5": 0.35,
    "town@frost-1": 0.5,
    "town@frost-5": 0.4,
    "town@saturate-1": 0.1,
    "town@saturate-5": 0.1,
}


def test_means_are_over_the_benchmarks_corruptions():
    (town,) = collect(MEANS).values()
    assert town.clean == 0.8 and town.scores["fog"] == {1: 0.6, 5: 0.4}
    assert town.mean() == pytest.approx((0.5 + 0.3) / 2)


def test_degradations():
    """Errors: fog 0.4 + 0.6 = 1.0, frost 1.4. Losses: fog 0.2 + 0.4 = 0.6, frost 1.0."""
    town, reference = collect(MEANS)["town"], collect(REFERENCE)["town"]
    assert town.degradation("fog", reference) == pytest.approx(1.0 / 1.2)
    assert town.degradation("frost", reference) == pytest.approx(1.4 / 1.1)
    assert town.relative_degradation("fog", reference) == pytest.approx(0.6 / 0.3)
    assert town.relative_degradation("frost", reference) == pytest.approx(1.0 / 0.2)
    expected = (1.0 / 1.2 + 1.4 / 1.1) / 2, (2 + 5) / 2
    assert town.degradations(reference) == pytest.approx(expected)


def test_table():
    town, reference = collect(MEANS)["town"], collect(REFERENCE)["town"]
    header, clean, fog, frost, saturate, mean = rows(town, reference)
    assert header == ["mIoU (%)", "1", "5", "mean", "degradation", "relative"]
    assert clean == ["no corruption", "", "", "80.00", "", ""]
    assert fog == ["fog", "60.00", "40.00", "50.00", "83.33", "200.00"]
    assert frost[0] == "frost (rendered texture)" and saturate[0] == "saturate"
    assert mean == ["mean of 2", "50.00", "30.00", "40.00", "105.30", "350.00"]
    assert [len(row) for row in rows(town, None)] == [4] * 6


def test_dictionary():
    town = collect(MEANS)["town"]
    content = to_dict(town, None)
    assert content["mean"] == pytest.approx(0.4) and content["mean_over"] == ["fog", "frost"]
    assert content["corruptions"]["frost"]["note"] == "rendered texture"
    assert "degradation" not in content and "note" not in content["corruptions"]["fog"]
    assert to_dict(town, collect(REFERENCE)["town"])["relative_degradation"] == pytest.approx(3.5)


def test_runs_without_clean_images_or_scores():
    (town,) = collect({"town@fog-1": math.nan}).values()
    assert math.isnan(town.clean) and rows(town, None)[2] == ["fog", "-", "-"]
    (extra,) = collect({"town@saturate-1": 0.5}).values()
    assert math.isnan(extra.mean()) and rows(extra, None)[-1][0] == "saturate"


def test_reference(tmp_path):
    path, names = tmp_path / "results.json", ["town", "town@fog-1"]
    metrics = {"town": {"mean_iu": 0.5}, "town@fog-1": {"mean_iu": 0.25}, "more": None}
    path.write_text(json.dumps({"protocol": {"mode": "whole", "slice": [0, 1]}, "metrics": metrics}))
    protocol = {"mode": "whole", "new": 1}
    assert read_reference(str(path), names, protocol) == {"town": 0.5, "town@fog-1": 0.25}
    assert read_reference(None, names, protocol) == {}
    with pytest.raises(UserError, match="scored with mode whole, not sliding"):
        read_reference(str(path), names, {"mode": "sliding"})
    with pytest.raises(UserError, match="lacks 1 of 3 datasets: town@fog-2"):
        read_reference(str(path), [*names, "town@fog-2"], protocol)
    with pytest.raises(MissingFile, match="no reference"):
        read_reference(str(tmp_path / "no.json"), names, protocol)
    path.write_text("[]")
    with pytest.raises(UserError, match="not a results.json"):
        read_reference(str(path), names, protocol)
