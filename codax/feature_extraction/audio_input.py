"""Audio of any kind in, finite float32 samples out."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from codax.errors import AudioError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
"""The suffixes of common formats that libsndfile reads; `.m4a` and `.aac` are not among them."""

_SF_ERR_UNRECOGNISED_FORMAT = 1  # sndfile.h
_BLOCK_SIZE = 1 << 22  # samples over all channels that one read asks for

# (dtype kind, bytes) -> (the value of silence, full scale)
_PCM = {
    ("u", 1): (2**7, 2**7),
    ("i", 1): (0, 2**7),
    ("i", 2): (0, 2**15),
    ("i", 4): (0, 2**31),
}


def read_audio(source: str | os.PathLike | bytes | BinaryIO) -> tuple[np.ndarray, int]:
    """Read a whole audio file, whatever format libsndfile recognises in its content.

    source: a path, the bytes of a file, or a binary file object, which is read from where it stands
    -> samples float32 [C, T] and the sampling rate in Hz. Integer formats are scaled to [-1, 1);
    float formats are returned as stored, beyond 1 too. A file without audio gives [C, 0].

    Raises `AudioError`, naming the file and the reason, where the content is no readable audio or
    holds NaN or infinity, and `OSError` where the path cannot be opened.
    """
    if isinstance(source, str | os.PathLike):
        name, content = os.fspath(source), Path(source).read_bytes()
    elif isinstance(source, bytes):
        name, content = "audio bytes", source
    else:
        name, content = str(getattr(source, "name", "audio file object")), source.read()
    if not isinstance(content, bytes):
        raise AudioError(f"{name}: opened as text; audio is read from files opened in mode 'rb'")
    samples, sampling_rate = _decode(content, name)
    _refuse_non_finite(samples, name)
    return samples, sampling_rate


def as_float_audio(array: ArrayLike, name: str = "audio") -> np.ndarray:
    """Convert samples of any usual type to float32.

    array: [...], floating point, or PCM as int8, int16, int32 or uint8 (silence at 128), which is
    divided by its full scale -> float32 [...], finite. PCM lands in [-1, 1), but for the topmost
    int32 values, which round to 1. May share memory with `array`. `name` is what errors call it.

    Other integers have no full scale to divide by, so int64, which is what a list of Python
    integers becomes, is refused like bool, complex and object.

    Raises `AudioError` for such types, for ragged lists, and for NaN or infinity, whose position it
    names.
    """
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise AudioError(f"{name}: rows of different lengths do not make an array") from error
    dtype = array.dtype
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite below
            samples = array.astype(np.float32, copy=False)
    elif (dtype.kind, dtype.itemsize) in _PCM:
        silence, full_scale = _PCM[dtype.kind, dtype.itemsize]
        samples = (array.astype(np.float32) - np.float32(silence)) / np.float32(full_scale)
    else:
        raise AudioError(
            f"{name}: samples of type {dtype}; they must be floats, or PCM as int8, int16, int32 "
            "or uint8"
        )
    _refuse_non_finite(samples, name)
    return samples


def _decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            return _read_samples(file), file.samplerate
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        if error.code == _SF_ERR_UNRECOGNISED_FORMAT:
            reason = (
                f"no audio format that can be read ({' '.join(AUDIO_SUFFIXES)}); "
                "convert .m4a, .aac and others to .wav first"
            )
        raise AudioError(f"{name}: {reason}") from error


def _read_samples(file: soundfile.SoundFile) -> np.ndarray:
    """Read block by block until no more comes: a header may promise 2**36 frames of nothing."""
    block_frames = _BLOCK_SIZE // file.channels
    blocks: list[np.ndarray] = [np.zeros((0, file.channels), np.float32)]
    while len(block := file.read(block_frames, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.ascontiguousarray(np.concatenate(blocks).T)


def _refuse_non_finite(samples: np.ndarray, name: str) -> None:
    finite = np.isfinite(samples)
    if finite.all():
        return
    index = np.unravel_index(np.argmin(finite), samples.shape)
    position = ", ".join(str(axis_index) for axis_index in index)
    raise AudioError(
        f"{name}: the sample at [{position}] is {samples[index]}; audio must be finite"
    )
