"""Trains again and again in new processes, which start at once because they are forks of this one.

Each line of standard input is a run, in JSON: `argv` of train.py, its folder `log`, the number of
`processes`, and, to end one of them, `rank` sends itself the signal `number` within iteration `step`, at its
event `last`, before it writes a checkpoint (`write`), after it has written one with `written` in its name or
before it predicts the batch `validated`, or removes the folder `gone`, or writes the files `changed` ({path:
the path of its new content, or null to remove it}) within `step`. With `rank` "all" each process does so;
before the batch `validated`, process n first waits n times `late` s. Each step takes `slow` s more; then the
signal `second` follows the first one. Each checkpoint takes `writing` s more. With `launcher`, all get
SIGTERM once one has failed, as from torchrun. Events are before and after each step, each batch of statistics
and validation, each file, and each flush to disk. The answer to a line is {"codes": exit codes, "events":
their number by rank, "steps": the iterations of rank 0}. The network is tiny. With `alone`, each process is a
training of its own. A process that does not end within 60 s after another one failed is killed: its code is
-9.

Started by torchrun with such a line as its argument, it is one process of that run; processes that torchrun
starts again get no signal.
"""

import functools
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import nn

import config
import train
from network.dropout import JointDropout2d
from network.instance_whitening import SelectiveInstanceWhitening, Whitening
from network.segmentation import SegOutput, StagedNet, resize
from utils import files, torch_files
from utils.exit import exit_cleanly
from utils.logging import warn_in_log
from utils.training import validation
from utils.training.saving import Keeper
from utils.training.trainer import Trainer

PATIENCE = 60  # s


class TinyNet(StagedNet):
    """A few hundred weights, with all that a network holds: whitening, batch norm, dropout."""

    classifiers = ("score",)

    def __init__(self, args, num_classes):
        nn.Module.__init__(self)
        self.layer0 = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), SelectiveInstanceWhitening(6), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.layer2 = self.layer3 = self.layer4 = nn.Identity()
        self.dsn = nn.Sequential(JointDropout2d(0.1), nn.Conv2d(6, num_classes, 1))
        self.score = nn.Conv2d(6, num_classes, 1)

    def forward(self, image):
        x = self.layer1(self.layer0(image))
        logits = resize(self.score(x), image.shape[-2:])
        return SegOutput(logits, self.dsn(x) if self.training else None, self.take_whitened())


def watch(owner, name, before, after):
    """Call `before` and `after` around each call of a function of a class or a module."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def watched(*args, **kwargs):
        before(*args)
        result = function(*args, **kwargs)
        after(*args)
        return result

    setattr(owner, name, watched)


def watch_events(event):
    for owner, name in (
        (Trainer, "step"),
        (Whitening, "observe"),
        (validation, "predict"),
        (torch_files, "write"),
        (files, "flush"),
        (Keeper, "keep_previous"),
    ):
        watch(owner, name, event, event)


def change(files):
    """Give files the content of others, or remove them."""
    for file, content in files.items():
        if content:
            shutil.copyfile(content, file)
        else:
            os.unlink(file)


def one_process(request, rank):
    """Train as process `rank` of the run that is asked for; this does not return."""
    log = Path(request["log"])
    log.mkdir(parents=True, exist_ok=True)
    for stream in (1, 2):
        os.dup2(os.open(log / f"{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    steps = os.open(log / f"{rank}.steps", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if request["processes"] > 1 and "alone" not in request:
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(request["port"])}
        world = str(request["processes"])
        os.environ |= places | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    count = validated = 0
    chosen = request.get("rank") in (rank, "all")

    def event(*args):
        nonlocal count
        count += 1
        if count == request.get("last") and chosen:
            os.kill(os.getpid(), request["number"])

    def before(trainer, *args):
        if trainer.iteration + 1 == request.get("step") and chosen:
            if "gone" in request:
                shutil.rmtree(request["gone"])
            elif "changed" in request:
                change(request["changed"])
            else:
                os.kill(os.getpid(), request["number"])
                time.sleep(request.get("slow", 0))
                os.kill(os.getpid(), request.get("second", 0))
        time.sleep(request.get("slow", 0))

    def before_validation(*args):
        nonlocal validated
        validated += 1
        if validated == request.get("validated") and chosen:
            time.sleep(request.get("late", 0) * rank)
            os.kill(os.getpid(), request["number"])

    def before_write(*args):
        time.sleep(request.get("writing", 0))
        if request.get("write") and chosen:
            os.kill(os.getpid(), request["number"])

    def after_write(path, content):
        if request.get("written", "/") in path.name and chosen:
            os.kill(os.getpid(), request["number"])

    watch_events(event)
    watch(torch_files, "write", before_write, after_write)
    watch(validation, "predict", before_validation, lambda *_: None)
    watch(Trainer, "step", before, lambda self, *_: os.write(steps, b"%d\n" % self.iteration))
    train.get_net = TinyNet
    sys.argv = ["train.py", *request["argv"]]
    with exit_cleanly(launched=True):
        warn_in_log()
        train.main(config.parse_train_args())
    (log / f"{rank}.events").write_text(str(count))


def forked(request, rank):
    """Return the id of a new process that trains."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        one_process(request, rank)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def exit_codes(processes, launcher):
    """Wait for processes; return their exit codes, minus the signal of one that a signal ended.

    If there is a `launcher`, it asks the others to end once one has failed.
    """
    codes, failed = {}, 0.0
    while len(codes) < len(processes):
        for process in set(processes) - set(codes):
            if failed and time.monotonic() > failed + PATIENCE:
                os.kill(process, 9)
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                codes[process] = os.waitstatus_to_exitcode(status)
                if codes[process] and not failed:
                    failed = time.monotonic()
                    for other in set(processes) - set(codes) if launcher else ():
                        os.kill(other, signal.SIGTERM)
        time.sleep(0.005)
    return [codes[process] for process in processes]


def main():
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        request = json.loads(sys.argv[1]) | {"processes": 1}
        if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
            del request["number"], request["step"]
        return one_process(request, int(os.environ["RANK"]))
    for line in sys.stdin:
        request = json.loads(line)
        ranks = range(request["processes"])
        codes = exit_codes([forked(request, rank) for rank in ranks], "launcher" in request)
        log = Path(request["log"])
        counts = [log / f"{rank}.events" for rank in ranks]
        events = [int(file.read_text()) if file.exists() else None for file in counts]
        steps = [int(step) for step in (log / "0.steps").read_text().split()]
        print(json.dumps({"codes": codes, "events": events, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
