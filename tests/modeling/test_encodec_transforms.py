"""EnCodec's model inside JAX: compiled, mapped, differentiated, exported, in other dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import export

from codax.modeling import FlaxEncodecModel
from codax.modeling.pretrained_base import _run
from tests.tiny_encodec import MONO, SEGMENT, STEREO, noise, random_params, tiny_encodec

# Sums of float32 products of order one, in an order that depends on the program: 1e-6 was seen.
TOLERANCE = 1e-5
MONO_SHAPE = (2, 1, 123)
STEREO_SHAPE = (2, 2, 450)  # two segments, the second of 74 samples


def num_compilations(function):
    before = _run._cache_size()
    function()
    return _run._cache_size() - before


@pytest.fixture(scope="module")
def mono_audio():
    return noise(*MONO_SHAPE)


@pytest.fixture(scope="module")
def stereo_audio():
    return noise(*STEREO_SHAPE)


@pytest.fixture(scope="module")
def mask():
    return np.arange(STEREO_SHAPE[-1]) < np.array([[450], [390]])


@pytest.fixture(scope="module")
def mono_codes(encodec_mono, mono_audio):
    return encodec_mono.encode(mono_audio).audio_codes


@pytest.fixture(scope="module")
def mono_decoded(encodec_mono, mono_codes):
    return encodec_mono.decode(mono_codes).audio_values


@pytest.fixture(scope="module")
def stereo_output(encodec_stereo, stereo_audio, mask):
    """Codes and audio of clips of different length."""
    return encodec_stereo(stereo_audio, mask)


@pytest.fixture(scope="module")
def stereo_scales(stereo_audio):
    """float32 [S, B, 1], of segments of 400 and 74 samples, of 390 and 14."""
    scales = [
        [np.sqrt(np.mean(piece.mean(axis=0) ** 2)) for piece in pieces]
        for pieces in (
            (stereo_audio[0, :, :400], stereo_audio[1, :, :390]),
            (stereo_audio[0, :, 376:], stereo_audio[1, :, 376:390]),
        )
    ]
    return np.array(scales, np.float32)[..., None]


# --- compiled ------------------------------------------------------------------------------------


def test_shape_seen_before_does_not_compile_again(encodec_mono, mono_audio, mono_codes):
    audio = noise(*MONO_SHAPE, seed=11)
    params = random_params(encodec_mono.config, seed=5)
    encodec_mono.decode(mono_codes, num_samples=MONO_SHAPE[-1])
    assert num_compilations(lambda: encodec_mono.encode(audio)) == 0
    assert num_compilations(lambda: encodec_mono.encode(audio, bandwidth=3.2)) == 0
    assert num_compilations(lambda: encodec_mono.encode(audio, np.ones((2, 123)))) == 0
    assert num_compilations(lambda: encodec_mono.encode(audio, params=params)) == 0
    for given in ({"num_samples": [123, 123]}, {"padding_mask": np.ones((2, 123))}):
        assert num_compilations(lambda given=given: encodec_mono.decode(mono_codes, **given)) == 0


def test_masks_of_one_shape_compile_once(encodec_stereo, stereo_audio, mask, stereo_output):
    for lengths in ([[450], [1]], [[400], [399]], [[30], [20]]):
        other = np.arange(STEREO_SHAPE[-1]) < np.array(lengths)
        assert num_compilations(lambda other=other: encodec_stereo(stereo_audio, other)) == 0


def test_other_models_of_the_same_configuration_do_not_compile_again(
    mono_audio, mono_codes, stereo_audio, mask, stereo_output
):
    for other in (tiny_encodec(MONO, seed=3), tiny_encodec(MONO, target_bandwidths=[3.2, 12.8])):
        assert num_compilations(lambda other=other: other.encode(mono_audio)) == 0
    assert (tiny_encodec(MONO, seed=3).encode(mono_audio).audio_codes != mono_codes).any()
    transformers_like = tiny_encodec(STEREO, segmentation="transformers")
    assert num_compilations(lambda: transformers_like(stereo_audio, mask)) == 0


def test_inside_jit_with_weights_as_an_argument_nothing_changes(
    encodec_mono, mono_audio, mono_codes, mono_decoded
):
    @jax.jit
    def code_and_back(params, audio):
        encoded = encodec_mono.encode(audio, params=params)
        pad_length = encoded.last_frame_pad_length
        decoded = encodec_mono.decode(
            encoded.audio_codes, last_frame_pad_length=pad_length, params=params
        )
        return encoded.audio_codes, decoded.audio_values

    codes, restored = code_and_back(encodec_mono.params, mono_audio)
    np.testing.assert_array_equal(codes, mono_codes)
    np.testing.assert_allclose(restored, mono_decoded, atol=TOLERANCE)


def test_inside_jit_masks_may_be_arguments_too(encodec_stereo, mask, stereo_output, stereo_scales):
    @jax.jit
    def decode(params, codes, mask):
        return encodec_stereo.decode(codes, stereo_scales, mask, params=params).audio_values

    restored = decode(encodec_stereo.params, stereo_output.audio_codes, mask)
    np.testing.assert_allclose(restored, stereo_output.audio_values, atol=TOLERANCE)


def test_traced_arguments_of_a_wrong_shape_are_refused(encodec_mono, encodec_stereo):
    audio = jnp.zeros((1, 1, 50))
    with pytest.raises(ValueError, match="input_values has shape"):
        jax.jit(encodec_stereo.encode)(audio)
    with pytest.raises(ValueError, match="padding_mask has shape"):
        jax.jit(encodec_mono.encode)(audio, jnp.ones((1, 49)))
    codes = jnp.zeros((1, 1, 1, 5), jnp.int32)
    for given, name in (
        ({"audio_scales": jnp.ones((1, 1, 1))}, "audio_scales"),
        ({"num_frames": jnp.ones((1, 2), jnp.int32)}, "num_frames"),
        ({"num_frames": jnp.ones((1, 1))}, "num_frames"),
    ):
        with pytest.raises(ValueError, match=name):
            jax.jit(lambda codes, given: encodec_mono.decode(codes, **given))(codes, given)


@pytest.mark.parametrize("code", [-1, 16, 1000])
def test_traced_codes_outside_the_codebook_decode_to_nan(traced_decode, mono_codes, code):
    audio = traced_decode(mono_codes.at[0, 0, 0, 6].set(code))
    assert np.isnan(audio[0]).any()
    assert np.isfinite(audio[1]).all()


@pytest.fixture(scope="module")
def traced_decode(encodec_mono):
    return jax.jit(lambda codes: encodec_mono.decode(codes).audio_values)


# --- mapped, differentiated ----------------------------------------------------------------------


def test_mapped_over_the_batch_nothing_changes(encodec_mono, mono_audio, mono_codes, mono_decoded):
    def code_and_back(clip):
        codes = encodec_mono.encode(clip[None]).audio_codes
        return codes[:, 0], encodec_mono.decode(codes).audio_values[0]

    codes, restored = jax.jit(jax.vmap(code_and_back, out_axes=(1, 0)))(mono_audio)
    np.testing.assert_array_equal(codes, mono_codes)
    np.testing.assert_allclose(restored, mono_decoded, atol=TOLERANCE)


def test_mapped_over_clips_and_masks_nothing_changes(
    encodec_stereo, stereo_audio, mask, stereo_output, stereo_scales
):
    def encode(clip, mask):
        encoded = encodec_stereo.encode(clip[None], mask[None])
        lengths = encoded.num_samples, encoded.last_frame_pad_length
        return encoded.audio_codes[:, 0], encoded.audio_scales[:, 0], *lengths

    codes, scales, num_samples, pad_length = jax.jit(jax.vmap(encode))(stereo_audio, mask)
    np.testing.assert_array_equal(codes.swapaxes(0, 1), stereo_output.audio_codes)
    np.testing.assert_allclose(scales.swapaxes(0, 1), stereo_scales, rtol=1e-6)
    assert num_samples.tolist() == [[450], [390]]
    assert pad_length.tolist() == [[40 - 8], [40 - 2]]


def test_encoding_is_applied_with_explicit_weights(encodec_mono, mono_audio, mono_codes):
    module = encodec_mono.module
    encode = jax.jit(lambda v, x: module.apply(v, x, None, 1, method="encode").codes)
    np.testing.assert_array_equal(encode({"params": encodec_mono.params}, mono_audio), mono_codes)


@pytest.fixture(scope="module")
def small_model():
    """Gradients take long to compile."""
    return tiny_encodec(STEREO, chunk_length_s=None)


def test_gradients_through_decoding_reach_every_weight_that_decodes(small_model):
    codes = np.random.default_rng(0).integers(0, 16, (1, 2, 1, 6))
    scales, target = np.ones((1, 2, 1), np.float32), noise(2, 2, 60)

    @jax.jit
    @jax.grad
    def gradients(params):
        output = small_model.decode(codes, scales, params=params)
        return jnp.mean((output.audio_values - target) ** 2)

    found = flatten_dict(gradients(small_model.params))
    assert found.keys() == flatten_dict(small_model.params).keys()
    for path, gradient in found.items():
        assert np.isfinite(gradient).all(), path
        decodes = path[0] == "decoder" or path[1:] == ("codebooks_0", "embedding")
        assert gradient.any() == decodes, path


# --- dtypes, platforms ---------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [MONO, STEREO], ids=["mono", "stereo"])
def test_no_dtype_is_promoted_implicitly(fields):
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.bfloat16):
            model = tiny_encodec(fields, options={"dtype": dtype, "encode_dtype": dtype})
            shape = (2, model.config.audio_channels, SEGMENT + 50)
            masks = (None, np.arange(SEGMENT + 50) < np.array([[SEGMENT + 50], [9]]))
            for mask in masks:
                run = jax.jit(lambda p, x, model=model, mask=mask: model(x, mask, params=p))
                audio = jax.ShapeDtypeStruct(shape, jnp.float32)
                output = run.eval_shape(model.params, audio)
                assert output.audio_values.shape == shape
                assert output.audio_values.dtype == jnp.float32


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_encoding_and_decoding_are_lowered_for_every_platform(
    encodec_stereo, stereo_audio, mask, platform
):
    def code_and_back(params, audio, mask):
        return encodec_stereo(audio, mask, params=params).audio_values

    exported = export.export(jax.jit(code_and_back), platforms=[platform])(
        encodec_stereo.params, stereo_audio, mask
    )
    assert exported.platforms == (platform,)


def test_everything_is_done_at_the_highest_precision(encodec_stereo, stereo_audio, mask):
    """Unless told not to, accelerators round the factors of float32 products: codes change."""
    lowered = jax.jit(lambda p, x: encodec_stereo(x, mask, params=p)).lower(
        encodec_stereo.params, stereo_audio
    )
    products = [
        line
        for line in lowered.as_text().splitlines()
        if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
    ]
    assert len(products) > 12
    assert all("HIGHEST" in line for line in products)


def test_bfloat16_decodes_nearly_the_same_and_leaves_encoding_alone(mono_codes, mono_decoded):
    half = tiny_encodec(MONO, options={"dtype": jnp.bfloat16})
    assert half.module.encode_dtype == jnp.float32
    audio = half.decode(mono_codes).audio_values
    assert audio.dtype == jnp.float32
    # bfloat16 has 8 bits of mantissa; a dozen layers each add a rounding of half a step, 2^-9, to
    # values of order one, and the last scales by 0.15.
    np.testing.assert_allclose(audio, mono_decoded, atol=0.03)
    assert np.abs(audio - mono_decoded).max() > 1e-4


def test_bfloat16_encoding_gives_valid_codes_that_mostly_agree(mono_audio, mono_codes):
    codes = tiny_encodec(MONO, options={"encode_dtype": jnp.bfloat16}).encode(mono_audio)
    codes = codes.audio_codes
    assert codes.dtype == jnp.int32
    assert ((codes >= 0) & (codes < 16)).all()
    assert (codes == mono_codes).mean() > 0.7


def test_fresh_weights_are_those_listed():
    for fields in (MONO, STEREO):
        model = FlaxEncodecModel(tiny_encodec(fields).config, _do_init=False)
        fresh = jax.eval_shape(lambda key, m=model: m.init_weights(key, m.input_shape), model.key)
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), fresh)
        listed = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), model.params_shape_tree)
        assert shapes == listed
