"""A small town in the styles of several domains, written in the layouts and encodings of the real datasets.

    python -m datasets.toy_city --out DIR

Every picture is a function of (seed, domain, split, image number). The steps, one module each: `street`
draws the geometry of a scene with `objects`, `shapes` and `materials`; `rendering` turns it into a picture of
one of the `styles`; `write` saves image and label as `layouts` says.
"""

from datasets.toy_city.adverse import ADVERSE_STYLES, CONDITIONS
from datasets.toy_city.layouts import ENCODINGS, paths
from datasets.toy_city.rendering import render
from datasets.toy_city.scene import Scene
from datasets.toy_city.street import draw_scene
from datasets.toy_city.styles import STYLES, Style
from datasets.toy_city.write import VERSION, write_pair, write_png16, write_toy_city

__all__ = [
    "ADVERSE_STYLES",
    "CONDITIONS",
    "ENCODINGS",
    "STYLES",
    "VERSION",
    "Scene",
    "Style",
    "draw_scene",
    "paths",
    "render",
    "write_pair",
    "write_png16",
    "write_toy_city",
]
