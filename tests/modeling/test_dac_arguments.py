"""What encode, decode and the call give for every shape, and what they refuse."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct

from codax.modeling import FlaxDacModel

from .tiny import BATCH, FRAMES, HOP_LENGTH, noise, tiny_config, tiny_model


def shapes(function, *arrays):
    """The shapes of a function's results by name, traced without being computed."""
    results = jax.eval_shape(function, *arrays)
    return SimpleNamespace(**{name: result.shape for name, result in results.items()})


def audio_of(num_samples, batch=1):
    return ShapeDtypeStruct((batch, 1, num_samples), jnp.float32)


def codes_of(frames, levels=3, batch=1):
    return ShapeDtypeStruct((batch, levels, frames), jnp.int32)


@pytest.fixture(scope="module", params=[[2, 5], [4], [3, 3]], ids=str)
def any_model(request):
    return tiny_model(tiny_config(downsampling_ratios=request.param))


def test_encoding_gives_the_shapes_that_the_configuration_says(any_model):
    config = any_model.config
    for num_samples in (*range(config.hop_length, 2 * config.hop_length + 1, 3), 137):
        frames = config.encoded_length(num_samples)
        assert frames in (num_samples // config.hop_length, num_samples // config.hop_length + 1)
        result = shapes(any_model.encode, audio_of(num_samples, batch=3))
        assert result.loss == ()
        assert result.audio_codes == (3, 3, frames)
        assert result.quantized_representation == (3, config.hidden_size, frames)
        assert result.projected_latents == (3, 3 * config.codebook_dim, frames)


def test_decoding_gives_the_length_that_the_configuration_says(any_model):
    config = any_model.config
    for frames in (1, 2, 3, 17):
        expected = (1, config.decoded_length(frames))
        by_codes = shapes(lambda codes: any_model.decode(audio_codes=codes), codes_of(frames))
        latents = ShapeDtypeStruct((1, config.hidden_size, frames), jnp.float32)
        assert by_codes.audio_values == shapes(any_model.decode, latents).audio_values == expected


def test_decoding_without_padding_gives_the_length_that_the_configuration_says(model):
    def decode(codes):
        return model.decode(audio_codes=codes, padded=False)

    for frames in (1, 10, 28, 29, 30, 41):
        num_samples = model.config.decoded_length(frames, padded=False)
        if num_samples:
            assert shapes(decode, codes_of(frames)).audio_values == (1, num_samples)
        else:
            with pytest.raises(ValueError, match=f"{frames} frames are too few"):
                decode(np.zeros((1, 1, frames), np.int32))


def test_calling_crops_to_the_input_and_pads_nothing(any_model):
    config = any_model.config
    for num_samples in (config.hop_length, 2 * config.hop_length + 1, 4 * config.hop_length - 1):
        frames = config.encoded_length(num_samples)
        result = shapes(any_model, audio_of(num_samples))
        assert result.audio_codes == (1, 3, frames)
        assert result.audio_values == (1, min(num_samples, config.decoded_length(frames)))


@pytest.mark.parametrize("ratios", [[2, 5], [4], [3, 1], [1]], ids=str)
def test_keep_length_gives_exactly_the_samples_that_were_given(ratios):
    model = tiny_model(tiny_config(downsampling_ratios=ratios))
    for num_samples in range(1, 3 * model.config.hop_length + 1):
        result = shapes(lambda audio: model(audio, keep_length=True), audio_of(num_samples))
        assert result.audio_values == (1, num_samples)


def test_results_are_float32_and_int32(encoded, decoded):
    assert encoded.audio_codes.dtype == jnp.int32
    assert encoded.quantized_representation.dtype == jnp.float32
    assert encoded.projected_latents.dtype == jnp.float32
    assert encoded.loss.dtype == decoded.dtype == jnp.float32


def test_num_samples_crops_and_fills_with_zeros(model, encoded, decoded):
    length = decoded.shape[-1]
    for num_samples in (0, 1, length, length + 2, length + 100):
        audio = model.decode(audio_codes=encoded.audio_codes, num_samples=num_samples).audio_values
        kept = min(num_samples, length)
        assert audio.shape == (BATCH, num_samples)
        np.testing.assert_array_equal(audio[:, :kept], decoded[:, :kept])
        assert not audio[:, kept:].any()


def test_without_return_dict_tuples_come_in_the_order_of_the_fields(model, audio, encoded, decoded):
    codes = encoded.audio_codes
    assert [x.shape for x in model.encode(audio, return_dict=False)] == [
        (), encoded.quantized_representation.shape, codes.shape, encoded.projected_latents.shape
    ]  # fmt: skip
    (only,) = model.decode(audio_codes=codes, return_dict=False)
    np.testing.assert_array_equal(only, decoded)
    called = model(audio, return_dict=False)
    assert len(called) == 5
    np.testing.assert_array_equal(called[3], codes)


def test_return_dict_of_the_configuration_is_the_default(model, audio, encoded):
    plain = FlaxDacModel(tiny_config(return_dict=False), _do_init=False)
    assert isinstance(plain.encode(audio, params=model.params), tuple)
    output = plain.encode(audio, params=model.params, return_dict=True)
    np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)


def test_outputs_are_read_by_name_by_key_and_by_position(model, audio, encoded):
    assert list(encoded) == list(encoded.keys())
    assert encoded["audio_codes"] is encoded.audio_codes is encoded[2]
    kept = model(audio, keep_length=True)
    assert kept["audio_values"] is kept.audio_values is kept[1]
    assert kept.audio_values.shape == (BATCH, FRAMES * HOP_LENGTH)


@pytest.mark.parametrize("shape", [(120,), (1, 120), (1, 2, 120), (0, 1, 120), (1, 1, 1, 120)])
def test_audio_of_another_shape_is_refused_by_its_shape(model, shape):
    with pytest.raises(ValueError, match="input_values") as error:
        model.encode(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "bool", "complex64"])
def test_audio_of_another_dtype_is_refused_by_its_dtype(model, dtype):
    with pytest.raises(ValueError, match=f"input_values .*{dtype}"):
        model.encode(np.zeros((1, 1, 120), dtype))


def test_audio_shorter_than_one_frame_is_refused_and_one_frame_is_not(model):
    shortest = next(n for n in range(1, 11) if model.config.encoded_length(n))
    for too_short in (0, 1, shortest - 1):
        for run in (model.encode, model):
            with pytest.raises(ValueError, match=f"{shortest} samples") as error:
                run(np.zeros((1, 1, too_short), np.float32))
            assert str((1, 1, too_short)) in str(error.value)
    assert shapes(model.encode, audio_of(shortest)).audio_codes == (1, 3, 1)
    with pytest.raises(ValueError, match="at least one item and 1 samples"):
        model(np.zeros((1, 1, 0), np.float32), keep_length=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_audio_of_any_float_type_is_taken(model, audio, dtype):
    exact = audio.astype(np.float16)  # the same values in every type
    codes = model.encode(exact.astype(np.float32)).audio_codes
    np.testing.assert_array_equal(model.encode(exact.astype(dtype)).audio_codes, codes)


@pytest.mark.parametrize("n_quantizers", [0, -1, 4, True, 1.5, 2.0, "2", np.nan])
def test_number_of_quantizers_that_the_model_lacks_is_refused(model, audio, n_quantizers):
    with pytest.raises(ValueError, match="n_quantizers") as error:
        model.encode(audio, n_quantizers=n_quantizers)
    assert repr(n_quantizers).strip("'") in str(error.value)


@pytest.mark.parametrize("shape", [(3, 5), (5,), (1, 4, 5), (1, 0, 5), (1, 3, 0), (0, 3, 5)])
def test_codes_of_another_shape_are_refused_by_their_shape(model, shape):
    with pytest.raises(ValueError, match="audio_codes") as error:
        model.decode(audio_codes=np.zeros(shape, np.int32))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bool", "complex64"])
def test_codes_of_another_dtype_are_refused_by_their_dtype(model, dtype):
    with pytest.raises(ValueError, match=f"audio_codes .*{dtype}"):
        model.decode(audio_codes=np.zeros((1, 3, 5), dtype))


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray, np.ndarray.tolist])
@pytest.mark.parametrize("code", [-1, 16, 2**31 - 1])
def test_codes_outside_the_codebook_are_refused_by_their_values(model, code, as_array):
    codes = np.full((1, 3, 5), 7, np.int32)
    codes[0, 2, 4] = code
    with pytest.raises(ValueError, match="audio_codes") as error:
        model.decode(audio_codes=as_array(codes))
    assert str(code) in str(error.value)


@pytest.mark.parametrize("code", [2**32, 2**32 + 7, -(2**32), 2**63 - 1])
def test_codes_beyond_32_bits_are_refused_and_do_not_wrap_around(model, code):
    with pytest.raises(ValueError, match="audio_codes"):
        model.decode(audio_codes=np.full((1, 3, 5), code, np.int64))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_codes_of_any_integer_type_decode_alike(model, encoded, decoded, dtype):
    codes = np.asarray(encoded.audio_codes).astype(dtype)
    np.testing.assert_array_equal(model.decode(audio_codes=codes).audio_values, decoded)


@pytest.mark.parametrize("shape", [(16, 5), (1, 15, 5), (1, 5, 16), (1, 16, 0), (0, 16, 5)])
def test_latents_of_another_shape_are_refused_by_their_shape(model, shape):
    with pytest.raises(ValueError, match="quantized_representation") as error:
        model.decode(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_latents_of_another_dtype_are_refused_by_their_dtype(model, dtype):
    with pytest.raises(ValueError, match=f"quantized_representation .*{dtype}"):
        model.decode(np.zeros((1, 16, 5), dtype))


@pytest.mark.parametrize("num_samples", [-1, 2.5, "3", True])
def test_num_samples_that_is_no_length_is_refused_by_its_value(model, encoded, num_samples):
    with pytest.raises(ValueError, match=f"num_samples={num_samples!r}"):
        model.decode(audio_codes=encoded.audio_codes, num_samples=num_samples)


def test_decoding_nothing_is_refused(model):
    with pytest.raises(ValueError, match="quantized_representation or audio_codes"):
        model.decode()


def test_codes_win_over_latents(model, encoded, decoded):
    other = noise(*encoded.quantized_representation.shape)
    audio = model.decode(other, audio_codes=encoded.audio_codes).audio_values
    np.testing.assert_array_equal(audio, decoded)


def test_model_without_weights_says_that_it_has_none(audio):
    with pytest.raises(ValueError, match="params"):
        FlaxDacModel(tiny_config(), _do_init=False).encode(audio)


@pytest.mark.parametrize("precision", ["highest", jax.lax.Precision.HIGHEST])
def test_precision_is_taken_by_name_and_by_value(precision):
    assert tiny_model(precision=precision).module.precision == jax.lax.Precision.HIGHEST


def test_unknown_precision_is_refused_by_its_name():
    with pytest.raises(ValueError, match="sloppy"):
        tiny_model(precision="sloppy")
