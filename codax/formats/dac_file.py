"""`.dac` files, the format of descript-audio-codec. Specified in docs/formats.md."""

import io
import os
import stat
from collections.abc import Set
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from codax.errors import FormatError
from codax.files import atomic_path
from codax.formats.encoded_audio import EncodedAudio
from codax.formats.numpy_pickle import read_pickled_npy, recorded_array, shown

DAC_VERSION = "1.0.0"
"""Of the file format. descript-audio-codec 1.0.0 and DAC-JAX write and read no other."""

MAX_FILE_BYTES = 1 << 30
"""A week of 44.1 kHz mono at 8 kbps."""

MAX_CODE = np.iinfo(np.uint16).max

_READ_BYTES = 1 << 20
_MAX_INT = np.iinfo(np.int64).max

_ARTIFACTS = frozenset({"codes", "metadata"})
_METADATA = frozenset(
    {"input_db", "original_length", "sample_rate", "chunk_length", "channels", "dac_version"}
)

# Samples per frame of the published models, by their sampling rate (docs/formats.md, "DAC-JAX").
_PUBLISHED_HOP_LENGTHS = {44100: 512, 24000: 320, 16000: 320}


def read_dac(source: str | os.PathLike | bytes | BinaryIO) -> EncodedAudio:
    """Read a `.dac` file by path, from its bytes or from an open binary file.

    Files of descript-audio-codec 1.0.0 and of DAC-JAX are read, written with any numpy. No code in
    the file is run: it is not unpickled (see `numpy_pickle`).

    Raises `FormatError`, in one line that names the file, for one that is damaged, hostile, of
    another version or over 1 GiB; `OSError` for one that cannot be opened.
    """
    name = _name(source)
    try:
        return _encoded_audio(read_pickled_npy(_content(source)))
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from error


def write_dac(encoded: EncodedAudio, path: str | os.PathLike) -> None:
    """Write `encoded` so that descript's `DACFile.load` reads it; the file is whole or absent.

    Raises `FormatError` where `path` does not end in `.dac` or a code exceeds 16 bits, `OSError`
    naming `path` where it cannot be written.
    """
    if Path(path).suffix.lower() != ".dac":
        raise FormatError(f"{path}: the suffix is {Path(path).suffix!r}, allowed: .dac")
    content = dac_bytes(encoded)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def dac_bytes(encoded: EncodedAudio) -> bytes:
    """The content of the `.dac` file that `write_dac` writes.

    Raises `FormatError` where a code exceeds 16 bits.
    """
    _check_sixteen_bits(encoded.codes)
    input_db = encoded.input_db
    artifacts = {
        "codes": encoded.codes.astype(np.uint16),
        "metadata": {
            "input_db": input_db if input_db is None else np.array(input_db, np.float32, ndmin=1),
            "original_length": encoded.num_samples,
            "sample_rate": encoded.sampling_rate,
            "chunk_length": encoded.chunk_frames,
            "channels": encoded.channels,
            "padding": encoded.padding,
            "dac_version": DAC_VERSION,
        },
    }
    buffer = io.BytesIO()
    np.save(buffer, np.array(artifacts, dtype=object))
    return buffer.getvalue()


def _name(source: str | os.PathLike | bytes | BinaryIO) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", f"<{type(source).__name__}>"))


def _content(source: str | os.PathLike | bytes | BinaryIO) -> bytes:
    """All bytes of the file, read only once their number is known to be allowed."""
    if isinstance(source, bytes):
        _check_size(len(source))
        return source
    if not isinstance(source, str | os.PathLike):
        return _content_of_open_file(source)
    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError("is not a regular file, allowed: a file, or the bytes of one")
    _check_size(status.st_size)
    return Path(source).read_bytes()


def _content_of_open_file(file: BinaryIO) -> bytes:
    """It may be a pipe, which has no size and no end."""
    content = bytearray()
    while block := file.read(_READ_BYTES):
        content += block
        _check_size(len(content))
    return bytes(content)


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_FILE_BYTES:
        raise FormatError(f"has {num_bytes} bytes or more, allowed: up to {MAX_FILE_BYTES}")


def _encoded_audio(artifacts: Any) -> EncodedAudio:
    """Check what the file holds, field by field."""
    artifacts = _dict_of(artifacts, "the file", required=_ARTIFACTS)
    metadata = _metadata(artifacts["metadata"])
    codes = _codes(artifacts["codes"])
    channels = _positive_int(metadata, "channels")
    if codes.shape[0] != channels:
        raise FormatError(
            f"codes have shape {codes.shape} for channels {channels}, allowed: the codes of one "
            "clip; a batch of several clips in one file cannot be read"
        )
    num_samples = _positive_int(metadata, "original_length")
    sampling_rate = _positive_int(metadata, "sample_rate")
    chunk_frames = _positive_int(metadata, "chunk_length")
    padding = metadata.get("padding")
    if padding is None:
        codes = _dac_jax_codes(codes, chunk_frames)
        padding = _dac_jax_padding(codes.shape[2], chunk_frames, num_samples, sampling_rate)
    return EncodedAudio(
        codes=codes,
        sampling_rate=sampling_rate,
        num_samples=num_samples,
        input_db=_input_db(metadata["input_db"], channels),
        chunk_frames=chunk_frames,
        padding=padding,
    )


def _dict_of(
    value: Any, name: str, required: Set[str], optional: Set[str] = frozenset()
) -> dict[str, Any]:
    """Refuse unknown keys too: descript's reader does, and they may change what the codes mean."""
    if not isinstance(value, dict):
        raise FormatError(f"{name} holds {shown(value)}, allowed: a dict")
    if missing := required - value.keys():
        raise FormatError(f"{name} lacks {min(missing)!r}, needed: {', '.join(sorted(required))}")
    if unknown := value.keys() - required - optional:
        allowed = ", ".join(sorted(required | optional))
        raise FormatError(f"{name} has the unknown key {shown(min(unknown))}, allowed: {allowed}")
    return value


def _metadata(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):  # the version first: an older file has other keys, too
        version = value.get("dac_version")
        if not isinstance(version, str) or version != DAC_VERSION:
            raise FormatError(f"dac_version is {shown(version)}, allowed: {DAC_VERSION!r}")
    metadata = _dict_of(value, "metadata", required=_METADATA, optional=frozenset({"padding"}))
    if not isinstance(metadata.get("padding", True), bool):
        raise FormatError(f"padding is {shown(metadata['padding'])}, allowed: True or False")
    return metadata


def _codes(recorded: Any) -> np.ndarray:
    """-> unsigned or signed integers [C, K, F]."""
    codes = recorded_array(recorded, "codes")
    if codes.dtype.kind not in "iu" or codes.ndim != 3:
        raise FormatError(
            f"codes are {codes.dtype} with shape {codes.shape}, allowed: integers with shape "
            "(channels, codebooks, frames)"
        )
    _check_sixteen_bits(codes)
    return codes


def _check_sixteen_bits(codes: np.ndarray) -> None:
    smallest, largest = int(codes.min()), int(codes.max())
    if smallest < 0 or largest > MAX_CODE:
        raise FormatError(f"codes reach from {smallest} to {largest}, allowed: 0 to {MAX_CODE}")


def _positive_int(metadata: dict[str, Any], key: str) -> int:
    """`EncodedAudio` knows the closer bounds."""
    value = metadata[key]
    if type(value) is not int or not 1 <= value <= _MAX_INT:
        raise FormatError(f"{key} is {shown(value)}, allowed: a positive integer of 64 bits")
    return value


def _input_db(stored: Any, channels: int) -> float | tuple[float, ...] | None:
    """One loudness for all channels (descript), one per channel (DAC-JAX), or None."""
    if stored is None or type(stored) is float:
        return stored
    values = recorded_array(stored, "input_db")
    if values.dtype.kind != "f" or values.ndim > 1 or values.size not in (1, channels):
        raise FormatError(
            f"input_db is {values.dtype} with shape {values.shape}, allowed: None, or floats with "
            f"shape (), (1,) or ({channels},)"
        )
    return values.item() if values.size == 1 else tuple(values.tolist())


def _dac_jax_codes(codes: np.ndarray, chunk_frames: int) -> np.ndarray:
    """[C, K, F], or [C, F, K] as DAC-JAX wrote before September 2024 -> [C, K, F].

    All chunks in its files are equally long, so frames are the axis that chunk_length divides.
    """
    if codes.shape[2] % chunk_frames == 0:
        return codes
    if codes.shape[1] % chunk_frames == 0:
        return codes.transpose(0, 2, 1)
    raise FormatError(
        f"chunk_length is {chunk_frames}, allowed for codes of shape {codes.shape} in a file "
        "without padding: a divisor of the frames"
    )


def _dac_jax_padding(
    num_frames: int, chunk_frames: int, num_samples: int, sampling_rate: int
) -> bool:
    """Which of DAC-JAX's two ways the clip was coded; its files do not say.

    `encode_to_dac` pads, takes audio at the model's rate only and gives ceil(samples / hop) frames
    in one piece. `compress` codes unpadded chunks; a clip in a single one has 16 frames more.
    """
    hop_length = _PUBLISHED_HOP_LENGTHS.get(sampling_rate)
    in_one_piece = chunk_frames == num_frames
    return in_one_piece and hop_length is not None and num_frames == -(-num_samples // hop_length)
