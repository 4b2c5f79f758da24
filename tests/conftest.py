import pytest

from datasets.toy_city import write_toy_city


@pytest.fixture(scope="session")
def toy_town(tmp_path_factory):
    """The five domains, 64x128 px, 8 training and 2 validation images each."""
    root = tmp_path_factory.mktemp("town")
    write_toy_city(root, size=(64, 128), train=8, val=2, seed=0)
    return root
