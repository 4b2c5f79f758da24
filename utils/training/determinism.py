"""--deterministic: the same run on the same GPUs ends with the same bits, also when it is continued."""

import os

import torch

WORKSPACE = ":4096:8"  # of cuBLAS, which else shares its memory among streams; 8 buffers of 4 MiB


def set_deterministic(wanted: bool) -> None:
    """Let PyTorch use only operations that repeat bit for bit, or any; call this before a GPU computes.

    An operation that has no such form raises an error that names it. The losses and the resizing of the
    networks have one of their own (loss.cross_entropy, network.segmentation.Resize).
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
        torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = wanted
    # takes time, and nothing here reads such memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if wanted != torch.are_deterministic_algorithms_enabled():  # the call alone imports the compiler
        torch.use_deterministic_algorithms(wanted)
