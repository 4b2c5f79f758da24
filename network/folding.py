"""A network for inference only: batch norms folded into convolutions, together with the ReLUs after them."""

import copy
import logging
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from network import resnet
from network.covariance import check_pixels
from network.instance_whitening import InstanceWhitening
from network.segmentation import SegOutput, StagedNet
from network.shufflenet import ReplacedNorm
from network.standardization import standardize, standardize_by
from utils.precision import float32_or_better

logger = logging.getLogger("robustnet")
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}

# The self check: the largest change of the logits by folding, relative to them (root mean square). Rounding
# changes them by up to 5e-6 in float32, and by 6e-3 in TF32, which float32 convolutions use on a GPU.
CHECK_SIZE = 64  # px; enough that whitened maps of stride 32 have more than one pixel
TOLERANCE = {"double": 1e-6, "float32": 1e-3, "tf32": 3e-2}


class Folded(nn.Module):
    """A copy of a network in eval mode and channels_last that computes the same with fewer passes.

    Its logits equal the network's up to rounding. In bfloat16 the convolutions run in that type, except those
    of the first two stages and the classifiers: rounding there changes the most predictions. `epilogues` lets
    cuDNN add bias, residual and ReLU in the convolution.

    Folding assumes that a batch norm declared right after a convolution is applied right after it. The copy
    is therefore compared with the network on one small random image; if they differ, a warning is logged and
    the network is used unfolded.
    """

    def __init__(self, net: StagedNet, precision: str = "float32", epilogues: bool = True) -> None:
        super().__init__()
        self.dtype = PRECISIONS[precision]
        plain = copy.deepcopy(net).eval()
        image = check_image(plain)
        expected = logits_of(plain, image)
        fold(plain, torch.float32, epilogues)
        error = relative_error(logits_of(plain, image), expected)
        folds = error <= tolerance(image)
        if not folds:
            logger.warning(
                "folding batch norms into convolutions changes the logits of this network by %.2g of their "
                "size; it runs unfolded, which is slower",
                error,
            )
        if not folds or self.dtype != torch.float32:  # the checked copy is not the one that is wanted
            plain = copy.deepcopy(net).eval()
            if folds:
                fold(plain, self.dtype, epilogues)
        self.net = plain
        self.net.layer0 = Exact(self.net.layer0)
        self.net.layer1 = Exact(self.net.layer1, self.dtype)
        for name in self.net.classifiers:
            self.net.set_submodule(name, Classifier(self.net.get_submodule(name)))
        self.net.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W), as the network does."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net(image)


def check_image(net: nn.Module) -> Tensor:
    """Return a random image (1, 3, H, W) on the device and of the type of `net`, always the same."""
    weight = next(net.parameters())
    image = torch.randn(1, 3, CHECK_SIZE, CHECK_SIZE, generator=torch.Generator().manual_seed(0))
    return image.to(weight.device, weight.dtype)


@torch.no_grad()
def logits_of(net: nn.Module, image: Tensor) -> Tensor:
    """Return the logits of `net`, computed without autocast."""
    with torch.autocast(image.device.type, enabled=False):
        return net(image).logits


def relative_error(logits: Tensor, expected: Tensor) -> float:
    """Return the root mean square of the difference, divided by that of `expected`."""
    return ((logits - expected).norm() / expected.norm().clamp(min=1e-30)).item()


def tolerance(image: Tensor) -> float:
    """Return the largest relative error that rounding explains on the device and in the type of `image`."""
    if image.dtype == torch.float64:
        return TOLERANCE["double"]
    return TOLERANCE["tf32" if image.is_cuda else "float32"]


def fold(net: StagedNet, dtype: torch.dtype, epilogues: bool) -> None:
    """Fold the batch norms and ReLUs of `net`, in eval mode, into its convolutions, in place."""
    replaced = [m for m in net.modules() if isinstance(m, ReplacedNorm) and m.has_norm]
    unused = {module for parent in replaced for module in parent.layer.modules()}
    exact = {module for stage in (net.layer0, net.layer1) for module in stage.modules()}
    for module in [module for module in net.modules() if module not in unused]:
        fold_children(module, torch.float32 if module in exact else dtype, epilogues)
    pool_first(net.layer0)
    for name, module in list(net.named_modules()):
        if isinstance(module, resnet.Bottleneck | resnet.BasicBlock) and FoldedBlock.fits(module):
            net.set_submodule(name, FoldedBlock(module))


def fold_children(module: nn.Module, dtype: torch.dtype, epilogues: bool) -> None:
    """Fold each batch norm that follows a convolution among the children of `module`."""
    for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and can_fold(conv, norm):
            setattr(module, name, FoldedConv(conv, norm, dtype, epilogues))
            setattr(module, norm_name, nn.Identity())
    if isinstance(module, nn.Sequential):
        layers = list(module)
        for i, (conv, norm, relu) in enumerate(zip(layers, layers[1:], layers[2:], strict=False)):
            if isinstance(conv, FoldedConv) and isinstance(norm, nn.Identity) and type(relu) is nn.ReLU:
                conv.relu = True
                module[i + 2] = nn.Identity()


def pool_first(stem: nn.Module) -> None:
    """Let max pooling come before an instance norm and a ReLU among the children of `stem`."""
    layers = list(stem.named_children())
    for (name, norm), (_, relu), (last, pool) in zip(layers, layers[1:], layers[2:], strict=False):
        plain = isinstance(norm, InstanceWhitening) or isinstance(norm, nn.InstanceNorm2d) and not norm.affine
        if plain and type(relu) is nn.ReLU and type(pool) is nn.MaxPool2d:
            setattr(stem, name, PooledNorm(pool))
            setattr(stem, last, nn.Identity())


class PooledNorm(nn.Module):
    """Max pooling, then instance norm by the mean and variance of the maps before it.

    Neither the norm nor a ReLU after it changes the order of numbers, so this is what pooling the normalized
    maps gives. A quarter of the pixels is normalized.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, h, w)."""
        check_pixels(x)
        return standardize_by(x, self.pool(x))


def can_fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether `norm` in eval mode is a fixed scale and shift, and `conv` pads zeros by a number of px."""
    fixed = norm.running_mean is not None and norm.affine
    return fixed and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


@cache
def warn_once(reason: str) -> None:
    """Log why some convolutions run without epilogue, which only costs time."""
    logger.warning("convolutions without epilogue: %s", reason)


class FoldedConv(nn.Module):
    """A convolution, the batch norm after it and possibly a ReLU: relu(conv(x) + bias [+ residual])."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype, epilogue: bool) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None or isinstance(conv.padding, str):
            raise TypeError("folding needs running statistics and a padding in px")
        mean, var = norm.running_mean.double(), norm.running_var.double()
        scale, shift = norm.weight.double(), norm.bias.double()
        bias = None if conv.bias is None else conv.bias.double()
        weight, bias = fuse_conv_bn_weights(conv.weight.double(), bias, mean, var, norm.eps, scale, shift)
        stored = conv.weight.dtype if dtype == torch.float32 else dtype
        self.register_buffer("weight", weight.detach().to(stored))
        self.register_buffer("bias", bias.detach().to(stored))
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


class FoldedBlock(nn.Module):
    """A residual block whose convolutions apply the ReLUs and the last one adds the shortcut.

    Made from a block with folded convolutions, which it shares. A norm before the last ReLU stays.
    """

    def __init__(self, block: resnet.Bottleneck | resnet.BasicBlock) -> None:
        super().__init__()
        *convs, self.last = (child for child in block.children() if isinstance(child, FoldedConv))
        self.convs, self.downsample = nn.Sequential(*convs), block.downsample
        for conv in convs:
            conv.relu = True
        norm = block.instance_norm_layer
        self.norm = None if type(norm) is nn.Identity else norm
        self.standardizes = isinstance(norm, InstanceWhitening)
        self.last.relu = self.norm is None
        self._merge_biases()

    def _merge_biases(self) -> None:
        """Let the last convolution add the shortcut's bias, too; an instance norm removes both.

        Adding a bias alone takes a pass over the map.
        """
        shortcut = self.downsample[0] if isinstance(self.downsample, nn.Sequential) else None
        bias = self.last.bias
        if isinstance(shortcut, FoldedConv) and shortcut.bias is not None and bias is not None:
            both = bias.double() + shortcut.bias.double()
            self.last.bias, shortcut.bias = both.to(bias.dtype), None
        if isinstance(self.norm, InstanceWhitening | nn.InstanceNorm2d):
            self.last.bias = None

    @staticmethod
    def fits(block: resnet.Bottleneck | resnet.BasicBlock) -> bool:
        """Whether the convolutions of `block` are folded."""
        return any(isinstance(child, FoldedConv) for child in block.children())

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = self.last(self.convs(x), residual)
        if self.standardizes:  # nobody asks for the map before the ReLU
            check_pixels(x)
            return standardize(x).relu_()
        return x if self.norm is None else self.norm(x).relu()


class Exact(nn.Module):
    """A part that computes in float32 or better, also under autocast; its maps are rounded to `dtype`."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            maps = self.layer(float32_or_better(x))
        return maps if self.dtype == torch.float32 else maps.to(self.dtype)


class Classifier(Exact):
    """A last layer, whose scores are not channels_last.

    Maps of an odd number of classes are resized and summed faster one by one.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()
