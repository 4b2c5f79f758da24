"""Training as a user runs it: the three ways to launch, what it writes, resuming, and mistakes."""

import json
import re
import shutil
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import config
import loss
import train
from datasets.toy_city import write_toy_city
from network.instance_whitening import Whitening
from tests.helpers import ISW, ROOT, events, flags, free_port, run, run_on_terminal, the_checkpoint, torchrun
from transforms.joint import RandomHorizontalFlip
from utils import checkpoint
from utils.errors import UserError
from utils.files import sha256
from utils.training.events import NoWriter
from utils.training.trainer import Trainer


@pytest.mark.parametrize("launcher", ["launch", "torchrun", "python"])
def test_every_way_to_launch(launcher, toy_town, tmp_path):
    """On a terminal no line is printed twice, and none is on a line with the bar, which two epochs share."""
    codes = ISW[: ISW.index("--wt_reg_weight")]  # without the loss of codes 2, which is worth a warning
    program = ["train.py", *flags(toy_town, tmp_path, "--test_mode", *codes)]
    launch = ["-m", "torch.distributed.launch", "--nproc_per_node=2", f"--master_port={free_port()}"]
    # CPUs are slow at fp16: a network with few parameters, and few steps.
    half = ["--fp16", "--arch", "DeepShuffleNetV3PlusD_OS32", "--bs_mult", "4"]
    commands = {
        "launch": [sys.executable, *launch, *program, *half],  # half precision on two processes too
        "torchrun": torchrun(2, *program),
        "python": [sys.executable, *program],
    }
    code, screen = run_on_terminal(commands[launcher], OMP_NUM_THREADS="1")  # torchrun would print two rules
    assert code == 0, screen.written
    steps = {"launch": 1, "torchrun": 2, "python": 4}[launcher]  # 8 images, 2 per process, or 4
    assert f"[epoch 1], [iter {steps} / {steps} : {2 * steps}], [loss " in screen.written
    assert screen.written.count("sensitive covariances") == 3
    rows = [row for row in screen.rows if row]
    assert len(rows) == len(set(rows)) and not any("%|" in row for row in rows), rows
    assert sum("the whitening loss is off, because --wt_reg_weight is 0" in row for row in rows) == 1
    assert {*re.findall(r"%\|[^|\r]*\| \d+/(\d+) ", screen.written)} == {str(2 * steps)}
    assert the_checkpoint(tmp_path).parent.joinpath("log.txt").stat().st_size > 0


@pytest.fixture(scope="module")
def finished(toy_town, tmp_path_factory):
    """Three epochs of ISW in one go, masks after the first."""
    folder = tmp_path_factory.mktemp("finished")
    run(flags(toy_town, folder, "--max_epoch", "3", "--cov_stat_epoch", "0", "--visualize_feature", *ISW))
    return folder


def test_folders_and_names(finished):
    path = the_checkpoint(finished).relative_to(finished)
    assert re.fullmatch(
        r"ckpt/default/default/\d\d_\d\d_\d\d/last_gtav_epoch_2_mean-iu_0\.\d{5}\.pth", path.as_posix()
    )
    assert [p.parts[1:3] for p in (p.relative_to(finished) for p in finished.glob("tb/**/events*"))] == [
        ("default", "default")
    ]
    assert the_checkpoint(finished, "best_gtav")
    assert not list(finished.glob("ckpt/**/best_cityscapes*"))  # no label of an unseen domain chooses


def test_checkpoint_keys(finished):
    state = checkpoint.load(the_checkpoint(finished))
    wanted = (
        "state_dict optimizer scheduler epoch mean_iu command whitening iteration rng sampler scaler version"
    )
    assert set(wanted.split()) <= set(state)
    assert all(key.startswith("module.") for key in state["state_dict"])
    assert (state["epoch"], state["iteration"]) == (2, 12)
    assert state["whitening"]["masks.0.num_selected"] > 0


def test_tensorboard_tags(finished):
    tags = events(finished)
    scalars = {
        f"{name}/{tag}"
        for name in ("gtav", "cityscapes")
        for tag in ("acc", "acc_cls", "mean_iu", "val_loss")
    }
    assert {(tag, "simple_value") for tag in {"loss/train_loss", *scalars}} <= tags
    images = {
        *(f"valid/Covariance/Feature-{i}" for i in range(3)),
        "whitening/mask-0",
        "gtav/image-truth-prediction",
        "gtav/overlay-0",
        "gtav/overlay-1",
    }
    assert {(tag, "image") for tag in images} <= tags


def test_log_line(finished):
    (log,) = finished.glob("ckpt/**/log.txt")
    pattern = r"\[epoch 2\], \[iter 4 / 4 : 12\], \[loss \d+\.\d{6}\], \[lr 0\.\d{6}\], \[time \d+\.\d{4}\]"
    more = r", \[total 12 / 12\], \[\d+\.\d images/s\], \[data \d\.\d+\], .*\[ETA 0:00:00\]"
    assert re.search(pattern + more, log.read_text())


def test_a_continued_run_equals_an_uninterrupted_one(finished, toy_town, tmp_path):
    more = ["--cov_stat_epoch", "0", *ISW]
    run(flags(toy_town, tmp_path / "a", "--max_epoch", "1", *more))
    snapshot = ["--snapshot", str(the_checkpoint(tmp_path / "a")), "--restore_optimizer"]
    run(flags(toy_town, tmp_path / "b", "--max_epoch", "3", *more, *snapshot))
    once, twice = (checkpoint.load(the_checkpoint(folder)) for folder in (finished, tmp_path / "b"))
    for part in ("state_dict", "optimizer", "scheduler", "whitening", "epoch", "iteration", "best"):
        torch.testing.assert_close(twice[part], once[part], rtol=0, atol=0)


def test_a_run_goes_on_within_an_epoch(toy_town, tmp_path):
    """Six iterations are one epoch of four and half of the next; the rest of it follows, no image twice."""
    argv = ["--max_epoch", "2", "--val_dataset", "null"]
    run(flags(toy_town, tmp_path / "whole", *argv))
    loaders_stop_at(6, flags(toy_town, tmp_path / "half", *argv))
    snapshot = ["--snapshot", str(the_checkpoint(tmp_path / "half", "last_unscored")), "--restore_optimizer"]
    run(flags(toy_town, tmp_path / "rest", *argv, *snapshot))
    paths = (the_checkpoint(tmp_path / name, "last_unscored") for name in ("whole", "rest"))
    whole, rest = map(checkpoint.load, paths)
    assert (rest["epoch"], rest["iteration"]) == (1, 8)
    torch.testing.assert_close(rest["state_dict"], whole["state_dict"], rtol=0, atol=0)


def loaders_stop_at(iteration, argv):
    """Run until `iteration` with the schedule of the whole run."""
    args = config.parse_train_args(argv)
    factor = args.max_iter
    optimizer = train.get_optimizer

    def whole_schedule(args, net):
        args.max_iter = factor
        made = optimizer(args, net)
        args.max_iter = iteration
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "get_optimizer", whole_schedule)
        train.main(args)


def test_cheap_mistakes_are_found_before_any_data_is_read(finished, tmp_path):
    """There is no data at all."""
    (tmp_path / "file").touch()
    inside = str(tmp_path / "file/folder")
    start = ["--snapshot", str(the_checkpoint(finished))]
    adapt = ["--adapt_dataset", "cityscapes", "--sac_phase", "abn"]
    for wrong, message in (
        (["--arch", "Deep"], "--arch Deep"),
        (["--wt_layer", *"0022200", "--clusters", "999"], "--clusters"),
        (["--snapshot", "nowhere.pth"], "no checkpoint at nowhere.pth"),
        ([*start, "--arch", "DeepMobileNetV3PlusD"], "arch DeepR18V3PlusD, not DeepMobileNetV3PlusD"),
        ([*start, "--restore_optimizer", *ISW, "--seed", "3"], "--seed 0, not 3"),
        ([*start, "--restore_optimizer", *ISW, "--adam"], "optimizer SGD, not Adam"),
        ([*adapt, "--sac_weights", "nowhere.json"], "no class shares at nowhere.json"),
        (["--ckpt", inside], f"{inside}/default/default: {tmp_path}/file is not a folder"),
        (["--tb_path", inside], f"{inside}/default/default: {tmp_path}/file is not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            train.main(config.parse_train_args(flags(tmp_path, tmp_path, *wrong)))


def test_statistics_are_due_once_or_with_dynamic_again_and_again():
    once = config.parse_train_args(["--cov_stat_epoch", "2"])
    again = config.parse_train_args(["--cov_stat_epoch", "2", "--wt_layer", *"0022200", "--dynamic"])
    assert [epoch for epoch in range(9) if config.statistics_due(once, epoch)] == [2]
    assert [epoch for epoch in range(9) if config.statistics_due(again, epoch)] == [2, 5, 8]


@pytest.mark.parametrize(("iterations", "never"), [(20, True), (21, False)])
def test_a_whitening_loss_that_is_never_on_is_said_at_the_start(iterations, never, monkeypatch, caplog):
    """Epochs of 10 iterations: the statistics follow epoch 1, iteration 20."""
    argv = ["--max_iter", str(iterations), "--cov_stat_epoch", "1", "--wt_reg_weight", "1", "--wt_layer"]
    args = config.parse_train_args([*argv, *"0022200"])
    parts = {"device": torch.device("cpu"), "whitening": SimpleNamespace(selective=True)}
    monkeypatch.setattr(train.logger, "propagate", True)
    train.announce(args, SimpleNamespace(loaders=SimpleNamespace(train=range(10), target=None), **parts))
    said = "the ISW loss is never on: its statistics follow epoch 1 (--cov_stat_epoch), iteration 20 of 20"
    assert (said in caplog.text) == never


def test_augmented_images_are_dumped(toy_town, tmp_path):
    run(flags(toy_town, tmp_path, "--max_iter", "1", "--dump_augmentation_images"))
    pictures = list(tmp_path.glob("ckpt/**/augmentation/epoch_0_rank_0_*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (32, 32)


def test_a_loader_workers_error_is_one_sentence(tmp_path, capsys):
    write_toy_city(tmp_path, size=(64, 128), train=8, val=2, seed=0)
    spoil_a_label(tmp_path)
    with pytest.raises(SystemExit):
        run(flags(tmp_path, tmp_path, "--max_iter", "1", "--num_workers", "1", "--strict_data"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.search(r"error: label \S+labelIds.png.*class id 77", line)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--wt_layer", *"0021200"], r"wt_layer \[0, 0, 2, 2, 2, 0, 0\], not \[0, 0, 2, 1, 2, 0, 0\]"),
        ([*ISW, "--adam"], "optimizer SGD, not Adam"),
        ([*ISW, "--seed", "3"], "--seed 0, not 3"),
        ([*ISW, "--bs_mult", "4"], "images per step 2, not 4"),
        ([*ISW, "--dataset", "gtav", "synthia"], r"--dataset \['gtav'\], not \['gtav', 'synthia'\]"),
    ],
)
def test_a_run_is_continued_with_its_own_settings(more, message, finished, toy_town, tmp_path, capsys):
    snapshot = ["--snapshot", str(the_checkpoint(finished)), "--restore_optimizer"]
    with pytest.raises(SystemExit):
        run(flags(toy_town, tmp_path, "--max_epoch", "1", *more, *snapshot))
    assert re.search(message, capsys.readouterr().err)


def test_a_continued_run_applies_what_may_change(toy_town, tmp_path, capsys):
    """Four iterations of poly over 20, from 0.01; then four over 10, as if all had started from 0.005."""
    run(flags(toy_town, tmp_path / "a", "--max_epoch", "1"))
    new = ["--lr", "0.005", "--momentum", "0.8", "--weight_decay", "0.01", "--max_iter", "10"]
    snapshot = ["--snapshot", str(the_checkpoint(tmp_path / "a")), "--restore_optimizer"]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        step = Trainer.step
        patch.setattr(Trainer, "step", lambda self, *data: (seen.append(group_of(self)), step(self, *data)))
        run(flags(toy_town, tmp_path / "b", "--max_epoch", "2", *snapshot, *new))
    assert seen[0] == pytest.approx((0.005 * 0.6**0.9, 0.8, 0.01))
    assert seen[3] == pytest.approx((0.005 * 0.3**0.9, 0.8, 0.01))
    printed = capsys.readouterr().out
    assert "lr 0.01 -> 0.005 from iteration 4 on" in printed
    assert "max_iter 20 -> 10 from iteration 4 on" in printed
    assert checkpoint.load(the_checkpoint(tmp_path / "b"))["settings"]["lr"] == 0.005


def group_of(trainer):
    (group,) = trainer.optimizer.param_groups
    return group["lr"], group["momentum"], group["weight_decay"]


def test_a_subclass_adds_a_loss(toy_town, tmp_path, monkeypatch):
    """The class in Trainer's docstring, word for word: its loss is trained and logged."""
    recipe: dict[str, type] = {"Trainer": Trainer}
    exec(textwrap.dedent(Trainer.__doc__[Trainer.__doc__.index("        class ") :]), recipe)
    monkeypatch.setattr(train, "Trainer", recipe["WithEntropy"])
    run(flags(toy_town, tmp_path, "--max_epoch", "1", "--val_dataset", "null"))
    assert ("loss/entropy_loss", "simple_value") in events(tmp_path)


def test_a_mistake_in_a_loss_keeps_its_traceback(toy_town, tmp_path, monkeypatch):
    def wrong_unpacking(self, output, label, iteration):
        height, width = label.shape  # (B, H, W)

    monkeypatch.setattr(loss.HeadLosses, "__call__", wrong_unpacking)
    with pytest.raises(ValueError, match="unpack") as error:
        run(flags(toy_town, tmp_path, "--max_iter", "1"))
    assert "wrong_unpacking" in [frame.name for frame in error.traceback]


@pytest.mark.parametrize("kind", [ValueError, NameError])
def test_a_mistake_in_an_augmentation_keeps_its_traceback(kind, toy_town, tmp_path, monkeypatch):
    def broken_flip(self, image, label, centroid, rng):
        if kind is NameError:
            return undefined_name  # noqa: F821
        return dict([(1, 2, 3)])

    monkeypatch.setattr(RandomHorizontalFlip, "__call__", broken_flip)
    with pytest.raises(kind, match="broken_flip"):  # the text of the worker's traceback
        run(flags(toy_town, tmp_path, "--max_iter", "1", "--num_workers", "1"))


def test_a_loss_that_is_not_finite_is_named(toy_town, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run(flags(toy_town, tmp_path, "--lr", "1e30", "--max_iter", "4"))
    assert end.value.code == 2
    assert re.search(r"error: .* iteration 4: main \S+, aux \S+, train (nan|inf)", capsys.readouterr().err)


def test_weights_of_another_architecture_start_nothing(finished, toy_town, tmp_path, capsys):
    other = ["--arch", "DeepMobileNetV3PlusD", "--snapshot", str(the_checkpoint(finished))]
    with pytest.raises(SystemExit):
        run(flags(toy_town, tmp_path, *other))
    assert "arch DeepR18V3PlusD, not DeepMobileNetV3PlusD" in capsys.readouterr().err


def test_only_weights_start_a_run_from_its_first_epoch(finished, toy_town, tmp_path, capsys, monkeypatch):
    """The checkpoint is replaced after it is loaded: the record has the hash of what was loaded."""
    file, build = tmp_path / "start.pth", train.build
    shutil.copyfile(the_checkpoint(finished), file)
    digest = sha256(file)
    monkeypatch.setattr(train, "build", lambda *args: (file.write_text("another"), build(*args))[1])
    run(flags(toy_town, tmp_path, "--max_epoch", "1", "--snapshot", str(file)))
    (record,) = tmp_path.glob("ckpt/**/run.json")
    assert json.loads(record.read_text())["parent"]["sha256"] == digest
    # code 0 has a batch norm where the checkpoint has whitening: its 5 entries are missing, and said so
    assert "5 missing: layer0.1.weight" in capsys.readouterr().out
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == 4


@pytest.mark.parametrize(("steps", "per_iteration"), [("joint", 1), ("separate", 2)])
def test_one_optimizer_step_for_all_domains_or_for_each(steps, per_iteration, toy_town, tmp_path):
    """8 images of each domain in batches of 2 of each: 4 iterations, whose optimizer steps Adam counts."""
    domains = ["--dataset", "gtav", "synthia", "--val_dataset", "null", "--class_uniform_pct", "0.5"]
    run(flags(toy_town, tmp_path, *domains, "--domain_steps", steps, "--max_epoch", "1", "--adam"))
    state = checkpoint.load(the_checkpoint(tmp_path, "last_unscored"))
    assert state["iteration"] == 4
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {4 * per_iteration}


def test_nothing_to_train_on_still_validates(toy_town, tmp_path):
    run(flags(toy_town, tmp_path, "--dataset", "null", "--max_epoch", "1"))
    assert checkpoint.load(the_checkpoint(tmp_path))["iteration"] == 0
    assert ("cityscapes/mean_iu", "simple_value") in events(tmp_path)


def test_a_second_run_in_the_same_hour_does_not_mix(toy_town, tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "01_02_03")
    for _ in range(2):
        run(flags(toy_town, tmp_path, "--max_epoch", "1", "--max_iter", "1"))
    first, second = sorted(tmp_path.glob("ckpt/default/default/*"))
    assert (first.name, second.name) == ("01_02_03", "01_02_03_2")
    assert {p.name for p in tmp_path.glob("tb/default/default/*")} == {first.name, second.name}


def remove_a_label(town):
    next(town.glob("gtav/labels/train/**/*.png")).unlink()


def spoil_a_label(town):
    path = next(town.glob("cityscapes/gtFine_trainvaltest/**/val/**/*_labelIds.png"))
    label = Image.open(path)
    label.paste(77, (0, 0, 4, 4))
    label.save(path)


def empty_the_root(town):
    (town / "gtav").rename(town / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (empty_the_root, [], "no train images of gtav.*images/train"),
        (remove_a_label, [], r"\S+png needs \S+png"),
        (spoil_a_label, ["--strict_data"], r"\S+labelIds.png.*class id 77"),
        (None, ["--arch", "DeepWV3Plus"], "--arch DeepWV3Plus.*DeepR18V3PlusD"),
        (None, ["--dataset", "kitty"], "kitty.*cityscapes, gtav"),
        (None, ["--wt_layer", "0", "0", "2"], r"--wt_layer .*\[0, 0, 2\]"),
        (None, ["--snapshot", "nowhere.pth"], "no checkpoint at nowhere.pth"),
        (None, ["--bs_mult", "9"], "gtav has 8 training images.* 9"),
        (None, ["--global_batch_size", "0"], "--global_batch_size 0"),
        (None, ["--pretrained", "nowhere.pth"], "no --pretrained file at nowhere.pth"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_ends_with_one_sentence(spoil, more, message, tmp_path, capsys):
    write_toy_city(tmp_path, size=(64, 128), train=8, val=2, seed=0)
    if spoil:
        spoil(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        run(flags(tmp_path, tmp_path, "--max_epoch", "1", "--max_iter", "1", *more))
    assert exit_info.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line)


def test_a_checkpoint_of_another_network_is_refused(finished, toy_town, tmp_path, capsys):
    snapshot = ["--snapshot", str(the_checkpoint(finished)), "--restore_optimizer"]
    with pytest.raises(SystemExit):
        run(flags(toy_town, tmp_path, "--max_epoch", "1", *snapshot))
    assert "the checkpoint was trained with --wt_layer" in capsys.readouterr().err


class DomainBatches:
    """The pairs of one statistics domain, as the golden file describes them."""

    def __init__(self, golden, domain):
        self.golden, self.domain, self.trial = golden, domain, 0
        self.sampler = self.dataset = self

    def __len__(self):
        return self.golden["images"]

    def set_epoch(self, trial):
        self.trial = trial

    def __iter__(self):
        channels, pixels = self.golden["channels"], self.golden["pixels"]

        def randn(seed, *shape):
            torch.manual_seed(100000 * self.golden["seed"] + seed)
            return torch.randn(shape, dtype=torch.float64)

        mix, scale = randn(50000 + self.domain, channels, channels), randn(60000 + self.domain, channels, 1)
        for image in range(self.golden["images"]):
            noise = randn(1000 * self.domain + 100 * self.trial + image, channels, pixels[0] * pixels[1])
            base = mix @ noise
            view = base + scale * base.roll(1, 0).sin()
            pair = torch.stack([view, base]).unflatten(2, pixels)
            yield {"pair": pair}

    def pair(self, batch, device):
        return batch["pair"]


class Normalizing(torch.nn.Module):
    """A network whose one whitened map is its standardized input."""

    def whitened_maps(self, x):
        return (torch.nn.functional.instance_norm(x, eps=1e-5),)


def test_a_covariance_must_be_sensitive_in_every_domain_and_trial(monkeypatch):
    """F6: masks after each domain of each trial; averaging the domains of a trial first gives others."""
    golden = json.loads((ROOT / "tests/golden/fidelity_F6.json").read_text())["F6 masks"]
    whitening = Whitening([golden["channels"]], [True], clusters=golden["clusters"], relax_denom=0)
    finish, steps = Whitening.finish_trial, []

    def recorded(self):
        finish(self)
        steps.append(self.masks[0].mask.nonzero().tolist())

    monkeypatch.setattr(Whitening, "finish_trial", recorded)
    net = Normalizing()
    trainer = SimpleNamespace(net=net, whitening=whitening, device=torch.device("cpu"), iteration=1)
    domains = {str(domain): DomainBatches(golden, domain) for domain in range(2)}
    train.estimate_masks(trainer, domains, golden["trials"], NoWriter())
    assert steps == golden["steps"] and steps[-1] == golden["final"]
