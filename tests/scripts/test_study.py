"""The study: its plan, its driver, the comparison over seeds, and the page."""

import itertools
import json
import math
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import config
from network.archs import find_builder
from scripts.figure.canvas import Line, Words
from scripts.study import __main__ as study
from scripts.study import clusters, data, driver, figures, page, probe
from scripts.study.plan import FULL, METHODS, ORDER, QUICK, TASKS, jobs, training_images
from scripts.study.results import bases_of, compare, read_results, significant, spread
from tests.helpers import ROOT
from utils.errors import MissingFile, UserError

GROUP = TASKS["gtav"].groups["unseen"]


def result(method="baseline", seed=0, unseen=0.5, **more):
    """Return what the driver writes for a run of task a, with 0.7 on gtav and `unseen` on all others."""
    flags = METHODS.get(method, ())
    row = {"channels": 2, "size": 0.1, "change": 0.1, "sensitive": 0.5, "sensitive_size": 0.2}
    return {
        "task": "gtav",
        "method": method,
        "seed": seed,
        "size": "quick",
        "scores": {"gtav": 0.7} | dict.fromkeys(GROUP, unseen),
        "curve": {"loss": [[25, 2.0], [50, 1.0]]},
        "mechanism": {
            "twins": 2,
            "distance": dict.fromkeys((*probe.STAGES, "output"), 0.3),
            "covariance": dict.fromkeys(probe.POSITIONS, row),
        },
        "pictures": {},
        "commands": {"train": " ".join(("python train.py --seed <0>", *flags, "--exp", method))},
        "seconds": {"train": 60.0},
        "versions": {"torch": "2.11", "gpu": None},
    } | more


# The plan.


def test_order_is_seed_by_seed_and_students_first():
    methods = ["baseline", "baseline + ABN", "ISW"]
    names = [job.name for job in jobs(FULL, ["adapt", "search"], methods, 2)]
    seeds = [[f"adapt-{name}-{seed}" for name in ("baseline", "ISW", "baseline_+_ABN")] for seed in (0, 1)]
    assert names == [*seeds[0][:2], "search-ISW-0", seeds[0][2], *seeds[1]]


def test_names_are_unique_and_all_runs_parse():
    every = jobs(FULL, ORDER, None, None)
    assert len({job.name for job in every}) == len(every)
    assert len([job for job in every if job.task == "gtav"]) == 8 * 3
    for job in every:
        config.parse_train_args(
            [*job.flags, *(["--snapshot", "x"] if job.start else ["--pretrained", "none"])]
        )


def flags_of(method, task="gtav"):
    (job,) = jobs(FULL, [task], [method], 1)
    return config.parse_train_args([*job.flags, "--pretrained", "none"])


def test_flags_of_methods():
    codes = {method: list(map(int, flags_of(method).wt_layer)) for method in METHODS}
    middle = {"baseline": 0, "IN": 3, "IBN": 4, "SW": 5, "IterNorm": 6, "IW": 1, "IRW": 1, "ISW": 2}
    assert codes == {method: [0, 0, code, code, code, 0, 0] for method, code in middle.items()}
    assert (flags_of("IW").relax_denom, flags_of("IRW").relax_denom) == (0, 64)
    isw = flags_of("ISW")
    assert (isw.wt_reg_weight, isw.clusters, isw.cov_stat_epoch, isw.trials) == (1.0, 20, 8, 2)
    assert isw.covstat_val_dataset == isw.dataset == ["gtav"]
    assert flags_of("ISW clusters 3", "search").clusters == 3
    resnet = flags_of("ISW", "scratch")  # scripts/train_r50os16_gtav_isw.sh
    assert (resnet.arch, resnet.wt_reg_weight, resnet.clusters) == ("DeepR50V3PlusD", 0.6, 3)
    assert flags_of("ISW positions 2, 3", "search").wt_layer == [0, 0, 2, 2, 0, 0, 0]


def test_adapted_runs_start_from_their_student_and_differ_in_the_phase():
    by_method = {job.method: job for job in jobs(FULL, ["adapt"], None, 1)}
    abn, sac = (by_method[f"ISW + {how}"] for how in ("ABN", "SAC"))
    assert abn.start == sac.start == by_method["ISW"]
    parsed = [config.parse_train_args([*job.flags, "--snapshot", "x"]) for job in (abn, sac)]
    assert [args.sac_phase for args in parsed] == ["abn", "sac"]
    for name in ("max_iter", "lr", "lr_schedule", "adapt_dataset", "wt_layer", "cov_stat_epoch"):
        assert getattr(parsed[0], name) == getattr(parsed[1], name)
    assert (parsed[0].max_iter, parsed[0].lr) == (500, 0.00025)


def test_images_of_domains():
    """Source domains get training images, others only those that are scored."""
    counts = training_images(FULL, ["gtav"])
    assert counts["gtav"] == 400 and counts["acdc_night"] == counts["synthia"] == 0
    assert training_images(FULL, ["camvid"]) == {
        **dict.fromkeys(("gtav", "synthia"), 400),
        **dict.fromkeys(("cityscapes", "bdd100k", "mapillary", "idd"), 200),
        **dict.fromkeys(("acdc_fog", "acdc_night", "acdc_rain", "acdc_snow"), 50),
    }


# The data.


def test_rendering_is_not_repeated_and_refuses_another_size(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))  # starts at once
    size = QUICK._replace(height=32, width=64, val=1)
    data.render(tmp_path, size, {"gtav": 2, "acdc_night": 0})
    images = sorted(path for path in tmp_path.rglob("*.png") if "label" not in str(path))
    assert len(images) == 2 + 1 + 1
    times = [path.stat().st_mtime_ns for path in images]
    data.render(tmp_path, size, {"gtav": 1, "acdc_night": 0})
    assert times == [path.stat().st_mtime_ns for path in images]
    with pytest.raises(UserError, match=r"holds images of \[32, 64\] px"):
        data.render(tmp_path, QUICK, {"gtav": 1})


def test_camvid_by_light_and_all_frames(tmp_path):
    frames = {"train": ["0001TP_1", "0006R0_1", "0016E5_1"], "val": ["0016E5_2"], "test": ["Seq05VD_1"]}
    for split, names in frames.items():
        for name in names:
            for suffix in ("", "annot"):
                (tmp_path / "source" / (split + suffix)).mkdir(parents=True, exist_ok=True)
                (tmp_path / "source" / (split + suffix) / f"{name}.png").touch()
    for _ in range(2):  # links that are there stay
        data.link_camvid(tmp_path / "source", tmp_path / "toy", tmp_path / "light")

    def linked(folder):
        return sorted(path.stem for path in (tmp_path / folder).iterdir() if path.exists())

    assert linked("toy/camvid/val") == linked("toy/camvid/valannot") == sorted(sum(frames.values(), []))
    assert linked("toy/camvid/train") == frames["train"] and linked("toy/camvid/test") == ["Seq05VD_1"]
    assert linked("light/camvid/train") == ["0006R0_1", "0016E5_1"]
    assert linked("light/camvid/val") == ["Seq05VD_1"] and linked("light/camvid/test") == ["0001TP_1"]
    with pytest.raises(MissingFile, match="no CamVid"):
        data.link_camvid(tmp_path, tmp_path / "toy", tmp_path / "light")


# The driver.


def test_finished_runs_are_skipped(tmp_path):
    place = driver.Place(tmp_path, tmp_path)
    every = jobs(QUICK, ["gtav"], ["baseline", "ISW"], 2)
    place.result(every[1]).parent.mkdir()
    place.result(every[1]).write_text('{"size": "quick"}')
    assert driver.unfinished(every, place) == [every[0], *every[2:]]
    with pytest.raises(UserError, match="is of size quick, not full"):
        driver.unfinished(jobs(FULL, ["gtav"], ["ISW"], 1), place)


def test_no_run_starts_after_the_time_limit(monkeypatch):
    """Each look at the clock is a second later: 1 at the start, 2 to 5 before the runs; the limit is 3.5."""
    clock = itertools.count(1.0)
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    every, started = jobs(QUICK, ["gtav"], ["baseline", "ISW"], 2), []
    left, failed = driver.run_all(every, started.append, at_once=1, minutes=2.5 / 60)
    assert started == every[:2] and left == every[2:] and not failed


def test_a_mistyped_method_or_number_of_seeds_is_an_error():
    with pytest.raises(UserError, match="--methods Isw: .* baseline, .* ISW"):
        jobs(QUICK, ["gtav"], ["baseline", "Isw"], None)
    for seeds in (0, 9):
        with pytest.raises(UserError, match=f"--seeds {seeds}: .* 1 to 3"):
            jobs(QUICK, ["gtav"], None, seeds)


def test_a_training_from_before_keeps_its_command(tmp_path):
    """A first call trained and was stopped; the second one finds the checkpoint."""
    place = driver.Place(tmp_path, tmp_path)
    (job,) = jobs(QUICK, ["gtav"], ["ISW"], 1)
    folder = place.run(job) / "train"
    (folder / "run").mkdir(parents=True)
    (folder / "run/last_gtav.pth").touch()
    (folder / "finished").write_text('["python train.py --lr 1", 2.5]')
    commands = driver.Commands(place.run(job), place.slots)
    assert driver.trained(job, place, commands) == folder / "run/last_gtav.pth"
    assert (commands.texts, commands.seconds) == ({"train": "python train.py --lr 1"}, {"train": 2.5})


def test_runs_at_once_and_failures(capsys):
    """Two runs meet at a barrier; the third fails, and the others still run."""
    every, barrier, done = (
        jobs(QUICK, ["gtav"], ["baseline", "IN", "IBN", "ISW"], 1),
        threading.Barrier(2),
        [],
    )

    def work(job):
        if job.method in ("baseline", "IN"):
            barrier.wait(10)
        if job.method == "IBN":
            raise driver.Failed("train: no room")
        done.append(job.method)

    left, failed = driver.run_all(every, work, at_once=2, minutes=None)
    assert (
        sorted(done) == ["IN", "ISW", "baseline"] and [job.method for job in failed] == ["IBN"] and not left
    )
    assert "gtav-IBN-0 failed: train: no room" in capsys.readouterr().out


def test_a_failed_program_names_its_log(tmp_path):
    with pytest.raises(driver.Failed, match=r"train: error: unrecognized.*train\.log"):
        driver.Commands(tmp_path, driver.gpu_slots(1))(
            "train", "-c", "import sys; sys.exit('error: unrecognized')"
        )


def test_commands_name_no_place_outside_the_project(tmp_path):
    commands = driver.Commands(tmp_path, driver.gpu_slots(1))
    commands("say", "-c", "pass", driver.ROOT / "data/study", 3)
    assert commands.texts == {"say": "python -c pass data/study 3"} and commands.seconds["say"] > 0


SAY = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"


@pytest.mark.parametrize(
    ("count", "visible", "seen"),
    [(2, None, ["0", "1", "0", "1"]), (2, "5,7", ["5", "7", "5", "7"]), (0, None, ["None", "None"])],
)
def test_programs_share_the_visible_gpus(tmp_path, monkeypatch, count, visible, seen):
    """Two at once on each GPU; a program takes the emptiest GPU and gives its slot back."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots, found = driver.gpu_slots(2), []
    for _ in range(slots.qsize()):
        driver.Commands(tmp_path, slots)("say", "-c", SAY)
        found.append((tmp_path / "say.log").read_text().strip())
        slots.get()  # and it stays busy
    assert found == seen


@pytest.mark.parametrize(("task", "weights"), [("gtav", "imagenet"), ("scratch", "none")])
def test_a_network_from_scratch_starts_without_weights(tmp_path, task, weights):
    place, words = driver.Place(tmp_path, tmp_path), []

    def commands(_, *given):
        words.extend(given)
        (place.run(job) / "train").mkdir(parents=True)
        (place.run(job) / "train/last_0.pth").touch()

    commands.texts, commands.seconds = {"train": ""}, {"train": 1.0}
    (job,) = jobs(FULL, [task], ["ISW"], 1)
    driver.trained(job, place, commands)
    assert words[words.index("--pretrained") + 1] == weights


def test_curve_from_a_log():
    """The lines of CONTRACT: a loss at 2 of its 2 points, a score at the iteration of the line before."""
    log = """11-29 10:00:00 [epoch 0], [iter 25 / 25 : 25], [loss 2.500000], [lr 0.01]
11-29 10:00:01 [epoch 1], [iter 25 / 25 : 50], [loss 1.500000], [lr 0.01]
11-29 10:00:02 [epoch 1], cityscapes: acc 0.90000, acc_cls 0.50000, mean_iu 0.40000, val_loss 0.30000
11-29 10:00:02 IoU (%) of the 19 classes of cityscapes: road 90.00"""
    assert driver.curve(log) == {"loss": [(25, 2.5), (50, 1.5)], "cityscapes": [(50, 0.4)]}


def test_rounded():
    assert driver.rounded({"a": [0.123456789, 3, None, "x"]}) == {"a": [0.12346, 3, None, "x"]}


# The mechanism.


def test_distance_of_twins_by_hand():
    """Originals 0 and 2 differ by 2; twins that differ by 1 are at half of that; equal twins at 0."""
    originals = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    assert probe.distance(originals + 1, originals) == pytest.approx(0.5)
    assert probe.distance(originals, originals) == 0


def test_covariances_by_hand():
    """Of three channels the second equals the first, also in the twins; there the third changes its sign.

    |covariance| is 1 (up to 1 / (HW - 1) and eps) for pair (0, 1) and c for the others, whose change is 2 c.
    """
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 1, 64, 64).repeat(1, 4, 1, 1, 1)
    c = (a + 2 * b) / 5**0.5
    originals, views = torch.cat((a, a, c), 1), torch.cat((a, a, -c), 1)
    mask = torch.zeros(3, 3).bool()
    mask[0, 1] = True
    found = probe.covariances(views, originals, mask, True)
    correlation = np.corrcoef(a[0].flatten(), c[0].flatten())[0, 1]
    assert found["size"] == pytest.approx((1 + 2 * abs(correlation)) / 3, abs=1e-3)
    assert found["change"] == pytest.approx(2 * abs(correlation) * (2 / 3) ** 0.5, abs=1e-3)
    assert found["sensitive"] == pytest.approx(2 / 3)
    assert found["sensitive_size"] == pytest.approx(abs(correlation), abs=1e-3)
    assert found["masked"] == pytest.approx(1 / 3) and found["masked_size"] == pytest.approx(1, abs=1e-3)
    assert found["rest_size"] == pytest.approx(abs(correlation), abs=1e-3)
    assert figures.suppressed(found).tolist() == [True, False, False]
    assert figures.sizes(found) == pytest.approx([1, abs(correlation), abs(correlation)], abs=0.005)


def test_zeros_beside_the_pairs_take_the_lowest_cluster():
    """Pairs 0.1, 1.0 and 1.1. The lowest of 3 clusters: the zeros, or 0.1 without them."""
    variance = np.array([[9, 0.1, 1.0], [9, 9, 1.1], [9, 9, 9]])
    assert clusters.selected(variance, 3) == pytest.approx((1, 2 / 3))
    assert clusters.selected(variance, 2) == pytest.approx((2 / 3, 2 / 3))


def test_clusters_of_a_network(tmp_path, capsys):
    data.render(tmp_path, QUICK._replace(height=32, width=64, val=2), {"gtav": 0})
    weights = tmp_path / "w.pth"
    torch.save(find_builder("DeepMobileNetV3PlusD")(19).state_dict(), weights)
    clusters.main(["--data_root", str(tmp_path), "--pretrained", str(weights), "--clusters", "20"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 and lines[3].startswith("position 4, 64 channels, 20 clusters: ")


def test_square():
    assert figures.square(np.array([1.2, 2, 3]), 3).tolist() == [[255, 1, 2], [1, 255, 3], [2, 3, 255]]


# The comparison.


def test_mean_deviation_and_paired_difference_by_hand():
    """Baseline 0.5, 0.6; ISW 0.6, 0.9, and 0.1 in a seed that the baseline lacks: differences 0.1 and 0.3."""
    runs = [result(seed=seed, unseen=score) for seed, score in enumerate((0.5, 0.6))]
    runs += [result("ISW", seed, score) for seed, score in enumerate((0.6, 0.9, 0.1))]
    found = compare(runs, "gtav")
    assert found.spread("baseline", "unseen") == pytest.approx((0.55, 0.1 / 2**0.5, 2))
    assert found.gain("ISW", "baseline") == pytest.approx((0.2, 0.2 / 2**0.5, 2))
    assert found.gain("baseline", "ISW") == pytest.approx((-0.2, 0.2 / 2**0.5, 2))
    assert math.isnan(found.gain("ISW", "IBN").mean)
    assert "baseline seed 2" in found.missing and "ISW seed 2" not in found.missing
    head, *rows = page.table(found)
    assert head[:6] == ["mIoU (%)", "seeds", "gtav*", "unseen", "to baseline", "unseen styles"]  # no IN
    assert head[-1] == "snow"
    assert rows[0][:5] == ["baseline", "2", "70.0", "55.0 ± 7.1", ""] and rows[0][-1] == "55.0"
    assert rows[1][:5] == ["ISW", "3", "70.0", "53.3 ± 40.4", "+20.0 ± 14.1"]


def test_what_a_method_is_compared_with():
    assert bases_of("IBN") == bases_of("baseline + ABN") == ["baseline"] and bases_of("baseline") == []
    assert bases_of("ISW") == ["baseline", "IN"] and bases_of("ISW weight 0.2") == ["ISW"]
    assert bases_of("baseline + SAC") == ["baseline", "baseline + ABN"]
    assert bases_of("ISW + SAC") == ["baseline", "ISW", "ISW + ABN", "baseline + SAC"]


def test_what_self_training_gains_over_batch_norm_is_paired_by_seed():
    """SAC - ABN of the same seed: 0.02, 0.03, 0.04; t = 0.03 / (0.01 / sqrt 3) = 5.2 is above 4.3."""
    runs = []
    for seed, (abn, sac) in enumerate(((0.30, 0.32), (0.20, 0.23), (0.40, 0.44))):
        for method, score in (("baseline", 0.3), ("baseline + ABN", abn), ("baseline + SAC", sac)):
            runs.append(result(method, seed, task="adapt", scores={"CamVid test": score}))
    head, *rows = page.table(compare(runs, "adapt"))
    assert head[2:] == ["CamVid test", "to baseline", "to baseline + ABN"]
    assert rows[1][2:] == ["30.0 ± 10.0", "+0.0 ± 10.0", ""]
    assert rows[2][2:] == ["33.0 ± 10.5", "+3.0 ± 10.5", "+3.0 ± 1.0 †"]


def test_significant_by_hand():
    """t must be above 4.3 for three seeds and 12.7 for two; here it is 3.46, 5.20 and 3."""
    assert not significant(spread([1, 2, 3])) and significant(spread([2, 3, 4]))
    assert significant(spread([-2, -3, -4])) and not significant(spread([1, 2]))
    assert not significant(spread([5])) and not significant(spread([0, 0]))


def test_two_marks_where_the_unpaired_test_agrees():
    """Methods differ by 0.3 in each seed, or by 0.01, far less than their seeds."""
    seeds = {"baseline": (0.2, 0.3, 0.4), "IBN": (0.501, 0.6, 0.7), "SW": (0.211, 0.31, 0.41)}
    found = compare([result(name, i, x) for name, row in seeds.items() for i, x in enumerate(row)], "gtav")
    assert (found.mark("IBN", "baseline"), found.mark("SW", "baseline")) == ("‡", "†")
    assert [row[4] for row in page.table(found)] == ["to baseline", "", "+30.0 ± 0.1 ‡", "+1.0 ± 0.1 †"]


def test_results_of_two_sizes_are_not_mixed(tmp_path):
    with pytest.raises(MissingFile):
        read_results(tmp_path)
    for seed, size in enumerate(("quick", "full")):
        (tmp_path / f"{seed}.json").write_text(json.dumps(result(seed=seed, size=size)))
    with pytest.raises(UserError, match="full and quick"):
        read_results(tmp_path)


# The page.


def test_page_of_what_is_there(tmp_path, capsys):
    for run in (result(), result("ISW", unseen=0.6)):
        (tmp_path / f"{run['method']}.json").write_text(json.dumps(run))
    study.main(["page", str(tmp_path), "--out", str(tmp_path / "page"), "--markdown"])
    html = (tmp_path / "page/index.html").read_text()
    assert "<script" not in html and "prefers-color-scheme: dark" in html
    assert "<td>ISW</td><td>1</td><td>70.0</td><td>60.0</td><td>+10.0</td><td>60.0</td>" in html
    assert "Not run:" in html and "IterNorm seed 2" in html and TASKS["dusk"].title in html
    assert "python train.py --seed &lt;0&gt; --exp baseline" in html
    assert f"<code>... {' '.join(METHODS['ISW'])} ...</code>" in html
    pictures = re.findall(r"<img src='([^']+)'", html)
    assert pictures == ["gtav-domains.svg", "gtav-twins.svg", "gtav-loss.svg"]
    assert all((tmp_path / "page" / name).is_file() for name in pictures)
    assert re.search(r"\| ISW +\|", capsys.readouterr().out)


def test_correlation_with_what_is_unseen(tmp_path):
    """The distances of twins fall as the scores rise, on a line: -1.00, within methods, too; sizes: 0."""
    runs = []
    for number in range(12):
        distance = dict.fromkeys((*probe.STAGES, "output"), 0.9 - 0.05 * number)
        sizes = {"size": 0.1 + 0.1 * (number in (0, 11)), "change": 0.1 * (number in (1, 10))}
        mechanism = {"twins": 2, "distance": distance, "covariance": dict.fromkeys(probe.POSITIONS, sizes)}
        method = list(METHODS)[number % 4]
        runs.append(result(method, number // 4, unseen=0.3 + 0.01 * number, mechanism=mechanism))
    html = page.explained(compare(runs, "gtav"), tmp_path)
    assert html.count("<td>-1.00</td>") == 12 and html.count("0.00</td>") == 12
    assert (tmp_path / "gtav-distance.svg").read_text().count("<circle") == 12 + 4
    assert page.explained(compare(runs[:4], "gtav"), tmp_path) == ""


def test_correlation_within_methods_by_hand():
    """1, 3 and 10, 20 have the means 2 and 15. One run of each method leaves nothing to correlate."""
    assert page.centred([1, 10, 3, 20], ["a", "b", "a", "b"]) == [-1, -5, 1, 5]
    assert page.correlation([1, 2, 3], [3, 2, 1]) == "-1.00"
    assert page.correlation([1, 2], page.centred([1, 2], ["a", "b"])) == "-"


def test_bars_only_where_they_show_more_than_the_table(tmp_path):
    """Not of two columns, and not of more methods than there are colours."""
    for task, count in (("dusk", 2), ("search", 9)):
        scores = {name: 0.5 for part in TASKS[task].scored for name in part.names.values()}
        for method in TASKS[task].methods[:count]:
            file = tmp_path / f"{task}-{method}.json"
            file.write_text(json.dumps(result(method, task=task, scores=scores)))
    study.main(["page", str(tmp_path), "--out", str(tmp_path / "page")])
    assert not list((tmp_path / "page").glob("*-domains.svg"))
    (tmp_path / "search-ISW.json").unlink()
    study.main(["page", str(tmp_path), "--out", str(tmp_path / "page")])
    assert [file.name for file in (tmp_path / "page").glob("*-domains.svg")] == ["search-domains.svg"]


def test_what_is_different_in_a_command():
    """Folders are named after the run, which is no difference."""
    first = "python train.py --lr 1 --clusters 20 --exp a-IN-0 --ckpt runs/a-IN-0/train"
    other = "python train.py --lr 1 --clusters 3 --trials 2 --exp a-ISW-0 --ckpt runs/a-ISW-0/train"
    assert page.own_words(other, first) == "3 --trials 2"
    assert page.own_words(first, other) == "20" and page.own_words(first, first) == ""


def test_a_method_has_the_same_colour_in_all_tasks():
    """IBN is the third method and ISW the eighth, also where others are missing."""
    blue, green, grey = (figures.COLORS[i] for i in (0, 2, 7))
    assert figures.colors(["baseline", "IBN", "ISW"]) == [blue, green, grey]
    assert figures.colors(["ISW", "ISW lr 0.02"]) == [*figures.COLORS[:2]]
    scores = {name: 0.5 for name in ("gtav", *GROUP)}
    runs = [result(method, task="scratch", scores=scores) for method in ("baseline", "IBN", "ISW")]
    found = compare(runs, "scratch")
    drawings = (
        figures.domains(found),
        figures.dots({"IBN": [(0, 0)], "ISW": [(1, 1)]}, "x", "y"),
        figures.lines({"IBN": [spread([1])], "ISW": [spread([2])]}, ["1"], "x"),
    )
    for canvas in drawings:
        used = {shape.color for shape in canvas.shapes if not isinstance(shape, Words | Line)}
        assert used >= {green, grey} and not used & {figures.COLORS[1]}


def test_names_beside_lines_are_apart_and_inside():
    assert figures.apart([1, 2, 50], 60) == [1, 15, 50]
    assert figures.apart([50, 51, 52], 60) == [32, 46, 60]


def test_the_page_in_the_repository_is_that_of_the_results(tmp_path):
    """All but the style is the same. After new results: the command in scripts/study/README.md."""
    study.main(["page", str(ROOT / "scripts/study/results"), "--out", str(tmp_path)])
    committed = ROOT / "scripts/study/page"
    made, kept = (
        (folder / "index.html").read_text().partition("<main>")[2] for folder in (tmp_path, committed)
    )
    assert made.replace(f"{ROOT}/", "").replace(str(tmp_path), "scripts/study/page") == kept
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in committed.iterdir()}
    assert sum(file.stat().st_size for file in committed.iterdir()) < 300_000


def test_strip_renders_image_and_truth_again(tmp_path):
    """Two methods and one image: four panels; the truth is not the prediction, which is one class."""
    size = QUICK.height, QUICK.width
    image, truth = figures.rendered("cityscapes:3", size)
    assert image.size == truth.size == size[::-1]
    data.write_pair(tmp_path, "cityscapes", "val", 3, size, 0)
    (file,) = tmp_path.rglob("*_leftImg8bit.png")
    assert np.array_equal(np.array(image), np.array(Image.open(file)))
    Image.new("P", (8, 4)).save(tmp_path / "p.png")
    text = probe.base64.b64encode((tmp_path / "p.png").read_bytes()).decode()
    runs = [result(method, pictures={"cityscapes:3": text}) for method in ("baseline", "ISW")]
    strip = figures.strip(compare(runs, "gtav"))
    assert strip.size == (4 * figures.PANEL + 3 * figures.GAP, figures.TITLE + figures.PANEL // 2)
    assert figures.strip(compare([result()], "gtav")) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--tasks camvid", "no task is left; --camvid names"),
        ("--at_once 0", "--at_once takes a number from 1, not 0"),
        ("--pretrained missing.pth", "--pretrained missing.pth: no such file"),
        ("--camvid missing", "no CamVid at .*missing"),
    ],
)
def test_mistakes_end_the_study_before_it_renders(tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr(data, "render", lambda *_: pytest.fail("rendered"))
    with pytest.raises(UserError, match=message):
        study.main(
            ["run", "--quick", "--out", str(tmp_path), "--data", str(tmp_path / "data"), *flags.split()]
        )


def test_the_list_is_empty_when_nothing_is_left(tmp_path, capsys):
    flags = ["run", "--quick", "--list", "--out", str(tmp_path)]
    study.main(flags)
    assert capsys.readouterr().out == "gtav-baseline-0\ngtav-ISW-0\n"
    for name in ("baseline", "ISW"):
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / f"results/gtav-{name}-0.json").write_text('{"size": "quick"}')
    study.main(flags)
    assert not capsys.readouterr().out


@pytest.mark.slow
def test_quick(tmp_path, monkeypatch, capsys):
    """One row on a CPU, smaller than --quick; a repeated call has nothing to do."""
    small = QUICK._replace(train=24, batch=2, crop=64, iterations=45)  # 12 iterations are an epoch
    monkeypatch.setitem(study.SIZES, "quick", small)
    flags = ["run", "--quick", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "data")]
    flags += ["--pretrained", "none", "--methods", "ISW"]
    study.main(flags)
    printed = capsys.readouterr().out
    assert re.search(r"gtav-ISW-0: unseen [\d.]+, \d+ s\n1 runs finished, 0 left, 0 failed", printed), printed
    (run,) = read_results(tmp_path / "out/results")
    assert set(run["scores"]) == {"gtav", *GROUP} and len(run["pictures"]) == 3
    assert run["mechanism"]["covariance"]["layer1"]["masked"] > 0
    assert run["curve"]["loss"][-1][0] == 45
    study.main(flags)
    assert capsys.readouterr().out == "0 runs finished, 0 left, 0 failed\n"
    study.main(["page", str(tmp_path / "out/results"), "--out", str(tmp_path / "page")])
    assert (tmp_path / "page/gtav-strip.png").is_file()


def test_the_script_takes_paths_relative_to_the_caller(tmp_path):
    """A copy of the script, with an environment that is there, prints the runs of a study in DIR."""
    for folder in ("repository/scripts", "caller/camvid"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "repository/scripts/study.sh").write_text((ROOT / "scripts/study.sh").read_text())
    stand_in = 'make_environment() { :; }\npython() { printf "%s\\n" "$*"; }\n'
    (tmp_path / "repository/scripts/environment.sh").write_text(stand_in)
    command = ["bash", "../repository/scripts/study.sh", "DIR", "--camvid", "camvid", "--tasks", "dusk"]
    done = subprocess.run(command, cwd=tmp_path / "caller", capture_output=True, text=True)
    here = tmp_path / "caller"
    assert done.stdout == f"-m scripts.study run --out {here}/DIR --camvid {here}/camvid --tasks dusk\n"
