"""`codax` itself: help, version, and what the parser refuses."""

import ast
from pathlib import Path

import pytest

import codax as package
from codax.cli import jobs, main
from codax.cli.main import COMMANDS

NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]


def test_the_commands_are_these():
    assert NAMES == [
        "demo",
        "encode",
        "decode",
        "info",
        "tokenize",
        "evaluate",
        "train",
        "download",
        "convert",
        "publish",
    ]


@pytest.mark.parametrize("arguments", [("--help",), *((name, "--help") for name in NAMES)])
def test_help_is_printed_for_every_command(codax, arguments):
    finished = codax(*arguments).assert_succeeded("usage: codax")
    if arguments == ("--help",):
        for name in NAMES:
            assert f"    {name} " in finished.out


@pytest.mark.parametrize("module", [*COMMANDS, jobs, main], ids=lambda module: module.__name__)
def test_commands_load_what_they_need_when_they_run(module):
    """So that help, and a wrong argument, cost no more than `import codax`."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
    rooms = {name for name in modules if name.startswith("codax.") and "cli" not in name}
    assert rooms <= {"codax.errors"}
    assert not modules & {"jax", "numpy", "scipy", "soundfile", "torch", "transformers"}


def test_version_is_that_of_the_package(codax):
    assert codax("--version").assert_succeeded().out == f"codax {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("compress", "song.wav"), "invalid choice: 'compress'"),
        (("encode",), "the following arguments are required: INPUT"),
        (("encode", "song.wav", "--bitrate", "8"), "unrecognized arguments: --bitrate 8"),
        (("encode", "-song.wav"), "the following arguments are required: INPUT"),
        (("decode", "song.dac", "--format", "aac"), "invalid choice: 'aac'"),
        (("convert", "weights.pth"), "the following arguments are required: --output/-o"),
        (("info",), "the following arguments are required: subject"),
    ],
)
def test_wrong_arguments_are_refused_with_status_2(codax, arguments, complaint):
    finished = codax(*arguments)
    assert (finished.status, finished.out) == (2, "")
    assert finished.err.startswith("usage: codax")
    assert complaint in finished.err.splitlines()[-1]
