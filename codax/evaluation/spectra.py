"""Short-time spectra in JAX, differentiable, and the mel filters of the references.

Spectra are those of descript-audiotools' `AudioSignal.stft` (audiotools/core/audio_signal.py),
which are those of `torch.stft`; filters are librosa's or torchaudio's.
"""

from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

_SLANEY_HZ_PER_MEL = 200 / 3  # below 1 kHz
_SLANEY_BEND_HZ = 1000.0
_SLANEY_LOG_STEP = np.log(6.4) / 27  # above: 27 mels from 1 to 6.4 kHz


def stft(
    samples: jax.Array,
    window_length: int,
    hop_length: int | None = None,
    *,
    match_stride: bool = False,
    centred: bool = True,
    normalized: bool = False,
    num_samples: jax.Array | None = None,
) -> jax.Array:
    """Give the short-time Fourier transform under a periodic Hann window.

    samples: float [..., T]
    hop_length: samples from one frame to the next, a quarter of the window unless told
    match_stride: frames as those of a strided convolution, ceil(T / hop_length) of them, as in
        audiotools: pads (window - hop) / 2 at each side, and to a multiple of the hop at the right,
        by reflection, then centres, then drops two frames at each side
    centred: frame f is centred at sample f * hop_length, the ends being reflected by half a window;
        otherwise it begins there, and samples behind the last whole window are left out
    normalized: divide by the root of the window's energy, as torchaudio's `normalized=True`
    num_samples: int [B], where samples are [B, ..., T], of clips that end before T, each longer
        than half a window: the first `num_frames` of their centred frames are those that they have
        alone, the others mean nothing
    -> complex64 [..., window_length // 2 + 1, F] (complex128 of float64), in which F is
    1 + T // hop_length for centred frames

    Raises `ValueError` for lengths that are not positive, for a hop that `match_stride` does not
    take, for audio that is too short to be reflected or to fill a window, and for `num_samples` of
    frames that are not simply centred.
    """
    hop_length = window_length // 4 if hop_length is None else hop_length
    _check_lengths(window_length, hop_length)
    if num_samples is not None and (match_stride or not centred):
        raise ValueError("num_samples is taken for centred frames without match_stride alone")
    samples = samples.astype(jnp.promote_types(samples.dtype, jnp.float32))
    if match_stride:
        samples = _reflected(samples, *_stride_padding(samples, window_length, hop_length))
    if centred or match_stride:
        samples = _reflected(samples, window_length // 2, window_length // 2, num_samples)
    window = hann_window(window_length).astype(samples.dtype)
    if normalized:
        window = window / np.sqrt(np.sum(window**2))
    spectrum = jnp.fft.rfft(frames(samples, window_length, hop_length) * window)
    spectrum = jnp.swapaxes(spectrum, -1, -2)
    return spectrum[..., 2:-2] if match_stride else spectrum


def num_frames(num_samples: Any, window_length: int, hop_length: int | None = None) -> Any:
    """How many centred frames `stft` gives for so many samples: an int, or int [B]."""
    hop_length = window_length // 4 if hop_length is None else hop_length
    return 1 + (num_samples - window_length % 2) // hop_length


def mel_spectrogram(
    samples: jax.Array,
    sampling_rate: int,
    num_mels: int,
    window_length: int,
    hop_length: int | None = None,
    *,
    f_min: float = 0.0,
    f_max: float | None = None,
    num_samples: jax.Array | None = None,
) -> jax.Array:
    """Sum the magnitudes of the `stft` under librosa's mel filters.

    As `AudioSignal.mel_spectrogram` of audiotools. Arguments are those of `stft` and of
    `mel_filter_bank`. float [..., T] -> float32 [..., num_mels, F]
    """
    magnitudes = jnp.abs(stft(samples, window_length, hop_length, num_samples=num_samples))
    bank = mel_filter_bank(sampling_rate, window_length, num_mels, f_min, f_max)
    return jnp.einsum("mf,...ft->...mt", bank, magnitudes, precision="highest")


def hann_window(length: int) -> np.ndarray:
    """Give the periodic Hann window, of which the sample after the last is 0: float32 [length]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def frames(samples: jax.Array, frame_length: int, hop_length: int) -> jax.Array:
    """Cut [..., T] into the whole frames [..., F, frame_length] that begin every `hop_length`.

    Raises `ValueError` for audio that does not fill a frame.
    """
    length = samples.shape[-1]
    if length < frame_length:
        raise ValueError(f"audio of {length} samples is shorter than a frame of {frame_length}")
    num_frames = 1 + (length - frame_length) // hop_length
    hops_in_frame = -(-frame_length // hop_length)
    # Shifted slices, whose gradient is a sum of slices: that of a gather would be a scatter.
    #   hops    | 0 | 1 | 2 | 3 | 4 |
    #   frame 0 [ 0   1   2   3 ]
    #   frame 1     [ 1   2   3   4 ]
    num_hops = num_frames - 1 + hops_in_frame
    hops = _to_length(samples, num_hops * hop_length)
    hops = hops.reshape(*samples.shape[:-1], num_hops, hop_length)
    shifted = [hops[..., first : first + num_frames, :] for first in range(hops_in_frame)]
    return jnp.concatenate(shifted, axis=-1)[..., :frame_length]


@lru_cache(maxsize=64)
def mel_filter_bank(
    sampling_rate: int,
    n_fft: int,
    num_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    scale: Literal["slaney", "htk"] = "slaney",
) -> np.ndarray:
    """Give triangular filters, evenly spaced in mel, that sum a spectrum's bins.

    f_min, f_max: Hz, where the first filter begins and the last one ends; half the sampling rate
        unless told
    scale: "slaney" as `librosa.filters.mel` does by default, which descript uses: linear below
        1 kHz, logarithmic above, each filter of area 1 over Hz; "htk" as torchaudio's `MelScale`
        does by default, which audiocraft uses: 2595 log10(1 + Hz / 700), filters of height 1, and
        its bins at multiples of (sampling_rate // 2) / (n_fft // 2) Hz
    -> float32 [num_mels, n_fft // 2 + 1], read-only. Where bins are wider than filters, some
    filters are zero.

    Raises `ValueError` for sizes that are not positive, for limits that do not rise, and for
    another scale.
    """
    if scale not in _MEL_SCALES:
        raise ValueError(f"scale must be one of {', '.join(_MEL_SCALES)}; got {scale!r}")
    if min(sampling_rate, n_fft, num_mels) < 1:
        raise ValueError(f"sizes must be positive; got {sampling_rate=}, {n_fft=}, {num_mels=}")
    htk = scale == "htk"
    nyquist = float(sampling_rate // 2) if htk else sampling_rate / 2
    f_max = nyquist if f_max is None else f_max
    if not 0 <= f_min < f_max:
        raise ValueError(f"f_min must be from 0 to below f_max; got {f_min=}, {f_max=}")
    to_mel, to_hertz = _MEL_SCALES[scale]
    corners = to_hertz(np.linspace(to_mel(f_min), to_mel(f_max), num_mels + 2))
    bins = (
        np.linspace(0, nyquist, n_fft // 2 + 1)
        if htk
        else np.fft.rfftfreq(n_fft, 1 / sampling_rate)
    )
    bank = _triangles(bins, corners)
    if not htk:
        bank *= 2 / (corners[2:] - corners[:-2])[:, None]
    bank = bank.astype(np.float32)
    bank.flags.writeable = False
    return bank


def _check_lengths(window_length, hop_length):
    if window_length < 2 or hop_length < 1:
        raise ValueError(
            f"window_length must be at least 2 and hop_length at least 1; "
            f"got {window_length} and {hop_length}"
        )


def _stride_padding(samples, window_length, hop_length):
    if hop_length * 4 != window_length:
        raise ValueError(
            f"match_stride takes a hop of a quarter of the window ({window_length / 4:g}); "
            f"got {hop_length}"
        )
    side = (window_length - hop_length) // 2
    return side, side + -samples.shape[-1] % hop_length


def _reflected(samples, left, right, num_samples=None):
    """Reflect [B, ..., T] once, as torch does, about the first sample and the last one."""
    length = samples.shape[-1]
    if max(left, right) >= length:
        raise ValueError(
            f"audio of {length} samples is too short: its ends are reflected by "
            f"{max(left, right)} samples, so it must be longer than that"
        )
    if num_samples is None:
        return jnp.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(left, right)], mode="reflect")
    places = jnp.abs(jnp.arange(-left, length + right))
    last = num_samples[:, None] - 1
    places = jnp.clip(jnp.where(places > last, 2 * last - places, places), 0, length - 1)
    places = places.reshape(len(places), *[1] * (samples.ndim - 2), -1)
    return jnp.take_along_axis(samples, places, axis=-1)


def _to_length(samples, length):
    """Cut [..., T] to `length`, or append zeros."""
    missing = max(length - samples.shape[-1], 0)
    padding = [(0, 0)] * (samples.ndim - 1) + [(0, missing)]
    return jnp.pad(samples[..., :length], padding)


def _triangles(bins, corners):
    """Filter m rises from corner m to corner m + 1 and falls to corner m + 2: [M, bins]."""
    widths = np.diff(corners)
    distances = bins - corners[:, None]
    rising = distances[:-2] / widths[:-1, None]
    falling = -distances[2:] / widths[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def _slaney_mel(hertz):
    """Auditory Toolbox (Slaney 1998), as librosa.hz_to_mel."""
    bend = _SLANEY_BEND_HZ / _SLANEY_HZ_PER_MEL
    above = bend + np.log(np.maximum(hertz, _SLANEY_BEND_HZ) / _SLANEY_BEND_HZ) / _SLANEY_LOG_STEP
    return np.where(hertz < _SLANEY_BEND_HZ, hertz / _SLANEY_HZ_PER_MEL, above)


def _slaney_hertz(mels):
    bend = _SLANEY_BEND_HZ / _SLANEY_HZ_PER_MEL
    above = _SLANEY_BEND_HZ * np.exp(_SLANEY_LOG_STEP * (mels - bend))
    return np.where(mels < bend, mels * _SLANEY_HZ_PER_MEL, above)


def _htk_mel(hertz):
    return 2595.0 * np.log10(1 + hertz / 700)


def _htk_hertz(mels):
    return 700.0 * (10 ** (mels / 2595) - 1)


_MEL_SCALES = {"slaney": (_slaney_mel, _slaney_hertz), "htk": (_htk_mel, _htk_hertz)}
