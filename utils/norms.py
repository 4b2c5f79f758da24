"""The codes of --wt_layer: which norm stands at each of the seven positions of a network."""

from enum import IntEnum


class Norm(IntEnum):
    """A norm that --wt_layer can put into a network. network/normalization.py makes its module."""

    NONE = 0  # the network as it is
    IW = 1  # instance whitening: IW with --relax_denom 0, IRW above 0 (arXiv 2103.15597)
    ISW = 2  # instance selective whitening (arXiv 2103.15597)
    IN = 3  # instance norm without learned scale and shift
    IBN = 4  # instance norm with learned scale and shift, as in IBN-b of IBN-Net (arXiv 1807.09441)
    SW = 5  # switchable whitening (arXiv 1904.09739)
    ITERNORM = 6  # whitening by the batch's covariance (arXiv 1904.03441)


CODES = ", ".join(f"{norm:d} {norm.name}" for norm in Norm)  # for help texts and messages
POSITIONS = 7  # indices 0 to 2 belong to the stem, 3 to 6 to layer1 to layer4
NO_NORMS = (Norm.NONE,) * POSITIONS
