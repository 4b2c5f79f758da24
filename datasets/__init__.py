"""The datasets. DATASETS maps the name used on the command line to the class."""

from collections.abc import Iterable
from importlib import import_module

from datasets.base import SegmentationDataset
from utils import variants
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import UserError, suggestion

__all__ = ["DATASETS", "common_classes", "get_dataset_class"]

DATASET_CLASSES = (  # file.Class
    "cityscapes.Cityscapes",
    "gtav.GTAV",
    "synthia.SYNTHIA",
    "bdd100k.BDD100K",
    "mapillary.Mapillary",
    "camvid.CamVid",
    "kitti.KITTI",
    "acdc.ACDC",
    "acdc.ACDCFog",
    "acdc.ACDCNight",
    "acdc.ACDCRain",
    "acdc.ACDCSnow",
    "dark_zurich.DarkZurich",
    "nighttime_driving.NighttimeDriving",
    "foggy_cityscapes.FoggyCityscapes",
    "foggy_cityscapes.FoggyCityscapes001",
    "foggy_cityscapes.FoggyCityscapes0005",
    "idd.IDD",
    "folder.Folder",
    "null.Null",
)


def _load(entry: str) -> type[SegmentationDataset]:
    file, _, class_name = entry.partition(".")
    return getattr(import_module(f"datasets.{file}"), class_name)


DATASETS: dict[str, type[SegmentationDataset]] = {
    dataset.name: dataset for dataset in map(_load, DATASET_CLASSES)
}


def get_dataset_class(name: str) -> type[SegmentationDataset]:
    """Return the class of the dataset called `name`; UserError listing the names if there is none.

    The class of cityscapes@fog-3 is that of cityscapes.
    """
    name = variants.parse(name).dataset
    if name not in DATASETS:
        raise UserError(
            f"unknown dataset {name!r}, choose from {', '.join(DATASETS)}{suggestion(name, DATASETS)}"
        )
    return DATASETS[name]


def common_classes(names: Iterable[str]) -> ClassTable:
    """Return the class table that all named datasets have; UserError naming two that differ.

    Datasets without labels go with every table. If no dataset has labels, the table is Cityscapes'.
    """
    tables = {name: classes for name in names if (classes := get_dataset_class(name).classes) is not None}
    first = next(iter(tables), "")
    for name, classes in tables.items():
        if classes != tables[first]:
            one, other = (
                f"{n} ({len(tables[n])}: {', '.join(tables[n].names[:3])}, ...)" for n in (first, name)
            )
            raise UserError(f"{one} and {other} differ in their classes; the datasets of a run must not")
    return tables.get(first, CITYSCAPES)
