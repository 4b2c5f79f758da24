"""The adaptation experiments' scripts set what was published (golden/fidelity_F4.json), flag by flag."""

import json
from pathlib import Path

import pytest

import config
from network import ARCHS
from tests.helpers import ROOT, run_command, script_command

FIDELITY = json.loads((Path(__file__).parents[1] / "golden/fidelity_F4.json").read_text())
PUBLISHED = FIDELITY["F4 settings"]["configurations"]
SOURCES = {"gta": "gtav", "synthia": "synthia"}


def script(name):
    """Return the script of a published configuration, "gta_r101_abn" or "gta_r101_sac"."""
    return f"train_sac_{name.removesuffix('_sac')}.sh"


def jitter(settings):
    """Return --color_aug and --jitter; the published code jitters half of the images or none."""
    if settings is None:
        return {"color_aug": 0, "jitter": [0.4, 0.1]}
    assert settings["p"] == 0.5
    return {"color_aug": 1, "jitter": [settings["brightness_contrast_saturation"], settings["hue"]]}


def optimization(published):
    """Return the flags of the optimizer, and check what has no flag."""
    weights, biases, head, head_biases = (group[3:] for group in published["groups"])
    (lr, decay), (_, bias_decay) = weights, biases
    assert head == [head[0], decay] and head_biases[1] == bias_decay
    assert head_biases[0] / lr == pytest.approx(head[0] / lr * biases[0] / lr)
    norms = published["batch_norm"]
    assert norms["weights_and_biases_train"] and norms["layers"] == norms["layers_with_trained_weight"]
    return {
        "lr": published["lr"],
        "lr_schedule": published["lr_schedule"],
        "momentum": published["momentum"],
        "weight_decay": decay,
        "weight_decay_bias": bias_decay,
        "lr_bias": pytest.approx(biases[0] / lr),
        "lr_head": pytest.approx(head[0] / lr),
        "max_epoch": published["epochs"],
        "max_iter": published["iterations"],
        "adam": False,
    }


def source(published):
    """Return the flags of the source images."""
    settings = published["source"]
    assert settings["mirror_p"] == 0.5
    return {
        "source_split": "da_sac",
        "resize_first": settings["resized_first_to_h_w"],
        "global_batch_size": settings["batch"],
        "crop_shape": settings["crop_h_w"],
        "scale_min": settings["scale"][0],
        "scale_max": settings["scale"][1],
        "gblur": settings["blur"],
        "bblur": False,
        "augmentation": "da_sac",
        "source_colors": ["gtav", "cityscapes"],
        "loss_over": "all",
        **jitter(settings["jitter"]),
    }


def abn_target(published):
    """Return the flags of the target images of the first phase, which have the source's augmentation."""
    target, settings = published["target"], published["source"]
    for name in ("crop_h_w", "scale", "mirror_p", "jitter"):
        assert target[name] == settings[name]
    assert target["views"] == 1
    return {"sac_phase": "abn", "snapshot": None, "sac_images": target["images_per_step"]}


def sac_target(published):
    """Return the flags of the target images and of self-training of the second phase."""
    target, teaching = published["target"], published["self_training"]
    noise = target["student_noise"]
    assert (noise["blur_p"], target["shared_mirror_p"], target["mirror_per_view_p"]) == (1, 0.5, 0.5)
    return {
        "sac_phase": "sac",
        "snapshot": "abn.pth",
        "sac_images": target["images_per_step"],
        "sac_views": target["views"],
        "sac_crop": target["crop_h_w"],
        "sac_scale": target["scale"],
        "sac_zoom": target["zoom"],
        "sac_blur": noise["blur_radius"],
        "sac_jitter": jitter(noise["jitter"])["jitter"],
        "sac_gray": noise["grayscale_p"],
        "sac_weight": teaching["target_loss_weight"],
        "sac_conf_upper": teaching["conf_upper"],
        "sac_conf_lower": teaching["conf_lower"],
        "sac_beta": teaching["beta"],
        "sac_focal_power": teaching["focal_power"],
        "sac_prior_momentum": teaching["prior_momentum"],
        "sac_teacher_momentum": teaching["teacher_momentum"],
        "sac_teacher_every": teaching["teacher_every"],
        "sac_weights": "shares.json",
        "sac_uniform": teaching["importance_uniform_share"],
        "uniform_classes": tuple(teaching["importance_uniform_classes"]),
        "sac_published_loss": False,
    }


def test_there_are_twelve():
    scripts = {path.name for path in Path(ROOT, "scripts").glob("train_sac_*.sh")}
    assert scripts == {script(name) for name in PUBLISHED} and len(scripts) == 12


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_setting(name, recwarn):
    published, phase = PUBLISHED[name], name.rpartition("_")[2]
    arguments = ["abn.pth", "shares.json"] if phase == "sac" else []
    program, *argv = script_command(script(name), *arguments)
    args = config.parse_train_args(argv)
    expected = {
        "dataset": [SOURCES[name.partition("_")[0]]],
        "adapt_dataset": "cityscapes",
        "val_dataset": ["cityscapes"],
        "select_on": [],
        "arch": published["arch"],
        **optimization(published),
        **source(published),
        **(sac_target if phase == "sac" else abn_target)(published),
    }
    assert program == "train.py" and args.arch in ARCHS
    assert {flag: getattr(args, flag) for flag in expected} == expected
    idle = [str(w.message) for w in recwarn if "without effect" in str(w.message)]
    assert idle == ["flags without effect: --covstat_val_dataset (without code 2 in --wt_layer)"]
    given = {flag for flag in args.given if flag not in expected}
    assert given <= {"covstat_val_dataset", "date", "exp", "sac_uniform_classes", "weight_decay_bias"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_epoch_has_the_published_steps(name):
    """Images // batch, on 1 or 4 processes."""
    settings = PUBLISHED[name]["source"]
    arguments = [] if name.endswith("_abn") else ["abn.pth"]
    args = config.parse_train_args(script_command(script(name), *arguments)[1:])
    for processes in (1, 4):
        batch = config.complete(args, processes, 19).bs_mult
        steps = settings["images"] // processes // batch
        assert steps == PUBLISHED[name]["iterations_per_epoch"]
    assert args.max_iter == PUBLISHED[name]["epochs"] * steps


def test_the_second_phase_runs_without_shares():
    args = config.parse_train_args(script_command("train_sac_synthia_r101.sh", "abn.pth", "--test_mode")[1:])
    assert args.sac_weights is None and args.test_mode


@pytest.mark.parametrize("flags", [[], ["--data_root", "data"]])
def test_the_second_phase_asks_for_a_checkpoint(flags):
    script = ["bash", "scripts/train_sac_gta_r101.sh", *flags]
    done = run_command(script)
    assert done.returncode == 2 and "usage: bash scripts/train_sac_gta_r101.sh CHECKPOINT" in done.stderr
