"""EnCodec's mel-spectrogram loss against audiocraft's, and what it promises."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.training.mel_loss import multi_scale_spectrogram_loss

SAMPLING_RATE = 8000
WINDOWS = (64, 128, 256)
loss_of = partial(multi_scale_spectrogram_loss, sampling_rate=SAMPLING_RATE, window_lengths=WINDOWS)

# By audiocraft 1.3.0's MultiScaleMelSpectrogramLoss (audiocraft/losses/specloss.py, range_start 6,
# range_end 9) with torchaudio 2.11, of `noise(1, 0.3)` and `noise(2, 0.1)`: the loss, its gradient
# by the former at four samples of the last channel, and the gradient's norm.
OF_AUDIOCRAFT = [
    (
        {},  # f_min 64, normalized, alphas off: EnCodec's settings
        0.6675004959106445,
        [-0.0006974457646720111, -9.545027569402009e-05, -0.0015345594147220254, 0.000472778978],
        0.0628177747130394,
    ),
    (
        {"f_min": 0.0, "f_max": 3e3, "num_mels": 20, "normalized": False, "weighted_logs": True},
        87.56436157226562,
        [-0.09353162348270416, -0.08312059938907623, -0.16167375445365906, 0.18478192389011383],
        10.308194160461426,
    ),
]
PLACES = np.array([0, 5, 500, 1002])


def noise(seed, scale):
    """float32 [2, 2, 1003]: no hop divides its length."""
    return (scale * np.random.default_rng(seed).standard_normal((2, 2, 1003))).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "value", "by_samples", "norm"), OF_AUDIOCRAFT, ids=["encodec", "others"]
)
def test_values_and_gradients_equal_audiocrafts(options, value, by_samples, norm):
    compute = jax.jit(jax.value_and_grad(partial(loss_of, **options)))
    loss, gradient = compute(noise(1, 0.3), real=noise(2, 0.1))
    np.testing.assert_allclose(loss, value, rtol=2e-6)
    np.testing.assert_allclose(jnp.linalg.norm(gradient), norm, rtol=1e-5)
    # Logarithms of bins near the floor are steep: errors of the order of the whole gradient's.
    atol = 1e-5 * np.abs(by_samples).max()
    np.testing.assert_allclose(gradient[1, 1, PLACES], by_samples, atol=atol)


def test_equal_audio_has_next_to_no_loss_and_silence_has_finite_gradients():
    compute = jax.jit(jax.value_and_grad(loss_of))
    silence, audio = np.zeros((1, 1, 500), np.float32), noise(1, 0.3)[:1, :1, :500]
    assert compute(audio, real=audio)[0] < 1e-12  # squares of what vector lanes round differently
    _, gradient = compute(silence, real=audio)
    assert np.isfinite(gradient).all()


def test_real_audio_has_no_gradient():
    gradient = jax.jit(jax.grad(lambda real: loss_of(noise(1, 0.3), real=real)))(noise(2, 0.1))
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("fake", "real", "message"),
    [
        ((2, 1, 500), (1, 1, 500), r"of one shape; got \(2, 1, 500\) and \(1, 1, 500\)"),
        ((500,), (500,), r"\[B, C, T\]"),
        ((1, 1, 96), (1, 1, 96), "96 samples is too short for a window of 256: .* more than 96"),
    ],
)
def test_audio_that_does_not_fit_is_an_error(fake, real, message):
    with pytest.raises(ValueError, match=message):
        loss_of(jnp.zeros(fake), real=jnp.zeros(real))
