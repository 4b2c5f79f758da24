"""The classes that a network tells apart: number, names, colours. Cityscapes' 19 classes are the default."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from utils.errors import UserError

IGNORE_LABEL = 255  # train id of pixels that are neither trained on nor scored


@dataclass(frozen=True)
class ClassTable:
    """A set of classes; train id k is the position of a class in `names`.

    `colors` are RGB values 0..255, for pictures. `ids` are the values in prediction files; the default is the
    train ids. `weights` are the fixed class weights of --cls_wt_loss, if there are any. Pixels of no class
    have train id IGNORE_LABEL. Raises UserError for columns that do not fit together.
    """

    names: Sequence[str]
    colors: Sequence[Sequence[int]]
    ids: Sequence[int] = ()
    weights: Sequence[float] = ()

    def __post_init__(self) -> None:
        names, colors = tuple(self.names), tuple(tuple(color) for color in self.colors)
        ids, weights = tuple(self.ids) or tuple(range(len(names))), tuple(self.weights)
        for column, values in (("colors", colors), ("ids", ids), ("weights", weights)):
            if len(values) != len(names) and (values or column != "weights"):
                raise UserError(f"a class table has {len(names)} names but {len(values)} {column}")
        if not 1 <= len(names) < IGNORE_LABEL or len(set(names)) < len(names):
            raise UserError(f"a class table has 1 to {IGNORE_LABEL - 1} different names, not {names}")
        for color in colors:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise UserError(f"a class colour is three values from 0 to 255, not {color}")
        if not all(0 <= value <= 255 for value in ids):
            raise UserError(f"class ids are from 0 to 255, not {ids}")
        columns = {"names": names, "colors": colors, "ids": ids, "weights": weights}
        for column, given in columns.items():
            object.__setattr__(self, column, given)  # tuples, whatever the caller used

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> dict[str, list]:
        """Return the columns as lists, for a checkpoint or JSON."""
        return {
            column: [list(value) if isinstance(value, tuple) else value for value in values]
            for column, values in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, columns: Mapping[str, Any]) -> "ClassTable":
        """Return the table that `to_dict` described."""
        return cls(**columns)


# fmt: off
_CITYSCAPES = (  # name, id in *_labelIds.png, colour, weight of --cls_wt_loss
    ("road", 7, (128, 64, 128), 0.8373),
    ("sidewalk", 8, (244, 35, 232), 0.9180),
    ("building", 11, (70, 70, 70), 0.8660),
    ("wall", 12, (102, 102, 156), 1.0345),
    ("fence", 13, (190, 153, 153), 1.0166),
    ("pole", 17, (153, 153, 153), 0.9969),
    ("traffic light", 19, (250, 170, 30), 0.9754),
    ("traffic sign", 20, (220, 220, 0), 1.0489),
    ("vegetation", 21, (107, 142, 35), 0.8786),
    ("terrain", 22, (152, 251, 152), 1.0023),
    ("sky", 23, (70, 130, 180), 0.9539),
    ("person", 24, (220, 20, 60), 0.9843),
    ("rider", 25, (255, 0, 0), 1.1116),
    ("car", 26, (0, 0, 142), 0.9037),
    ("truck", 27, (0, 0, 70), 1.0865),
    ("bus", 28, (0, 60, 100), 1.0955),
    ("train", 31, (0, 80, 100), 1.0865),
    ("motorcycle", 32, (0, 0, 230), 1.1529),
    ("bicycle", 33, (119, 11, 32), 1.0507),
)
# fmt: on
_names, _ids, _colors, _weights = zip(*_CITYSCAPES, strict=True)
CITYSCAPES = ClassTable(_names, _colors, _ids, _weights)
