"""Several views of one image."""

from torch.utils.data import Dataset, default_collate

from datasets.base import sample_rng


class PhotometricPairs(Dataset):
    """Pairs for the whitening statistics: whole images of `base`, whose transform is `presets.statistics`.

    Item i is {"image": the original, "view": the same in other colours and blurred, "name"}, images float32
    (3, H, W). The views depend on (seed, epoch, index); the statistics trial serves as the epoch.
    """

    def __init__(self, base):
        self.base, self.name = base, base.name

    def set_epoch(self, epoch: int) -> None:
        self.base.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> dict:
        sample = self.base.samples[index]._replace(label=None)
        item = self.base.load(sample, sample_rng(self.base.seed, self.base.epoch, index))
        view, original = item["image"]
        return {"image": original, "view": view, "name": item["name"]}


class TargetViews(Dataset):
    """Groups of views of one unlabelled image, for self-training by augmentation consistency (DA-SAC).

    `base` is any SegmentationDataset, of which only the images are read; `preset` is presets.target_views.
    Item i is {"student": noisy views, "teacher": the same without noise, float32 (V, 3, H, W), "matrix":
    from the reference, the image as all views share it, to each view, "inverse": back, float32 (V, 2, 3) as
    in transforms/similarity.py, "valid": bool (V, H, W), False on padding, "name"}.

    A view depends on (seed, epoch, index) and its number alone: index + n len gives other views of an image
    (`ImportanceSampler`), and processes may share a group: `part`
    (i, n) makes the i-th of n equal parts of the V = `views` views.
    """

    def __init__(self, base, preset, views: int = 4, part: tuple[int, int] = (0, 1)):
        number, parts = part
        if views % parts:
            raise ValueError(f"{views} views cannot be divided among {parts} processes")
        self.base, self.preset, self.name, self.samples = base, preset, base.name, base.samples
        self.numbers = range(number * views // parts, (number + 1) * views // parts)

    def set_epoch(self, epoch: int) -> None:
        self.base.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        key = self.base.seed, self.base.epoch, index
        sample = self.samples[index % len(self)]
        image = self.base.open_image(sample.image)
        reference, valid = self.preset.reference(image, sample_rng(*key))
        views = [
            self.preset.view(reference, valid, number, sample_rng(*key, 1 + number))
            for number in self.numbers
        ]
        return {**default_collate(views), "name": self.base.name_of(sample)}
