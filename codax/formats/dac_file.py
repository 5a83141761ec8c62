"""`.dac` files, the format of descript-audio-codec. Specified in docs/formats.md."""

import io
import os
from typing import Any

import numpy as np

from codax.errors import FormatError
from codax.formats.encoded_audio import EncodedAudio
from codax.formats.field_checks import dict_of, shown
from codax.formats.file_content import Source, check_suffix, read_named, write_whole
from codax.formats.numpy_pickle import read_pickled_npy, recorded_array

DAC_VERSION = "1.0.0"
"""Of the file format. descript-audio-codec 1.0.0 and DAC-JAX write and read no other."""

MAX_CODE = np.iinfo(np.uint16).max

_MAX_INT = np.iinfo(np.int64).max

_ARTIFACTS = frozenset({"codes", "metadata"})
_METADATA = frozenset(
    {"input_db", "original_length", "sample_rate", "chunk_length", "channels", "dac_version"}
)

# Samples per frame of the published models, by their sampling rate (docs/formats.md, "DAC-JAX").
_PUBLISHED_HOP_LENGTHS = {44100: 512, 24000: 320, 16000: 320}


def read_dac(source: Source) -> EncodedAudio:
    """Read a `.dac` file by path, from its bytes or from an open binary file.

    Files of descript-audio-codec 1.0.0 and of DAC-JAX are read, written with any numpy. No code in
    the file is run: it is not unpickled (see `numpy_pickle`).

    Raises `FormatError`, in one line that names the file, for one that is damaged, hostile, of
    another version or over 1 GiB; `OSError` for one that cannot be opened.
    """
    return read_named(source, parse_dac)


def write_dac(encoded: EncodedAudio, path: str | os.PathLike) -> None:
    """Write `encoded` so that descript's `DACFile.load` reads it; the file is whole or absent.

    Raises `FormatError` where `path` does not end in `.dac` or for a clip that the format cannot
    hold (see `dac_bytes`), `OSError` naming `path` where it cannot be written.
    """
    check_suffix(path, ".dac")
    write_whole(path, dac_bytes(encoded))


def dac_bytes(encoded: EncodedAudio) -> bytes:
    """The content of the `.dac` file that `write_dac` writes.

    Raises `FormatError` where a code exceeds 16 bits, and for EnCodec's clips with several channels
    in one stream, in segments or with scales. The model's name is not written.
    """
    _check_storable(encoded)
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


def parse_dac(content: bytes) -> EncodedAudio:
    """`read_dac` of the file's bytes; errors do not name the file."""
    return _encoded_audio(read_pickled_npy(content))


def _check_storable(encoded: EncodedAudio) -> None:
    for field, allowed in {
        "channels_per_stream": 1,
        "segment_frames": None,
        "scales": None,
    }.items():
        value = getattr(encoded, field)
        if type(value) is not type(allowed) or value != allowed:
            raise FormatError(f"{field} is {shown(value)}, allowed in a .dac file: {allowed}")
    _check_sixteen_bits(encoded.codes)


def _encoded_audio(artifacts: Any) -> EncodedAudio:
    """Check what the file holds, field by field."""
    artifacts = dict_of(artifacts, "the file", required=_ARTIFACTS)
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


def _metadata(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):  # the version first: an older file has other keys, too
        version = value.get("dac_version")
        if not isinstance(version, str) or version != DAC_VERSION:
            raise FormatError(f"dac_version is {shown(version)}, allowed: {DAC_VERSION!r}")
    metadata = dict_of(value, "metadata", required=_METADATA, optional=frozenset({"padding"}))
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
