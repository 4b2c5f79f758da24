"""The looks of fog, night, rain and snow, and of the domains that are written only when they are named."""

from dataclasses import replace

from datasets.toy_city.styles import STYLES, Style

OVERCAST = Style(
    sky="b4babe ccd0d0",
    light=(0.08, 0.08, 0.08),
    ambient=(0.50, 0.53, 0.54),
    shadow_blur=0.03,
    clouds=0.3,
    texture=0.9,
    saturation=0.75,
    exposure=0.12,
    white_balance=0.03,
    noise=0.012,
    blur=0.6,
)
CONDITIONS = {
    "fog": replace(OVERCAST, sky="c8cccc d2d4d2", haze=0.045, saturation=0.6, contrast=0.85),
    "night": replace(
        OVERCAST, sky="5a6684 8c8a90", night=1.0, exposure=0.2, white_balance=0.08, noise=0.035, blur=0.8
    ),
    "rain": replace(OVERCAST, sky="8c949a a8aeb0", rain=1.0, contrast=0.95, exposure=0.15, blur=1.0),
    "snow": replace(
        OVERCAST,
        sky="d0d4da e2e6ea",
        ambient=(0.60, 0.63, 0.68),
        haze=0.008,
        snow=0.7,
        saturation=0.65,
        colors={
            "grass": "eceef4 dce0e8",
            "paving": "d6dae2 c4c8d0",
            "kerb": "e6e8ee",
            "ballast": "d2d4da",
            "roof": "f0f2f6 dee2ea",
            "leaves": "8a9a8c c6ced2 6c7a70",
        },
    ),
}
ADVERSE_STYLES = {
    **{f"acdc_{condition}": style for condition, style in CONDITIONS.items()},
    "dark_zurich": replace(CONDITIONS["night"], exposure=0.3, noise=0.05, saturation=0.6),
    "nighttime_driving": replace(CONDITIONS["night"], sky="4c4a52 8a7a6c", white_balance=0.15, blur=1.2),
    "foggy_cityscapes": STYLES["cityscapes"],  # its pictures; the fog is added to them
    "idd": Style(
        sky="b0bcc4 e4dccc",
        light=(0.36, 0.33, 0.27),
        ambient=(0.42, 0.40, 0.36),
        shadow_blur=0.01,
        clouds=0.3,
        texture=1.5,
        haze=0.010,
        saturation=0.9,
        contrast=1.05,
        exposure=0.18,
        white_balance=0.05,
        noise=0.02,
        blur=0.4,
        colors={
            "asphalt": "7c7064 6a625a",
            "paving": "a8906e 967c5c",
            "grass": "b09464 8e9052",
            "facade": "d8a45c c86e5a 7ea4b4 e2d6b4",
        },
    ),
}
ALL_STYLES = STYLES | ADVERSE_STYLES
GROUPS = {"acdc": tuple(f"acdc_{condition}" for condition in CONDITIONS)}  # one name for several domains
BETAS = ("0.005", "0.01", "0.02")  # per metre, of Foggy Cityscapes


def expand(domains: tuple[str, ...] | list[str]) -> list[str]:
    """Return the sorted domains, with those of GROUPS in the place of their group."""
    return sorted({name for domain in domains for name in GROUPS.get(domain, (domain,))})
