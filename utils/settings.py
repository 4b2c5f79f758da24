"""What a training run records in its checkpoints, and what a continued run may change."""

import shlex
from collections.abc import Mapping
from typing import Any

from utils import distributed
from utils.errors import UserError

# Every flag of train.py, and every derived fact of the record, is in exactly one of three classes.
# REFUSED: a continued run must have the recorded value, because the flag decides the network, the loss or
# which samples come in which order.
REFUSED = frozenset(
    """
    arch wt_layer image_in freeze_trunk relax_denom optimizer amsgrad fp16 adaptation seed images_per_step
    dataset image_uniform_sampling domain_steps city_mode cv maxSkip
    class_uniform_pct class_uniform_tile coarse_boost_classes max_cu_epoch classes
    source_split augmentation crop_shape resize_first source_colors jitter
    crop_size crop_nopad pre_size scale_min scale_max rrotate color_aug gblur bblur
    loss_over cls_wt_loss img_wt_loss batch_weighting wt_bound jointwtborder strict_bdr_cls rlx_off_iter
    adapt_dataset sac_views sac_images sac_crop sac_weight sac_teacher_every sac_published_loss sac_weights
    sac_scale sac_zoom sac_blur sac_jitter sac_gray sac_conf_upper sac_conf_lower sac_beta sac_focal_power
    sac_prior_momentum sac_teacher_momentum sac_uniform sac_uniform_classes
    """.split()
)
# APPLIED: the new value counts from the first iteration on, and the log says so.
APPLIED = frozenset(
    """
    lr momentum weight_decay weight_decay_bias lr_bias lr_head
    lr_schedule poly_exp rescale repoly max_iter max_epoch
    wt_reg_weight clusters trials cov_stat_epoch dynamic covstat_val_dataset
    val_dataset val_every select_on mapillary_protocol test_mode processes
    visualize_feature dump_augmentation_images amp micro_batch deterministic
    """.split()
)
# IGNORED: where files are, who computes, how a run starts, and flags that a derived fact stands for:
# optimizer (adam), adaptation (sac_phase), images_per_step (bs_mult, global_batch_size).
IGNORED = frozenset(
    """
    data_root dataset_dir cache_dir cache_images ckpt tb_path tb_tag date exp snapshot restore_optimizer
    pretrained num_workers bs_mult_val aug_device strict_data local_rank stop_after keep_last
    resume save_every_iters
    adam sac_phase bs_mult global_batch_size
    fast channels_last compile cuda_graph profile
    sgd syncbn hardnm trunk scf start_epoch dist_url use_wtloss use_isw
    """.split()
)
SPEED = frozenset({"channels_last", "compile", "cuda_graph"})  # processes that differ wait for each other
OPTIMIZER_FLAGS = frozenset({"lr", "momentum", "weight_decay", "weight_decay_bias", "lr_bias", "lr_head"})
SCHEDULE_FLAGS = frozenset({"lr_schedule", "poly_exp", "rescale", "repoly", "max_iter"})
ARCH_PREFIX = "network.deepv3."

# Flags of published and of early checkpoints, which recorded only their command, and the abbreviations that
# were accepted then. A flag without values is a switch.
EARLY_FLAGS = {
    "dataset": ("--dataset", "--datase", "--datas"),
    "adapt_dataset": ("--adapt_dataset",),
    "image_in": ("--image_in", "--image_i"),
    "arch": ("--arch",),
    "wt_layer": ("--wt_layer", "--wt_laye", "--wt_lay", "--wt_la", "--wt_l"),
}


def record(flags: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """Return what a checkpoint records: the value of every flag, defaults included, and derived facts.

    All processes call this. Raises UserError if they were started with flags that make them other runs.
    """
    kept = REFUSED | APPLIED | IGNORED - {"local_rank"}
    record = {name: value for name, value in flags.items() if name in kept}
    record |= {"arch": flags["arch"].removeprefix(ARCH_PREFIX)} | facts
    _require_alike({name: value for name, value in record.items() if name not in IGNORED - SPEED})
    return record


def _require_alike(settings: Mapping[str, Any]) -> None:
    """Raise UserError on all processes if `settings` of one are not those of the first."""
    first = distributed.broadcast_object(settings)
    others = [
        f"{_title(name)} {_shown(value)}, not {_shown(first.get(name))}"
        for name, value in settings.items()
        if first.get(name) != value
    ]
    answers = distributed.all_gather_objects("; ".join(others))
    texts = [f"process {rank} has {text}" for rank, text in enumerate(answers) if text]
    if texts:
        raise UserError(f"{'; '.join(texts)} as process 0; give all processes the same flags")


def compare(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings that a continued run changes and may change, name -> (recorded, current).

    Only settings in both are compared, because early checkpoints recorded few. Raises UserError that names
    every setting that must not change, with both values.
    """
    changed = {
        name: (recorded[name], value)
        for name, value in current.items()
        if name in recorded and name not in IGNORED and recorded[name] != value
    }
    refused = [
        f"{_title(name)} {_shown(old)}, not {_shown(new)}"
        for name, (old, new) in changed.items()
        if name not in APPLIED
    ]
    if refused:
        raise UserError(
            f"the checkpoint was trained with {'; '.join(refused)}; use the recorded values, or leave out "
            "--restore_optimizer to start from its weights"
        )
    return changed


def _title(name: str) -> str:
    """Return a flag as the command line has it, and a derived fact by its name in words."""
    facts = {"optimizer": "optimizer", "adaptation": "adaptation", "images_per_step": "images per step"}
    return facts.get(name, "classes" if name == "classes" else f"--{name}")


def _shown(value: Any) -> str:
    """Return a value for a message; a table of classes is shown by its names."""
    return ", ".join(value["names"]) if isinstance(value, Mapping) and "names" in value else str(value)


def recorded(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run that wrote the checkpoint `state`, a flag or derived fact by name.

    Of a checkpoint that has no whole record, the settings that its command shows are added.
    """
    return settings_of_command(state.get("command", "")) | dict(state.get("settings", {}))


def settings_of_command(command: str) -> dict[str, Any]:
    """Return arch, wt_layer, image_in, dataset and adapt_dataset as a training command gives them."""
    try:
        words = shlex.split(command.replace("=", " "))
    except ValueError:  # an open quotation
        words = command.split()
    if not words:
        return {}
    settings: dict[str, Any] = {"dataset": ["cityscapes"], "adapt_dataset": None, "image_in": False}
    for name, spellings in EARLY_FLAGS.items():
        for place, word in enumerate(words):
            if word in spellings:
                settings[name] = _values(words[place + 1 :])
    if settings["image_in"] is not False:
        settings["image_in"] = True
    for name in ("adapt_dataset", "arch"):
        if settings.get(name):
            settings[name] = settings[name][0]
    if "arch" in settings:
        settings["arch"] = settings["arch"].removeprefix(ARCH_PREFIX)
    if "wt_layer" in settings:
        settings["wt_layer"] = [int(code) for code in settings["wt_layer"]]
    return settings


def _values(words: list[str]) -> list[str]:
    """Return the words up to the next flag."""
    end = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:end]
