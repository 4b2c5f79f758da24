"""The weights and inputs the golden numbers of this folder were made with.

`models.*`, `misc.json` and `state_dict.json` hold what the published 2021 code gives on a CPU in float64,
its library calls brought up to date, with Dropout2d switched off. Order of a case in models.json: eval
logits, two statistics trials of three pairs (ISW), then SGD steps (lr 0.01, momentum 0.9, weight decay 5e-4)
on one batch, total = main + 0.4 aux + 0.6 whitening. The published whitening loss is accumulated in float32:
compare it and the gradients to 1e-5 and the losses after the first step to 1e-6 where a map is whitened, all
else to 1e-9.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F


def fidelity(group):
    """Return the numbers and the arrays of fidelity_GROUP, which say what the published code computes."""
    file = Path(__file__).with_name(f"fidelity_{group}.json")
    return json.loads(file.read_text()), np.load(file.with_suffix(".npz"))


def image(seed, height, width):
    """Return the uint8 (H, W, 3) image of a fidelity case."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def randn(seed, *shape):
    """Return the float64 tensor of a fidelity case."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fill(net):
    """Set every floating-point entry of a float64 `net` from its name and shape."""
    for key, value in net.state_dict().items():
        if not value.is_floating_point():
            value.zero_()
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "running_var":
            noise = 0.5 + 0.5 * noise.abs()
        elif leaf == "weight" and value.dim() == 4:
            noise = noise * (1.0 / value[0].numel()) ** 0.5
        elif leaf == "weight":
            noise = 1 + 0.1 * noise
        else:  # biases, running means
            noise = 0.1 * noise
        value.copy_(noise)
    return net


def inputs(n=2, h=97, w=129, seed=7):
    """Return images (n, 3, h, w) float64 and labels (n, h, w) with 255 in the first three rows."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 3, h, w, generator=generator, dtype=torch.float64)
    coarse = torch.randn(n, 3, 5, 7, generator=generator, dtype=torch.float64)
    image = image + 2 * F.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=True)
    label = torch.randint(0, 19, (n, 9, 13), generator=generator)
    label = label.repeat_interleave(11, 1).repeat_interleave(10, 2)[:, :h, :w].contiguous()
    label[:, :3] = 255
    return image, label


def statistics_pair(trial, j):
    """Return [photometric view, original] (2, 3, 97, 129) number j of a statistics trial."""
    original = inputs(1, seed=100 + 10 * trial + j)[0]
    view = original * (1 + 0.2 * ((j + 1) % 3 - 1)) + 0.1 * torch.sin(3 * original)
    return torch.cat([view, original])
