"""What only a GPU can show; run with `bash scripts/test.sh -m gpu`."""

import copy
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

import config
import train
from network import ARCHS
from network.folding import Folded
from network.instance_whitening import Whitening
from tests.golden.recipe import fill, inputs, statistics_pair
from tests.helpers import ISW, ROOT, flags, run_command, small_trainer, the_checkpoint, torchrun
from transforms.photometric import ColorJitter, GaussianBlur, Photometric
from utils import checkpoint
from utils.evaluation.inference import predict
from utils.guard import Guard
from utils.pixels import DATASET_COLORS, IMAGENET, normalize_, normalize_levels

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


@pytest.mark.timeout(600)  # four compilations
def test_a_fast_training_from_end_to_end(toy_town, tmp_path):
    """The step is captured again when the masks are estimated after the first epoch; the run continues."""
    torch.compiler.reset()
    argv = flags(toy_town, tmp_path, "--fast", "--max_epoch", "2", "--cov_stat_epoch", "0", *ISW)
    train.main(config.parse_train_args(argv))
    path = the_checkpoint(tmp_path)
    state = checkpoint.load(path)
    assert state["settings"]["amp"] in ("bf16", "fp16") and state["settings"]["cuda_graph"]
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    more = ["--snapshot", str(path), "--restore_optimizer", "--max_epoch", "3"]
    train.main(config.parse_train_args(flags(toy_town, tmp_path / "more", *more, *ISW)))


@pytest.mark.timeout(1200)
def test_fast_trainings_end_as_well(toy_town, tmp_path):
    """The mean IU of three seeds on the training domain differs by less than twice their spread."""
    torch.compiler.reset()
    scores = {}
    for kind, more in (("plain", ["--no-channels_last"]), ("fast", ["--fast"])):
        for seed in range(3):
            folder = tmp_path / f"{kind}{seed}"
            argv = f"--max_iter 120 --bs_mult 4 --cov_stat_epoch 4 --lr 0.02 --seed {seed}".split()
            argv += ["--val_dataset", "gtav", "--val_every", "1000", *ISW, *more]
            train.main(config.parse_train_args(flags(toy_town, folder, *argv)))
            scores[kind, seed] = checkpoint.load(the_checkpoint(folder))["mean_iu"]
    plain, fast = (np.array([scores[kind, seed] for seed in range(3)]) for kind in ("plain", "fast"))
    print(scores)
    assert plain.mean() > 0.1
    assert abs(fast.mean() - plain.mean()) < 2 * max(plain.std(ddof=1), 0.02)


def test_mixed_precision_trains(toy_town, tmp_path):
    train.main(config.parse_train_args(flags(toy_town, tmp_path, "--test_mode", "--fp16", *ISW)))
    state = checkpoint.load(the_checkpoint(tmp_path))
    assert state["scaler"]["scale"] > 0
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_every_gpu_of_the_machine(toy_town, tmp_path):
    done = run_command(torchrun("gpu", "train.py", *flags(toy_town, tmp_path, "--test_mode", *ISW)))
    assert done.returncode == 0, done.stderr
    assert f"on {torch.cuda.device_count()} x cuda" in done.stdout


def final_state(folder):
    """Return what a run ended with, without what says where and when it ran."""
    state = checkpoint.load(the_checkpoint(folder))
    return {key: value for key, value in state.items() if key not in ("command", "settings", "events")}


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
        "from utils.training import Trainer\n"
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
