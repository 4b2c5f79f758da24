"""The command line is a contract; origin of the golden files: the published programs and their scripts."""

import argparse
import json
import shlex
from pathlib import Path

import pytest

import config

GOLDEN = Path(__file__).parent / "golden"
FLAGS = json.loads((GOLDEN / "flags.json").read_text())
SCRIPTS = json.loads((GOLDEN / "scripts.json").read_text())
DEPARTURES = {"--arch"}  # the published default, DeepWV3Plus, does not exist


@pytest.mark.parametrize(
    ("program", "flag"),
    [(program, flag) for program in FLAGS for flag in FLAGS[program]],
    ids=lambda value: value if isinstance(value, str) else value["flags"][-1],
)
def test_flag_has_the_published_name_type_and_default(program, flag):
    parser = config.get_parser(program.removesuffix(".py"))
    actions = {option: action for action in parser._actions for option in action.option_strings}
    action = actions[flag["flags"][-1]]
    assert set(flag["flags"]) <= set(action.option_strings)
    if not (set(flag["flags"]) & DEPARTURES and program == "train.py"):
        assert action.default == flag["default"]
    if flag.get("action") == "store_true":
        assert isinstance(action, argparse._StoreTrueAction)
    else:
        assert action.type.__name__ == flag["type"]
    assert action.required == flag.get("required", False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_published_experiment_parses(name):
    script = SCRIPTS[name]
    argv = shlex.split(script["flags"].replace("${1}", "snapshot.pth").replace("${2}", "results"))
    if script["program"] == "train.py":
        args = config.parse_train_args(argv)
        assert args.dataset and args.val_dataset and len(args.wt_layer) == 7
    elif script["program"] == "eval.py":
        assert config.parse_eval_args(argv).val_dataset == ["cityscapes"]
    else:  # valid.py
        args = config.parse_eval_args([*argv, "--inference_mode", "whole"])
        assert args.val_dataset == ["bdd100k", "cityscapes", "synthia", "mapillary"]


@pytest.mark.parametrize("spelling", ["--local_rank", "--local-rank"])
def test_both_spellings_of_the_launchers_flag(spelling):
    assert config.parse_train_args([f"{spelling}=3"]).local_rank == 3


def test_roots_come_from_data_root_then_environment_then_constants(monkeypatch):
    monkeypatch.setenv("GTAV_DIR", "elsewhere/gta")
    roots = config.parse_train_args([]).roots
    assert roots["gtav"] == Path("elsewhere/gta")
    assert roots["cityscapes"] == Path(config.CITYSCAPES_DIR)
    assert config.parse_train_args(["--data_root", "town"]).roots["gtav"] == Path("town/gtav")


def test_dataset_dir_is_the_root_of_one_dataset():
    needed = ["--arch", "a", "--snapshot", "s/c.pth"]
    args = config.parse_eval_args([*needed, "--dataset", "gtav", "--dataset_dir", "here"])
    assert args.roots["gtav"] == Path("here")
    assert (args.ckpt_path, args.exp_name, args.scales) == ("s", "eval_gtav", [0.5, 1.0, 2.0])
    teacher = ["--arch", "a", "--snapshot", "s/ema_gtav-teacher_epoch_3_mean-iu_0.5.pth", "--dataset", "gtav"]
    assert config.parse_eval_args(teacher).exp_name == "eval_gtav_ema_gtav-teacher"
    with pytest.raises(ValueError, match="--dataset_dir .* 2"):
        config.parse_eval_args([*needed, "--dataset", "gtav", "synthia", "--dataset_dir", "here"])


def test_global_batch_is_divided_among_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert config.parse_train_args(["--global_batch_size", "16"]).bs_mult == 4
    with pytest.raises(ValueError, match="--global_batch_size 6 .* 4 processes"):
        config.parse_train_args(["--global_batch_size", "6"])


def test_global_batch_is_divided_among_domains(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    two = ["--global_batch_size", "8", "--dataset", "gtav", "synthia"]
    assert config.parse_train_args(two).bs_mult == 2
    assert config.parse_train_args([*two, "--image_uniform_sampling"]).bs_mult == 4


def test_statistics_of_an_unseen_domain_warn():
    with pytest.warns(UserWarning, match="cityscapes"):
        config.parse_train_args(["--dataset", "gtav", "--wt_layer", *"0022200"])


def test_the_default_arch_is_the_papers():
    assert config.parse_train_args([]).arch == "DeepR50V3PlusD"


@pytest.mark.parametrize(
    ("argv", "needed"),
    [
        (["--amsgrad"], "--adam"),
        (["--batch_weighting"], "--img_wt_loss or --jointwtborder"),
        (["--wt_bound", "2"], "--img_wt_loss or --jointwtborder"),
        (["--strict_bdr_cls", "5"], "--jointwtborder"),
        (["--sac_weights", "shares.json"], "--adapt_dataset"),
        (["--sac_published_loss"], "--adapt_dataset"),
        (["--sac_views", "2"], "--adapt_dataset"),
        (["--sac_published_loss", "--sac_phase", "abn", "--adapt_dataset", "gtav"], "--sac_phase sac"),
        (["--dynamic"], "code 2 in --wt_layer"),
        (["--wt_reg_weight", "0.6"], "code 1 or 2 in --wt_layer"),
    ],
)
def test_flags_that_others_leave_idle_warn(argv, needed):
    with pytest.warns(UserWarning, match=f"{argv[0]} .*{needed}"):
        config.parse_train_args(argv)


def test_flags_of_other_inference_modes_warn():
    argv = ["--arch", "a", "--snapshot", "s", "--inference_mode"]
    with pytest.warns(UserWarning, match="--crop_size .* --inference_mode pooling"):
        config.parse_eval_args([*argv, "pooling", "--crop_size", "512"])
    with pytest.warns(UserWarning, match="--no_flip .* --inference_mode whole"):
        config.parse_eval_args([*argv, "whole", "--no_flip"])
    with pytest.warns(UserWarning, match="--scales .* --inference_mode whole"):
        config.parse_eval_args([*argv, "whole", "--scales", "0.5,1"])
    with pytest.warns(UserWarning, match="--scales .* --single_scale"):
        assert config.parse_eval_args([*argv, "sliding", "--scales", "2", "--single_scale"]).scales == [1]


def test_flags_without_effect_warn():
    with pytest.warns(UserWarning, match="--hardnm, --scf"):
        config.parse_train_args(["--hardnm", "1", "--scf"])


def test_lists_of_classes():
    args = config.parse_train_args(
        ["--strict_bdr_cls", "5,6", "--coarse_boost_classes", "3, 18", "--class_uniform_pct", "0.5"]
    )
    assert (args.strict_classes, args.boost_classes) == ((5, 6), (3, 18))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--strict_bdr_cls", "pole"], r"--strict_bdr_cls .* 0\.\.18 .* 'pole'"),
        (["--coarse_boost_classes", "3,19"], r"--coarse_boost_classes .* 0\.\.18 .* '3,19'"),
        (["--coarse_boost_classes", "3"], "--coarse_boost_classes .*--class_uniform_pct .*cityscapes"),
        (["--maxSkip", "3", "--dataset", "gtav"], "--maxSkip .* cityscapes in --dataset"),
        (["--bs_mult", "0"], "--bs_mult .* 1, not 0"),
        (["--crop_size", "-5"], "--crop_size .* 1, not -5"),
        (["--scale_min", "3"], r"3\.0 .*2\.0"),
        (["--rrotate", "-5"], "--rrotate -5"),
        (["--pre_size", "0"], "--pre_size .* 1, not 0"),
        (["--wt_layer", *"0022200", "--trials", "0"], "--trials .* 1"),
        (["--wt_layer", *"0022200", "--clusters", "0"], "--clusters .* 2"),
        (["--restore_optimizer"], "--restore_optimizer .*--snapshot"),
    ],
)
def test_values_that_cannot_work_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        config.parse_train_args(argv)


def test_scales_must_be_numbers():
    with pytest.raises(ValueError, match="--scales .*'0.5;1'"):
        config.parse_eval_args(["--arch", "a", "--snapshot", "s", "--scales", "0.5;1"])


def test_test_mode_is_short_and_reaches_the_statistics():
    args = config.parse_train_args(["--test_mode", "--trials", "10"])
    assert (args.max_epoch, args.cov_stat_epoch, args.trials) == (2, 0, 2)
