"""Running the `codax` command in a process of its own, and what every failure has in common."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from codax import EncodedAudio

REPOSITORY = Path(__file__).parents[2]
RATE = 8000
NUM_SAMPLES = 99  # of nearly all clips, since every other length costs a compilation


@dataclass
class Finished:
    """Exit status and output of one command."""

    status: int
    out: str
    err: str

    def assert_succeeded(self, *words):
        """Without a word on stderr; says all `words` on stdout."""
        assert (self.status, self.err) == (0, "")
        for word in words:
            assert str(word) in self.out
        return self

    def assert_failed(self, *words):
        """With exactly one line, which says all `words`."""
        assert self.status == 1, self
        assert self.err.endswith("\n"), self
        assert len(self.err.splitlines()) == 1, self
        _assert_says(self.err, words)
        return self

    def assert_failed_in_part(self, summary, *failures):
        """With a line for each failed file, which says all its words, and the summary."""
        assert self.status == 1, self
        *lines, last = self.err.splitlines()
        assert len(lines) == len(failures), self
        for line, words in zip(lines, failures, strict=True):
            _assert_says(line, words)
        assert last == f"codax: {summary}"
        return self


def _assert_says(line, words):
    assert line.startswith("codax: ")
    assert "Traceback" not in line
    for word in words:
        assert str(word) in line


def start(*arguments, script=None, **environment):
    """Start `python -m codax`, or a Python script, in the current folder, without network.

    And without torch, which transformers would take seconds to import.
    """
    code = ["-m", "codax"] if script is None else ["-c", script]
    return subprocess.Popen(
        [sys.executable, *code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "HF_HUB_OFFLINE": "1",
            "USE_TORCH": "0",
            **environment,
        },
    )


def finish(process, timeout_s=100):
    """Wait for a process that `start` started."""
    out, err = process.communicate(timeout=timeout_s)
    return Finished(process.returncode, out, err)


def write_audio(path, channels=1, num_samples=NUM_SAMPLES, sampling_rate=RATE, **options):
    """Noise, in the format that the suffix names."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 0.1, (num_samples, channels))
    with path.open("wb") as file:  # libsndfile takes no name that is not UTF-8
        options.setdefault("format", path.suffix[1:].upper())
        soundfile.write(file, noise, sampling_rate, **options)
    return path


def write_codes(path, codes=None, **changes):
    """A `.dac` file, of the tiny model unless told otherwise; codes [C, K, F]."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = np.zeros((1, 3, 11), int) if codes is None else codes
    fields = {
        "sampling_rate": RATE,
        "num_samples": NUM_SAMPLES,
        "input_db": -20.0,
        "chunk_frames": codes.shape[-1],
        "padding": True,
    }
    EncodedAudio(codes, **{**fields, **changes}).save(path)
    return path


@contextmanager
def left_as_it_was(output, old_content):
    """Whatever runs meanwhile changes no file, nor `output`: `old_content`, or None for no file."""
    if old_content is not None:
        Path(output).write_text(old_content)
    before = files_below()
    yield
    assert files_below() == before
    assert old_content is None or Path(output).read_text() == old_content


def files_below(folder="."):
    """Every file and folder, hidden ones too, as sorted text."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
