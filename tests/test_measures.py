"""eval.py --calibration, --boundary_iou and --scale_sweep: numbers, processes, resuming, slices, files."""

import json
import re

import numpy as np
import pytest
import torch

import config
import eval as evaluation
from datasets.loaders import setup_eval_loader
from datasets.toy_city import write_toy_city
from network import ARCHS
from tests.helpers import Tiny, run_processes
from utils import checkpoint
from utils.errors import UserError
from utils.evaluation import loop
from utils.evaluation.inference import predict

EVERYTHING = ["--calibration", "--boundary_iou", "0.05", "--scale_sweep", "0.5,1.0"]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Three images of IDD and two of GTAV, a folder without labels, and a network of one random layer."""
    root = tmp_path_factory.mktemp("measures")
    write_toy_city(root / "data", size=(32, 64), train=1, val=3, seed=0, domains=["idd", "gtav"])
    (root / "data/folder").symlink_to(next((root / "data/gtav").rglob("*.png")).parent)
    torch.manual_seed(0)
    net = Tiny()
    torch.nn.init.normal_(net.final2.weight, std=0.2)
    settings = {"arch": "Tiny", "wt_layer": [0] * 7, "image_in": False, "dataset": ["gtav"]}
    checkpoint.save(root / "net.pth", {"state_dict": net.state_dict(), "settings": settings})
    return root


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ARCHS, "Tiny", Tiny)


def parse(town, name, *more):
    paths = ["--snapshot", town / "net.pth", "--data_root", town / "data", "--ckpt_path", town]
    named = ["--exp_name", name, "--num_workers", "0"]
    return config.parse_eval_args([str(word) for word in (*paths, *named, *more)])


def evaluate(town, name, *more):
    assert evaluation.main(parse(town, name, *more)) == 0
    return json.loads((town / name / "results.json").read_text())


def share(rank, world_size, town, more):
    """Evaluate as one of the processes of a group that is there."""
    ARCHS["Tiny"] = Tiny
    evaluation.distributed.init = lambda *args: torch.device("cpu")
    evaluation.main(parse(town, "two", *more))


def test_the_same_on_two_processes_resumed_and_in_slices(town, monkeypatch, capsys):
    more = ["--dataset", "idd", "gtav", "--inference_mode", "whole", *EVERYTHING]
    one = evaluate(town, "one", *more)
    assert list(one["metrics"]) == [
        d + at for d in ("idd", "gtav") for at in ("", "@scale-0.5", "@scale-1.0")
    ]
    assert all({"ece", "reliability", "boundary_iou"} <= set(scores) for scores in one["metrics"].values())
    run_processes(share, 2, town, more)
    two = json.loads((town / "two/results.json").read_text())
    keys = "metrics", "scale_sweep", "measures"
    assert [one[key] for key in keys] == [two[key] for key in keys]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "predicted", lambda *args: pytest.fail("it was predicted again"))
        again = evaluate(town, "one", *more, "--resume")
    assert [one[key] for key in keys] == [again[key] for key in keys]
    for index in (0, 1):
        assert evaluation.main(parse(town, "slices", *more, "--split_count", 2, "--split_index", index)) == 0
    slices = json.loads((town / "slices/results.json").read_text())
    assert [one[key] for key in keys] == [slices[key] for key in keys]


@pytest.mark.parametrize("mode", ["whole", "sliding", "pooling"])
def test_the_calibration_is_that_of_the_scores(town, mode):
    """Equation 3 of arXiv 1706.04599 in float64, from the scores of `predict`."""
    more = ["--dataset", "idd", "--inference_mode", mode, "--calibration", "10", "--crop_size", "24"]
    more += ["--scales", "0.5,1.0"] if mode != "whole" else []
    found = evaluate(town, mode, *more)["metrics"]["idd"]
    args = parse(town, mode, *more)
    net = evaluation.load_network(args, torch.device("cpu"))
    options = evaluation.protocol_of(args, False).inference()
    confidences, right = [], []
    for batch in setup_eval_loader(args, "idd"):
        scores = predict(net, batch["image"], **options)[0].double()
        highest, pred = (scores if mode == "pooling" else scores.softmax(0)).max(0)
        known = batch["label"][0] != 255
        confidences.append(highest[known].numpy())
        right.append((pred == batch["label"][0])[known].numpy())
    confidence, right = np.concatenate(confidences), np.concatenate(right)
    bins = np.ceil(confidence * 10)
    gaps = [abs((right[bins == m] - confidence[bins == m]).sum()) for m in range(1, 11)]
    assert found["ece"] == pytest.approx(sum(gaps) / len(right), abs=1e-6) and found["ece"] > 0.1
    shown = [one["pixels"] for one in found["reliability"]]
    assert shown == [int((bins == m).sum()) for m in range(1, 11)]


def test_a_scale_of_a_sweep_is_that_scale_alone(town):
    """Scale 1 of "whole" is one plain pass."""
    sweep = evaluate(town, "sweep", "--dataset", "idd", "--scale_sweep", "0.5,1", "--crop_size", "24")
    for scale in ("0.5", "1.0"):
        alone = evaluate(town, f"alone{scale}", "--dataset", "idd", "--scales", scale, "--crop_size", "24")
        assert sweep["metrics"][f"idd@scale-{scale}"] == alone["metrics"]["idd"]
    scores = sweep["scale_sweep"]["idd"]["mean_iu"]
    assert scores[str(sweep["scale_sweep"]["idd"]["best"])] == max(scores.values())
    whole = evaluate(town, "w", "--dataset", "idd", "--inference_mode", "whole", "--scale_sweep", "1.0")
    assert whole["metrics"]["idd@scale-1.0"] == whole["metrics"]["idd"]


def test_files(town, capsys):
    evaluate(town, "files", "--dataset", "idd", "gtav", "--inference_mode", "whole", *EVERYTHING)
    printed = capsys.readouterr().out
    assert re.search(r"^ECE \(%\) +idd +gtav\*", printed, re.MULTILINE)
    assert re.search(r"^scale 0.5 .*\nscale 1.0 .*\nprotocol \(not resized\)", printed, re.MULTILINE)
    assert "IoU  precision  recall  boundary IoU" in printed and "by the labels of that dataset" in printed
    text, page, csv = ((town / "files" / n).read_text() for n in ("results.md", "index.html", "results.csv"))
    assert (
        "| boundary IoU (%) |" in text
        and "Every scale on its own" in text
        and "15 bins of the softmax" in text
    )
    assert page.count("<svg class=reliability") == 2 and page.count("Every scale on its own") == 1
    header, *rows = csv.splitlines()
    assert header.endswith(",protocol,boundary_iou,ece")
    assert sum("pooling, scales 0.5" in row for row in rows) == 2 * 20  # 19 classes and the mean


def test_records_of_another_measure_are_not_resumed(town):
    more = ["--dataset", "idd", "--inference_mode", "whole"]
    evaluate(town, "later", *more)
    with pytest.raises(UserError, match="calibration None, not 15; leave out --resume to start anew"):
        evaluate(town, "later", *more, "--calibration", "--resume")
    assert evaluate(town, "later", *more, "--calibration")["metrics"]["idd"]["ece"] > 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--calibration", "0"], "--calibration takes a number of bins from 1 to 1000, not 0"),
        (["--boundary_iou", "1.5"], r"--boundary_iou takes a share of the diagonal in \(0, 1\), not 1.5"),
        (["--scale_sweep", "0.5,x"], "--scale_sweep takes numbers separated by commas, not '0.5,x'"),
        (["--scale_sweep", "0.5,0"], "--scale_sweep takes finite numbers above 0, not 0"),
        (
            ["--scale_sweep", "1.0", "--corruption", "fog"],
            "--scale_sweep and --corruption cannot be combined",
        ),
        (
            ["--dataset", "folder", "--calibration", "--scale_sweep", "1.0"],
            "--calibration and --scale_sweep need labels, but split val of folder has none",
        ),
    ],
)
def test_mistakes_end_with_a_sentence(town, flags, words):
    with pytest.raises(UserError, match=words):
        evaluate(town, "mistake", *flags)


def test_defaults(town):
    args = parse(
        town, "x", "--calibration", "--boundary_iou", "--scale_sweep", "2.0,0.5,2.0", "--dataset", "idd"
    )
    assert args.calibration == 15 and args.boundary_iou == 0.02
    assert args.val_dataset == ["idd", "idd@scale-0.5", "idd@scale-2.0"]
    argv = ["--snapshot", "s", "--dataset", "gtav", "--scale_sweep", "1.0"]
    assert config.parse_eval_args(argv).exp_name == "eval_gtav_scales"
    assert config.parse_eval_args(argv[:4]).calibration == 0


def test_corruptions_have_a_table_of_each_measure(town, capsys):
    more = ["--dataset", "idd", "--inference_mode", "whole", "--calibration", "--boundary_iou"]
    found = evaluate(town, "corrupted", *more, "--corruption", "contrast", "--severity", "2")
    printed = capsys.readouterr().out.split("idd under corruptions")[1]
    for title, metric in (("mIoU", "mean_iu"), ("boundary IoU", "boundary_iou"), ("ECE", "ece")):
        score = f"{100 * found['metrics']['idd@contrast-2'][metric]:.2f}"
        assert re.search(rf"^{title} \(%\) .*\n.*\ncontrast +{score} ", printed, re.MULTILINE), title
