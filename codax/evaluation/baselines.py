"""Opus, the codec that neural ones are compared with."""

import io
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from codax.errors import CodaxError
from codax.feature_extraction import read_audio, resample

OPUS_RATE = 48000
"""Hz, at which Opus decodes."""

MIN_KBPS, MAX_KBPS = 6.0, 256.0
"""For each channel: what RFC 6716 begins with, and all encoders here take."""

_TAIL = OPUS_RATE // 20
"""Zeros behind a clip for libsndfile, which else leaves its last 20 ms half decayed."""

_PAGE_HEADER = struct.Struct("<4sBBqIIIB")  # RFC 3533: capture, version, flags, granule, ...


@dataclass(frozen=True, eq=False)
class OpusClip:
    """A clip that Opus coded and decoded.

    samples: float32 [C, T] as given; bits: of Opus packets, without those of the Ogg container
    """

    samples: np.ndarray
    bits: int


def code_with_opus(samples: np.ndarray, sampling_rate: int, kbps: float) -> OpusClip:
    """Code float [C, T] at `sampling_rate` Hz with Opus, and decode it to the same length.

    kbps: for all channels together, as a target of the encoder's variable bitrate; 6 to 256 for
        each channel. The encoder is `opus_encoder()`; libsndfile decodes.

    Raises `ValueError` for another bitrate, `CodaxError` where the encoder fails.
    """
    channels, length = samples.shape
    check_kbps(kbps, channels)
    _, encode = _encoder()
    at_rate = resample(np.asarray(samples, np.float32), sampling_rate, OPUS_RATE)
    content = encode(at_rate, kbps)
    decoded = resample(read_audio(content)[0], OPUS_RATE, sampling_rate)[:, :length]
    decoded = np.pad(decoded, ((0, 0), (0, length - decoded.shape[1])))
    return OpusClip(decoded, packet_bits(content))


def check_kbps(kbps: float, channels: int) -> None:
    """Raise `ValueError` for a bitrate that Opus does not have for so many channels."""
    if not MIN_KBPS <= kbps / channels <= MAX_KBPS:
        raise ValueError(
            f"kbps={kbps:g} must be from {MIN_KBPS * channels:g} to {MAX_KBPS * channels:g} for "
            f"Opus of {channels} channels"
        )


def opus_encoder() -> str:
    """Name what codes: `opusenc` or else `ffmpeg`, where they are installed, or else libsndfile."""
    return _encoder()[0]


def packet_bits(content: bytes) -> int:
    """Count the bits of the packets of an Ogg Opus file (RFC 7845), headers left out.

    Raises `CodaxError` for what is no Ogg.
    """
    position = num_bytes = 0
    while position < len(content):
        if len(content) < position + _PAGE_HEADER.size:
            raise CodaxError(f"Opus: an Ogg page at byte {position} is cut off")
        capture, _, _, granule, _, _, _, segments = _PAGE_HEADER.unpack_from(content, position)
        if capture != b"OggS":
            raise CodaxError(f"Opus: there is no Ogg page at byte {position}")
        position += _PAGE_HEADER.size + segments
        page_bytes = sum(content[position - segments : position])
        position += page_bytes
        num_bytes += page_bytes if granule else 0  # only headers end at sample 0
    return 8 * num_bytes


def _encoder() -> tuple[str, Callable[[np.ndarray, float], bytes]]:
    """Its name, and a function of float32 [C, T] at 48 kHz and kbps that gives an Ogg file."""
    if program := shutil.which("opusenc"):
        return "opusenc", lambda samples, kbps: _run(
            samples, [program, "--quiet", "--bitrate", f"{kbps:g}", "in.wav", "out.opus"]
        )
    if program := shutil.which("ffmpeg"):
        options = ["-loglevel", "error", "-i", "in.wav", "-c:a", "libopus"]
        return "ffmpeg", lambda samples, kbps: _run(
            samples, [program, *options, "-b:a", f"{round(1000 * kbps)}", "out.opus"]
        )
    return "libsndfile", _run_libsndfile


def _run(samples: np.ndarray, command: list[str]) -> bytes:
    """Run an encoder in a folder with `in.wav`, where it leaves `out.opus`."""
    name = Path(command[0]).name
    with tempfile.TemporaryDirectory(prefix="codax-opus-") as folder:
        soundfile.write(Path(folder, "in.wav"), samples.T, OPUS_RATE, subtype="FLOAT")
        try:
            subprocess.run(
                command, cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL
            )
            return Path(folder, "out.opus").read_bytes()
        except subprocess.CalledProcessError as error:
            told = " ".join(error.stderr.decode(errors="replace").split())
            raise CodaxError(f"{name} failed with status {error.returncode}: {told}") from error
        except OSError as error:
            raise CodaxError(f"{name} wrote no Opus file: {error}") from error


def _run_libsndfile(samples: np.ndarray, kbps: float) -> bytes:
    """Code by libsndfile, whose `compression_level` is linear in the bitrate of a channel."""
    level = 1 - (kbps / len(samples) - MIN_KBPS) / (MAX_KBPS - MIN_KBPS)
    file = io.BytesIO()
    samples = np.pad(samples, ((0, 0), (0, _TAIL)))
    try:
        soundfile.write(
            file, samples.T, OPUS_RATE, format="OGG", subtype="OPUS", compression_level=level
        )
    except (TypeError, soundfile.LibsndfileError) as error:
        raise CodaxError(
            "Opus needs opusenc (opus-tools) or ffmpeg on the path, or soundfile 0.13 with "
            f"libsndfile 1.1: {error}"
        ) from error
    return file.getvalue()
