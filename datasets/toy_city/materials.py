"""Materials: the colour and texture of every part of the town.

Colours are those of bright daylight. A style may replace them.
"""

from typing import NamedTuple


class Material(NamedTuple):
    colors: str  # "rrggbb ..."; every part picks one
    vary: float = 0.08  # largest relative deviation of a part from its colour
    texture: tuple[float, float, float] = (0.04, 0.04, 0.0)  # amplitude of fine, middle and coarse grain
    glow: float = 0.0  # light emitted at night


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
