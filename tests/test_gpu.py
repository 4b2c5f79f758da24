"""What only a GPU can show; run with `bash scripts/test.sh -m gpu`."""

import copy
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

import config
import train
from datasets.toy_city import write_toy_city
from network import ARCHS, resnet
from network.folding import Folded
from network.instance_whitening import Whitening
from network.segmentation import Resize, interpolate
from network.synchronization import synchronize_batch_norm
from tests.golden.recipe import fill, inputs, statistics_pair
from tests.helpers import (
    ISW,
    ROOT,
    flags,
    joint_kernels,
    run_command,
    small_trainer,
    the_checkpoint,
    torchrun,
)
from transforms.photometric import ColorJitter, GaussianBlur, Photometric
from utils import checkpoint
from utils.evaluation.inference import predict
from utils.pixels import DATASET_COLORS, IMAGENET, normalize_, normalize_levels
from utils.training.guard import Guard

pytestmark = pytest.mark.gpu


@pytest.fixture
def pair():
    """The same float64 ISW network on the CPU and on the GPU."""
    net = fill(ARCHS["DeepR18V3PlusD"](wt_layer=(0, 0, 2, 2, 2, 0, 0)).double()).eval()
    return net, copy.deepcopy(net).cuda()


def test_sliding_scores_equal_the_cpus(pair):
    cpu, gpu = pair
    image, _ = inputs()
    options = {"scales": (0.5, 1.0, 2.0), "crop": 64}
    expected = predict(cpu, image, **options)
    torch.testing.assert_close(predict(gpu, image.cuda(), **options).cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ["DeepR50V3PlusD", "DeepResNext50V3PlusD", "DeepMobileNetV3PlusD"])
def test_folded_scores_equal_the_networks(arch):
    """Free memory is full of nan, which an epilogue must not read; TF32 has 10 bits, bfloat16 7."""
    torch.manual_seed(0)
    net, image = ARCHS[arch]().cuda().eval(), torch.randn(2, 3, 256, 384, device="cuda")
    with torch.inference_mode():
        expected = net(image).logits
        for precision, tolerance in (("float32", 2e-2), ("bf16", 2e-1)):
            folded = Folded(net, precision)
            torch.full((2**28,), float("nan"), device="cuda")
            scores = folded(image).logits
            assert (scores - expected).abs().mean() < tolerance * expected.std()


def test_photometric_augmentation_equals_the_cpus():
    """Drawn alike; a grey level, 1 / 255 / 0.22 = 0.018, may round otherwise and later steps amplify it."""
    photometric = Photometric([ColorJitter(0.4, 0.4, 0.4, 0.1), GaussianBlur()])
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (4, 3, 300, 200), np.uint8))
    drawn = default_collate([photometric.draw(rng) for _ in images])
    difference = photometric(images.cuda(), drawn).cpu() - photometric(images, drawn)
    assert difference.abs().max() < 0.15 and (difference.abs() > 1e-5).float().mean() < 1e-3


def test_normalized_images_are_the_cpus_to_the_bit():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    for colors in (IMAGENET, DATASET_COLORS["gtav"]):
        expected = torch.stack([normalize_(image.float(), colors=colors) for image in levels])
        assert torch.equal(normalize_levels(levels.cuda(), colors).cpu(), expected)


def test_masks_equal_the_cpus(pair):
    masks = []
    for net in pair:
        device = next(net.parameters()).device
        whitening = Whitening.for_network(net, clusters=3, relax_denom=0).double().to(device)
        for trial in range(2):
            for j in range(3):
                with torch.no_grad():
                    whitening.observe(net.whitened_maps(statistics_pair(trial, j).to(device)))
            whitening.finish_trial()
        masks.append([mask.mask.cpu() for mask in whitening.masks])
    torch.testing.assert_close(*masks)


FAST = {"channels_last": True, "compile": True, "cuda_graph": True}


@pytest.mark.parametrize(
    ("settings", "dtype", "tolerance"),
    [
        ({"channels_last": True}, torch.float64, 1e-4),
        ({"cuda_graph": True}, torch.float64, 1e-4),
        (FAST, torch.float64, 1e-4),
        ({"amp": "bf16"}, torch.float32, 0.15),
        ({"amp": "fp16", "cuda_graph": True}, torch.float32, 0.15),
        ({"amp": "bf16"} | FAST, torch.float32, 0.15),
    ],
)
def test_fast_steps_are_the_plain_ones(settings, dtype, tolerance):
    """20 losses on one batch. Rounding in half precision grows from step to step."""
    runs = []
    for options in ({}, settings):
        trainer, batch = small_trainer(device="cuda", images=4, size=128, dtype=dtype, **options)
        losses = []
        for _ in range(20):
            trainer.step(batch)
            losses.append(trainer.means.take()[0]["train"])
        assert bool(trainer.captured and trainer.captured.graph) == ("cuda_graph" in options)
        runs.append(losses)
    print(settings, max(abs(a / b - 1) for a, b in zip(*runs, strict=True)))
    assert runs[1] == pytest.approx(runs[0], rel=tolerance)
    assert runs[1][-1] < 0.9 * runs[1][0]


@pytest.fixture
def shallow(monkeypatch):
    """ResNet-18 with one block a stage, which compiles in half the time."""
    monkeypatch.setitem(resnet.VARIANTS, "resnet18", (resnet.BasicBlock, (1, 1, 1, 1), {}))
    torch.compiler.reset()


@pytest.mark.timeout(240)  # two compilations
def test_a_fast_training_from_end_to_end(shallow, toy_town, tmp_path):
    """The step is compiled and captured again when the masks are estimated; the profile is of both devices.

    The run is continued by steps that are captured, but not compiled a third time.
    """
    argv = ["--fast", "--profile", "--cov_stat_epoch", "1", "--val_every", "1000", *ISW]
    train.main(config.parse_train_args(flags(toy_town, tmp_path, *argv)))
    path = the_checkpoint(tmp_path)
    state = checkpoint.load(path)
    assert state["settings"]["amp"] in ("bf16", "fp16") and state["settings"]["cuda_graph"]
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    (trace,) = tmp_path.glob("ckpt/**/trace.json")
    kinds = {event.get("cat") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "kernel" in kinds and "cpu_op" in kinds
    more = ["--cuda_graph", "--amp", state["settings"]["amp"], "--restore_optimizer", "--max_iter", "28"]
    more += ["--snapshot", str(path)]
    train.main(config.parse_train_args(flags(toy_town, tmp_path / "more", *more, *ISW)))


SHALLOW = """
import sys
sys.path.insert(0, {root!r})
from network import resnet
resnet.VARIANTS["resnet18"] = (resnet.BasicBlock, (1, 1, 1, 1), {{}})
import config, train
train.main(config.parse_train_args())
"""


def train_together(runs, program):
    """Train with the flags of each of `runs`, all at the same time, on the GPUs in turn."""
    gpus, processes = max(1, torch.cuda.device_count()), []
    for number, argv in enumerate(runs):
        environment = {"CUDA_VISIBLE_DEVICES": str(number % gpus), "TORCHINDUCTOR_COMPILE_THREADS": "4"}
        command, pipe = [sys.executable, str(program), *map(str, argv)], subprocess.PIPE
        processes.append(subprocess.Popen(command, env=os.environ | environment, stderr=pipe, text=True))
    for process in processes:
        _, error = process.communicate()
        assert not process.returncode, error


@pytest.mark.timeout(240)
def test_fast_trainings_end_as_well(tmp_path):
    """The mean IU of three seeds on the training domain differs by less than twice their spread."""
    write_toy_city(tmp_path / "town", size=(64, 128), train=32, val=8, seed=0)
    program = tmp_path / "program.py"
    program.write_text(SHALLOW.format(root=str(ROOT)))
    kinds = {"plain": ["--no-channels_last"], "fast": ["--fast", "--num_workers", "0"]}
    runs = [(kind, seed) for kind in kinds for seed in range(3)]
    argv = "--max_iter 160 --bs_mult 4 --cov_stat_epoch 9 --lr 0.02 --val_dataset gtav --val_every 99".split()
    train_together(
        [
            flags(
                tmp_path / "town", tmp_path / f"{kind}{seed}", *argv, "--seed", str(seed), *ISW, *kinds[kind]
            )
            for kind, seed in runs
        ],
        program,
    )
    scores = {run: checkpoint.load(the_checkpoint(tmp_path / "{}{}".format(*run)))["mean_iu"] for run in runs}
    plain, fast = (np.array([scores[kind, seed] for seed in range(3)]) for kind in kinds)
    print(scores)
    assert plain.mean() > 0.1
    assert abs(fast.mean() - plain.mean()) < 2 * max(plain.std(ddof=1), 0.02)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_joint_batch_norm_is_batch_norm(layout, dtype):
    """Of one process: by PyTorch's kernels, and in the form that compiles."""
    torch.manual_seed(0)
    x = torch.randn(4, 8, 9, 7, device="cuda").to(dtype, memory_format=layout).requires_grad_()
    direction = torch.randn_like(x)
    plain = torch.nn.BatchNorm2d(8, device="cuda", dtype=torch.promote_types(dtype, torch.float32))
    torch.nn.init.uniform_(plain.weight)
    kernels, compiled = (synchronize_batch_norm(torch.nn.Sequential(copy.deepcopy(plain))) for _ in range(2))
    runs = plain, kernels, torch.compile(compiled, backend="aot_eager", fullgraph=True)
    results = []
    for norm, run in zip((plain, kernels[0], compiled[0]), runs, strict=True):
        y = run(x)
        found = torch.autograd.grad(y, [x, norm.weight, norm.bias], direction)
        assert y.stride() == x.stride() == found[0].stride()
        results.append([y.detach(), *found, norm.running_mean, norm.running_var])
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_joint_batch_norm_of_unequal_parts(layout, monkeypatch):
    """By PyTorch's kernels, of two processes whose work one does in turns."""
    results = joint_kernels(monkeypatch, "cuda", torch.float32, layout)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_blurring_a_batch_is_blurring_each_image():
    blur, rng = GaussianBlur(), np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (3, 3, 50, 40)).astype(np.float32))
    drawn = default_collate([blur.draw(rng) for _ in images])
    expected, found = images.clone(), images.cuda()
    blur.apply_to_batch(expected, drawn)
    blur.apply_to_batch(found, drawn)
    difference = (found.cpu() - expected).abs()
    print("levels that round otherwise:", (difference > 0).double().mean().item())
    assert difference.max() <= 1 and (difference > 0).double().mean() < 1e-3


def test_fused_sgd_is_sgd():
    """The fused kernel, which the guard uses, and the loop over parameters; their difference is printed."""
    torch.manual_seed(0)
    start = [torch.randn(shape, device="cuda") for shape in ((64, 3, 7, 7), (512,), (256, 512, 1, 1))]
    weights = []
    for fused in (False, True):
        copies = [value.clone().requires_grad_() for value in start]
        optimizer = torch.optim.SGD(copies, 0.01, 0.9, weight_decay=5e-4, fused=fused, foreach=False)
        generator = torch.Generator("cuda").manual_seed(1)
        for _ in range(20):
            for value in copies:
                value.grad = torch.randn(value.shape, device="cuda", generator=generator)
            optimizer.step()
        weights.append(copies)
    pairs = list(zip(*weights, strict=True))
    print("largest difference:", max((a - b).abs().max().item() for a, b in pairs))
    print("equal bits:", all(torch.equal(a, b) for a, b in pairs))
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradient_of_resizing_in_both_layouts(channels_last):
    """The two products have the gradient of PyTorch's kernel."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 19, 12, 16, dtype=torch.float64, device="cuda").to(memory_format=layout)
    x, grad = x.requires_grad_(), torch.randn(2, 19, 48, 64, dtype=torch.float64, device="cuda")
    grad = grad.to(memory_format=layout)
    gradients = [
        torch.autograd.grad(f, x, grad)[0]
        for f in (Resize.apply(x, (48, 64), channels_last), interpolate(x, (48, 64)))
    ]
    torch.testing.assert_close(*gradients)
    assert gradients[0].is_contiguous(memory_format=layout)


UNCAPTURABLE = """
import sys
sys.path.insert(0, {root!r})
import torch
from tests.helpers import small_trainer
trainer, batch = small_trainer(device="cuda", cuda_graph=True)
trainer.net.dsn[3].p = {dropout}
losses = trainer.losses
class Reading:
    phase = losses.phase
    def __call__(self, *args):
        found = losses(*args)
        found["main"].item()  # which cannot be captured
        return found
trainer.losses = Reading()
for _ in range(6):
    trainer.step(batch)
    print("loss", trainer.means.take()[0]["train"])
"""


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_steps_that_cannot_be_captured(dropout, tmp_path):
    """They run as they are, or the program ends in a sentence, never in an error of CUDA."""
    program = tmp_path / "program.py"
    program.write_text(UNCAPTURABLE.format(root=str(ROOT), dropout=dropout))
    done = run_command([sys.executable, str(program)])
    print(dropout, done.returncode, done.stdout, done.stderr.strip().splitlines()[-1])
    if done.returncode:
        assert "UserError: the steps cannot be captured" in done.stderr
    else:
        assert "--cuda_graph has no effect" in done.stderr and done.stdout.count("loss") == 6


def test_mixed_precision_trains(toy_town, tmp_path):
    train.main(config.parse_train_args(flags(toy_town, tmp_path, "--test_mode", "--fp16", *ISW)))
    state = checkpoint.load(the_checkpoint(tmp_path))
    assert state["scaler"]["scale"] > 0
    assert all(value.isfinite().all() for value in state["state_dict"].values())


@pytest.mark.parametrize("more", ["--test_mode", "--cuda_graph --max_iter 6", "--fast --max_iter 6"])
def test_every_gpu_of_the_machine(more, toy_town, tmp_path):
    """The fourth step is captured, sums over the processes and gradients included; the program ends, too."""
    done = run_command(torchrun("gpu", "train.py", *flags(toy_town, tmp_path, *ISW, *more.split())))
    assert done.returncode == 0, done.stderr
    assert f"on {torch.cuda.device_count()} x cuda" in done.stdout


def final_state(folder):
    """Return what a run ended with, without what says where and when it ran."""
    state = checkpoint.load(the_checkpoint(folder))
    left_out = ("command", "settings", "events", "data")  # "data" is of names
    return {key: value for key, value in state.items() if key not in left_out}


DETERMINISTIC = {
    "isw": ["--cov_stat_epoch", "0", *ISW],
    "boundaries": ["--jointwtborder", "--wt_layer", *"0025200"],
    "sac": ["--adapt_dataset", "cityscapes", "--sac_crop", "64", "64", "--snapshot", "start.pth"],
    "fast": ["--fast", "--cov_stat_epoch", "0", *ISW],
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_deterministic_run_repeats_bit_for_bit(name, toy_town, tmp_path, monkeypatch):
    """Two runs, and one that stops within the second epoch and is continued, end with equal bits."""
    torch.manual_seed(0)
    start = {"state_dict": ARCHS["DeepR18V3PlusD"]().state_dict()}
    torch.save(start, tmp_path / "start.pth")
    monkeypatch.chdir(tmp_path)
    argv = ["--deterministic", "--max_iter", "8", "--resume", "auto", *DETERMINISTIC[name]]
    for folder in ("a", "b"):
        train.main(config.parse_train_args(flags(toy_town, tmp_path / folder, *argv)))
    for more in (["--stop_after", "6"], []):
        train.main(config.parse_train_args(flags(toy_town, tmp_path / "c", *argv, *more)))
    first = final_state(tmp_path / "a")
    assert first["iteration"] == 8
    for folder in ("b", "c"):
        torch.testing.assert_close(final_state(tmp_path / folder), first, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("launch", [[sys.executable], torchrun(1)])
def test_a_program_with_loaders_ends(launch, toy_town, tmp_path):
    """Also in a process group of NCCL; before, loader processes that ignore signals kept it from ending."""
    argv = flags(toy_town, tmp_path, "--max_epoch", "1", "--num_workers", "4")
    start = time.monotonic()
    done = run_command([*launch, "train.py", *argv])
    assert done.returncode == 0, done.stderr
    print("exit after", time.monotonic() - start)


def test_a_signal_stops_a_process_of_nccl(toy_town, tmp_path):
    """SIGTERM after the second step; the rest follows bit for bit."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import config, train\n"
        "from utils.exit import exit_cleanly\n"
        "from utils.training.trainer import Trainer\n"
        "step = Trainer.step\n"
        "def stopping(self, *batches):\n"
        "    step(self, *batches)\n"
        "    if self.iteration == 2:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "Trainer.step = stopping\n"
        "with exit_cleanly():\n"
        "    train.main(config.parse_train_args())\n"
    )
    argv = ["--max_iter", "8", "--resume", "auto", "--deterministic", "--num_workers", "2", *ISW]
    whole = run_command(torchrun(1, "train.py", *flags(toy_town, tmp_path / "a", *argv)))
    assert whole.returncode == 0, whole.stderr
    stopped = run_command(torchrun(1, program, *flags(toy_town, tmp_path / "b", *argv)))
    assert "stopped by SIGTERM" in stopped.stderr and "exitcode  : 75" in stopped.stderr
    run_command(torchrun(1, "train.py", *flags(toy_town, tmp_path / "b", *argv)))
    states = [final_state(tmp_path / folder) for folder in "ab"]
    torch.testing.assert_close(*states, rtol=0, atol=0, equal_nan=True)


def test_a_step_that_is_left_out_leaves_everything():
    """On a GPU the host does not wait to know it."""
    trainer, batch = small_trainer(device="cuda")
    guard = Guard(trainer)
    parts = []
    for value in (0.0, float("nan"), 0.0):
        spoilt = batch["image"].clone()
        spoilt[0, 0, 0, 0] += value
        trainer.step(batch | {"image": spoilt})
        guard.check("ab")
        parts.append(copy.deepcopy([trainer.net.state_dict(), trainer.optimizer.state_dict()["state"]]))
    torch.testing.assert_close(parts[1], parts[0], rtol=0, atol=0)
    assert not torch.equal(parts[2][0]["bot_fine.1.running_mean"], parts[1][0]["bot_fine.1.running_mean"])
