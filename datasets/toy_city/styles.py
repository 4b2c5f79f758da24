"""The looks of the five domains."""

from dataclasses import dataclass, field

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """How a domain looks. Amounts without a unit are relative to full scale."""

    sky: str  # two colours rrggbb: at the top and at the horizon
    light: Rgb  # direct light
    ambient: Rgb  # light in the shadow
    shadow_blur: float = 0.0  # relative to the height
    clouds: float = 0.2
    texture: float = 1.0
    haze: float = 0.0  # per metre
    saturation: float = 1.0
    contrast: float = 1.0
    exposure: float = 0.0  # standard deviation of log brightness over the images
    white_balance: float = 0.0  # the same for each channel
    noise: float = 0.0
    blur: float = 0.0  # px in an image 256 px high
    night: float = 0.0  # probability
    rain: float = 0.0  # probability
    snow: float = 0.0  # share of the ground that snow covers; above 0 it also falls
    jpeg: int = 92  # quality
    colors: dict[str, str] = field(default_factory=dict)  # replace those of MATERIALS


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
