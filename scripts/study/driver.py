"""Run the study's jobs: train, score, measure, and keep one small JSON file of each."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import PriorityQueue
from typing import Any

import torch

from scripts.study.plan import TASKS, Job
from utils.errors import UserError
from utils.evaluation.saved import column_of, read
from utils.files import write_text

ROOT = Path(__file__).parents[2]
LOSS = re.compile(r"\[iter \d+ / \d+ : (\d+)\], \[loss ([\d.]+)\]")
SCORE = re.compile(r"\[epoch \d+\], (\w+): .*mean_iu ([\d.]+)")
POINTS = 20  # of a learning curve
Slots = PriorityQueue[tuple[int, str]]  # number of the slot on its GPU, and the GPU


def gpu_slots(at_once: int) -> Slots:
    """Return `at_once` slots on each visible GPU, for a program each; those of an empty GPU come first.

    A GPU is named as in CUDA_VISIBLE_DEVICES. Without a GPU the name of the only device is empty.
    """
    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",")[:count] if visible else [str(gpu) for gpu in range(count)]
    slots: Slots = PriorityQueue()
    for slot in range(at_once):
        for gpu in gpus or [""]:
            slots.put((slot, gpu))
    return slots


@dataclass(frozen=True)
class Place:
    """Where the data is and where a study writes, the backbone's weights, and where programs run."""

    out: Path
    data: Path
    pretrained: str | Path = "imagenet"  # --pretrained of train.py
    slots: Slots = field(default_factory=lambda: gpu_slots(1))
    locks: dict[str, threading.Lock] = field(default_factory=dict)

    def result(self, job: Job) -> Path:
        return self.out / "results" / f"{job.name}.json"

    def run(self, job: Job) -> Path:
        return self.out / "runs" / job.name

    def lock(self, job: Job) -> threading.Lock:
        return self.locks.setdefault(job.name, threading.Lock())


class Failed(Exception):
    """A program of a job failed; its log says why."""


def run_all(
    jobs: Sequence[Job], work: Callable[[Job], None], at_once: int, minutes: float | None
) -> tuple[list[Job], list[Job]]:
    """Do `work` for all jobs in order, `at_once` at a time; return those not started and those that failed.

    No job starts later than `minutes` after the beginning.
    """
    end = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    skipped, failed = [], []

    def start(job: Job) -> None:
        if time.monotonic() >= end:
            skipped.append(job)
            return
        try:
            work(job)
        except Failed as error:
            failed.append(job)
            print(f"{job.name} failed: {error}", flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(start, jobs))
    return skipped, failed


def unfinished(jobs: Sequence[Job], place: Place) -> list[Job]:
    """Return the jobs without a result. Raises UserError if there is one of another size."""
    waiting = []
    for job in jobs:
        file = place.result(job)
        if not file.is_file():
            waiting.append(job)
        elif (found := json.loads(file.read_text())["size"]) != job.size.name:
            raise UserError(f"{file} is of size {found}, not {job.size.name}; choose another --out")
    return waiting


def do(job: Job, place: Place) -> None:
    """Train, score and measure; write the result. Raises Failed."""
    begin, commands = time.monotonic(), Commands(place.run(job), place.slots)
    with place.lock(job):  # an adapted run may train its student at the same time
        snapshot = trained(job, place, commands)
    scores = scored(job, place, snapshot, commands)
    found = json.loads(probed(job, place, snapshot, commands).read_text())
    result = {
        "task": job.task,
        "method": job.method,
        "seed": job.seed,
        "size": job.size.name,
        "scores": scores["means"],
        "curve": curve((snapshot.parent / "log.txt").read_text()),
        "mechanism": {key: found[key] for key in ("twins", "distance", "covariance")},
        "pictures": found["pictures"],
        "commands": {name: text for name, text in commands.texts.items() if name != "probe"},
        "seconds": commands.seconds,
        "versions": scores["versions"],
    }
    write_text(place.result(job), json.dumps(rounded(result), separators=(",", ":")) + "\n")
    unseen = TASKS[job.task].groups["unseen"]
    mean = sum(scores["means"][name] for name in unseen) / len(unseen)
    print(f"{job.name}: unseen {100 * mean:.2f}, {time.monotonic() - begin:.0f} s", flush=True)


class Commands:
    """Runs programs of this project and keeps their commands and seconds; output goes to `folder`/log.

    Each program sees the GPU of the slot that it takes, and waits while no slot is free.
    """

    def __init__(self, folder: Path, slots: Slots) -> None:
        self.folder, self.slots = folder, slots
        self.texts: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, *words: object) -> None:
        """Run `python WORDS`; raises Failed with the last line it printed."""
        texts = [relative(word) if isinstance(word, Path) else str(word) for word in words]
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        slot = self.slots.get()
        begin, seen = time.monotonic(), {"CUDA_VISIBLE_DEVICES": slot[1]} if slot[1] else {}
        try:
            with log.open("w") as output:
                done = subprocess.run(
                    [sys.executable, *texts],
                    cwd=ROOT,
                    env=os.environ | seen,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        finally:
            self.slots.put(slot)
        if done.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
            raise Failed(f"{name}: {lines[-1][-300:]} ({log})")
        self.texts[name] = shlex.join(["python", *texts])
        self.seconds[name] = time.monotonic() - begin


def relative(path: Path) -> str:
    """Return a path in the project as one relative to it, where its programs run; others unchanged."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def trained(job: Job, place: Place, commands: Commands) -> Path:
    """Return the last checkpoint of a job; it is trained unless it is there from an earlier call."""
    folder = place.run(job) / "train"
    finished = folder / "finished"  # with the command and the seconds of the training
    if found := list(folder.glob("**/last_*.pth")) if finished.exists() else []:
        commands.texts["train"], commands.seconds["train"] = json.loads(finished.read_text())
        return found[0]
    shutil.rmtree(folder, ignore_errors=True)
    start: tuple[object, ...] = ("--pretrained", place.pretrained if TASKS[job.task].pretrained else "none")
    if job.start:
        with place.lock(job.start):
            student = trained(job.start, place, Commands(place.run(job.start), place.slots))
        start = ("--pretrained", "none", "--snapshot", student)
    data = place.data / TASKS[job.task].data
    commands(
        "train",
        *("train.py", *job.flags, *start, "--data_root", data, "--cache_images", place.data / "cache"),
        *("--date", job.task, "--exp", job.name, "--ckpt", folder, "--tb_path", folder),
    )
    (snapshot,) = folder.glob("**/last_*.pth")
    write_text(finished, json.dumps([commands.texts["train"], commands.seconds["train"]]))
    return snapshot


def scored(job: Job, place: Place, snapshot: Path, commands: Commands) -> dict[str, Any]:
    """Return the mean IoU by the name of what is scored, and the versions that computed it."""
    means: dict[str, float] = {}
    for number, part in enumerate(TASKS[job.task].scored):
        name = "eval" if not number else f"eval_{number}"
        commands(
            name,
            *("eval.py", "--dataset", *part.names, "--split", part.split, "--inference_mode", "whole"),
            *("--num_workers", job.size.workers, "--data_root", place.data / part.data, "--overwrite"),
            *("--snapshot", snapshot, "--ckpt_path", place.run(job), "--exp_name", name),
        )
        found = read(place.run(job) / name).means
        means |= {shown: found[column_of(dataset, part.split)] for dataset, shown in part.names.items()}
    versions = json.loads((place.run(job) / "eval/results.json").read_text())["versions"]
    return {"means": means, "versions": {key: versions[key] for key in ("torch", "gpu")}}


def probed(job: Job, place: Place, snapshot: Path, commands: Commands) -> Path:
    """Return the file of what scripts.study.probe measured."""
    task, out = TASKS[job.task], place.run(job) / "probe.json"
    shown = [f"{name}:{number}" for name, number in task.shown if number < job.size.val and not job.seed]
    commands(
        "probe",
        *("-m", "scripts.study.probe", "--snapshot", snapshot, "--dataset", task.probed),
        *("--data_root", place.data / task.data, "--out", out),
        *(("--keep",) if job.task == "gtav" and job.method in ("baseline", "ISW") else ()),
        *(("--pictures", *shown) if shown else ()),
    )
    return out


def curve(log: str) -> dict[str, list[tuple[int, float]]]:
    """Return (iteration, value) of the training loss and of the mean IoU of each dataset, from a log.

    The loss is that of POINTS log lines, evenly spread.
    """
    curves: dict[str, list[tuple[int, float]]] = {"loss": []}
    for line in log.splitlines():
        if found := LOSS.search(line):
            curves["loss"].append((int(found[1]), float(found[2])))
        elif (found := SCORE.search(line)) and curves["loss"]:
            curves.setdefault(found[1], []).append((curves["loss"][-1][0], float(found[2])))
    every = max(1, len(curves["loss"]) // POINTS)
    curves["loss"] = curves["loss"][every - 1 :: every]
    return curves


def rounded(value: Any) -> Any:
    """Return a JSON value with floats of 5 significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
