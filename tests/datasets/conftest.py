import pytest
import torch

from datasets.toy_city import write_toy_city
from tests.helpers import SIZE, TRAIN, VAL


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The five domains in their real layouts: toy / "gtav" and so on."""
    return write_toy_city(tmp_path_factory.mktemp("toy") / "town", size=SIZE, train=TRAIN, val=VAL, seed=0)
