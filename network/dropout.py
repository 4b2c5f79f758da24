"""Dropout that does not depend on the number of processes."""

from torch import Tensor, nn

from utils import distributed


class JointDropout2d(nn.Dropout2d):
    """nn.Dropout2d that drops the same channels of an image on any number of processes.

    All processes draw for the images of all of them, from equal random states (Trainer.start_epoch). Sample i
    of the joint batch is sample i // n of process i % n; a sample has `domains` images, one of each domain.
    """

    domains = 1

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), in train mode with channels dropped."""
        processes = distributed.world_size()
        if processes == 1 or not self.training or not self.p:
            return super().forward(x)
        drawn = x.new_empty(processes * len(x), x.shape[1], 1, 1).bernoulli_(1 - self.p).div_(1 - self.p)
        samples = drawn.unflatten(0, (-1, 1 if len(x) % self.domains else self.domains))
        return x * samples[distributed.rank() :: processes].flatten(0, 1)
