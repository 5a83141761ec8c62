"""The EnCodec feature extractor: transformers' where that works, defined where that does not."""

import importlib.util
import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoFeatureExtractor, AutoProcessor
from transformers.models.encodec.feature_extraction_encodec import (
    EncodecFeatureExtractor as TransformersEncodecFeatureExtractor,
)

from codax.configuration import EncodecConfig
from codax.errors import AudioError
from codax.feature_extraction import (
    EncodecFeatureExtractor,
    measure_loudness,
    mix,
    register_feature_extractors,
    resample,
)
from tests.tiny_encodec import SEGMENT, STEREO, STRIDE, noise, tiny_encodec

from .assertions import assert_mentions, assert_same_features, refusal

RATE_HZ = 8000
SEGMENTS = {"chunk_length_s": 0.05, "overlap": 0.06}
# What the 24 kHz model takes, what the 48 kHz model takes, and what else a configuration may say.
EXTRACTORS = {
    "mono": {"feature_size": 1, "sampling_rate": RATE_HZ},
    "stereo": {"feature_size": 2, "sampling_rate": RATE_HZ},
    "mono in segments": {"feature_size": 1, "sampling_rate": RATE_HZ, **SEGMENTS},
    "stereo in segments": {"feature_size": 2, "sampling_rate": RATE_HZ, **SEGMENTS},
}
OFFICIAL_FIELDS = {
    "chunk_length_s": 1.0,
    "feature_extractor_type": "EncodecFeatureExtractor",
    "feature_size": 2,
    "overlap": 0.01,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 48000,
}
BOUNDARIES = [
    2,
    SEGMENT - STRIDE,
    STRIDE - 1,
    STRIDE,
    STRIDE + 1,
    SEGMENT - 1,
    SEGMENT,
    SEGMENT + 1,
    2 * STRIDE - 1,
    2 * STRIDE,
    2 * STRIDE + 1,
    STRIDE + SEGMENT,
    STRIDE + SEGMENT + 1,
    7 * STRIDE,
    7 * STRIDE + 1,
]
BOUNDARIES_48KHZ = [2, 480, 47519, 47520, 47521, 47999, 48000, 48001, 95040, 95041, 95520, 142561]
TENSOR_TYPES = [None, "np", "jax"] + (["pt"] if importlib.util.find_spec("torch") else [])
# Two samples at least: two channels of one have a test of their own.
LENGTHS = st.lists(st.integers(2, 3 * STRIDE), min_size=1, max_size=3)
CONTAINERS = {
    "list of float32 arrays": lambda clips: clips,
    "list of float64 arrays": lambda clips: [clip.astype(np.float64) for clip in clips],
    "tuple of arrays": tuple,
    "list of lists": lambda clips: [clip.tolist() for clip in clips],
    "one float32 array": lambda clips: clips[0],
    "one float64 array": lambda clips: clips[0].astype(np.float64),
}


@pytest.fixture(params=EXTRACTORS.values(), ids=list(EXTRACTORS))
def fields(request):
    """Constructor arguments of ours and of transformers'."""
    return request.param


@pytest.fixture
def mono():
    return EncodecFeatureExtractor(**EXTRACTORS["mono"])


@pytest.fixture
def stereo():
    """In segments of 400 samples, one every 376."""
    return EncodecFeatureExtractor(**EXTRACTORS["stereo in segments"])


def clip_of(fields, num_samples, seed=0):
    """[T] for mono, as transformers takes it, or [C, T]."""
    channels = fields["feature_size"]
    return noise(*([channels] if channels > 1 else []), num_samples, seed=seed)


def extract(extractor, audio, **options):
    given = {"sampling_rate": extractor.sampling_rate, "return_tensors": "np"} | options
    return extractor(audio, **given)


def assert_same_as_transformers(fields, audio, **options):
    options = {"sampling_rate": fields["sampling_rate"], **options}
    assert_same_features(
        EncodecFeatureExtractor(**fields)(audio, **options),
        TransformersEncodecFeatureExtractor(**fields)(audio, **options),
    )


# What transformers gives


@settings(deadline=None)  # a busy machine is no fault
@given(
    LENGTHS,
    st.sampled_from(sorted(EXTRACTORS)),
    st.sampled_from(sorted(CONTAINERS)),
    st.sampled_from([None, True, False, "longest"]),
    st.sampled_from(TENSOR_TYPES),
)
def test_output_is_that_of_transformers(lengths, name, container, padding, return_tensors):
    fields = EXTRACTORS[name]
    clips = [clip_of(fields, length, seed) for seed, length in enumerate(lengths)]
    if container.startswith("one"):
        clips = clips[:1]
    if padding is False and len({clip.shape for clip in clips}) > 1:
        return_tensors = None  # what is not padded makes no tensor
    options = {"padding": padding, "return_tensors": return_tensors}
    assert_same_as_transformers(fields, CONTAINERS[container](clips), **options)


@pytest.mark.parametrize("num_samples", BOUNDARIES)
def test_segments_are_filled_up_as_by_transformers_at_every_boundary(num_samples):
    fields = EXTRACTORS["stereo in segments"]
    clips = [clip_of(fields, num_samples), clip_of(fields, max(2, num_samples // 2))]
    for audio in (clips[0], clips):
        assert_same_as_transformers(fields, audio, return_tensors="np")


def test_clip_of_one_sample_gives_what_transformers_gives(fields):
    """Two channels of one sample each are not one channel of two, channels last."""
    assert_same_as_transformers(fields, clip_of(fields, 1))
    assert_same_as_transformers(fields, [clip_of(fields, 1), clip_of(fields, 3)])


@pytest.mark.parametrize("num_samples", BOUNDARIES)
def test_segments_are_filled_up_to_a_whole_last_one(stereo, num_samples):
    features = extract(stereo, noise(2, num_samples))
    steps = -(-num_samples // STRIDE)
    assert features["input_values"].shape == (1, 2, (steps - 1) * STRIDE + SEGMENT)
    assert features["padding_mask"].sum() == num_samples


@pytest.mark.parametrize("num_samples", BOUNDARIES_48KHZ)
def test_clips_of_the_48_khz_model_are_filled_up_as_by_transformers(num_samples):
    fields = {"feature_size": 2, "sampling_rate": 48000, "chunk_length_s": 1.0, "overlap": 0.01}
    extractor = EncodecFeatureExtractor.from_config(EncodecConfig.preset("encodec_48khz"))
    assert (extractor.chunk_length, extractor.chunk_stride) == (48000, 47520)
    clip = clip_of(fields, num_samples)
    assert_same_features(
        extractor(clip, sampling_rate=48000),
        TransformersEncodecFeatureExtractor(**fields)(clip, sampling_rate=48000),
    )


@pytest.mark.parametrize("num_samples", BOUNDARIES)
def test_segments_of_the_models_transformers_mode_end_where_the_extractor_does(num_samples):
    config = EncodecConfig(**STEREO, segmentation="transformers")
    features = extract(EncodecFeatureExtractor.from_config(config), noise(2, num_samples))
    start, length = config.segments(num_samples)[-1]
    assert features["input_values"].shape[-1] == start + length


@pytest.mark.parametrize("max_length", [STRIDE, 500, SEGMENT + STRIDE, 1000])
def test_padding_to_a_length_is_that_of_transformers(fields, max_length):
    clips = [clip_of(fields, length) for length in (2, 100, STRIDE)]
    assert_same_as_transformers(fields, clips, padding="max_length", max_length=max_length)


def test_truncation_without_padding_is_that_of_transformers(fields):
    clips = [clip_of(fields, length) for length in (9, 30, 20)]
    options = {"padding": False, "truncation": True, "max_length": 20}
    assert_same_as_transformers(fields, clips, **options)


def test_padding_value_is_that_of_the_constructor(fields):
    clips = [clip_of(fields, length) for length in (5, 8)]
    assert_same_as_transformers(fields | {"padding_value": -0.5}, clips)


def test_padding_side_is_that_of_the_constructor(fields):
    clips = [clip_of(fields, length) for length in (5, 8)]
    assert_same_as_transformers(fields | {"padding_side": "left"}, clips)


@pytest.mark.parametrize("return_tensors", TENSOR_TYPES)
def test_attribute_and_item_are_the_same_object(mono, return_tensors):
    features = extract(mono, noise(10), return_tensors=return_tensors)
    assert features.input_values is features["input_values"]


def test_missing_sampling_rate_warns_and_goes_on(mono, caplog):
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        features = mono(noise(8), return_tensors="np")
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert features["input_values"].shape == (1, 1, 8)
    assert "sampling_rate" in caplog.text


# What transformers leaves undefined


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_sample_is_named_by_clip_channel_and_index(stereo, value):
    broken = noise(2, 10)
    broken[1, [7, 8]] = value
    message = refusal(stereo, [noise(2, 5), broken])
    assert_mentions(message, "raw_audio[1]", "[1, 7]", str(value))


def test_integer_pcm_is_scaled(stereo):
    pcm = np.array([[-(2**15), 0, 2**14, 2**13], [0, 1, 2, -3]], np.int16)
    features = extract(stereo, [pcm, pcm.astype(np.int32) * 2**16])
    assert features["input_values"].dtype == np.float32
    for item in features["input_values"]:
        np.testing.assert_array_equal(item[:, :4], pcm / np.float32(2**15))
        assert not item[:, 4:].any()


@pytest.mark.parametrize("dtype", ["int64", "uint16", "bool", "complex64", "object", "U1"])
def test_samples_of_a_type_without_full_scale_are_refused_by_its_name(stereo, dtype):
    message = refusal(stereo, np.zeros((2, 5)).astype(dtype))
    assert_mentions(message, str(np.dtype(dtype)), "int16")


def test_lists_of_python_integers_are_refused_as_what_they_become(mono):
    assert "int64" in refusal(mono, [0, 1, 2])


def test_empty_batch_is_refused(stereo):
    assert "raw_audio is empty" in refusal(stereo, [])


@pytest.mark.parametrize("audio", [np.zeros((2, 0)), [np.zeros((2, 0)), np.zeros((2, 0))]], ids=str)
def test_clips_without_samples_give_one_segment_of_masked_zeros(stereo, audio):
    features = extract(stereo, audio)
    num_items = len(features["input_values"])
    np.testing.assert_array_equal(features["input_values"], np.zeros((num_items, 2, SEGMENT)))
    np.testing.assert_array_equal(features["padding_mask"], np.zeros((num_items, SEGMENT)))


@pytest.mark.parametrize("audio", [np.zeros(0), [[]], np.zeros((1, 0))], ids=str)
def test_mono_clips_without_samples_give_masked_zeros_that_a_model_takes(mono, audio):
    features = extract(mono, audio)
    assert features["input_values"].shape[:2] == (1, 1)
    assert features["input_values"].size > 0
    assert not features["input_values"].any()
    assert features["padding_mask"].shape == features["input_values"].shape[::2]
    assert not features["padding_mask"].any()


def test_clip_without_samples_does_not_disturb_its_batch(stereo):
    clip = noise(2, STRIDE + 1)
    features = extract(stereo, [np.zeros((2, 0)), clip])
    np.testing.assert_array_equal(features["input_values"][1, :, : STRIDE + 1], clip)
    np.testing.assert_array_equal(features["padding_mask"].sum(axis=1), [0, STRIDE + 1])


def test_clip_without_samples_stays_empty_without_padding(stereo):
    features = extract(stereo, [noise(2, 6), np.zeros((2, 0))], padding=False, return_tensors=None)
    assert [item.shape for item in features["input_values"]] == [(2, 6), (2, 0)]
    assert "padding_mask" not in features


def test_truncation_with_padding_is_truncation_then_padding(fields):
    clips = [clip_of(fields, length) for length in (STRIDE + 9, 20, SEGMENT)]
    extractor = EncodecFeatureExtractor(**fields)
    features = extract(extractor, clips, truncation=True, max_length=STRIDE + 2)
    cut = [clip[..., : STRIDE + 2] for clip in clips]
    assert_same_features(features, extract(TransformersEncodecFeatureExtractor(**fields), cut))


def test_truncation_with_padding_to_a_length_gives_that_length(fields):
    clips = [clip_of(fields, length) for length in (30, 20, 10)]
    options = {"truncation": True, "padding": "max_length", "max_length": 20}
    features = extract(EncodecFeatureExtractor(**fields), clips, **options)
    assert features["input_values"].shape == (3, fields["feature_size"], 20)
    assert features["padding_mask"].sum(axis=1).tolist() == [20, 20, 10]


@pytest.mark.parametrize("options", [{"truncation": True}, {"padding": "max_length"}], ids=str)
@pytest.mark.parametrize("max_length", [None, 0, -4, 2.5, True])
def test_missing_or_senseless_max_length_is_refused_by_value(stereo, options, max_length):
    message = refusal(stereo, noise(2, 8), max_length=max_length, **options)
    assert f"max_length is {max_length}" in message


def test_clips_longer_than_max_length_are_refused_with_the_way_out(stereo):
    clips = [noise(2, 30), noise(2, 5)]
    message = refusal(stereo, clips, padding="max_length", max_length=8)
    assert_mentions(message, "30", "8", "truncation=True")


def test_padding_by_its_other_name_is_no_padding(stereo):
    clips = [noise(2, 6), noise(2, 3)]
    features = extract(stereo, clips, padding="do_not_pad", return_tensors=None)
    assert list(features) == ["input_values"]


def test_what_is_not_padded_makes_no_tensor_of_unlike_lengths(stereo):
    with pytest.raises(ValueError):
        extract(stereo, [noise(2, 6), noise(2, 3)], padding=False)


# Channels


@pytest.mark.parametrize("return_tensors", TENSOR_TYPES)
def test_stereo_becomes_two_items_of_a_mono_model_and_is_counted(mono, return_tensors):
    audio = noise(2, 8)
    features = extract(mono, audio, return_tensors=return_tensors)
    np.testing.assert_array_equal(np.asarray(features["input_values"])[:, 0], audio)
    np.testing.assert_array_equal(np.asarray(features["padding_mask"]), np.ones((2, 8)))
    np.testing.assert_array_equal(np.asarray(features["num_channels"]), [2])


def test_clips_of_any_channel_count_mix_in_a_mono_model_and_split_again(mono):
    clips = [noise(8), noise(2, 6), noise(3, 7), noise(1, 8)]
    features = extract(mono, clips)
    by_clip = np.split(features["input_values"], np.cumsum(features["num_channels"])[:-1])
    for clip, items in zip(clips, by_clip, strict=True):
        clip = np.atleast_2d(clip)
        np.testing.assert_array_equal(items[:, 0, : clip.shape[1]], clip)


def test_channels_are_counted_only_where_a_mono_model_is_given_several(mono, stereo):
    assert "num_channels" not in extract(mono, noise(1, 8))
    assert "num_channels" not in extract(stereo, noise(2, 8))


@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 8), (6, 8)])
def test_another_number_of_channels_than_the_models_is_refused_by_both(stereo, shape):
    channels = 1 if len(shape) == 1 else shape[0]
    message = refusal(stereo, [noise(2, 5), noise(*shape)])
    assert_mentions(message, "raw_audio[1]", f"{channels} channels", "takes 2")


def test_mixing_is_advised_where_it_helps_and_only_there(stereo):
    assert "mix_channels=True" in refusal(stereo, noise(8))
    assert "mix_channels=True" not in refusal(stereo, noise(3, 8))


@pytest.mark.parametrize("where", ["constructor", "call"])
def test_mono_is_repeated_for_a_stereo_model_on_request(where):
    at_constructor, at_call = ({"mix_channels": True}, {})
    if where == "call":
        at_constructor, at_call = at_call, at_constructor
    extractor = EncodecFeatureExtractor(**EXTRACTORS["stereo in segments"], **at_constructor)
    clips = [noise(5), noise(2, 8), noise(1, 8)]
    features = extract(extractor, clips, **at_call)
    for clip, item in zip(clips, features["input_values"], strict=True):
        expected = np.broadcast_to(clip, (2, clip.shape[-1]))
        np.testing.assert_array_equal(item[:, : clip.shape[-1]], expected)
    assert features["padding_mask"].sum(axis=1).tolist() == [5, 8, 8]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_channels_are_averaged_for_a_mono_model_on_request(mono, channels):
    clip = noise(channels, 8)
    features = extract(mono, clip, mix_channels=True)
    assert "num_channels" not in features
    # One rounding of float32 for each sum.
    np.testing.assert_allclose(features["input_values"][0, 0], clip.mean(axis=0), rtol=1e-5)


def test_call_can_forbid_the_mixing_that_the_constructor_allowed():
    extractor = EncodecFeatureExtractor(**EXTRACTORS["stereo"], mix_channels=True)
    assert "1 channels" in refusal(extractor, noise(8), mix_channels=False)


def test_channels_that_cannot_be_mixed_are_refused_with_those_that_can(stereo):
    message = refusal(stereo, noise(3, 8), mix_channels=True)
    assert_mentions(message, "3 channels", "2", "mono")


def test_mixing_to_as_many_channels_changes_nothing():
    clip = noise(2, 8)
    assert mix(clip, 2) is clip


@pytest.mark.parametrize("shape", [(1000, 1), (1000, 2), (3, 2)])
def test_channels_last_is_refused_with_the_transpose(stereo, shape):
    message = refusal(stereo, noise(*shape))
    assert_mentions(message, "transpose", str(shape), str(shape[::-1]))


@pytest.mark.parametrize("shape", [(), (0, 5), (2, 2, 5), (1, 2, 5)])
def test_shapes_that_are_no_clip_are_refused_by_name(stereo, shape):
    assert str(shape) in refusal(stereo, np.zeros(shape))


# Sampling rate and loudness


def test_wrong_sampling_rate_is_refused_with_both_rates(stereo):
    message = refusal(stereo, noise(2, 8), sampling_rate=44100)
    assert_mentions(message, "44100 Hz", "8000 Hz", "resample=True")


@pytest.mark.parametrize("sampling_rate", [0, -8000])
def test_senseless_sampling_rate_is_refused_even_where_audio_is_converted(stereo, sampling_rate):
    message = refusal(stereo, noise(2, 8), sampling_rate=sampling_rate, resample=True)
    assert f"{sampling_rate} Hz" in message


def test_wrong_sampling_rate_is_converted_on_request_before_segments_are_counted(stereo):
    audio = noise(2, 4410)
    options = {"sampling_rate": 44100}
    by_call = extract(stereo, audio, resample=True, **options)
    by_constructor = extract(
        EncodecFeatureExtractor(**EXTRACTORS["stereo in segments"], resample=True), audio, **options
    )
    expected = extract(stereo, resample(audio, 44100, RATE_HZ))
    assert expected["padding_mask"].sum() == 800
    assert_same_features(by_call, expected)
    assert_same_features(by_constructor, expected)


def test_call_can_forbid_the_resampling_that_the_constructor_allowed():
    extractor = EncodecFeatureExtractor(**EXTRACTORS["stereo"], resample=True)
    assert "44100 Hz" in refusal(extractor, noise(2, 8), sampling_rate=44100, resample=False)


@pytest.mark.parametrize("where", ["constructor", "call"])
def test_loudness_is_joint_over_channels_and_keeps_their_balance(where):
    audio = noise(2, RATE_HZ) * np.float32([[0.1], [0.02]])
    at_constructor, at_call = ({"loudness": -16.0}, {})
    if where == "call":
        at_constructor, at_call = at_call, at_constructor
    extractor = EncodecFeatureExtractor(**EXTRACTORS["stereo"], **at_constructor)
    louder = extract(extractor, audio, **at_call)["input_values"][0]
    assert measure_loudness(louder, RATE_HZ) == pytest.approx(-16.0, abs=1e-3)
    gain = louder[0, 0] / audio[0, 0]
    np.testing.assert_allclose(louder, audio * gain, rtol=1e-5)  # float32 products


def test_padding_does_not_count_for_loudness(stereo):
    loud = extract(stereo, noise(2, RATE_HZ), loudness=-20.0)["input_values"]
    clips = [noise(2, RATE_HZ), noise(2, 3 * RATE_HZ, seed=2)]
    beside = extract(stereo, clips, loudness=-20.0)["input_values"]
    np.testing.assert_array_equal(beside[0, :, :RATE_HZ], loud[0, :, :RATE_HZ])


# Construction and files


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_size", 0),
        ("feature_size", 1.5),
        ("feature_size", True),
        ("sampling_rate", 0),
        ("sampling_rate", 44100.5),
        ("sampling_rate", "44100"),
        ("loudness", 16.0),
        ("loudness", float("nan")),
        ("chunk_length_s", 0.0),
        ("chunk_length_s", -1.0),
        ("chunk_length_s", 1e-9),
        ("chunk_length_s", float("nan")),
        ("chunk_length_s", "1.0"),
        ("overlap", -0.5),
        ("overlap", 1.0),
        ("overlap", 1.5),
        ("overlap", float("nan")),
        ("overlap", "0.01"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(name, value):
    valid = {"chunk_length_s": 1.0, "overlap": 0.01}
    with pytest.raises(AudioError) as caught:
        EncodecFeatureExtractor(**(valid | {name: value}))
    assert_mentions(str(caught.value), name, repr(value))


def test_loudness_out_of_range_is_refused_in_a_call_too(mono):
    assert "loudness is 16.0" in refusal(mono, noise(8), loudness=16.0)


@pytest.mark.parametrize("preset", ["encodec_24khz", "encodec_48khz", "encodec_32khz"])
def test_config_gives_channels_rate_and_segments_and_options_are_added(preset):
    config = EncodecConfig.preset(preset)
    extractor = EncodecFeatureExtractor.from_config(config, resample=True, mix_channels=True)
    assert extractor.feature_size == config.audio_channels
    assert extractor.sampling_rate == config.sampling_rate
    assert (extractor.chunk_length, extractor.chunk_stride) == (config.segmenting or (None, None))
    assert (extractor.resample, extractor.mix_channels) == (True, True)


def test_how_the_model_cuts_segments_does_not_matter_to_the_extractor():
    extractors = [
        EncodecFeatureExtractor.from_config(EncodecConfig(**STEREO, segmentation=segmentation))
        for segmentation in ("original", "transformers")
    ]
    assert extractors[0].to_dict() == extractors[1].to_dict()


def test_saved_extractor_loads_here_with_all_its_fields(tmp_path):
    extractor = EncodecFeatureExtractor(
        **EXTRACTORS["stereo in segments"],
        resample=True,
        loudness=-16.0,
        mix_channels=True,
        padding_value=0.5,
        licence="MIT",
    )
    extractor.save_pretrained(tmp_path)
    loaded = EncodecFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    assert (loaded.chunk_length, loaded.chunk_stride) == (SEGMENT, STRIDE)
    assert (loaded.loudness, loaded.mix_channels, loaded.licence) == (-16.0, True, "MIT")


def test_saved_extractor_loads_in_transformers_alone(fields, tmp_path):
    EncodecFeatureExtractor(**fields, resample=True, mix_channels=True).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written["feature_extractor_type"] == "EncodecFeatureExtractor"
    loaded = TransformersEncodecFeatureExtractor.from_pretrained(tmp_path)
    clip = clip_of(fields, STRIDE + 1)
    assert_same_features(
        extract(loaded, clip), extract(TransformersEncodecFeatureExtractor(**fields), clip)
    )


def test_official_file_loads_and_takes_our_options(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OFFICIAL_FIELDS))
    loaded = EncodecFeatureExtractor.from_pretrained(tmp_path, resample=True, mix_channels=True)
    assert (loaded.feature_size, loaded.sampling_rate) == (2, 48000)
    assert (loaded.chunk_length, loaded.chunk_stride) == (48000, 47520)
    assert (loaded.resample, loaded.loudness, loaded.mix_channels) == (True, None, True)
    plain = EncodecFeatureExtractor.from_pretrained(tmp_path)
    assert (plain.resample, plain.loudness, plain.mix_channels) == (False, None, False)


@pytest.mark.parametrize("auto_class", [AutoFeatureExtractor, AutoProcessor])
def test_auto_class_gives_our_extractor_of_an_official_folder(auto_class, tmp_path):
    register_feature_extractors()
    EncodecConfig.preset("encodec_48khz").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OFFICIAL_FIELDS))
    loaded = auto_class.from_pretrained(tmp_path, mix_channels=True)
    assert type(loaded) is EncodecFeatureExtractor
    assert (loaded.feature_size, loaded.mix_channels) == (2, True)


def test_file_without_a_type_is_resolved_by_the_model_config(tmp_path):
    register_feature_extractors()
    EncodecConfig(**STEREO).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(EXTRACTORS["stereo in segments"]))
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is EncodecFeatureExtractor
    assert (loaded.chunk_length, loaded.chunk_stride) == (SEGMENT, STRIDE)


# Into the model


def test_mono_batch_goes_straight_into_the_model(encodec_mono):
    extractor = EncodecFeatureExtractor.from_config(encodec_mono.config)
    clips = [noise(123), (2**13 * noise(50)).astype(np.int16)]
    for return_tensors in ("np", "jax"):
        features = extract(extractor, clips, return_tensors=return_tensors)
        encoded = encodec_mono.encode(**features, bandwidth=12.8)
        assert encoded.audio_codes.shape == (1, 2, 4, 13)
        assert encoded.num_samples.tolist() == [123, 50]
        decoded = encodec_mono.decode(encoded.audio_codes, num_samples=encoded.num_samples)
        assert decoded.audio_values.shape == (2, 1, 123)


def test_channels_of_a_clip_are_found_again_among_the_codes_of_a_mono_model(encodec_mono):
    extractor = EncodecFeatureExtractor.from_config(encodec_mono.config)
    left, right = noise(2, 123)
    features = extract(extractor, [left, np.stack([left, right])])
    counts = features.pop("num_channels")
    codes = encodec_mono.encode(**features).audio_codes
    first, second = np.split(codes[0], np.cumsum(counts)[:-1])
    np.testing.assert_array_equal(first[0], second[0])
    assert (second[0] != second[1]).any()


@pytest.fixture(scope="module")
def stereo_features():
    """Of two clips: of two segments, and of one that is short."""
    extractor = EncodecFeatureExtractor.from_config(EncodecConfig(**STEREO))
    return extract(extractor, [noise(2, 450), noise(2, 100, seed=2)])


def test_stereo_batch_is_coded_as_its_clips_are_alone(encodec_stereo, stereo_features):
    encoded = encodec_stereo.encode(**stereo_features, bandwidth=9.6)
    assert encoded.num_samples.tolist() == [450, 100]
    for index, length in enumerate((450, 100)):
        clip = stereo_features["input_values"][index : index + 1, :, :length]
        alone = encodec_stereo.encode(clip, bandwidth=9.6).audio_codes
        count, _, _, frames = alone.shape
        beside = encoded.audio_codes[:count, index : index + 1, :, :frames]
        np.testing.assert_array_equal(beside, alone)


def test_in_transformers_mode_the_model_codes_all_that_the_extractor_fills_up(stereo_features):
    model = tiny_encodec(STEREO, segmentation="transformers")
    longer = {key: value[:1] for key, value in stereo_features.items()}
    encoded = model.encode(**longer)
    filled = model.encode(longer["input_values"])
    assert len(encoded.audio_codes) == len(model.config.segments(450)) == 3
    np.testing.assert_array_equal(encoded.audio_codes, filled.audio_codes)
