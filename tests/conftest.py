import pytest
from torch.utils.data import _utils

from datasets.toy_city import write_toy_city

# Seconds that PyTorch waits for a loader process to end. It waits in vain where an error ended the loop and
# the garbage collector frees the loader: the queue that should tell the process is closed first.
_utils.MP_STATUS_CHECK_INTERVAL = 0.5


def pytest_collection_modifyitems(items):
    """Give slow tests a longer time limit than the one of .pytest.ini."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def toy_town(tmp_path_factory):
    """The five domains, 64x128 px, 8 training and 2 validation images each."""
    root = tmp_path_factory.mktemp("town")
    write_toy_city(root, size=(64, 128), train=8, val=2, seed=0)
    return root
