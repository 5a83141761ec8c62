"""EnCodec's loss between mel spectrograms of several resolutions.

Defossez et al. 2022, section 3.4, as audiocraft has it (audiocraft/losses/specloss.py,
MultiScaleMelSpectrogramLoss; the settings are those of config/solver/compression/default.yaml).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from codax.evaluation.spectra import mel_filter_bank, stft

WINDOW_LENGTHS = (64, 128, 256, 512, 1024)


def multi_scale_spectrogram_loss(
    fake: jax.Array,
    real: jax.Array,
    sampling_rate: int,
    *,
    window_lengths: Sequence[int] = WINDOW_LENGTHS,
    num_mels: int = 64,
    f_min: float = 64.0,
    f_max: float | None = None,
    normalized: bool = True,
    weighted_logs: bool = False,
    floor: float = 1e-5,
) -> jax.Array:
    """Sum over resolutions of the mean |S(fake) - S(real)| and of that of log10's squares.

    S is the power spectrum under torchaudio's mel filters, and floor is added before the logarithm.

    fake, real: float32 [B, C, T], a codec's reconstruction and what it was made of; only the
        former has a gradient
    sampling_rate: of both, Hz
    window_lengths: in samples; the hop is a quarter
    f_min, f_max: of the filters, Hz; half the sampling rate unless told
    normalized: divide spectra by the root of the window's energy, and the sum by that of all
        coefficients
    weighted_logs: multiply the squares at a window of n samples by sqrt(n - 1), audiocraft's
        `alphas`; EnCodec's are all 1
    -> float32 scalar

    Raises `ValueError` for audio of unequal shapes, and for audio so short that its ends cannot be
    reflected by three eighths of the longest window.
    """
    if fake.shape != real.shape or fake.ndim != 3:
        raise ValueError(
            f"fake and real must be [B, C, T] of one shape; got {fake.shape} and {real.shape}"
        )
    both = jnp.stack([fake, jax.lax.stop_gradient(real)])
    loss, total = jnp.float32(0), 0.0
    for length in window_lengths:
        bank = mel_filter_bank(sampling_rate, length, num_mels, f_min, f_max, scale="htk")
        powers = _power(both, length, normalized)
        mels = jnp.einsum("mf,...ft->...mt", bank, powers, precision="highest")
        logs = jnp.log10(floor + mels)
        alpha = float(np.sqrt(length - 1)) if weighted_logs else 1.0
        loss += jnp.mean(jnp.abs(mels[0] - mels[1]))
        loss += alpha * jnp.mean(jnp.square(logs[0] - logs[1]))
        total += 1 + alpha
    return loss / total if normalized else loss


def _power(samples: jax.Array, window_length: int, normalized: bool) -> jax.Array:
    """float32 [..., T] -> [..., bins, ceil(T / hop)].

    The ends are reflected by (window - hop) // 2 at each side, then zeros fill the last window.
    """
    hop_length = window_length // 4
    side = (window_length - hop_length) // 2
    if samples.shape[-1] <= side:
        raise ValueError(
            f"audio of {samples.shape[-1]} samples is too short for a window of {window_length}: "
            f"it must have more than {side}"
        )
    unpadded = [(0, 0)] * (samples.ndim - 1)
    samples = jnp.pad(samples, [*unpadded, (side, side)], mode="reflect")
    missing = -(samples.shape[-1] - window_length) % hop_length
    samples = jnp.pad(samples, [*unpadded, (0, missing)])
    spectrum = stft(samples, window_length, hop_length, centred=False, normalized=normalized)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)
