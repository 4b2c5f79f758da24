"""Progress bars: of the main process, on a terminal only, and never on one line with other output."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from tqdm import tqdm

from utils import distributed

Item = TypeVar("Item")
Show = Callable[[Iterable[Item], str], Iterator[Item]]  # yields the items; a bar shows the title and how far

tqdm.monitor_interval = 0  # bars have no thread and no semaphore, which a killed process could keep
tqdm.set_lock(threading.RLock())
os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))


class Bar(tqdm):
    """The bar of `total` steps, `done` of them before now; it vanishes when it is closed.

    Its estimate of the time left is the mean time of a step until now times the steps that are left.
    """

    def __init__(self, title: str, total: int | None, done: int = 0, unit: str = "image") -> None:
        super().__init__(
            desc=title,
            total=total,
            initial=done,
            unit=unit,
            leave=False,
            smoothing=0,
            miniters=1,
            dynamic_ncols=True,
            disable=None if distributed.is_main() else True,  # None: shown on a terminal
        )

    def at(self, done: int) -> None:
        """Show that `done` steps are done."""
        self.update(done - self.n)

    def skip(self, count: int) -> None:
        """Count steps that took no time."""
        if not self.disable:
            self.n += count
            self.initial += count

    def steps(self, items: Iterable[Item], title: str) -> Iterator[Item]:
        """Yield the items, one for each step."""
        self.set_description_str(title)
        for item in items:
            yield item
            self.update()

    def within(self, items: Iterable[Item], title: str) -> Iterator[Item]:
        """Yield the items of work between two steps, which does not count for the time of a step.

        The bar's own title is back after them.
        """
        before, total = self.desc if not self.disable else "", len(items)  # type: ignore[arg-type]
        since = time.time()
        for number, item in enumerate(items, start=1):
            self.set_description_str(f"{title} {number}/{total}")
            yield item
            now = time.time()
            if not self.disable:
                self.start_t += now - since
                self.last_print_t += (
                    now - since
                )  # tqdm takes a bar shown before its start for one never shown
            since = now
        self.set_description_str(before)


def over(items: Iterable[Item], title: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Yield the items and show how many are done, of `total` or of the length of `items`."""
    with Bar(title, len(items) if total is None else total, unit=unit) as bar:  # type: ignore[arg-type]
        yield from bar.steps(items, title)


def aside() -> AbstractContextManager:
    """Return a context in which lines are printed: bars are taken away before and drawn again after."""
    return tqdm.external_write_mode()


@contextmanager
def closing() -> Iterator[None]:
    """Take all bars away at the end, also after an error, so that what is printed then has its own lines."""
    try:
        yield
    finally:
        for bar in list(tqdm._instances):
            bar.close()
