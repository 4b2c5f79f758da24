"""The recipes of the READMEs, followed word for word in a copy of the repository."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.helpers import ROOT

STEP = re.compile(
    r"^(?:Write `(?P<new>[^`]+)`|In `(?P<old>[^`]+)`, add (?:at the end|after `(?P<after>[^`]+)`)):\n"
    r"(?P<code>(?:\n|    .*\n)+)",
    re.MULTILINE,
)


def follow(readme: str, section: str, copy: Path) -> None:
    """Do what each step below the heading `section` of a README says, in `copy`."""
    text = (ROOT / readme).read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    steps = list(STEP.finditer(text))
    assert steps, f"{readme} has no recipe {section!r}"
    for step in steps:
        code = "\n".join(line.removeprefix("    ") for line in step["code"].strip("\n").splitlines()) + "\n"
        if step["new"]:
            (copy / step["new"]).write_text(code)
            continue
        path = copy / step["old"]
        content = path.read_text()
        if step["after"]:
            line = f"\n{step['after']}\n"
            assert content.count(line) == 1, (step["old"], step["after"])
            path.write_text(content.replace(line, line + code))
        else:
            path.write_text(f"{content}\n\n{code}")


@pytest.fixture
def copy(tmp_path):
    """The repository's sources in a folder of their own."""
    target = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "data", "logs", "tests", "__pycache__")
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def run(copy: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], cwd=copy, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_photometric_operation(copy):
    """Grey level g becomes 255 - g, with probability 0.5, before all else, on the CPU and on the device."""
    follow("transforms/README.md", "Add a photometric operation", copy)
    out = run(
        copy,
        """
        import numpy as np, torch
        from PIL import Image
        from torch.utils.data import default_collate
        from transforms import presets
        image, levels = Image.new("RGB", (8, 8), (55, 55, 55)), set()
        mean, std = 0.485, 0.229
        for seed in range(20):
            for device in ("cpu", "gpu"):
                preset = presets.train(8, scale_min=1, scale_max=1, aug_device=device)
                pixels, _, *drawn = preset(image, None, None, np.random.default_rng(seed))
                if drawn:
                    pixels = preset.photometric(pixels[None], default_collate(drawn))[0]
                levels.add(round(float((pixels[0, 0, 0] * std + mean) * 255)))
        print(sorted(levels))
        """,
    )
    assert out.strip() == "[55, 200]"


def test_an_architecture(copy):
    follow("network/README.md", "Add an architecture", copy)
    build = "from network import ARCHS; print(ARCHS['TinyV3Plus'](num_classes=5).final2[0].out_channels)"
    describe = (
        "import sys; from network.__main__ import main\n"
        "sys.argv = 'network --arch TinyV3Plus --size 64 64'.split(); main()"
    )
    channels, *described = run(copy, f"{build}\n{describe}").splitlines()
    assert channels == "5" and "parameters" in "".join(described)


def test_a_norm(copy):
    follow("network/README.md", "Add a norm", copy)
    command = [sys.executable, "-m", "network", "--arch", "DeepR18V3PlusD", "--size", "64", "64"]
    command += ["--wt_layer", "0", "0", "7", "0", "0", "0", "0"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "layer0.1: " in done.stdout, done.stderr
