import json

import torch

from utils.evaluation.counts import Counts
from utils.evaluation.fingerprint import ENDS, fingerprint, fingerprints
from utils.evaluation.records import Finished, finished_images, line_of, read_settings, write_settings

CONFUSION = torch.tensor([[2**40, 3], [0, 5]])
COUNTS = Counts(CONFUSION)


def test_every_flipped_bit_is_noticed(tmp_path):
    """Of two lines the flipped one is dropped, both where the flip joins them; or the line reads the same."""
    good = line_of("a", Finished(COUNTS, "f1")).encode() + line_of("b", Finished(COUNTS, "f2")).encode()
    file = tmp_path / "process_0.jsonl"
    for bit in range(0, 8 * len(good), 3):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        images, damaged = finished_images(tmp_path)
        assert set(images) <= {"a", "b"} and 1 <= len(images) + damaged <= 3
        for name, image in images.items():
            assert torch.equal(image.counts.confusion, CONFUSION)
            assert image.data == {"a": "f1", "b": "f2"}[name]


def test_lines_of_an_earlier_version(tmp_path):
    line = {"name": "../a", "classes": 2, "cells": [0], "counts": [7]}
    broken = [{}, [], {**line, "cells": [9]}, {**line, "cells": [0, 1]}, {**line, "classes": "x"}]
    text = "".join(json.dumps(item) + "\n" for item in [line, *broken])
    (tmp_path / "finished.jsonl").write_text(text)
    images, damaged = finished_images(tmp_path, lines_format=1)
    (name,) = images
    assert ".." not in name and damaged == len(broken)
    assert images[name].counts.confusion.tolist() == [[7, 0], [0, 0]]
    assert finished_images(tmp_path) == ({}, 1 + len(broken))


def test_settings(tmp_path):
    assert read_settings(tmp_path) == ({}, 2)
    write_settings(tmp_path, {"scales": (0.5, 1 / 3)})
    assert read_settings(tmp_path) == ({"scales": [0.5, 1 / 3]}, 2)
    text = (tmp_path / "settings.json").read_text()
    (tmp_path / "settings.json").write_text(text.replace("0.5", "0.6"))
    assert read_settings(tmp_path) == (None, 2)
    (tmp_path / "settings.json").write_text('{"scales": [0.5]}')
    assert read_settings(tmp_path) == ({"scales": [0.5]}, 1)


def test_fingerprints(tmp_path):
    """Sizes, first and last bytes count; folders, times and the middle of large files do not."""
    content = bytes(range(256)) * (3 * ENDS // 256)
    for name, data in (
        ("one/a", content),
        ("two/a", content),
        ("b", content[:-1] + b"x"),
        ("c", b"x" + content[1:]),
        ("d", content + b"\0"),
        ("middle", content[: 3 * ENDS // 2] + b"x" + content[3 * ENDS // 2 + 1 :]),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = fingerprints(
        {n: (tmp_path / n, None) for n in ("one/a", "two/a", "b", "c", "d", "middle", "none")}
    )
    assert found["one/a"] == found["two/a"] == found["middle"]
    assert len(set(found.values())) == 5
    assert fingerprint([None, tmp_path / "b"]) != found["b"]
