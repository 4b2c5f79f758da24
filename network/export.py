"""Write a trained network as one file that runs without this project: ONNX or TorchScript."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from network.segmenter import Segmenter
from utils.errors import UserError

FORMATS = ("onnx", "torchscript")
EXAMPLE_SIZE = (96, 128)  # px, of the image with which the network is traced
OPSET = 17  # of ONNX; every runtime since 2022 reads it


class Logits(nn.Module):
    """A network whose output is only the logits, because exported networks return plain tensors."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, K, H, W) of a normalized image (B, 3, H, W)."""
        return self.net(image).logits


@torch.no_grad()
def export(net: Segmenter, file: str | Path, kind: str) -> None:
    """Write `net`, which is on the CPU, to `file` as `kind`, "onnx" or "torchscript".

    The written network maps "image", float32 (B, 3, H, W) with ImageNet's mean and std, to "logits"
    (B, K, H, W), for any B, H and W. Raises UserError if a package that the format needs is missing.
    """
    if kind not in FORMATS:
        raise UserError(f"a network is exported as {' or '.join(FORMATS)}, not {kind!r}")
    plain, example = Logits(net).eval(), torch.zeros(1, 3, *EXAMPLE_SIZE)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    if kind == "onnx":
        try:
            import onnx  # noqa: F401  # torch.onnx.export needs it and says so only after writing
        except ImportError as error:
            raise UserError("ONNX files need the package onnx: pip install onnx") from error
    free = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that do not depend on the image, and of newer exporters
        if kind == "torchscript":
            torch.jit.trace(plain, (example,), check_trace=False).save(str(file))
            return
        torch.onnx.export(
            plain,
            (example,),
            str(file),
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": free, "logits": free},
            opset_version=OPSET,
            dynamo=False,  # the other exporter fixes height and width, which are rounded to the output stride
        )
