"""The folder of an evaluation."""

from utils.evaluation.folder import ResultFolder


def test_unfinished_files_of_a_dead_evaluation_are_removed(tmp_path):
    folder = ResultFolder(tmp_path / "eval", "val")
    (folder.progress("gtav")).mkdir(parents=True)
    for place in (folder.path, folder.progress("gtav")):
        (place / ".0123456789abcdef.partial").touch()
    folder.check_writable()
    assert not list(tmp_path.rglob("*.partial"))
