"""ACDC, the Adverse Conditions Dataset (Sakaridis, Dai, Van Gool, ICCV 2021, arXiv 2104.13395)."""

from typing import ClassVar

from datasets.base import Layout, Sample, SegmentationDataset


def layouts_of(condition: str) -> tuple[Layout, ...]:
    """Return where the files of one condition are."""
    return tuple(
        Layout(
            f"{images}/{condition}/{{split}}",
            f"{labels}/{condition}/{{split}}",
            "_rgb_anon.png",
            "_gt_labelTrainIds.png",
        )
        for images in ("rgb_anon_trainvaltest/rgb_anon", "rgb_anon")
        for labels in ("gt_trainval/gt", "gt")
    )


class ACDC(SegmentationDataset):
    """ACDC, frames of 1920x1080 px in fog, at night, in rain and in snow. Its labels hold train ids.

    The clear-weather counterparts in `{split}_ref` are not part of a split. The name of an image keeps its
    suffix, because the test server wants each prediction under the name of its image.
    """

    name = "acdc"
    root_variable = "ACDC_DIR"
    conditions: ClassVar[tuple[str, ...]] = ("fog", "night", "rain", "snow")
    layouts = layouts_of("CONDITION")
    published = {"train": 1600, "val": 406, "test": 2000}
    published_is_sure = False
    download = (
        (
            r"(rgb_anon/(fog|night|rain|snow)/(train|val|test)/[^/]+/[^/]+_rgb_anon\.png)",
            r"rgb_anon_trainvaltest/\1",
        ),
        (r"(gt/(fog|night|rain|snow)/(train|val)/[^/]+/[^/]+_gt_labelTrainIds\.png)", r"gt_trainval/\1"),
    )

    def find_samples(self) -> list[Sample]:
        return [
            sample
            for condition in self.conditions
            for sample in self.list_split(self.split, layouts_of(condition))
        ]

    def plain_name(self, sample: Sample) -> str:
        return sample.image.stem


class ACDCFog(ACDC):
    name = "acdc_fog"
    root_name = "acdc"
    conditions = ("fog",)
    published = {"train": 400, "val": 100, "test": 500}


class ACDCNight(ACDC):
    name = "acdc_night"
    root_name = "acdc"
    conditions = ("night",)
    published = {"train": 400, "val": 106, "test": 500}


class ACDCRain(ACDC):
    name = "acdc_rain"
    root_name = "acdc"
    conditions = ("rain",)
    published = {"train": 400, "val": 100, "test": 500}


class ACDCSnow(ACDC):
    name = "acdc_snow"
    root_name = "acdc"
    conditions = ("snow",)
    published = {"train": 400, "val": 100, "test": 500}
