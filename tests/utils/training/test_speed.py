"""Parts of --fast; what only a GPU shows is in test_gpu.py."""

import functools
import json
import types

import pytest
import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

import config
from loss import HeadLosses, MainLoss
from network.normalization import InstanceNorm
from network.segmentation import Resize, resize
from network.standardization import standardize, standardize_plainly
from network.synchronization import synchronize
from tests.helpers import run_processes, small_trainer
from utils.errors import UserError
from utils.training import speed
from utils.training.profiling import profiling
from utils.training.trainer import Trainer

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def parts(argv, device=CPU):
    return speed.choose(vars(config.parse_train_args(argv)), device)


def test_fast_chooses_what_is_safe(monkeypatch, caplog):
    plain = {"amp": "none", "channels_last": False, "compile": False, "cuda_graph": False, "num_workers": 4}
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda pid: range(12), raising=False)
    assert parts([]) == plain
    assert parts([], GPU) == plain | {"channels_last": True}
    assert parts(["--no-channels_last"], GPU) == plain
    assert parts(["--fast"]) == plain | {"channels_last": True}
    assert parts(["--fp16"]) == plain | {"amp": "bf16"}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: name)
    fast = {"amp": "bf16", "channels_last": True, "compile": True, "cuda_graph": True, "num_workers": 12}
    with caplog.at_level("INFO", "robustnet"):
        assert parts(["--fast"], GPU) == fast
    assert "amp bf16, channels_last True, compile True, cuda_graph True" in caplog.text
    assert parts(["--fast", "--amp", "none"], GPU) == fast | {"amp": "none"}
    assert parts(["--fast", "--fp16"], GPU) == fast | {"amp": "fp16"}
    assert parts(["--fast", "--num_workers", "5"], GPU) == fast | {"num_workers": 5}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert parts(["--fast"], GPU)["amp"] == "fp16"


def test_what_cannot_be_captured_is_left_out(caplog):
    with caplog.at_level("INFO", "robustnet"):
        assert not parts(["--cuda_graph"])["cuda_graph"]
        assert "--cuda_graph is left out, because training is not on a GPU" in caplog.text
        adapting = ["--adapt_dataset", "gtav", "--sac_phase", "abn", "--compile", "--cuda_graph"]
        assert not any(parts(adapting, GPU)[name] for name in ("compile", "cuda_graph"))
        assert "because a target domain is adapted to" in caplog.text


def test_contradictions_are_refused():
    with pytest.raises(UserError, match="--fp16 is --amp fp16"):
        config.parse_train_args(["--fp16", "--amp", "bf16"])
    with pytest.raises(UserError, match="--micro_batch must be at least 1, not 0"):
        config.parse_train_args(["--micro_batch", "0"])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "norm", [standardize, lambda x: standardize_plainly(x, x), InstanceNorm(3, affine=True).double()]
)
def test_instance_norm_in_every_layout(layout, norm):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    expected, weight = F.instance_norm(x, eps=1e-5), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(norm(x), expected)
    assert norm(x).is_contiguous(memory_format=layout)
    torch.testing.assert_close(norm(x.detach()), expected)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (norm(x), expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("small", [(5, 7), (1, 4), (1, 1)])
def test_gradient_of_resizing_as_products(layout, small):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *small, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 11, 9, dtype=torch.float64).to(memory_format=layout)
    expected = F.interpolate(x, size=(11, 9), mode="bilinear", align_corners=True)
    (gradient,) = torch.autograd.grad(expected, x, weight)
    for form in (resize, Resize.apply, lambda x, size: Resize.apply(x, size, True)):
        assert torch.equal(form(x, (11, 9)), expected)
        torch.testing.assert_close(torch.autograd.grad(form(x, (11, 9)), x, weight)[0], gradient)


def losses_of(steps, **settings):
    """Return the total loss of each of `steps` steps on one batch, and the trainer."""
    trainer, batch = small_trainer(**settings)
    losses = []
    for _ in range(steps):
        trainer.step(batch)
        losses.append(trainer.means.take()[0]["train"])
    return losses, trainer


@pytest.mark.slow
def test_a_compiled_step_is_the_plain_one(monkeypatch):
    """The whole step is one graph: no part of it falls back to Python. Losses differ by rounding."""
    plain, _ = losses_of(20, images=4)
    compiler = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiler)
    for settings in ({"compile": True}, {"compile": True, "channels_last": True}):
        assert losses_of(20, images=4, **settings)[0] == pytest.approx(plain, rel=1e-4)


def losses_of_a_process(rank, world_size, averages, compiler=None):
    """Return the losses of three steps, and the weights then, of a process that trains on part of a batch."""
    trainer, batch = small_trainer(images=4, size=32)
    if compiler:
        trainer.compiled = torch.compile(trainer.source_losses, **compiler)
    elif averages:
        trainer.compiled = trainer.source_losses
    synchronize(trainer.net)
    with torch.no_grad():
        trainer.net.dsn[4].bias += rank if averages else 0  # the main process's weights are taken
    trainer.join()
    assert isinstance(trainer.model, DistributedDataParallel) != averages
    losses = []
    for _ in range(3):
        trainer.step({key: value[rank::world_size].contiguous() for key, value in batch.items()})
        losses.append(trainer.means.take()[0]["train"])
    return losses, trainer.net.state_dict()


def test_gradients_that_are_averaged_after_the_backward_pass_are_those_of_ddp():
    (first, state), (second, _) = run_processes(losses_of_a_process, 2, False)
    for losses, weights in run_processes(losses_of_a_process, 2, True):
        assert losses == first == second
        torch.testing.assert_close(weights, state, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_steps_of_two_processes_compile_into_one_graph():
    (plain, state), _ = run_processes(losses_of_a_process, 2, False)
    compiler = {"backend": "aot_eager", "fullgraph": True}
    for losses, weights in run_processes(losses_of_a_process, 2, True, compiler):
        assert losses == pytest.approx(plain, rel=1e-6)
        torch.testing.assert_close(weights, state, rtol=1e-4, atol=1e-4)


def test_channels_last_steps_are_the_plain_ones():
    assert losses_of(3, channels_last=True)[0] == pytest.approx(losses_of(3)[0], rel=1e-5)


def test_micro_batches_add_up():
    """Without batch statistics, parts of 2 and 1 images have the gradients of 3 images together."""
    gradients = []
    for size in (None, 2):
        trainer, batch = small_trainer(micro_batch=size, images=3)
        trainer.net.eval()
        losses = trainer.source_gradients(*trainer.to_device(batch))
        gradients.append([p.grad for p in trainer.net.parameters() if p.grad is not None])
        assert losses["main"] > 0
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_the_phase_of_the_losses():
    relaxed = HeadLosses(MainLoss(relax_boundary=True, relax_off_iter=5))
    assert [relaxed.phase(i) for i in (0, 5, 6, 7)] == [0, 0, 6, 6]
    assert HeadLosses(MainLoss()).phase(7) == 0


def test_a_trainer_with_its_own_losses_is_not_compiled(caplog):
    class Own(Trainer):
        def source_losses(self, image, label):
            return super().source_losses(image, label) | {"own": image.new_zeros(())}

    trainer, _ = small_trainer(Own, compile=True)
    assert trainer.compiled is None
    assert "--compile: left out" in caplog.text


def test_a_profile_of_five_steps(tmp_path, caplog):
    """Steps 13 to 17 of 20: their operators are in the trace and in the log; a short run has no trace."""
    trainer = types.SimpleNamespace(step=lambda batch: batch.exp())
    with caplog.at_level("INFO", "robustnet"), profiling(trainer, tmp_path):
        for _ in range(20):
            trainer.step(torch.ones(3))
    names = [event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]]
    assert names.count("aten::exp") == 5
    assert "trace of 5 steps in" in caplog.text and "aten::exp" in caplog.text
    with profiling(trainer, tmp_path / "short"):
        trainer.step(torch.ones(3))
    assert "--profile: the run ended before step 17" in caplog.text
