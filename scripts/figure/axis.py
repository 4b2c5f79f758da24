"""What the plots of scores share: an axis in percent, a legend, error bars and a caption."""

from collections.abc import Sequence

from scripts.figure.canvas import COLORS, INK, QUIET, Box, Canvas, Line, Polyline, Words, text_width

GRID, LINE = "#eaeef2", 18  # colour of lines behind, px of a line of text
BELOW = 44  # px: numbers and title of the axis


def axis(canvas: Canvas, left: float, top: float, bottom: float, width: float, most: int, title: str) -> None:
    """Draw lines from `top` to `bottom` at round percents up to `most`, their numbers and the title below."""
    for percent in range(0, most + 1, 5 if most <= 30 else 10 if most <= 60 else 20):
        x = left + width * percent / most
        canvas.add(Line(x, top, x, bottom, GRID), Words(x, bottom + 10, str(percent), "middle", QUIET))
    canvas.add(Words(left + width / 2, bottom + 10 + LINE, title, "middle"))


def legend(canvas: Canvas, names: Sequence[str], width: float, colors: Sequence[str] = COLORS) -> float:
    """Draw names beside their colours at the top, in as many lines as `width` needs; return their bottom."""
    x, y = 10.0, 14.0
    for i, name in enumerate(names):
        step = 33 + text_width(name)
        if x > 10 and x + step > width:
            x, y = 10.0, y + LINE
        canvas.add(Box(x, y - 5, 10, 10, colors[i % len(colors)]), Words(x + 15, y, name))
        x += step
    return y + 14


def error_bar(canvas: Canvas, x: float, y: float, reach: float, left: float, color: str = INK) -> None:
    """Draw a line of `reach` px to both sides of x, with caps, that does not leave the axis at `left`."""
    if reach:
        low, high = max(left, x - reach), x + reach
        left_cap = (low, y - 4), (low, y + 4), (low, y)
        right_cap = (high, y), (high, y - 4), (high, y + 4)
        canvas.add(Polyline((*left_cap, *right_cap), color, 1.5))


def wrapped(sentences: Sequence[str], width: float) -> list[str]:
    """Return the sentences in lines of at most `width` px."""
    lines: list[str] = []
    for sentence in sentences:
        lines.append("")
        for word in sentence.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and text_width(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
    return lines


def caption(canvas: Canvas, sentences: Sequence[str], top: float) -> None:
    """Draw sentences from `top` on, in lines as wide as the canvas, which ends below them."""
    lines = wrapped(sentences, canvas.width - 20)
    for i, line in enumerate(lines):
        canvas.add(Words(10, top + LINE * (i + 0.5), line, color=QUIET))
    canvas.height = round(top + LINE * len(lines) + 6)
