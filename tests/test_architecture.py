"""Who may import whom: the arrows of the design, read from the sources."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "config": set(),
    "transforms": {"transforms"},
    "loss": set(),
    "optimizer": set(),
    "utils": {"utils"},
    "network": {"network"},
    "datasets": {"datasets", "transforms"},
}
OURS = {*ALLOWED, "train", "eval", "scripts", "tests"}


def imported(file: Path) -> set[str]:
    """Top-level names of the modules a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def files(part: str) -> list[Path]:
    return [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else sorted((ROOT / part).glob("**/*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_arrows(part):
    assert files(part)
    for file in files(part):
        assert (imported(file) & OURS) <= ALLOWED[part], file


def test_config_needs_the_standard_library_alone():
    assert imported(ROOT / "config.py") <= sys.stdlib_module_names


def test_args_stop_at_the_doors():
    """No function but the doors (and the loaders' own helpers) takes `args`."""
    doors = {"network/__init__.py": {"get_net", "get_adaptation"}, "optimizer.py": {"get_optimizer"}}
    for part in ALLOWED:
        for file in files(part):
            name = file.relative_to(ROOT).as_posix()
            if name in ("datasets/loaders.py", "config.py"):
                continue
            functions = [
                node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)
            ]
            taking = {f.name for f in functions if "args" in {a.arg for a in f.args.args}}
            assert taking <= doors.get(name, set()), name


def test_train_stays_readable():
    assert len((ROOT / "train.py").read_text().splitlines()) < 300
