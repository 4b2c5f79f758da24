import pytest
import torch
from small_data import SIZE, TRAIN, VAL

from datasets.toy_city import write_toy_city


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The five domains in their real layouts: toy / "gtav" and so on."""
    return write_toy_city(tmp_path_factory.mktemp("toy") / "town", size=SIZE, train=TRAIN, val=VAL, seed=0)
