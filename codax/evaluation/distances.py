"""Distances between audio and its reconstruction, in JAX: measures, and losses in training.

All take float [B, C, T] and give float32 scalars, means over the batch, differentiable in both.
`num_samples`, int [B], is for clips that were padded to T at their ends: values are those of the
clips without the padding. Every clip must then be longer than half of the longest window.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codax.evaluation.spectra import frames, mel_spectrogram, num_frames, stft

MEL_COUNTS = (5, 10, 20, 40, 80, 160, 320)
MEL_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
"""Of descript's recipe (Kumar et al. 2023, section 3.4; conf/base.yml)."""

STFT_WINDOWS = (2048, 512)

SI_SNR_SEGMENT_S = 5.0
"""Of audiocraft's recipe (config/solver/compression/default.yaml)."""


class Weights(NamedTuple):
    """How a spectral distance compares magnitudes: `MultiScaleSTFTLoss` and `MelSpectrogramLoss`.

    clamp: magnitudes below it count as it, in the logarithm
    power: that magnitudes are raised to before the logarithm (base 10)
    magnitude, log: weights of the distances of magnitudes and of their logarithms
    """

    clamp: float = 1e-5
    power: float = 1.0
    magnitude: float = 0.0
    log: float = 1.0


MEL_WEIGHTS = Weights()
STFT_WEIGHTS = Weights(power=2.0, magnitude=1.0)


def waveform_l1(
    estimate: jax.Array, reference: jax.Array, num_samples: jax.Array | None = None
) -> jax.Array:
    """Average the absolute difference of the samples: `L1Loss` of dac/nn/loss.py."""
    _check_shapes(estimate, reference)
    return _mean(jnp.abs(_float(estimate) - _float(reference)), num_samples)


def multi_scale_stft_distance(
    estimate: jax.Array,
    reference: jax.Array,
    window_lengths: Sequence[int] = STFT_WINDOWS,
    weights: Weights = STFT_WEIGHTS,
    num_samples: jax.Array | None = None,
) -> jax.Array:
    """Sum over the windows how far magnitudes are apart: `MultiScaleSTFTLoss` of dac/nn/loss.py.

    Hops are quarters of the windows; windows are Hann's. Raises `ValueError` for audio that is not
    longer than half of the longest window, or shapes that differ.
    """
    _check_shapes(estimate, reference)
    total = jnp.zeros((), jnp.float32)
    for window_length in window_lengths:
        magnitudes, expected = (
            jnp.abs(stft(samples, window_length, num_samples=num_samples))
            for samples in (estimate, reference)
        )
        total += _compared(magnitudes, expected, weights, _frames_of(num_samples, window_length))
    return total


def multi_scale_mel_distance(
    estimate: jax.Array,
    reference: jax.Array,
    sampling_rate: int,
    mel_counts: Sequence[int] = MEL_COUNTS,
    window_lengths: Sequence[int] = MEL_WINDOWS,
    f_min: float = 0.0,
    f_max: float | None = None,
    weights: Weights = MEL_WEIGHTS,
    num_samples: jax.Array | None = None,
) -> jax.Array:
    """Sum over the scales how far mel spectra are apart: `MelSpectrogramLoss` of dac/nn/loss.py.

    mel_counts, window_lengths: of each scale; f_min, f_max: Hz, of the filters of all scales
    Raises `ValueError` as `multi_scale_stft_distance` does.
    """
    _check_shapes(estimate, reference)
    total = jnp.zeros((), jnp.float32)
    for num_mels, window_length in zip(mel_counts, window_lengths, strict=True):
        mels, expected = (
            mel_spectrogram(
                samples,
                sampling_rate,
                num_mels,
                window_length,
                f_min=f_min,
                f_max=f_max,
                num_samples=num_samples,
            )
            for samples in (estimate, reference)
        )
        total += _compared(mels, expected, weights, _frames_of(num_samples, window_length))
    return total


def si_sdr(
    estimate: jax.Array, reference: jax.Array, num_samples: jax.Array | None = None
) -> jax.Array:
    """Give the scale-invariant signal-to-distortion ratio in dB; higher is better.

    `SISDRLoss` of dac/nn/loss.py, negated: channels one after the other as one signal, without
    their common mean; the constant 1e-8 in the scale, and beside the ratio. NaN where both are
    silent; infinite where nothing differs.
    """
    _check_shapes(estimate, reference)
    estimate, reference = (
        _without_mean(_float(samples), num_samples).reshape(len(samples), -1)
        for samples in (estimate, reference)
    )
    epsilon = 1e-8
    scale = (jnp.sum(estimate * reference, axis=-1) + epsilon) / (
        jnp.sum(reference**2, axis=-1) + epsilon
    )
    target = scale[:, None] * reference
    noise = jnp.sum((estimate - target) ** 2, axis=-1)
    return jnp.mean(10 * jnp.log10(jnp.sum(target**2, axis=-1) / noise + epsilon))


def si_snr(
    estimate: jax.Array,
    reference: jax.Array,
    sampling_rate: int,
    segment_s: float = SI_SNR_SEGMENT_S,
    overlap: float = 0.5,
    num_samples: jax.Array | None = None,
) -> jax.Array:
    """Give the scale-invariant signal-to-noise ratio in dB; higher is better.

    `SISNR` of audiocraft/losses/sisnr.py, negated: the mean over channels and segments, of which
    one begins every (1 - overlap) * segment_s seconds and those that reach beyond the end are
    filled up with zeros. The constant 1.19e-7 times a segment's samples is added to every energy.

    Raises `ValueError` for segments or steps of no samples.
    """
    _check_shapes(estimate, reference)
    size = int(segment_s * sampling_rate)
    step = int(size * (1 - overlap))
    if not 1 <= step <= size:
        raise ValueError(
            f"segment_s={segment_s} must be longer than a sample and overlap={overlap} be from 0 "
            f"to below 1; segments of {size} samples would begin every {step}"
        )
    counts = None if num_samples is None else -(-num_samples // step)
    epsilon = float(np.finfo(np.float32).eps) * size
    estimate, reference = (
        _segments(_float(samples), size, step, num_samples) for samples in (estimate, reference)
    )
    products = jnp.sum(estimate * reference, axis=-1, keepdims=True)
    target = products * reference / (_energy(reference)[..., None] + epsilon)
    noise = estimate - target
    ratio = jnp.log10(_energy(target) + epsilon) - jnp.log10(_energy(noise) + epsilon)
    return 10 * _mean(ratio, counts)


def _check_shapes(estimate, reference):
    if estimate.shape != reference.shape or estimate.ndim != 3:
        raise ValueError(
            f"audio must be two arrays [B, C, T] of one shape; got {estimate.shape} and "
            f"{reference.shape}"
        )


def _float(samples):
    return samples.astype(jnp.promote_types(samples.dtype, jnp.float32))


def _frames_of(num_samples, window_length):
    return None if num_samples is None else num_frames(num_samples, window_length)


def _compared(estimate, reference, weights, counts):
    """Compare magnitudes [B, C, bins, F], of which `counts` [B] frames are there."""
    total = jnp.zeros((), jnp.float32)
    if weights.log:
        logarithms, expected = (
            weights.power * jnp.log10(jnp.maximum(magnitudes, weights.clamp))
            for magnitudes in (estimate, reference)
        )
        total += weights.log * _mean(jnp.abs(logarithms - expected), counts)
    if weights.magnitude:
        total += weights.magnitude * _mean(jnp.abs(estimate - reference), counts)
    return total


def _mean(values, counts=None):
    """Average float [B, ..., n], of which `counts` [B] along the last axis count."""
    if counts is None:
        return jnp.mean(values)
    others = values[..., 0].size // len(values)
    return jnp.sum(jnp.where(_there(values, counts), values, 0)) / (jnp.sum(counts) * others)


def _there(values, counts):
    """Which of the last axis are among the first `counts` [B] of values [B, ..., n]."""
    return jnp.arange(values.shape[-1]) < counts.reshape(-1, *[1] * (values.ndim - 1))


def _without_mean(samples, num_samples):
    """Subtract the mean of all channels from each clip; 0 beyond its end."""
    if num_samples is None:
        return samples - jnp.mean(samples, axis=(1, 2), keepdims=True)
    there = _there(samples, num_samples)
    total = jnp.sum(jnp.where(there, samples, 0), axis=(1, 2), keepdims=True)
    mean = total / (num_samples * samples.shape[1])[:, None, None]
    return jnp.where(there, samples - mean, 0)


def _segments(samples, size, step, num_samples):
    """[B, C, T] -> [B, C, S, size], each without its mean, the zeros after the end included."""
    if num_samples is not None:
        samples = jnp.where(_there(samples, num_samples), samples, 0)
    length = samples.shape[-1]
    padding = (-(-length // step) - 1) * step + size - length
    segments = frames(jnp.pad(samples, ((0, 0), (0, 0), (0, padding))), size, step)
    return segments - jnp.mean(segments, axis=-1, keepdims=True)


def _energy(samples):
    return jnp.sum(samples**2, axis=-1)
