"""--profile: what a few training steps spend their time on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, schedule, supported_activities

from utils import distributed
from utils.logging import logger
from utils.training.trainer import Trainer

SKIPPED, RECORDED = 12, 5  # steps; the first ones compile, capture and fill caches
OPERATORS = 15  # that are printed
TRACE = "trace.json"


@contextmanager
def profiling(trainer: Trainer, folder: Path | None) -> Iterator[None]:
    """Record steps 13 to 17 of `trainer`; write trace.json to `folder` and log the top operators.

    chrome://tracing and ui.perfetto.dev show the trace. Only the main process records; without a folder,
    none does.
    """
    if folder is None or not distributed.is_main():
        yield
        return

    def write(recorded: Any) -> None:
        recorded.export_chrome_trace(str(folder / TRACE))
        device = "device" if ProfilerActivity.CUDA in supported_activities() else "cpu"
        options: Any = {"sort_by": f"self_{device}_time_total", "row_limit": OPERATORS}
        table = recorded.key_averages().table(**options, max_name_column_width=60)
        logger.info("trace of %d steps in %s; top operators:\n%s", RECORDED, folder / TRACE, table)

    steps = schedule(wait=SKIPPED - 2, warmup=2, active=RECORDED, repeat=1)
    step = trainer.step
    with profile(schedule=steps, on_trace_ready=write) as recorder:

        def recorded_step(*batches: Any) -> None:
            step(*batches)
            recorder.step()

        setattr(trainer, "step", recorded_step)  # noqa: B010
        yield
        setattr(trainer, "step", step)  # noqa: B010
    if not (folder / TRACE).exists():
        logger.warning("--profile: the run ended before step %d, so nothing was recorded", SKIPPED + RECORDED)
