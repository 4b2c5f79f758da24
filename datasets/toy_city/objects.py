"""The objects of the town: lots beside the street, poles, people and vehicles.

Each function draws one object and takes its random numbers from the scene's generator. Lots fill the plane x
from z0 to z1; everything else is placed at a point (x, z). Metres throughout.
"""

import math

import numpy as np

from datasets.toy_city.scene import Scene
from datasets.toy_city.shapes import Point

# Width, height, length in metres
VEHICLES = {"car": (1.9, 1.55, 4.3), "truck": (2.6, 3.5, 8), "bus": (2.6, 3.2, 11), "train": (2.9, 3.7, 24)}


def lot(scene: Scene, x: float, z0: float, z1: float) -> None:
    """Fill one lot beside the street, with a building or trees visible behind it."""
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
    """Draw a building whose side faces the street in the plane x; it is 12 m wide."""
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
        columns = (
            max(1, int(length / 2.6)) if width > 2 * length else 0
        )  # no windows where they would be too narrow to see
        for i in range(columns):
            for j in range(floors):
                u, v, bottom = (i + 0.25) / columns, j / floors, 0.05 if j == 0 else 0.3
                pane = "door" if j == 0 and i % 3 == 1 else "window" if rng.random() < 0.7 else "lit window"
                scene.paint(wall, pane, (u, v + bottom / floors), (u + 0.5 / columns, v + 0.75 / floors))


def barrier(scene: Scene, x: float, z0: float, z1: float, kind: str) -> None:
    """Draw a "hedge", "wall" or "fence"."""
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
        if k % 4 == 3:  # a new object may be of another green
            scene.start("vegetation", z)
        dx, dy, share = scene.rng.uniform((-0.7, -0.7, 0.4), (0.7, 0.7, 0.65)) * radius
        scene.disc(x + dx, trunk + radius + dy, z, share, "leaves", lit=1.0 if dy > 0 else 0.8)


def post(scene: Scene, x: float, z: float, height: float, *top: Point) -> None:
    """Draw a pole that continues from its upper end through the points `top` (x, y)."""
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
    """Draw a bicycle or a motorcycle, seen from its side or foreshortened."""
    half = scene.rng.uniform(0.5, 0.9) * scene.rng.choice((-1, 1))
    scene.start(kind, z)
    scene.cast(x - abs(half), x + abs(half), z, z + 0.2, 1.6 if ridden else 0.9)
    scene.stamp(scene.front(x - half, x + half, z, 1.2), kind)

    def at(u: float, y: float) -> Point:  # u from -1, the rear end, to 1
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
    """Draw one of VEHICLES, whose nearest point is at distance z."""
    width, height, length = scene.rng.uniform(0.92, 1.1, 3) * VEHICLES[kind]
    end, side = kind + (" front" if oncoming else " rear"), kind + " side"
    if across:  # the vehicle crosses the street, so its long side faces the camera
        width, length, end, side = length, width, side, end
    scene.start(kind, z)
    scene.cast(x - width / 2, x + width / 2, z, z + length, height * 0.9)
    if abs(x) > width / 2:  # the camera at x = 0 sees its side
        nose, tail = (z, z + length) if oncoming else (z + length, z)
        scene.stamp(scene.side(x - math.copysign(width / 2, x), tail, nose, height), side)
    scene.stamp(scene.front(x - width / 2, x + width / 2, z, height), end)
