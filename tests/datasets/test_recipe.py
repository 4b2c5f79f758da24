"""The recipe "Add a dataset" of datasets/README.md, followed word for word in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
COPIED = ("config.py", "train.py", "eval.py", "loss.py", "optimizer.py", "datasets", "network", "scripts")
COPIED += ("split_data", "transforms", "utils")
NAMES = ["road", "building", "vegetation", "person", "vehicle"]
SIZE = (48, 64)  # height, width


def recipe() -> str:
    return (ROOT / "datasets/README.md").read_text().partition("## Add a dataset\n")[2].partition("\n## ")[0]


def block(heading: str) -> str:
    """Return the code block after the numbered step that contains `heading`."""
    step = next(step for step in re.split(r"^\d\. ", recipe(), flags=re.M) if heading in step)
    (text,) = re.findall(r"^ *```\w+\n(.*?)^ *```", step, flags=re.M | re.S)
    return textwrap.dedent(re.sub("^   ", "", text, flags=re.M)) if "import" in text else text[3:]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository with the recipe followed: 4 training and 2 validation images of all labels."""
    copy = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy(source, copy)
    (copy / "datasets/acme.py").write_text(block("`datasets/acme.py`"))
    listed = copy / "datasets/__init__.py"
    before, line, after = listed.read_text().partition("DATASET_CLASSES = (  # file.Class\n")
    listed.write_text(before + line + block("`datasets/__init__.py`") + after)
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            image = copy / f"data/acme/images/{split}/{number}.jpg"
            label = copy / f"data/acme/labels/{split}/{number}_label.png"
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(image)
            Image.fromarray(np.kron(np.arange(7), np.ones((SIZE[0], 9)))[:, :-1].astype(np.uint8)).resize(
                SIZE[::-1], Image.Resampling.NEAREST
            ).save(label)
    return copy


def run(repository, *argv):
    command = [sys.executable, *argv]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_check(repository):
    """Of seven label values of about equal area, 5 and 6 are vehicles and 0 is not scored."""
    python, *argv = block("then train on it").split("\n")[0].split()
    assert python == "python"
    printed = run(repository, *argv)
    assert "train: 4 images" in printed and "val: 2 images" in printed and "acme: fine" in printed
    shares = dict(re.findall(r"^(\w+|\(.*\)) +\d+ +(\d+\.\d+)$", printed, re.M))
    assert list(shares) == ["road", "building", "vegetation", "person", "vehicle", "(not scored)"]
    assert 20 < float(shares["vehicle"]) < 35 and 10 < float(shares["person"]) < 20


def test_the_recipes_flags_are_those_of_the_training_test():
    assert "python train.py --dataset acme --val_dataset acme" in block("then train on it")


@pytest.mark.slow
def test_train_score_and_report(repository):
    """Five classes from the first step to the report; other classes are refused before anything is read."""
    flags = ["--dataset", "acme", "--val_dataset", "acme", "--covstat_val_dataset", "acme"]
    flags += ["--arch", "DeepMobileNetV3PlusD", "--pretrained", "none", "--crop_size", "32", "--bs_mult", "2"]
    flags += ["--max_iter", "2", "--num_workers", "0", "--class_uniform_pct", "0.5"]
    printed = run(repository, "train.py", *flags)
    assert re.search(r"\[epoch 0\], acme: .*mean_iu", printed)
    (snapshot,) = repository.glob("logs/ckpt/**/last_acme_*.pth")
    state = torch.load(snapshot, weights_only=True)
    assert len(state["state_dict"]["module.final2.0.weight"]) == 5
    assert state["settings"]["classes"]["names"] == NAMES

    printed = run(repository, "eval.py", "--snapshot", snapshot, "--dataset", "acme", "--dump_images")
    assert [line.split()[0] for line in printed.splitlines() if re.match(r"[a-z]+ +[-\d]", line)][:5] == NAMES
    results = json.loads((snapshot.parent / "eval_acme/results.json").read_text())
    assert results["classes"] == NAMES and len(results["metrics"]["acme"]["iou"]) == 5
    (pred, _) = sorted((snapshot.parent / "eval_acme/val/pred").iterdir())
    assert set(np.unique(Image.open(pred))) <= set(range(5))
    page = (snapshot.parent / "eval_acme/index.html").read_text()
    assert all(name in page for name in NAMES)

    command = [sys.executable, "eval.py", "--snapshot", snapshot, "--dataset", "gtav"]
    failed = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    command = [
        sys.executable,
        "train.py",
        "--dataset",
        "acme",
        "--val_dataset",
        "gtav",
        "--pretrained",
        "none",
    ]
    failed = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert failed.returncode == 2 and "acme" in failed.stderr and "gtav" in failed.stderr
