"""A network for inference alone: batch norms folded into convolutions, with the ReLU behind them."""

import copy
import logging
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from network import resnet
from network.instance_whitening import float32_or_better
from network.shufflenet import ReplacedNorm

logger = logging.getLogger("robustnet")
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


class Folded(nn.Module):
    """A copy of a network in eval mode and channels_last that computes the same with fewer passes.

    Equal to rounding. In bfloat16 the convolutions run in that type, but for the first two stages and the
    classifiers: what is rounded early moves the most predictions. `epilogues` lets cuDNN add bias,
    residual and ReLU in the convolution.
    """

    def __init__(self, net: nn.Module, precision: str = "float32", epilogues: bool = True):
        super().__init__()
        self.dtype = PRECISIONS[precision]
        self.net = copy.deepcopy(net).eval()
        replaced = [m for m in self.net.modules() if isinstance(m, ReplacedNorm) and m.has_norm]
        unused = {module for parent in replaced for module in parent.layer.modules()}
        exact = {module for stage in (self.net.layer0, self.net.layer1) for module in stage.modules()}
        for module in [module for module in self.net.modules() if module not in unused]:
            _fold_children(module, torch.float32 if module in exact else self.dtype, epilogues)
        for module in list(self.net.modules()):
            if isinstance(module, resnet.Bottleneck | resnet.BasicBlock):
                _fold_block(module)
        for name in ("layer0", "layer1"):
            self.net.set_submodule(name, Exact(self.net.get_submodule(name)))
        for name in self.net.classifiers:
            self.net.set_submodule(name, Classifier(self.net.get_submodule(name)))
        self.net.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor):
        """Segment a normalized image (B, 3, H, W), as the network does."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net(image)


@cache
def warn_once(reason: str) -> None:
    """Log why some convolutions run without epilogue, which costs time alone."""
    logger.warning("convolutions without epilogue: %s", reason)


class FoldedConv(nn.Module):
    """A convolution, the batch norm behind it and possibly a ReLU: relu(conv(x) + bias [+ residual])."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype, epilogue: bool):
        super().__init__()
        parts = (conv.weight, conv.bias, norm.running_mean, norm.running_var)
        exact = [part if part is None else part.double() for part in parts]
        weight, bias = fuse_conv_bn_weights(*exact, norm.eps, norm.weight.double(), norm.bias.double())
        kept = conv.weight.dtype if dtype == torch.float32 else dtype
        self.register_buffer("weight", weight.detach().to(kept))
        self.register_buffer("bias", bias.detach().to(kept))
        self.geometry = conv.stride, conv.padding, conv.dilation, conv.groups
        self.epilogue, self.relu = epilogue, False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to (B, D, h, w); a `residual` (B, D, h, w) is added before the ReLU."""
        x = x.to(self.weight.dtype)
        if self.relu and self.epilogue and x.is_cuda:
            try:
                return self._with_epilogue(x, residual)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # cuDNN has no such kernel for this geometry on this GPU
                warn_once(str(error).splitlines()[0])
                self.epilogue = False
        x = F.conv2d(x, self.weight, self.bias, *self.geometry)
        if residual is not None:
            x += residual
        return x.relu_() if self.relu else x

    def _with_epilogue(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if residual is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
        residual = residual.to(x.dtype)
        return torch.cudnn_convolution_add_relu(x, self.weight, residual, 1, self.bias, *self.geometry)


class Exact(nn.Module):
    """A part that computes in float32 or better, also under autocast."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(float32_or_better(x))


class Classifier(Exact):
    """A last layer that puts out whole maps.

    Not channels_last: maps of an odd number of classes are resized and summed faster one by one.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


class FoldedTail:
    """Mixed into a residual block whose last convolution takes the sum and the ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        *convs, last = self.convs
        for conv in convs:
            x = conv(x)
        return last(x, residual)


class FoldedBottleneck(FoldedTail, resnet.Bottleneck):
    """conv1, conv2 and conv3 with the residual."""


class FoldedBasicBlock(FoldedTail, resnet.BasicBlock):
    """conv1 and conv2 with the residual."""


def _fold_children(module: nn.Module, dtype: torch.dtype, epilogues: bool) -> None:
    """Fold each batch norm that stands right behind a convolution among `module`'s children."""
    children = list(module.named_children())
    for (name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, FoldedConv(conv, norm, dtype, epilogues))
            setattr(module, norm_name, nn.Identity())
    if isinstance(module, nn.Sequential):
        layers = list(module)
        for i, (conv, norm, relu) in enumerate(zip(layers, layers[1:], layers[2:], strict=False)):
            if isinstance(conv, FoldedConv) and isinstance(norm, nn.Identity) and type(relu) is nn.ReLU:
                conv.relu = True
                module[i + 2] = nn.Identity()


def _fold_block(block: resnet.Bottleneck | resnet.BasicBlock) -> None:
    """Give a residual block's ReLUs to its convolutions, unless a norm stands between."""
    block.convs = [child for child in block.children() if isinstance(child, FoldedConv)]
    if type(block.instance_norm_layer) is not nn.Identity or not block.convs:
        return
    for conv in block.convs:
        conv.relu = True
    block.__class__ = FoldedBottleneck if isinstance(block, resnet.Bottleneck) else FoldedBasicBlock
