"""Events that are written at once and continued; a full disk costs only events."""

import shutil

import torch

from tests.helpers import event_list
from utils.logging import setup
from utils.training.events import EventWriter, whole_records


def write(writer, *steps):
    for step in steps:
        writer.add_scalar("loss", step / 4, step)


def tags(folder):
    return [(tag, step) for tag, step, _ in event_list(folder)]


def test_events_are_there_before_the_writer_is_closed(tmp_path):
    writer = EventWriter(tmp_path / "tb")
    write(writer, 1)
    writer.add_image("picture", torch.zeros(3, 2, 2, dtype=torch.uint8), 2)
    writer.add_text("text", "a *b*", 0)
    assert tags(tmp_path) == [("loss", 1), ("picture", 2), ("text/text_summary", 0)]
    writer.close()


def test_a_continued_file_loses_what_came_after_the_position(tmp_path):
    writer = EventWriter(tmp_path / "tb")
    write(writer, 1, 2)
    position = writer.position()
    write(writer, 3)
    writer.close()
    with (tmp_path / "tb" / position["file"]).open("ab") as file:
        file.write(b"half")  # of a record
    again = EventWriter(tmp_path / "tb", position)
    write(again, 3, 4)
    again.close()
    assert tags(tmp_path) == [("loss", step) for step in (1, 2, 3, 4)]


def test_a_folder_that_is_removed_is_made_again(tmp_path, capsys):
    """With the next checkpoint, which counts what is in the new file."""
    setup()
    writer = EventWriter(tmp_path / "tb")
    write(writer, 1)
    shutil.rmtree(tmp_path / "tb")
    position = writer.position()
    write(writer, 2)
    EventWriter(tmp_path / "tb", position).close()
    assert tags(tmp_path) == []
    write(writer, 3)
    assert tags(tmp_path) == [("loss", 3)]
    writer.close()
    assert capsys.readouterr().out.count("was removed: its curves lack what was before") == 1


def test_a_position_within_a_record_keeps_the_whole_ones(tmp_path):
    writer = EventWriter(tmp_path / "tb")
    write(writer, 1)
    end = writer.position()["bytes"]
    write(writer, 2)
    writer.close()
    path = tmp_path / "tb" / writer.position()["file"]
    assert whole_records(path, end + 5) == whole_records(path, end) == end


def test_a_damaged_length_costs_no_event_after_it(tmp_path):
    writer = EventWriter(tmp_path / "tb")
    write(writer, 1, 2)
    position = writer.position()
    writer.close()
    file = tmp_path / "tb" / position["file"]
    data = bytearray(file.read_bytes())
    data[3] ^= 64
    file.write_bytes(data)
    EventWriter(tmp_path / "tb", position).close()
    assert file.read_bytes() == data


def test_lost_events_are_named(tmp_path, capsys):
    setup()
    EventWriter(tmp_path / "tb", {"file": "events.lost", "bytes": 9}).close()
    EventWriter(tmp_path / "tb", {"file": "events.empty", "bytes": 0}).close()
    printed = capsys.readouterr().out
    assert f"events.lost, are not in {tmp_path / 'tb'}" in printed and "empty" not in printed


def test_a_full_disk_drops_events_with_one_warning(tmp_path, capsys):
    setup()
    writer = EventWriter(tmp_path / "tb")
    size = writer.position()["bytes"]
    real, writer.file = writer.file, open("/dev/full", "ab", buffering=0)
    write(writer, 1, 2)
    assert (writer.dropped, writer.position()["bytes"]) == (2, size)
    writer.file.close()
    writer.file = real
    write(writer, 3)
    writer.close()
    assert tags(tmp_path) == [("loss", 3)]
    writer.close()
    assert capsys.readouterr().out.count("No space left on device") == 1
