"""`.ecdc` files, the format of facebookresearch/encodec. Specified in docs/formats.md."""

import dataclasses
import json
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from codax.errors import FormatError
from codax.formats.arithmetic_coding import (
    ArithmeticDecoder,
    ArithmeticEncoder,
    astray,
    least_bits_per_symbol,
    quantized_cdf,
)
from codax.formats.bit_packing import (
    bits_of,
    check_num_codes,
    pack_codes,
    packed_length,
    unpack_codes,
)
from codax.formats.encoded_audio import EncodedAudio
from codax.formats.field_checks import dict_of, read_json_object, shown
from codax.formats.file_content import Source, check_suffix, read_named, write_whole

ECDC_MAGIC = b"ECDC"
ECDC_VERSION = 0

MAX_JSON_BYTES = 4096
"""encodec writes about 60."""

NextProbabilities = Callable[[np.ndarray | None], np.ndarray]
"""Codes int32 [K] of the frame before, None at the start -> probabilities float32 [K, N] of the
next frame's codes, for K codebooks of N entries."""

Probabilities = Callable[[str, int], NextProbabilities]
"""A language model: (name of the codec's model, K) -> what predicts the frames of one segment, in
order. It must give the same bits whenever it is asked the same."""

_PREAMBLE = struct.Struct("!4sBI")  # magic, version, length of the JSON text
_SCALE = struct.Struct("!f")


@dataclasses.dataclass(frozen=True)
class EcdcModel:
    """What the bytes of a file depend on. Source: facebookresearch/encodec, model.py.

    sampling_rate: Hz. frame_rate: frames of codes per second.
    segment_length, segment_stride: samples; None where a clip is one segment.
    normalised: whether each segment has a scale.
    """

    sampling_rate: int
    frame_rate: int
    channels: int
    codebook_size: int
    max_codebooks: int
    normalised: bool
    segment_length: int | None
    segment_stride: int | None

    @property
    def bits(self) -> int:
        return bits_of(self.codebook_size)

    def segment_frames(self, num_samples: int) -> Iterator[int]:
        """Frames of each segment, those at the end of a clip being shorter.

        Whole numbers give what the encoder makes. encodec 0.1.1 reads its files by a formula that
        rounds, `ceil(n / sampling_rate * frame_rate)`, and finds 169 frames in 168 of 53760 samples
        (its issue 35).
        """
        stride = self.segment_stride or num_samples
        longest = self.segment_length or num_samples
        for start in range(0, num_samples, stride):
            length = min(num_samples - start, longest)
            yield -(-length * self.frame_rate // self.sampling_rate)


ECDC_MODELS = {
    "encodec_24khz": EcdcModel(
        sampling_rate=24000,
        frame_rate=75,
        channels=1,
        codebook_size=1024,
        max_codebooks=32,
        normalised=False,
        segment_length=None,
        segment_stride=None,
    ),
    "encodec_48khz": EcdcModel(
        sampling_rate=48000,
        frame_rate=150,
        channels=2,
        codebook_size=1024,
        max_codebooks=16,
        normalised=True,
        segment_length=48000,
        segment_stride=47520,
    ),
}


class EcdcHeader(NamedTuple):
    """What a file says of itself.

    name: of the codec's model, one of the `ECDC_MODELS`
    with_lm: whether a language model is needed to read the codes
    """

    name: str
    model: EcdcModel
    num_samples: int
    num_codebooks: int
    with_lm: bool

    @property
    def segment_frames(self) -> tuple[int, ...]:
        return tuple(self.model.segment_frames(self.num_samples))


def read_ecdc(source: Source, probabilities: Probabilities | None = None) -> EncodedAudio:
    """Read an `.ecdc` file by path, from its bytes or from an open binary file.

    probabilities: the language model that files written with one need (see `Probabilities`).

    Raises `FormatError`, in one line that names the file, for one that is damaged, hostile, of
    another version or over 1 GiB, that needs a language model, or that the given one does not lead
    through; `OSError` for one that cannot be opened.
    """
    return read_named(source, lambda content: parse_ecdc(content, probabilities))


def read_ecdc_header(source: Source) -> EcdcHeader:
    """What an `.ecdc` file holds, without its codes, and so without a language model.

    Raises as `read_ecdc` does, for what the header and the length of the file tell.
    """
    return read_named(source, lambda content: _read_header(content)[0])


def write_ecdc(
    encoded: EncodedAudio, path: str | os.PathLike, probabilities: Probabilities | None = None
) -> None:
    """Write `encoded` so that `encodec` reads it; the file is whole or absent.

    probabilities: a language model, to write a smaller file that is read with the same one only.

    Raises `FormatError` where `path` does not end in `.ecdc` or for a clip that the format cannot
    hold, `OSError` naming `path` where it cannot be written.
    """
    check_suffix(path, ".ecdc")
    write_whole(path, ecdc_bytes(encoded, probabilities))


def ecdc_bytes(encoded: EncodedAudio, probabilities: Probabilities | None = None) -> bytes:
    """The content of the `.ecdc` file that `write_ecdc` writes.

    What the format has no place for is left out: a sampling rate other than the model's (the length
    is then that of the clip as it was coded, `coded_samples`), and which weights they were beyond
    the model's name (`preset`, or `model`).

    Raises `FormatError` for a clip that is not what one of the `ECDC_MODELS` makes.
    """
    name, model, num_samples = _checked_model(encoded)
    metadata = {
        "m": name,
        "al": num_samples,
        "nc": encoded.num_codebooks,
        "lm": probabilities is not None,
    }
    text = json.dumps(metadata).encode()
    content = [_PREAMBLE.pack(ECDC_MAGIC, ECDC_VERSION, len(text)), text]
    stop = 0
    for segment, num_frames in enumerate(model.segment_frames(num_samples)):
        start, stop = stop, stop + num_frames
        codes = np.ascontiguousarray(encoded.codes[0, :, start:stop].T)
        if encoded.scales is not None:
            content.append(_SCALE.pack(encoded.scales[0, segment]))
        if probabilities is None:
            content.append(pack_codes(codes.reshape(-1), model.bits))
        else:
            step = probabilities(name, encoded.num_codebooks)
            content.append(_code_segment(codes, step, model.codebook_size))
    return b"".join(content)


def parse_ecdc(content: bytes, probabilities: Probabilities | None = None) -> EncodedAudio:
    """`read_ecdc` of the file's bytes; errors do not name the file."""
    header, position = _read_header(content)
    read_codes = _codes_reader(header, probabilities)
    model = header.model
    segments, scales = [], []
    for num_frames in model.segment_frames(header.num_samples):
        if model.normalised:
            scale, position = _read_scale(content, position)
            scales.append(scale)
        codes, position = read_codes(content, position, num_frames)
        segments.append(codes)
    if rest := len(content) - position:
        what = f"{rest} bytes follow the file's last code"
        raise astray(what) if header.with_lm else FormatError(f"{what}, allowed: none")
    return EncodedAudio(
        codes=np.concatenate(segments).T[None],
        sampling_rate=model.sampling_rate,
        num_samples=header.num_samples,
        channels_per_stream=model.channels,
        segment_frames=tuple(map(len, segments)) if model.segment_length else None,
        scales=np.array([scales], np.float32) if model.normalised else None,
        model=header.name,
    )


# Bytes of the file, a position in them, the number of frames F -> codes int32 [F, K], the position
# behind them.
_CodesReader = Callable[[bytes, int, int], tuple[np.ndarray, int]]


def _read_header(content: bytes) -> tuple[EcdcHeader, int]:
    """-> the header, and the position of the byte behind it."""
    if len(content) < _PREAMBLE.size:
        raise FormatError(f"has {len(content)} bytes, allowed: {_PREAMBLE.size} and more")
    magic, version, length = _PREAMBLE.unpack_from(content)
    if magic != ECDC_MAGIC:
        raise FormatError(f"begins with {magic}, allowed: {ECDC_MAGIC}")
    if version != ECDC_VERSION:
        raise FormatError(f"is version {version} of the format, allowed: {ECDC_VERSION}")
    stop = _PREAMBLE.size + length
    if length > MAX_JSON_BYTES or stop > len(content):
        raise FormatError(
            f"claims a header of {length} bytes, allowed: up to {MAX_JSON_BYTES}, within the file"
        )
    header = _checked_header(content[_PREAMBLE.size : stop])
    _check_length(header, len(content) - stop)
    return header, stop


def _checked_header(text: bytes) -> EcdcHeader:
    fields = read_json_object(text, "the header")
    fields = dict_of(fields, "the header", required={"m", "al", "nc", "lm"})
    name, num_samples, num_codebooks, with_lm = (fields[key] for key in ("m", "al", "nc", "lm"))
    model = ECDC_MODELS.get(name) if isinstance(name, str) else None
    if model is None:
        raise FormatError(f"m is {shown(name)}, allowed: {', '.join(ECDC_MODELS)}")
    if type(num_samples) is not int or num_samples < 1:
        raise FormatError(f"al is {shown(num_samples)}, allowed: a positive integer")
    if type(num_codebooks) is not int or not 1 <= num_codebooks <= model.max_codebooks:
        raise FormatError(f"nc is {shown(num_codebooks)}, allowed: 1 to {model.max_codebooks}")
    if type(with_lm) is not bool:
        raise FormatError(f"lm is {shown(with_lm)}, allowed: true or false")
    return EcdcHeader(name, model, num_samples, num_codebooks, with_lm)


def _check_length(header: EcdcHeader, num_bytes: int) -> None:
    """Refuse more samples than `num_bytes` bytes of codes can hold, before anything is allocated.

    The bound is the format's: a language model that is never surprised takes 2^-12.5 bits a code.
    """
    model = header.model
    entries = model.codebook_size
    bits = least_bits_per_symbol(entries) if header.with_lm else model.bits
    most_frames = int(8 * num_bytes // (bits * header.num_codebooks))
    longest = most_frames * model.sampling_rate // model.frame_rate
    if header.num_samples > longest:
        raise FormatError(
            f"al is {shown(header.num_samples)}, allowed: up to {longest} samples for "
            f"{num_bytes} bytes of {header.num_codebooks} codebooks"
        )
    num_frames = -(-header.num_samples * model.frame_rate // model.sampling_rate)
    check_num_codes(num_frames * header.num_codebooks)


def _read_scale(content: bytes, position: int) -> tuple[float, int]:
    stop = position + _SCALE.size
    if stop > len(content):
        raise FormatError("ends before the scale of a segment")
    return _SCALE.unpack_from(content, position)[0], stop


def _codes_reader(header: EcdcHeader, probabilities: Probabilities | None) -> _CodesReader:
    if not header.with_lm:
        return partial(_read_packed, header)
    if probabilities is None:
        raise FormatError(
            "was written with a language model, and cannot be read without the same one: it holds "
            "only what that did not predict"
        )
    return partial(_read_coded, header, probabilities)


def _read_packed(
    header: EcdcHeader, content: bytes, position: int, num_frames: int
) -> tuple[np.ndarray, int]:
    num_codes, bits = num_frames * header.num_codebooks, header.model.bits
    stop = position + packed_length(num_codes, bits)
    codes = unpack_codes(content[position:stop], num_codes, bits)
    return codes.reshape(num_frames, header.num_codebooks), stop


def _read_coded(
    header: EcdcHeader, probabilities: Probabilities, content: bytes, position: int, num_frames: int
) -> tuple[np.ndarray, int]:
    """The length is not stored: the codes tell where they end."""
    step = probabilities(header.name, header.num_codebooks)
    shape = header.num_codebooks, header.model.codebook_size
    decoder = ArithmeticDecoder(content, position)
    frames, previous = [], None
    for _ in range(num_frames):
        previous = decoder.pull(_cumulative(step, previous, shape))
        frames.append(previous)
    return np.array(frames), decoder.finish()


def _code_segment(codes: np.ndarray, step: NextProbabilities, codebook_size: int) -> bytes:
    """Codes int32 [F, K] -> the bytes of their arithmetic code."""
    shape = codes.shape[1], codebook_size
    encoder = ArithmeticEncoder()
    previous = None
    for frame in codes:
        encoder.push(frame, _cumulative(step, previous, shape))
        previous = frame
    return encoder.finish()


def _cumulative(
    step: NextProbabilities, previous: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray:
    """-> int64 [K, N] (see `quantized_cdf`)."""
    predicted = np.asarray(step(previous))
    if predicted.shape != shape:
        raise ValueError(f"probabilities have shape {predicted.shape}, allowed: {shape}")
    return quantized_cdf(predicted)


def _checked_model(encoded: EncodedAudio) -> tuple[str, EcdcModel, int]:
    """The model that made the clip -> its name, its facts, and the clip's length at its rate.

    Raises `FormatError` where the clip is not all that they imply.
    """
    name = encoded.preset or encoded.model
    if name not in ECDC_MODELS:
        raise FormatError(
            f"model is {shown(name)}, allowed in an .ecdc file: {', '.join(ECDC_MODELS)}"
        )
    model = ECDC_MODELS[name]
    num_samples = encoded.coded_samples
    if num_samples is None and encoded.sampling_rate == model.sampling_rate:
        num_samples = encoded.num_samples
    if num_samples is None:
        raise FormatError(
            f"sampling_rate is {encoded.sampling_rate}, allowed in an .ecdc file of {name}: "
            f"{model.sampling_rate}, or a clip of known length at that rate"
        )
    frames = tuple(model.segment_frames(num_samples))
    expected = {
        "channels": model.channels,
        "channels_per_stream": model.channels,
        "input_db": None,
        "num_frames": sum(frames),
        "chunk_frames": sum(frames),
        "padding": True,
        "segment_frames": frames if model.segment_length else None,
    }
    for field, allowed in expected.items():
        value = getattr(encoded, field)
        if value != allowed:
            raise FormatError(
                f"{field} is {_summed_up(value)}, allowed in an .ecdc file of {name} with "
                f"{num_samples} samples: {_summed_up(allowed)}"
            )
    if (encoded.scales is not None) != model.normalised:
        allowed = "one for each segment" if model.normalised else "none"
        raise FormatError(f"scales are wrong for an .ecdc file of {name}, allowed: {allowed}")
    encoded.check_codes(model.max_codebooks, model.codebook_size)
    return name, model, num_samples


def _summed_up(value: object) -> str:
    """There is an entry of segment_frames for each second."""
    return (
        f"{len(value)} entries that end in {value[-2:]}" if isinstance(value, tuple) else f"{value}"
    )
