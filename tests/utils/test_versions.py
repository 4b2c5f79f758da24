"""A file that changes after it was listed is noticed by its size or its time."""

import os

import pytest

from utils.errors import UserError
from utils.versions import CLOCK, MISSING, Version, versions


def test_sizes_and_times_of_files(tmp_path):
    """A link has the version of what it leads to. A file that is named twice is asked for once."""
    (tmp_path / "a").write_bytes(bytes(3))
    os.utime(tmp_path / "a", ns=(5, 7))
    (tmp_path / "link").symlink_to("a")
    files = [tmp_path / name for name in ("a", "link", "a", "none")]
    assert versions(files) == dict(zip(files, [(3, 7), (3, 7), (3, 7), (MISSING, 0)], strict=True))


@pytest.mark.parametrize("now", [(4, 10**9), (3, 10**9 + CLOCK), (3, 10**9 - CLOCK), (MISSING, 0)])
def test_another_size_or_time_is_an_error(now):
    with pytest.raises(UserError, match="^image x was changed after it was listed: 3 bytes of .* then"):
        Version(3, 10**9).check(Version(*now), "image x")


def test_a_file_that_was_not_there(tmp_path):
    with pytest.raises(UserError, match="no file then, 3 bytes of .* now"):
        Version(MISSING, 0).check(Version(3, 0), "image x")


@pytest.mark.parametrize("shift", [0, 1 - CLOCK, CLOCK - 1])
def test_a_time_that_the_file_system_rounded_is_none(shift):
    Version(3, 10**10).check(Version(3, 10**10 + shift), "image x")
