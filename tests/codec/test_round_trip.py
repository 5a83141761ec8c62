"""What `AudioCodec` promises to give back: rate, channels, length, loudness, balance.

A pass-through model loses nothing, so that what is lost is lost by the codec; the tiny models have
the lengths of real ones.
"""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codax import AudioCodec, EncodedAudio, FormatError
from codax.codec.dac_coder import DacCoder
from codax.feature_extraction import measure_loudness

from .pass_through import QUANTISATION_STEP, PassThroughModel

TRAINING_LOUDNESS_DB = DacCoder.training_loudness_db
RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)
# A clip of which no block of the loudness meter begins (every 100 ms) just where it ends. Decoded
# audio is measured with the rest of its last frame, as descript measures it; that may be enough for
# one more block, almost empty: see `test_loudness_counts_the_rest_of_the_last_frame`.
NUM_SAMPLES = 7900
# Decoded audio is brought to the stored loudness, measured in float32 samples of 16 bits.
LOUDNESS_TOLERANCE_LU = 0.01


@pytest.fixture
def codec():
    return AudioCodec(PassThroughModel())


@pytest.fixture(params=["odd_model", "even_model"])
def model(request):
    return request.getfixturevalue(request.param)


def noise(channels, num_samples, level=0.1, seed=0):
    samples = np.random.default_rng(seed).normal(0, level, (channels, num_samples))
    return samples.astype(np.float32)


def tone(sampling_rate, duration_s=0.99, frequency_hz=440.0, level=0.2):
    """[1, T], with its ends faded: a resampler sees silence beyond them."""
    time_s = np.arange(round(duration_s * sampling_rate)) / sampling_rate
    fade = np.minimum(1, np.minimum(time_s, time_s[::-1]) / 0.05)
    return np.float32(level * fade * np.sin(2 * np.pi * frequency_hz * time_s))[None]


def decibels(ratio):
    return 20 * math.log10(ratio)


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


# --- rate, channels, length ------------------------------------------------------------------


@given(
    num_samples=st.integers(1, 5000),
    channels=st.integers(1, 3),
    sampling_rate=st.sampled_from(RATES) | st.integers(3000, 192_000),
    model_rate=st.sampled_from([8000, 16000, 44100]),
    shortfall=st.integers(0, 39),
)
@settings(deadline=None, max_examples=60)
def test_length_rate_and_channels_are_those_of_the_original(
    num_samples, channels, sampling_rate, model_rate, shortfall
):
    codec = AudioCodec(PassThroughModel(model_rate, shortfall))
    encoded = codec.encode(noise(channels, num_samples), sampling_rate)
    assert (encoded.channels, encoded.num_samples) == (channels, num_samples)
    audio = codec.decode(encoded)
    assert audio.samples.shape == (channels, num_samples)
    assert audio.samples.dtype == np.float32
    assert audio.sampling_rate == sampling_rate


@pytest.mark.parametrize(
    ("num_samples", "sampling_rate"),
    [(1, 8000), (99, 8000), (1, 96000), (599, 48000)],
)
def test_a_real_model_gives_back_every_length(model, num_samples, sampling_rate):
    codec = AudioCodec(model)
    encoded = codec.encode(noise(1, num_samples), sampling_rate)
    audio = codec.decode(encoded)
    assert audio.samples.shape == (1, num_samples)
    assert audio.sampling_rate == sampling_rate
    assert np.isfinite(audio.samples).all()


def test_there_are_as_many_frames_as_decode_to_the_whole_clip(odd_model):
    """Of the odd-stride model: 100 samples are 10 frames, but those decode to 98 samples."""
    codec = AudioCodec(odd_model)
    assert codec.encode(noise(1, 98), 8000).num_frames == 10
    encoded = codec.encode(noise(1, 100), 8000)
    assert encoded.num_frames == 11
    assert np.abs(codec.decode(encoded).samples[0, -2:]).min() > 0


@pytest.mark.parametrize("sampling_rate", RATES)
def test_a_tone_comes_back_in_phase_at_any_rate(codec, sampling_rate):
    original = tone(sampling_rate)
    returned = codec.decode(codec.encode(original, sampling_rate)).samples
    # 16 bits of a signal brought to -16 LUFS, and two resamplings: -60 dB of the tone's level.
    np.testing.assert_allclose(returned, original, atol=2e-4)


def test_the_codes_of_a_clip_are_one_piece_with_padding(codec):
    encoded = codec.encode(noise(2, 1000), 8000)
    assert encoded.padding is True
    assert encoded.chunk_frames == encoded.num_frames == 26


def test_fewer_codebooks_are_a_prefix_of_all(odd_model):
    codec = AudioCodec(odd_model)
    whole = codec.encode(noise(1, 99), 8000)
    encoded = codec.encode(noise(1, 99), 8000, n_quantizers=2)
    np.testing.assert_array_equal(encoded.codes, whole.codes[:, :2])
    assert codec.decode(encoded).num_samples == 99


@pytest.mark.parametrize("n_quantizers", [0, -1, 4])
def test_codebooks_that_the_model_does_not_have_are_refused(odd_model, n_quantizers):
    with pytest.raises(ValueError, match=f"n_quantizers={n_quantizers} must be .* from 1 to 3"):
        AudioCodec(odd_model).encode(noise(1, 100), 8000, n_quantizers=n_quantizers)


def test_channels_are_coded_as_they_are_alone(odd_model):
    codec = AudioCodec(odd_model)
    stereo = noise(2, 99)
    both = codec.encode(stereo, 8000, loudness_db=None).codes
    for channel in (0, 1):
        alone = codec.encode(stereo[channel], 8000, loudness_db=None).codes
        np.testing.assert_array_equal(both[channel], alone[0])


# --- loudness and balance ------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_waveform_comes_back_as_loud_as_it_was(codec, level, channels):
    original = noise(channels, NUM_SAMPLES, level)
    encoded = codec.encode(original, 8000)
    assert encoded.input_db == pytest.approx(measure_loudness(original, 8000))
    returned = codec.decode(encoded).samples
    assert measure_loudness(returned, 8000) == pytest.approx(
        encoded.input_db, abs=LOUDNESS_TOLERANCE_LU
    )
    # Peaks of loud noise were limited before 16 bits were taken of it, so one step is larger.
    np.testing.assert_allclose(returned, original, atol=QUANTISATION_STEP * max(1, 10 * level))


@pytest.mark.parametrize("loudness_db", [TRAINING_LOUDNESS_DB, -30.0])
def test_the_model_hears_the_loudness_that_was_asked_for(loudness_db):
    model = PassThroughModel()
    encoded = AudioCodec(model).encode(noise(2, NUM_SAMPLES, 0.01), 8000, loudness_db=loudness_db)
    heard = model.decode(audio_codes=encoded.codes).audio_values
    assert measure_loudness(heard, 8000) == pytest.approx(loudness_db, abs=LOUDNESS_TOLERANCE_LU)


def test_one_channel_20_db_quieter_stays_20_db_quieter(codec):
    stereo = noise(2, NUM_SAMPLES) * np.float32([[1.0], [0.1]])
    before = decibels(rms(stereo[0]) / rms(stereo[1]))
    left, right = codec.decode(codec.encode(stereo, 8000)).samples
    # The quiet channel has 16 bits of the loud one: its error is 60 dB below it.
    assert decibels(rms(left) / rms(right)) == pytest.approx(before, abs=0.01)


def test_a_peak_in_one_channel_moves_the_other_by_the_same_gain(codec):
    """audiotools limits each channel by itself, which shifts the balance; here one gain serves."""
    stereo = noise(2, NUM_SAMPLES, 0.05)
    stereo[0, 4000] = 0.9
    left, right = codec.decode(codec.encode(stereo, 8000)).samples
    np.testing.assert_allclose(right, stereo[1], atol=1e-4)
    np.testing.assert_allclose(left, stereo[0], atol=1e-4)


def test_loudness_counts_the_rest_of_the_last_frame(codec):
    """A clip of 8000 samples is measured in 7 blocks, the 8040 of its frames in 8."""
    original = noise(1, 8000)
    returned = codec.decode(codec.encode(original, 8000)).samples
    assert decibels(rms(returned) / rms(original)) == pytest.approx(0, abs=0.15)


def test_samples_beyond_full_scale_come_back_beyond_full_scale(codec):
    loud = noise(1, NUM_SAMPLES, level=2.0)
    returned = codec.decode(codec.encode(loud, 8000)).samples
    np.testing.assert_allclose(returned, loud, rtol=1e-3, atol=1e-3)


def test_all_channels_get_one_gain_when_one_loudness_is_stored(odd_model):
    codec = AudioCodec(odd_model)
    encoded = codec.encode(noise(2, 108) * np.float32([[1.0], [0.01]]), 8000)
    as_decoded = codec.decode(dataclasses.replace(encoded, input_db=None)).samples
    returned = codec.decode(encoded).samples
    gain = rms(returned) / rms(as_decoded)
    np.testing.assert_allclose(returned, as_decoded * gain, rtol=1e-5, atol=1e-7)
    assert measure_loudness(returned, 8000) == pytest.approx(
        encoded.input_db, abs=LOUDNESS_TOLERANCE_LU
    )


def test_every_channel_gets_its_own_gain_when_each_loudness_is_stored(odd_model):
    codec = AudioCodec(odd_model)
    encoded = dataclasses.replace(codec.encode(noise(2, 108), 8000), input_db=(-20.0, -35.0))
    returned = codec.decode(encoded).samples
    for channel, expected_db in zip(returned, encoded.input_db, strict=True):
        measured = measure_loudness(channel[None], 8000)
        assert measured == pytest.approx(expected_db, abs=LOUDNESS_TOLERANCE_LU)


def test_without_loudness_none_is_stored_and_nothing_is_scaled(codec):
    original = noise(2, 1000, 0.01)
    encoded = codec.encode(original, 8000, loudness_db=None)
    assert encoded.input_db is None
    np.testing.assert_allclose(
        codec.decode(encoded).samples, original, atol=QUANTISATION_STEP / 2 + 1e-9
    )


@pytest.mark.parametrize("loudness_db", [TRAINING_LOUDNESS_DB, None])
def test_silence_comes_back_silent(codec, loudness_db):
    encoded = codec.encode(np.zeros((2, 3000), np.float32), 8000, loudness_db=loudness_db)
    assert encoded.input_db == (None if loudness_db is None else -70.0)
    np.testing.assert_array_equal(codec.decode(encoded).samples, np.zeros((2, 3000)))


def test_silence_from_a_model_that_hums_comes_back_at_the_floor_of_hearing(model):
    """A random model makes noise of silence; -70 LUFS, which silence measures, quietens it."""
    codec = AudioCodec(model)
    audio = codec.decode(codec.encode(np.zeros((1, 3000), np.float32), 8000))
    assert np.isfinite(audio.samples).all()
    assert rms(audio.samples) < 0.002
    assert measure_loudness(audio.samples, 8000) <= -69.0


@pytest.mark.parametrize("value", [1.0, 1e-3, 1e-30, 1e-42])
def test_constant_and_vanishing_audio_gives_finite_audio(model, value):
    codec = AudioCodec(model)
    audio = codec.decode(codec.encode(np.full((1, 3000), value, np.float32), 8000))
    assert np.isfinite(audio.samples).all()


def test_a_second_trip_changes_nothing_more(codec):
    once = codec.decode(codec.encode(noise(2, 3000), 8000))
    twice = codec.decode(codec.encode(once))
    np.testing.assert_allclose(twice.samples, once.samples, atol=QUANTISATION_STEP)


# --- long clips ----------------------------------------------------------------------------------


def in_chunks(model, length_s):
    """The codec of a model that codes so many seconds at a time."""
    model.config.encode_chunk_length_s = model.config.decode_chunk_length_s = length_s
    model.config.decode_chunk_mode = "exact"
    return AudioCodec(model)


@pytest.fixture
def changed(model):
    """The model, whose configuration a test may change."""
    before = dict(vars(model.config))
    yield model
    vars(model.config).update(before)


def test_codes_and_audio_in_chunks_equal_those_of_the_whole_clip(changed):
    codec = AudioCodec(changed)
    clip = noise(1, 3000)
    encoded = codec.encode(clip, 8000)
    audio = codec.decode(encoded)

    codec = in_chunks(changed, 0.05)
    np.testing.assert_array_equal(codec.encode(clip, 8000).codes, encoded.codes)
    # Sums of float32 in another order, as XLA chooses for another length.
    np.testing.assert_allclose(codec.decode(encoded).samples, audio.samples, atol=1e-6)


def test_a_configuration_that_asks_for_approximate_chunks_is_obeyed(changed):
    codec = AudioCodec(changed)
    encoded = codec.encode(noise(1, 3000), 8000, loudness_db=None)
    settings = {"chunk_length_s": 0.05, "chunk_mode": "mean"}
    expected = np.asarray(changed.decode(audio_codes=encoded.codes, **settings).audio_values)
    changed.config.decode_chunk_length_s = 0.05
    changed.config.decode_chunk_mode = "mean"
    # With odd strides every chunk lacks some samples, and so does the whole.
    expected = np.pad(expected, ((0, 0), (0, max(3000 - expected.shape[1], 0))))
    np.testing.assert_array_equal(codec.decode(encoded).samples, expected[:, :3000])


@pytest.mark.parametrize("duration_s", [1, 10, 60])
def test_the_network_never_sees_more_than_a_chunk_however_long_the_clip(duration_s):
    model = PassThroughModel()
    codec = in_chunks(model, 1.0)
    original = noise(2, 8000 * duration_s - 100)
    audio = codec.decode(codec.encode(original, 8000))
    assert max(model.frames_at_once) <= 2 * (200 + 5)
    np.testing.assert_allclose(audio.samples, original, atol=QUANTISATION_STEP)


@pytest.mark.parametrize("length_s", [0.005, 0.1])
def test_chunks_have_one_shape_so_that_they_compile_once(length_s):
    model = PassThroughModel()
    codec = in_chunks(model, length_s)
    encoded = codec.encode(noise(1, 40 * 1999), 8000)
    assert len(model.frames_at_once) > 50
    assert len(set(model.frames_at_once)) == 1
    model.frames_at_once.clear()
    codec.decode(encoded)
    assert len(model.frames_at_once) > 50
    assert len(set(model.frames_at_once)) == 1


# --- codes that do not fit -----------------------------------------------------------------------


def clip_of(codes, num_samples=10, chunk_frames=None, padding=True):
    return EncodedAudio(
        codes=codes,
        sampling_rate=8000,
        num_samples=num_samples,
        input_db=-20.0,
        chunk_frames=chunk_frames or codes.shape[-1],
        padding=padding,
    )


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((1, 4, 5), int), "codes use 4 codebooks, allowed: up to 3"),
        (np.full((1, 3, 5), 16), "codes reach 16, allowed: 0 to 15"),
        (np.full((2, 1, 5), 65535), "codes reach 65535, allowed: 0 to 15"),
    ],
)
def test_codes_beyond_the_model_are_refused(odd_model, codes, message):
    with pytest.raises(FormatError, match=message):
        AudioCodec(odd_model).decode(clip_of(codes))


def test_unpadded_chunks_too_short_for_the_model_are_refused(odd_model):
    clip = clip_of(np.zeros((1, 3, 30), int), chunk_frames=15, padding=False)
    with pytest.raises(FormatError, match="15 unpadded frames is too short"):
        AudioCodec(odd_model).decode(clip)


def test_padded_chunks_are_decoded_each_alone(odd_model):
    codec = AudioCodec(odd_model)
    codes = np.random.default_rng(0).integers(0, 16, (1, 3, 20))
    chunks = [codes[..., :10], codes[..., 10:]]
    alone = [codec.decode(dataclasses.replace(clip_of(one, 98), input_db=None)) for one in chunks]
    whole = dataclasses.replace(clip_of(codes, 196, chunk_frames=10), input_db=None)
    joined = np.concatenate([audio.samples for audio in alone], axis=1)
    np.testing.assert_allclose(codec.decode(whole).samples, joined, atol=1e-6)


@pytest.mark.parametrize("sampling_rate", [8000, 48000])
def test_a_clip_that_claims_to_be_far_longer_than_its_codes_is_refused(odd_model, sampling_rate):
    """5 frames are 6 ms of this model. A file of 20 kB could ask for 30 GB of silence."""
    clip = dataclasses.replace(
        clip_of(np.zeros((1, 3, 5), int)), sampling_rate=sampling_rate, num_samples=sampling_rate
    )
    with pytest.raises(FormatError, match="num_samples"):
        AudioCodec(odd_model).decode(clip)
