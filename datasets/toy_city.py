"""Render a small town in five domain styles, in the layouts and encodings of the real datasets.

    python -m datasets.toy_city --out DIR

One generator (`draw_scene`) makes the geometry: flat parts painted back to front in a pinhole camera. Five
styles (`STYLES`) turn a scene into a picture. All is a function of (seed, domain, split, image number).
"""

import argparse
import json
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from datasets.labels import CITYSCAPES, IGNORE_LABEL, TRAIN_ID_NAMES, TRAIN_ID_TO_ID

VERSION = 1  # of the pictures: raise it when the same settings give other bytes
MARKER = "toy_city.json"
LABELS = {name: train_id for train_id, name in enumerate(TRAIN_ID_NAMES)} | {"void": IGNORE_LABEL}


# ------------------------------------------------------------------------------------------------------------
# Materials: what a part is made of. Colours are those of bright daylight; a style may replace them.


class Material(NamedTuple):
    colors: str  # rrggbb, a part picks one
    vary: float = 0.08  # per-part deviation from it
    texture: tuple[float, float, float] = (0.04, 0.04, 0.0)  # amplitude of fine, middle and coarse grain
    glow: float = 0.0  # light it gives at night


MATERIALS = {
    "sky": Material("000000"),
    "asphalt": Material("54545a", 0.05, (0.07, 0.03, 0.05)),
    "marking": Material("e0ded2", 0.04),
    "paving": Material("bcac9c b0a49a", 0.05, (0.05, 0.05, 0.04)),
    "joint": Material("8a7e72", 0.04),
    "kerb": Material("d0c8be", 0.04),
    "grass": Material("96a83e a09e4a", 0.06, (0.10, 0.10, 0.08)),
    "ballast": Material("746458", 0.05, (0.22, 0.12, 0.0)),
    "rail": Material("463e3c", 0.05),
    "facade": Material("c4a070 b25c42 deceac a48e80 ce805c 966c54", 0.10, (0.04, 0.03, 0.06)),
    "roof": Material("803c2e 564c4c", 0.08, (0.06, 0.05, 0.0)),
    "window": Material("3a4a60 54687e 2c323e", 0.10, (0.02, 0.08, 0.10)),
    "lit window": Material("788288 425264", 0.10, (0.02, 0.06, 0.06), 0.9),
    "door": Material("583422 30463e 3c3c42", 0.10),
    "stone": Material("92889e 807c8e", 0.05, (0.10, 0.14, 0.05)),
    "mortar": Material("625c6c", 0.05),
    "picket": Material("cebaa0 785238", 0.08),
    "fence gap": Material("605442", 0.06, (0.08, 0.12, 0.0)),
    "steel": Material("3e4242 4a4a46", 0.06, (0.02, 0.0, 0.0)),
    "lamp": Material("e2debe", 0.03, (0.0, 0.0, 0.0), 3.0),
    "signal box": Material("141612 2c280e", 0.04, (0.0, 0.0, 0.0)),
    "red light": Material("ff2818", 0.02, (0.0, 0.0, 0.0), 1.6),
    "amber light": Material("ffb41e", 0.02, (0.0, 0.0, 0.0), 1.4),
    "green light": Material("28f082", 0.02, (0.0, 0.0, 0.0), 1.4),
    "dark light": Material("342c28", 0.04),
    "sign red": Material("de1c22", 0.03, (0.0, 0.0, 0.0)),
    "sign blue": Material("1454d6", 0.03, (0.0, 0.0, 0.0)),
    "sign yellow": Material("face14", 0.03, (0.0, 0.0, 0.0)),
    "sign white": Material("f6f6f4", 0.02, (0.0, 0.0, 0.0)),
    "leaves": Material("2a621e 3a7424 245224 54761e", 0.10, (0.16, 0.26, 0.08)),
    "trunk": Material("523c2a", 0.08, (0.10, 0.06, 0.0)),
    "skin": Material("e0ac8c 946246 5c3c2c", 0.06),
    "hair": Material("281c14 785632 464646", 0.08),
    "clothes": Material("be1e3c 242c64 ecdcdc b446a0 1e1e22 d65a28", 0.12, (0.03, 0.05, 0.0)),
    "trousers": Material("283054 342e2c 605850", 0.08),
    "jersey": Material("fa7810 d6f01e fa3c78", 0.06),
    "helmet": Material("f0f0f0 e61e1e fad21e", 0.05, (0.0, 0.0, 0.0)),
    "paint": Material("c4181c 183caa e6e6ea 16161a 969aa0 14703c 5c1028", 0.08, (0.01, 0.02, 0.0)),
    "glass": Material("303a46 42505e", 0.06, (0.01, 0.04, 0.06)),
    "tyre": Material("1a1a1c", 0.05, (0.03, 0.0, 0.0)),
    "hub": Material("a6a6aa", 0.06),
    "headlight": Material("fcf8e2", 0.02, (0.0, 0.0, 0.0), 4.0),
    "taillight": Material("ce1214", 0.03, (0.0, 0.0, 0.0), 1.2),
    "cargo": Material("f0f0ec dce4ee 82aad2", 0.06, (0.02, 0.02, 0.04)),
    "cab": Material("285aaa be2824 f0be28 eeeeee", 0.06),
    "bus": Material("f2b014 ea8c18 e2c43c", 0.06, (0.01, 0.02, 0.0)),
    "train": Material("bac6ce a0babe", 0.05, (0.02, 0.02, 0.0)),
    "train band": Material("c8143c 00748c", 0.05),
    "motorcycle": Material("1e1e22 881018 141e5a", 0.08, (0.10, 0.0, 0.0)),
    "frame": Material("1ea0be d23caa 5ac846", 0.08),
    "spokes": Material("86888c", 0.04, (0.14, 0.0, 0.0)),
    "box": Material("3c684a 6c5a46 96963c", 0.12),
    "hood": Material("2e2e34 781416 6e7278", 0.08, (0.0, 0.0, 0.08)),
}
MATERIAL_NUMBERS = {name: number for number, name in enumerate(MATERIALS)}


# ------------------------------------------------------------------------------------------------------------
# Scene: world coordinates in metres, x to the right, y up from the ground, z away from the camera.


class Face(NamedTuple):
    """A parallelogram in the world; a point (u, v) of it is origin + u * along + v * up."""

    origin: tuple[float, float, float]
    along: tuple[float, float, float]
    up: tuple[float, float, float]
    lit: float  # share of the direct light it gets


class Scene:
    """Flat parts painted back to front.

    `parts` (H, W) holds row numbers of the table `label`, `instance`, `material`, `tint`, `depth`, `lit`;
    depth is in metres, 0 for the ground, whose depth follows from the row of the picture. `shadow` (H, W) is
    255 where an object keeps the sun from the ground.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator):
        self.height, self.width = size
        self.rng = rng
        self.focal = 0.95 * min(self.height, self.width / 2)  # px
        self.camera = rng.uniform(1.4, 1.9)  # metres above the ground
        self.horizon = self.height * rng.uniform(0.40, 0.50)  # px
        self.center = self.width * rng.uniform(0.40, 0.60)  # px
        self.sun = rng.choice((-1, 1)) * rng.uniform(0.4, 1.1), rng.uniform(-0.2, 0.5)  # shadow per metre
        self.thin = 0.018 * self.height  # px, the least width of a pole
        self.shadow = Image.new("L", (self.width, self.height))
        self._parts = Image.new("I", (self.width, self.height))
        self._draw, self._draw_shadow = ImageDraw.Draw(self._parts), ImageDraw.Draw(self.shadow)
        self._rows, self._numbers = [], {}
        self._instance, self._label, self._depth = 0, "sky", 1e3
        self._number("sky", 1.0)

    def finish(self) -> "Scene":
        self.parts = np.asarray(self._parts)
        label, instance, material, tint, depth, lit = zip(*self._rows, strict=True)
        self.label, self.instance = np.array(label, np.uint8), np.array(instance, np.uint16)
        self.material = np.array(material)
        self.tint, self.depth, self.lit = (np.array(column, np.float32) for column in (tint, depth, lit))
        return self

    def start(self, label: str, depth: float = 0.0) -> None:
        """Begin an object; what is painted until the next start belongs to it."""
        self._instance, self._label, self._depth = self._instance + 1, label, depth

    def _number(self, material: str, lit: float) -> int:
        key = self._instance, material, lit
        if key not in self._numbers:
            self._numbers[key] = len(self._rows)
            number, tint = MATERIAL_NUMBERS[material], self.rng.random(4)
            self._rows.append((LABELS[self._label], self._instance, number, tint, self._depth, lit))
        return self._numbers[key]

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        scale = self.focal / max(z, 0.3)
        return self.center + scale * x, self.horizon + scale * (self.camera - y)

    def polygon(self, points: Iterable[tuple[float, float, float]], material: str, lit: float = 1.0) -> None:
        self._draw.polygon([self.pixel(*point) for point in points], fill=self._number(material, lit))

    def ground(self, x0: float, x1: float, z0: float, z1: float, material: str) -> None:
        self.polygon(((x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)), material)

    def paint(self, face: Face, material: str, *points: tuple[float, float]) -> None:
        """Paint on a face: all of it, the rectangle between two points (u, v), or a polygon of more."""
        if len(points) <= 2:
            (u0, v0), (u1, v1) = points or ((0, 0), (1, 1))
            points = (u0, v0), (u1, v0), (u1, v1), (u0, v1)
        (x, y, z), (ax, ay, az), (bx, by, bz), lit = face
        world = [(x + u * ax + v * bx, y + u * ay + v * by, z + u * az + v * bz) for u, v in points]
        self.polygon(world, material, lit)

    def stamp(self, face: Face, shape: str) -> None:
        for material, *points in SHAPES[shape]:
            self.paint(face, material, *points)

    def disc(self, x: float, y: float, z: float, radius: float, material: str, lit: float = 0.8) -> None:
        (left, top), (right, bottom) = (self.pixel(x + s * radius, y - s * radius, z) for s in (-1, 1))
        box = left, top, max(right, left + 1), max(bottom, top + 1)
        self._draw.ellipse(box, fill=self._number(material, lit))

    def rod(self, z: float, width: float, material: str, *points: tuple[float, float], thin: float = 1):
        """Paint a line through points (x, y) in metres at distance z, at least `thin` pole widths wide."""
        pixels = max(round(width * self.focal / z), round(thin * self.thin), 1)
        line = [self.pixel(x, y, z) for x, y in points]
        self._draw.line(line, fill=self._number(material, 0.8), width=pixels)

    def hood(self, top: float) -> None:
        box = -0.1 * self.width, top * self.height, 1.1 * self.width, 1.4 * self.height
        self._draw.ellipse(box, fill=self._number("hood", 0.8))

    def cast(self, x0: float, x1: float, z0: float, z1: float, height: float) -> None:
        """Cast the shadow of a box on the ground."""
        dx, dz = self.sun[0] * height, self.sun[1] * height
        (x0, x1), (z0, z1) = (x0, x1)[:: 1 if dx > 0 else -1], (z0, z1)[:: 1 if dz > 0 else -1]
        outline = (x0, z0), (x1, z0), (x1 + dx, z0 + dz), (x1 + dx, z1 + dz), (x0 + dx, z1 + dz), (x0, z1)
        self._draw_shadow.polygon([self.pixel(x, 0, z) for x, z in outline], fill=255)

    def front(self, x0: float, x1: float, z: float, height: float, bottom: float = 0.0) -> Face:
        return Face((x0, bottom, z), (x1 - x0, 0, 0), (0, height, 0), 0.75)

    def side(self, x: float, z0: float, z1: float, height: float) -> Face:
        """The face in the plane x, seen from the street: lit when the sun stands on the other side of it."""
        return Face((x, 0, z0), (0, 0, z1 - z0), (0, height, 0), 1.0 if x * self.sun[0] > 0 else 0.3)


def ring(u: float, v: float, across: float, up: float) -> tuple[tuple[float, float], ...]:
    angles = (k * math.pi / 6 for k in range(12))
    return tuple((u + across * math.cos(a), v + up * math.sin(a)) for a in angles)


def wheels(across: float, up: float, hub: str = "hub", share: float = 0.5):
    for u in (0.18, 0.8):
        yield "tyre", *ring(u, up, across, up)
        yield hub, *ring(u, up, share * across, share * up)


BAND = tuple(("glass", ((k + 0.12) / 7, 0.5), ((k + 0.88) / 7, 0.84)) for k in range(7))
TYRES = ("tyre", (0.02, 0), (0.2, 0.25)), ("tyre", (0.8, 0), (0.98, 0.25))
CAR_END = (
    *TYRES,
    ("paint", (0, 0.15), (0, 0.6), (0.13, 1), (0.87, 1), (1, 0.6), (1, 0.15)),
    ("glass", (0.08, 0.62), (0.17, 0.94), (0.83, 0.94), (0.92, 0.62)),
)
WINDSCREEN = ("glass", (0.08, 0.46), (0.92, 0.84))
BUS_END = (*TYRES, ("bus", (0, 0.1), (1, 1)), WINDSCREEN, ("steel", (0.2, 0.88), (0.8, 0.96)))
TRAIN_END = (*TYRES, ("train", (0, 0.1), (1, 1)), ("train band", (0, 0.26), (1, 0.4)), WINDSCREEN)


def lamps(material: str, height: float):
    return tuple((material, (u, height), (u + 0.16, height + 0.09)) for u in (0.06, 0.78))


SHAPES = {  # painted in this order on the unit square: (material, points as Scene.paint takes them)
    "triangle": (
        ("sign red", (0, 0), (1, 0), (0.5, 1)),
        ("sign white", (0.22, 0.13), (0.78, 0.13), (0.5, 0.7)),
    ),
    "round": (("sign red", *ring(0.5, 0.5, 0.5, 0.5)), ("sign white", (0.2, 0.4), (0.8, 0.6))),
    "square": (("sign blue",), ("sign white", (0.4, 0.2), (0.6, 0.8))),
    "diamond": (("sign yellow", (0, 0.5), (0.5, 0), (1, 0.5), (0.5, 1)),),
    "bin": (("box", (0.06, 0), (0.94, 0.9)), ("steel", (0, 0.88), (1, 1))),
    "wall": (("stone",), *(("mortar", (0, v), (1, v + 0.035)) for v in (0.22, 0.47, 0.72, 0.96))),
    "fence": (("fence gap", (0, 0), (1, 0.92)), *(("picket", (0, v), (1, v + 0.08)) for v in (0.2, 0.7))),
    "bicycle": (*wheels(0.24, 0.31, "spokes", 0.67), ("tyre", (0.28, 0.72), (0.44, 0.8))),
    "motorcycle": (
        *wheels(0.24, 0.31, "hub", 0.42),
        (
            "motorcycle",
            (0.05, 0.55),
            (0.3, 0.75),
            (0.5, 0.62),
            (0.62, 0.85),
            (0.8, 0.8),
            (0.86, 0.5),
            (0.6, 0.2),
            (0.35, 0.2),
        ),
        ("tyre", (0.18, 0.66), (0.5, 0.76)),
        ("headlight", *ring(0.87, 0.72, 0.06, 0.1)),
    ),
    "car side": (
        (
            "paint",
            (0, 0.16),
            (0, 0.6),
            (0.02, 0.94),
            (0.1, 1),
            (0.5, 1),
            (0.7, 0.64),
            (0.98, 0.56),
            (1, 0.16),
        ),
        ("glass", (0.08, 0.64), (0.1, 0.92), (0.3, 0.92), (0.3, 0.64)),
        ("glass", (0.34, 0.64), (0.34, 0.92), (0.49, 0.92), (0.62, 0.64)),
        *wheels(0.085, 0.23),
    ),
    "car rear": (*CAR_END, ("sign yellow", (0.35, 0.26), (0.65, 0.36)), *lamps("taillight", 0.44)),
    "car front": (*CAR_END, ("sign white", (0.35, 0.26), (0.65, 0.36)), *lamps("headlight", 0.42)),
    "truck side": (
        ("tyre", (0, 0.12), (1, 0.26)),
        ("cargo", (0, 0.26), (0.72, 1)),
        ("cab", (0.76, 0.14), (0.76, 0.8), (0.94, 0.8), (1, 0.5), (1, 0.14)),
        ("glass", (0.82, 0.5), (0.82, 0.74), (0.93, 0.74), (0.97, 0.5)),
        *wheels(0.063, 0.145),
    ),
    "truck rear": (
        *TYRES,
        ("cargo", (0, 0.24), (1, 1)),
        ("tyre", (0.49, 0.26), (0.51, 0.98)),
        ("steel", (0, 0.14), (1, 0.24)),
        *lamps("taillight", 0.15),
    ),
    "truck front": (
        *TYRES,
        ("cargo", (0, 0.1), (1, 1)),
        ("cab", (0, 0.1), (1, 0.74)),
        ("glass", (0.08, 0.46), (0.92, 0.7)),
        *lamps("headlight", 0.2),
    ),
    "bus side": (("bus", (0, 0.09), (1, 1)), *BAND, *wheels(0.045, 0.155)),
    "bus rear": (*BUS_END, *lamps("taillight", 0.2)),
    "bus front": (*BUS_END, *lamps("headlight", 0.2)),
    "train side": (
        ("train", (0, 0.09), (1, 1)),
        ("train band", (0, 0.26), (1, 0.4)),
        ("tyre", (0, 0), (1, 0.1)),
        *BAND,
    ),
    "train rear": (*TRAIN_END, *lamps("taillight", 0.16)),
    "train front": (*TRAIN_END, *lamps("headlight", 0.16)),
}
# Width, height, length in metres
VEHICLES = {"car": (1.9, 1.55, 4.3), "truck": (2.6, 3.5, 8), "bus": (2.6, 3.2, 11), "train": (2.9, 3.7, 24)}


# ------------------------------------------------------------------------------------------------------------
# What stands in the town: beside the street in the plane x from z0 to z1, or at a point (x, z).


def lot(scene: Scene, x: float, z0: float, z1: float) -> None:
    """Fill one lot beside the street and what shows behind it."""
    rng = scene.rng
    kind = rng.choice(("building", "wall", "fence", "hedge", "open"), p=(0.47, 0.17, 0.22, 0.09, 0.05))
    behind = x + math.copysign(rng.uniform(4, 8), x)
    if kind != "building" and rng.random() < 0.6:
        building(scene, behind, z0, z1)
    for z in np.linspace(z1, z0, {"building": 0, "hedge": 6}.get(kind, 2)):
        tree(scene, (x + behind) / 2, z, trunk=rng.uniform(0.5, 2.5))
    if kind == "building":
        building(scene, x, z0, z1)
    elif kind != "open":
        barrier(scene, x, z0, z1, kind)


def building(scene: Scene, x: float, z0: float, z1: float) -> None:
    rng, outward = scene.rng, math.copysign(1, x)
    height = rng.uniform(5, 15)
    side, front = scene.side(x, z0, z1, height), scene.front(x, x + 12 * outward, z0, height)
    scene.start("building", (z0 + z1) / 2)
    scene.cast(x, x + 12 * outward, z0, z1, height)
    if rng.random() < 0.5:  # a gable roof
        ridge = x + 6 * outward, height + rng.uniform(3, 5)
        scene.polygon(((x, height, z0), (*ridge, z0), (*ridge, z1), (x, height, z1)), "roof", side.lit)
        scene.polygon(((x, height, z0), (*ridge, z0), (x + 12 * outward, height, z0)), "facade", front.lit)
    floors = max(1, int(height / 3.2))
    for wall, length in ((front, 12), (side, z1 - z0)):
        scene.paint(wall, "facade")
        scene.paint(wall, "roof", (0, 0.965), (1, 1))
        (x0, _, depth), (dx, _, dz), *_ = wall
        width = abs(scene.pixel(x0 + dx, 0, depth + dz)[0] - scene.pixel(x0, 0, depth)[0])
        columns = max(1, int(length / 2.6)) if width > 2 * length else 0  # none where too narrow to see
        for i in range(columns):
            for j in range(floors):
                u, v, bottom = (i + 0.25) / columns, j / floors, 0.05 if j == 0 else 0.3
                pane = "door" if j == 0 and i % 3 == 1 else "window" if rng.random() < 0.7 else "lit window"
                scene.paint(wall, pane, (u, v + bottom / floors), (u + 0.5 / columns, v + 0.75 / floors))


def barrier(scene: Scene, x: float, z0: float, z1: float, kind: str) -> None:
    height = scene.rng.uniform(1.9, 3.2)
    scene.start("vegetation" if kind == "hedge" else kind, (z0 + z1) / 2)
    scene.cast(x, x, z0, z1, height)
    for face, length in (
        (scene.side(x, z0, z1, height), z1 - z0),
        (scene.front(x, x + math.copysign(10, x), z0, height), 10),
    ):
        if kind == "hedge":
            scene.paint(face, "leaves")
            continue
        scene.stamp(face, kind)
        count = int(length / 0.55) if kind == "fence" else 0
        for k in range(count):
            scene.paint(face, "picket", (k / count, 0), ((k + 0.5) / count, 1))


def tree(scene: Scene, x: float, z: float, trunk: float = 2.4) -> None:
    radius = scene.rng.uniform(1.3, 2.2)
    scene.start("vegetation", z)
    scene.cast(x - radius * 0.7, x + radius * 0.7, z - 1, z + 1, trunk + radius)
    scene.rod(z, 0.35, "trunk", (x, 0), (x, trunk + radius))
    for k in range(9):
        if k % 4 == 3:  # another green
            scene.start("vegetation", z)
        dx, dy, share = scene.rng.uniform((-0.7, -0.7, 0.4), (0.7, 0.7, 0.65)) * radius
        scene.disc(x + dx, trunk + radius + dy, z, share, "leaves", lit=1.0 if dy > 0 else 0.8)


def post(scene: Scene, x: float, z: float, height: float, *top: tuple[float, float]) -> None:
    scene.start("pole", z)
    scene.cast(x - 0.12, x + 0.12, z, z + 0.2, height)
    scene.rod(z, 0.22, "steel", (x, 0), (x, height), *top)


def street_lamp(scene: Scene, x: float, z: float) -> None:
    height, reach = scene.rng.uniform(5, 7), -math.copysign(1.6, x)
    post(scene, x, z, height, (x + reach, height + 0.3))
    scene.rod(z, 0.22, "lamp", (x + 0.6 * reach, height + 0.2), (x + reach, height + 0.25), thin=0.8)


def traffic_light(scene: Scene, x: float, z: float) -> None:
    height, reach = scene.rng.uniform(3.8, 5.2), -math.copysign(scene.rng.choice((0.0, 2.6)), x)
    post(scene, x, z, height, (x + reach, height))
    lit = scene.rng.integers(3)
    for center in sorted({x, x + reach}):
        scene.start("traffic light", z)
        scene.paint(scene.front(center - 0.32, center + 0.32, z, 1.6, height - 1.7), "signal box")
        for k, name in enumerate(("green light", "amber light", "red light")):
            scene.disc(center, height - 1.4 + 0.5 * k, z, 0.21, name if k == lit else "dark light", lit=1.0)


def traffic_sign(scene: Scene, x: float, z: float) -> None:
    height, radius = scene.rng.uniform(2.3, 3.0), scene.rng.uniform(0.45, 0.65)
    post(scene, x, z, height)
    scene.start("traffic sign", z)
    shape = scene.rng.choice(("triangle", "round", "square", "diamond"))
    scene.stamp(scene.front(x - radius, x + radius, z, 2 * radius, height - radius), shape)


def bin_(scene: Scene, x: float, z: float) -> None:
    scene.start("void", z)
    scene.cast(x - 0.35, x + 0.35, z, z + 0.6, 1.0)
    scene.stamp(scene.front(x - 0.4, x + 0.4, z, 1.15), "bin")


def person(scene: Scene, x: float, z: float) -> None:
    size, step, arm = scene.rng.uniform((0.92, 0.05, 0.35), (1.1, 0.28, 0.5))
    scene.start("person", z)
    scene.cast(x - 0.25, x + 0.25, z, z + 0.2, 1.7 * size)
    for foot in (x - step, x + step):
        scene.rod(z, 0.2, "trousers", (foot, 0), (x, 0.9 * size), thin=0.9)
    scene.rod(z, 0.46, "clothes", (x, 0.8 * size), (x, 1.42 * size), thin=2)
    scene.rod(z, 0.14, "clothes", (x - arm, 0.85 * size), (x, 1.36 * size), (x + arm, 0.85 * size), thin=0.7)
    scene.disc(x, 1.62 * size, z, 0.18, "hair")
    scene.disc(x, 1.57 * size, z, 0.15, "skin")


def two_wheeler(scene: Scene, x: float, z: float, kind: str, ridden: bool) -> None:
    """A bicycle or a motorcycle, turned by any angle but not seen end on."""
    half = scene.rng.uniform(0.5, 0.9) * scene.rng.choice((-1, 1))
    scene.start(kind, z)
    scene.cast(x - abs(half), x + abs(half), z, z + 0.2, 1.6 if ridden else 0.9)
    scene.stamp(scene.front(x - half, x + half, z, 1.2), kind)

    def at(u: float, y: float) -> tuple[float, float]:  # u from -1, the rear end, to 1
        return x + u * half, y

    if kind == "bicycle":
        saddle, pedals, bar = at(-0.28, 0.82), at(-0.04, 0.34), at(0.4, 0.82)
        scene.rod(z, 0.09, "frame", at(-0.6, 0.34), saddle, bar, pedals, saddle, thin=0.9)
        scene.rod(z, 0.09, "frame", at(0.6, 0.34), bar, at(0.44, 1.03), thin=0.9)
    if ridden:
        scene.start("rider", z)
        scene.rod(z, 0.2, "trousers", at(-0.2, 0.95), at(0.1, 0.62), at(0, 0.3))
        scene.rod(z, 0.42, "jersey", at(-0.2, 0.9), at(0.15, 1.5), thin=2)
        scene.rod(z, 0.14, "jersey", at(0.15, 1.45), at(0.45, 1.08))
        scene.disc(*at(0.24, 1.66), z, 0.18, "skin")
        scene.disc(*at(0.2, 1.74), z, 0.19, "helmet")


def vehicle(scene: Scene, x: float, z: float, kind: str, oncoming: bool, across: bool = False) -> None:
    width, height, length = scene.rng.uniform(0.92, 1.1, 3) * VEHICLES[kind]
    end, side = kind + (" front" if oncoming else " rear"), kind + " side"
    if across:  # it crosses the street: its long side faces the camera
        width, length, end, side = length, width, side, end
    scene.start(kind, z)
    scene.cast(x - width / 2, x + width / 2, z, z + length, height * 0.9)
    if abs(x) > width / 2:  # x = 0 lies beside it
        nose, tail = (z, z + length) if oncoming else (z + length, z)
        scene.stamp(scene.side(x - math.copysign(width / 2, x), tail, nose, height), side)
    scene.stamp(scene.front(x - width / 2, x + width / 2, z, height), end)


# ------------------------------------------------------------------------------------------------------------
# The street.

FAR = 90.0  # metres


def draw_road(scene: Scene, middle: float, half: float) -> list[tuple]:
    """Paint the road and return what drives on it: (z, function, x, further arguments)."""
    rng, left, right = scene.rng, middle - half, middle + half
    scene.start("road")
    scene.ground(left, right, 0.3, FAR, "asphalt")
    for x in (left + 0.25, right - 0.4):
        scene.ground(x, x + 0.15, 0.3, FAR, "marking")
    for z in np.arange(rng.uniform(0, 6), 60, 6):
        scene.ground(middle - 0.08, middle + 0.08, z, z + 3, "marking")
    if rng.random() < 0.3:  # zebra crossing
        z = rng.uniform(4.5, 10)
        for x in np.arange(left + 0.6, right - 0.8, 1.1):
            scene.ground(x, x + 0.55, z, z + 2.5, "marking")

    things = []
    kinds = "car", "truck", "bus", "motorcycle", "bicycle"
    parked, driving = (0.76, 0.04, 0.04, 0.1, 0.06), (0.42, 0.18, 0.18, 0.12, 0.10)
    lanes = (
        (left + 1.3, True, 5, parked),
        (right - 1.3, False, 5, parked),
        (middle - 0.25 * half, True, 8, driving),
        (middle + 0.3 * half, False, 8, driving),
    )
    for x, oncoming, nearest, chances in lanes:
        z = rng.uniform(nearest, nearest + 12)
        while z < 45 and rng.random() < 0.75:
            kind = rng.choice(kinds, p=chances)
            if kind in VEHICLES:
                things.append((z, vehicle, x, kind, oncoming))
            elif z < 16:
                things.append((z, two_wheeler, x, kind, True))
            z += VEHICLES.get(kind, (0, 0, 2))[2] + rng.uniform(2, 12)
    if rng.random() < 0.25:
        x, kind = middle + rng.uniform(-3, 3), rng.choice(kinds[:3])
        things.append((rng.uniform(12, 22), vehicle, x, kind, False, True))
    if rng.random() < 0.3:
        things.append((rng.uniform(6, 11), person, rng.uniform(left, right)))
    if rng.random() < 0.5:
        x, kind = rng.uniform(left, right), rng.choice(kinds[3:])
        things.append((rng.uniform(5, 10), two_wheeler, x, kind, True))
    return things


def draw_roadside(scene: Scene, side: int, edge: float, railway: bool) -> list[tuple]:
    """Paint the ground and the lots on one side (-1, 1) of the road; return its things as draw_road."""
    rng, x, things = scene.rng, edge, []
    if railway:
        scene.start("void")
        scene.ground(x, x + side * 4, 0.3, FAR, "ballast")
        for offset in (1.2, 2.8):
            scene.ground(x + side * offset, x + side * (offset + 0.16), 0.3, FAR, "rail")
        if rng.random() < 0.9:
            things.append((rng.uniform(6, 16), vehicle, x + side * 2, "train", rng.random() < 0.5))
        x += side * 4
    verge = rng.uniform(1.0, 2.5) if rng.random() < 0.5 else 0.0
    posts, x = x + side * max(verge / 2, 0.35), x + side * verge
    path = x, x + side * rng.uniform(2.5, 4.5)
    scene.start("sidewalk")
    scene.ground(*path, 0.3, FAR, "paving")
    for z in np.geomspace(2.5, 25, 10):
        scene.ground(*path, z, z * 1.025, "joint")
    scene.ground(x, x + side * 0.25, 0.3, FAR, "kerb")

    ends, front = [1.0], path[1] + side * rng.choice((0.0, 1.0, 3.0))
    while ends[-1] < 70:
        ends.append(ends[-1] + rng.uniform(5, 11))
    for z0, z1 in zip(ends[-2::-1], ends[:0:-1], strict=True):
        lot(scene, front, z0, z1)

    things += [(z, street_lamp, posts) for z in np.arange(rng.uniform(5, 10), 45, rng.uniform(9, 14))]
    for draw, most, farthest in ((tree, 3, 30), (traffic_light, 2, 14), (traffic_sign, 2, 13)):
        things += [(z, draw, posts) for z in rng.uniform(6, farthest, rng.integers(most + 1))]
    for draw, most in ((person, 3), (bin_, 1)):
        count = rng.integers(most + 1)
        things += [(z, draw, rng.uniform(*sorted(path))) for z in rng.uniform(4.5, 13, count)]
    if rng.random() < 0.4:
        z, kind = rng.uniform(4.5, 10), rng.choice(("bicycle", "motorcycle"))
        things += [(z + 1.2 * k, two_wheeler, x + side * 0.9, kind, False) for k in range(rng.integers(1, 4))]
    return things


def draw_scene(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw one street of (height, width) pixels."""
    scene = Scene(size, rng)
    for _ in range(12):  # skyline at the end of the street
        label, material = (("building", "facade"), ("vegetation", "leaves"))[rng.integers(2)]
        x, width, height = rng.uniform((-90, 8, 5), (90, 30, 14))
        scene.start(label, FAR)
        scene.paint(scene.front(x, x + width, FAR, height), material)
    scene.start("terrain")
    scene.ground(-400, 400, 0.3, 4 * FAR, "grass")

    middle, half = rng.uniform(-1.5, 1.5), rng.uniform(4.0, 5.6)
    things = draw_road(scene, middle, half)
    railway = rng.choice((-1, 1)) if rng.random() < 0.4 else 0
    for side in (-1, 1):
        things += draw_roadside(scene, side, middle + side * half, side == railway)
    for z, draw, x, *arguments in sorted(things, key=lambda thing: -thing[0]):
        draw(scene, x, z, *arguments)
    if rng.random() < 0.5:  # the hood of the car that carries the camera
        scene.start("void", 1.0)
        scene.hood(rng.uniform(0.90, 0.95))
    return scene.finish()


# ------------------------------------------------------------------------------------------------------------
# Styles: how a domain looks.


@dataclass(frozen=True)
class Style:
    """How a domain looks; amounts without a unit are shares of full scale."""

    sky: str  # rrggbb at the top and at the horizon
    light: tuple[float, float, float]  # direct light
    ambient: tuple[float, float, float]  # light in the shadow
    shadow_blur: float = 0.0  # shares of the height
    clouds: float = 0.2
    texture: float = 1.0
    haze: float = 0.0  # per metre
    saturation: float = 1.0
    contrast: float = 1.0
    exposure: float = 0.0  # standard deviation of log brightness over images
    white_balance: float = 0.0  # the same for single channels
    noise: float = 0.0
    blur: float = 0.0  # px at a height of 256
    night: float = 0.0  # share of the images
    rain: float = 0.0
    jpeg: int = 92
    colors: dict[str, str] = field(default_factory=dict)  # other colours than those of MATERIALS


STYLES = {
    "gtav": Style(
        sky="468ce2 bad4ec",
        light=(0.62, 0.58, 0.50),
        ambient=(0.46, 0.50, 0.58),
        saturation=1.15,
        contrast=1.08,
        exposure=0.06,
        white_balance=0.02,
        noise=0.008,
    ),
    "cityscapes": Style(
        sky="dee4e0 ecf0ea",
        light=(0.10, 0.11, 0.10),
        ambient=(0.60, 0.68, 0.61),
        shadow_blur=0.02,
        clouds=0.05,
        texture=0.7,
        haze=0.005,
        saturation=0.6,
        contrast=0.85,
        exposure=0.10,
        white_balance=0.03,
        noise=0.012,
        blur=0.8,
        colors={"facade": "beb4a0 aaa49c cec4aa 968476", "bus": "d4ccbe 962828 e2c43c"},
    ),
    "bdd100k": Style(
        sky="809ec4 d6dce2",
        light=(0.42, 0.40, 0.38),
        ambient=(0.44, 0.46, 0.50),
        shadow_blur=0.008,
        clouds=0.5,
        haze=0.003,
        saturation=0.75,
        contrast=1.15,
        exposure=0.22,
        white_balance=0.06,
        noise=0.02,
        blur=0.5,
        night=0.35,
        rain=0.25,
        jpeg=55,
        colors={
            "facade": "8e4a3a 786e68 5a5454 c8beb2",
            "asphalt": "686664 7e7a74",
            "marking": "e8be3c e2e2dc",
        },
    ),
    "mapillary": Style(
        sky="a4bed6 eae8de",
        light=(0.34, 0.33, 0.30),
        ambient=(0.52, 0.52, 0.52),
        shadow_blur=0.012,
        clouds=0.6,
        texture=1.3,
        haze=0.014,
        saturation=0.85,
        contrast=0.9,
        exposure=0.25,
        white_balance=0.09,
        noise=0.035,
        blur=0.6,
        jpeg=75,
        colors={"grass": "747846 a89664", "asphalt": "7a726a 5c5c5e"},
    ),
    "synthia": Style(
        sky="8c80be f4d4be",
        light=(0.52, 0.42, 0.34),
        ambient=(0.40, 0.40, 0.54),
        clouds=0.0,
        texture=0.15,
        saturation=1.1,
        contrast=1.15,
        exposure=0.12,
        colors={
            "asphalt": "56505e",
            "paving": "a08e9a",
            "facade": "7882aa c8bec8 78606a",
            "grass": "64885a",
            "leaves": "246046 42743c",
        },
    ),
}


MOON = np.array((0.60, 0.62, 0.78), np.float32)  # daylight that is left at night


def grain(rng: np.random.Generator, size: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise (H, W) of about unit variance with features of `cell` px."""
    height, width = size
    if cell <= 1:
        return rng.standard_normal(size, np.float32)
    small = rng.standard_normal((max(2, round(height / cell)), max(2, round(width / cell))), np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)) * 1.5


def soften(image: np.ndarray, radius: float, top: float = 1.0) -> np.ndarray:
    """Blur a picture (H, W, 3) of values in [0, top]."""
    picture = Image.fromarray((image.clip(0, top) * (255 / top) + 0.5).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) * (top / 255)


def rgb(colors: str) -> list[np.ndarray]:
    """Read "rrggbb ..." as values in [0, 1]."""
    return [np.array(list(bytes.fromhex(color)), np.float32) / 255 for color in colors.split()]


def part_colors(scene: Scene, style: Style) -> np.ndarray:
    """Choose the colour (rows, 3) in [0, 1] of every part of a scene."""
    palettes = [rgb(style.colors.get(name, material.colors)) for name, material in MATERIALS.items()]
    colors = [
        palettes[number][int(tint * len(palettes[number]))]
        for number, tint in zip(scene.material, scene.tint[:, 0], strict=True)
    ]
    vary = np.array([material.vary for material in MATERIALS.values()], np.float32)[scene.material, None]
    value, hue = scene.tint[:, 1:2], scene.tint[:, [2, 3, 2]]
    return np.array(colors) * (1 + vary * (2 * value - 1 + (hue - 0.5)))


def render(scene: Scene, style: Style, rng: np.random.Generator) -> Image.Image:
    """Turn a scene into an RGB picture of a style."""
    size = height, width = scene.height, scene.width
    night, rain = rng.random() < style.night, rng.random() < style.rain
    parts, pixel = scene.parts, height / 256  # grain and blur grow with the picture
    texture = np.array([material.texture for material in MATERIALS.values()], np.float32)[scene.material]

    colors = part_colors(scene, style)
    relief = 1 + sum(
        np.take(style.texture * texture[:, k], parts) * grain(rng, size, cell)
        for k, cell in enumerate((pixel, 4 * pixel, 32 * pixel))
    )

    # Light: the sun on faces and, where nothing shades it, on the ground
    row = np.arange(height, dtype=np.float32)[:, None]
    depth = np.take(scene.depth, parts)
    on_ground = depth == 0
    depth = np.where(on_ground, scene.focal * scene.camera / np.maximum(row - scene.horizon, 1), depth)
    shadow = scene.shadow.filter(ImageFilter.GaussianBlur(style.shadow_blur * height))
    shadow = np.asarray(shadow, np.float32) / 255
    lit = np.where(on_ground, 1 - shadow, np.take(scene.lit, parts))[..., None]
    (light, ambient), (top, bottom) = np.array((style.light, style.ambient), np.float32), rgb(style.sky)
    if night:
        light, ambient, top, bottom = light * 0.08, ambient * MOON, top * MOON * 0.5, bottom * MOON * 0.5
        pools = 0.5 * np.exp(-(((depth % 12 - 6) / 3) ** 2))[..., None]  # street lamps, every 12 m
        ambient = ambient + on_ground[..., None] * pools * np.array((0.5, 0.42, 0.28), np.float32)
    image = np.take(colors, parts, axis=0) * (ambient + light * lit) * relief[..., None]

    # Air: sky, clouds, haze
    sky = top + (bottom - top) * np.broadcast_to(row / scene.horizon, size)[..., None].clip(0, 1)
    if style.clouds:
        cloud = (grain(rng, size, 40 * pixel) + 0.5 * grain(rng, size, 12 * pixel)).clip(0, 2)[..., None]
        sky = sky + style.clouds * 0.4 * cloud * (bottom - sky)
    if rain:
        bottom = bottom * 0.75
        sky = sky * 0.2 + bottom * 0.8
    clear = np.exp(-depth * (style.haze * rng.uniform(0.3, 1.7) + 0.012 * rain))[..., None]
    image = bottom + clear * (image - bottom)
    image[parts == 0] = sky[parts == 0]

    if rain:  # a wet ground mirrors the sky; streaks
        wet = on_ground[..., None] * (0.25 + 0.15 * grain(rng, size, 16 * pixel)[..., None]).clip(0, 0.6)
        image += wet * (0.8 * bottom - image)
        streaks = Image.fromarray(grain(rng, (max(2, height // 12), width), 1.0)).resize((width, height))
        image += 0.06 * (np.asarray(streaks)[..., None] > 2.2)
    if night:
        glow = np.array([material.glow for material in MATERIALS.values()], np.float32)[scene.material, None]
        source = np.take(glow * colors, parts, axis=0)
        image += 0.6 * source + sum(0.4 * soften(source, radius * pixel, 4) for radius in (5, 16))

    # Camera: channel gains, saturation and contrast as one matrix
    gain = np.exp(rng.normal(0, style.exposure) + rng.normal(0, style.white_balance, 3))
    mix = style.contrast * (style.saturation * np.eye(3) + (1 - style.saturation) / 3)
    image = image @ (gain[:, None] * mix).astype(np.float32) + 0.45 * (1 - style.contrast)
    if style.blur:
        image = soften(image, style.blur * pixel * rng.uniform(0.6, 1.4))
    if style.noise:
        image += rng.standard_normal(image.shape, np.float32) * (style.noise * rng.uniform(0.5, 1.5))
    return Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------
# Layouts and encodings of the real datasets. An encoding is the id (256,) of every train id and of 255.

CITIES = {
    "train": "aachen bochum bremen cologne darmstadt dusseldorf erfurt hamburg hanover jena krefeld "
    "monchengladbach strasbourg stuttgart tubingen ulm weimar zurich".split(),
    "val": "frankfurt lindau munster".split(),
}


def encoding(ids: Sequence[int], void: int) -> np.ndarray:
    table = np.full(256, void, np.uint8)
    table[: len(ids)] = ids
    return table


ENCODINGS = {  # void: static, static, void, 255, unlabeled
    "cityscapes": encoding(TRAIN_ID_TO_ID[:19], 4),
    "gtav": encoding(TRAIN_ID_TO_ID[:19], 4),
    "synthia": encoding((3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11), 0),
    "bdd100k": encoding(range(19), IGNORE_LABEL),
    "mapillary": encoding((13, 15, 17, 6, 3, 45, 48, 50, 30, 29, 27, 19, 20, 55, 61, 54, 58, 57, 52), 65),
}
CITYSCAPES_ID_PALETTE = np.zeros((256, 3), np.uint8)
for entry in CITYSCAPES:
    if entry.id >= 0:
        CITYSCAPES_ID_PALETTE[entry.id] = entry.color


def paths(domain: str, split: str, index: int) -> tuple[str, str]:
    """Name image and label number `index` of a split ("train" or "val"), relative to the domain's root."""
    if domain == "cityscapes":
        city = CITIES[split][index % len(CITIES[split])]
        name = f"{split}/{city}/{city}_{index:06d}_000019_"
        return (
            f"leftImg8bit_trainvaltest/leftImg8bit/{name}leftImg8bit.png",
            f"gtFine_trainvaltest/gtFine/{name}gtFine_labelIds.png",
        )
    if domain == "gtav":
        name = f"{'valid' if split == 'val' else split}/{index // 50 + 1:02d}/{index + 1:05d}.png"
        return f"images/{name}", f"labels/{name}"
    if domain == "synthia":
        return f"RGB/{split}/{index:07d}.png", f"GT/LABELS/{split}/{index:07d}.png"
    if domain == "bdd100k":
        name = f"{split}/{index:08x}-{zlib.crc32(b'%d' % index):08x}"
        return f"images/{name}.jpg", f"labels/{name}_train_id.png"
    folder = "training" if split == "train" else "validation"
    return f"{folder}/images/toy_{index:06d}.jpg", f"{folder}/labels/toy_{index:06d}.png"


def write_png16(path: Path, array: np.ndarray) -> None:
    """Write an array (H, W, 3) of 16-bit values as RGB PNG, which PIL cannot."""
    height, width, _ = array.shape
    lines = np.zeros((height, 1 + 6 * width), np.uint8)  # each begins with filter type 0
    lines[:, 1:] = array.astype(">u2").view(np.uint8).reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)  # 16 bits, colour type RGB
    data = zlib.compress(lines.tobytes(), 1)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_pair(root: Path, domain: str, split: str, index: int, size: tuple[int, int], seed: int) -> None:
    """Render image number `index` of a split and write it with its label."""
    rng = np.random.default_rng((seed, zlib.crc32(f"{domain}/{split}".encode()), index))
    scene = draw_scene(size, rng)
    style = STYLES[domain]
    image, label = render(scene, style, rng), scene.label[scene.parts]
    image_path, label_path = (root / domain / path for path in paths(domain, split, index))
    image_path.parent.mkdir(parents=True, exist_ok=True)
    label_path.parent.mkdir(parents=True, exist_ok=True)
    if image_path.suffix == ".jpg":
        image.save(image_path, quality=style.jpeg)
    else:
        image.save(image_path, compress_level=1)
    ids = ENCODINGS[domain][label]
    if domain == "synthia":
        write_png16(label_path, np.stack((ids, scene.instance[scene.parts], np.zeros_like(ids)), 2))
        return
    picture = Image.fromarray(ids)
    if domain == "gtav":
        picture.putpalette(CITYSCAPES_ID_PALETTE.tobytes())
    picture.save(label_path)


def write_toy_city(
    out: str | Path,
    *,
    size: tuple[int, int] = (256, 512),
    train: int = 64,
    val: int = 16,
    seed: int = 0,
    domains: Sequence[str] = tuple(STYLES),
) -> Path:
    """Write `train` and `val` pairs of `size` (height, width) per domain under OUT/{domain} and return OUT.

    Does nothing where the same settings were written before. Raises ValueError for an unknown domain, an
    impossible size or count, and for a directory that holds anything else.
    """
    out = Path(out)
    if unknown := sorted(set(domains) - set(STYLES)):
        raise ValueError(f"unknown domain {', '.join(unknown)}; the toy town has {', '.join(STYLES)}")
    if min(size) < 16 or min(train, val, seed) < 0:
        raise ValueError(
            f"size {tuple(size)} must be at least 16 x 16, and train, val, seed {train, val, seed} at least 0"
        )
    settings = {
        "version": VERSION,
        "size": list(size),
        "train": train,
        "val": val,
        "seed": seed,
        "domains": sorted(set(domains)),
    }
    marker = out / MARKER
    if marker.is_file():
        written = json.loads(marker.read_text())
        done = written.pop("done")
        if written != settings:
            raise ValueError(
                f"{out} holds a toy town with other settings: {written}, asked for {settings}; "
                "choose another directory or remove this one"
            )
        if done:
            return out
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no toy town ({MARKER} is missing)")
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(settings | {"done": False}))
    jobs = [
        (domain, split, index)
        for domain in settings["domains"]
        for split, count in (("train", train), ("val", val))
        for index in range(count)
    ]
    for domain, split, index in tqdm(jobs, desc="toy town", unit="image"):
        write_pair(out, domain, split, index, size, seed)
    marker.write_text(json.dumps(settings | {"done": True}))
    return out


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m datasets.toy_city", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory to write; one folder per domain")
    parser.add_argument("--height", type=int, default=256, help="pixels")
    parser.add_argument("--width", type=int, default=512, help="pixels")
    parser.add_argument("--train", type=int, default=64, help="training images per domain")
    parser.add_argument("--val", type=int, default=16, help="validation images per domain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domains", nargs="+", default=list(STYLES), metavar="NAME", help=", ".join(STYLES))
    args = parser.parse_args(argv)
    try:
        write_toy_city(
            args.out,
            size=(args.height, args.width),
            train=args.train,
            val=args.val,
            seed=args.seed,
            domains=args.domains,
        )
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
