"""A continued run notices other data."""

from types import SimpleNamespace

import pytest
import torch

from datasets.listing import Sample
from tests.helpers import run_processes
from utils import inventory, versions
from utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    """Return a function that lists images of `sizes` bytes; the first has no label, one of 0 is not there."""

    def listed(*sizes, prefix="", folder="a"):
        (tmp_path / folder).mkdir(exist_ok=True)
        samples = []
        for number, size in enumerate(sizes):
            image, label = (tmp_path / folder / f"{prefix}{number}.{end}" for end in ("png", "txt"))
            if size:
                image.write_bytes(bytes(size))
            label.write_bytes(bytes(7))
            samples.append(Sample(image, label if number else None))
        found = versions.versions(file for image, label, _ in samples for file in (image, label) if file)
        name = lambda sample: sample.image.stem  # noqa: E731
        dataset = SimpleNamespace(samples=samples, name_of=name, versions=found)
        return {"gtav": inventory.inventory(dataset)}

    return listed


def recorded(found):
    return {name: files.record() for name, files in found.items()}


def test_a_copy_is_the_same(data):
    assert data(1, 2, 0)["gtav"].sizes.tolist() == [[1, 0], [2, 7], [versions.MISSING, 7]]
    found = data(1, 2)
    assert inventory.differences(recorded(found), data(1, 2, folder="b")) == []


def test_other_files_are_named(data):
    before = recorded(data(1, 2, 3))
    say = lambda now: inventory.differences(before, now)  # noqa: E731
    assert say(data(1, 5, 6)) == ["2 images of gtav have files of other sizes: 1, 2"]
    assert say(data(1, 2)) == ["the images of gtav are others (2, not 3)"]
    assert say(data(1, 2, 3, prefix="x")) == ["the images of gtav are others (of other names)"]
    assert say({}) == inventory.differences({}, data(1)) == []


def test_strict_data_refuses_them(data):
    before = recorded(data(1, 2))
    inventory.check(before, data(1, 3), strict=False)
    with pytest.raises(UserError, match="other sizes: 1: not the data of the checkpoint"):
        inventory.check(before, data(1, 3), strict=True)


def compared(rank, world_size):
    """Return what this process says when the second one's files differ from the first one's."""
    said = []
    inventory.logger.warning = lambda text, *args: said.append(text % args)
    for names, sizes, strict in (
        ("ab", [1, 2], True),
        ("ab", [1, 3], False),
        ("ab", [1, 3], True),
        ("ba", [1, 2], False),
        ("a", [1], False),
    ):
        names, sizes = (names, sizes) if rank else ("ab", [1, 2])
        files = {"gtav": inventory.Inventory(list(names), torch.tensor(sizes)[:, None])}
        try:
            inventory.check_alike(files, strict)
        except UserError as error:
            said.append(f"error: {error}")
    return said


def compare_datasets(rank, world_size):
    """Return what this process says when the second one has a dataset less or more, and the hashes made."""
    hashed, said = [], []
    sha256 = inventory.hashlib.sha256
    inventory.hashlib = SimpleNamespace(sha256=lambda text: hashed.append(text) or sha256(text))
    for datasets in (["gtav", "synthia"], ["gtav"]), (["gtav"], ["gtav", "synthia"]):
        files = {name: inventory.Inventory([name], torch.tensor([[1, 0]])) for name in datasets[rank]}
        with pytest.raises(UserError) as error:
            inventory.check_alike(files, strict=False)
        said.append(str(error.value))
        assert len(hashed) == len(files)
        hashed.clear()
    return said


def test_processes_that_have_other_datasets():
    """Launched by hand on two machines with other flags. Every name is hashed once."""
    text = "on process 1 the datasets are others (synthia): not those of process 0; "
    said = [f"{text}give all machines the same data"] * 2
    assert run_processes(compare_datasets, 2) == [said] * 2


def test_processes_that_list_other_files():
    first, second = run_processes(compared, 2)
    sizes, names, number = (
        f"on process 1 {what}: not those of process 0; "
        for what in (
            "1 images of gtav have files of other sizes: b",
            "the images of gtav are others (of other names)",
            "the images of gtav are others (1, not 2)",
        )
    )
    end = "give all machines the same data"
    texts = f"error: {sizes}{end}", f"error: {names}{end}", f"error: {number}{end}"
    assert first == second == [f"{sizes}the run goes on with them", *texts]
