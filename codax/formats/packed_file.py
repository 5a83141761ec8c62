"""`.codax` files, the format of codax for the codes of any model. Specified in docs/formats.md."""

import itertools
import json
import math
import os
import re
from typing import Any

import numpy as np

from codax.errors import FormatError
from codax.formats.bit_packing import (
    MAX_BITS,
    bits_of,
    check_num_codes,
    pack_codes,
    packed_length,
    unpack_codes,
)
from codax.formats.encoded_audio import EncodedAudio
from codax.formats.field_checks import dict_of, read_json_object, shown
from codax.formats.file_content import Source, check_suffix, read_named, write_whole

CODAX_VERSION = "1"

MAX_HEADER_BYTES = 1 << 16
"""A file has about 200, and up to 30 for each channel or unequal segment."""

MAX_SEGMENTS = 1 << 20
"""Twelve days of EnCodec's 48 kHz model."""

MAX_NAME_CHARACTERS = 1024

_ALIGNMENT = 8
_METADATA = frozenset({"codax", "hz", "samples", "shape", "bits"})
_OPTIONAL = frozenset(
    {"model", "revision", "channels", "segments", "db", "stream_db", "chunk", "padding"}
)

_INTEGER = re.compile("[1-9][0-9]{0,17}")
_SHAPE = re.compile(",".join(3 * [f"({_INTEGER.pattern})"]))
_RUN = re.compile(f"({_INTEGER.pattern})(?:x({_INTEGER.pattern}))?")
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")


def read_codax(source: Source) -> EncodedAudio:
    """Read a `.codax` file by path, from its bytes or from an open binary file.

    Raises `FormatError`, in one line that names the file, for one that is damaged, hostile, of
    another version or over 1 GiB; `OSError` for one that cannot be opened.
    """
    return read_named(source, parse_codax)


def write_codax(encoded: EncodedAudio, path: str | os.PathLike) -> None:
    """Write `encoded`, a safetensors file that is whole or absent.

    Raises `FormatError` where `path` does not end in `.codax` or for a clip that the format cannot
    hold (see `codax_bytes`), `OSError` naming `path` where it cannot be written.
    """
    check_suffix(path, ".codax")
    write_whole(path, codax_bytes(encoded))


def codax_bytes(encoded: EncodedAudio) -> bytes:
    """The content of the `.codax` file that `write_codax` writes.

    Raises `FormatError` for a model or revision with unprintable or over 1024 characters, over 2^29
    codes, over 2^20 segments, and lists of segments or loudnesses too long for the header.
    """
    check_num_codes(encoded.codes.size)
    bits = bits_of(int(encoded.codes.max()) + 1)
    packed = pack_codes(encoded.codes.transpose(2, 0, 1).reshape(-1), bits)
    scales = b"" if encoded.scales is None else encoded.scales.astype("<f4").tobytes()
    header: dict[str, Any] = {"__metadata__": _metadata(encoded, bits)}
    if encoded.scales is not None:
        header["scales"] = _described("F32", encoded.scales.shape, 0, len(scales))
    header["codes"] = _described("U8", (len(packed),), len(scales), len(packed))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(f"needs a header of {len(text)} bytes, allowed: {MAX_HEADER_BYTES}")
    return len(text).to_bytes(8, "little") + text + scales + packed


def parse_codax(content: bytes) -> EncodedAudio:
    """`read_codax` of the file's bytes; errors do not name the file."""
    header, tensors_start = _read_header(content)
    metadata = _checked_metadata(header)
    streams, num_codebooks, num_frames = _shape(metadata)
    num_codes = streams * num_codebooks * num_frames
    check_num_codes(num_codes)
    bits = _integer(metadata, "bits")
    if bits > MAX_BITS:
        raise FormatError(f"bits is {bits}, allowed: up to {MAX_BITS}")
    segment_frames = _segment_frames(metadata, num_frames)

    scales_shape = (streams, len(segment_frames or (1,)))
    scales_bytes = 4 * math.prod(scales_shape) if "scales" in header else 0
    codes_bytes = packed_length(num_codes, bits)
    expected = {"codes": _described("U8", (codes_bytes,), scales_bytes, codes_bytes)}
    if "scales" in header:
        expected["scales"] = _described("F32", scales_shape, 0, scales_bytes)
    for name, description in expected.items():
        _check_described(name, header[name], description)
    if len(content) != tensors_start + scales_bytes + codes_bytes:
        needed = tensors_start + scales_bytes + codes_bytes
        raise FormatError(f"has {len(content)} bytes, allowed: {needed}")

    codes_start = tensors_start + scales_bytes
    codes = unpack_codes(content[codes_start:], num_codes, bits)
    scales = np.frombuffer(content[tensors_start:codes_start], "<f4").reshape(streams, -1)
    return EncodedAudio(
        codes=codes.reshape(num_frames, streams, num_codebooks).transpose(1, 2, 0),
        sampling_rate=_integer(metadata, "hz"),
        num_samples=_integer(metadata, "samples"),
        input_db=_input_db(metadata),
        chunk_frames=_integer(metadata, "chunk") if "chunk" in metadata else None,
        padding=_padding(metadata),
        channels_per_stream=_integer(metadata, "channels") if "channels" in metadata else 1,
        segment_frames=segment_frames,
        scales=scales if "scales" in header else None,
        model=metadata.get("model"),
        revision=metadata.get("revision"),
    )


def is_safetensors(content: bytes) -> bool:
    """Whether a file begins like one: the length of a JSON object of less than 4 GiB, and `{`."""
    return content[4:8] == bytes(4) and content[8:9] == b"{"


def _metadata(encoded: EncodedAudio, bits: int) -> dict[str, str]:
    """What is not the default, in the order in which it is written."""
    fields = {
        "codax": CODAX_VERSION,
        "model": _checked_name("model", encoded.model),
        "revision": _checked_name("revision", encoded.revision),
        "hz": f"{encoded.sampling_rate}",
        "samples": f"{encoded.num_samples}",
        "shape": ",".join(map(str, encoded.codes.shape)),
        "bits": f"{bits}",
    }
    if encoded.channels_per_stream != 1:
        fields["channels"] = f"{encoded.channels_per_stream}"
    if encoded.segment_frames is not None:
        fields["segments"] = _as_runs(encoded.segment_frames)
    if isinstance(encoded.input_db, tuple):
        fields["stream_db"] = ",".join(map(repr, encoded.input_db))
    elif encoded.input_db is not None:
        fields["db"] = repr(encoded.input_db)
    if encoded.chunk_frames != encoded.num_frames:
        fields["chunk"] = f"{encoded.chunk_frames}"
    if not encoded.padding:
        fields["padding"] = "no"
    return {key: value for key, value in fields.items() if value is not None}


def _as_runs(segment_frames: tuple[int, ...]) -> str:
    """(150, 150, 150, 2) -> "150x3,2"."""
    if len(segment_frames) > MAX_SEGMENTS:
        raise FormatError(f"has {len(segment_frames)} segments, allowed: up to {MAX_SEGMENTS}")
    runs = ((frames, len(list(run))) for frames, run in itertools.groupby(segment_frames))
    return ",".join(f"{frames}x{count}" if count > 1 else f"{frames}" for frames, count in runs)


def _described(dtype: str, shape: tuple[int, ...], start: int, num_bytes: int) -> dict[str, Any]:
    """A tensor as the header of a safetensors file describes it."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + num_bytes]}


def _check_described(name: str, value: Any, expected: dict[str, Any]) -> None:
    same = value == expected
    # True equals 1, and 1.0 does.
    if not same or any(
        type(number) is not int for number in value["shape"] + value["data_offsets"]
    ):
        raise FormatError(f"{name} is not described as {json.dumps(expected)}, as its shape needs")


def _read_header(content: bytes) -> tuple[dict[str, Any], int]:
    """-> the header, and the position of the byte behind it."""
    if not is_safetensors(content):
        raise FormatError("is no safetensors file")
    length = int.from_bytes(content[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise FormatError(
            f"claims a header of {length} bytes, allowed: up to {MAX_HEADER_BYTES}, within the file"
        )
    return read_json_object(content[8 : 8 + length], "the header"), 8 + length


def _checked_metadata(header: dict[str, Any]) -> dict[str, str]:
    """The version first: another one may have other keys, and other safetensors files have none."""
    metadata = header.get("__metadata__")
    version = metadata.get("codax") if isinstance(metadata, dict) else None
    if version != CODAX_VERSION:
        raise FormatError(
            f"is a safetensors file with codax version {shown(version)} in its metadata, "
            f"allowed: {CODAX_VERSION!r}"
        )
    dict_of(header, "the header", required={"__metadata__", "codes"}, optional={"scales"})
    metadata = dict_of(metadata, "the metadata", required=_METADATA, optional=_OPTIONAL)
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise FormatError(f"{key} is {shown(value)}, allowed: a string")
    for key in ("model", "revision"):
        _checked_name(key, metadata.get(key))
    return metadata


def _checked_name(key: str, name: str | None) -> str | None:
    if name is not None and not (name.isprintable() and len(name) <= MAX_NAME_CHARACTERS):
        raise FormatError(
            f"{key} is {shown(name)}, allowed: up to {MAX_NAME_CHARACTERS} printable characters"
        )
    return name


def _integer(metadata: dict[str, str], key: str) -> int:
    """`EncodedAudio` knows the closer bounds."""
    if not _INTEGER.fullmatch(metadata[key]):
        raise FormatError(f"{key} is {shown(metadata[key])}, allowed: a positive integer")
    return int(metadata[key])


def _shape(metadata: dict[str, str]) -> tuple[int, int, int]:
    """-> (streams, codebooks, frames)."""
    text = metadata["shape"]
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise FormatError(f"shape is {shown(text)}, allowed: streams,codebooks,frames")
    streams, num_codebooks, num_frames = map(int, match.groups())
    return streams, num_codebooks, num_frames


def _segment_frames(metadata: dict[str, str], num_frames: int) -> tuple[int, ...] | None:
    """Runs are added up before they are written out: a few bytes may claim any number."""
    text = metadata.get("segments")
    if text is None:
        return None
    matches = [_RUN.fullmatch(run) for run in text.split(",")]
    if None in matches:
        raise FormatError(f"segments is {shown(text)}, allowed: frames or framesxcount, by commas")
    runs = [(int(match[1]), int(match[2] or 1)) for match in matches if match]
    total = sum(frames * count for frames, count in runs)
    num_segments = sum(count for _, count in runs)
    if total != num_frames or num_segments > MAX_SEGMENTS:
        raise FormatError(
            f"segments are {num_segments} with {total} frames, allowed: up to {MAX_SEGMENTS} with "
            f"{num_frames}"
        )
    return tuple(frames for frames, count in runs for _ in range(count))


def _input_db(metadata: dict[str, str]) -> float | tuple[float, ...] | None:
    """One loudness for all streams, one for each, or None."""
    if "db" in metadata and "stream_db" in metadata:
        raise FormatError("has both db and stream_db, allowed: one of them")
    if "stream_db" in metadata:
        return tuple(_number("stream_db", text) for text in metadata["stream_db"].split(","))
    return _number("db", metadata["db"]) if "db" in metadata else None


def _number(key: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise FormatError(f"{key} has {shown(text)}, allowed: numbers")
    return float(text)


def _padding(metadata: dict[str, str]) -> bool:
    if metadata.get("padding", "no") != "no":
        raise FormatError(f"padding is {shown(metadata['padding'])}, allowed: 'no', or no padding")
    return "padding" not in metadata
