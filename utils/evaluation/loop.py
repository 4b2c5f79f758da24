"""From the images of a loader to records: predict each image, count its pixels, write what is finished."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from utils import bars, distributed, versions
from utils.classes import ClassTable
from utils.evaluation.counts import Measures
from utils.evaluation.folder import ResultFolder
from utils.evaluation.inference import WindowBatcher, classify, free_memory, out_of_memory
from utils.evaluation.progress import Background
from utils.evaluation.protocol import Protocol
from utils.evaluation.recorder import Predicted, Recorder
from utils.evaluation.scores import without_picture
from utils.files import printable, safe_name
from utils.logging import logger, own_logger
from utils.variants import parse

LARGE = 2**24  # px of an image that is finished before the next one
UNREADABLE, TOO_LARGE, CHANGED = "cannot be read", "are too large for the memory", "were changed meanwhile"
TOO_LARGE_ADVICE = (
    "too large for the memory; raise --max_memory_gb, leave out large --scales, lower --crop_size, or take "
    "--inference_mode sliding"
)


@dataclass(frozen=True)
class Evaluation:
    """The network, how it predicts and what is measured, and where the results go; see `of`."""

    net: WindowBatcher
    device: torch.device
    classes: ClassTable
    protocol: Protocol
    folder: ResultFolder
    bar: bars.Bar  # of all datasets
    measures: Measures = Measures()

    def of(self, dataset: str) -> "Evaluation":
        """Return how the images of `dataset` are predicted: cityscapes@scale-0.5 at one scale."""
        return replace(self, protocol=self.protocol.at_scale(parse(dataset).scale))


def base_of(loader: DataLoader) -> Any:
    """Return the dataset itself of a loader of `setup_eval_loader`."""
    return getattr(loader.dataset, "base", loader.dataset)


def evaluate_unfinished(
    evaluation: Evaluation, loader: DataLoader, recorder: Recorder, profile: bool = False
) -> dict[str, str]:
    """Evaluate the images that are not finished; return those of all processes that were left out, and why.

    In the end also those are predicted again whose small picture is shown but was deleted.
    """
    sampler: Any = loader.sampler
    base = base_of(loader)
    index = {safe_name(base.name_of(base.samples[i])): i for i in sampler.indices}
    wanted = [name for name in index if name not in recorder.progress.finished]
    evaluation.bar.skip(len(index) - len(wanted))
    start = time.perf_counter()
    left_out = evaluate(evaluation, loader, recorder, {name: index[name] for name in wanted})
    if profile and wanted:
        seconds = (time.perf_counter() - start) / len(wanted)
        logger.info("%s: %.3f s per image", recorder.dataset, seconds)
    counts = recorder.progress.gather()
    bare = without_picture(recorder.progress.folder, counts, base.occurring)
    bare = distributed.broadcast_object([] if recorder.progress.of_earlier_version else bare)
    again = {name: i for name, i in index.items() if name in bare}
    evaluation.bar.skip(-len(again))
    evaluate(evaluation, loader, recorder, again)
    every = [item for part in distributed.all_gather_objects(left_out) for item in part.items()]
    return dict(sorted(every))


def evaluate(
    evaluation: Evaluation, loader: DataLoader, recorder: Recorder, indices: Mapping[str, int]
) -> dict[str, str]:
    """Predict and record the images `indices` of this process; return those that were left out, and why.

    Files are written, and images loaded, while the device computes.
    """
    left_out: dict[str, str] = {}
    sampler: Any = loader.sampler
    sampler.indices = list(indices.values())
    with Background() as background:
        for name, batch in zip(indices, evaluation.bar.steps(loader, recorder.dataset), strict=True):
            reason, done = " ".join(batch.get("unreadable", [])), None
            if reason:
                kinds = {"too large for the memory": TOO_LARGE, versions.CHANGED: CHANGED}
                left_out[name] = next((kinds[words] for words in kinds if words in reason), UNREADABLE)
            else:
                try:
                    done = predicted(evaluation, name, batch)
                    if done.pred.numel() > LARGE:  # one at a time in memory
                        recorder.finish(done)
                        continue
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    reason, left_out[name] = f"{name}: {TOO_LARGE_ADVICE}", TOO_LARGE
            if done:
                background.submit(recorder.finish, done)
            else:
                own_logger.warning("left out: %s", printable(reason))
                free_memory(evaluation.device)
    return left_out


def predicted(evaluation: Evaluation, name: str, batch: Mapping[str, Tensor]) -> Predicted:
    """Predict the only image of a batch and count its pixels."""
    image, label = (batch[key].to(evaluation.device, non_blocking=True) for key in ("image", "label"))
    classes, measures = len(evaluation.classes), evaluation.measures
    options = {"confident": bool(measures.bins), **evaluation.protocol.inference()}
    pred, confidence = classify(evaluation.net, image, classes, **options)
    counts = measures.count(label, pred, confidence, classes)
    return Predicted(name, batch["image"][0], batch["label"][0], pred[0], counts)
