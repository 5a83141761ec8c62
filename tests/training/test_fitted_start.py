"""A DAC that is fitted to audio before the first step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.configuration.conv_geometry import Conv
from codax.errors import CodaxError
from codax.modeling.layers import FlaxConv, FlaxConvTranspose
from codax.training import fitted_start, load_recipe
from codax.training.fitted_start import fit_to_audio
from codax.training.steps import Training

FIELDS = (
    "model.fields={encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=6, codebook_size=64}"
)


@pytest.fixture(scope="module")
def training():
    recipe = load_recipe("dac_16khz", [FIELDS, "model.start=fitted", "losses.features=0"])
    return Training(recipe, recipe.model.config())


@pytest.fixture(scope="module")
def fresh(training):
    samples = np.zeros((1, 1, training.config.hop_length), np.float32)
    levels = np.ones(1, np.int32)
    return training.module.init(jax.random.key(0), samples, levels, method="reconstruct")["params"]


@pytest.fixture(scope="module")
def clips(training):
    """Noise that is mostly below 400 Hz: 4 channels of 50 frames a second can carry some of it."""
    generator = np.random.default_rng(0)
    shape = (12, 1, 20 * training.config.hop_length)
    spectrum = np.fft.rfft(generator.standard_normal(shape))
    spectrum /= 1 + (np.fft.rfftfreq(shape[-1], 1 / training.config.sampling_rate) / 100) ** 4
    audio = np.fft.irfft(spectrum)
    return (0.1 * audio / audio.std()).astype(np.float32)


@pytest.fixture(scope="module")
def fit(training, fresh):
    rate, key = training.config.sampling_rate, jax.random.key(0)
    return jax.jit(lambda samples: fit_to_audio(training.module, fresh, samples, rate, key))


@pytest.fixture(scope="module")
def fitted(fit, clips):
    return fit(clips)


def reconstructed(training, params, samples, levels=6):
    """The audio, and by the path of a convolution the deviation of what comes out of it."""
    found = {}

    def noted(call, arguments, options, context):
        outputs = call(*arguments, **options)
        if isinstance(context.module, FlaxConv | FlaxConvTranspose):
            found[context.module.path] = float(np.std(outputs))
        return outputs

    levels = np.full(len(samples), levels, np.int32)
    with nn.intercept_methods(noted):
        made = training.module.apply({"params": params}, samples, levels, method="reconstruct")
    return made.audio, found


def share_of_noise(audio, samples):
    return float(np.mean((audio - samples) ** 2) / np.mean(samples**2))


def test_the_waveform_is_coded_before_the_first_step(training, fresh, fitted, clips):
    noise = [
        share_of_noise(reconstructed(training, fitted, clips, levels)[0], clips)
        for levels in (1, 3, 6)
    ]
    assert noise == sorted(noise, reverse=True)
    assert noise[-1] < 0.25
    assert share_of_noise(reconstructed(training, fresh, clips)[0], clips) > 0.9


def test_residual_units_begin_as_little_more_than_what_bypasses_them(training, fitted, clips):
    _, deviations = reconstructed(training, fitted, clips)
    encoder = {path: value for path, value in deviations.items() if path[0] == "encoder"}
    branches = [value for path, value in encoder.items() if path[-2].startswith("res_unit")]
    units = [path for path in encoder if path[-2].startswith("res_unit") and path[-1] == "conv2"]
    assert len(branches) == 2 * len(units) == 24
    for path in encoder:
        wanted = fitted_start.BRANCH if path in units else 1
        assert encoder[path] == pytest.approx(wanted, rel=1e-3), path


def test_each_level_takes_something_away(fresh):
    latents = np.random.default_rng(0).standard_normal((10, 50, 64)).astype(np.float32)
    latents = latents * 0.9 ** np.arange(64, dtype=np.float32) + 1
    left = []
    for count in range(1, 7):
        names = [f"quantizers_{level}" for level in range(count)]
        some = {name: fresh["quantizer"][name] for name in names}
        _, quantized = fitted_start.fit_quantizer(some, latents, jax.random.key(0))
        left.append(np.var(latents - quantized) / np.var(latents, axis=(0, 1)).mean())
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.2


@pytest.mark.parametrize(
    "conv",
    [
        Conv("", 3, 5, kernel_size=7, padding=(3, 3)),
        Conv("", 3, 5, kernel_size=8, stride=4, transposed=True, padding=(2, 2)),
        Conv("", 3, 5, kernel_size=10, stride=5, transposed=True, padding=(3, 3)),
    ],
    ids=["plain", "transposed", "transposed by an odd stride"],
)
def test_least_squares_find_the_kernel_that_made_the_target(conv):
    layer = FlaxConvTranspose if conv.transposed else FlaxConv
    layer = layer(conv, jnp.float32, jax.lax.Precision.HIGHEST)
    hidden = np.random.default_rng(0).standard_normal((4, 60, 3)).astype(np.float32)
    variables = layer.init(jax.random.key(1), hidden)
    kernel = variables["params"]["kernel"]
    target = layer.apply(variables, hidden)
    found = fitted_start._least_squares(conv, jnp.asarray(hidden), target).reshape(kernel.shape)
    np.testing.assert_allclose(found, kernel, atol=1e-3 * np.abs(kernel).max())


def test_silence_gives_finite_weights(fit, clips):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit(0 * clips)))


def test_a_recipe_asks_for_it(training, fresh, clips):
    state = training.initial_state(fresh)
    begun = jax.jit(training.begun)(state, clips)
    levels = training._all_levels(len(clips))
    assert share_of_noise(training.reconstruct(begun.model, clips, levels).audio, clips) < 0.25
    plain = load_recipe("dac_16khz", [FIELDS])
    plain = Training(plain, plain.model.config())
    state = plain.initial_state(fresh)
    assert plain.begun(state, clips) is state


def test_codewords_are_found_from_enough_batches(training):
    excerpts = training.recipe.excerpts  # 72 of 0.38 s at 50 frames a second
    assert training.batches_to_begin == 1
    assert 72 * 0.38 * 50 > 16 * 64
    few = load_recipe("dac_16khz", [FIELDS, "model.start=fitted", "excerpts.batch_size=4"])
    assert excerpts.batch_size == 72
    assert Training(few, few.model.config()).batches_to_begin == 14
    plain = load_recipe("dac_16khz", [FIELDS, "excerpts.batch_size=4"])
    assert Training(plain, plain.model.config()).batches_to_begin == 1


def test_encodec_has_its_own_start():
    recipe = load_recipe("encodec_24khz", ["model.start=fitted"])
    with pytest.raises(CodaxError, match=r"model\.start"):
        recipe.model.config()
