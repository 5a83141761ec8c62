"""EnCodec in chunks: the LSTM's state goes from one to the next, so that nothing changes."""

import jax
import numpy as np
import pytest

from codax.modeling.pretrained_base import _run, _run_carrying
from tests.tiny_encodec import MONO, MUSIC, SEGMENT, STRIDE, noise, tiny_encodec

SAMPLES = 2009  # ends inside a frame
# Sums of float32 products of order one, in an order that depends on the length: 1e-7 was seen.
TOLERANCE = 1e-5
NETWORKS = [
    pytest.param({}, id="causal", marks=pytest.mark.full),
    pytest.param({"use_causal_conv": False}, id="not causal"),
    pytest.param({"num_lstm_layers": 2, "upsampling_ratios": [5, 4]}, id="causal, two LSTM layers"),
]


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    return tiny_encodec(MONO, **request.param)


@pytest.fixture(scope="module")
def audio():
    return noise(2, 1, SAMPLES)


@pytest.fixture(scope="module")
def mask():
    return np.arange(SAMPLES) < np.array([[SAMPLES], [1333]])


@pytest.fixture(scope="module")
def encoded(model, audio):
    return model.encode(audio)


def seconds(model, frames):
    return frames / model.config.frame_rate


@pytest.mark.parametrize("frames", [1, 37, 10_000])
def test_chunks_of_any_length_encode_to_the_same_codes(model, audio, encoded, frames):
    chunked = model.encode(audio, chunk_length_s=seconds(model, frames))
    np.testing.assert_array_equal(chunked.audio_codes, encoded.audio_codes)
    assert chunked.num_samples.tolist() == encoded.num_samples.tolist()
    assert chunked.last_frame_pad_length == encoded.last_frame_pad_length


@pytest.mark.parametrize("frames", [1, 37, 10_000])
def test_exact_chunks_of_any_length_decode_as_the_whole(model, encoded, frames):
    codes = encoded.audio_codes
    expected = model.decode(codes, num_samples=SAMPLES).audio_values
    chunked = model.decode(
        codes, num_samples=SAMPLES, chunk_length_s=seconds(model, frames), chunk_mode="exact"
    ).audio_values
    assert chunked.shape == expected.shape
    np.testing.assert_allclose(chunked, expected, atol=TOLERANCE)


def test_clips_of_mixed_lengths_are_coded_in_chunks_as_they_are_alone(model, audio, mask):
    whole = model.encode(audio, mask)
    chunk = seconds(model, 37)
    chunked = model.encode(audio, mask, chunk_length_s=chunk)
    np.testing.assert_array_equal(chunked.audio_codes, whole.audio_codes)
    settings = {"chunk_length_s": chunk, "chunk_mode": "exact"}
    expected = model.decode(whole.audio_codes, padding_mask=mask).audio_values
    result = model.decode(whole.audio_codes, padding_mask=mask, **settings).audio_values
    np.testing.assert_allclose(result, expected, atol=TOLERANCE)
    assert not result[1, :, 1333:].any()


def test_a_clips_mirrored_end_reaches_as_far_back_in_chunks():
    """A last convolution of one tap brings no context that would hide what mirroring needs."""
    model = tiny_encodec(
        MUSIC, upsampling_ratios=[8, 5], last_kernel_size=1, target_bandwidths=[3.2]
    )
    lengths = np.arange(39 * 40, 41 * 40)
    clips = noise(len(lengths), 1, lengths[-1])
    mask = np.arange(lengths[-1]) < lengths[:, None]
    expected = model.encode(clips, mask).audio_codes
    for frames in (1, 2, 3):
        chunked = model.encode(clips, mask, chunk_length_s=seconds(model, frames)).audio_codes
        np.testing.assert_array_equal(chunked, expected)


def test_overlapping_chunks_come_near_the_whole(model, encoded):
    """Not exactly: each begins with an LSTM that knows nothing."""
    expected = np.asarray(model.decode(encoded.audio_codes).audio_values)
    settings = {"chunk_length_s": seconds(model, 60), "overlap": 0.5}
    result = model.decode(encoded.audio_codes, **settings).audio_values
    assert result.shape == expected.shape
    assert np.sqrt(np.mean((result - expected) ** 2)) < 0.05 * expected.std()


def test_chunks_inside_a_callers_jit_are_the_same(model, audio, encoded):
    chunk = {"chunk_length_s": seconds(model, 37)}

    @jax.jit
    def code_and_back(params, audio):
        codes = model.encode(audio, params=params, **chunk).audio_codes
        return codes, model.decode(codes, params=params, chunk_mode="exact", **chunk).audio_values

    codes, result = code_and_back(model.params, audio)
    np.testing.assert_array_equal(codes, encoded.audio_codes)
    expected = model.decode(encoded.audio_codes).audio_values
    np.testing.assert_allclose(result, expected, atol=TOLERANCE)


def test_longer_clips_do_not_compile_again(encodec_mono, audio):
    chunk = {"chunk_length_s": seconds(encodec_mono, 37)}
    codes = encodec_mono.encode(audio, **chunk).audio_codes
    encodec_mono.decode(codes, chunk_mode="exact", **chunk)
    before = _run_carrying._cache_size()
    codes = encodec_mono.encode(np.tile(audio, 3), **chunk).audio_codes
    encodec_mono.decode(codes, chunk_mode="exact", **chunk)
    assert _run_carrying._cache_size() == before


# --- segments ------------------------------------------------------------------------------------


def together(method, *arrays, **options):
    """What a method of the model gives where it cannot take segments in groups: in a `jax.jit`."""

    @jax.jit
    def run(params, *arrays):
        return method(*arrays, params=params, **options)

    return run(method.__self__.params, *arrays)


@pytest.mark.parametrize("at_once", [None, 1, pytest.param(2, marks=pytest.mark.full), 3, 4])
def test_segments_in_groups_are_coded_as_together(encodec_stereo, at_once):
    """On a CPU they are coded one by one where nothing else is said."""
    num_samples = 3 * STRIDE + 20  # four segments, the third of which is short as well
    audio = noise(2, 2, num_samples)
    mask = np.arange(num_samples) < np.array([[num_samples], [450]])
    chunk = {} if at_once is None else {"chunk_length_s": at_once * 0.048}
    for given in (None, mask):
        whole = together(encodec_stereo.encode, audio, padding_mask=given)
        grouped = encodec_stereo.encode(audio, given, **chunk)
        assert isinstance(grouped.audio_codes, np.ndarray) == (at_once in (1, 2, 3))
        np.testing.assert_array_equal(grouped.audio_codes, whole.audio_codes)
        np.testing.assert_allclose(grouped.audio_scales, whole.audio_scales, rtol=1e-6)
        codes, scales = whole.audio_codes, whole.audio_scales
        length = num_samples if given is None else [num_samples, 450]
        expected = together(encodec_stereo.decode, codes, scales, num_samples=length).audio_values
        result = encodec_stereo.decode(codes, scales, num_samples=length, **chunk).audio_values
        assert isinstance(result, np.ndarray) == (at_once in (1, 2, 3))
        np.testing.assert_allclose(result, expected, atol=TOLERANCE)


@pytest.mark.parametrize("chunk", [{}, {"chunk_length_s": 0.048}])
def test_segments_are_coded_in_a_jit_around_arrays_that_are_known(encodec_stereo, chunk):
    audio = noise(1, 2, 3 * STRIDE)
    whole = encodec_stereo.encode(audio)
    codes, scales = np.asarray(whole.audio_codes), np.asarray(whole.audio_scales)
    in_jit = jax.jit(lambda: encodec_stereo.encode(audio, **chunk).audio_codes)()
    np.testing.assert_array_equal(in_jit, codes)
    expected = encodec_stereo.decode(codes, scales).audio_values
    in_jit = jax.jit(lambda: encodec_stereo.decode(codes, scales, **chunk).audio_values)()
    np.testing.assert_allclose(in_jit, expected, atol=TOLERANCE)


def test_segments_of_more_frames_than_a_segment_are_decoded_one_by_one_as_together(encodec_stereo):
    codes = np.random.default_rng(0).integers(0, 16, (3, 1, 3, 55))
    scales = np.ones((3, 1, 1), np.float32)
    expected = together(encodec_stereo.decode, codes, scales).audio_values
    result = encodec_stereo.decode(codes, scales).audio_values
    np.testing.assert_allclose(result, expected, atol=TOLERANCE)


@pytest.mark.parametrize("num_samples", [SEGMENT - 15, STRIDE + 1])
def test_a_clip_between_a_stride_and_a_segment_has_the_same_frames_in_groups(
    encodec_stereo, num_samples
):
    audio = noise(1, 2, num_samples)
    whole = together(encodec_stereo.encode, audio)
    grouped = encodec_stereo.encode(audio, chunk_length_s=0.01)
    np.testing.assert_array_equal(grouped.audio_codes, whole.audio_codes)
    assert grouped.last_frame_pad_length == whole.last_frame_pad_length


def test_last_segments_of_many_lengths_take_few_programs(encodec_stereo):
    before = _run._cache_size()
    lengths = range(STRIDE + 1, 2 * STRIDE, 31)
    for num_samples in lengths:
        encoded = encodec_stereo.encode(noise(1, 2, num_samples))
        encodec_stereo.decode(encoded.audio_codes, encoded.audio_scales, num_samples=num_samples)
    # Both ways a whole segment, one of which only a part counts, a half, a quarter, an eighth.
    assert _run._cache_size() - before <= 2 * 5 < len(lengths)


def test_segments_that_do_not_reach_the_next_leave_the_same_gaps(encodec_stereo):
    codes = np.random.default_rng(0).integers(0, 16, (4, 1, 3, 20))
    scales = np.ones((4, 1, 1), np.float32)
    whole = together(encodec_stereo.decode, codes, scales).audio_values
    grouped = encodec_stereo.decode(codes, scales, chunk_length_s=0.01).audio_values
    np.testing.assert_allclose(grouped, whole, atol=TOLERANCE)


# --- spans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 500, 513, 514, 600, 1023, 1024, 1300])
def test_a_span_anywhere_has_the_lstm_of_the_whole_before_it(model, start):
    """The LSTM runs alone up to the span, some hundred frames at a time."""
    frames = 1310
    shape = (1, 1, model.config.num_quantizers, frames)
    codes = np.random.default_rng(0).integers(0, model.config.codebook_size, shape)
    hop_length = model.config.hop_length
    whole = np.asarray(model.decode(codes).audio_values)
    chunks = model.config.decode_chunks(seconds(model, 40), mode="exact")
    span = start * hop_length, (start + 10) * hop_length
    audio = np.concatenate([*model.decode_pieces(codes, chunks, span=span)], axis=-1)
    np.testing.assert_allclose(audio, whole[..., slice(*span)], atol=TOLERANCE)


def test_calling_a_model_that_chunks_gives_what_it_gives_as_a_whole(audio):
    chunking = tiny_encodec(
        MONO, encode_chunk_length_s=0.05, decode_chunk_length_s=0.05, decode_chunk_mode="exact"
    )
    expected, result = tiny_encodec(MONO)(audio), chunking(audio)
    assert isinstance(result.audio_values, np.ndarray)
    np.testing.assert_array_equal(result.audio_codes, expected.audio_codes)
    np.testing.assert_allclose(result.audio_values, expected.audio_values, atol=TOLERANCE)
