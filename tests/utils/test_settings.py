"""Settings are read from a checkpoint's record, or from the command of an early one."""

from utils.settings import recorded


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
