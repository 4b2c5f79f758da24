import re

import pytest

from utils.errors import UserError
from utils.evaluation import memory


def test_the_least_limit_that_is_named_suffices(monkeypatch):
    """Both numbers have two decimals, so they may be 0.01 GiB too small together."""
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: None)  # other tests keep their malloc
    with pytest.raises(UserError, match="--max_memory_gb 0.01 is too small") as error, memory.at_most(0.01):
        pass
    has, needs = re.findall(r"(\d+\.\d+) GiB", str(error.value))
    with memory.at_most(float(has) + float(needs) + 0.02):
        pass
