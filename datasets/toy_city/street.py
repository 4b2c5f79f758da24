"""One street: the road, both roadsides and the order in which everything is painted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from datasets.toy_city.objects import (
    VEHICLES,
    bin_,
    lot,
    person,
    street_lamp,
    traffic_light,
    traffic_sign,
    tree,
    two_wheeler,
    vehicle,
)
from datasets.toy_city.scene import Scene

FAR = 90.0  # metres to the end of the street


class Thing(NamedTuple):
    """An object that waits to be painted with `draw(scene, x, z, *arguments)`, farthest first."""

    z: float
    draw: Callable[..., None]
    x: float
    arguments: tuple[Any, ...] = ()


def draw_road(scene: Scene, middle: float, half: float) -> list[Thing]:
    """Paint the road and return the traffic on it."""
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

    things: list[Thing] = []
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
                things.append(Thing(z, vehicle, x, (kind, oncoming)))
            elif z < 16:
                things.append(Thing(z, two_wheeler, x, (kind, True)))
            z += VEHICLES.get(kind, (0, 0, 2))[2] + rng.uniform(2, 12)
    if rng.random() < 0.25:
        x, kind = middle + rng.uniform(-3, 3), rng.choice(kinds[:3])
        things.append(Thing(rng.uniform(12, 22), vehicle, x, (kind, False, True)))
    if rng.random() < 0.3:
        things.append(Thing(rng.uniform(6, 11), person, rng.uniform(left, right)))
    if rng.random() < 0.5:
        x, kind = rng.uniform(left, right), rng.choice(kinds[3:])
        things.append(Thing(rng.uniform(5, 10), two_wheeler, x, (kind, True)))
    return things


def draw_roadside(scene: Scene, side: int, edge: float, railway: bool) -> list[Thing]:
    """Paint the ground and the lots on one side (-1: left, 1: right) of the road; return the things on it."""
    rng, x = scene.rng, edge
    things: list[Thing] = []
    if railway:
        scene.start("void")
        scene.ground(x, x + side * 4, 0.3, FAR, "ballast")
        for offset in (1.2, 2.8):
            scene.ground(x + side * offset, x + side * (offset + 0.16), 0.3, FAR, "rail")
        if rng.random() < 0.9:
            things.append(Thing(rng.uniform(6, 16), vehicle, x + side * 2, ("train", rng.random() < 0.5)))
        x += side * 4
    verge = rng.uniform(1.0, 2.5) if rng.random() < 0.5 else 0.0
    posts, x = x + side * max(verge / 2, 0.35), x + side * verge
    path = x, x + side * rng.uniform(2.5, 4.5)
    low, high = sorted(path)
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

    things += [Thing(z, street_lamp, posts) for z in np.arange(rng.uniform(5, 10), 45, rng.uniform(9, 14))]
    for draw, most, farthest in ((tree, 3, 30), (traffic_light, 2, 14), (traffic_sign, 2, 13)):
        things += [Thing(z, draw, posts) for z in rng.uniform(6, farthest, rng.integers(most + 1))]
    for draw, most in ((person, 3), (bin_, 1)):
        count = rng.integers(most + 1)
        things += [Thing(z, draw, rng.uniform(low, high)) for z in rng.uniform(4.5, 13, count)]
    if rng.random() < 0.4:
        z, kind = rng.uniform(4.5, 10), rng.choice(("bicycle", "motorcycle"))
        count = rng.integers(1, 4)
        things += [Thing(z + 1.2 * k, two_wheeler, x + side * 0.9, (kind, False)) for k in range(count)]
    return things


def draw_scene(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw one street of `size` (height, width) px."""
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
    for z, draw, x, arguments in sorted(things, key=lambda thing: -thing.z):
        draw(scene, x, z, *arguments)
    if rng.random() < 0.5:  # the hood of the car that carries the camera
        scene.start("void", 1.0)
        scene.hood(rng.uniform(0.90, 0.95))
    return scene.finish()
