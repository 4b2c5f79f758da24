"""BDD100K, the 10k images with segmentation labels (Yu et al., CVPR 2020, arXiv 1805.04687)."""

from datasets.base import Layout, SegmentationDataset


class BDD100K(SegmentationDataset):
    """BDD100K in the layout of its first release or of the newer one. Its labels hold train ids."""

    name = "bdd100k"
    root_variable = "BDD_DIR"
    layouts = (
        Layout("images/{split}", "labels/{split}", ".jpg", "_train_id.png"),
        Layout("images/10k/{split}", "labels/sem_seg/masks/{split}", ".jpg", ".png"),
    )
    published = {"train": 7000, "val": 1000}
    download = (
        (r"seg/(images/(train|val|test)/[^/]+\.jpg)", r"\1"),
        (r"seg/(labels/(train|val)/[^/]+_train_id\.png)", r"\1"),
        (r"(images/10k/(train|val|test)/[^/]+\.jpg)", r"\1"),
        (r"(labels/sem_seg/masks/(train|val)/[^/]+\.png)", r"\1"),
    )
