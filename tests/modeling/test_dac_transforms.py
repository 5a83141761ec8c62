"""The model inside JAX: compiled, mapped, differentiated, exported, in other dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import export

from codax.modeling import FlaxDacModel
from codax.modeling.pretrained_base import _run

from .tiny import BATCH, FRAMES, HOP_LENGTH, noise, tiny_config, tiny_model, tiny_params

# Sums of float32 products of order one, in an order that depends on the program: 3e-7 was seen.
TOLERANCE = 2e-6


def num_compilations(function):
    before = _run._cache_size()
    function()
    return _run._cache_size() - before


def test_shape_seen_before_does_not_compile_again(model, encoded, decoded):
    audio = noise(BATCH, 1, FRAMES * HOP_LENGTH, seed=11)
    codes = (encoded.audio_codes + 1) % 16
    assert num_compilations(lambda: model.encode(audio)) == 0
    assert num_compilations(lambda: model.encode(audio, n_quantizers=3)) == 0
    assert num_compilations(lambda: model.decode(audio_codes=codes)) == 0
    assert num_compilations(lambda: model.decode(audio_codes=codes, num_samples=7)) == 0
    assert num_compilations(lambda: model.encode(audio, params=tiny_params(model.config, 5))) == 0


def test_another_model_object_of_the_same_configuration_does_not_compile_again(
    model, audio, encoded, decoded
):
    other = tiny_model(tiny_config(), seed=3)
    assert num_compilations(lambda: other.encode(audio)) == 0
    assert num_compilations(lambda: other.decode(audio_codes=encoded.audio_codes)) == 0
    assert (other.encode(audio).audio_codes != encoded.audio_codes).any()


def test_inside_jit_with_weights_as_an_argument_nothing_changes(model, audio, encoded, decoded):
    @jax.jit
    def code_and_back(params, audio):
        codes = model.encode(audio, params=params).audio_codes
        return codes, model.decode(audio_codes=codes, params=params).audio_values

    codes, restored = code_and_back(model.params, audio)
    np.testing.assert_array_equal(codes, encoded.audio_codes)
    np.testing.assert_allclose(restored, decoded, atol=TOLERANCE)


def test_mapped_over_the_batch_nothing_changes(model, audio, encoded, decoded):
    def code_and_back(clip):
        codes = model.encode(clip[None]).audio_codes
        return codes[0], model.decode(audio_codes=codes).audio_values[0]

    codes, restored = jax.jit(jax.vmap(code_and_back))(audio)
    np.testing.assert_array_equal(codes, encoded.audio_codes)
    np.testing.assert_allclose(restored, decoded, atol=TOLERANCE)


def test_module_is_applied_and_bound_with_explicit_weights(model, audio, encoded, decoded):
    variables = {"params": model.params}
    encode = jax.jit(lambda v, x: model.module.apply(v, x, method="encode").audio_codes)
    np.testing.assert_array_equal(encode(variables, audio), encoded.audio_codes)

    @jax.jit
    def decode(variables, codes):
        return model.module.bind(variables).decode(audio_codes=codes).audio_values

    restored = decode(variables, encoded.audio_codes)
    np.testing.assert_allclose(restored, decoded, atol=TOLERANCE)


@pytest.fixture(scope="module")
def small_model():
    """Gradients take long to compile."""
    return tiny_model(tiny_config(downsampling_ratios=[5], decoder_hidden_size=8, n_codebooks=2))


@pytest.fixture(scope="module")
def gradients(small_model):
    """Function of weights and audio: the gradients of (reconstruction loss, quantizer loss)."""

    @jax.jit
    def compute(params, audio):
        def losses(params):
            output = small_model(audio, params=params)
            target = audio[:, 0, : output.audio_values.shape[-1]]
            return jnp.stack([jnp.mean((output.audio_values - target) ** 2), output.loss])

        return jax.jacrev(losses)(params)

    return compute


def test_losses_reach_every_weight_that_they_should(small_model, audio, gradients):
    """Reconstruction passes straight through the quantizer; only its own loss moves codewords."""
    found = flatten_dict(gradients(small_model.params, audio))
    assert found.keys() == flatten_dict(small_model.params).keys()
    for path, (by_audio, by_codes) in found.items():
        assert np.isfinite(by_audio).all(), path
        assert np.isfinite(by_codes).all(), path
        is_codebook, is_decoder = "codebook" in path, path[0] == "decoder"
        is_last_up_projection = path[:3] == ("quantizer", "quantizers_1", "out_proj")
        assert by_audio.any() != is_codebook, path
        assert by_codes.any() != (is_decoder or is_last_up_projection), path


@pytest.mark.parametrize("factor", [1.0, 0.0])
def test_gradients_of_silence_are_finite_also_where_latents_vanish(
    small_model, audio, gradients, factor
):
    params = jax.tree.map(lambda weight: factor * weight, small_model.params)
    silence = jnp.zeros_like(audio)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients(params, silence)))


@pytest.mark.parametrize("code", [-1, 16, 1000])
def test_traced_codes_outside_the_codebook_decode_to_nan(model, encoded, traced_decode, code):
    codes = encoded.audio_codes.at[0, 2, 35].set(code)
    audio = traced_decode(codes)
    assert np.isnan(audio[0]).any()
    assert np.isfinite(audio[1]).all()


@pytest.fixture(scope="module")
def traced_decode(model):
    return jax.jit(lambda codes: model.decode(audio_codes=codes).audio_values)


def test_no_dtype_is_promoted_implicitly(model, audio, encoded):
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.bfloat16):
            other = FlaxDacModel(model.config, _do_init=False, dtype=dtype, encode_dtype=dtype)
            run = jax.jit(lambda p, x, other=other: other(x, params=p, keep_length=True))
            assert run.eval_shape(model.params, audio).audio_values.shape == (BATCH, 700)
            decode = jax.jit(lambda p, c, other=other: other.decode(audio_codes=c, params=p))
            decode.eval_shape(model.params, encoded.audio_codes)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_encoding_and_decoding_are_lowered_for_every_platform(model, audio, encoded, platform):
    def encode(params, audio):
        return model.encode(audio, params=params).audio_codes

    def decode(params, codes):
        return model.decode(audio_codes=codes, params=params).audio_values

    for function, array in ((encode, audio), (decode, encoded.audio_codes)):
        exported = export.export(jax.jit(function), platforms=[platform])(model.params, array)
        assert exported.platforms == (platform,)


def test_encoding_is_done_at_the_highest_precision(model, audio):
    """Unless told not to, accelerators round the factors of float32 products: codes change."""
    lowered = jax.jit(lambda p, x: model.encode(x, params=p).audio_codes).lower(model.params, audio)
    products = [
        line
        for line in lowered.as_text().splitlines()
        if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
    ]
    assert len(products) > 20
    assert all("HIGHEST" in line for line in products)


def test_bfloat16_decodes_nearly_the_same_and_encodes_exactly_the_same(
    model, audio, encoded, decoded
):
    half = tiny_model(dtype=jnp.bfloat16)
    output = half(audio)
    np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)
    assert output.audio_values.dtype == jnp.float32
    # bfloat16 has 8 bits of mantissa; fifteen layers each add a rounding of half a step, 2^-9, to
    # values of order one, and the last scales by 0.1.
    np.testing.assert_allclose(output.audio_values, decoded, atol=0.03)
    assert np.abs(output.audio_values - decoded).max() > 1e-4


def test_bfloat16_encoding_runs_and_gives_float32_and_valid_codes(model, audio, encoded):
    output = tiny_model(encode_dtype=jnp.bfloat16).encode(audio)
    assert output.audio_codes.dtype == jnp.int32
    assert output.quantized_representation.dtype == jnp.float32
    assert ((output.audio_codes >= 0) & (output.audio_codes < 16)).all()
    # Latents are off by some 2^-8, so that codes of the first level mostly agree.
    assert (output.audio_codes[:, 0] == encoded.audio_codes[:, 0]).mean() > 0.8


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_dtype_is_taken_by_name_and_by_type(dtype):
    module = tiny_model(dtype=dtype, encode_dtype=dtype).module
    assert module.dtype == module.encode_dtype == jnp.bfloat16
    assert hash(module) == hash(tiny_model(dtype="bfloat16", encode_dtype="bfloat16").module)
