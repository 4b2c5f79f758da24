"""What the study trains and scores: sizes, methods, tasks, and the flags of every run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from utils.errors import UserError

Flags = tuple[str, ...]

METHODS: dict[str, Flags] = {  # weights and clusters are the published ones, ISW's those of MobileNetV2
    "baseline": (),
    "IN": ("--wt_layer", *"0033300"),
    "IBN": ("--wt_layer", *"0044400"),
    "SW": ("--wt_layer", *"0055500"),
    "IterNorm": ("--wt_layer", *"0066600"),
    "IW": ("--wt_layer", *"0011100", *"--wt_reg_weight 0.8 --relax_denom 0".split()),
    "IRW": ("--wt_layer", *"0011100", *"--wt_reg_weight 0.6 --relax_denom 64".split()),
    "ISW": ("--wt_layer", *"0022200", *"--wt_reg_weight 1.0 --relax_denom 0 --clusters 20".split()),
}
SEARCH: dict[str, Flags] = {  # one change of the first-named method; a later flag replaces an earlier one
    "ISW position 2": ("--wt_layer", *"0020000"),
    "ISW positions 2, 3": ("--wt_layer", *"0022000"),
    "ISW weight 0.2": ("--wt_reg_weight", "0.2"),
    "ISW weight 0.6": ("--wt_reg_weight", "0.6"),
    "ISW clusters 2": ("--clusters", "2"),
    "ISW clusters 3": ("--clusters", "3"),
    "ISW clusters 5": ("--clusters", "5"),
    "ISW lr 0.005": ("--lr", "0.005"),
    "ISW lr 0.02": ("--lr", "0.02"),
    "baseline lr 0.02": ("--lr", "0.02"),
    "IN lr 0.02": ("--lr", "0.02"),
}
ADAPTED: dict[str, Flags] = {  # after the student; both train equally long
    "ABN": tuple("--sac_phase abn --sac_images 8".split()),
    "SAC": tuple("--sac_phase sac --sac_images 2 --sac_crop 360 480 --sac_teacher_every 1".split()),
}
ADVERSE = ("acdc_fog", "acdc_night", "acdc_rain", "acdc_snow")
STYLES = ("gtav", "synthia", "cityscapes", "bdd100k", "mapillary")
TRAIN_IMAGES = {"gtav": 1.0, "synthia": 1.0} | dict.fromkeys(
    ADVERSE, 0.125
)  # share of Size.train; others 0.5


class Size(NamedTuple):
    """How large everything is; px, images and iterations."""

    name: str
    height: int
    width: int
    train: int  # images of the source domain
    val: int  # images of each domain that is scored
    crop: int
    batch: int
    iterations: int
    workers: int
    speed: Flags  # flags that change the speed only


# Without --cuda_graph: several runs at once keep the GPU busy, and each graph holds memory of its own.
FULL = Size("full", 360, 640, 400, 40, 320, 16, 1000, 2, tuple("--amp bf16 --channels_last".split()))
QUICK = Size("quick", 128, 256, 100, 8, 96, 8, 200, 1, ())
SIZES = {size.name: size for size in (FULL, QUICK)}


class Scored(NamedTuple):
    """One call of eval.py: datasets of one split, and the names under which their scores are shown."""

    names: dict[str, str]  # by dataset
    split: str = "val"
    data: str = "toy"  # folder below the study's data


@dataclass(frozen=True)
class Task:
    """Source domains, what is scored, and the flags that all methods share."""

    title: str
    sources: tuple[str, ...]
    scored: tuple[Scored, ...]
    groups: dict[str, tuple[str, ...]]  # means over names of scores
    flags: Flags = ()
    statistics: tuple[str, ...] = ()  # domains of ISW's statistics; the sources if empty
    cov_stat_epoch: int = 8
    data: str = "toy"
    arch: str = "DeepMobileNetV3PlusD"
    pretrained: bool = True
    isw: Flags = ()  # of ISW, in place of those of METHODS
    adapted: bool = False
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: int = 3
    probed: str = "gtav"  # the domain whose images the mechanism is measured on
    shown: tuple[tuple[str, int], ...] = ()  # domain and number of the images that are shown


def named(*datasets: str) -> dict[str, str]:
    return {dataset: dataset.replace("acdc_", "") for dataset in datasets}


RICH = (*STYLES, "idd", *ADVERSE)
CAMVID = Scored({"gtav": "toy gtav", "camvid": "CamVid"})
CONDITIONS = ("fog", "night", "rain", "snow")
TASKS: dict[str, Task] = {
    "gtav": Task(
        "a. The toy town as GTAV renders it, to its other domains",
        ("gtav",),
        (Scored(named(*STYLES, *ADVERSE)),),
        {"unseen styles": STYLES[1:], "adverse": CONDITIONS, "unseen": (*STYLES[1:], *CONDITIONS)},
        shown=(("cityscapes", 3), ("mapillary", 5), ("acdc_night", 2)),
    ),
    "camvid": Task(
        "c. From rendered to real: the toy town in ten styles, to CamVid",
        RICH,
        (CAMVID,),
        {"unseen": ("CamVid",)},
        ("--image_uniform_sampling",),
        statistics=("gtav", "bdd100k"),
        cov_stat_epoch=2,
    ),
    "dusk": Task(
        "d. CamVid by day, to CamVid at dusk",
        ("camvid",),
        (Scored({"camvid": "day"}, data="light"), Scored({"camvid": "dusk"}, "test", "light")),
        {"unseen": ("dusk",)},
        cov_stat_epoch=10,
        data="light",
        probed="camvid",
    ),
    "gtav_synthia": Task(
        "b. The toy town as GTAV and SYNTHIA render it, to its other domains",
        ("gtav", "synthia"),
        (Scored(named(*STYLES, *ADVERSE)),),
        {"unseen styles": STYLES[2:], "adverse": CONDITIONS, "unseen": (*STYLES[2:], *CONDITIONS)},
        cov_stat_epoch=4,
    ),
    "search": Task(
        "Search: one change at a time, on task a",
        ("gtav",),
        (Scored(named(*STYLES, *ADVERSE)),),
        {"unseen styles": STYLES[1:], "adverse": CONDITIONS, "unseen": (*STYLES[1:], *CONDITIONS)},
        methods=("ISW", *SEARCH),
        seeds=1,
    ),
    "adapt": Task(
        "Adaptation to CamVid without labels: self-training against batch norm for as many iterations",
        RICH,
        (Scored({"camvid": "CamVid test"}, "test"),),
        {"unseen": ("CamVid test",)},
        ("--image_uniform_sampling",),
        statistics=("gtav", "bdd100k"),
        cov_stat_epoch=2,
        adapted=True,
        methods=tuple(name + how for name in ("baseline", "ISW") for how in ("", " + ABN", " + SAC")),
    ),
}
TASKS["scratch"] = replace(
    TASKS["gtav"],
    title="a with a ResNet-50 from scratch: no pretrained weights, ISW's settings for ResNet-50",
    arch="DeepR50V3PlusD",
    pretrained=False,
    isw=tuple("--wt_reg_weight 0.6 --clusters 3".split()),
    methods=("baseline", "IBN", "ISW"),
    shown=(),
)
ORDER = ("gtav", "gtav_synthia", "camvid", "dusk", "scratch", "adapt", "search")


@dataclass(frozen=True)
class Job:
    """One training and its scores."""

    task: str
    method: str
    seed: int
    size: Size
    flags: Flags = field(compare=False)  # of train.py, without folders and --pretrained
    start: "Job | None" = None  # the run from whose last checkpoint this one starts

    @property
    def name(self) -> str:
        """The name of the job's files."""
        return f"{self.task}-{self.method.replace(' ', '_').replace(',', '')}-{self.seed}"


def needs_camvid(task: str) -> bool:
    """Whether a task trains on or scores CamVid, which the study cannot render."""
    return any("camvid" in part.names for part in TASKS[task].scored)


def jobs(size: Size, tasks: Sequence[str], methods: Sequence[str] | None, seeds: int | None) -> list[Job]:
    """Return the runs in the order in which they start.

    They go seed by seed, so that a part of them compares all methods. Runs that adapt a student come after
    the other ones of their seed.

    `methods` and `seeds` narrow the tasks down; None leaves them as they are.
    Raises UserError for a method, or a number of seeds, that no task has.
    """
    known = dict.fromkeys(method for task in tasks for method in TASKS[task].methods)
    if unknown := [method for method in methods or () if method not in known]:
        raise UserError(f"--methods {', '.join(unknown)}: the tasks have {', '.join(known)}")
    most = max((TASKS[task].seeds for task in tasks), default=1)
    if seeds is not None and not 1 <= seeds <= most:
        raise UserError(f"--seeds {seeds}: the tasks have 1 to {most}")
    found = []
    for task in tasks:
        for seed in range(min(seeds or TASKS[task].seeds, TASKS[task].seeds)):
            for method in TASKS[task].methods:
                if methods is None or method in methods:
                    found.append(job(size, task, method, seed))
    return sorted(found, key=lambda job: (job.seed, job.start is not None))


def job(size: Size, task: str, method: str, seed: int) -> Job:
    """Return the run of a method; an adapted one starts from the run of its student."""
    student, _, adaptation = method.partition(" + ")
    start = job(size, task, student, seed) if adaptation else None
    flags = adapted_flags(size, student, adaptation) if adaptation else ()
    return Job(
        task,
        method,
        seed,
        size,
        (*task_flags(size, task, seed), *method_flags(size, task, student), *flags),
        start,
    )


def task_flags(size: Size, task: str, seed: int) -> Flags:
    """Return what all methods of a task share. The first seed is also validated while it trains."""
    of = TASKS[task]
    watched = "cityscapes" if task in ("gtav", "gtav_synthia") and not seed else "null"
    text = (
        f"--arch {of.arch} --global_batch_size {size.batch} --crop_size {size.crop} "
        f"--scale_min 0.5 --scale_max 2.0 --gblur --color_aug 0.5 --class_uniform_pct 0.5 "
        f"--class_uniform_tile {size.crop} --lr 0.01 --max_iter {size.iterations} "
        f"--val_dataset {watched} --val_every 10 --num_workers {size.workers} --seed {seed}"
    )
    return ("--dataset", *of.sources, *of.flags, *text.split(), *size.speed)


def method_flags(size: Size, task: str, method: str) -> Flags:
    """Return what sets a method apart."""
    of = TASKS[task]
    name = method.split()[0] if method in SEARCH else method
    flags = (*METHODS[name], *(of.isw if name == "ISW" else ()), *SEARCH.get(method, ()))
    if name != "ISW":
        return flags
    epoch = of.cov_stat_epoch if size is FULL else 2
    trials = 2 if len(of.statistics or of.sources) == 1 else 1
    statistics = of.statistics or of.sources
    return (
        *flags,
        "--covstat_val_dataset",
        *statistics,
        "--cov_stat_epoch",
        str(epoch),
        "--trials",
        str(trials),
    )


def adapted_flags(size: Size, student: str, adaptation: str) -> Flags:
    """Return the flags of the training that adapts a student; ABN and SAC share all but the loss."""
    iterations = size.iterations // 2
    text = f"--adapt_dataset camvid --max_iter {iterations} --lr 0.00025 --lr_schedule constant --lr_bias 2"
    masks = ("--cov_stat_epoch", "0") if student == "ISW" else ()
    return (*text.split(), *masks, *ADAPTED[adaptation])


def training_images(size: Size, tasks: Iterable[str]) -> dict[str, int]:
    """Return how many training images of each toy domain the tasks need; 0 of those that are only scored."""
    counts: dict[str, int] = {}
    for task in tasks:
        scored = [name for each in TASKS[task].scored for name in each.names]
        for domain in (*TASKS[task].sources, *scored):
            wanted = round(size.train * TRAIN_IMAGES.get(domain, 0.5)) if domain in TASKS[task].sources else 0
            counts[domain] = max(counts.get(domain, 0), wanted)
    return {domain: count for domain, count in counts.items() if domain != "camvid"}
