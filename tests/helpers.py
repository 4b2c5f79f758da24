"""What several test modules share: small data, short runs of the programs, and several processes."""

import fcntl
import os
import pty
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import zipfile
import zlib
from collections import namedtuple
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from tensorboardX.proto import event_pb2
from torch import nn

import config
import train
from datasets import DATASETS
from datasets.kitti import VAL_SPLITS
from datasets.labels import ID_TO_TRAIN_ID
from loss import HeadLosses, MainLoss
from network import get_net, synchronization
from network.instance_whitening import Whitening
from optimizer import get_optimizer
from utils import distributed
from utils.exit import exit_cleanly
from utils.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
SIZE, TRAIN, VAL = (48, 96), 5, 3  # the toy town of the fixture `toy`
ISW = ["--wt_layer", "0", "0", "2", "2", "2", "0", "0", "--clusters", "3", "--wt_reg_weight", "0.6"]


# Processes.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _entry(rank, function, world_size, port, folder, args):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    dist.init_process_group("gloo")
    torch.save(function(rank, world_size, *args), Path(folder, f"{rank}.pt"))
    distributed.finish()


def run_processes(function, world_size, *args):
    """Return [function(rank, world_size, *args) for every rank], each run in its own gloo process.

    The processes are forked from one that has only imported the code, which takes seconds.
    """
    mp.set_forkserver_preload(["tests.helpers", "eval", "network.resnet"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = function, world_size, free_port(), folder, args
        group = mp.start_processes(_entry, arguments, world_size, join=False, start_method="forkserver")
        try:
            while not group.join():
                pass
        finally:  # a process that hangs does not outlive its test
            for process in group.processes:
                process.kill()
                process.join()
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(world_size)]


def in_turns(monkeypatch, module, works):
    """Return what all `works` return as processes that exchange rows and sums by functions of `module`.

    They run one after the other, three times, and receive what the others sent the time before. So in the
    third all is right: rows of the forward pass from the second on, and then sums of the backward pass.
    """
    before = [[] for _ in works]

    def run(number, work):
        sent = []

        def exchange(tensor):
            others = [part[len(sent)] if part else tensor for part in before]
            others[number] = tensor
            sent.append(tensor.clone())
            return torch.stack(others)

        monkeypatch.setattr(module, "gather_rows", exchange)
        monkeypatch.setattr(module, "sum_in_place", lambda tensor: exchange(tensor).sum(0))
        return work(), sent

    for _ in range(3):
        results, before = zip(*(run(number, work) for number, work in enumerate(works)), strict=True)
    return results


def joint_kernels(monkeypatch, device, dtype, layout):
    """Return what batch norm by kernels computes of parts of 3 and 1 images, and plain batch norm of all 4.

    That is the images, their gradients, those of weight and bias, and the running statistics.
    """
    torch.manual_seed(0)
    images, direction = torch.randn(2, 4, 8, 9, 7, device=device).to(dtype)
    plain = nn.BatchNorm2d(8, device=device, dtype=dtype)
    nn.init.uniform_(plain.weight)

    def run(norm, forward, part):
        x = images[part].contiguous(memory_format=layout).requires_grad_()
        y = forward(x)
        found = torch.autograd.grad(y, [x, norm.weight, norm.bias], direction[part])
        return [y.detach(), *found, norm.running_mean, norm.running_var]

    def joint(part):
        norm = deepcopy(plain)
        kernels = synchronization.JointBatchNormKernels.apply
        return run(norm, lambda x: kernels(x, norm, norm.weight, norm.bias), part)

    works = [partial(joint, slice(3)), partial(joint, slice(3, 4))]
    (y1, x1, w1, b1, *running), (y2, x2, w2, b2, *same) = in_turns(monkeypatch, synchronization, works)
    torch.testing.assert_close(running, same)
    return [torch.cat([y1, y2]), torch.cat([x1, x2]), w1 + w2, b1 + b2, *running], run(plain, plain, slice(4))


def run_command(command, **environment):
    """Run a command in the repository's folder; return it with its exit code and what it printed.

    When the test is ended, so is the command. torchrun ends its processes on SIGTERM, but not on SIGKILL.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **pipes) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def torchrun(processes, *argv):
    """Return the command that starts a program on several processes of this machine."""
    return [
        *[sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"],
        *map(str, argv),
    ]


def script_command(name, *argv):
    """Return the words of the command that scripts/NAME would start, from the program's name on."""
    done = run_command(["bash", f"scripts/{name}", *argv], PRINT_COMMAND="1")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    return words[words.index("--standalone") + 2 :]


class Terminal:
    """A pseudo-terminal of 100 columns: `written` is all that came, `rows` what a user sees in the end."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.data = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        try:
            while part := os.read(self.master, 2**16):
                self.data += part
        except OSError:  # the last program that wrote to it has ended
            pass

    def close(self):
        os.close(self.slave)
        self.reader.join(10)
        os.close(self.master)

    @property
    def written(self):
        return self.data.decode()

    @property
    def rows(self):
        """The lines: a carriage return goes to the first column, and what is written there is replaced."""
        rows = []
        for line in self.written.split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            rows.append(shown.rstrip())
        return rows


def run_on_terminal(command, **environment):
    """Run a command on a Terminal in the repository's folder; return its exit code and the Terminal."""
    screen = Terminal()
    streams = {"stdin": subprocess.DEVNULL, "stdout": screen.slave, "stderr": screen.slave}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **streams) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    screen.close()
    return code, screen


@contextmanager
def terminal(monkeypatch):
    """Give standard output and error of this process to a Terminal."""
    screen = Terminal()
    with (
        monkeypatch.context() as patch,
        os.fdopen(os.dup(screen.slave), "w", buffering=1) as out,
        os.fdopen(os.dup(screen.slave), "w", buffering=1) as err,
    ):
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        try:
            yield screen
        finally:
            out.flush()
            err.flush()
    screen.close()


# Short trainings.


def flags(town, folder, *more):
    """Return flags of a short training on `town` that writes to `folder`."""
    return [
        *["--dataset", "gtav", "--val_dataset", "gtav", "cityscapes", "--covstat_val_dataset", "gtav"],
        *["--data_root", str(town), "--arch", "network.deepv3.DeepR18V3PlusD", "--pretrained", "none"],
        *["--crop_size", "32", "--bs_mult", "2", "--num_workers", "0", "--trials", "2", "--max_iter", "20"],
        *["--val_every", "1", "--ckpt", str(folder / "ckpt"), "--tb_path", str(folder / "tb"), *more],
    ]


def run(argv):
    """Train as train.py does; a user's mistake raises SystemExit."""
    with exit_cleanly():
        train.main(config.parse_train_args(argv))


def the_checkpoint(folder, kind="last_gtav"):
    """Return the only checkpoint of a kind that a training wrote to `folder`."""
    (path,) = folder.glob(f"ckpt/**/{kind}*.pth")
    return path


def small_trainer(kind=Trainer, *, images=2, device="cpu", size=64, dtype=torch.float64, **settings):
    """Return a trainer of an ISW network with half-filled masks, without dropout, and a batch for it.

    In float64, steps that differ by rounding stay near one another.
    """
    torch.manual_seed(0)
    argv = ["--arch", "DeepR18V3PlusD", "--pretrained", "none", "--max_iter", "100", "--lr", "0.001", *ISW]
    args = config.parse_train_args(argv)
    net = get_net(args).to(device, dtype).train()
    if settings.get("channels_last"):
        net.to(memory_format=torch.channels_last)
    net.dsn[3].p = 0.0
    whitening = Whitening.for_network(net, clusters=3, relax_denom=0)
    whitening.trials = 1
    for mask in whitening.masks:
        mask.mask.copy_(torch.rand(mask.mask.shape).triu(1) > 0.5)
        mask.num_selected.copy_(mask.mask.sum())
    sampler = SimpleNamespace(advance=lambda count: None)
    loaders = SimpleNamespace(
        train=SimpleNamespace(sampler=sampler, batch_size=images), photometric=None, steps_per_batch=1
    )
    losses, settings = HeadLosses(MainLoss()), {"wt_reg_weight": 0.6} | settings
    args.amp = settings.get("amp", "none")
    optimizer = get_optimizer(args, net)
    trainer = kind(net, losses, whitening.to(device), *optimizer, loaders, settings)
    label = torch.randint(0, 19, (images, size // 16, size // 16))
    label = label.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return trainer, {"image": torch.randn(images, 3, size, size, dtype=dtype), "label": label}


def events(folder):
    """Read (tag, value kind) pairs of a TensorBoard file, which is length-prefixed protobuf records."""
    (file,) = folder.glob("tb/**/events*")
    data, pairs = file.read_bytes(), set()
    while data:
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        pairs |= {(value.tag, value.WhichOneof("value")) for value in event.summary.value}
        data = data[12 + length + 4 :]
    return pairs


def event_list(folder):
    """Return (tag, step, encoded value) of every event of a run in order, without the record of the run."""
    (file,) = folder.glob("tb/**/events*")
    data, found = file.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        values = [value for value in event.summary.value if not value.tag.startswith("run")]
        found += [(value.tag, event.step, value.SerializeToString()) for value in values]
        data = data[12 + length + 4 :]
    return found


# Checkpoint files.


class Payload:
    """An object that makes the folder `executed` when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def rename_in_pickle(path, old, new):
    """Replace a global's module name in the pickle inside a file that torch.save wrote."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


# Datasets.


Output = namedtuple("Output", "logits")


class Tiny(nn.Module):
    """A network of one random convolution with 3x3 px."""

    classifiers = ("final2",)

    def __init__(self, num_classes=19, wt_layer=(0,) * 7, pretrained=None):
        super().__init__()
        self.final2 = nn.Conv2d(3, num_classes, 3, padding=1)
        self.layer0, self.layer1 = nn.Identity(), nn.Identity()

    def forward(self, image):
        return Output(self.final2(image))


def no_transform(image, label, centroid, rng):
    """Return the RGB image as float (3, H, W) and the label as int64 (H, W), unchanged."""
    image = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return image, None if label is None else torch.from_numpy(np.array(label, np.int64))


def save(path: Path, values) -> None:
    """Write values (H, W) or (H, W, 3), 0..255, as the image file `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def png_of(*chunks: bytes) -> bytes:
    """Return the PNG file of chunks, each of its four letters and its data."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks))


def png_chunk(content: bytes) -> bytes:
    """Return a chunk with its length and checksum around letters and data."""
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def write_camvid(root: Path, labels: list, split: str = "train") -> Path:
    """Write one pair per label of class indices (H, W); an image's red channel is its label."""
    for number, label in enumerate(labels):
        label = np.asarray(label, np.uint8)
        save(root / f"{split}/{number:03}.png", np.stack([label, 0 * label, 0 * label], -1))
        save(root / f"{split}annot/{number:03}.png", label)
    return root


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def write_camvid_label(source: Path, target: Path) -> None:
    """Write a Cityscapes label with CamVid's 11 classes, the others unlabelled (11)."""
    ids = np.full(256, 11, np.uint8)
    ids[DATASETS["camvid"].table[:11]] = range(11)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids[ID_TO_TRAIN_ID[np.asarray(Image.open(source))]]).save(target)


def add_datasets(town: Path, out: Path) -> Path:
    """Write OUT/kitti, camvid and folder, and coarse labels and video in OUT/cityscapes; return OUT.

    KITTI's numbers are the first of its split, video frames lie 2 before and after each training image.
    """
    for split in ("train", "val"):
        numbers = sorted(set(range(200)) - set(VAL_SPLITS[0])) if split == "train" else VAL_SPLITS[0]
        pairs = DATASETS["cityscapes"](town / "cityscapes", split, None).samples
        for (image, label, _), number in zip(pairs, numbers, strict=False):
            copy(image, out / f"kitti/training/image_2/{number:06d}_10.png")
            copy(label, out / f"kitti/training/semantic/{number:06d}_10.png")
            copy(image, out / f"folder/{split}/{number}.png")
            copy(image, out / f"camvid/{split}/{number:03d}.png")
            write_camvid_label(label, out / f"camvid/{split}annot/{number:03d}.png")
            if split == "train":
                city, sequence, frame = image.name.split("_")[:3]
                coarse = f"train_extra/{city}/extra{label.name.replace('gtFine', 'gtCoarse')}"
                extra = out / f"cityscapes/leftImg8bit_trainextra/leftImg8bit/train_extra/{city}"
                copy(image, extra / f"extra{image.name}")
                copy(label, out / "cityscapes/gtCoarse/gtCoarse" / coarse)
                video = out / f"cityscapes/leftImg8bit_sequence/train/{city}/{city}_{sequence}"
                for near in (int(frame) - 2, int(frame) + 2):
                    copy(image, Path(f"{video}_{near:06d}_leftImg8bit.png"))
    return out
