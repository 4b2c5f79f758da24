"""Flat drawings on the unit square, which `Scene.stamp` paints on a face: signs, barriers, vehicles."""

import math
from collections.abc import Iterator
from typing import NamedTuple

Point = tuple[float, float]  # (u, v), from (0, 0) at the bottom left to (1, 1)


class Patch(NamedTuple):
    """One colour area; see `Scene.paint` for the meaning of its points."""

    material: str
    points: tuple[Point, ...]


def patch(material: str, *points: Point) -> Patch:
    return Patch(material, points)


def ring(u: float, v: float, across: float, up: float) -> tuple[Point, ...]:
    """Return an ellipse around (u, v) as a polygon of 12 points."""
    angles = (k * math.pi / 6 for k in range(12))
    return tuple((u + across * math.cos(a), v + up * math.sin(a)) for a in angles)


def wheels(across: float, up: float, hub: str = "hub", share: float = 0.5) -> Iterator[Patch]:
    """Yield two wheels; `share` is the radius of the hub divided by that of the wheel."""
    for u in (0.18, 0.8):
        yield patch("tyre", *ring(u, up, across, up))
        yield patch(hub, *ring(u, up, share * across, share * up))


def lamps(material: str, height: float) -> tuple[Patch, ...]:
    return tuple(patch(material, (u, height), (u + 0.16, height + 0.09)) for u in (0.06, 0.78))


BAND = tuple(patch("glass", ((k + 0.12) / 7, 0.5), ((k + 0.88) / 7, 0.84)) for k in range(7))
TYRES = patch("tyre", (0.02, 0), (0.2, 0.25)), patch("tyre", (0.8, 0), (0.98, 0.25))
CAR_END = (
    *TYRES,
    patch("paint", (0, 0.15), (0, 0.6), (0.13, 1), (0.87, 1), (1, 0.6), (1, 0.15)),
    patch("glass", (0.08, 0.62), (0.17, 0.94), (0.83, 0.94), (0.92, 0.62)),
)
WINDSCREEN = patch("glass", (0.08, 0.46), (0.92, 0.84))
BUS_END = (*TYRES, patch("bus", (0, 0.1), (1, 1)), WINDSCREEN, patch("steel", (0.2, 0.88), (0.8, 0.96)))
TRAIN_END = (*TYRES, patch("train", (0, 0.1), (1, 1)), patch("train band", (0, 0.26), (1, 0.4)), WINDSCREEN)

SHAPES: dict[str, tuple[Patch, ...]] = {  # the patches are painted in this order
    "triangle": (
        patch("sign red", (0, 0), (1, 0), (0.5, 1)),
        patch("sign white", (0.22, 0.13), (0.78, 0.13), (0.5, 0.7)),
    ),
    "round": (patch("sign red", *ring(0.5, 0.5, 0.5, 0.5)), patch("sign white", (0.2, 0.4), (0.8, 0.6))),
    "square": (patch("sign blue"), patch("sign white", (0.4, 0.2), (0.6, 0.8))),
    "diamond": (patch("sign yellow", (0, 0.5), (0.5, 0), (1, 0.5), (0.5, 1)),),
    "bin": (patch("box", (0.06, 0), (0.94, 0.9)), patch("steel", (0, 0.88), (1, 1))),
    "wall": (patch("stone"), *(patch("mortar", (0, v), (1, v + 0.035)) for v in (0.22, 0.47, 0.72, 0.96))),
    "fence": (
        patch("fence gap", (0, 0), (1, 0.92)),
        *(patch("picket", (0, v), (1, v + 0.08)) for v in (0.2, 0.7)),
    ),
    "bicycle": (*wheels(0.24, 0.31, "spokes", 0.67), patch("tyre", (0.28, 0.72), (0.44, 0.8))),
    "motorcycle": (
        *wheels(0.24, 0.31, "hub", 0.42),
        patch(
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
        patch("tyre", (0.18, 0.66), (0.5, 0.76)),
        patch("headlight", *ring(0.87, 0.72, 0.06, 0.1)),
    ),
    "car side": (
        patch(
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
        patch("glass", (0.08, 0.64), (0.1, 0.92), (0.3, 0.92), (0.3, 0.64)),
        patch("glass", (0.34, 0.64), (0.34, 0.92), (0.49, 0.92), (0.62, 0.64)),
        *wheels(0.085, 0.23),
    ),
    "car rear": (*CAR_END, patch("sign yellow", (0.35, 0.26), (0.65, 0.36)), *lamps("taillight", 0.44)),
    "car front": (*CAR_END, patch("sign white", (0.35, 0.26), (0.65, 0.36)), *lamps("headlight", 0.42)),
    "truck side": (
        patch("tyre", (0, 0.12), (1, 0.26)),
        patch("cargo", (0, 0.26), (0.72, 1)),
        patch("cab", (0.76, 0.14), (0.76, 0.8), (0.94, 0.8), (1, 0.5), (1, 0.14)),
        patch("glass", (0.82, 0.5), (0.82, 0.74), (0.93, 0.74), (0.97, 0.5)),
        *wheels(0.063, 0.145),
    ),
    "truck rear": (
        *TYRES,
        patch("cargo", (0, 0.24), (1, 1)),
        patch("tyre", (0.49, 0.26), (0.51, 0.98)),
        patch("steel", (0, 0.14), (1, 0.24)),
        *lamps("taillight", 0.15),
    ),
    "truck front": (
        *TYRES,
        patch("cargo", (0, 0.1), (1, 1)),
        patch("cab", (0, 0.1), (1, 0.74)),
        patch("glass", (0.08, 0.46), (0.92, 0.7)),
        *lamps("headlight", 0.2),
    ),
    "bus side": (patch("bus", (0, 0.09), (1, 1)), *BAND, *wheels(0.045, 0.155)),
    "bus rear": (*BUS_END, *lamps("taillight", 0.2)),
    "bus front": (*BUS_END, *lamps("headlight", 0.2)),
    "train side": (
        patch("train", (0, 0.09), (1, 1)),
        patch("train band", (0, 0.26), (1, 0.4)),
        patch("tyre", (0, 0), (1, 0.1)),
        *BAND,
    ),
    "train rear": (*TRAIN_END, *lamps("taillight", 0.16)),
    "train front": (*TRAIN_END, *lamps("headlight", 0.16)),
}
