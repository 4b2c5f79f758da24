"""Foggy Cityscapes, Cityscapes with rendered fog (Sakaridis et al., IJCV 2018, arXiv 1708.07819)."""

from datasets.base import Layout, SegmentationDataset
from datasets.labels import ID_TO_TRAIN_ID


def layouts_of(beta: str) -> tuple[Layout, ...]:
    """Return where the images of one attenuation are, and Cityscapes' labels beside them."""
    return tuple(
        Layout(
            f"{images}/{{split}}",
            f"{labels}/{{split}}",
            f"_leftImg8bit_foggy_beta_{beta}.png",
            "_gtFine_labelIds.png",
        )
        for images in ("leftImg8bit_trainvaltest_foggy/leftImg8bit_foggy", "leftImg8bit_foggy")
        for labels in ("gtFine_trainvaltest/gtFine", "gtFine")
    )


class FoggyCityscapes(SegmentationDataset):
    """Cityscapes in fog of attenuation 0.02 per metre, a visibility of 150 m. Labels are Cityscapes' own."""

    name = "foggy_cityscapes"
    root_variable = "FOGGY_CITYSCAPES_DIR"
    layouts = layouts_of("0.02")
    table = ID_TO_TRAIN_ID
    published = {"train": 2975, "val": 500, "test": 1525}
    published_is_sure = False
    download = (
        (
            r"leftImg8bit_foggy/((train|val|test)/[^/]+/[^/]+_leftImg8bit_foggy_beta_0\.\d+\.png)",
            r"leftImg8bit_trainvaltest_foggy/leftImg8bit_foggy/\1",
        ),
        (r"gtFine/((train|val|test)/[^/]+/[^/]+_gtFine_labelIds\.png)", r"gtFine_trainvaltest/gtFine/\1"),
    )


class FoggyCityscapes001(FoggyCityscapes):
    """Cityscapes in fog of attenuation 0.01 per metre, a visibility of 300 m."""

    name = "foggy_cityscapes_0.01"
    root_name = "foggy_cityscapes"
    layouts = layouts_of("0.01")


class FoggyCityscapes0005(FoggyCityscapes):
    """Cityscapes in fog of attenuation 0.005 per metre, a visibility of 600 m."""

    name = "foggy_cityscapes_0.005"
    root_name = "foggy_cityscapes"
    layouts = layouts_of("0.005")
