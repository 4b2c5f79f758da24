"""The adaptation experiments' scripts say what was published (Araslanov and Roth, CVPR 2021)."""

from pathlib import Path

import pytest

import config
from network import ARCHS
from tests.helpers import ROOT, run_command, script_command

SCRIPTS = sorted(path.name for path in Path(ROOT, "scripts").glob("train_sac_*.sh"))
NETS = {"r101": "DeepR101V2", "vgg16": "DeepVGG16V2", "fcn8s": "VGG16FCN8s"}
SOURCES = {"gta": "gtav", "synthia": "synthia"}


def test_there_are_twelve():
    assert len(SCRIPTS) == 2 * len(NETS) * len(SOURCES)


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name, processes):
    _, _, source, net, *abn = name.removesuffix(".sh").split("_")
    program, *argv = script_command(name) if abn else script_command(name, "abn.pth")
    args = config.complete(config.parse_train_args(argv), processes, 19)
    assert program == "train.py"
    assert (args.dataset, args.adapt_dataset, args.arch) == ([SOURCES[source]], "cityscapes", NETS[net])
    assert args.arch in ARCHS
    assert (args.sac_phase, args.snapshot) == (("abn", None) if abn else ("sac", "abn.pth"))
    assert (args.lr, args.lr_bias, args.lr_schedule, args.momentum) == (0.00025, 2, "constant", 0.9)
    assert (args.weight_decay, args.sac_weight, args.sac_teacher_every) == (0.0005, 5, 100)
    assert (args.sac_views, args.sac_images, args.sac_crop) == (4, 2, [512, 1024])
    assert args.bs_mult * processes == 8 and args.select_on == []


@pytest.mark.parametrize("flags", [[], ["--data_root", "data"]])
def test_the_second_phase_asks_for_a_checkpoint(flags):
    script = ["bash", "scripts/train_sac_gta_r101.sh", *flags]
    done = run_command(script)
    assert done.returncode == 2 and "usage: bash scripts/train_sac_gta_r101.sh CHECKPOINT" in done.stderr
