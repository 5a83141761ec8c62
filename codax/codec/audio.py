"""Samples with their rate, and the files that they are saved to."""

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from codax.errors import AudioError
from codax.feature_extraction import limit_peak
from codax.files import atomic_path

# What is written for each suffix: 16 bits where the format has a choice, as players expect.
OUTPUT_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}

UNCLIPPED_SUBTYPES = ("FLOAT", "DOUBLE")

SAMPLES_AT_ONCE = 2**16

WAV_HEADER = 44  # bytes
BYTES_PER_SAMPLE = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}  # others have 8 at most
MOST_WAV_BYTES = 2**32 - 1 - WAV_HEADER

FULL_SCALE = 0.99
"""The largest magnitude that `Audio.without_clipping` leaves."""

NON_FINITE = "there are samples that are no finite numbers"


@dataclass(frozen=True, eq=False)
class Audio:
    """Audio in memory: samples float32 [C, T], nominally in [-1, 1], at `sampling_rate` Hz."""

    samples: np.ndarray
    sampling_rate: int

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    @property
    def num_samples(self) -> int:
        return self.samples.shape[1]

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sampling_rate

    def without_clipping(self, peak: float = FULL_SCALE) -> "Audio":
        """Turned down, all channels alike, until no sample exceeds `peak`; or as it is."""
        self._require_finite()
        return Audio(limit_peak(self.samples, peak), self.sampling_rate)

    def save(self, path: str | os.PathLike, subtype: str | None = None) -> Path:
        """Write an audio file, in the format that the suffix names; whole or not at all.

        Integer formats clip at full scale. subtype: soundfile's name of another sample format
        ("FLOAT", "PCM_24"); by default `OUTPUT_SUBTYPES`, 16-bit PCM for .wav and .flac.

        Raises `AudioError` for a suffix, subtype, rate or number of channels that the format does
        not have and for samples that are NaN or infinite, `OSError` where the file cannot be
        written.
        """
        shape = self.channels, self.num_samples
        return _write(path, [self.samples], self.sampling_rate, shape, subtype)

    def to_bytes(self, file_format: str = "wav", subtype: str | None = None) -> bytes:
        """The content of the file that `save` would write. file_format: its suffix, without a dot

        Raises `AudioError` as `save` does.
        """
        _require_known(f".{file_format}")
        file = io.BytesIO()
        shape = self.channels, self.num_samples
        _write_file(file, f".{file_format}", [self.samples], self.sampling_rate, shape, subtype)
        return file.getvalue()

    def _require_finite(self) -> None:
        if not np.isfinite(self.samples).all():
            raise AudioError(NON_FINITE)


class LazyAudio:
    """Audio that is made while it is read, which is possible once.

    sampling_rate: Hz; channels; num_samples: in all
    iterating: blocks float32 [C, n]. Errors of making them appear there, and in `read` and `save`;
        `ValueError` the second time.
    """

    def __init__(
        self, blocks: Iterator[np.ndarray], sampling_rate: int, channels: int, num_samples: int
    ):
        self._blocks: Iterator[np.ndarray] | None = blocks
        self.sampling_rate = sampling_rate
        self.channels = channels
        self.num_samples = num_samples

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sampling_rate

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._blocks is None:
            raise ValueError("this audio has been read, which is possible once: decode it again")
        blocks, self._blocks = self._blocks, None
        return blocks

    def read(self) -> Audio:
        """All of it, in memory."""
        nothing = np.zeros((self.channels, 0), np.float32)
        return Audio(np.concatenate([nothing, *self], axis=1), self.sampling_rate)

    def save(self, path: str | os.PathLike, subtype: str | None = None) -> Path:
        """As `Audio.save`."""
        shape = self.channels, self.num_samples
        return _write(path, iter(self), self.sampling_rate, shape, subtype)

    def write_wav(self, file: BinaryIO) -> None:
        """As a 16-bit WAV file, to a file object or pipe that need not be able to seek.

        Every block is written, and flushed, as soon as it is there. Where there are more than 4 GiB
        the header tells of as many as it can.
        """
        frame = 2 * self.channels
        size = min(frame * self.num_samples, MOST_WAV_BYTES // frame * frame)
        fields = (1, self.channels, self.sampling_rate, frame * self.sampling_rate, frame, 16)
        header = struct.pack("<4sI4s4sI", b"RIFF", WAV_HEADER - 8 + size, b"WAVE", b"fmt ", 16)
        header += struct.pack("<HHIIHH4sI", *fields, b"data", size)
        sink = _HonestFile(_Pipe(file, header))
        try:
            _write_blocks(sink, self, self.sampling_rate, self.channels, "RAW", "PCM_16", "")
        finally:
            sink.tell_failure()


def _write(
    path: str | os.PathLike,
    blocks: Iterable[np.ndarray],
    sampling_rate: int,
    shape: tuple[int, int],
    subtype: str | None,
) -> Path:
    """Blocks of audio of `shape`, (channels, samples in all)."""
    path = Path(path)
    suffix = path.suffix.lower()
    _require_known(suffix, f"{path}: ")
    with atomic_path(path) as temporary, open(temporary, "r+b", buffering=0) as file:
        _write_file(file, suffix, blocks, sampling_rate, shape, subtype, f"{path}: ")
    return path


def _require_known(suffix: str, prefix: str = "") -> None:
    if suffix not in OUTPUT_SUBTYPES:
        raise AudioError(f"{prefix}audio is written as {', '.join(OUTPUT_SUBTYPES)}, not {suffix}")


def _write_file(
    file: FileIO | io.BytesIO,
    suffix: str,
    blocks: Iterable[np.ndarray],
    sampling_rate: int,
    shape: tuple[int, int],
    subtype: str | None,
    prefix: str = "",
) -> None:
    """As `_write`, to a file that is open. prefix: of errors"""
    file_format = suffix[1:].upper()
    subtype = subtype or OUTPUT_SUBTYPES[suffix]
    num_bytes = BYTES_PER_SAMPLE.get(subtype, 8) * math.prod(shape)
    if file_format == "WAV" and num_bytes > MOST_WAV_BYTES - SAMPLES_AT_ONCE:  # for its header
        file_format = "RF64"  # the same, for sizes of 64 bits
    sink = _HonestFile(file)
    try:
        _write_blocks(sink, blocks, sampling_rate, shape[0], file_format, subtype, prefix)
    finally:
        sink.tell_failure()


def _write_blocks(
    file: Any,
    blocks: Iterable[np.ndarray],
    sampling_rate: int,
    channels: int,
    file_format: str,
    subtype: str,
    prefix: str,
) -> None:
    """In blocks, since libsndfile's Vorbis encoder puts as much on the stack as it is given.

    Clipped here, since its MP3 encoder ends the process for samples of 1e10 and beyond.
    """
    clips = subtype not in UNCLIPPED_SUBTYPES
    endian = "LITTLE" if file_format == "RAW" else None
    try:
        opened = soundfile.SoundFile(
            file, "w", sampling_rate, channels, subtype, endian, file_format
        )
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(f"{prefix}{error}") from error
    with opened:
        for block in blocks if file_format == "RAW" else _resized(blocks, SAMPLES_AT_ONCE):
            if not np.isfinite(block).all():
                raise AudioError(f"{prefix}{NON_FINITE}")
            try:
                opened.write(block.T.clip(-1, 1) if clips else block.T)
            except soundfile.SoundFileError as error:
                raise AudioError(f"{prefix}{error}") from error
            file.tell_failure()


def _resized(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples [C, n] in blocks of `size`, and the rest: Vorbis minds where they end."""
    held: list[np.ndarray] = []
    missing = size
    for block in blocks:
        while block.shape[1] >= missing:
            yield np.concatenate([*held, block[:, :missing]], axis=1)
            held, block, missing = [], block[:, missing:], size
        held.append(block)
        missing -= block.shape[1]
    if missing < size:
        yield np.concatenate(held, axis=1)


class _Pipe:
    """A file that only goes on, for libsndfile, which asks where it is.

    header: what is written before all else, once there is something
    """

    def __init__(self, file: BinaryIO, header: bytes):
        self._file = file
        self._header = header
        self._position = 0

    def write(self, data: bytes | memoryview) -> int:
        self._file.write(self._header + bytes(data))
        self._file.flush()
        self._header = b""
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def seek(self, *_: int) -> int:
        return self._position

    def read(self, _: int) -> bytes:
        return b""


class _HonestFile:
    """An unbuffered file that remembers a failure to write, of which libsndfile does not tell."""

    def __init__(self, file: FileIO | io.BytesIO | _Pipe):
        self._file = file
        self._failure: OSError | None = None
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest and self._failure is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._failure = error
        return len(data)

    def tell_failure(self) -> None:
        """Raise the `OSError` that there was."""
        if self._failure is not None:
            raise self._failure
