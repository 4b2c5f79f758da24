from network.normalization import NORMS, check_codes
from utils.norms import Norm


def test_every_norm_has_a_module_and_a_name():
    assert set(NORMS) == set(Norm) - {Norm.NONE}
    assert check_codes([0, 1, 2, 3, 4, 5, 6]) == tuple(Norm)
