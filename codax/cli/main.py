"""The `codax` command: parses, runs, and turns every error into one line and an exit status."""

import argparse
import io
import sys
from collections.abc import Sequence

from codax import __version__
from codax.cli import (
    convert,
    decode,
    demo,
    download,
    encode,
    evaluate,
    info,
    publish,
    tokenize,
    train,
)
from codax.cli.jobs import FAILURES
from codax.cli.kept_programs import keep_programs
from codax.errors import one_line

COMMANDS = (
    demo,
    encode,
    decode,
    info,
    tokenize,
    evaluate,
    train,
    download,
    convert,
    publish,
)

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failure, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may be anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        keep_programs()
        return options.run(options)
    except KeyboardInterrupt:
        print("codax: interrupted; no file is half-written", file=sys.stderr)
        return INTERRUPTED
    except FAILURES as error:
        print(f"codax: {one_line(error)}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codax", description="Neural audio codecs: compress audio files, and bring them back."
    )
    parser.add_argument("--version", action="version", version=f"codax {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser
