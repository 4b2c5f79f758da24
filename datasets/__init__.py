"""The domains: DATASETS maps the name used on the command line to its class."""

from datasets.bdd100k import BDD100K
from datasets.camvid import CamVid
from datasets.cityscapes import Cityscapes
from datasets.folder import Folder
from datasets.gtav import GTAV
from datasets.kitti import KITTI
from datasets.labels import IGNORE_LABEL, NUM_CLASSES
from datasets.mapillary import Mapillary
from datasets.null import Null
from datasets.synthia import SYNTHIA

DATASETS = {
    dataset.name: dataset
    for dataset in (Cityscapes, GTAV, SYNTHIA, BDD100K, Mapillary, CamVid, KITTI, Folder, Null)
}

__all__ = ["DATASETS", "IGNORE_LABEL", "NUM_CLASSES", "get_dataset_class"]


def get_dataset_class(name: str) -> type:
    """Return the class of the dataset called `name`; ValueError listing the names if there is none."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}, choose from {', '.join(DATASETS)}")
    return DATASETS[name]
