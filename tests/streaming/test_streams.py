"""Streams of both families: pieces of any length, the codes and the audio of the whole."""

import functools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codax import AudioCodec, AudioError, FormatError
from codax.streaming import CodedFrames, join_frames
from tests.modeling.tiny import tiny_config, tiny_model
from tests.tiny_encodec import MONO, STEREO, noise, tiny_encodec

RATE = 8000
NUM_SAMPLES = 3017  # ends inside a frame
# Sums of float32 products of order one, in an order that depends on the length: 4e-7 was seen.
TOLERANCE = 1e-5


def chunks_of(length_s):
    return {
        "encode_chunk_length_s": length_s,
        "decode_chunk_length_s": length_s,
        "decode_chunk_mode": "exact",
    }


# Windows of 13 or 16 new frames at most: of 1, 4, and those, each of which compiles.
CHUNKS = chunks_of(0.016)
TWO_SEGMENTS = chunks_of(0.08)
MODELS = {
    "dac, an odd stride": lambda: tiny_model(tiny_config(**CHUNKS)),
    "dac, even strides": lambda: tiny_model(tiny_config(downsampling_ratios=[2, 4], **CHUNKS)),
    "encodec, causal": lambda: tiny_encodec(MONO, **CHUNKS),
    "encodec, not causal": lambda: tiny_encodec(MONO, use_causal_conv=False, **CHUNKS),
    "encodec, segments": lambda: tiny_encodec(STEREO, **TWO_SEGMENTS),
    "encodec, one scale for a clip": lambda: tiny_encodec(MONO, normalize=True, **CHUNKS),
}
DAC, EVEN_DAC, ENCODEC, NOT_CAUSAL, SEGMENTS, WHOLE = MODELS


@pytest.fixture(scope="module")
def offline():
    """`offline(name)`: codec, clip, its codes and their audio, each computed once."""

    @functools.cache
    def of(name):
        codec = AudioCodec(MODELS[name]())
        clip = noise(2, NUM_SAMPLES)  # two streams of a mono model
        encoded = codec.encode(clip, RATE, loudness_db=None)
        frames = CodedFrames(encoded.codes, encoded.segment_frames, encoded.scales)
        pieces = codec._coder.decode(encoded, (0, codec._coder.decoded_length(encoded)))
        return codec, clip, frames, np.concatenate([*pieces], axis=1)

    return of


def cut(array, cuts):
    return np.split(array, sorted(cuts), axis=-1)


CUTS = st.lists(st.integers(0, NUM_SAMPLES), max_size=8)


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=4)
@given(cuts=CUTS)
def test_audio_in_any_pieces_has_the_codes_of_the_whole(offline, name, cuts):
    codec, clip, expected, _ = offline(name)
    stream = codec.stream_encoder(RATE, channels=2)
    coded = join_frames(stream.run(cut(clip, cuts)))
    np.testing.assert_array_equal(coded.codes, expected.codes)
    assert (coded.segment_frames or None) == expected.segment_frames
    if expected.scales is not None:
        np.testing.assert_allclose(coded.scales, expected.scales, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=4)
@given(data=st.data())
def test_codes_in_any_pieces_have_the_audio_of_the_whole(offline, name, data):
    codec, _, frames, expected = offline(name)
    decoder = codec.stream_decoder(RATE, channels=2)
    if frames.segment_frames:
        pieces = segments_of(frames)
    else:
        cuts = data.draw(st.lists(st.integers(0, frames.num_frames), max_size=8))
        pieces = [CodedFrames(codes, None, None) for codes in cut(frames.codes, cuts)]
        if frames.scales is not None:
            pieces = [frames]
    audio = np.concatenate([*decoder.run(pieces)], axis=1)
    assert audio.shape == expected.shape
    np.testing.assert_allclose(audio, expected, atol=TOLERANCE)


def segments_of(frames):
    ends = np.cumsum(frames.segment_frames)
    for index, (count, end) in enumerate(zip(frames.segment_frames, ends, strict=True)):
        codes = frames.codes[..., end - count : end]
        yield CodedFrames(codes, (count,), frames.scales[:, index : index + 1])


@pytest.mark.parametrize("name", [DAC, ENCODEC, SEGMENTS])
def test_a_microphone_and_a_loudspeaker_at_other_rates_get_what_files_get(offline, name):
    codec, clip, *_ = offline(name)
    encoded = codec.encode(clip, 11025, loudness_db=None)
    encoder = codec.stream_encoder(11025, channels=2)
    microphone = (clip[:, start : start + 160] for start in range(0, NUM_SAMPLES, 160))
    decoder = codec.stream_decoder(11025, channels=2)
    audio = np.concatenate([*decoder.run(encoder.run(microphone))], axis=1)
    expected = codec.decode(encoded).samples
    np.testing.assert_allclose(audio[:, : expected.shape[1]], expected, atol=TOLERANCE)


def test_integer_samples_and_a_gain_are_taken(offline):
    codec, clip, *_ = offline(DAC)
    pcm = np.rint(clip * 2**14).astype(np.int16)
    louder = join_frames(codec.stream_encoder(RATE, channels=2, gain=2.0).run([pcm]))
    expected = join_frames(codec.stream_encoder(RATE, channels=2).run([pcm / np.float32(2**14)]))
    np.testing.assert_array_equal(louder.codes, expected.codes)


def test_mono_is_a_row_and_codes_need_no_batch(offline):
    codec, clip, *_ = offline(DAC)
    coded = join_frames(codec.stream_encoder().run([clip[0, :300]]))
    audio = np.concatenate([*codec.stream_decoder().run([coded.codes[0]])], axis=1)
    assert audio.shape[0] == 1
    expected = codec.model.decode(audio_codes=coded.codes).audio_values
    np.testing.assert_allclose(audio, expected, atol=TOLERANCE)


# --- when what is known --------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MODELS)[:-1])
def test_what_comes_later_does_not_change_what_has_been_given_out(offline, name):
    """And it is given out as early as that holds: `latency` samples after its beginning."""
    codec, clip, *_ = offline(name)
    hop_length = codec.config.hop_length
    segmenting = getattr(codec.config, "segmenting", None)
    frame = hop_length if segmenting is None else segmenting.stride
    stream = codec.stream_encoder(channels=2)
    first, later = stream.latency
    ready = []
    for position in range(1, 1501):
        coded = stream.push(clip[:, position - 1 : position])
        if coded.num_frames:
            ready.append(position)
    assert ready[0] == first
    # Where the beginning is mirrored, some frames come together.
    last = ready[-8:]
    assert len(last) > 2
    assert last == [ready[-1] - frame * back for back in reversed(range(len(last)))]
    number = (ready[-1] - later) // frame
    assert ready[-1] == number * frame + later
    assert stream.latency_ms == (1000 * first / RATE, 1000 * later / RATE)


@pytest.mark.parametrize("name", [DAC, EVEN_DAC, ENCODEC, NOT_CAUSAL])
def test_a_frame_is_not_given_out_before_it_is_certain(offline, name):
    """The last sample that it waits for makes a difference, the one after it makes none."""
    codec, clip, *_ = offline(name)
    model = codec.model
    later = codec.stream_encoder(channels=2).latency.later
    frame = 100
    known = frame * codec.config.hop_length + later

    def latents(changed_sample=None):
        samples = clip[:1, :, None].copy()
        if changed_sample is not None:
            samples[:, changed_sample] += 1
        encode = partial(model.module.apply, method=lambda module, audio: module.encoder(audio))
        return np.asarray(encode({"params": model.params}, samples))[:, frame]

    np.testing.assert_array_equal(latents(known), latents())
    assert (latents(known - 1) != latents()).any()


def test_latencies_of_the_released_models_are_those_of_their_convolutions():
    """EnCodec at 24 kHz needs 93 ms to begin, then a frame; DAC looks ahead on both sides."""
    from codax.configuration import preset_config
    from codax.configuration.conv_geometry import determined_length

    def first(convs):
        return next(samples for samples in range(1, 20_000) if determined_length(convs, samples))

    encodec = preset_config("encodec_24khz")
    assert 1000 * first(encodec.architecture.encoder_convs) / 24000 == pytest.approx(93, abs=0.5)


def test_decoding_of_a_causal_model_stays_no_sample_behind(offline):
    codec, _, frames, _ = offline(ENCODEC)
    decoder = codec.stream_decoder(channels=2)
    assert decoder.latency.later == 0
    decoder.push(frames.codes[..., :50])
    for position in range(50, 70):
        audio = decoder.push(frames.codes[..., position : position + 1])
        assert audio.shape == (2, codec.config.hop_length)


def test_a_model_that_codes_whole_clips_gives_nothing_before_the_end(offline):
    codec, clip, expected, _ = offline(WHOLE)
    stream = codec.stream_encoder(channels=2)
    assert stream.push(clip).num_frames == 0
    np.testing.assert_array_equal(stream.flush().codes, expected.codes)


# --- what is refused -----------------------------------------------------------------------------


def test_pieces_that_are_no_audio_of_the_stream_are_refused(offline):
    codec, clip, *_ = offline(DAC)
    stream = codec.stream_encoder(channels=2)
    with pytest.raises(AudioError, match=r"shape \(1, 3017\); expected \[2, samples\]"):
        stream.push(clip[0])
    with pytest.raises(AudioError, match="nan"):
        stream.push(np.full((2, 10), np.nan))
    stereo = offline(SEGMENTS)[0]
    with pytest.raises(AudioError, match="3 channels, but the model takes 2"):
        stereo.stream_encoder(channels=3)


def test_codes_that_the_model_cannot_have_made_are_refused(offline):
    codec, *_ = offline(DAC)
    decoder = codec.stream_decoder()
    with pytest.raises(FormatError, match="reach from 0 to 16, allowed: 0 to 15"):
        decoder.push([[0, 16]])
    with pytest.raises(FormatError, match=r"\(2, 3, 4\)"):
        decoder.push(np.zeros((2, 3, 4), int))
    with pytest.raises(FormatError, match="codes use 4 codebooks, allowed: up to 3"):
        decoder.push(np.zeros((4, 10), int))
    stereo = offline(SEGMENTS)[0].stream_decoder()
    with pytest.raises(FormatError, match="scales are missing"):
        stereo.push(np.zeros((1, 1, 40), int))
    with pytest.raises(FormatError, match="segment_frames is None"):
        stereo.push(CodedFrames(np.zeros((1, 1, 40), int), None, np.ones((1, 1))))


def test_a_stream_that_has_ended_takes_nothing_more(offline):
    codec, clip, frames, _ = offline(DAC)
    encoder, decoder = codec.stream_encoder(channels=2), codec.stream_decoder(channels=2)
    encoder.flush()
    decoder.flush()
    for act in (encoder.flush, decoder.flush, lambda: encoder.push(clip)):
        with pytest.raises(ValueError, match="has been flushed"):
            act()
    with pytest.raises(ValueError, match="has been flushed"):
        decoder.push(frames)


def test_a_stream_of_nothing_has_no_frames(offline):
    for name in (DAC, ENCODEC):
        codec, *_ = offline(name)
        assert codec.stream_encoder().flush().num_frames == 0
        assert codec.stream_decoder().flush().shape == (1, 0)
