"""`-`: standard input and output in the place of files."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from codax.errors import CodaxError

if TYPE_CHECKING:
    from codax.codec import LazyAudio

STANDARD = Path("-")
NAME = "standard input"
MOST_IN_MEMORY = 1 << 26  # bytes of standard input; beyond it, a temporary file


def is_used(options: argparse.Namespace) -> bool:
    """Whether standard input is read or standard output written.

    Raises `CodaxError` for what does not go with that.
    """
    if STANDARD not in (*options.inputs, options.output):
        return False
    if None in (sys.stdin, sys.stdout):
        raise CodaxError("-: standard input or output is closed")
    if len(options.inputs) != 1 or options.inputs[0].is_dir():
        raise CodaxError("-: standard input or output goes with one INPUT, a file or -")
    if writes_output(options):
        if options.json:
            raise CodaxError("--json: standard output is taken by what is written to -")
        if sys.stdout.isatty():
            raise CodaxError("-: standard output is a terminal; give --output, or pipe it")
    return True


def writes_output(options: argparse.Namespace) -> bool:
    """Whether the result goes to standard output: from standard input it does by default."""
    return options.output in (STANDARD, None)


def name_of(options: argparse.Namespace) -> str:
    """What errors call the only input."""
    (given,) = options.inputs
    return NAME if given == STANDARD else str(given)


class _StandardInput(tempfile.SpooledTemporaryFile):
    """Its content, as a file that can be read more than once."""

    @property
    def name(self) -> str:
        return NAME


@contextlib.contextmanager
def opened_input(options: argparse.Namespace) -> Iterator[Path | BinaryIO]:
    """The only input: its path, or standard input as a file that can be read more than once."""
    (given,) = options.inputs
    if given != STANDARD:
        yield given
        return
    with _StandardInput(max_size=MOST_IN_MEMORY) as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.seek(0)
        yield file  # pyright: ignore[reportReturnType] (it is one in all but name)


@contextlib.contextmanager
def output_path(options: argparse.Namespace, suffix: str) -> Iterator[Path]:
    """A path to write to; what stands there goes to standard output, if that is wanted.

    `-` where a .wav file goes to standard output, which `play` writes as it is made.
    """
    if not writes_output(options):
        yield options.output
        return
    if suffix == ".wav":
        yield STANDARD
        return
    with tempfile.TemporaryDirectory(prefix="codax-") as folder:
        path = Path(folder, f"output{suffix}")
        yield path
        with path.open("rb") as file, _unbroken_output() as output:
            shutil.copyfileobj(file, output)


def play(audio: "LazyAudio") -> None:
    """To standard output, as WAV, each piece as soon as it is there."""
    with _unbroken_output() as output:
        audio.write_wav(output)


@contextlib.contextmanager
def _unbroken_output() -> Iterator[BinaryIO]:
    """Standard output. Where its reader has left, what is still to be written goes nowhere."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
