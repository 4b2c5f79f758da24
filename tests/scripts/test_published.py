"""Each published experiment's script says the same as the published one (golden/scripts.json)."""

import json
import shlex

import pytest

import config
from scripts.summarize import PUBLISHED
from tests.helpers import ROOT, run_command, script_command

SCRIPTS = json.loads((ROOT / "tests/golden/scripts.json").read_text())
SCORES = PUBLISHED["robustnet_gtav"]["mean_iu_percent"]
BATCH = ("bs_mult", "global_batch_size")


TRAININGS = [name for name in SCRIPTS if SCRIPTS[name]["program"] == "train.py"]
SCORINGS = [name for name in SCRIPTS if name not in TRAININGS]


def parsed(parse, argv):
    args = vars(parse(argv))
    args["arch"] = args["arch"].removeprefix("network.deepv3.")
    del args["given"]
    return args


def test_every_experiment_has_a_script_and_every_script_is_one():
    """23 trainings and 6 scorings of RobustNet, and 12 trainings of DA-SAC."""
    assert (len(TRAININGS), len(SCORINGS)) == (23, 6)
    found = {path.name for kind in ("train", "valid", "infer") for path in ROOT.glob(f"scripts/{kind}_*.sh")}
    assert {name for name in found if not name.startswith("train_sac")} == set(SCRIPTS)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_comment_says_how_it_was_published(name):
    """Processes and images per process; the norms of the published layers; scores, where there are some."""
    published = parsed(config.parse_train_args, shlex.split(SCRIPTS[name]["flags"]))
    comment = " ".join(
        line[2:] for line in (ROOT / "scripts" / name).read_text().splitlines()[1:] if line[:2] == "# "
    )
    gpus = SCRIPTS[name]["launch"].split("=")[1]
    assert f"Published on {gpus} GPUs, {published['bs_mult']} images each." in comment
    kinds = {0: "Baseline", 1: "IW;IRW", 2: "ISW", 4: "IBN", 5: "Switchable whitening"}
    assert comment.split(";")[0].split(",")[0] in kinds[max(published["wt_layer"])].split(";")
    kind = name.removesuffix(".sh").rpartition("_")[2]
    row = SCORES.get({"base": "baseline"}.get(kind, kind)) if "r101os8_gtav" in name else None
    domains = "cityscapes", "bdd100k", "mapillary", "synthia"
    assert (" = " in comment) == bool(row)
    if row:
        assert comment.endswith(" = " + " ".join(f"{row[domain]:.2f}" for domain in domains) + ".")


@pytest.mark.parametrize("name", TRAININGS)
def test_training(name):
    published = parsed(config.parse_train_args, shlex.split(SCRIPTS[name]["flags"]))
    program, *argv = script_command(name)
    ours = parsed(config.parse_train_args, argv)
    assert program == "train.py"
    processes = int(SCRIPTS[name]["launch"].split("=")[1])
    assert ours["global_batch_size"] == processes * published["bs_mult"]
    assert {k: v for k, v in ours.items() if k not in BATCH} == {
        k: v for k, v in published.items() if k not in BATCH
    }


@pytest.mark.parametrize("name", SCORINGS)
def test_scoring(name):
    flags = SCRIPTS[name]["flags"].replace("${1}", "run/x.pth").replace("${2}", "out")
    published = parsed(config.parse_eval_args, shlex.split(flags))
    folder = ["out"] if "${2}" in SCRIPTS[name]["flags"] else []
    program, *argv = script_command(name, "run/x.pth", *folder)
    ours = parsed(config.parse_eval_args, argv)
    assert program == "eval.py"
    if SCRIPTS[name]["program"] == "valid.py":
        published["inference_mode"] = "whole"
        published["date"] = ours["date"]  # where the published program logged
    assert ours == published


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "r101" in name])
def test_the_deep_stem_asks_for_its_weights(name):
    """torchvision has none; see network/README.md."""
    done = run_command(["bash", f"scripts/{name}", "--test_mode"], NPROC="1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--pretrained FILE, the published file, which network/README.md describes" in done.stderr
    for more in (["--pretrained", "x.pth"], ["--pretrained=none"], ["--snapshot", "x.pth"]):
        assert script_command(name, *more)[-len(more) :] == more
        check = 'source scripts/published.sh && needs_weights "$@"'
        assert run_command(["bash", "-c", check, "scripts/published.sh", *more]).returncode == 0


def test_more_flags_are_appended():
    assert script_command("train_r50os16_gtav_isw.sh", "--test_mode")[-1] == "--test_mode"


def test_a_missing_checkpoint_is_asked_for():
    done = run_command(["bash", "scripts/valid_r50os16_gtav_isw.sh"])
    assert done.returncode == 2 and "usage: bash scripts/valid_r50os16_gtav_isw.sh CHECKPOINT" in done.stderr
