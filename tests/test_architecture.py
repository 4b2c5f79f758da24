"""Who may import whom: the arrows of the design, read from the sources."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {  # besides the ground floor
    "config": set(),
    "transforms": {"transforms"},
    "loss": set(),
    "optimizer": set(),
    "utils": set(),
    "utils/evaluation": {"utils/evaluation"},
    "utils/training": {"utils/training", "utils/evaluation"},
    "network": {"network"},
    "datasets": {"datasets", "transforms"},
}
OURS = {*(part.split("/")[0] for part in ALLOWED), "train", "eval", "scripts", "tests"}


def modules_of(part: str) -> dict[str, Path]:
    """Map the modules of a part ("network.resnet") to their files; utils is the ground floor only."""
    files = "*.py" if part == "utils" else "**/*.py"
    folder = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else (ROOT / part).glob(files)
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in folder}
    return {name.removesuffix(".__init__"): path for path, name in sorted(names.items())}


GROUND = modules_of("utils").keys()  # the ground floor
MODULES = {name: path for part in {*ALLOWED, *OURS} - {"tests"} for name, path in modules_of(part).items()}


def imported(file: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {member if member in MODULES else node.module for member in members}
    return names


def ours(file: Path) -> set[str]:
    return {name for name in imported(file) if name.split(".")[0] in OURS}


def ours_below(parts: set[str]) -> set[str]:
    return {name for part in parts for name in modules_of(part)}


@pytest.mark.parametrize("part", ALLOWED)
def test_arrows(part):
    assert modules_of(part)
    for name, file in modules_of(part).items():
        assert ours(file) <= GROUND | ours_below(ALLOWED[part]), name


def test_every_room_of_utils_has_arrows():
    rooms = {file.parent.relative_to(ROOT).as_posix() for file in (ROOT / "utils").rglob("*.py")}
    assert rooms == {part for part in ALLOWED if part.startswith("utils")}


def test_no_import_circles():
    """Repeatedly take away the modules that import none of those left: nothing is left in the end."""
    left = {name: ours(file) - {name} for name, file in MODULES.items()}
    while leaves := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in leaves}
    assert not left


def test_test_modules_import_no_other_test_module():
    """What several of them need is in tests/helpers.py, what made the golden files in tests/golden."""
    for path in (ROOT / "tests").rglob("*.py"):
        names = {name for name in imported(path) if name.split(".")[0] in ("tests", "conftest")}
        allowed = {"tests.helpers", "tests.golden.recipe"}
        assert names <= allowed, path


def test_config_needs_the_standard_library_only():
    names = imported(ROOT / "config.py") - GROUND
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_a_start_imports_no_torchvision():
    """It takes as long as torch, and --help or a mistake in a flag needs no network."""
    program = "import sys, train, eval, network.__main__; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_args_stop_at_the_doors():
    """No function but the doors (and the loaders' own helpers) takes `args`."""
    doors = {
        "network/__init__.py": {"get_net", "get_adaptation"},
        "loss.py": {"get_loss"},
        "optimizer.py": {"get_optimizer", "schedule_factor"},
    }
    for part in ALLOWED:
        for file in modules_of(part).values():
            name = file.relative_to(ROOT).as_posix()
            if name in ("datasets/loaders.py", "config.py"):
                continue
            functions = [
                node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)
            ]
            taking = {f.name for f in functions if "args" in {a.arg for a in f.args.args}}
            assert taking <= doors.get(name, set()), name


@pytest.mark.parametrize(("file", "most"), [("train.py", 299), ("README.md", 219)])
def test_what_is_read_first_stays_short(file, most):
    assert len((ROOT / file).read_text().splitlines()) <= most


def test_python_files_named_in_readmes_exist():
    """A name may leave out the folders above it. datasets/acme.py is the dataset that a recipe adds."""
    folders = [ROOT / part for part in OURS if (ROOT / part).is_dir()]
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    texts = [ROOT / "README.md", *(text for folder in folders for text in folder.rglob("README.md"))]
    for text in texts:
        for name in {*re.findall(r"`([\w/]+\.py)`", text.read_text())} - {"datasets/acme.py"}:
            assert any(file.as_posix().endswith(f"/{name}") for file in files), (text, name)


LARGER = {  # than 60 lines or 6 parameters, for a reason
    "config.py _source_data": "one flag after the other",
    "config.py _adaptation": "one flag after the other",
    "datasets/class_uniform.py __init__": "the flags of class-uniform sampling",
    "datasets/loaders.py _loader": "the options of a DataLoader",
    "loss.py __init__": "the flags of the main loss",
    "network/adaptation.py __init__": "the constants of DA-SAC",
    "scripts/figure/axis.py axis": "where an axis is drawn",
    "transforms/presets.py train": "the flags of the augmentation",
    "transforms/presets.py target_views": "the constants of DA-SAC's views",
    "utils/evaluation/inference.py predict": "the protocol of an evaluation",
    "utils/evaluation/inference.py _classify_large": "the same",
    "utils/training/run.py __init__": "the folders of a run",
    "utils/training/saving.py save": "the kinds of checkpoints",
}


def test_functions_are_short_and_take_few_parameters():
    found = set()
    for file in MODULES.values():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                if node.end_lineno - node.lineno >= 60 or len(names - {"self", "cls"}) > 6:
                    found.add(f"{file.relative_to(ROOT).as_posix()} {node.name}")
    assert found == LARGER.keys()
