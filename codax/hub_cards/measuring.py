"""What a card tells of a model that was measured, not quoted."""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

CLIP_S = 10.0


@dataclass(frozen=True)
class Speed:
    """Medians of a few runs, compilation not counted.

    clip_s: seconds of audio that were coded, all channels at once and not in chunks
    encode_s, decode_s: seconds that it took
    machine: the device, its host, and jax's version
    dtype: of the decoder's computation
    """

    clip_s: float
    encode_s: float
    decode_s: float
    machine: str
    dtype: str = "float32"


def synthetic_clip(sampling_rate: int, channels: int, seconds: float = CLIP_S) -> np.ndarray:
    """Chords, a rising tone and bursts of noise, float32 [C, T]: no recording is needed."""
    times = np.arange(round(seconds * sampling_rate)) / sampling_rate
    generator = np.random.default_rng(0)
    roots = np.array([220.0, 174.6, 261.6, 196.0])[(times % 4).astype(int)]
    phases = 2 * np.pi * np.cumsum(roots) / sampling_rate
    chord = sum(np.sin(ratio * phases) / (rank + 1) for rank, ratio in enumerate((1, 1.25, 1.5, 2)))
    pitch = np.geomspace(100, 0.4 * sampling_rate, len(times))
    rising = np.sin(2 * np.pi * np.cumsum(pitch) / sampling_rate)
    bursts = generator.standard_normal((channels, len(times))) * np.exp(-20 * (times % 0.5))
    balance = np.linspace(1.0, 0.8, channels)[:, None]
    return (balance * (0.1 * chord + 0.1 * rising) + 0.1 * bursts).astype(np.float32)


def reconstruct(model: Any, clip: np.ndarray) -> np.ndarray:
    """Encode and decode with all codebooks: float32 [C, T] -> [C, T]."""
    encode, decode = _coding(model, clip)
    return np.asarray(decode(encode())).reshape(len(clip), -1)[:, : clip.shape[1]]


def measure_speed(model: Any, repeats: int = 3) -> Speed:
    """Time encoding and decoding of a clip with all codebooks."""
    config = model.config
    channels = config.audio_channels
    encode, decode = _coding(model, synthetic_clip(config.sampling_rate, channels))
    encoded = encode()
    return Speed(
        clip_s=CLIP_S,
        encode_s=_median_s(encode, repeats),
        decode_s=_median_s(lambda: decode(encoded), repeats),
        machine=machine(),
        dtype=str(np.dtype(model.dtype)),
    )


def machine() -> str:
    """The first device, the processor and its cores, and jax's version."""
    device = jax.devices()[0]
    parts = [f"{_processor()}, {os.cpu_count()} cores", f"jax {jax.__version__}"]
    if device.platform != "cpu":
        parts.insert(0, device.device_kind)
    return ", ".join(parts)


def _coding(model: Any, clip: np.ndarray) -> tuple[Callable, Callable]:
    """Functions () -> what `encode` gives, and that -> audio, for a clip [C, T]."""
    config = model.config
    if config.model_type == "encodec":
        bandwidth = config.target_bandwidths[-1]
        return (
            lambda: model.encode(clip[None], bandwidth=bandwidth, chunk_length_s=0),
            lambda encoded: (
                model.decode(
                    encoded.audio_codes,
                    encoded.audio_scales,
                    num_samples=clip.shape[1],
                    chunk_length_s=0,
                ).audio_values
            ),
        )
    whole_hops = -(-clip.shape[1] // config.hop_length) * config.hop_length
    padded = np.pad(clip, ((0, 0), (0, whole_hops - clip.shape[1])))[:, None]
    return (
        lambda: model.encode(padded, chunk_length_s=0),
        lambda encoded: (
            model.decode(
                audio_codes=encoded.audio_codes, num_samples=clip.shape[1], chunk_length_s=0
            ).audio_values
        ),
    )


def _median_s(run: Callable, repeats: int) -> float:
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _processor() -> str:
    """Its model's name, where the system tells it."""
    lines: list[str] = []
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("model name")]
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor()
