"""eval.py --corruption: the same scores on any number of processes and workers, resuming, reports."""

import json
import re

import pytest
import torch

import config
import eval as evaluation
from datasets.loaders import setup_eval_loader
from datasets.toy_city import write_toy_city
from network import ARCHS, get_net
from tests.helpers import Tiny, run_command, run_processes, torchrun
from utils import checkpoint
from utils.errors import UserError
from utils.evaluation import saved
from utils.variants import COMMON, EXTRA

FEW = ["gaussian_noise", "glass_blur", "frost"]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Three images of IDD, and networks with random weights: net.pth and one that eval.py knows, real.pth."""
    root = tmp_path_factory.mktemp("corrupted")
    write_toy_city(root / "data", size=(32, 64), train=1, val=3, seed=0, domains=["idd"])
    torch.manual_seed(0)
    net = get_net(config.parse_train_args(["--arch", "DeepMobileNetV3PlusD", "--pretrained", "none"]))
    for name, arch, network in (("real", "DeepMobileNetV3PlusD", net), ("net", "Tiny", Tiny())):
        settings = {"arch": arch, "wt_layer": [0] * 7, "image_in": False, "dataset": ["gtav"]}
        checkpoint.save(root / f"{name}.pth", {"state_dict": network.state_dict(), "settings": settings})
    return root


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ARCHS, "Tiny", Tiny)


def flags(town, name, *more):
    paths = ["--snapshot", town / "net.pth", "--data_root", town / "data", "--ckpt_path", town]
    named = ["--exp_name", name, "--dataset", "idd", "--inference_mode", "whole"]
    return [str(word) for word in (*paths, *named, *more)]


def evaluate(town, name, *more):
    return evaluation.main(config.parse_eval_args(flags(town, name, "--num_workers", "0", *more)))


def share(rank, world_size, town, more):
    """Evaluate as one of the processes of a group that is there."""
    ARCHS["Tiny"] = Tiny
    evaluation.distributed.init = lambda *args: torch.device("cpu")
    evaluate(town, "two", *more)


def results(town, name):
    return json.loads((town / name / "results.json").read_text())


def test_the_same_scores_on_two_processes_and_after_resuming(town, capsys):
    """Corruptions come from the names of the images. What is finished is not computed again."""
    more = ["--corruption", *FEW, "--severity", "2"]
    assert evaluate(town, "one", *more) == 0
    printed = capsys.readouterr().out
    assert "idd under corruptions" in printed and "frost (rendered texture)" in printed
    assert printed.count("IoU  precision") == 1  # the classes only of the images without corruption
    run_processes(share, 2, town, more)
    one, two = results(town, "one"), results(town, "two")
    names = ["idd", *(f"idd@{name}-2" for name in FEW)]
    assert list(one["metrics"]) == names and one["metrics"] == two["metrics"]
    assert one["robustness"] == two["robustness"]
    assert {path.name for path in (town / "one/records").iterdir()} == {f"{name}_val" for name in names}

    assert evaluate(town, "one", "--corruption", *FEW, "contrast", "--severity", "2", "--resume") == 0
    longer = results(town, "one")
    for name in names:
        assert longer["metrics"][name] == one["metrics"][name]
    with_contrast = longer["robustness"]["idd"]["corruptions"]["contrast"]
    assert with_contrast["mean"] == longer["metrics"]["idd@contrast-2"]["mean_iu"]
    assert list(saved.read(town / "one").main_means) == ["idd"]
    csv = (town / "one/results.csv").read_text()
    assert "idd@frost-2 (rendered texture),road," in csv and "idd@glass_blur-2,road," in csv
    page, text = ((town / "one" / file).read_text() for file in ("index.html", "results.md"))
    assert "idd under corruptions" in page and page.count("<h3>Classes</h3>") == 1
    assert re.search(r"^\| frost \(rendered texture\) .*\|$", text, re.MULTILINE)


def test_degradation_relative_to_the_run_itself_is_one(town):
    more = ["--corruption", "fog", "--severity", "3"]
    evaluate(town, "reference", *more)
    evaluate(town, "again", *more, "--corruption_reference", str(town / "reference/results.json"))
    assert results(town, "again")["robustness"]["idd"]["degradation"] == pytest.approx(1)
    assert "degradation" not in results(town, "reference")["robustness"]["idd"]
    with pytest.raises(UserError, match="lacks 1 of 3 datasets: idd@snow-3"):
        reference = ["--corruption_reference", str(town / "again/results.json")]
        evaluate(town, "third", "--severity", "3", "--corruption", "fog", "snow", *reference)


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_image_changes(workers, town):
    args = config.parse_eval_args(flags(town, "x", "--num_workers", "0"))
    args.num_workers = workers
    clean, noisy, again = (
        list(setup_eval_loader(args, name)) for name in ("idd", "idd@shot_noise-3", "idd@shot_noise-3")
    )
    for a, b, c in zip(clean, noisy, again, strict=True):
        assert a["name"] == b["name"] and torch.equal(a["label"], b["label"])
        assert not torch.equal(a["image"], b["image"]) and torch.equal(b["image"], c["image"])


def test_flags(town):
    with pytest.raises(UserError, match="unknown corruption 'fogs'.*did you mean fog"):
        config.parse_eval_args(flags(town, "x", "--corruption", "fogs"))
    with pytest.raises(UserError, match="--severity .* not 6"):
        config.parse_eval_args(flags(town, "x", "--corruption", "fog", "--severity", "6"))
    with pytest.warns(UserWarning, match="--severity .without --corruption"):
        config.parse_eval_args(flags(town, "x", "--severity", "2"))
    argv = ["--snapshot", "s", "--dataset", "gtav", "--corruption", "all", "speckle_noise"]
    args = config.parse_eval_args(argv)
    assert len(args.val_dataset) == 1 + 16 * 5 and args.exp_name == "eval_gtav_corrupted"


@pytest.mark.slow
def test_every_corruption_by_the_command_line(town):
    results_of = {}
    for processes in (1, 2):
        name = f"all{processes}"
        argv = flags(town, name, "--corruption", "all", *EXTRA, "--num_workers", "1")
        argv += ["--snapshot", str(town / "real.pth")]
        done = run_command(torchrun(processes, "eval.py", *argv), OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr[-4000:]
        assert "mean of 15 " in done.stdout
        results_of[processes] = results(town, name)
    one, two = results_of[1], results_of[2]
    assert len(one["metrics"]) == 1 + 18 * 5 and one["metrics"] == two["metrics"]
    assert one["robustness"]["idd"]["mean_over"] == list(COMMON)
