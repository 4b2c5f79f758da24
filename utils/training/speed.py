"""What makes training steps faster: which parts --fast chooses, and a step captured in a CUDA graph."""

import importlib.util
import os
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from utils import distributed
from utils.errors import UserError
from utils.logging import logger

Losses = dict[str, Tensor]
PARTS = ("amp", "channels_last", "compile", "cuda_graph")


def choose(flags: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the values of PARTS, and of --num_workers with --fast; log what was chosen.

    A part that is named on the command line stays as it is named. What this machine or this training cannot
    do is left out, with one log line for each part that was asked for.
    """
    chosen = {name: flags[name] for name in (*PARTS, "num_workers")}
    if flags["fast"]:
        chosen |= {name: value for name, value in safe(device).items() if name not in flags["given"]}
    if chosen["channels_last"] is None:  # the same arithmetic, faster
        chosen["channels_last"] = device.type == "cuda" and not flags["adapt_dataset"]
    if flags["fp16"]:
        chosen["amp"] = "fp16" if device.type == "cuda" else "bf16"
    reasons = [(device.type != "cuda", "training is not on a GPU")]
    if flags["adapt_dataset"]:
        reasons.append((True, "a target domain is adapted to"))
    for part in ("compile", "cuda_graph"):
        allowed = reasons[1:] if part == "compile" else reasons
        reason = next((text for holds, text in allowed if holds), None)
        if part == "compile" and flags["deterministic"]:
            reason = "it chooses kernels by their speed, which --deterministic forbids"
        if chosen[part] and reason:
            logger.info("--%s is left out, because %s", part, reason)
            chosen[part] = False
    if flags["fast"] or any(chosen[name] not in (False, "none") for name in PARTS):
        logger.info("speed: %s", ", ".join(f"{name} {value}" for name, value in chosen.items()))
    if flags["micro_batch"]:
        text = "batch norm and the means of the losses see at most %d images at a time (--micro_batch)"
        logger.info(text, flags["micro_batch"])
    return chosen


def safe(device: torch.device) -> dict[str, Any]:
    """Return the parts that are safe and faster on `device`."""
    if device.type != "cuda":
        return {"channels_last": True}
    capability = torch.cuda.get_device_capability(device)
    compiles = importlib.util.find_spec("triton") is not None and capability >= (7, 0)
    amp = "bf16" if capability >= (8, 0) else "fp16"
    parts = {"amp": amp, "channels_last": True, "compile": compiles, "cuda_graph": True}
    return parts | {"num_workers": loader_workers()}


def loader_workers() -> int:
    """Return how many loader processes each training process on this machine has a core for, 4 to 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(4, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


class CapturedStep:
    """Gradients of batches on a GPU, replayed as one CUDA graph, which spares the host all launches.

    `work(image, label)` computes losses and gradients and returns the losses. The first WARM_UP calls for a
    `kind` of batch run it as it is. The next call captures it; from then on images and labels are copied to
    where the graph reads them. Gradients stay where the graph writes them: they must not be set to None. If
    `work` cannot be captured, one warning says so, and every call runs it as it is. Raises UserError if the
    failed capture left the GPU's random generator unusable, which dropout needs.
    """

    WARM_UP = 3

    def __init__(
        self, work: Callable[[Tensor, Tensor], Losses], forget_gradients: Callable[[], None]
    ) -> None:
        self.work, self.forget_gradients = work, forget_gradients
        self.kind: Hashable = None
        self.calls, self.possible = 0, True
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, kind: Hashable, image: Tensor, label: Tensor) -> Losses:
        """Return the losses of image (B, 3, H, W) and label (B, H, W), until the next call; set gradients.

        Batches of one `kind` differ only in the values of their pixels.
        """
        if kind != self.kind:
            self.kind, self.calls, self.graph = kind, 0, None
        self.calls += 1
        if self.possible and self.graph is None and self.calls > self.WARM_UP:
            self._capture(image, label)
        if self.graph is None:
            return self._directly(image, label)
        self.image.copy_(image)
        self.label.copy_(label)
        self.graph.replay()
        return self.losses

    def _directly(self, image: Tensor, label: Tensor) -> Losses:
        """Run `work` on a stream of its own, which is what capturing it needs to have happened before."""
        self.forget_gradients()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            losses = self.work(image, label)
        torch.cuda.current_stream().wait_stream(stream)
        return losses

    def _capture(self, image: Tensor, label: Tensor) -> None:
        self.forget_gradients()
        self.image, self.label = image.clone(), label.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may query events of the process group meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.losses = self.work(self.image, self.label)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            try:
                torch.cuda.synchronize()
                torch.rand(1, device=image.device)
            except RuntimeError:
                text = f"the steps cannot be captured: {reason}; continue without --cuda_graph"
                raise UserError(text) from error
            logger.warning("--cuda_graph has no effect: %s", reason)
            self.possible = False
        else:
            self.graph = graph
            distributed.captured.add(graph)
