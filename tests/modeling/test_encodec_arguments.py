"""What EnCodec's encode, decode and call give for every shape, and what they refuse."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct

from codax.configuration import EncodecConfig
from codax.modeling import FlaxEncodecModel
from codax.modeling.modeling_flax_encodec import FlaxEncodecEncoderOutput
from tests.tiny_encodec import HOP_LENGTH, MONO, SEGMENT, STEREO, STRIDE, noise, tiny_encodec

MONO_SAMPLES = 123  # 13 frames, of which the last lacks 7 samples
STEREO_SAMPLES = 1000  # segments of 400, 400 and 248 samples
SHORTER = 400  # of the second clip of a batch: segments of 400 and 24 samples
BOUNDARIES = (1, HOP_LENGTH, STRIDE, STRIDE + 1, SEGMENT, SEGMENT + 1, 2 * STRIDE + 1)


def shapes(function, *arrays):
    """The shapes of a function's results by name, traced without being computed."""
    results = jax.eval_shape(function, *arrays)
    return SimpleNamespace(**{name: result.shape for name, result in results.items()})


def audio_of(num_samples, channels=1, batch=3):
    return ShapeDtypeStruct((batch, channels, num_samples), jnp.float32)


def codes_of(*shape):
    return ShapeDtypeStruct(shape, jnp.int32)


@pytest.fixture(scope="module")
def audio():
    return noise(2, 2, STEREO_SAMPLES)


@pytest.fixture(scope="module")
def mask():
    return np.arange(STEREO_SAMPLES) < np.array([[STEREO_SAMPLES], [SHORTER]])


@pytest.fixture(scope="module")
def encoded(encodec_stereo, audio, mask):
    """Of two clips of different length."""
    return encodec_stereo.encode(audio, mask, bandwidth=9.6)


@pytest.fixture(scope="module")
def decoded(encodec_stereo, encoded):
    return np.asarray(
        encodec_stereo.decode(
            encoded.audio_codes, encoded.audio_scales, num_samples=encoded.num_samples
        ).audio_values
    )


# --- shapes and types ----------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [1, 9, 10, 11, MONO_SAMPLES])
def test_encoding_gives_one_segment_of_as_many_frames_as_the_configuration_says(
    encodec_mono, num_samples
):
    result = shapes(encodec_mono.encode, audio_of(num_samples))
    frames = encodec_mono.config.encoded_length(num_samples)
    assert result.audio_codes == (1, 3, 1, frames)
    assert result.num_samples == (3,)
    assert not hasattr(result, "audio_scales")


@pytest.mark.parametrize("num_samples", BOUNDARIES)
def test_encoding_gives_as_many_segments_as_the_configuration_says(encodec_stereo, num_samples):
    result = shapes(encodec_stereo.encode, audio_of(num_samples, channels=2))
    segments = encodec_stereo.config.segments(num_samples)
    frames = encodec_stereo.config.encoded_length(segments[0][1])
    assert result.audio_codes == (len(segments), 3, 1, frames)
    assert result.audio_scales == (len(segments), 3, 1)


@pytest.mark.parametrize(("bandwidth", "levels"), [(None, 1), (3.2, 1), (6.4, 2), (12.8, 4)])
def test_bandwidth_decides_how_many_codebooks_are_used(encodec_mono, bandwidth, levels):
    for run in (encodec_mono.encode, encodec_mono):
        result = shapes(lambda audio, run=run: run(audio, bandwidth=bandwidth), audio_of(50))
        assert result.audio_codes == (1, 3, levels, 5)


@pytest.mark.parametrize("num_samples", BOUNDARIES)
def test_calling_gives_audio_as_long_as_the_input(encodec_mono, encodec_stereo, num_samples):
    for model, channels in ((encodec_mono, 1), (encodec_stereo, 2)):
        result = shapes(model, audio_of(num_samples, channels))
        assert result.audio_values == (3, channels, num_samples)


def test_decoding_covers_all_frames_unless_told_the_length(encodec_mono, encodec_stereo):
    assert shapes(encodec_mono.decode, codes_of(1, 3, 2, 13)).audio_values == (3, 1, 130)
    scales = np.ones((3, 3, 1), np.float32)
    whole = shapes(lambda codes: encodec_stereo.decode(codes, scales), codes_of(3, 3, 2, 40))
    assert whole.audio_values == (3, 2, 2 * STRIDE + SEGMENT)


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({"num_samples": 1000}, 1000),
        ({"num_samples": np.int64(1)}, 1),
        ({"num_samples": [1000, 2]}, 1000),
        ({"num_samples": np.array([3, 2], np.uint16)}, 3),
        ({"padding_mask": np.ones((2, 900))}, 900),
        ({"padding_mask": np.ones((2, 2, 900), bool)}, 900),
        ({"padding_mask": [[1] * 5, [1, 0, 0, 0, 0]]}, 5),
        ({"last_frame_pad_length": 15}, 2 * STRIDE + 250),
        ({"last_frame_pad_length": 39}, 2 * STRIDE + 10),
        ({"last_frame_pad_length": 41}, STRIDE + 390),
        ({"last_frame_pad_length": [15, 41]}, 2 * STRIDE + SEGMENT),
        ({"num_frames": np.full((3, 2), 7)}, 2 * STRIDE + SEGMENT),
        ({"num_samples": 5, "padding_mask": np.ones((2, 9)), "last_frame_pad_length": 39}, 5),
        ({"padding_mask": np.ones((2, 9)), "last_frame_pad_length": 39}, 9),
    ],
    ids=str,
)
def test_decoded_length_is_what_the_first_given_argument_says(encodec_stereo, given, length):
    scales = np.ones((3, 2, 1), np.float32)

    def decode(codes):
        return encodec_stereo.decode(codes, scales, **given)

    assert shapes(decode, codes_of(3, 2, 1, 40)).audio_values == (2, 2, length)


def test_outputs_are_int32_codes_and_float32_scales_and_audio(encoded, decoded):
    assert type(encoded) is FlaxEncodecEncoderOutput
    assert encoded.audio_codes.dtype == encoded.num_samples.dtype == jnp.int32
    assert encoded.audio_scales.dtype == decoded.dtype == jnp.float32
    assert decoded.shape == (2, 2, STEREO_SAMPLES)
    assert ((encoded.audio_codes >= 0) & (encoded.audio_codes < 16)).all()


def test_codes_and_audio_vary(encoded, decoded):
    """Else these tests would say little."""
    first = np.asarray(encoded.audio_codes)[0, 0]
    assert min(len(np.unique(level)) for level in first) > 5
    assert 0.03 < decoded[0].std() < 3


def test_clip_in_a_batch_says_how_many_of_its_samples_and_frames_there_are(encoded):
    assert encoded.num_samples.tolist() == [STEREO_SAMPLES, SHORTER]
    # 25 of 40 frames are in the last segment of the first clip; the second clip has 3 in its last,
    # the second, and none in the third.
    assert encoded.last_frame_pad_length.tolist() == [15, 37 + 40]
    assert not np.asarray(encoded.audio_codes)[2, 1].any()
    assert not np.asarray(encoded.audio_codes)[1, 1, :, 3:].any()


def test_without_a_mask_the_padding_of_the_last_segment_is_one_number(encodec_stereo, audio):
    encoded = encodec_stereo.encode(audio, bandwidth=9.6)
    assert encoded.last_frame_pad_length == 15
    assert isinstance(encoded.last_frame_pad_length, int)
    assert encoded.num_samples.tolist() == [STEREO_SAMPLES] * 2


@pytest.mark.parametrize("as_mask", [np.ndarray.tolist, np.int32, np.float32, jnp.asarray])
def test_mask_may_be_of_any_type_and_have_an_axis_of_channels(
    encodec_stereo, audio, mask, encoded, as_mask
):
    for given in (as_mask(mask), as_mask(np.repeat(mask[:, None], 2, axis=1))):
        output = encodec_stereo.encode(audio, given, bandwidth=9.6)
        np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)


def test_what_lies_beyond_the_end_of_a_clip_is_not_seen(encodec_stereo, audio, mask, encoded):
    other = np.where(mask[:, None], audio, np.nan)
    output = encodec_stereo.encode(other, mask, bandwidth=9.6)
    np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)
    np.testing.assert_array_equal(output.audio_scales, encoded.audio_scales)


def test_audio_beyond_the_end_of_a_clip_is_zero(decoded):
    assert decoded[1, :, :SHORTER].all()
    assert not decoded[1, :, SHORTER:].any()


def test_every_way_to_tell_the_lengths_decodes_the_same(encodec_stereo, encoded, decoded, mask):
    codes, scales = encoded.audio_codes, encoded.audio_scales
    by_mask = encodec_stereo.decode(codes, scales, mask).audio_values
    np.testing.assert_array_equal(by_mask, decoded)
    frames = [[40, 40], [40, 3], [25, 0]]
    for given in (
        {"num_frames": frames},
        {"last_frame_pad_length": encoded.last_frame_pad_length},
    ):
        audio = np.asarray(encodec_stereo.decode(codes, scales, **given).audio_values)
        np.testing.assert_array_equal(audio[0, :, :STEREO_SAMPLES], decoded[0])
        np.testing.assert_array_equal(audio[1, :, :SHORTER], decoded[1, :, :SHORTER])


def test_calling_is_encoding_and_decoding(encodec_mono):
    audio = noise(2, 1, MONO_SAMPLES)
    encoded = encodec_mono.encode(audio)
    decoded = encodec_mono.decode(encoded.audio_codes).audio_values
    output = encodec_mono(audio)
    np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)
    # Compiled as one program, which sums in another order.
    np.testing.assert_allclose(output.audio_values, decoded[..., :MONO_SAMPLES], atol=1e-5)


def test_outputs_may_be_tuples_as_torch_gives_them(encodec_mono, encodec_stereo, audio, encoded):
    codes, scales, pad_length = encodec_mono.encode(noise(2, 1, MONO_SAMPLES), return_dict=False)
    assert (codes.shape, scales, pad_length) == ((1, 2, 1, 13), None, 0)
    (values,) = encodec_mono.decode(codes, return_dict=False)
    assert values.shape == (2, 1, 130)
    codes, scales, pad_length = encodec_stereo.encode(audio, bandwidth=9.6, return_dict=False)
    np.testing.assert_allclose(scales[:, 0], encoded.audio_scales[:, 0], rtol=1e-6)
    assert pad_length == 15


def test_return_dict_of_the_configuration_is_the_default(encodec_mono):
    plain = FlaxEncodecModel(EncodecConfig(**MONO, return_dict=False), _do_init=False)
    audio, params = noise(2, 1, MONO_SAMPLES), encodec_mono.params
    assert isinstance(plain.encode(audio, params=params), tuple)
    assert plain.encode(audio, params=params, return_dict=True).audio_codes.shape == (1, 2, 1, 13)


def test_scales_may_be_the_list_that_torch_gives(encodec_stereo, encoded, decoded):
    codes, length = encoded.audio_codes, encoded.num_samples
    for scales in (list(encoded.audio_scales), encoded.audio_scales[..., 0]):
        audio = encodec_stereo.decode(codes, scales, num_samples=length).audio_values
        np.testing.assert_array_equal(audio, decoded)


def test_list_of_no_scales_is_what_torch_gives_for_models_that_do_not_normalise(encodec_mono):
    given = shapes(lambda codes: encodec_mono.decode(codes, [None]), codes_of(1, 1, 1, 5))
    assert given.audio_values == (1, 1, 50)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_audio_of_any_float_type_is_taken(encodec_mono, dtype):
    exact = noise(2, 1, MONO_SAMPLES).astype(np.float16)  # the same values in every type
    codes = encodec_mono.encode(exact.astype(np.float32)).audio_codes
    np.testing.assert_array_equal(encodec_mono.encode(exact.astype(dtype)).audio_codes, codes)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_codes_of_any_integer_type_are_taken(encodec_mono, dtype):
    codes = np.random.default_rng(0).integers(0, 16, (1, 2, 1, 13))
    expected = encodec_mono.decode(codes.astype(np.int32)).audio_values
    np.testing.assert_array_equal(encodec_mono.decode(codes.astype(dtype)).audio_values, expected)


# --- audio that is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(120,), (1, 120), (0, 1, 120), (1, 1, 0), (1, 1, 1, 120)])
def test_audio_of_another_shape_is_refused_by_its_shape(encodec_mono, shape):
    for run in (encodec_mono.encode, encodec_mono):
        with pytest.raises(ValueError, match="input_values") as error:
            run(np.zeros(shape, np.float32))
        assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "bool", "complex64"])
def test_audio_of_another_dtype_is_refused_by_its_dtype(encodec_mono, dtype):
    with pytest.raises(ValueError, match=f"input_values .*{dtype}"):
        encodec_mono.encode(np.zeros((1, 1, 120), dtype))


def test_mono_audio_in_a_stereo_model_is_refused_with_the_way_out(encodec_stereo, encodec_mono):
    with pytest.raises(ValueError, match=r"\[batch, 2, samples\] .*repeats mono"):
        encodec_stereo.encode(noise(1, 1, 120))
    with pytest.raises(ValueError, match=r"\[batch, 1, samples\] .*this model is mono"):
        encodec_mono.encode(noise(1, 2, 120))


@pytest.mark.parametrize("bandwidth", [2.0, 6, "3.2", True])
def test_bandwidth_that_the_model_lacks_is_refused_with_those_it_has(encodec_mono, bandwidth):
    for run in (encodec_mono.encode, encodec_mono):
        with pytest.raises(ValueError, match=r"bandwidth=.*3\.2, 6\.4, 12\.8"):
            run(noise(1, 1, 50), bandwidth=bandwidth)


@pytest.mark.parametrize("shape", [(50,), (2, 49), (1, 50), (3, 50), (2, 1, 49), (2, 1, 1, 50)])
def test_mask_of_another_shape_is_refused_by_its_shape(encodec_mono, shape):
    for run in (encodec_mono.encode, encodec_mono):
        with pytest.raises(ValueError, match="padding_mask") as error:
            run(noise(2, 1, 50), np.ones(shape))
        assert str(shape) in str(error.value)


@pytest.mark.parametrize("mask", [[0, 1, 1], [1, 0, 1], [0, 0, 1]])
def test_mask_that_is_not_a_prefix_is_refused(encodec_mono, mask):
    with pytest.raises(ValueError, match="1 up to where a clip ends"):
        encodec_mono.encode(noise(1, 1, 3), np.array([mask]))


def test_mask_whose_channels_differ_is_refused(encodec_stereo):
    mask = np.ones((1, 2, 50))
    mask[0, 1, 40:] = 0
    with pytest.raises(ValueError, match="1 up to where a clip ends"):
        encodec_stereo.encode(noise(1, 2, 50), mask)


# --- codes that are refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(3, 5), (1, 3, 5), (1, 1, 5, 13), (1, 1, 0, 13), (1, 1, 1, 0), (0, 1, 1, 13)]
)
def test_codes_of_another_shape_are_refused_by_their_shape(encodec_mono, shape):
    with pytest.raises(ValueError, match="audio_codes") as error:
        encodec_mono.decode(np.zeros(shape, np.int32))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_codes_of_another_dtype_are_refused_by_their_dtype(encodec_mono, dtype):
    with pytest.raises(ValueError, match=f"audio_codes .*{dtype}"):
        encodec_mono.decode(np.zeros((1, 1, 1, 5), dtype))


@pytest.mark.parametrize("code", [-1, 16, 2**32, 2**63 - 1])
def test_codes_outside_the_codebook_are_refused_by_their_values(encodec_mono, code):
    codes = np.full((1, 1, 2, 5), 7, np.int64)
    codes[0, 0, 1, 4] = code
    with pytest.raises(ValueError, match="audio_codes") as error:
        encodec_mono.decode(codes)
    assert str(code) in str(error.value)


def test_codes_in_segments_are_refused_by_a_model_without_segments(encodec_mono):
    with pytest.raises(ValueError, match="2 segments; this model codes clips in one"):
        encodec_mono.decode(np.zeros((2, 1, 1, 5), np.int32))


@pytest.mark.parametrize("scales", [None, [], [None, None, None]])
def test_missing_scales_are_refused(encodec_stereo, encoded, scales):
    with pytest.raises(ValueError, match="audio_scales are missing"):
        encodec_stereo.decode(encoded.audio_codes, scales)


@pytest.mark.parametrize(
    "change",
    [
        lambda scales: scales[:2],
        lambda scales: [scales[0], None, scales[2]],
        lambda scales: scales[:, :1],
        lambda scales: np.swapaxes(scales, 0, 1),
    ],
    ids=["of two segments", "none for one", "of one clip", "clips first"],
)
def test_scales_of_another_shape_are_refused_by_their_shape(encodec_stereo, encoded, change):
    with pytest.raises(ValueError, match=r"audio_scales has shape .* expected \(3, 2, 1\)"):
        encodec_stereo.decode(encoded.audio_codes, change(np.asarray(encoded.audio_scales)))


def test_scales_are_refused_by_a_model_that_does_not_normalise(encodec_mono):
    with pytest.raises(ValueError, match="audio_scales are given"):
        encodec_mono.decode(np.zeros((1, 1, 1, 5), np.int32), np.ones((1, 1, 1)))


def zeros(model):
    """Codes of three segments of two clips, or of one, and their scales."""
    if model.config.segmenting is None:
        return np.zeros((1, 2, 1, 13), np.int32), None
    return np.zeros((3, 2, 1, 40), np.int32), np.ones((3, 2, 1), np.float32)


@pytest.mark.parametrize("num_samples", [-1, [5, -1], 10**12])
def test_length_that_the_codes_do_not_hold_is_refused(encodec_mono, encodec_stereo, num_samples):
    for model in (encodec_mono, encodec_stereo):
        codes, scales = zeros(model)
        with pytest.raises(ValueError, match=r"do not hold .*-1|do not hold 1000000000000"):
            model.decode(codes, scales, num_samples=num_samples)


def test_longest_length_that_the_codes_hold_is_the_last_that_is_not_refused(
    encodec_mono, encodec_stereo
):
    for model, longest in ((encodec_mono, 130), (encodec_stereo, 3 * STRIDE)):
        codes, scales = zeros(model)
        refused = {"num_samples": longest + 1}, {"padding_mask": np.ones((2, longest + 1))}
        for given in refused:
            with pytest.raises(ValueError, match=f"do not hold {longest + 1} samples"):
                model.decode(codes, scales, **given)
        kept = jax.eval_shape(
            lambda codes, model=model, scales=scales, longest=longest: model.decode(
                codes, scales, num_samples=longest
            ),
            codes,
        )
        assert kept.audio_values.shape[-1] == longest


@pytest.mark.parametrize("value", [2.5, "3", True, [1, 2, 3], [[1, 2]], [1.0, 2.0], 10**30])
@pytest.mark.parametrize("name", ["num_samples", "last_frame_pad_length"])
def test_lengths_that_are_no_integers_for_each_clip_are_refused_by_value(
    encodec_stereo, name, value
):
    codes, scales = zeros(encodec_stereo)
    with pytest.raises(ValueError, match=name) as error:
        encodec_stereo.decode(codes, scales, **{name: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("pad_length", [-1, 120, [0, 120], [-1, 0]])
def test_padding_of_more_frames_than_there_are_is_refused(encodec_stereo, pad_length):
    codes, scales = zeros(encodec_stereo)
    with pytest.raises(ValueError, match=r"last_frame_pad_length=.* must be from 0 to 119"):
        encodec_stereo.decode(codes, scales, last_frame_pad_length=pad_length)


@pytest.mark.parametrize(
    "num_frames",
    [
        np.full((3, 2), 41),
        np.full((3, 2), -1),
        np.full((3, 2), 2.5),
        np.full((2, 3), 4),
        np.full(3, 4),
        4,
    ],
    ids=str,
)
def test_number_of_frames_that_there_are_not_is_refused(encodec_stereo, num_frames):
    codes, scales = zeros(encodec_stereo)
    with pytest.raises(ValueError, match="num_frames"):
        encodec_stereo.decode(codes, scales, num_frames=num_frames)


@pytest.mark.parametrize("shape", [(1, 50), (2, 1, 1, 50), (50,)])
def test_mask_of_other_clips_than_were_coded_is_refused(encodec_mono, shape):
    codes, _ = zeros(encodec_mono)
    with pytest.raises(ValueError, match="padding_mask") as error:
        encodec_mono.decode(codes, padding_mask=np.ones(shape))
    assert str(shape) in str(error.value)


def test_model_without_weights_says_that_it_has_none(encodec_mono):
    empty = FlaxEncodecModel(encodec_mono.config, _do_init=False)
    with pytest.raises(ValueError, match="params"):
        empty.encode(noise(1, 1, 50))


# --- both ways to cut segments -------------------------------------------------------------------


def test_segments_of_transformers_hold_the_silence_after_a_clip(
    encodec_stereo, audio, mask, encoded
):
    model = tiny_encodec(STEREO, segmentation="transformers")
    output = model.encode(audio, mask, bandwidth=9.6)
    # 400 samples make two segments of the original, one of which is short. In transformers the
    # second is whole, and a third follows; the batch has room for 24 of its samples.
    assert output.num_samples.tolist() == [STEREO_SAMPLES, STRIDE + SEGMENT]
    assert output.last_frame_pad_length.tolist() == [15, 40 - 3]
    np.testing.assert_array_equal(output.audio_codes[:, 0], encoded.audio_codes[:, 0])
    np.testing.assert_array_equal(output.audio_codes[0, 1], encoded.audio_codes[0, 1])
    silent = encodec_stereo.encode(np.where(mask[:, None], audio, 0), bandwidth=9.6)
    np.testing.assert_array_equal(output.audio_codes[:2, 1], silent.audio_codes[:2, 1])


# --- calling with codes --------------------------------------------------------------------------


def test_calling_with_codes_decodes_them_as_long_as_the_audio(encodec_mono):
    audio = noise(2, 1, MONO_SAMPLES)
    codes = encodec_mono.encode(audio).audio_codes
    output = encodec_mono(audio, audio_codes=codes)
    np.testing.assert_array_equal(output.audio_codes, codes)
    expected = encodec_mono.decode(codes).audio_values[..., :MONO_SAMPLES]
    np.testing.assert_array_equal(output.audio_values, expected)


def test_calling_with_codes_takes_scales_and_mask(encodec_stereo, audio, mask, encoded, decoded):
    output = encodec_stereo(
        audio, mask, audio_codes=encoded.audio_codes, audio_scales=encoded.audio_scales
    )
    np.testing.assert_array_equal(output.audio_values, decoded)
