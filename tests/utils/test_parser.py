"""The command lines of all programs: abbreviations, errors, and the defaults that help shows."""

import argparse
import ast
import sys
from importlib import import_module

import pytest

from tests.helpers import ROOT
from utils.errors import UserError
from utils.parser import Parser, one_sentence

PROGRAMS = {  # the modules that make a Parser, with the function to call
    "scripts.benchmark.__main__": "main",
    "scripts.class_weights": "main",
    "scripts.compare": "main",
    "scripts.demo_adaptation": "main",
    "scripts.figure.__main__": "main",
    "scripts.prepare_data": "main",
    "scripts.study.__main__": "main",
    "scripts.study.clusters": "main",
    "scripts.study.probe": "main",
    "scripts.summarize": "main",
    "datasets.toy_city.__main__": "main",
    "network.__main__": "main",
}


class Found(Exception):
    """Ends a program where it parses its command line."""


def parser_of(module, monkeypatch):
    """Return the Parser with which a program parses."""

    def parse_args(self, *argv):
        raise Found(self)

    monkeypatch.setattr(Parser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", [module])
    with pytest.raises(Found) as found:
        getattr(import_module(module), PROGRAMS[module])()
    return found.value.args[0]


def with_commands(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from with_commands(command)


def makes(file, name):
    calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return name in {getattr(call, "attr", getattr(call, "id", None)) for call in calls}


def test_every_program_has_this_parser():
    files = [
        path for part in ("scripts", "datasets", "network", "utils") for path in (ROOT / part).rglob("*.py")
    ]
    files += [ROOT / "config.py", ROOT / "train.py", ROOT / "eval.py"]
    assert not [file for file in files if makes(file, "ArgumentParser")]
    making = {".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files if makes(f, "Parser")}
    assert making - {"config"} == PROGRAMS.keys()


@pytest.mark.parametrize("module", PROGRAMS)
def test_every_flag_has_help_and_shows_its_default(module, monkeypatch):
    for parser in with_commands(parser_of(module, monkeypatch)):
        text = parser.format_help().partition("options:")[2]
        flags = [action for action in parser._actions if action.option_strings and action.dest != "help"]
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (parser.prog, action.dest)
        assert text.count("default:") + text.count("(required)") == len(flags), parser.prog


def test_defaults_are_shown_as_they_are_typed():
    parser = Parser()
    parser.add_argument("--codes", nargs="*", default=[0, 2], help="codes")
    parser.add_argument("--fast", action="store_true", help="fast")
    parser.add_argument("--name", help="name")
    parser.add_argument("--share", default="5%", help="share")
    parser.add_argument("--size", type=int, help="size; default: that of the image")
    parser.add_argument("--out", required=True, help="file")
    text = " ".join(parser.format_help().split())
    for shown in (
        "codes (default: 0 2)",
        "fast (default: off)",
        "name (default: not set)",
        "share (default: 5%)",
        "size; default: that of the image --out",
        "file (required)",
    ):
        assert shown in text


def test_no_abbreviations_and_flags_of_a_command_are_suggested():
    parser = Parser()
    commands = parser.add_subparsers(dest="what")
    commands.add_parser("run").add_argument("--arch")
    assert parser.parse_args(["run", "--arch", "x"]).arch == "x"
    with pytest.raises(UserError, match="unrecognized arguments: --arc x; did you mean --arch"):
        parser.parse_args(["run", "--arc", "x"])
    with pytest.raises(UserError, match="invalid choice: 'rum'"):
        parser.parse_args(["rum"])


def test_one_sentence(capsys):
    with pytest.raises(SystemExit) as end, one_sentence():
        raise UserError("what is wrong")
    assert end.value.code == 2 and capsys.readouterr().err == "error: what is wrong\n"
    with pytest.raises(ValueError, match="unpack"), one_sentence():
        raise ValueError("too many values to unpack")
