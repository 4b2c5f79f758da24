"""The statistics that the ISW masks are estimated from."""

from typing import Any

import torch

from utils import bars, distributed
from utils.errors import UserError
from utils.logging import logger
from utils.training import tensorboard
from utils.training.left_out import LeftOut
from utils.training.trainer import Trainer


@torch.no_grad()
def estimate_masks(
    trainer: Trainer,
    statistics: dict[str, Any],
    trials: int,
    writer: tensorboard.Writer,
    show: bars.Show = bars.over,
) -> None:
    """Estimate the ISW masks (arXiv 2103.15597, eq. 13 to 16); network/README.md tells the steps.

    Each of `trials` passes over each domain of `statistics` clusters the variances between views and
    originals and selects all but the lowest cluster. The mask keeps what every pass selects. `show` draws
    the progress.
    """
    net: Any = trainer.net
    net.eval()
    trainer.whitening.reset()
    left_out = LeftOut()
    for trial in range(trials):
        for name, loader in statistics.items():
            loader.sampler.set_epoch(trial)
            loader.dataset.set_epoch(trial)
            observed = torch.zeros((), device=trainer.device)
            for batch in show(loader, f"statistics of {name}, trial {trial + 1} of {trials}: batch"):
                if reasons := batch.get("unreadable"):
                    left_out.note(reasons, "the statistics do without it")
                    continue
                observed += 1
                pair = loader.dataset.pair(batch, trainer.device)
                trainer.whitening.observe(net.whitened_maps(pair))
            if not distributed.sum_in_place(observed):
                raise UserError(f"no image of {name} can be read for the statistics of --covstat_val_dataset")
            trainer.whitening.finish_trial()
    left_out.summary(f"the statistics of {trials} trials")
    shares = tensorboard.masks(writer, trainer.whitening, trainer.iteration)
    for i, (mask, share) in enumerate(zip(trainer.whitening.masks, shares, strict=True)):
        text = "whitened map %d: %d sensitive covariances, %.2f%%"
        logger.info(text, i, mask.num_selected, 100 * share)
