"""BDD100K, the 10k images with segmentation labels (Yu et al., CVPR 2020, arXiv 1805.04687)."""

from datasets.base import Layout, SegmentationDataset


class BDD100K(SegmentationDataset):
    """BDD100K, whose labels hold train ids; the first release's layout and the newer one's."""

    name = "bdd100k"
    layouts = (
        Layout("images/{split}", "labels/{split}", ".jpg", "_train_id.png"),
        Layout("images/10k/{split}", "labels/sem_seg/masks/{split}", ".jpg", ".png"),
    )
