import math
import re

from utils.evaluation.calibration import Bin
from utils.evaluation.reliability_diagram import LEFT, SIDE, TOP, diagram


def test_bars_are_as_high_as_the_accuracy():
    """Bins of 0 to 0.5 (accuracy 0.4, confidence 0.3) and 0.5 to 1 (0.6 and 0.8); the third bin is empty.

    The gaps are 0.1 and 0.2 of the side of the square, from the higher of the two down.
    """
    bins = [Bin(0.0, 0.5, 30, 0.4, 0.3), Bin(0.5, 0.75, 90, 0.6, 0.8), Bin(0.75, 1.0, 0, math.nan, math.nan)]
    picture = diagram(bins)
    found = re.findall(
        r"<rect class=(accuracy|over|under) x=([\d.]+) y=([\d.]+) width=\S+ height=([\d.]+)", picture
    )
    rects = [(kind, *map(float, numbers)) for kind, *numbers in found]
    assert rects == [
        ("accuracy", LEFT + 1, round(TOP + 0.6 * SIDE, 1), round(0.4 * SIDE, 1)),
        ("under", LEFT + 1, round(TOP + 0.6 * SIDE, 1), round(0.1 * SIDE, 1)),
        ("accuracy", LEFT + SIDE / 2 + 1, round(TOP + 0.4 * SIDE, 1), round(0.6 * SIDE, 1)),
        ("over", LEFT + SIDE / 2 + 1, round(TOP + 0.2 * SIDE, 1), round(0.2 * SIDE, 1)),
    ]
    assert picture.count("<g>") == 2 and "nan" not in picture
    assert "confidence 0.500 to 0.750: 90 px (75.00%), accuracy 60.00%, mean confidence 80.00%" in picture
