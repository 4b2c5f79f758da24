"""Turn a scene into a picture of a style: light, air, weather, camera.

Pictures are float arrays (H, W, 3), mostly within [0, 1], until the camera has made 8-bit values of them.
"""

import numpy as np
from PIL import Image, ImageFilter

from datasets.toy_city.materials import MATERIALS
from datasets.toy_city.scene import Scene
from datasets.toy_city.styles import Style

MOON = np.array((0.60, 0.62, 0.78), np.float32)  # the daylight that is left at night


def render(scene: Scene, style: Style, rng: np.random.Generator) -> Image.Image:
    """Return a scene as an RGB picture of a style."""
    night, rain = rng.random() < style.night, rng.random() < style.rain
    colors, depth = part_colors(scene, style), distances(scene)
    (light, ambient), (top, bottom) = np.array((style.light, style.ambient), np.float32), rgb(style.sky)
    relief = surface_grain(scene, style, rng)
    if night:
        light, ambient, top, bottom = light * 0.08, ambient * MOON, top * MOON * 0.5, bottom * MOON * 0.5
        ambient = ambient + street_light(scene, depth)
    image = np.take(colors, scene.parts, axis=0) * (ambient + light * lit_share(scene, style)) * relief

    sky = sky_colors(scene, style, top, bottom, rng)
    if rain:
        bottom = bottom * 0.75
        sky = sky * 0.2 + bottom * 0.8
    clear = np.exp(-depth * (style.haze * rng.uniform(0.3, 1.7) + 0.012 * rain))[..., None]
    image = bottom + clear * (image - bottom)
    image[scene.parts == 0] = sky[scene.parts == 0]
    if rain:
        add_rain(image, scene, bottom, rng)
    if style.snow:
        add_snow(image, scene, style.snow, rng)
    if night:
        add_glow(image, scene, colors)
    return photograph(image, style, rng)


def grain(rng: np.random.Generator, size: tuple[int, int], cell: float) -> np.ndarray:
    """Return smooth noise (H, W) of about unit variance with features of `cell` px."""
    height, width = size
    if cell <= 1:
        return rng.standard_normal(size, np.float32)
    small = rng.standard_normal((max(2, round(height / cell)), max(2, round(width / cell))), np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)) * 1.5


def soften(image: np.ndarray, radius: float, top: float = 1.0) -> np.ndarray:
    """Return a blurred picture (H, W, 3) of values in [0, top]."""
    picture = Image.fromarray((image.clip(0, top) * (255 / top) + 0.5).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) * (top / 255)


def rgb(colors: str) -> list[np.ndarray]:
    """Read "rrggbb ..." as values in [0, 1]."""
    return [np.array(list(bytes.fromhex(color)), np.float32) / 255 for color in colors.split()]


def unit(scene: Scene) -> float:
    """Return the size in px of what is 1 px in a picture 256 px high."""
    return scene.height / 256


def part_colors(scene: Scene, style: Style) -> np.ndarray:
    """Return the colour (parts, 3) of every part of a scene."""
    palettes = [rgb(style.colors.get(name, material.colors)) for name, material in MATERIALS.items()]
    colors = [
        palettes[number][int(tint * len(palettes[number]))]
        for number, tint in zip(scene.material, scene.tint[:, 0], strict=True)
    ]
    vary = np.array([material.vary for material in MATERIALS.values()], np.float32)[scene.material, None]
    value, hue = scene.tint[:, 1:2], scene.tint[:, [2, 3, 2]]
    return np.array(colors) * (1 + vary * (2 * value - 1 + (hue - 0.5)))


def surface_grain(scene: Scene, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Return the factor (H, W, 1) by which fine, middle and coarse texture change the brightness."""
    texture = np.array([material.texture for material in MATERIALS.values()], np.float32)[scene.material]
    size, px = (scene.height, scene.width), unit(scene)
    relief = 1 + sum(
        np.take(style.texture * texture[:, k], scene.parts) * grain(rng, size, cell)
        for k, cell in enumerate((px, 4 * px, 32 * px))
    )
    return relief[..., None]


def on_ground(scene: Scene) -> np.ndarray:
    """Return where the ground is seen, bool (H, W)."""
    return np.take(scene.depth, scene.parts) == 0


def rows(scene: Scene) -> np.ndarray:
    """Return the number of every row, (H, 1)."""
    return np.arange(scene.height, dtype=np.float32)[:, None]


def distances(scene: Scene) -> np.ndarray:
    """Return the distance in metres of every pixel, (H, W)."""
    ground = scene.focal * scene.camera / np.maximum(rows(scene) - scene.horizon, 1)
    return np.where(on_ground(scene), ground, np.take(scene.depth, scene.parts))


def lit_share(scene: Scene, style: Style) -> np.ndarray:
    """Return the share (H, W, 1) of the direct light: by face, and on the ground by shadow."""
    shadow = scene.shadow.filter(ImageFilter.GaussianBlur(style.shadow_blur * scene.height))
    unshaded = 1 - np.asarray(shadow, np.float32) / 255
    return np.where(on_ground(scene), unshaded, np.take(scene.lit, scene.parts))[..., None]


def street_light(scene: Scene, depth: np.ndarray) -> np.ndarray:
    """Return the light (H, W, 3) on the ground of a street lamp every 12 m."""
    pools = 0.5 * np.exp(-(((depth % 12 - 6) / 3) ** 2))[..., None]
    return on_ground(scene)[..., None] * pools * np.array((0.5, 0.42, 0.28), np.float32)


def sky_colors(
    scene: Scene, style: Style, top: np.ndarray, bottom: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the sky (H, W, 3) with its clouds: `top` above, `bottom` at the horizon."""
    size, px = (scene.height, scene.width), unit(scene)
    height = np.broadcast_to(rows(scene) / scene.horizon, size)[..., None].clip(0, 1)
    sky = top + (bottom - top) * height
    if style.clouds:
        cloud = (grain(rng, size, 40 * px) + 0.5 * grain(rng, size, 12 * px)).clip(0, 2)[..., None]
        sky = sky + style.clouds * 0.4 * cloud * (bottom - sky)
    return sky


def add_rain(image: np.ndarray, scene: Scene, sky: np.ndarray, rng: np.random.Generator) -> None:
    """Add, in place, a wet ground that mirrors the sky colour (3,), and streaks."""
    height, width = size = scene.height, scene.width
    puddles = (0.25 + 0.15 * grain(rng, size, 16 * unit(scene))[..., None]).clip(0, 0.6)
    image += on_ground(scene)[..., None] * puddles * (0.8 * sky - image)
    streaks = Image.fromarray(grain(rng, (max(2, height // 12), width), 1.0)).resize((width, height))
    image += 0.06 * (np.asarray(streaks)[..., None] > 2.2)


def add_snow(image: np.ndarray, scene: Scene, share: float, rng: np.random.Generator) -> None:
    """Add, in place, patches of snow on a `share` of the ground, and flakes."""
    height, width = size = scene.height, scene.width
    patches = (share + 0.35 * grain(rng, size, 24 * unit(scene))[..., None]).clip(0, 1)
    image += on_ground(scene)[..., None] * 0.85 * patches * (0.88 - image)
    for cell in (1.0, 2.0, 4.0):  # px: far to near flakes
        step = max(1, round(cell * unit(scene)))
        small = rng.random((max(2, height // step), max(2, width // step)), np.float32) > 1 - 0.012 / cell
        flakes = Image.fromarray(small.astype(np.uint8) * 255).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        image += np.asarray(flakes, np.float32)[..., None] * (0.8 / 255) * (0.95 - image)


def add_fog(picture: Image.Image, scene: Scene, beta: float) -> Image.Image:
    """Return a picture in even fog of attenuation `beta` per metre (arXiv 1708.07819, equations 2 and 3)."""
    clear = np.exp(-beta * distances(scene))[..., None]
    air = np.array((208, 212, 212), np.float32)
    return Image.fromarray((air + clear * (np.asarray(picture) - air) + 0.5).astype(np.uint8))


def add_glow(image: np.ndarray, scene: Scene, colors: np.ndarray) -> None:
    """Add, in place, lamps and lit windows with a halo."""
    glow = np.array([material.glow for material in MATERIALS.values()], np.float32)[scene.material, None]
    source = np.take(glow * colors, scene.parts, axis=0)
    image += 0.6 * source + sum(0.4 * soften(source, radius * unit(scene), 4) for radius in (5, 16))


def photograph(image: np.ndarray, style: Style, rng: np.random.Generator) -> Image.Image:
    """Return what the camera makes of a picture: channel gains, saturation, contrast, blur, noise, 8 bits."""
    gain = np.exp(rng.normal(0, style.exposure) + rng.normal(0, style.white_balance, 3))
    mix = style.contrast * (style.saturation * np.eye(3) + (1 - style.saturation) / 3)
    image = image @ (gain[:, None] * mix).astype(np.float32) + 0.45 * (1 - style.contrast)
    if style.blur:
        image = soften(image, style.blur * (len(image) / 256) * rng.uniform(0.6, 1.4))
    if style.noise:
        image += rng.standard_normal(image.shape, np.float32) * (style.noise * rng.uniform(0.5, 1.5))
    return Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8))
