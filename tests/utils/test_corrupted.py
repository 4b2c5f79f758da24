import pytest

from utils.corrupted import COMMON, Entry, entries, parse
from utils.errors import UserError


def test_names():
    assert parse("gtav") == Entry("gtav") and str(Entry("gtav")) == "gtav"
    assert parse("gtav@jpeg_compression-5") == Entry("gtav", "jpeg_compression", 5)
    assert str(Entry("foggy_cityscapes_0.01", "fog", 1)) == "foggy_cityscapes_0.01@fog-1"


def test_entries_of_a_command_line():
    names = entries(["a", "b"], ["fog", "saturate"], [1, 3])
    assert names[:5] == ["a", "a@fog-1", "a@fog-3", "a@saturate-1", "a@saturate-3"] and len(names) == 10
    every = entries(["a"], ["all", "fog"], [2])
    assert every == ["a", *(f"a@{name}-2" for name in COMMON)] and len(every) == 16
    assert entries(["a", "b"], [], [1]) == ["a", "b"]


@pytest.mark.parametrize("name", ["a@fogg-1", "a@fog", "a@-1", "a@"])
def test_unknown_corruptions(name):
    with pytest.raises(UserError, match="unknown corruption .*all, gaussian_noise"):
        parse(name)
    with pytest.raises(UserError, match="unknown corruption 'fogg'.*did you mean fog"):
        entries(["a"], ["fogg"], [1])


def test_unknown_severities():
    for name in ("a@fog-6", "a@fog-0", "a@fog-", "a@fog-1.5"):
        with pytest.raises(UserError, match="severities are 1 to 5"):
            parse(name)
    with pytest.raises(UserError, match="--severity .*1 to 5, not 0"):
        entries(["a"], ["fog"], [1, 0])
