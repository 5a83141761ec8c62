"""Chunks of any length, overlap and batch, for clips of any length: nothing changes by them."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_encodec import MONO, STEREO, tiny_encodec

from .tiny import noise, tiny_config, tiny_model

# Sums of float32 products of order one, in an order that depends on the length: 4e-7 was seen.
TOLERANCE = 1e-5
MODELS = {
    "dac, an odd stride": lambda: tiny_model(tiny_config()),
    "dac, even strides": lambda: tiny_model(tiny_config(downsampling_ratios=[2, 4])),
    "encodec, causal": lambda: tiny_encodec(MONO),
    "encodec, not causal": lambda: tiny_encodec(MONO, use_causal_conv=False),
    "encodec, segments": lambda: tiny_encodec(STEREO),
}
model_of = functools.cache(lambda name: MODELS[name]())

# Frames of clips: one, fewer than the networks reach, some chunks, many. Each is a compilation.
LENGTHS = (1, 9, 60, 207)

pytestmark = pytest.mark.full
# Each example may compile a program for its own chunk length.
few = settings(deadline=None, max_examples=10)
chunk_lengths = st.one_of(st.integers(1, 12), st.integers(13, 300))


def audio_of(model, batch, num_frames, rest):
    channels = model.config.audio_channels
    return noise(batch, channels, num_frames * model.config.hop_length + rest)


@functools.cache
def whole_of(name, batch, num_frames, rest):
    """The clip, its codes and their audio, coded in one piece."""
    model = model_of(name)
    audio = audio_of(model, batch, num_frames, rest)
    encoded = model.encode(audio)
    return audio, encoded, np.asarray(decoded(model, encoded))


def decoded(model, encoded, **settings_):
    if "audio_scales" in encoded:
        settings_["audio_scales"] = encoded.audio_scales
    return model.decode(audio_codes=encoded.audio_codes, **settings_).audio_values


@pytest.mark.parametrize("name", MODELS)
@few
@given(
    frames=chunk_lengths,
    batch=st.integers(1, 2),
    num_frames=st.sampled_from(LENGTHS),
    ends_inside_a_frame=st.booleans(),
)
def test_codes_are_those_of_the_whole(name, frames, batch, num_frames, ends_inside_a_frame):
    audio, whole, _ = whole_of(name, batch, num_frames, 3 * ends_inside_a_frame)
    model = model_of(name)
    chunked = model.encode(audio, chunk_length_s=frames / model.config.frame_rate)
    np.testing.assert_array_equal(chunked.audio_codes, whole.audio_codes)


@pytest.mark.parametrize("name", MODELS)
@few
@given(frames=chunk_lengths, batch=st.integers(1, 2), num_frames=st.sampled_from(LENGTHS))
def test_audio_of_exact_chunks_is_that_of_the_whole(name, frames, batch, num_frames):
    _, encoded, expected = whole_of(name, batch, num_frames, 0)
    model = model_of(name)
    chunk_length_s = frames / model.config.frame_rate
    audio = decoded(model, encoded, chunk_length_s=chunk_length_s, chunk_mode="exact")
    assert audio.shape == expected.shape
    np.testing.assert_allclose(audio, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", list(MODELS)[:2])
@few
@given(frames=st.integers(1, 300), overlap=st.floats(0, 0.99), num_frames=st.sampled_from(LENGTHS))
def test_audio_of_chunks_that_overlap_by_their_context_is_that_of_the_whole(
    name, frames, overlap, num_frames
):
    """And with less overlap it is at least as long, and of the same level."""
    _, encoded, expected = whole_of(name, 1, num_frames, 0)
    model = model_of(name)
    chunk_length_s = frames / model.config.frame_rate
    audio = decoded(model, encoded, chunk_length_s=chunk_length_s, overlap=overlap)
    assert audio.shape == expected.shape
    if min(round(overlap * frames), frames - 1) >= sum(model.config.decoder_context_frames):
        np.testing.assert_allclose(audio, expected, atol=TOLERANCE)
    else:
        assert np.abs(audio).max() <= 1.5 * np.abs(expected).max() + 0.1


@pytest.mark.parametrize("name", MODELS)
@few
@given(data=st.data(), frames=chunk_lengths, num_frames=st.sampled_from(LENGTHS[1:]))
def test_a_span_is_that_part_of_the_whole(name, data, frames, num_frames):
    _, encoded, expected = whole_of(name, 2, num_frames, 0)
    model = model_of(name)
    length = expected.shape[-1]
    start = data.draw(st.integers(0, length - 1))
    span = start, data.draw(st.integers(start + 1, length))
    chunks = model.config.decode_chunks(frames / model.config.frame_rate, mode="exact")
    given_ = {"audio_scales": encoded.audio_scales} if "audio_scales" in encoded else {}
    pieces = model.decode_pieces(encoded.audio_codes, chunks, span=span, **given_)
    audio = np.concatenate([*pieces], axis=-1).reshape(*expected.shape[:-1], -1)
    np.testing.assert_allclose(audio, expected[..., slice(*span)], atol=TOLERANCE)
