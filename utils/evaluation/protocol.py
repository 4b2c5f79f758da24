"""What decides what scores mean, apart from the network and the data."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """How images are prepared and predicted; only scores of one protocol can be compared."""

    mode: str  # one of inference.MODES
    scales: tuple[float, ...]
    flip: bool  # whether the mirrored image is predicted too
    crop: int  # px, side of a sliding window
    overlap: float  # of neighbouring sliding windows, as a fraction of the side
    precision: str  # of the convolutions
    split: str
    cv_split: int  # of Cityscapes' splits by city
    mapillary_protocol: str
    image_in: bool  # whether each image is normalized by its own mean and std
    fixed_aspp_pool: bool
    test_mode: bool = False  # whether only a few images are scored

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them: `scales` is a list. `test_mode` is there only if it is on."""
        fields = asdict(self) | {"scales": list(self.scales)}
        return fields if self.test_mode else {key: fields[key] for key in fields if key != "test_mode"}

    def inference(self) -> dict[str, Any]:
        """Return the arguments of `inference.predict`."""
        return {name: getattr(self, name) for name in ("mode", "scales", "flip", "crop", "overlap")}

    def at_scale(self, scale: float) -> "Protocol":
        """Return this protocol with one scale only; 0 is this protocol itself.

        "whole" becomes "pooling" without the mirror: one pass over the resized image, whose scores are
        resized back.
        """
        if not scale:
            return self
        return replace(self, mode="pooling" if self.mode == "whole" else self.mode, scales=(scale,))

    def average(self) -> str:
        """Say which scales are averaged, where they stand beside single scales."""
        if self.mode == "whole":
            return "protocol (not resized)"
        scales = ", ".join(map(str, self.scales))
        return f"average of scales {scales}" if len(self.scales) > 1 else f"protocol (scale {scales})"

    def title(self) -> str:
        """Say in words how images are predicted and which are."""
        words = [self.describe(), f"split {self.split}"]
        words += [f"cross-validation split {self.cv_split}"] * (self.cv_split > 0)
        words += [f"Mapillary protocol {self.mapillary_protocol}"] * (self.mapillary_protocol != "full")
        return ", ".join([*words, *["only a few images (test mode)"] * self.test_mode])

    def describe(self) -> str:
        """Say in words how images are predicted."""
        words = [self.mode, f"scales {', '.join(map(str, self.scales))}"]
        words += ["mirrored" if self.flip else "not mirrored"]
        if self.mode == "sliding":
            words += [f"crop {self.crop} px", f"overlap {self.overlap:.3g}"]
        words += ["each image normalized by its own statistics"] * self.image_in
        words += ["ASPP pools windows of a fixed size"] * self.fixed_aspp_pool
        return ", ".join([*words, self.precision])
