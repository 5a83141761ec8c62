"""What a model keeps for its kernels is used, and follows its parameters."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.modeling import minimal_filtering
from codax.modeling.kept_factors import TAP_FACTORS, KeptFactors
from codax.modeling.minimal_filtering import tap_factors

from .tiny import BATCH, FRAMES, HOP_LENGTH, noise, tiny_config, tiny_model, tiny_params

FLOAT32 = {"encoder": jnp.float32, "decoder": jnp.float32}


@pytest.fixture(autouse=True)
def many_channels(monkeypatch):
    """Tiny kernels count as such with many channels."""
    for name in (
        "FEWEST_CHANNELS",
        "FEWEST_POSITIONS",
        "FEWEST_CHANNELS_OF_TWO_TAPS",
        "FEWEST_FRAMES",
    ):
        monkeypatch.setattr(minimal_filtering, name, 2)


@pytest.fixture(scope="module")
def config():
    return tiny_config(codebook_size=32)  # not what other tests have compiled, with fewer channels


@pytest.fixture
def model(config):
    return tiny_model(config)


AUDIO = noise(BATCH, 1, FRAMES * HOP_LENGTH)


def kept(model):
    return model._factors.of(model.params).get(TAP_FACTORS, {})


def decoded(model, **options):
    codes = np.random.default_rng(0).integers(0, 32, (BATCH, 3, FRAMES))
    return np.asarray(model.decode(audio_codes=codes, **options).audio_values)


def test_kernels_of_seven_taps_have_factors_as_those_are(model):
    factors = jax.tree.leaves(kept(model))
    assert factors
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model.params)
    of_doubled = KeptFactors(model.config.architecture, FLOAT32).of(doubled)[TAP_FACTORS]
    for one, twice in zip(factors, jax.tree.leaves(of_doubled), strict=True):
        np.testing.assert_allclose(twice, 2 * one, rtol=1e-6)


def test_so_have_kernels_of_two_strides(model):
    of_encoder, of_decoder = (kept(model)[name]["block"]["0"] for name in ("encoder", "decoder"))
    kernels = {
        "conv1": (model.params["encoder"]["block"]["0"]["conv1"]["kernel"], of_encoder),
        "conv_t1": (model.params["decoder"]["block"]["0"]["conv_t1"]["kernel"], of_decoder),
    }
    for name, (kernel, factors) in kernels.items():
        made = tap_factors(np.asarray(kernel).reshape(2, -1, kernel.shape[-1]))
        for one, expected in zip(factors[name]["kernel"], made, strict=True):
            np.testing.assert_array_equal(one, expected)


def test_results_are_those_of_parameters_that_are_given(model):
    own, given = model.encode(AUDIO), model.encode(AUDIO, params=model.params)
    np.testing.assert_array_equal(own.audio_codes, given.audio_codes)
    np.testing.assert_allclose(decoded(model), decoded(model, params=model.params), atol=1e-5)


def test_they_are_what_is_multiplied_with(model):
    before = decoded(model)
    factors = kept(model)["decoder"]
    factors.update(jax.tree.map(lambda leaf: 0 * leaf, factors))
    assert np.max(np.abs(decoded(model) - before)) > 0.01


def test_they_are_made_once(model):
    decoded(model)
    assert all(
        one is other
        for one, other in zip(
            jax.tree.leaves(kept(model)), jax.tree.leaves(kept(model)), strict=True
        )
    )


def test_replaced_parameters_have_their_own(model, config):
    decoded(model)
    model.params = tiny_params(config, seed=1)
    expected = decoded(tiny_model(config, seed=1))
    np.testing.assert_array_equal(decoded(model), expected)


def test_a_kernel_replaced_within_the_tree_has_its_own(model):
    before = decoded(model)
    convolution = model.params["decoder"]["block"]["0"]["res_unit1"]["conv1"]
    convolution["kernel"] = 2 * convolution["kernel"]
    after = decoded(model)
    assert np.max(np.abs(after - before)) > 0.001
    np.testing.assert_allclose(after, decoded(model, params=model.params), atol=1e-5)


def test_arrays_that_can_change_have_none(model):
    model.params = jax.tree.map(np.array, model.params)
    assert kept(model) == {}
    before = decoded(model)
    model.params["decoder"]["block"]["0"]["res_unit1"]["conv1"]["kernel"] *= 2
    assert np.max(np.abs(decoded(model) - before)) > 0.001


def test_they_have_the_dtype_of_products_where_that_takes_fewer(config):
    def dtypes(**options):
        factors = kept(tiny_model(config, **options))
        return {
            name: {one.dtype.name for one in jax.tree.leaves(of_part)}
            for name, of_part in factors.items()
        }

    assert dtypes() == {"encoder": {"float32"}, "decoder": {"float32"}}
    assert dtypes(dtype=jnp.bfloat16) == {"encoder": {"float32"}, "decoder": {"bfloat16"}}
    assert dtypes(dtype=jnp.float16) == {"encoder": {"float32"}}


def test_a_copy_has_its_own(model):
    expected = decoded(model)
    copied = copy.deepcopy(model)
    assert copied._factors is not model._factors
    np.testing.assert_array_equal(decoded(copied), expected)


def test_first_use_within_a_callers_program_leaves_nothing_of_it_behind(model):
    traced = jax.jit(lambda audio: model.encode(audio).audio_codes)(AUDIO)
    np.testing.assert_array_equal(traced, model.encode(AUDIO).audio_codes)
    jax.tree.map(np.asarray, kept(model))


def test_gradients_by_the_input_are_those_with_parameters_that_are_given(model):
    def level(latents, **options):
        return jnp.sum(model.decode(latents, **options).audio_values ** 2)

    latents = jnp.asarray(noise(BATCH, model.config.hidden_size, FRAMES))
    own = jax.grad(level)(latents)
    given = jax.grad(level)(latents, params=model.params)
    np.testing.assert_allclose(own, given, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(given))))
