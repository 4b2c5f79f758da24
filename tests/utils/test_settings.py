"""Settings are read from a checkpoint's record, or from the command of an early one; what may change."""

import pytest

import config
from tests.helpers import run_processes
from utils import settings
from utils.classes import CITYSCAPES
from utils.errors import UserError
from utils.settings import compare, recorded

FACTS = {"optimizer", "adaptation", "images_per_step", "classes", "processes"}
CLASSES = settings.REFUSED, settings.APPLIED, settings.IGNORED


def test_the_record_counts_before_the_command():
    state = {"command": "train.py --dataset gtav --arch A", "settings": {"arch": "B", "image_in": True}}
    settings = recorded(state)
    assert (settings["arch"], settings["image_in"], settings["dataset"]) == ("B", True, ["gtav"])


def test_an_early_command():
    command = "train.py --datas gtav synthia --arch network.deepv3.DeepR50V3PlusD --wt_layer 0 0 2 2 2 0 0"
    settings = recorded({"command": command + " --adapt_dataset=folder --image_in --lr 0.1"})
    assert settings["dataset"] == ["gtav", "synthia"] and settings["adapt_dataset"] == "folder"
    assert settings["arch"] == "DeepR50V3PlusD" and settings["wt_layer"] == [0, 0, 2, 2, 2, 0, 0]
    assert settings["image_in"] is True


def test_defaults_of_a_command_and_nothing_without_one():
    assert recorded({"command": "train.py"})["dataset"] == ["cityscapes"]
    assert recorded({"command": "train.py --lr 'open"})["image_in"] is False
    assert recorded({}) == {}


def record(*argv):
    """Return the record of a training with these flags."""
    facts = {"optimizer": "SGD", "adaptation": "none", "images_per_step": 2, "processes": 1}
    flags = vars(config.parse_train_args(list(argv)))
    return settings.record(flags, classes=CITYSCAPES.to_dict(), **facts)


def record_of_a_process(rank, world_size):
    """Of two machines, launched by hand: what the second says of its own, then what may differ."""
    with pytest.raises(UserError) as error:
        record(*(["--lr", "0.1", "--cuda_graph"] if rank else ["--lr", "0.2"]))
    return str(error.value), record("--data_root", f"data of {rank}")["data_root"]


def test_processes_with_other_flags():
    """The averaged gradients of other losses, and steps of other sizes, made weights differ in silence."""
    text = "process 1 has --lr 0.1, not 0.2; --cuda_graph True, not False as process 0; "
    text += "give all processes the same flags"
    assert run_processes(record_of_a_process, 2) == [(text, f"data of {rank}") for rank in range(2)]


def test_every_flag_of_training_is_in_exactly_one_class():
    flags = {action.dest for action in config.get_parser("train")._actions} - {"help"}
    for name in flags | FACTS:
        assert sum(name in names for names in CLASSES) == 1, name
    assert frozenset().union(*CLASSES) == flags | FACTS | {"dataset_dir"}


def test_the_record_has_every_flag_and_only_plain_values():
    flags = {action.dest for action in config.get_parser("train")._actions} - {"help", "local_rank"}
    made = record("--arch", "network.deepv3.DeepR18V3PlusD")
    assert made.keys() == flags | FACTS and made["arch"] == "DeepR18V3PlusD"
    for value in made.values():
        assert isinstance(value, str | int | float | list | dict | None)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--arch", "DeepR18V3PlusD"], "--arch DeepR50V3PlusD, not DeepR18V3PlusD"),
        (["--dataset", "gtav"], r"--dataset \['cityscapes'\], not \['gtav'\]"),
        (["--seed", "3"], "--seed 0, not 3"),
        (["--image_in"], "--image_in False, not True"),
        (["--crop_size", "64"], "--crop_size 720, not 64"),
        (["--class_uniform_pct", "0.5"], "--class_uniform_pct 0, not 0.5"),
        (
            ["--fp16", "--img_wt_loss"],
            "--(fp16|img_wt_loss) False, not True; --(fp16|img_wt_loss) False, not True",
        ),
    ],
)
def test_settings_that_must_not_change_are_named_with_both_values(argv, message):
    with pytest.raises(UserError, match=message):
        compare(record(), record(*argv))


def test_derived_facts_must_not_change():
    new = record() | {"images_per_step": 4, "classes": {"names": ["road", "sky"]}, "optimizer": "Adam"}
    with pytest.raises(UserError) as error:
        compare(record(), new)
    for text in ("images per step 2, not 4", "bicycle, not road, sky", "optimizer SGD, not Adam"):
        assert text in str(error.value)


def test_settings_that_may_change_are_returned_with_both_values():
    changes = compare(record(), record("--lr", "0.005", "--val_dataset", "gtav", "--max_iter", "9"))
    assert changes.keys() == {"lr", "max_iter", "val_dataset"}
    assert (changes["lr"], changes["max_iter"]) == ((0.01, 0.005), (30000, 9))


def test_paths_and_workers_change_in_silence():
    assert (
        compare(record(), record("--ckpt", "x", "--num_workers", "9", "--data_root", "d", "--exp", "e")) == {}
    )


def test_early_checkpoints_are_compared_on_what_they_have():
    state = {"command": "train.py --dataset gtav", "settings": {"arch": "DeepR50V3PlusD", "seed": 0}}
    assert compare(recorded(state), record("--dataset", "gtav", "--crop_size", "64")) == {}
    with pytest.raises(UserError, match="--seed 0, not 1"):
        compare(recorded(state), record("--dataset", "gtav", "--seed", "1"))
    with pytest.raises(UserError, match="--dataset"):
        compare(recorded(state), record())
    assert compare({}, record()) == {}
