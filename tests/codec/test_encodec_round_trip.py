"""What `AudioCodec` gives with EnCodec models: the codes of the model itself, and the whole clip.

The tiny models are shaped like the released ones: MONO codes a clip in one piece, STEREO in
overlapping segments with a scale each.
"""

import dataclasses

import numpy as np
import pytest

from codax import (
    AudioCodec,
    AudioError,
    EncodecFeatureExtractor,
    FlaxEncodecModel,
    FormatError,
)
from codax.codec import coding
from codax.feature_extraction import measure_loudness
from tests.tiny_encodec import MONO, SEGMENT, STEREO, STRIDE, noise, tiny_encodec

RATE = 8000
LENGTHS = {
    # Less than a frame, whole frames, a frame's first and last sample.
    "mono": (1, 10, 11, 99),
    # Up to where the second segment begins; an end in the overlap, so that two segments end with
    # the clip; the third segment's first sample; an end so soon after a segment's beginning that
    # the one before it, decoded, reaches beyond it (767: encodec 0.1.1 fails there).
    "stereo": (1, STRIDE, SEGMENT, SEGMENT + 1, 2 * STRIDE + 1, 2 * STRIDE + 15, 1000),
}
USUAL_LENGTH = {"mono": 99, "stereo": SEGMENT}
CASES = [(kind, length) for kind, lengths in LENGTHS.items() for length in lengths]
# Sums of float32 in another order: of audio, as XLA chooses for another shape, and of scales.
AUDIO_TOLERANCE = 1e-5
SCALE_TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def codecs(encodec_mono, encodec_stereo):
    return {"mono": AudioCodec(encodec_mono), "stereo": AudioCodec(encodec_stereo)}


@pytest.fixture
def mono(codecs):
    return codecs["mono"]


@pytest.fixture
def stereo(codecs):
    return codecs["stereo"]


def clip_of(channels, num_samples, seed=1):
    """The beginning of one long recording, float32 [C, T]."""
    return noise(channels, 5000, seed=seed)[:, :num_samples]


def encoded_by_the_model(model, lengths, bandwidth):
    """Clips of these lengths in one batch, by the model alone."""
    channels, longest = model.config.audio_channels, max(lengths)
    batch = np.repeat(clip_of(channels, longest)[None], len(lengths), axis=0)
    mask = np.arange(longest) < np.array(lengths)[:, None]
    return model.encode(batch * mask[:, None], mask, bandwidth=bandwidth)


def codes_of(model, encoded, index, num_samples):
    """Of one clip of a batch, segment after segment, int32 [K, F]."""
    segments = model.config.segments(num_samples)
    frames = [model.config.encoded_length(length) for _, length in segments]
    codes = np.asarray(encoded.audio_codes)[:, index]
    return np.concatenate(
        [piece[:, :count] for piece, count in zip(codes, frames, strict=False)], axis=-1
    )


def scales_of(model, encoded, index, num_samples):
    """Of one clip of a batch, float32 [S], or None."""
    if encoded.audio_scales is None:
        return None
    count = len(model.config.segments(num_samples))
    return np.asarray(encoded.audio_scales)[:count, index, 0]


@pytest.fixture(scope="module")
def expected(codecs):
    """What the model alone gives: (codes, scales, audio [C, T]), by (kind of model, length)."""
    results = {}
    for kind, lengths in LENGTHS.items():
        model = codecs[kind].model
        encoded = encoded_by_the_model(model, lengths, bandwidth=3.2)
        audio = model.decode(
            encoded.audio_codes, encoded.audio_scales, num_samples=encoded.num_samples
        ).audio_values
        for index, length in enumerate(lengths):
            results[kind, length] = (
                codes_of(model, encoded, index, length),
                scales_of(model, encoded, index, length),
                np.asarray(audio)[index, :, :length],
            )
    return results


# --- codes, lengths ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "num_samples"), CASES)
def test_codes_and_scales_are_those_of_the_model_whatever_the_length(
    codecs, expected, kind, num_samples
):
    codec, (codes, scales, _) = codecs[kind], expected[kind, num_samples]
    channels = codec.config.audio_channels
    encoded = codec.encode(clip_of(channels, num_samples), RATE, bandwidth=3.2)
    np.testing.assert_array_equal(encoded.codes, codes[None])
    assert (encoded.num_samples, encoded.sampling_rate) == (num_samples, RATE)
    assert (encoded.channels, encoded.channels_per_stream) == (channels, channels)
    if kind == "mono":
        assert (encoded.scales, encoded.segment_frames) == (None, None)
    else:
        np.testing.assert_allclose(encoded.scales, scales[None], rtol=SCALE_TOLERANCE)
        lengths = [min(SEGMENT, num_samples - start) for start in range(0, num_samples, STRIDE)]
        assert encoded.segment_frames == tuple(-(-length // 10) for length in lengths)


@pytest.mark.parametrize(("kind", "num_samples"), CASES)
def test_decoding_gives_the_audio_of_the_model_exactly_as_long_as_the_clip(
    codecs, expected, kind, num_samples
):
    codec, (_, _, audio) = codecs[kind], expected[kind, num_samples]
    channels = codec.config.audio_channels
    decoded = codec.decode(codec.encode(clip_of(channels, num_samples), RATE, bandwidth=3.2))
    assert decoded.samples.shape == (channels, num_samples)
    assert (decoded.samples.dtype, decoded.sampling_rate) == (np.float32, RATE)
    np.testing.assert_allclose(decoded.samples, audio, atol=AUDIO_TOLERANCE)


def test_audio_and_codes_vary(expected):
    """Else the two tests above would say little."""
    for kind, length in (("mono", 99), ("stereo", 1000)):
        codes, _, audio = expected[kind, length]
        assert len(np.unique(codes)) > 5
        assert 0.03 < audio.std() < 3


@pytest.mark.parametrize("sampling_rate", [8000, 11025, 44100])
def test_one_sample_at_any_rate_comes_back_as_one_sample(mono, stereo, sampling_rate):
    for codec, channels in ((mono, 1), (stereo, 2)):
        encoded = codec.encode(clip_of(channels, 1), sampling_rate, bandwidth=3.2)
        audio = codec.decode(encoded)
        assert audio.samples.shape == (channels, 1)
        assert audio.sampling_rate == sampling_rate
        assert np.isfinite(audio.samples).all()


def test_audio_at_another_rate_comes_back_at_that_rate(stereo):
    """4410 samples at 44.1 kHz are 800 at the model's rate, and 801 take one sample more."""
    for num_samples, coded in ((4410, 800), (4411, 801)):
        encoded = stereo.encode(clip_of(2, num_samples), 44100, bandwidth=3.2)
        assert (encoded.sampling_rate, encoded.num_samples) == (44100, num_samples)
        assert encoded.coded_samples == coded
        audio = stereo.decode(encoded)
        assert (audio.samples.shape, audio.sampling_rate) == ((2, num_samples), 44100)


def test_silence_has_the_smallest_scale_and_comes_back_all_but_silent(stereo):
    """The scale of silence is 1e-8, so that nothing is divided by zero."""
    encoded = stereo.encode(np.zeros((2, 1000), np.float32), RATE, bandwidth=3.2)
    np.testing.assert_allclose(encoded.scales, np.full((1, 3), 1e-8), rtol=1e-6)
    samples = stereo.decode(encoded).samples
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() < 1e-6


# --- bandwidths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "bandwidth", "levels"),
    [
        ("mono", 3.2, 1),
        ("mono", 6.4, 2),
        ("mono", 12.8, 4),
        ("stereo", 3.2, 1),
        ("stereo", 9.6, 3),  # though in floats 9.6 / 3.2 is less than 3
    ],
)
def test_a_bandwidth_takes_as_many_codebooks_as_it_holds(codecs, kind, bandwidth, levels):
    codec = codecs[kind]
    clip = clip_of(codec.config.audio_channels, USUAL_LENGTH[kind])
    encoded = codec.encode(clip, RATE, bandwidth=bandwidth)
    assert encoded.num_codebooks == levels
    assert codec.encode(clip, RATE, n_quantizers=levels) == encoded
    assert codec.decode(encoded).num_samples == clip.shape[1]


@pytest.mark.parametrize(("kind", "bandwidth"), [("mono", 12.8), ("stereo", 9.6)])
def test_the_highest_bandwidth_has_the_codes_of_the_model(codecs, kind, bandwidth):
    codec = codecs[kind]
    clip = clip_of(codec.config.audio_channels, USUAL_LENGTH[kind])
    encoded = encoded_by_the_model(codec.model, (clip.shape[1],), bandwidth)
    codes = codec.encode(clip, RATE, bandwidth=bandwidth).codes
    np.testing.assert_array_equal(codes[0], codes_of(codec.model, encoded, 0, clip.shape[1]))


def test_a_lower_bandwidth_is_the_beginning_of_a_higher_one(mono):
    clip = clip_of(1, 99)
    all_codes = mono.encode(clip, RATE, bandwidth=12.8).codes
    for bandwidth, levels in ((3.2, 1), (6.4, 2)):
        codes = mono.encode(clip, RATE, bandwidth=bandwidth).codes
        np.testing.assert_array_equal(codes, all_codes[:, :levels])


def test_without_a_bandwidth_it_is_6_kbps_or_else_the_highest(mono):
    assert mono.encode(clip_of(1, 99), RATE).num_codebooks == 4
    with_six = AudioCodec(tiny_encodec(MONO, target_bandwidths=[3.2, 6.0, 12.8]))
    assert with_six.encode(clip_of(1, 99), RATE).num_codebooks == 1  # 6 kbps hold one of 3.2


@pytest.mark.parametrize("bandwidth", [0, -6.4, 6, 24.0, float("nan"), float("inf"), True, "6.4"])
def test_a_bandwidth_that_the_model_does_not_have_is_refused_with_those_it_has(mono, bandwidth):
    message = rf"^bandwidth={bandwidth!r} kbps must be one of 3\.2, 6\.4, 12\.8$"
    with pytest.raises(ValueError, match=message):
        mono.encode(clip_of(1, 99), RATE, bandwidth=bandwidth)


@pytest.mark.parametrize("number", [0, -1, 5, 1.0, True, "2"])
def test_codebooks_that_the_model_does_not_have_are_refused(mono, number):
    with pytest.raises(ValueError, match=rf"n_quantizers={number!r} must be .* from 1 to 4"):
        mono.encode(clip_of(1, 99), RATE, n_quantizers=number)


def test_a_bandwidth_and_a_number_of_codebooks_at_once_are_refused(mono):
    with pytest.raises(ValueError, match=r"n_quantizers=2 and bandwidth=6\.4: give one"):
        mono.encode(clip_of(1, 99), RATE, n_quantizers=2, bandwidth=6.4)


# --- channels ------------------------------------------------------------------------------------


def test_a_mono_model_codes_every_channel_as_it_is_alone(mono):
    both = clip_of(2, 99)
    encoded = mono.encode(both, RATE, bandwidth=3.2)
    assert (encoded.codes.shape, encoded.channels) == ((2, 1, 10), 2)
    decoded = mono.decode(encoded).samples
    for channel in (0, 1):
        alone = mono.encode(both[channel], RATE, bandwidth=3.2)
        np.testing.assert_array_equal(encoded.codes[channel], alone.codes[0])
        np.testing.assert_allclose(
            decoded[channel], mono.decode(alone).samples[0], atol=AUDIO_TOLERANCE
        )


def test_mixing_to_mono_codes_the_mean_of_the_channels(mono):
    both = clip_of(2, 99)
    mixed = mono.encode(both, RATE, mix_channels=True)
    expected = mono.encode((both[0] + both[1]) / 2, RATE)
    assert mixed == expected
    assert mono.decode(mixed).channels == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_stereo_model_refuses_other_than_two_channels_and_says_how_to_mix(stereo, channels):
    message = rf"has {channels} channels, but the model takes 2; mix_channels=True \(--mix\)"
    with pytest.raises(AudioError, match=message):
        stereo.encode(clip_of(channels, 99), RATE)


def test_mixing_mono_to_stereo_repeats_it(stereo):
    clip = clip_of(1, SEGMENT)
    mixed = stereo.encode(clip, RATE, bandwidth=3.2, mix_channels=True)
    assert mixed == stereo.encode(np.repeat(clip, 2, axis=0), RATE, bandwidth=3.2)
    assert stereo.decode(mixed).samples.shape == (2, SEGMENT)


def test_what_has_the_right_channels_is_not_changed_by_mixing(stereo):
    clip = clip_of(2, SEGMENT)
    mixed = stereo.encode(clip, RATE, bandwidth=3.2, mix_channels=True)
    assert mixed == stereo.encode(clip, RATE, bandwidth=3.2)


def test_three_channels_are_not_mixed_to_two(stereo):
    with pytest.raises(AudioError, match="3 channels cannot be mixed to 2"):
        stereo.encode(clip_of(3, 99), RATE, mix_channels=True)


def test_a_mono_model_of_segments_has_scales_for_every_stream():
    codec = AudioCodec(tiny_encodec(STEREO, audio_channels=1))
    both = clip_of(2, 1000) * np.float32([[1.0], [0.1]])
    encoded = codec.encode(both, RATE, bandwidth=3.2)
    assert encoded.codes.shape == (2, 1, 105)
    assert (encoded.segment_frames, encoded.scales.shape) == ((40, 40, 25), (2, 3))
    decoded = codec.decode(encoded).samples
    for channel in (0, 1):
        alone = codec.encode(both[channel], RATE, bandwidth=3.2)
        np.testing.assert_array_equal(encoded.codes[channel], alone.codes[0])
        np.testing.assert_array_equal(encoded.scales[channel], alone.scales[0])
        np.testing.assert_allclose(
            decoded[channel], codec.decode(alone).samples[0], atol=AUDIO_TOLERANCE
        )


def test_a_model_that_normalises_without_segments_has_one_scale():
    codec = AudioCodec(tiny_encodec(STEREO, chunk_length_s=None))
    clip = clip_of(2, SEGMENT + 20)
    encoded = codec.encode(clip, RATE, bandwidth=3.2)
    assert (encoded.segment_frames, encoded.codes.shape) == (None, (1, 1, 42))
    volume = 1e-8 + np.sqrt(np.mean(np.mean(clip, axis=0) ** 2))
    np.testing.assert_allclose(encoded.scales, [[volume]], rtol=SCALE_TOLERANCE)
    louder = codec.encode(8 * clip, RATE, bandwidth=3.2)
    np.testing.assert_array_equal(louder.codes, encoded.codes)
    np.testing.assert_allclose(
        codec.decode(louder).samples, 8 * codec.decode(encoded).samples, rtol=1e-4, atol=1e-4
    )


# --- loudness ------------------------------------------------------------------------------------


def test_loudness_is_left_alone_unless_it_is_asked_for(mono, stereo):
    """EnCodec was trained on audio as it is; the 48 kHz model normalises every segment itself."""
    for codec, channels in ((mono, 1), (stereo, 2)):
        clip = clip_of(channels, SEGMENT)
        encoded = codec.encode(clip, RATE, bandwidth=3.2)
        assert encoded.input_db is None
        assert encoded == codec.encode(clip, RATE, bandwidth=3.2, loudness_db=None)


def test_a_loudness_that_is_asked_for_is_restored(stereo):
    clip = clip_of(2, 1002)  # whole frames: the rest of a last one would be measured too
    encoded = stereo.encode(clip, RATE, bandwidth=3.2, loudness_db=-23.0)
    assert encoded.input_db == pytest.approx(measure_loudness(clip, RATE))
    decoded = stereo.decode(encoded).samples
    assert measure_loudness(decoded, RATE) == pytest.approx(encoded.input_db, abs=0.01)


def test_a_loudness_of_one_stream_alone_is_that_of_its_channels_together(stereo):
    """`.codax` files may hold one for each stream, here of two channels."""
    encoded = stereo.encode(clip_of(2, 1002), RATE, bandwidth=3.2)
    together = stereo.decode(dataclasses.replace(encoded, input_db=-30.0)).samples
    alone = stereo.decode(dataclasses.replace(encoded, input_db=(-30.0,))).samples
    assert measure_loudness(together, RATE) == pytest.approx(-30.0, abs=0.01)
    np.testing.assert_allclose(alone, together, rtol=1e-6)


# --- long clips ----------------------------------------------------------------------------------


def test_segments_go_through_the_network_some_at_a_time_and_give_the_same(stereo, monkeypatch):
    clip = clip_of(2, 1000)
    encoded = stereo.encode(clip, RATE, bandwidth=3.2)
    audio = stereo.decode(encoded)
    assert encoded.segment_frames == (40, 40, 25)
    shapes = []
    run = FlaxEncodecModel._apply

    def noting(self, method, params, *arrays, **options):
        shapes.append(arrays[0].shape)
        return run(self, method, params, *arrays, **options)

    monkeypatch.setattr(FlaxEncodecModel, "_apply", noting)
    monkeypatch.setattr(coding, "CHUNK_S", 2 * stereo.config.segmenting.stride / RATE)
    in_groups = stereo.encode(clip, RATE, bandwidth=3.2)
    np.testing.assert_array_equal(in_groups.codes, encoded.codes)
    np.testing.assert_allclose(in_groups.scales, encoded.scales, rtol=SCALE_TOLERANCE)
    np.testing.assert_allclose(stereo.decode(encoded).samples, audio.samples, atol=AUDIO_TOLERANCE)
    # 3 segments: 2, and the last one; to decode, 2 groups of 2, the last one filled up.
    assert shapes == [(2, SEGMENT, 2), (1, SEGMENT, 2)] + 2 * [(2, 1, 40)]


# --- segments as in transformers -----------------------------------------------------------------


def test_segmentation_of_transformers_gives_the_codes_of_its_feature_extractor():
    model = tiny_encodec(STEREO, segmentation="transformers")
    codec = AudioCodec(model)
    extractor = EncodecFeatureExtractor.from_config(model.config)
    clip = clip_of(2, SEGMENT)
    inputs = extractor(clip, sampling_rate=RATE, return_tensors="jax")
    output = model.encode(inputs.input_values, inputs.padding_mask, bandwidth=3.2)
    encoded = codec.encode(clip, RATE, bandwidth=3.2)
    # The clip reaches into a second segment, which is filled up; the overlap is an extra one.
    assert encoded.segment_frames == (40, 40, 3)
    np.testing.assert_array_equal(encoded.codes[0], codes_of(model, output, 0, SEGMENT))
    np.testing.assert_allclose(
        encoded.scales[0], scales_of(model, output, 0, SEGMENT), rtol=SCALE_TOLERANCE
    )
    assert codec.decode(encoded).samples.shape == (2, SEGMENT)


# --- codes that this model cannot have made ------------------------------------------------------


@pytest.fixture(scope="module")
def mono_clip(codecs):
    return codecs["mono"].encode(clip_of(1, 99), RATE, bandwidth=3.2)


@pytest.fixture(scope="module")
def stereo_clip(codecs):
    """Of segments of 40, 40 and 25 frames."""
    return codecs["stereo"].encode(clip_of(2, 1000), RATE, bandwidth=3.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": np.zeros((1, 5, 10), int)}, "codes use 5 codebooks, allowed: up to 4"),
        ({"codes": np.full((1, 4, 10), 16)}, "codes reach 16, allowed: 0 to 15"),
        ({"channels_per_stream": 2}, "codes hold 2 channels each, allowed: 1"),
        ({"scales": [[1.0]]}, "scales are given, which this model does not have"),
        ({"segment_frames": (5, 5)}, "codes come in segments, but this model codes clips in one"),
        ({"chunk_frames": 5}, "codes come in chunks"),
        ({"padding": False}, "codes come in chunks"),
        ({"num_samples": 1000}, "num_samples is 1000, allowed: up to the 0.014 s that 10 frames"),
    ],
)
def test_codes_that_a_mono_model_does_not_make_are_refused(mono, mono_clip, changes, message):
    with pytest.raises(FormatError, match=message):
        mono.decode(dataclasses.replace(mono_clip, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": None}, "scales are missing, which this model needs"),
        ({"channels_per_stream": 1}, "codes hold 1 channels each, allowed: 2"),
        # None but the last may be so short that the next one does not begin in it.
        ({"segment_frames": (40, 37, 28)}, "segments of 28 to 40 frames, allowed: 38 to 40"),
        ({"segment_frames": (40, 41, 24)}, "segments of 24 to 41 frames, allowed: 38 to 40"),
        ({"segment_frames": (25, 40, 40)}, "segments of 25 to 40 frames, allowed: 38 to 40"),
        ({"segment_frames": None, "scales": [[1.0]]}, "segments of 105 to 105 frames, allowed"),
        ({"num_samples": 1100}, "num_samples is 1100, allowed: up to"),
    ],
)
def test_codes_that_a_stereo_model_does_not_make_are_refused(stereo, stereo_clip, changes, message):
    with pytest.raises(FormatError, match=message):
        stereo.decode(dataclasses.replace(stereo_clip, **changes))


def test_codes_of_one_family_member_are_refused_by_the_other(mono, stereo, mono_clip, stereo_clip):
    with pytest.raises(FormatError, match="codes hold 1 channels each, allowed: 2"):
        stereo.decode(mono_clip)
    with pytest.raises(FormatError, match="codes hold 2 channels each, allowed: 1"):
        mono.decode(stereo_clip)


def test_codes_of_dac_and_of_encodec_are_refused_by_each_other(odd_model, mono, stereo_clip):
    dac = AudioCodec(odd_model)
    with pytest.raises(FormatError, match="codes hold 2 channels each, allowed: 1"):
        dac.decode(stereo_clip)
    one_channel = dataclasses.replace(stereo_clip, channels_per_stream=1)
    with pytest.raises(FormatError, match="segments with scales, which DAC does not have"):
        dac.decode(one_channel)
    with pytest.raises(ValueError, match=r"bandwidth=6\.4: DAC takes n_quantizers instead"):
        dac.encode(clip_of(1, 99), RATE, bandwidth=6.4)
