"""Training data that cannot be used: what took their place is counted, and too much of it ends the run."""

from collections import Counter
from collections.abc import Iterable

from utils import distributed
from utils.errors import UserError, few
from utils.logging import logger, own_logger

LEAST = 10  # replaced samples of a process in an epoch that do not end a run, however small its data are
SHARE = 0.1  # of the samples of an epoch, which may be replaced


class LeftOut:
    """Counts by their reasons how often data could not be used, on this process."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # since the last summary or `restore`
        self.earlier: Counter[str] = Counter()  # of all processes, before the run went on; on the main one
        self.named: set[str] = set()

    def note(self, reasons: Iterable[str], instead: str = "another image takes its place") -> None:
        """Count, and warn of what is new; the log says what is done `instead`."""
        for reason in reasons:
            self.counts[reason] += 1
            if reason not in self.named:
                self.named.add(reason)
                own_logger.warning("%s; %s", reason, instead)

    def limit(self, samples: int) -> None:
        """Raise UserError if more than SHARE of an epoch of this process, `samples`, was replaced."""
        total = self.counts.total()
        if total > max(LEAST, SHARE * samples):
            raise UserError(
                f"{total} times in an epoch of {samples} training samples, data could not be used, which is "
                f"too often: {few(list(self.counts), 3)}"
            )

    def summary(self, what: str) -> None:
        """Log how often data of all processes were left out of `what`, and start anew; all call this."""
        counts = self.gathered()
        self.counts.clear()
        self.earlier.clear()
        if counts:
            text = "%d times, data could not be used for %s: %s"
            named = [f"{reason} ({count} times)" for reason, count in sorted(counts.items())]
            logger.warning(text, sum(counts.values()), what, few(named))

    def gathered(self) -> dict[str, int]:
        """Return the counts of all processes together; all call this."""
        counts: Counter[str] = Counter()
        for other in distributed.all_gather_objects(dict(self.earlier + self.counts)):
            counts.update(other)
        return dict(counts)

    def restore(self, counts: dict[str, int]) -> None:
        """Continue with the counts of all processes together, which do not count for `limit`."""
        self.counts.clear()
        self.earlier = Counter(counts if distributed.is_main() else {})
