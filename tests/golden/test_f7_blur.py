"""Training's Gaussian blur; golden/fidelity_F7 holds published arrays."""

import numpy as np
import pytest
import torch

from tests.golden.recipe import fidelity, image
from transforms.photometric import GaussianBlur

F7, ARRAYS = fidelity("F7")
SIGMAS = F7["blur"]["sigmas"]


@pytest.mark.parametrize("number", range(len(SIGMAS)))
def test_the_blur_rounds_what_the_published_one_cuts_off(number):
    """The kernel is the same; values are 0 or 1 above the published ones, 0.5 on average."""
    values = torch.from_numpy(image(F7["blur"]["seed"], 16, 16)).permute(2, 0, 1).float().contiguous()
    GaussianBlur().apply(values, {"sigma": SIGMAS[number]})
    above = values.permute(1, 2, 0).numpy() - ARRAYS[f"blur/{number}"]
    assert np.isin(above, (0, 1)).all() and 0.4 < above.mean() < 0.6
