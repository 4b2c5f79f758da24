import json
import sys

import pytest

from scripts import summarize
from utils.errors import MissingFile, UserError
from utils.evaluation.saved import read

PROTOCOL = {"mode": "sliding", "slice": [0, 1]}


@pytest.fixture
def write(tmp_path):
    def write(name, protocol=PROTOCOL, **means):
        path = tmp_path / name / "results.json"
        path.parent.mkdir(parents=True)
        metrics = {domain: mean and {"mean_iu": mean} for domain, mean in means.items()}
        path.write_text(json.dumps({"metrics": metrics, "protocol": protocol}))
        return path.parent

    return write


def printed(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["summarize", *map(str, argv)])
    summarize.main()
    return capsys.readouterr().out.splitlines()


def test_seeds_become_mean_and_deviation_beside_published_numbers(write, monkeypatch, capsys):
    """isw: cityscapes 36, 38 and 40 are 38 +- 2 (n - 1), bdd100k 30, 30 and 33 are 31 +- 1.73 (root of 3);
    their means 33, 34 and 36.5 are 34.5 +- 1.80 (root of 3.25). Published: mean of 37.09, 35.37, 38.5, 30.49.
    """
    runs = [
        f"isw={write('a', gtav=0.7, cityscapes=0.36, bdd100k=0.3)}",
        f"isw={write('b', gtav=0.7, cityscapes=0.38, bdd100k=0.3)}/results.json",
        f"isw={write('c', gtav=0.7, cityscapes=0.4, bdd100k=0.33)}",
        f"base={write('d', gtav=0.71, cityscapes=0.3, bdd100k=None)}",
    ]
    lines = printed(monkeypatch, capsys, *runs)
    assert "38.00 ± 2.00 (n=3)  31.00 ± 1.73 (n=3)" in lines[1]
    lines = printed(monkeypatch, capsys, *runs, "--published", "robustnet_gtav")
    header, isw, base, *published = lines[:6]
    assert header.split() == "mIoU (%) gtav* cityscapes bdd100k mapillary synthia mean of unseen".split()
    assert isw.split("  ")[-1].strip() == "-"  # no mean without mapillary and synthia
    assert base.split() == ["base", "†", "71.00", "30.00", "-", "-", "-", "-"]
    assert "mode sliding" in lines[6] and "† base: not comparable with the published numbers" in lines[8]
    assert published[2].split() == "published isw 74.49 37.09 35.37 38.50 30.49 35.36".split()
    assert lines[-1].startswith("published: README of RobustNet")


def test_numbers_that_later_papers_quote_are_printed_without_a_run(monkeypatch, capsys):
    """MobileNet, isw: (30.86 + 30.05 + 30.67 + 24.43) / 4 = 29.00."""
    for title, group in summarize.PUBLISHED.items():
        header, *rows, source = printed(monkeypatch, capsys, "--published", title)
        assert [row.split("  ")[0] for row in rows] == [f"published {n}" for n in group["mean_iu_percent"]]
        assert all((f"{domain}*" in header) or domain not in header.split() for domain in group["trained_on"])
        assert source == f"published: {group['source']}" and len(source) > 40
    lines = printed(monkeypatch, capsys, "--published", "robustnet_gtav_mobilenet")
    assert lines[3].split() == "published isw 30.86 30.05 30.67 24.43 29.00".split()


def test_several_published_groups_name_their_sources(monkeypatch, capsys):
    titles = "robustnet_gtav", "robustnet_gtav_r50"
    lines = printed(monkeypatch, capsys, *(word for title in titles for word in ("--published", title)))
    assert [line.split()[0] for line in lines[1:]] == [titles[0]] * 3 + [titles[1]] * 3 + [
        t + ":" for t in titles
    ]
    assert "SPC" in lines[-1] and "MRFP" in lines[-1] and "README of RobustNet" in lines[-2]


def test_nothing_to_print(monkeypatch, capsys):
    with pytest.raises(UserError, match="name a run"):
        printed(monkeypatch, capsys)


def test_mean_over_seeds_of_the_mean_over_domains(write, monkeypatch, capsys):
    runs = [
        f"x={write('a', m=0.36, n=0.3)}",
        f"x={write('b', m=0.38, n=0.3)}",
        f"x={write('c', m=0.4, n=0.33)}",
    ]
    assert printed(monkeypatch, capsys, *runs)[1].endswith("34.50 ± 1.80 (n=3)")


def test_other_protocols_are_said(write, monkeypatch, capsys):
    runs = write("a", gtav=0.5), write("b", {"mode": "whole", "slice": [0, 1]}, gtav=0.5)
    assert printed(monkeypatch, capsys, *runs)[-1].endswith("mode sliding or whole")


def results(
    path, mode="whole", count=19, arch="DeepR101V3PlusD_OS8", domains=("gtav",), split="val", **means
):
    """Write a results.json whose means are over `count` classes."""
    averaged = list(range(count))
    record = {
        "metrics": {name: {"mean_iu": mean} for name, mean in means.items()},
        "averaged": dict.fromkeys(means, averaged),
        "classes": [f"class {k}" for k in range(19)],
        "protocol": {"mode": mode, "split": split},
        "network": {"arch": arch, "wt_layer": [0, 0, 2]},
        "training_domains": list(domains),
        "snapshot_sha256": "0",
    }
    path.mkdir(parents=True)
    (path / "results.json").write_text(json.dumps(record))
    return path


def test_only_runs_like_the_published_ones_are_compared_with_them(tmp_path, monkeypatch, capsys):
    """Protocol, network, training domains and classes must be the published ones."""
    flags = ["--published", "robustnet_gtav"]
    lines = printed(monkeypatch, capsys, f"x={results(tmp_path / 'a', cityscapes=0.3)}", *flags)
    assert lines[1].startswith("x (DeepR101V3PlusD_OS8 wt_layer 002) ") and "†" not in "".join(lines)
    assert lines[0].split()[2] == "cityscapes" and "gtav*" in lines[0]
    for number, (change, words) in enumerate(
        {
            "mode": ("sliding", "mode sliding, not whole"),
            "count": (18, "cityscapes: mean over 18 classes, not 19"),
            "arch": ("DeepR50V3PlusD", "network DeepR50V3PlusD wt_layer 002, not DeepR101V3PlusD_OS8"),
            "domains": (["synthia"], "trained on synthia, not gtav"),
        }.items()
    ):
        path = results(tmp_path / str(number), **{change: words[0], "cityscapes": 0.3})
        text = "\n".join(printed(monkeypatch, capsys, f"x={path}", *flags))
        assert "†" in text and f"not comparable with the published numbers: {words[1]}" in text


def test_means_over_other_classes_are_said(tmp_path, monkeypatch, capsys):
    runs = results(tmp_path / "a", camvid=0.3), results(tmp_path / "b", count=11, camvid=0.4)
    lines = printed(monkeypatch, capsys, *runs)
    assert (
        lines[-1] == "not comparable: the runs differ in the classes in the mean of camvid (11 or 19 classes)"
    )
    assert lines[3].endswith("mean over 19 classes (camvid)") and "over 11 classes (camvid)" in lines[4]


def test_a_training_run_is_summarized(tmp_path, monkeypatch, capsys):
    """Its evaluations on several datasets become one row; two of one dataset must be told apart."""
    results(tmp_path / "x=1" / "eval_camvid", camvid=0.3)
    results(tmp_path / "x=1" / "eval_gtav", gtav=0.4)
    assert "30.00  40.00" in printed(monkeypatch, capsys, tmp_path)[1]  # of the experiment's only run
    header, row, *_ = printed(monkeypatch, capsys, tmp_path / "x=1")
    assert header.split() == ["mIoU", "(%)", "camvid", "gtav*", "mean", "of", "unseen"]
    assert row.startswith(f"{tmp_path / 'x=1'} (DeepR101") and row.split()[-3:] == ["30.00", "40.00", "30.00"]
    results(tmp_path / "x=1" / "eval_other", mode="sliding", gtav=0.4)
    with pytest.raises(UserError, match="several evaluations.*eval_gtav, eval_other"):
        printed(monkeypatch, capsys, tmp_path / "x=1")


def test_corrupted_images_are_not_among_the_classes_of_the_columns(tmp_path, monkeypatch, capsys):
    """All corruptions of a dataset would be 75 names."""
    results(tmp_path / "run/eval_kitti", **{"kitti": 0.5, "kitti@fog-1": 0.4})
    assert printed(monkeypatch, capsys, tmp_path / "run")[2].endswith("mean over 19 classes (kitti)")


def test_splits_have_columns_of_their_own(tmp_path, monkeypatch, capsys):
    """Two splits of one dataset are one row; both are of the domain trained on, unless a flag says not."""
    results(tmp_path / "run/eval_gtav", gtav=0.3, kitti=0.5)
    results(tmp_path / "run/eval_gtav_test", split="test", gtav=0.4)
    header, row, how, *more = printed(monkeypatch, capsys, tmp_path / "run")
    assert header.split()[2:] == ["gtav*", "kitti", "gtav_test*", "mean", "of", "unseen"] and not more
    assert row.split()[-4:] == ["30.00", "50.00", "40.00", "50.00"] and "split test and val" in how
    results(tmp_path / "other/1", split="test", gtav=0.4)  # in another order
    results(tmp_path / "other/2", gtav=0.3, kitti=0.5)
    *_, how = printed(monkeypatch, capsys, *(f"{name}={tmp_path / name}" for name in ("run", "other")))
    assert how.endswith("mean over 19 classes (gtav, gtav_test, kitti)") and len(_) == 3
    header, row, *_ = printed(monkeypatch, capsys, tmp_path / "run", "--unseen", "gtav_test")
    assert header.split()[4:] == ["gtav_test", "mean", "of", "unseen"] and row.endswith("45.00")
    with pytest.raises(UserError, match="--unseen night.*gtav, gtav_test, kitti"):
        printed(monkeypatch, capsys, tmp_path / "run", "--unseen", "night")


def test_a_seen_domain_that_nobody_knows(write, monkeypatch, capsys):
    with pytest.raises(UserError, match="gtva.*gtav"):
        printed(monkeypatch, capsys, write("a", gtav=0.5), "--seen", "gtva")


def test_files_that_are_not_whole_results(write, tmp_path):
    part = write("a", PROTOCOL | {"slice": [1, 2]}, gtav=0.5)
    with pytest.raises(UserError, match="1 of 2"):
        read(part)
    (part / "results.json").write_text("[]")
    with pytest.raises(UserError, match="results.json"):
        read(part)
    with pytest.raises(MissingFile, match="none"):
        read(tmp_path / "none")


def test_a_path_with_an_equals_sign(write, tmp_path, monkeypatch, capsys):
    write("lr=0.1", cityscapes=0.36)
    monkeypatch.chdir(tmp_path)
    assert "36.00" in "".join(printed(monkeypatch, capsys, "lr=0.1"))
    (row,) = [line for line in printed(monkeypatch, capsys, "isw=lr=0.1/results.json") if "36.00" in line]
    assert row.startswith("isw ")


def test_a_metric_of_some_datasets_of_a_run(write, tmp_path, monkeypatch, capsys):
    """Of two evaluations in one folder only the second measured the calibration."""
    write("run/eval_bdd100k", bdd100k=0.5)
    folder = write("run/eval_cityscapes", cityscapes=0.5)
    record = json.loads((folder / "results.json").read_text())
    record["metrics"]["cityscapes"] |= {"ece": 0.1}
    (folder / "results.json").write_text(json.dumps(record | {"measures": {"calibration": 15}}))
    lines = printed(monkeypatch, capsys, f"isw={tmp_path / 'run'}", "--metric", "ece")
    assert "10.00" in lines[1] and not any("not comparable" in line for line in lines)


def test_other_metrics(write, monkeypatch, capsys):
    """ECE of 10 and 14: 12 +- 2.83 (8 / 1, n - 1 = 1). The mean IoU stays the default."""
    runs = []
    for name, ece in (("a", 0.1), ("b", 0.14)):
        folder = write(name, gtav=0.5)
        record = json.loads((folder / "results.json").read_text())
        record["metrics"]["gtav"] |= {"ece": ece}
        record["measures"] = {"calibration": 15 if name == "a" else 10}
        (folder / "results.json").write_text(json.dumps(record))
        runs.append(f"isw={folder}")
    lines = printed(monkeypatch, capsys, *runs, "--metric", "ece")
    assert lines[0].split() == ["ECE", "(%)", "gtav", "mean"] and "12.00 ± 2.83" in lines[1]
    assert lines[-1] == "not comparable: the runs differ in --calibration 10 or 15"
    assert printed(monkeypatch, capsys, *runs)[1].split()[:2] == ["isw", "50.00"]
    with pytest.raises(UserError, match="no run has the boundary IoU; evaluate them with --boundary_iou"):
        printed(monkeypatch, capsys, *runs, "--metric", "boundary_iou")
    with pytest.raises(UserError, match="--published has the mean IoU only"):
        printed(monkeypatch, capsys, "--published", "robustnet_gtav", "--metric", "ece")
