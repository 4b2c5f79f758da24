"""A reliability diagram as SVG for the page of results (arXiv 1706.04599, figure 1)."""

from collections.abc import Sequence

from utils.evaluation.calibration import Bin

STYLE = """
.reliability { width: 100%; max-width: 460px; display: block; font-size: 12px }
.reliability text { fill: var(--quiet) }
.reliability .frame { fill: none; stroke: var(--line) }
.reliability .accuracy { fill: rgb(46, 125, 80) }
.reliability .over { fill: rgb(224, 134, 140) }
.reliability .under { fill: rgb(126, 180, 226) }
.reliability .share { fill: var(--quiet); fill-opacity: 0.6 }
.reliability .diagonal { stroke: var(--text); stroke-dasharray: 4 4; fill: none }
"""
LEFT, TOP, SIDE = 48, 8, 260  # of the square, in units of the picture
SHARE_TOP, SHARE_HEIGHT = 292, 50  # of the bars below it
WIDTH, HEIGHT = 400, 392
LEGEND = {
    "accuracy": (46, 125, 80),
    "too sure: accuracy below confidence": (224, 134, 140),
    "not sure enough: accuracy above confidence": (126, 180, 226),
}


def diagram(bins: Sequence[Bin]) -> str:
    """Draw the accuracy of each bin of confidence, its gap to the confidence, and its share of the pixels."""
    total = sum(one.pixels for one in bins)
    bars = "".join(_bar(one, one.pixels / total) for one in bins if one.pixels)
    ticks = "".join(
        f"<text x={LEFT - 8} y={_y(value) + 4:.1f} text-anchor=end>{value:g}</text>"
        f"<text x={_x(value):.1f} y={SHARE_TOP + SHARE_HEIGHT + 16} text-anchor=middle>{value:g}</text>"
        for value in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    frames = (
        f"<rect class=frame x={LEFT} y={TOP} width={SIDE} height={SIDE} />"
        f"<rect class=frame x={LEFT} y={SHARE_TOP} width={SIDE} height={SHARE_HEIGHT} />"
    )
    diagonal = f"<path class=diagonal d='M{_x(0)} {_y(0)} L{_x(1)} {_y(1)}' />"
    middle = LEFT + SIDE / 2
    words = (
        f"<text x={middle} y={HEIGHT - 14} text-anchor=middle>confidence</text>"
        f"<text transform='translate(12 {TOP + SIDE / 2}) rotate(-90)' text-anchor=middle>accuracy</text>"
        f"<text x={LEFT + SIDE + 8} y={SHARE_TOP + 12}>share of</text>"
        f"<text x={LEFT + SIDE + 8} y={SHARE_TOP + 27}>the pixels</text>"
    )
    return (
        f"<svg class=reliability viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='reliability diagram'>"
        f"{bars}{frames}{diagonal}{ticks}{words}</svg>"
    )


def _bar(one: Bin, share: float) -> str:
    """Draw one bin; pointing at it shows its numbers."""
    x, width = _x(one.low) + 1, SIDE * (one.high - one.low) - 2
    low, high = sorted((one.accuracy, one.confidence))
    title = (
        f"confidence {one.low:.3f} to {one.high:.3f}: {one.pixels} px ({100 * share:.2f}%), "
        f"accuracy {100 * one.accuracy:.2f}%, mean confidence {100 * one.confidence:.2f}%"
    )
    height = SHARE_HEIGHT * share
    gap = "over" if one.confidence > one.accuracy else "under"
    rects = (("accuracy", _y(one.accuracy), SIDE * one.accuracy), (gap, _y(high), SIDE * (high - low)))
    drawn = "".join(
        f"<rect class={kind} x={x:.1f} y={y:.1f} width={width:.1f} height={tall:.1f} />"
        for kind, y, tall in (*rects, ("share", SHARE_TOP + SHARE_HEIGHT - height, height))
    )
    return f"<g><title>{title}</title>{drawn}</g>"


def _x(value: float) -> float:
    return LEFT + SIDE * value


def _y(value: float) -> float:
    return TOP + SIDE * (1 - value)
