"""Flags to batches, and the wrappers that lie between."""

import multiprocessing
import pickle
from argparse import Namespace
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from config import Roots, parse_train_args
from datasets import DATASETS
from datasets.labels import lookup_table
from datasets.loaders import endless, setup_classes, setup_eval_loader, setup_loaders
from datasets.multi_source import ConcatSources, OnePerDomain, collate
from datasets.toy_city import STYLES
from datasets.views import PhotometricPairs
from tests.golden.recipe import fidelity
from tests.helpers import SIZE, TRAIN, VAL, add_datasets, no_transform, save, write_camvid
from transforms import presets
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import MissingFile, UserError

CROP = 32


@pytest.fixture
def make_args(toy):
    def make(**changes):
        data = {"dataset": ["gtav"], "val_dataset": ["cityscapes"], "covstat_val_dataset": ["gtav"]}
        data |= {
            "city_mode": "train",
            "cv": 0,
            "maxSkip": 0,
            "boost_classes": (),
            "wt_layer": [0, 0, 2, 0, 0, 0, 0],
            "strict_data": False,
        }
        batch = {"seed": 0, "num_workers": 0, "bs_mult": 2, "bs_mult_val": 1, "test_mode": False}
        crop = {"crop_size": CROP, "pre_size": None, "scale_min": 0.5, "scale_max": 2.0, "crop_nopad": False}
        look = {
            "rrotate": 0,
            "color_aug": 0.5,
            "gblur": True,
            "bblur": False,
            "image_in": False,
            "aug_device": "cpu",
        }
        uniform = {"class_uniform_pct": 0.5, "class_uniform_tile": 32, "max_cu_epoch": 100}
        uniform |= {
            "cache_dir": None,
            "cache_images": None,
            "image_uniform_sampling": False,
            "domain_steps": "joint",
            "adapt_dataset": None,
            "sac_weights": None,
        }
        scored = {
            "mapillary_protocol": "full",
            "split": "val",
            "cv_split": None,
            "split_index": 0,
            "split_count": 1,
        }
        roots = Roots(toy)
        defaults = vars(parse_train_args([])) | {"own_val": []}
        chosen = {"roots": roots, **data, **batch, **crop, **look, **uniform, **scored, **changes}
        return Namespace(**defaults | chosen)

    return make


def test_train_val_and_statistics(make_args):
    loaders = setup_loaders(make_args())
    batches = list(loaders.train)
    assert len(batches) == TRAIN // 2  # the tail is dropped
    assert batches[0]["image"].shape == (2, 3, CROP, CROP) and batches[0]["label"].shape == (2, CROP, CROP)
    assert batches[0]["image"].dtype == batches[0]["label"].dtype == torch.uint8  # few bytes to the device
    assert [batch["image"].shape for batch in loaders.val["cityscapes"]] == [(1, 3, *SIZE)] * VAL
    pairs = list(loaders.statistics["gtav"])
    assert len(pairs) == TRAIN and pairs[0].keys() == {"image", "view", "name"}
    assert pairs[0]["image"].shape == pairs[0]["view"].shape == (1, 3, *SIZE)


@pytest.fixture(scope="session")
def more(toy, tmp_path_factory):
    return add_datasets(toy, tmp_path_factory.mktemp("more"))


@pytest.mark.parametrize("name", [*STYLES, "kitti", "camvid", "folder"])
@pytest.mark.parametrize("uniform", [0, 0.5])
def test_every_dataset_in_every_form(make_args, toy, more, name, uniform):
    """Plain and class-uniform training, validation, photometric pairs; a folder has train and val in one."""
    roots = Roots(more if name in ("kitti", "camvid", "folder") else toy)
    names = {"dataset": [name], "val_dataset": [name], "covstat_val_dataset": [name]}
    loaders = setup_loaders(make_args(**names, roots=roots, class_uniform_pct=uniform))
    train, val = (TRAIN + VAL, TRAIN + VAL) if name == "folder" else (TRAIN, VAL)
    batches = list(loaders.train)
    assert len(batches) == train // 2 and len(loaders.val[name]) == val
    assert len(loaders.statistics[name]) == train
    labels = torch.cat([batch["label"] for batch in batches])
    assert set(labels.unique().tolist()) <= {*range(19), 255} and (labels == 0).any() == (name != "folder")
    assert next(iter(loaders.val[name]))["image"].shape == (1, 3, *SIZE)
    assert next(iter(loaders.statistics[name]))["view"].shape == (1, 3, *SIZE)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("dataset", [["gtav"], ["gtav", "synthia"]])
def test_samples_do_not_depend_on_the_workers(make_args, dataset):
    def epoch(num_workers, number):
        loaders = setup_loaders(make_args(dataset=dataset, num_workers=num_workers))
        loaders.train.dataset.set_epoch(number)
        loaders.train.sampler.set_epoch(number)
        return list(loaders.train)

    alone = epoch(0, 3)
    for workers in (2, 4):
        for one, other in zip(alone, epoch(workers, 3), strict=True):
            assert one["name"] == other["name"]
            assert torch.equal(one["image"], other["image"]) and torch.equal(one["label"], other["label"])
    assert not torch.equal(epoch(0, 3)[0]["image"], epoch(0, 4)[0]["image"])


def test_pytorch_does_not_advise_fewer_workers(make_args, recwarn):
    setup_loaders(make_args(num_workers=500))
    assert not [warning for warning in recwarn if "worker" in str(warning.message)]


@pytest.mark.parametrize("method", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_may_be_started_without_a_fork(make_args, method):
    """As Python 3.14 does by itself; what workers get is pickled."""
    multiprocessing.set_forkserver_preload(["tests.helpers", "eval"])
    loaders = setup_loaders(make_args(num_workers=1, class_uniform_pct=0.5))
    for loader in (loaders.train, *loaders.val.values(), *loaders.statistics.values()):
        index = next(iter(loader.sampler))
        expected = loader.dataset[index]["image"]
        assert torch.equal(pickle.loads(pickle.dumps(loader.dataset))[index]["image"], expected)
    alone = [loaders.train.dataset[i]["image"] for i in loaders.train.sampler]
    loaders.train.multiprocessing_context = method
    assert torch.equal(torch.cat([batch["image"] for batch in loaders.train]), torch.stack(alone[:4]))


@pytest.mark.parametrize("dataset", [["gtav"], ["gtav", "synthia"]])
def test_the_epoch_reaches_workers_that_run_on(make_args, dataset):
    """Class-uniform samples, domains and crops are the epoch's, also after an epoch that was cut short."""

    def epochs(num_workers):
        loaders = setup_loaders(make_args(dataset=dataset, num_workers=num_workers))
        for number in (2, 0, 1):
            loaders.train.dataset.set_epoch(number)
            loaders.train.sampler.set_epoch(number)
            for batch in islice(loaders.train, 1 if number == 0 else None):
                assert num_workers == 0 or loaders.train._iterator is not None  # the workers stay
                yield batch

    for expected, batch in zip(epochs(0), epochs(2), strict=True):
        assert batch["name"] == expected["name"]
        assert torch.equal(batch["image"], expected["image"])


def test_augmentation_left_to_the_device_gives_the_same_batches(make_args):
    on_cpu, left = setup_loaders(make_args()), setup_loaders(make_args(aug_device="gpu"))
    for expected, batch in zip(on_cpu.train, left.train, strict=True):
        assert batch["image"].dtype == torch.uint8 and torch.equal(batch["label"], expected["label"])
        image = left.photometric(batch["image"], batch["photometric"])
        assert torch.equal(image, on_cpu.photometric(expected["image"]))


def test_images_normalized_on_the_device_are_the_same(make_args):
    """Each item is, to the bit, what the preset makes of it that normalizes in the loader."""
    loaders = setup_loaders(make_args())
    dataset = loaders.train.dataset.dataset.base
    batch = next(iter(loaders.train))
    image, label = loaders.photometric(batch["image"]), batch["label"].long()
    dataset.transform = presets.Preset(dataset.transform.joint, dataset.transform.photometric)
    expected = next(iter(loaders.train))
    assert expected["image"].dtype == torch.float32 and expected["label"].dtype == torch.int64
    assert torch.equal(image, expected["image"]) and torch.equal(label, expected["label"])
    per_image = next(iter(setup_loaders(make_args(image_in=True)).train))
    assert per_image["image"].dtype == torch.float32


def test_drawing_samples_leaves_the_global_generators_alone(make_args):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(setup_loaders(make_args()).train)
    assert torch.equal(torch.get_rng_state(), torch_state) and (np.random.get_state()[1] == numpy_state).all()


def test_test_mode_validates_twelve_images(make_args, tmp_path):
    write_camvid(tmp_path, [np.zeros((2, 2))] * 14, "val")
    args = make_args(val_dataset=["camvid"], test_mode=True)
    args.roots.folders["camvid"] = tmp_path
    assert len(setup_loaders(args).val["camvid"]) == 12
    assert len(setup_eval_loader(args, "camvid")) == 12
    args.test_mode = False
    assert len(setup_loaders(args).val["camvid"]) == 14


def test_no_statistics_without_isw(make_args):
    """The statistics' dataset need not even be there."""
    loaders = setup_loaders(make_args(wt_layer=[0, 0, 1, 4, 0, 0, 0], covstat_val_dataset=["camvid"]))
    assert loaders.statistics == {}


@pytest.mark.parametrize("uniform, batch, batches", [(False, 4, TRAIN // 2), (True, 2, TRAIN)])
def test_several_domains(make_args, uniform, batch, batches):
    """One image per domain doubles the batch; concatenation doubles the epoch."""
    args = make_args(dataset=["gtav", "synthia"], image_uniform_sampling=uniform)
    loaded = list(setup_loaders(args).train)
    assert len(loaded) == batches and all(len(item["image"]) == len(item["name"]) == batch for item in loaded)
    if not uniform:  # names of 5 digits are gtav's, of 7 synthia's
        assert [len(name) for name in loaded[0]["name"]] == [5, 7, 5, 7]


@pytest.mark.parametrize("uniform, steps", [(False, 2), (True, 1)])
def test_a_step_for_each_domain(make_args, uniform, steps):
    args = make_args(dataset=["gtav", "synthia"], image_uniform_sampling=uniform, domain_steps="separate")
    loaders = setup_loaders(args)
    assert loaders.steps_per_batch == steps
    if steps == 2:
        names = next(iter(loaders.train))["name"]
        assert {len(name) for name in names[0::2]} == {5} and {len(name) for name in names[1::2]} == {7}


def test_null_takes_no_part(make_args):
    args = make_args(dataset=["gtav", "null", "synthia"], val_dataset=["null"], domain_steps="separate")
    loaders = setup_loaders(args)
    assert loaders.val == {} and loaders.steps_per_batch == 2 and len(next(iter(loaders.train))["name"]) == 4
    assert list(setup_loaders(make_args(dataset=["null"])).train) == []
    assert list(setup_eval_loader(make_args(), "null")) == []
    with pytest.raises(UserError, match="ISW.*--covstat_val_dataset"):
        setup_loaders(make_args(covstat_val_dataset=["null"]))


def test_images_without_labels(make_args, tmp_path, caplog):
    """A folder trains (on nothing, which is said), is validated, and gives statistics."""
    for name in "ab":
        save(tmp_path / f"{name}/x.png", np.full((40, 50, 3), 9))
    names = {"dataset": ["folder"], "val_dataset": ["folder"], "covstat_val_dataset": ["folder"]}
    args = make_args(**names, roots=Roots(folders={"folder": tmp_path}))
    loaders = setup_loaders(args)
    (batch,) = loaders.train
    assert sorted(batch["name"]) == ["a/x", "b/x"] and (batch["label"] == 255).all()
    assert len(loaders.val["folder"]) == len(loaders.statistics["folder"]) == 2
    assert "nothing is learnt from folder" in caplog.text


def cityscapes_pair(root, kind, split, name, value):
    """Write a pair of 40x40 px labelled with one Cityscapes id."""
    city = name.partition("_")[0]
    save(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", np.zeros((40, 40, 3)))
    save(root / f"{kind}/{split}/{city}/{name}_{kind}_labelIds.png", np.full((40, 40), value))


def test_coarse_classes_and_video_frames(make_args, tmp_path):
    """Fine: a road (id 7). Coarse: a wall (12), wanted, and a fence (13), not wanted. Video: one frame."""
    cityscapes_pair(tmp_path, "gtFine", "train", "a_000000_000019", 7)
    cityscapes_pair(tmp_path, "gtFine", "train", "a_000001_000019", 7)
    cityscapes_pair(tmp_path, "gtCoarse", "train_extra", "b_000000_000019", 12)
    cityscapes_pair(tmp_path, "gtCoarse", "train_extra", "b_000001_000019", 13)
    video = tmp_path / "leftImg8bit_sequence/train/a/a_000000_000020_leftImg8bit.png"
    save(video, np.zeros((40, 40, 3)))
    args = make_args(
        dataset=["cityscapes"],
        val_dataset=[],
        covstat_val_dataset=["cityscapes"],
        roots=Roots(folders={"cityscapes": tmp_path}),
        class_uniform_pct=1,
        boost_classes=(3,),
        maxSkip=1,
    )
    loaders = setup_loaders(args)
    dataset = loaders.train.dataset
    names = [dataset.base.name_of(sample) for sample in dataset.base.samples]
    assert names == ["a_000000_000019", "a_000001_000019", "a_000000_000020"]
    assert dataset.present.tolist() == [0, 3]
    assert {item["label"].unique().tolist()[0] for item in dataset} == {0, 3}
    assert len(loaders.statistics["cityscapes"].dataset) == 2  # only annotated images


@pytest.mark.parametrize(
    ("protocol", "size"), [("full", SIZE), ("half", (SIZE[0] // 2, SIZE[1] // 2)), ("legacy", (1536, 1536))]
)
def test_mapillary_protocols(make_args, protocol, size):
    args = make_args(val_dataset=["mapillary", "gtav"], mapillary_protocol=protocol)
    loaders = setup_loaders(args)
    for loader in (loaders.val["mapillary"], setup_eval_loader(args, "mapillary")):
        batch = next(iter(loader))
        assert batch["image"].shape == (1, 3, *size) and batch["label"].shape == (1, *size)
    assert next(iter(loaders.val["gtav"]))["image"].shape == (1, 3, *SIZE)


@pytest.fixture
def two_domains(tmp_path):
    write_camvid(tmp_path / "a", [np.zeros((2, 2))] * 4)
    write_camvid(tmp_path / "b", [np.ones((2, 2))] * 2)
    return [DATASETS["camvid"](tmp_path / name, "train", no_transform) for name in "ab"]


def test_concat_sources(two_domains):
    dataset = ConcatSources(two_domains)
    assert [dataset[i]["name"] for i in range(6)] == ["000", "001", "002", "003", "000", "001"]
    assert [int(dataset[i]["label"][0, 0]) for i in range(6)] == [10] * 4 + [2] * 2  # sky, building
    with pytest.raises(IndexError):
        dataset[6]


def test_one_per_domain_draws_from_each_domain(two_domains):
    """An epoch is as long as the smaller domain. 800 draws: 200 of each of 4 images, 400 of each of 2."""
    dataset = OnePerDomain(two_domains)
    assert len(dataset) == 2
    names = []
    for epoch in range(400):
        dataset.set_epoch(epoch)
        names += [[item["name"] for item in items] for items in (dataset[0], dataset[1])]
    assert two_domains[1].epoch == 399
    for domain, expected in enumerate(([200] * 4, [400] * 2)):
        counts = np.unique([pair[domain] for pair in names], return_counts=True)[1]
        assert len(counts) == len(expected) and (abs(counts - expected) < 70).all()
    assert [item["name"] for item in dataset[1]] == names[-1]  # a function of seed, epoch and index
    assert [int(item["label"][0, 0]) for item in dataset[0]] == [10, 2]
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize("case", [fidelity("F10")[0]["one per domain"]])
def test_the_published_length_of_an_epoch_of_several_domains(case, tmp_path):
    for number, length in enumerate(case["lengths"]):
        write_camvid(tmp_path / str(number), [np.zeros((1, 1))] * length)
    names = range(len(case["lengths"]))
    domains = [DATASETS["camvid"](tmp_path / str(number), "train", no_transform) for number in names]
    assert len(OnePerDomain(domains)) == case["epoch"]


def test_photometric_pairs(toy):
    base = DATASETS["gtav"](toy / "gtav", "train", presets.statistics())
    pairs = PhotometricPairs(base)
    whole = DATASETS["gtav"](toy / "gtav", "train", presets.val())
    assert torch.equal(pairs[1]["image"], whole[1]["image"])
    assert (pairs[1]["view"] - pairs[1]["image"]).abs().mean() > 0.02
    assert torch.equal(pairs[1]["view"], pairs[1]["view"])
    view = pairs[1]["view"]
    pairs.set_epoch(1)
    assert not torch.equal(pairs[1]["view"], view)
    assert pairs[1]["name"] == whole[1]["name"]


@pytest.mark.parametrize("image_in", [False, True])
def test_pairs_made_on_the_device_are_the_same(toy, image_in):
    batches = []
    for device in ("cpu", "gpu"):
        base = DATASETS["gtav"](toy / "gtav", "train", presets.statistics(image_in, device))
        pairs = PhotometricPairs(base)
        batch = default_collate([pairs[1], pairs[2]])
        assert batch["image"].dtype == (torch.uint8 if device == "gpu" else torch.float32)
        batches.append(pairs.pair(batch, torch.device("cpu")))
    assert batches[0].shape == (4, 3, *SIZE) and torch.equal(*batches)


def test_eval_slices_cover_the_split(make_args):
    """Three images in two slices: two and one."""
    slices = [setup_eval_loader(make_args(split_index=i, split_count=2), "gtav") for i in range(2)]
    names = [[batch["name"][0] for batch in loader] for loader in slices]
    assert [len(part) for part in names] == [2, 1]
    assert names[0] + names[1] == [batch["name"][0] for batch in setup_eval_loader(make_args(), "gtav")]
    assert len(setup_eval_loader(make_args(split_index=98, split_count=99), "gtav")) == 0


def test_training_set_smaller_than_a_batch(make_args):
    with pytest.raises(UserError, match="gtav has 5 .* 6 "):
        setup_loaders(make_args(bs_mult=6))


@pytest.mark.parametrize("flag", ["val_dataset", "covstat_val_dataset"])
def test_a_missing_dataset_that_nobody_named(make_args, flag, tmp_path):
    args = make_args(**{flag: ["kitti"]})
    with pytest.raises(MissingFile, match=f"no .* images of kitti.*; kitti is the default of --{flag}, name"):
        setup_loaders(args)
    args.given = {flag}
    with pytest.raises(MissingFile, match="no .* images of kitti") as error:
        setup_loaders(args)
    assert "default" not in str(error.value)


@pytest.mark.parametrize("flag", ["dataset", "val_dataset", "covstat_val_dataset"])
def test_unknown_dataset(make_args, flag):
    with pytest.raises(UserError, match="'gta'.* cityscapes, gtav"):
        setup_loaders(make_args(**{flag: ["gta"]}))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"val_dataset": ["camvid", "gta"]}, "'gta'"),
        ({"covstat_val_dataset": ["own"]}, r"gtav \(19.* own \(1"),
        ({"adapt_dataset": "own"}, r"gtav \(19.* own \(1"),
        ({"dataset": ["cityscapes"], "city_mode": "trian"}, "cityscapes has no split 'trian'"),
        ({"val_dataset": ["kitti"], "cv": 7}, "cv 7"),
        ({"bblur": True, "aug_device": "gpu"}, "--bblur"),
        ({"covstat_val_dataset": []}, "--covstat_val_dataset"),
    ],
)
def test_cheap_mistakes_are_found_before_any_file_is_read(flags, message, make_args, tmp_path, monkeypatch):
    """The roots do not exist, which listing would report."""
    own = type("Own", (DATASETS["camvid"],), {"classes": ClassTable(("a",), ((0, 0, 0),))})
    monkeypatch.setitem(DATASETS, "own", own)
    with pytest.raises(UserError, match=message):
        setup_loaders(make_args(roots=Roots(tmp_path / "nowhere"), **flags))


def test_classes_of_ones_own(make_args, tmp_path, monkeypatch, caplog):
    """Three classes; value 3 is class 2, 8 is class 1 and class 0 does not occur."""
    classes = ClassTable(("ash", "birch", "oak"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    own = type("Own", (DATASETS["camvid"],), {"name": "own", "classes": classes})
    own.table = lookup_table({3: 2, 8: 1, 11: 255})
    monkeypatch.setitem(DATASETS, "own", own)
    write_camvid(tmp_path, [np.full((40, 40), value) for value in (3, 8)])
    write_camvid(tmp_path, [np.full((40, 40), 3)], "val")
    roots = Roots(folders={"own": tmp_path})
    with caplog.at_level("INFO", "robustnet"):
        loaders = setup_loaders(
            make_args(dataset=["own"], val_dataset=["own"], covstat_val_dataset=["own"], roots=roots)
        )
    assert loaders.classes is classes and "never occur: ash" in caplog.text
    assert loaders.train.dataset.present.tolist() == [1, 2]
    assert next(iter(loaders.val["own"]))["label"].unique().tolist() == [2]
    assert setup_classes(make_args()) == CITYSCAPES


def test_no_dataset(make_args):
    with pytest.raises(UserError, match="--dataset"):
        setup_loaders(make_args(dataset=[]))


def test_batch_of_different_sizes():
    items = [{"image": torch.zeros(3, 2, width), "name": name} for width, name in ((4, "a"), (5, "b"))]
    with pytest.raises(UserError, match="a 4x2, b 5x2.*--bs_mult_val 1"):
        collate(items)


def test_target_views_come_without_end(make_args):
    """5 images, 2 per step: the fifth is dropped, then the next epoch, also from a position in the middle."""
    more = {"adapt_dataset": "cityscapes", "sac_images": 2, "sac_views": 4, "sac_crop": [16, 32]}
    target = setup_loaders(make_args(**more)).target
    batches = list(islice(endless(target), 5))
    assert batches[0]["student"].shape == (2, 4, 3, 16, 32) and batches[0]["valid"].dtype == torch.bool
    names = [batch["name"] for batch in batches]
    assert len({*names[0], *names[1]}) == len({*names[2], *names[3]}) == 4
    assert target.sampler.state_dict() == {"epoch": 2, "position": 2}
    again = setup_loaders(make_args(**more)).target
    again.sampler.load_state_dict({"epoch": 1, "position": 2})
    for expected, batch in zip(batches[3:], endless(again), strict=False):
        assert batch["name"] == expected["name"] and torch.equal(batch["student"], expected["student"])
    with pytest.raises(UserError, match="cityscapes has 5 .*--sac_images 6"):
        setup_loaders(make_args(**more | {"sac_images": 6}))
