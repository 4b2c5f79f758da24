"""How many pairs of channels ISW's clustering selects, with and without the zeros that it also sees.

ISW clusters a whole matrix whose diagonal and lower triangle are zeros, as the published code does. The
network has pretrained weights and was not trained on.
"""

import argparse

import kmeans1d
import numpy as np
import torch

from network.archs import find_builder
from network.covariance import covariance
from network.standardization import standardize
from scripts.study import probe
from scripts.study.plan import TASKS
from utils.classes import CITYSCAPES
from utils.exit import exit_cleanly
from utils.parser import Parser


def selected(variance: np.ndarray, clusters: int) -> tuple[float, float]:
    """Return the shares of the pairs, the upper triangle of `variance` (C, C), outside the lowest cluster.

    The first is that of clustering all values, with zeros for those that are no pairs; the second that of
    clustering the pairs alone.
    """
    upper = np.triu_indices(len(variance), 1)
    whole, _ = kmeans1d.cluster(np.triu(variance, 1).flatten(), clusters)
    alone, _ = kmeans1d.cluster(variance[upper], clusters)
    pairs = np.reshape(whole, variance.shape)[upper]
    return float(np.mean(pairs > min(whole))), float(np.mean(np.array(alone) > min(alone)))


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    net = find_builder("DeepMobileNetV3PlusD")(len(CITYSCAPES), pretrained=args.pretrained).eval()
    originals, views = probe.twins(args.dataset, args.data_root)
    before, after = probe.features(net, originals), probe.features(net, views)
    for number, name in enumerate(probe.POSITIONS, start=2):
        change = covariance(standardize(after[name])) - covariance(standardize(before[name]))
        variance = (change.double().square() / 2).mean(0).numpy()
        for clusters in args.clusters:
            shares = "{:.1%} with the zeros, {:.1%} without".format(*selected(variance, clusters))
            print(f"position {number}, {len(variance)} channels, {clusters} clusters: {shares}")


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pretrained", default="imagenet", help="imagenet (torchvision's), or a file of weights"
    )
    parser.add_argument("--dataset", default=TASKS["gtav"].probed, help="whose validation images are used")
    parser.add_argument("--data_root", required=True, help="folder of the datasets by name")
    parser.add_argument("--clusters", nargs="+", type=int, default=[2, 3, 5, 20], help="numbers of clusters")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    with exit_cleanly():
        main()
