"""The command line is a contract; origin of the golden files: the published programs and their scripts."""

import argparse
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

import config
from datasets import DATASETS
from utils.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
FLAGS = json.loads((GOLDEN / "flags.json").read_text())
SCRIPTS = json.loads((GOLDEN / "scripts.json").read_text())
GTAV = SimpleNamespace(name="gtav", root_variable="GTAV_DIR", root_name="")
# The published default of training, DeepWV3Plus, does not exist; scoring takes it from the checkpoint.
DEPARTURES = {"--arch"}


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
    departs = bool(set(flag["flags"]) & DEPARTURES)
    if not departs:
        assert action.default == flag["default"]
    if flag.get("action") == "store_true":
        assert isinstance(action, argparse._StoreTrueAction)
    else:
        assert action.type.__name__ == flag["type"]
    assert action.required == (flag.get("required", False) and not departs)


@pytest.mark.parametrize("name", SCRIPTS)
def test_published_experiment_parses_with_one_warning_at_most(name, recwarn):
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
    assert len(recwarn) <= 1


@pytest.mark.parametrize("spelling", ["--local_rank", "--local-rank"])
def test_both_spellings_of_the_launchers_flag(spelling):
    assert config.parse_train_args([f"{spelling}=3"]).local_rank == 3


def test_roots_come_from_data_root_then_environment_then_constants(monkeypatch):
    monkeypatch.setenv("GTAV_DIR", "elsewhere/gta")
    roots = config.parse_train_args([]).roots
    assert roots(GTAV) == Path("elsewhere/gta")
    assert roots(SimpleNamespace(name="cityscapes", root_variable="CITYSCAPES_DIR", root_name="")) == Path(
        config.CITYSCAPES_DIR
    )
    assert roots(SimpleNamespace(name="acme", root_variable="ACME_DIR", root_name="")) == Path("data/acme")
    assert config.parse_train_args(["--data_root", "town"]).roots(GTAV) == Path("town/gtav")


def test_dataset_dir_is_the_root_of_one_dataset():
    needed = ["--arch", "a", "--snapshot", "s/c.pth"]
    args = config.parse_eval_args([*needed, "--dataset", "gtav", "--dataset_dir", "here"])
    assert args.roots(GTAV) == Path("here")
    assert (args.ckpt_path, args.exp_name, args.scales) == ("s", "eval_gtav", [0.5, 1.0, 2.0])
    teacher = ["--arch", "a", "--snapshot", "s/ema_gtav-teacher_epoch_3_mean-iu_0.5.pth", "--dataset", "gtav"]
    assert config.parse_eval_args(teacher).exp_name == "eval_gtav_ema_gtav-teacher"
    with pytest.raises(ValueError, match="--dataset_dir .* 2"):
        config.parse_eval_args([*needed, "--dataset", "gtav", "synthia", "--dataset_dir", "here"])


def test_global_batch_is_divided_among_processes(monkeypatch):
    """Only the number of started processes counts, not a WORLD_SIZE that the environment happens to have."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    args = config.parse_train_args(["--global_batch_size", "16"])
    assert config.complete(args, 4, 19).bs_mult == 4 and config.complete(args, 1, 19).bs_mult == 16
    with pytest.raises(UserError, match="--global_batch_size 6 .* 4 processes"):
        config.complete(config.parse_train_args(["--global_batch_size", "6"]), 4, 19)


def test_global_batch_is_divided_among_domains():
    null = config.complete(
        config.parse_train_args(["--global_batch_size", "8", "--dataset", "gtav", "null"]), 2, 19
    )
    assert null.bs_mult == 4 and config.images_per_step(null, 2) == 8
    two = ["--global_batch_size", "8", "--dataset", "gtav", "synthia"]
    args = config.complete(config.parse_train_args(two), 2, 19)
    assert args.bs_mult == 2 and config.images_per_step(args, 2) == 8
    args = config.complete(config.parse_train_args([*two, "--image_uniform_sampling"]), 2, 19)
    assert args.bs_mult == 4 and config.images_per_step(args, 2) == 8


@pytest.mark.parametrize("flag", ["--strict_bdr_cls", "--coarse_boost_classes"])
def test_train_ids_must_be_classes(flag):
    args = config.parse_train_args([flag, "3,19", "--class_uniform_pct", "0.5", "--jointwtborder"])
    config.complete(args, 1, 20)
    with pytest.raises(UserError, match=f"{flag} .* 0..18, not 19"):
        config.complete(args, 1, 19)


@pytest.mark.parametrize("number", ["-1", "100000"])
def test_so_many_loaders_bring_no_machine_down(number, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for parse in (config.parse_train_args, config.parse_eval_args):
        with pytest.raises(
            UserError, match=f"--num_workers must be from 0 to 64 on .* 2 cores, not {number}"
        ):
            parse(["--snapshot", "x.pth", "--num_workers", number])
        assert parse(["--snapshot", "x.pth", "--num_workers", "64"]).num_workers == 64


def test_given_are_the_flags_on_the_command_line():
    given = config.parse_train_args(["--lr", "0.01", "-wb", "2", "--img_wt_loss", "--dataset", "gtav"]).given
    assert given == {"lr", "wt_bound", "img_wt_loss", "dataset"}  # also where the value is the default


def test_a_pattern_that_matched_two_files_is_explained():
    for parse in (config.parse_train_args, config.parse_eval_args):
        with pytest.raises(UserError, match=r"no flag takes b.pth, .*pattern .*--snapshot the run's folder"):
            parse(["--snapshot", "a.pth", "b.pth"])


def test_flags_are_not_abbreviated():
    with pytest.raises(UserError, match="--datas gtav; did you mean --dataset or"):
        config.parse_train_args(["--datas", "gtav"])
    with pytest.raises(UserError, match="--qqq=3; --help"):
        config.parse_train_args(["--qqq=3"])
    with pytest.raises(UserError, match="did you mean --snapshot"):
        config.parse_eval_args(["--snapshot", "x.pth", "--snapshoot=y"])


@pytest.mark.parametrize("program", ["train", "eval"])
def test_help_describes_every_flag_with_its_default(program):
    parser = config.get_parser(program)
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        assert action.help, action.dest
    shown = text.count("default: ") + text.count("(required)")
    assert shown == len(parser._actions) - 1  # not --help itself


def test_null_loader_is_another_name_of_null():
    args = config.parse_train_args(["--dataset", "null_loader", "--val_dataset", "gtav", "null_loader"])
    assert (args.dataset, args.val_dataset) == (["null"], ["gtav", "null"])
    assert config.parse_eval_args(["--snapshot", "s", "--dataset", "null_loader"]).val_dataset == ["null"]


def test_statistics_of_an_unseen_domain_warn():
    with pytest.warns(UserWarning, match="statistics .* cityscapes"):
        config.parse_train_args(["--dataset", "gtav", "--wt_layer", *"0022200"])


def test_isw_says_that_it_does_not_use_relax_denom(recwarn):
    """Published: k-means only with 0. Its default is 2. With code 1 too, the flag is wanted."""
    isw, both = ["--wt_layer", *"0022200"], ["--wt_layer", *"0012200"]
    for argv in ([*isw, "--relax_denom", "0"], [*both, "--relax_denom", "2"]):
        config.parse_train_args(argv)
    assert not recwarn.list
    for argv, given in ((isw, "2"), ([*isw, "--relax_denom", "64"], "64")):
        with pytest.warns(UserWarning, match=f"k-means, with --relax_denom {given} as with 0"):
            config.parse_train_args(argv)


def test_code_1_says_that_the_default_margin_is_wide(recwarn):
    """A margin of half of all pairs leaves the whitening loss at 0; IW needs --relax_denom 0."""
    iw = ["--wt_layer", *"0011100", "--wt_reg_weight", "0.6"]
    config.parse_train_args([*iw, "--relax_denom", "2"])
    config.parse_train_args([*iw, "--relax_denom", "0"])
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"the default --relax_denom 2 is IRW.*up to 0.5 costs nothing"):
        config.parse_train_args(iw)


def test_the_default_arch_is_the_papers():
    assert config.parse_train_args([]).arch == "DeepR50V3PlusD"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--amsgrad"], "without --adam"),
        (["--adam", "--momentum", "0.9"], "with --adam"),
        (["--batch_weighting"], "without --img_wt_loss or --jointwtborder"),
        (["--wt_bound", "1"], "without --img_wt_loss or --jointwtborder"),
        (["--strict_bdr_cls", "5"], "without --jointwtborder"),
        (["--rlx_off_iter", "5"], "without --jointwtborder or --lr_schedule scl-poly"),
        (["--rescale", "2"], "without --lr_schedule scl-poly"),
        (["--repoly", "2"], "without --lr_schedule scl-poly"),
        (["--poly_exp", "2", "--lr_schedule", "constant"], "with --lr_schedule constant"),
        (["--bs_mult", "2", "--global_batch_size", "4"], "with --global_batch_size"),
        (["--sac_weights", "shares.json"], "without --adapt_dataset"),
        (["--sac_published_loss"], "without --adapt_dataset"),
        (["--sac_views", "4"], "without --adapt_dataset"),
        (
            ["--sac_published_loss", "--sac_phase", "abn", "--adapt_dataset", "gtav"],
            "without --sac_phase sac",
        ),
        (["--dynamic"], "without code 2 in --wt_layer"),
        (["--clusters", "3"], "without code 2 in --wt_layer"),
        (["--trials", "3"], "without code 2 in --wt_layer"),
        (["--cov_stat_epoch", "3"], "without code 2 in --wt_layer"),
        (["--relax_denom", "0"], "without code 1 in --wt_layer"),
        (["--wt_reg_weight", "0.6"], "without code 1 or 2 in --wt_layer"),
        (["--gblur", "--bblur"], "with --bblur"),
        (["--class_uniform_tile", "64"], "without --class_uniform_pct"),
        (["--max_cu_epoch", "64"], "without --class_uniform_pct"),
        (["--domain_steps", "separate"], "with one source domain"),
        (["--city_mode", "train", "--dataset", "gtav", "--covstat", "x"], "without cityscapes"),
        (["--mapillary_protocol", "half"], "without mapillary"),
        (["--pretrained", "imagenet", "--snapshot", "s"], "with --snapshot"),
        (["--max_epoch", "3", "--test_mode"], "with --test_mode"),
    ],
)
def test_flags_that_others_leave_without_effect_are_listed(argv, reason):
    name = argv[0] if argv[0] != "--adam" else "--momentum"
    with pytest.warns(UserWarning, match=rf"{name}.*\({reason}\)"):
        config.parse_train_args([flag.replace("--covstat", "--covstat_val_dataset") for flag in argv])


def test_one_warning_lists_all_flags_without_effect(recwarn):
    config.parse_train_args(["--hardnm", "1", "--scf", "--clusters", "3", "--trials", "2"])
    (warning,) = recwarn
    text = str(warning.message)
    assert "--clusters, --trials (without code 2" in text and "--hardnm, --scf (" in text


@pytest.mark.parametrize(
    ("argv", "flag", "reason"),
    [
        (["pooling", "--crop_size", "512"], "--crop_size", "with --inference_mode pooling"),
        (["whole", "--no_flip"], "--no_flip", "with --inference_mode whole"),
        (["whole", "--scales", "0.5,1"], "--scales", "with --inference_mode whole"),
        (["sliding", "--scales", "2", "--single_scale"], "--scales", "with --single_scale"),
    ],
)
def test_flags_of_other_inference_modes_warn(argv, flag, reason):
    with pytest.warns(UserWarning, match=f"{flag}.*{reason}"):
        config.parse_eval_args(["--snapshot", "s", "--inference_mode", *argv])


def test_lists_of_classes():
    args = config.parse_train_args(
        ["--strict_bdr_cls", "5,6", "--coarse_boost_classes", "3, 18", "--class_uniform_pct", "0.5"]
    )
    assert (args.strict_classes, args.boost_classes) == ((5, 6), (3, 18))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--strict_bdr_cls", "pole"], "--strict_bdr_cls .*'pole'"),
        (["--coarse_boost_classes", "3,255"], "--coarse_boost_classes .*'3,255'"),
        (["--coarse_boost_classes", "3"], "--class_uniform_pct .* cityscapes"),
        (["--maxSkip", "3", "--dataset", "gtav"], "--maxSkip .* cityscapes"),
        (["--bs_mult", "0"], "--bs_mult .* 0"),
        (["--crop_size", "-5"], "--crop_size .* -5"),
        (["--scale_min", "3"], "3.0 and 2.0"),
        (["--rrotate", "-5"], "--rrotate .* -5"),
        (["--pre_size", "0"], "--pre_size .* 0"),
        (["--wt_layer", *"0022200", "--trials", "0"], "--trials"),
        (["--wt_layer", *"0022200", "--clusters", "0"], "--clusters"),
        (["--wt_layer", *"002"], r"--wt_layer .* \[0, 0, 2\]"),
        (["--wt_layer", *"0022209"], "--wt_layer .* 9"),
        (["--restore_optimizer"], "--snapshot"),
        (["--lr", "nan"], "--lr .* nan"),
        (["--lr", "0"], "--lr .* 0"),
        (["--lr", "-1"], "--lr .* -1"),
        (["--lr", "inf"], "--lr .* inf"),
        (["--lr", "fast"], "--lr: .*'fast'"),
        (["--momentum", "1"], "--momentum .* 1"),
        (["--weight_decay", "-1"], "--weight_decay .* -1"),
        (["--max_iter", "0"], "--max_iter .* 0"),
        (["--max_epoch", "-1"], "--max_epoch .* -1"),
        (["--seed", "-1"], "--seed .* -1"),
        (["--cv", "3"], "--cv .* 3"),
        (["--class_uniform_pct", "2"], "--class_uniform_pct .* 2"),
        (["--lr_schedule", "cosine"], "--lr_schedule: .*'cosine'.*scl-poly"),
        (["--lr_schedule", "scl-poly"], "--rlx_off_iter"),
        (["--jointwtborder", "--cls_wt_loss"], "--cls_wt_loss, --jointwtborder"),
        (["--img_wt_loss", "--cls_wt_loss"], "--cls_wt_loss, --img_wt_loss"),
        (["--bblur", "--aug_device", "gpu"], "--bblur"),
        (["--nonsense"], "--nonsense"),
        (["--dataset"], "--dataset"),
    ],
)
def test_values_that_cannot_work_are_named(argv, message):
    with pytest.raises(UserError, match=message):
        config.parse_train_args(argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--scales", "0.5;1"], "--scales .*'0.5;1'"),
        (["--scales", "0"], "--scales .* 0"),
        (["--inference_mode", "guess"], "--inference_mode: .*'guess'.*sliding"),
        (["--split_index", "1"], "--split_index .* 1"),
        (["--max_memory_gb", "nan"], "--max_memory_gb .* nan"),
        ([], "--snapshot"),
    ],
)
def test_values_that_cannot_be_scored_with_are_named(argv, message):
    with pytest.raises(UserError, match=message):
        config.parse_eval_args([*argv, *(["--snapshot", "s"] if argv else [])])


def test_test_mode_is_short_and_reaches_the_statistics():
    args = config.parse_train_args(["--test_mode", "--trials", "10"])
    assert (args.max_epoch, args.cov_stat_epoch, args.trials) == (2, 0, 2)


def test_the_default_root_is_in_the_working_directory_or_beside_the_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "__file__", str(tmp_path / "programs/config.py"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("CAMVID_DIR", raising=False)
    roots, camvid = config.Roots(), DATASETS["camvid"]
    assert roots(camvid) == Path("data/camvid")
    (tmp_path / "programs/data/camvid").mkdir(parents=True)
    assert roots(camvid) == tmp_path / "programs/data/camvid"
    (tmp_path / "work/data/camvid").mkdir(parents=True)
    assert roots(camvid) == Path("data/camvid")
