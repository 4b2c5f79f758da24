"""Several views of one image."""

from torch.utils.data import Dataset

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
