"""A drawing of boxes, lines, dots and words that is written as SVG or PNG."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from utils.errors import UserError
from utils.files import write_text

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#999999",
)  # told apart by most eyes
INK, QUIET = "#1f2328", "#8c959f"
FONT = 13  # px
WIDEST = 1.2  # DejaVu Sans, the widest of the SVG's fonts, by Pillow's
SHARPNESS = 2  # pixels of a PNG for each px of the drawing
SUFFIXES = (".svg", ".png")


class Box(NamedTuple):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    color: str


class Line(NamedTuple):
    """A straight line."""

    x: float
    y: float
    to_x: float
    to_y: float
    color: str
    width: float = 1


class Polyline(NamedTuple):
    """Straight lines from point to point, each (x, y)."""

    points: Sequence[tuple[float, float]]
    color: str
    width: float = 1


class Dot(NamedTuple):
    """A filled circle."""

    x: float
    y: float
    radius: float
    color: str


class Words(NamedTuple):
    """A line of text whose middle height is y; x is its `side`: left, middle or right."""

    x: float
    y: float
    text: str
    side: str = "left"
    color: str = INK


Shape = Box | Line | Polyline | Dot | Words


class Canvas:
    """Shapes in px on white, later ones above earlier ones."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = round(width), round(height)
        self.shapes: list[Shape] = []

    def add(self, *shapes: Shape) -> None:
        self.shapes += shapes

    def write(self, file: Path) -> None:
        """Write `file`, whose suffix decides between SVG and PNG; UserError for other suffixes."""
        check_suffix(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".svg":
            write_text(file, self.svg())
        else:
            self.picture().save(file, optimize=True)

    def svg(self) -> str:
        body = "\n".join(map(_svg, self.shapes))
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        font = f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="{FONT}"'
        background = (
            '<style>text{dominant-baseline:central}</style><rect width="100%" height="100%" fill="#fff"/>'
        )
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n{background}\n{body}\n</svg>\n'

    def picture(self) -> Image.Image:
        size = self.width * SHARPNESS, self.height * SHARPNESS
        image = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(image)
        for shape in self.shapes:
            _paint(pen, shape)
        return image


def check_suffix(file: Path) -> None:
    """Raise UserError unless a drawing can be written to `file`."""
    if file.suffix not in SUFFIXES:
        raise UserError(f"a figure is written to a file that ends in {' or '.join(SUFFIXES)}, not {file}")


def text_width(text: str) -> float:
    """Return the most that `text` is wide, in px: an SVG is drawn in a font of its reader's."""
    return WIDEST * ImageFont.load_default(FONT).getlength(text)


def _svg(shape: Shape) -> str:
    if isinstance(shape, Box):
        size = _numbers(width=shape.width, height=shape.height)
        return f'<rect {_numbers(x=shape.x, y=shape.y)} {size} fill="{shape.color}"/>'
    if isinstance(shape, Dot):
        return f'<circle {_numbers(cx=shape.x, cy=shape.y, r=shape.radius)} fill="{shape.color}"/>'
    if isinstance(shape, Polyline):
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.color}" stroke-width="{shape.width}"/>'
        )
    if isinstance(shape, Line):
        place = _numbers(x1=shape.x, y1=shape.y, x2=shape.to_x, y2=shape.to_y)
        width = "" if shape.width == 1 else f' stroke-width="{shape.width}"'
        return f'<line {place} stroke="{shape.color}"{width}/>'
    anchor = {"left": "", "middle": ' text-anchor="middle"', "right": ' text-anchor="end"'}[shape.side]
    return f'<text {_numbers(x=shape.x, y=shape.y)}{anchor} fill="{shape.color}">{escape(shape.text)}</text>'


def _numbers(**values: float) -> str:
    return " ".join(f'{name}="{_number(value)}"' for name, value in values.items())


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _paint(pen: ImageDraw.ImageDraw, shape: Shape) -> None:
    scale = SHARPNESS
    if isinstance(shape, Polyline):
        points = [(x * scale, y * scale) for x, y in shape.points]
        pen.line(points, shape.color, round(shape.width * scale))
        return
    x, y = shape.x * scale, shape.y * scale
    if isinstance(shape, Box):
        if shape.width > 0 and shape.height > 0:
            pen.rectangle((x, y, x + shape.width * scale, y + shape.height * scale), shape.color)
    elif isinstance(shape, Dot):
        radius = shape.radius * scale
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), shape.color)
    elif isinstance(shape, Line):
        pen.line((x, y, shape.to_x * scale, shape.to_y * scale), shape.color, round(shape.width * scale))
    else:
        anchor = {"left": "lm", "middle": "mm", "right": "rm"}[shape.side]
        pen.text((x, y), shape.text, shape.color, ImageFont.load_default(FONT * scale), anchor)
