import math

from utils.evaluation import sweep

SCORES = {"a": 0.5, "a@scale-2.0": 0.4, "a@scale-0.5": 0.3, "b": 0.2, "b@scale-0.5": 0.25, "c": 0.9}


def test_a_row_per_scale_and_the_best_of_each_dataset():
    """Dataset c was not swept; b has no score at scale 2."""
    assert sweep.rows(SCORES, "mIoU", "average") == [
        ["mIoU (%)", "a", "b"],
        ["scale 0.5", "30.00", "25.00 (best)"],
        ["scale 2.0", "40.00 (best)", "-"],
        ["average", "50.00", "20.00"],
    ]
    assert sweep.rows(SCORES, "ECE", "average", lowest=True)[1][1] == "30.00 (best)"


def test_results_file():
    a = sweep.to_dict(SCORES)["a"]
    assert a == {"mean_iu": {2.0: 0.4, 0.5: 0.3}, "best": 2.0, "note": sweep.NOTE}
    assert "unseen" in sweep.NOTE and sweep.to_dict({"a": 0.5}) == {}
    assert sweep.best_scale({0.5: math.nan}) is None
