"""Network, masks and losses equal the published code number for number; origin: golden/recipe.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from loss import aux_cross_entropy, cross_entropy
from network import ARCHS
from network.instance_whitening import Whitening
from tests.golden.recipe import fill, inputs, statistics_pair

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "models.json").read_text())["cases"]
ARRAYS = np.load(GOLDEN / "models.npz")


def near(value, expected, tolerance=1e-9):
    assert value == pytest.approx(expected, rel=tolerance, abs=1e-14)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['arch']}-{''.join(map(str, c['wt_layer']))}")
def test_parity(case):
    net = fill(ARCHS[case["arch"]](wt_layer=tuple(case["wt_layer"])).double())
    net.dsn[3].p = 0.0
    whitening = Whitening.for_network(
        net, clusters=case["clusters"], relax_denom=case["relax_denom"]
    ).double()
    image, label = inputs()

    net.eval()
    with torch.no_grad():
        logits = net(image).logits
    near(logits.mean().item(), case["eval_mean"])
    near(logits.abs().mean().item(), case["eval_abs_mean"])
    np.testing.assert_allclose(
        logits[0, :, ::12, ::12], ARRAYS[f"logits_{case['case']}"], rtol=1e-6, atol=1e-6
    )

    if whitening.selective:
        for trial in range(2):
            for j in range(3):
                with torch.no_grad():
                    whitening.observe(net.whitened_maps(statistics_pair(trial, j)))
            whitening.finish_trial()
            if trial == 0:
                near([mask.variance.sum().item() for mask in whitening.masks], case["cov_var_sum"])
        assert [mask.num_selected.item() for mask in whitening.masks] == case["num_sensitive"]
        for i, mask in enumerate(whitening.masks):
            np.testing.assert_array_equal(np.packbits(mask.mask), ARRAYS[f"mask_{case['case']}_{i}"])

    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    tolerance = 1e-9  # after a step with a float32 whitening loss in its past: 1e-6
    for step, expected in enumerate(case["train"]):
        output = net(image)
        losses = [cross_entropy(output.logits, label), aux_cross_entropy(output.aux_logits, label)]
        near([value.item() for value in losses], expected[:2], tolerance)
        total = losses[0] + 0.4 * losses[1]
        if output.whitened:
            whitened = whitening.loss(output.whitened)
            near(whitened.item(), expected[2], 1e-5)
            total = total + 0.6 * whitened
            tolerance = 1e-6
        optimizer.zero_grad()
        total.backward()
        if step == 0:
            parameters, entries = dict(net.named_parameters()), net.state_dict()
            assert [name for name, p in parameters.items() if p.grad is None] == case["no_grad"]
            gradient_tolerance = 1e-5 if output.whitened else 1e-9
            for name, norm in case["grad_norm"].items():
                near(parameters[name].grad.norm().item(), norm, gradient_tolerance)
            for name, mean in case["bn_after"].items():
                near(entries[name].abs().mean().item(), mean)
        optimizer.step()
