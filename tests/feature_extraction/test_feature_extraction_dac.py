"""The DAC feature extractor: transformers' where that works, defined where that does not."""

import importlib.util
import json
import logging
import types

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.models.dac.feature_extraction_dac import (
    DacFeatureExtractor as TransformersDacFeatureExtractor,
)

from codax.errors import AudioError
from codax.feature_extraction import DacFeatureExtractor, measure_loudness, resample

from .assertions import assert_mentions, assert_same_features, refusal

RATE_HZ = 16000
HOP = 4
RATES = {"sampling_rate": RATE_HZ, "hop_length": HOP}
OFFICIAL_FIELDS = {
    "feature_extractor_type": "DacFeatureExtractor",
    "feature_size": 1,
    "hop_length": 512,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 44100,
}
TENSOR_TYPES = [None, "np", "jax"] + (["pt"] if importlib.util.find_spec("torch") else [])

CONTAINERS = {
    "list of float32 arrays": lambda clips: [np.array(clip, np.float32) for clip in clips],
    "list of float64 arrays": lambda clips: [np.array(clip, np.float64) for clip in clips],
    "tuple of arrays": lambda clips: tuple(np.array(clip, np.float32) for clip in clips),
    "list of lists": lambda clips: clips,
    "one float32 array": lambda clips: np.array(clips[0], np.float32),
    "one float64 array": lambda clips: np.array(clips[0], np.float64),
    "one list": lambda clips: clips[0],
}
MONO_CLIPS = st.lists(st.lists(st.floats(-1, 1, width=32), max_size=20), min_size=1, max_size=4)
LENGTH_OPTIONS = st.one_of(
    st.builds(dict, padding=st.sampled_from([None, True, False, "longest"])),
    st.builds(dict, padding=st.just("max_length"), max_length=st.integers(1, 25)),
    st.builds(
        dict,
        padding=st.sampled_from([None, False]),
        truncation=st.just(True),
        max_length=st.integers(1, 25),
    ),
)


@pytest.fixture
def extractor():
    return DacFeatureExtractor(**RATES)


def noise(*shape, level=0.1):
    return np.random.default_rng(0).normal(0, level, shape).astype(np.float32)


@settings(deadline=None)  # a busy machine is no fault
@given(
    MONO_CLIPS, st.sampled_from(sorted(CONTAINERS)), LENGTH_OPTIONS, st.sampled_from(TENSOR_TYPES)
)
def test_mono_output_is_that_of_transformers(clips, container, length_options, return_tensors):
    clips = clips[:1] if container.startswith("one") else clips
    assume(any(clips))
    audio = CONTAINERS[container](clips)
    options = {"sampling_rate": RATE_HZ, "return_tensors": return_tensors, **length_options}
    try:
        expected = TransformersDacFeatureExtractor(**RATES)(audio, **options)
    except (ValueError, IndexError):  # clips of unlike length where one array has to hold them
        with pytest.raises(ValueError):
            DacFeatureExtractor(**RATES)(audio, **options)
    else:
        features = DacFeatureExtractor(**RATES)(audio, **options)
        assert list(features) == list(expected)
        assert_same_features(features, expected)


@pytest.mark.parametrize("return_tensors", TENSOR_TYPES)
def test_attribute_and_item_are_the_same_object(extractor, return_tensors):
    features = extractor(noise(10), sampling_rate=RATE_HZ, return_tensors=return_tensors)
    assert features.input_values is features["input_values"]


def test_missing_sampling_rate_warns_and_goes_on(extractor, caplog):
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        features = extractor(noise(8), return_tensors="np")
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert features["input_values"].shape == (1, 1, 8)
    assert "sampling_rate" in caplog.text


# What transformers leaves undefined


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_sample_is_named_by_clip_and_index(extractor, value):
    broken = noise(10)
    broken[[7, 8]] = value
    message = refusal(extractor, [noise(5), noise(6), broken])
    assert_mentions(message, "raw_audio[2]", "[7]", str(value))
    assert "raw_audio: " in refusal(extractor, broken)


def test_non_finite_sample_of_a_stereo_clip_is_named_by_channel_too(extractor):
    broken = noise(2, 10)
    broken[1, 3] = np.nan
    assert "raw_audio[0]: the sample at [1, 3]" in refusal(extractor, [broken])


def test_integer_pcm_is_scaled(extractor):
    pcm = np.array([-(2**15), 0, 2**14, 2**13], np.int16)
    features = extractor([pcm, pcm], sampling_rate=RATE_HZ, return_tensors="np")
    assert features["input_values"].dtype == np.float32
    np.testing.assert_array_equal(features["input_values"][1, 0], [-1.0, 0.0, 0.5, 0.25])


def test_empty_batch_is_refused(extractor):
    assert "raw_audio is empty" in refusal(extractor, [])


@pytest.mark.parametrize("audio", [np.zeros(0), [[]], np.zeros((2, 0)), [[], np.zeros(0)]], ids=str)
def test_clips_without_samples_give_one_hop_of_masked_zeros(extractor, audio):
    features = extractor(audio, sampling_rate=RATE_HZ, return_tensors="np")
    num_items = len(features["input_values"])
    np.testing.assert_array_equal(features["input_values"], np.zeros((num_items, 1, HOP)))
    np.testing.assert_array_equal(features["padding_mask"], np.zeros((num_items, HOP)))


def test_clip_without_samples_does_not_disturb_its_batch(extractor):
    clip = noise(6)
    features = extractor([clip, np.zeros(0)], sampling_rate=RATE_HZ, return_tensors="np")
    np.testing.assert_array_equal(features["input_values"][0, 0, :6], clip)
    np.testing.assert_array_equal(features["padding_mask"], [[1] * 6 + [0] * 2, [0] * 8])


def test_clip_without_samples_stays_empty_without_padding(extractor):
    features = extractor([noise(6), np.zeros(0)], sampling_rate=RATE_HZ, padding=False)
    assert [item.shape for item in features["input_values"]] == [(1, 6), (1, 0)]


@settings(deadline=None)  # a busy machine is no fault
@given(MONO_CLIPS, st.sampled_from([True, "longest", "max_length"]), st.integers(1, 25))
def test_truncation_with_padding_is_truncation_then_padding(clips, padding, max_length):
    assume(any(clips))
    limit = -(-max_length // HOP) * HOP
    arrays = [np.array(clip, np.float32) for clip in clips]
    options = {"sampling_rate": RATE_HZ, "padding": padding, "return_tensors": "np"}
    features = DacFeatureExtractor(**RATES)(
        arrays, truncation=True, max_length=max_length, **options
    )
    expected = TransformersDacFeatureExtractor(**RATES)(
        [array[:limit] for array in arrays], max_length=max_length, **options
    )
    assert list(features) == list(expected)
    assert_same_features(features, expected)


@pytest.mark.parametrize("options", [{"truncation": True}, {"padding": "max_length"}], ids=str)
@pytest.mark.parametrize("max_length", [None, 0, -4, 2.5])
def test_missing_or_senseless_max_length_is_refused_by_value(extractor, options, max_length):
    message = refusal(extractor, noise(8), max_length=max_length, **options)
    assert f"max_length is {max_length}" in message


def test_clips_longer_than_max_length_are_refused_with_the_way_out(extractor):
    message = refusal(extractor, [noise(30), noise(5)], padding="max_length", max_length=8)
    assert_mentions(message, "30", "truncation=True")


def test_padding_by_its_other_name_is_no_padding(extractor):
    features = extractor([noise(6), noise(3)], sampling_rate=RATE_HZ, padding="do_not_pad")
    assert list(features) == ["input_values"]


# Channels


@pytest.mark.parametrize("return_tensors", TENSOR_TYPES)
def test_stereo_becomes_two_items_and_is_counted(extractor, return_tensors):
    stereo = noise(2, 8)
    features = extractor(stereo, sampling_rate=RATE_HZ, return_tensors=return_tensors)
    np.testing.assert_array_equal(np.asarray(features["input_values"])[:, 0], stereo)
    np.testing.assert_array_equal(np.asarray(features["num_channels"]), [2])


def test_clips_of_any_channel_count_mix_and_split_again(extractor):
    clips = [noise(8), noise(2, 6), noise(3, 7), noise(1, 8)]
    features = extractor(clips, sampling_rate=RATE_HZ, return_tensors="np")
    by_clip = np.split(features["input_values"], np.cumsum(features["num_channels"])[:-1])
    for clip, items in zip(clips, by_clip, strict=True):
        clip = np.atleast_2d(clip)
        np.testing.assert_array_equal(items[:, 0, : clip.shape[1]], clip)


def test_single_channel_arrays_count_as_mono(extractor):
    features = extractor(noise(1, 8), sampling_rate=RATE_HZ)
    assert "num_channels" not in features


@pytest.mark.parametrize("shape", [(1000, 1), (1000, 2), (1000, 8), (3, 2)])
def test_channels_last_is_refused_with_the_transpose(extractor, shape):
    message = refusal(extractor, noise(*shape))
    assert_mentions(message, "transpose", str(shape), str(shape[::-1]))


@pytest.mark.parametrize("shape", [(), (0, 5), (2, 2, 5)])
def test_shapes_that_are_no_clip_are_refused_by_name(extractor, shape):
    assert str(shape) in refusal(extractor, np.zeros(shape))


# Sampling rate and loudness


def test_wrong_sampling_rate_is_refused_with_both_rates(extractor):
    message = refusal(extractor, noise(8), sampling_rate=44100)
    assert_mentions(message, "44100 Hz", "16000 Hz", "resample=True")


def test_wrong_sampling_rate_is_converted_on_request(extractor):
    stereo = noise(2, 4410)
    options = {"sampling_rate": 44100, "return_tensors": "np", "padding": False}
    by_call = extractor(stereo, resample=True, **options)
    by_constructor = DacFeatureExtractor(resample=True, **RATES)(stereo, **options)
    expected = resample(stereo, 44100, RATE_HZ)[:, np.newaxis]
    np.testing.assert_array_equal(by_call["input_values"], expected)
    np.testing.assert_array_equal(by_constructor["input_values"], expected)


def test_call_can_forbid_what_the_constructor_allowed():
    assert "44100 Hz" in refusal(
        DacFeatureExtractor(resample=True, **RATES), noise(8), sampling_rate=44100, resample=False
    )


@pytest.mark.parametrize("where", ["constructor", "call"])
def test_loudness_is_joint_over_channels_and_keeps_their_balance(where):
    stereo = noise(2, RATE_HZ) * np.float32([[0.1], [0.02]])
    at_constructor, at_call = ({"loudness": -16.0}, {})
    if where == "call":
        at_constructor, at_call = at_call, at_constructor
    extractor = DacFeatureExtractor(**RATES, **at_constructor)
    features = extractor(stereo, sampling_rate=RATE_HZ, return_tensors="np", **at_call)
    louder = features["input_values"][:, 0]
    assert measure_loudness(louder, RATE_HZ) == pytest.approx(-16.0, abs=1e-3)
    gain = louder[0, 0] / stereo[0, 0]
    np.testing.assert_allclose(louder, stereo * gain, rtol=1e-5)  # float32 products


def test_loudness_that_would_clip_is_limited_with_one_gain_for_all_channels(extractor):
    clicks = np.zeros((2, RATE_HZ), np.float32)
    clicks[0, ::1000], clicks[1, ::1000] = 0.5, 0.1
    features = extractor(clicks, sampling_rate=RATE_HZ, return_tensors="np", loudness=-16.0)
    peaks = np.abs(features["input_values"]).max(axis=(1, 2))
    np.testing.assert_allclose(peaks, [1.0, 0.2], rtol=1e-6)


def test_loudness_of_silence_and_of_nothing_stays_zero(extractor):
    clips = [np.zeros(20, np.float32), np.zeros(0, np.float32)]
    features = extractor(clips, sampling_rate=RATE_HZ, return_tensors="np", loudness=-16.0)
    assert not features["input_values"].any()


# Construction and files


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_size", 2),
        ("sampling_rate", 0),
        ("sampling_rate", 44100.5),
        ("sampling_rate", "44100"),
        ("hop_length", -512),
        ("hop_length", True),
        ("loudness", 16.0),
        ("loudness", float("nan")),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(name, value):
    with pytest.raises(AudioError, match=f"{name} is {value!r}"):
        DacFeatureExtractor(**{name: value})


def test_loudness_out_of_range_is_refused_in_a_call_too(extractor):
    assert "loudness is 16.0" in refusal(extractor, noise(8), loudness=16.0)


def test_config_gives_rates_and_options_are_added():
    config = types.SimpleNamespace(sampling_rate=24000, hop_length=320)
    extractor = DacFeatureExtractor.from_config(config, resample=True)
    assert (extractor.sampling_rate, extractor.hop_length) == (24000, 320)
    assert extractor.resample


def test_saved_extractor_loads_here_with_all_its_fields(tmp_path):
    extractor = DacFeatureExtractor(
        **RATES, resample=True, loudness=-16.0, padding_side="left", licence="MIT"
    )
    extractor.save_pretrained(tmp_path)
    loaded = DacFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    assert (loaded.padding_side, loaded.licence) == ("left", "MIT")


def test_saved_extractor_loads_in_transformers_alone(tmp_path):
    DacFeatureExtractor(**RATES, resample=True, loudness=-16.0).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert fields["feature_extractor_type"] == "DacFeatureExtractor"
    loaded = TransformersDacFeatureExtractor.from_pretrained(tmp_path)
    assert_same_features(
        loaded(noise(10), sampling_rate=RATE_HZ),
        TransformersDacFeatureExtractor(**RATES)(noise(10), sampling_rate=RATE_HZ),
    )


def test_official_file_loads_and_takes_our_options(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OFFICIAL_FIELDS))
    loaded = DacFeatureExtractor.from_pretrained(tmp_path, resample=True, loudness=-16.0)
    assert (loaded.sampling_rate, loaded.hop_length) == (44100, 512)
    assert (loaded.resample, loaded.loudness) == (True, -16.0)
