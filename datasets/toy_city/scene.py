"""A scene: flat parts in a pinhole camera, painted back to front, and the primitives that paint them.

World coordinates are in metres: x to the right, y up from the ground, z away from the camera.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from datasets.toy_city.materials import MATERIAL_NUMBERS
from datasets.toy_city.shapes import SHAPES, Point
from utils.classes import CITYSCAPES, IGNORE_LABEL

LABELS = {name: train_id for train_id, name in enumerate(CITYSCAPES.names)} | {"void": IGNORE_LABEL}
WorldPoint = tuple[float, float, float]


class Face(NamedTuple):
    """A parallelogram in the world; its point (u, v) is origin + u * along + v * up."""

    origin: WorldPoint
    along: WorldPoint
    up: WorldPoint
    lit: float  # share of the direct light that reaches the face


class Scene:
    """Flat parts painted back to front.

    A part is one material of one object. After `finish`, `parts` (H, W) holds the part number of every pixel,
    which indexes `label` (train ids), `instance`, `material` (numbers), `tint` (N, 4), `depth` and `lit`.
    Depth is in metres; it is 0 for the ground, whose depth follows from the row of the picture.
    `shadow` (H, W) is 255 where an object shades the ground.
    """

    parts: np.ndarray
    label: np.ndarray
    instance: np.ndarray
    material: np.ndarray
    tint: np.ndarray
    depth: np.ndarray
    lit: np.ndarray

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.height, self.width = size
        self.rng = rng
        self.focal = 0.95 * min(self.height, self.width / 2)  # px
        self.camera = rng.uniform(1.4, 1.9)  # metres above the ground
        self.horizon = self.height * rng.uniform(0.40, 0.50)  # px
        self.center = self.width * rng.uniform(0.40, 0.60)  # px
        self.sun = rng.choice((-1, 1)) * rng.uniform(0.4, 1.1), rng.uniform(-0.2, 0.5)  # shadow per metre
        self.thin = 0.018 * self.height  # px, the smallest width of a pole
        self.shadow = Image.new("L", (self.width, self.height))
        self._parts = Image.new("I", (self.width, self.height))
        self._draw, self._draw_shadow = ImageDraw.Draw(self._parts), ImageDraw.Draw(self.shadow)
        self._rows: list[tuple[int, int, int, np.ndarray, float, float]] = []
        self._numbers: dict[tuple[int, str, float], int] = {}
        self._instance, self._label, self._depth = 0, "sky", 1e3
        self._number("sky", 1.0)

    def finish(self) -> "Scene":
        """Turn what was painted into arrays and return the scene."""
        self.parts = np.asarray(self._parts)
        label, instance, material, tint, depth, lit = zip(*self._rows, strict=True)
        self.label, self.instance = np.array(label, np.uint8), np.array(instance, np.uint16)
        self.material = np.array(material)
        self.tint, self.depth, self.lit = (np.array(column, np.float32) for column in (tint, depth, lit))
        return self

    def start(self, label: str, depth: float = 0.0) -> None:
        """Begin an object; everything painted until the next start belongs to it."""
        self._instance, self._label, self._depth = self._instance + 1, label, depth

    def _number(self, material: str, lit: float) -> int:
        """Return the number of the current object's part of this material, added if it is new."""
        key = self._instance, material, lit
        if key not in self._numbers:
            self._numbers[key] = len(self._rows)
            number, tint = MATERIAL_NUMBERS[material], self.rng.random(4)
            self._rows.append((LABELS[self._label], self._instance, number, tint, self._depth, lit))
        return self._numbers[key]

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project a point of the world to (column, row) in px."""
        scale = self.focal / max(z, 0.3)
        return self.center + scale * x, self.horizon + scale * (self.camera - y)

    def polygon(self, points: Iterable[WorldPoint], material: str, lit: float = 1.0) -> None:
        self._draw.polygon([self.pixel(*point) for point in points], fill=self._number(material, lit))

    def ground(self, x0: float, x1: float, z0: float, z1: float, material: str) -> None:
        self.polygon(((x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)), material)

    def paint(self, face: Face, material: str, *points: Point) -> None:
        """Paint the whole face, the rectangle between two points (u, v), or the polygon of three or more."""
        if len(points) <= 2:
            (u0, v0), (u1, v1) = points or ((0, 0), (1, 1))
            points = (u0, v0), (u1, v0), (u1, v1), (u0, v1)
        (x, y, z), (ax, ay, az), (bx, by, bz), lit = face
        world = [(x + u * ax + v * bx, y + u * ay + v * by, z + u * az + v * bz) for u, v in points]
        self.polygon(world, material, lit)

    def stamp(self, face: Face, shape: str) -> None:
        """Paint one of SHAPES on a face."""
        for material, points in SHAPES[shape]:
            self.paint(face, material, *points)

    def disc(self, x: float, y: float, z: float, radius: float, material: str, lit: float = 0.8) -> None:
        (left, top), (right, bottom) = (self.pixel(x + s * radius, y - s * radius, z) for s in (-1, 1))
        box = left, top, max(right, left + 1), max(bottom, top + 1)
        self._draw.ellipse(box, fill=self._number(material, lit))

    def rod(self, z: float, width: float, material: str, *points: Point, thin: float = 1) -> None:
        """Paint a line through points (x, y) in metres at distance z, at least `thin` pole widths wide."""
        pixels = max(round(width * self.focal / z), round(thin * self.thin), 1)
        line = [self.pixel(x, y, z) for x, y in points]
        self._draw.line(line, fill=self._number(material, 0.8), width=pixels)

    def hood(self, top: float) -> None:
        """Paint the hood of the camera's own car below `top`, a share of the height."""
        box = -0.1 * self.width, top * self.height, 1.1 * self.width, 1.4 * self.height
        self._draw.ellipse(box, fill=self._number("hood", 0.8))

    def cast(self, x0: float, x1: float, z0: float, z1: float, height: float) -> None:
        """Cast the shadow of a box on the ground."""
        dx, dz = self.sun[0] * height, self.sun[1] * height
        (x0, x1), (z0, z1) = (x0, x1)[:: 1 if dx > 0 else -1], (z0, z1)[:: 1 if dz > 0 else -1]
        outline = (x0, z0), (x1, z0), (x1 + dx, z0 + dz), (x1 + dx, z1 + dz), (x0 + dx, z1 + dz), (x0, z1)
        self._draw_shadow.polygon([self.pixel(x, 0, z) for x, z in outline], fill=255)

    def front(self, x0: float, x1: float, z: float, height: float, bottom: float = 0.0) -> Face:
        """Return the face at distance z that looks at the camera."""
        return Face((x0, bottom, z), (x1 - x0, 0, 0), (0, height, 0), 0.75)

    def side(self, x: float, z0: float, z1: float, height: float) -> Face:
        """Return the face in the plane x that looks at the street.

        The sun lights the face if it shines from the other side of the street.
        """
        return Face((x, 0, z0), (0, 0, z1 - z0), (0, height, 0), 1.0 if x * self.sun[0] > 0 else 0.3)
