import pytest

from utils.errors import UserError
from utils.variants import COMMON, Entry, entries, parse


def test_names():
    assert parse("gtav") == Entry("gtav") and str(Entry("gtav")) == "gtav"
    assert parse("gtav@jpeg_compression-5") == Entry("gtav", "jpeg_compression", 5)
    assert str(Entry("foggy_cityscapes_0.01", "fog", 1)) == "foggy_cityscapes_0.01@fog-1"
    assert (
        parse("gtav@scale-0.5") == Entry("gtav", scale=0.5) and str(Entry("gtav", scale=2)) == "gtav@scale-2"
    )
    assert [parse(name).is_variant for name in ("gtav", "gtav@fog-1", "gtav@scale-1.0")] == [
        False,
        True,
        True,
    ]


def test_entries_of_a_command_line():
    names = entries(["a", "b"], ["fog", "saturate"], [1, 3])
    assert names[:5] == ["a", "a@fog-1", "a@fog-3", "a@saturate-1", "a@saturate-3"] and len(names) == 10
    every = entries(["a"], ["all", "fog"], [2])
    assert every == ["a", *(f"a@{name}-2" for name in COMMON)] and len(every) == 16
    assert entries(["a", "b"], [], [1]) == ["a", "b"]
    assert entries(["a", "b"], [], [], [0.5, 1.0])[:4] == ["a", "a@scale-0.5", "a@scale-1.0", "b"]


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


@pytest.mark.parametrize("text", ["x", "", "0", "-1", "inf", "nan"])
def test_impossible_scales(text):
    with pytest.raises(UserError, match=f"'{text}' is not a scale; scales are finite numbers above 0"):
        parse(f"a@scale-{text}")
