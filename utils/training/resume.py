"""Which checkpoint a run continues from, and the command that continues it."""

import json
import os
import shlex
from pathlib import Path

from utils import checkpoint
from utils.errors import UserError
from utils.logging import logger
from utils.training.run import claim, launch_id, words_of_run


def find(resume: str | None, experiment: Path) -> Path | None:
    """Return the checkpoint that --resume asks for: a file, of a run's folder the newest, or of "auto".

    "auto" is the newest sound checkpoint of the run of `experiment` that saved last; None if no run saved
    one. A process that torchrun started again continues the run of its own launch. The run's folder is
    claimed. Raises UserError for a path without a sound checkpoint, and for a run that another process
    continues.
    """
    again = restarted()
    if resume not in (None, "auto") and not again:
        return found(str(resume))
    runs: dict[Path, int] = {}
    for file in filter(Path.is_file, experiment.glob("*/*.pth") if resume or again else ()):
        runs[file.parent] = max(file.stat().st_mtime_ns, runs.get(file.parent, 0))
    for run in sorted(runs, key=lambda run: runs[run], reverse=True):
        if again and launch_id() not in launches(run):
            continue
        claim(run)
        try:
            return checkpoint.newest(run)
        except UserError as error:
            logger.warning("%s", error)
    return found(str(resume)) if resume not in (None, "auto") else None


def found(path: str) -> Path:
    """Return the checkpoint at `path`, of a folder the newest, and claim its run's folder."""
    file = checkpoint.find(path)
    if file.parent.is_dir():
        claim(file.parent)
    return file


def restarted() -> bool:
    """Whether torchrun has started this process again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def launches(run: Path) -> list[str]:
    """Return the launches that wrote to a run's folder, as its run.json says."""
    try:
        starts = json.loads((run / "run.json").read_text())["starts"]
        return [start["launch"] for start in starts if start["launch"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def command(folder: str | Path) -> str:
    """Return the command of this process with --resume FOLDER, as a shell reads it."""
    local = os.environ.get("LOCAL_WORLD_SIZE")
    start = ["torchrun", f"--nproc_per_node={local}"] if local else ["python"]
    return shlex.join([*start, *words_of_run(), "--resume", str(folder)])
