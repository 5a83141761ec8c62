"""What follows from an EnCodec configuration: presets, bandwidths, segments, files, refusals."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from codax.configuration import (
    DAC_PRESETS,
    ENCODEC_PRESETS,
    DacConfig,
    EncodecConfig,
    preset_config,
    preset_name_of,
)
from codax.modeling.weight_table import encodec_weight_rules
from tests.messages import one_line_error
from tests.tiny_encodec import MONO, SEGMENT, STEREO, STRIDE

from .test_dac_config_files import CHUNK_FIELDS

# name: Hz, channels, hop, frames a second, codebooks by kbps, segment and stride, parameters.
# Source: facebookresearch/encodec 0.1.1 and the Hub's facebook/encodec_32khz, as run.
PRESET_FACTS = {
    "encodec_24khz": (
        24000, 1, 320, 75, {1.5: 2, 3: 4, 6: 8, 12: 16, 24: 32}, None, 14_851_810,
    ),
    "encodec_48khz": (
        48000, 2, 320, 150, {3: 2, 6: 4, 12: 8, 24: 16}, (48000, 47520), 14_856_294,
    ),
    "encodec_32khz": (32000, 1, 640, 50, {2.2: 4}, None, 56_884_674),
}  # fmt: skip

POSITIVE_INTEGERS = (
    "sampling_rate",
    "audio_channels",
    "hidden_size",
    "num_filters",
    "num_residual_layers",
    "kernel_size",
    "last_kernel_size",
    "residual_kernel_size",
    "dilation_growth_rate",
    "compress",
    "num_lstm_layers",
    "codebook_size",
)
SWITCHES = ("normalize", "use_causal_conv", "use_conv_shortcut")


@pytest.fixture(params=PRESET_FACTS)
def preset(request):
    return EncodecConfig.preset(request.param), PRESET_FACTS[request.param]


# --- presets -------------------------------------------------------------------------------------


def test_facts_are_stated_for_every_preset():
    assert set(PRESET_FACTS) == set(ENCODEC_PRESETS)


def test_preset_has_the_published_rates_channels_and_hop(preset):
    config, (sampling_rate, channels, hop_length, frame_rate, *_) = preset
    assert (config.sampling_rate, config.audio_channels) == (sampling_rate, channels)
    assert (config.hop_length, config.frame_rate) == (hop_length, frame_rate)


def test_preset_uses_the_published_number_of_codebooks_at_every_bandwidth(preset):
    config, (_, _, _, frame_rate, codebooks, *_) = preset
    assert config.target_bandwidths == list(codebooks)
    assert {kbps: config.checked_quantizers(kbps) for kbps in codebooks} == codebooks
    assert config.num_quantizers == max(codebooks.values())
    bits = math.log2(config.codebook_size) * frame_rate
    for kbps, count in codebooks.items():
        assert config.bitrate(kbps) == pytest.approx(count * bits)


def test_preset_takes_its_lowest_bandwidth_unless_told(preset):
    config, _ = preset
    assert config.checked_quantizers(None) == config.checked_quantizers(config.target_bandwidths[0])
    assert config.bitrate() == config.bitrate(config.target_bandwidths[0])


def test_preset_cuts_segments_where_the_published_model_does(preset):
    config, (*_, segmenting, _) = preset
    assert config.segmenting == segmenting


def test_preset_has_as_many_parameters_as_the_published_model(preset):
    """torch counts gain and direction of weight norm, and codebooks as buffers: not at all."""
    config, (*_, parameters) = preset
    rules = encodec_weight_rules(config.architecture)
    gains = [rule.torch_shape[0] for rule in rules if rule.weight_norm]
    weights = [math.prod(rule.torch_shape) for rule in rules if "codebook" not in rule.torch_key]
    assert sum(weights) + sum(gains) == parameters


def test_codebooks_of_a_preset_are_listed_with_their_statistics(preset):
    config, _ = preset
    rules = encodec_weight_rules(config.architecture)
    keys = {rule.torch_key for rule in rules if "codebook" in rule.torch_key}
    assert keys == {
        f"quantizer.layers.{level}.codebook.{name}"
        for level in range(config.num_quantizers)
        for name in ("embed", "embed_avg", "cluster_size", "inited")
    }


def test_released_model_is_known_by_its_configuration(preset):
    config, _ = preset
    name = preset_name_of(config)
    assert EncodecConfig.preset(name).to_dict() == config.to_dict()
    assert preset_config(name).to_dict() == config.to_dict()
    other = EncodecConfig(**{**ENCODEC_PRESETS[name], "num_filters": 2})
    assert preset_name_of(other) is None
    at_another_rate = EncodecConfig(**{**ENCODEC_PRESETS[name], "sampling_rate": 22050})
    assert preset_name_of(at_another_rate) is None


def test_presets_of_either_family_are_found_by_name():
    for names, config_class in ((DAC_PRESETS, DacConfig), (ENCODEC_PRESETS, EncodecConfig)):
        assert {type(preset_config(name)) for name in names} == {config_class}


def test_unknown_preset_is_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match="'encodec_16khz'") as error:
        EncodecConfig.preset("encodec_16khz")
    assert all(name in str(error.value) for name in ENCODEC_PRESETS)
    with pytest.raises(ValueError, match="'encodec_16khz'") as error:
        preset_config("encodec_16khz")
    assert all(name in str(error.value) for name in (*DAC_PRESETS, *ENCODEC_PRESETS))


def test_presets_and_defaults_are_not_changed_by_changing_a_configuration():
    for config in (EncodecConfig(), EncodecConfig.preset("encodec_48khz")):
        config.upsampling_ratios.append(2)
        config.target_bandwidths.append(99.0)
    assert EncodecConfig().hop_length == EncodecConfig.preset("encodec_48khz").hop_length == 320
    assert transformers.EncodecConfig().upsampling_ratios == [8, 5, 4, 2]
    assert EncodecConfig.preset("encodec_48khz").target_bandwidths[-1] == 24.0


# --- bandwidths ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bandwidth", [2.0, 0, -6.0, "6", [6.0], True, math.nan, math.inf])
def test_bandwidth_that_the_model_lacks_is_refused_with_those_it_has(bandwidth):
    with pytest.raises(ValueError, match="bandwidth") as error:
        EncodecConfig.preset("encodec_24khz").checked_quantizers(bandwidth)
    assert repr(bandwidth) in str(error.value)
    assert "1.5, 3, 6, 12, 24" in str(error.value)


def test_bandwidth_may_be_of_any_number_type():
    config = EncodecConfig.preset("encodec_24khz")
    assert {config.checked_quantizers(kbps) for kbps in (6, 6.0, np.float32(6))} == {8}


@given(st.integers(1, 12), st.integers(1, 600), st.integers(1, 64), st.sampled_from([1, 2, 15]))
@settings(deadline=None)
def test_bandwidth_stands_for_as_many_codebooks_as_in_transformers(bits, frame_rate, count, digits):
    """9.6 kbps are three codebooks of 3.2, though 9.6 / 3.2 is less than 3 in floating point."""
    bandwidth = round(count * bits * frame_rate / 1000, digits)
    fields = {"codebook_size": 2**bits, "upsampling_ratios": [8], "sampling_rate": 8 * frame_rate}
    theirs = transformers.EncodecConfig(**fields, target_bandwidths=[bandwidth])
    if theirs.num_quantizers < 1:
        with pytest.raises(ValueError, match="target_bandwidths"):
            EncodecConfig(**fields, target_bandwidths=[bandwidth])
        return
    config = EncodecConfig(**fields, target_bandwidths=[bandwidth])
    assert config.checked_quantizers(bandwidth) == theirs.num_quantizers == config.num_quantizers


def test_lowest_bandwidth_uses_one_codebook_at_least():
    config = EncodecConfig(**{**MONO, "target_bandwidths": [0.1, 6.4]})
    assert config.checked_quantizers(None) == 1


# --- lengths and segments ------------------------------------------------------------------------


def test_frames_cover_every_sample_and_decode_to_whole_frames():
    config = EncodecConfig(**MONO)
    for num_samples in (1, 9, 10, 11, 20, 21, 99):
        frames = config.encoded_length(num_samples)
        assert 0 <= config.decoded_length(frames) - num_samples < config.hop_length
    assert config.encoded_length(0) == 0


def lengths_at_boundaries():
    return sorted(
        {
            boundary + offset
            for boundary in (STRIDE, SEGMENT, 2 * STRIDE, STRIDE + SEGMENT, 3 * STRIDE)
            for offset in (-1, 0, 1)
        }
        | {1, 2}
    )


def original_segments(num_samples, length, stride):
    """facebookresearch/encodec, model.py, `EncodecModel.encode`."""
    return [
        (start, len(range(num_samples)[start : start + length]))
        for start in range(0, num_samples, stride)
    ]


@pytest.mark.parametrize("num_samples", lengths_at_boundaries())
def test_original_segments_begin_every_stride_and_are_as_short_as_what_is_left(num_samples):
    config = EncodecConfig(**STEREO)
    assert config.segmenting == (SEGMENT, STRIDE)
    segments = config.segments(num_samples)
    assert list(segments) == original_segments(num_samples, SEGMENT, STRIDE)
    assert config.segmented_length(num_samples) == num_samples


@pytest.mark.parametrize("num_samples", lengths_at_boundaries())
def test_transformers_segments_are_those_of_a_clip_filled_up_by_its_extractor(num_samples):
    config = EncodecConfig(**STEREO, segmentation="transformers")
    extractor = transformers.EncodecFeatureExtractor(2, 8000, chunk_length_s=0.05, overlap=0.06)
    silence = np.zeros((2, num_samples), np.float32)
    filled = extractor(silence, sampling_rate=8000)["input_values"][0].shape[-1]
    assert config.segmented_length(num_samples) == filled
    assert list(config.segments(num_samples)) == original_segments(filled, SEGMENT, STRIDE)
    # One more than the original has, since the last one's overlap reaches beyond the clip.
    *whole, last = config.segments(num_samples)
    assert {length for _, length in whole} == {SEGMENT}
    assert last == (len(whole) * STRIDE, SEGMENT - STRIDE)


def test_segmented_length_of_several_clips_at_once_is_that_of_each():
    lengths = np.array(lengths_at_boundaries(), np.int32)
    for segmentation in ("original", "transformers"):
        config = EncodecConfig(**STEREO, segmentation=segmentation)
        each = [config.segmented_length(one) for one in lengths.tolist()]
        assert config.segmented_length(lengths).tolist() == each


@pytest.mark.parametrize("segmentation", ["original", "transformers"])
def test_model_without_segments_codes_every_clip_in_one(segmentation):
    config = EncodecConfig(**MONO, segmentation=segmentation)
    assert config.segmenting is None
    for num_samples in (1, 5000):
        assert config.segments(num_samples) == ((0, num_samples),)
        assert config.segmented_length(num_samples) == num_samples


# --- what is refused -----------------------------------------------------------------------------


def assert_refused(field, value, **others):
    fields = {**MONO, **others, field: value}
    return one_line_error(ValueError, EncodecConfig, match=field, **fields)


@pytest.mark.parametrize(
    "value", [True, False, 1.5, 2.0, "4", "", -1, 0, math.nan, math.inf, [4], np.float32(4), None]
)
@pytest.mark.parametrize("field", POSITIVE_INTEGERS)
def test_anything_but_a_positive_integer_is_refused(field, value):
    assert repr(value) in assert_refused(field, value)


@pytest.mark.parametrize("value", [2, "yes", "True", None, [True], 0.5])
@pytest.mark.parametrize("field", SWITCHES)
def test_switch_that_is_neither_true_nor_false_is_refused(field, value):
    assert f"{field}={value!r} must be one of True, False" in assert_refused(field, value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("norm_type", "layer_norm", "weight_norm"),
        ("norm_type", None, "time_group_norm"),
        ("pad_mode", "replicate", "'reflect', 'constant'"),
        ("pad_mode", ["reflect"], "'reflect', 'constant'"),
        ("segmentation", "torch", "'original', 'transformers'"),
        ("segmentation", None, "'original', 'transformers'"),
    ],
)
def test_unknown_choice_is_refused_with_the_known_ones(field, value, allowed):
    assert allowed in assert_refused(field, value)


@pytest.mark.parametrize("value", [None, [], (), "52", 5, 2.5, {2: 5}, True])
def test_ratios_that_are_no_list_are_refused(value):
    assert "must be a list of positive integers" in assert_refused("upsampling_ratios", value)


@pytest.mark.parametrize("entry", [0, -2, 2.0, True, "2", None, [2]])
def test_ratio_that_is_no_positive_integer_is_refused(entry):
    assert repr(entry) in assert_refused("upsampling_ratios", [2, entry])


@pytest.mark.parametrize("value", [None, [], 6.0, "6", {6.0: 8}])
def test_bandwidths_that_are_no_list_are_refused(value):
    assert repr(value) in assert_refused("target_bandwidths", value)


@pytest.mark.parametrize("entry", [-1.0, "6", None, True, math.nan, math.inf, 1e308, [6.0]])
def test_bandwidth_that_is_no_number_is_refused(entry):
    assert repr(entry) in assert_refused("target_bandwidths", [entry, 6.4])


@pytest.mark.parametrize("value", [[0.0], [1.0], [3.0]])
def test_bandwidths_too_low_for_one_codebook_are_refused(value):
    assert "must be a positive integer" in assert_refused("target_bandwidths", value)


@pytest.mark.parametrize("value", [[6.4, 3.2], [3.2, 12.8, 6.4]])
def test_bandwidths_must_end_with_the_highest(value):
    assert "ascending" in assert_refused("target_bandwidths", value)


@pytest.mark.parametrize("value", [3, 1000, 1025])
def test_codebook_size_that_is_no_power_of_two_is_refused(value):
    assert f"codebook_size={value}" in assert_refused("codebook_size", value)


def test_codebook_of_a_single_entry_is_refused():
    assert "at least 2" in assert_refused("codebook_size", 1)


def test_codebook_width_is_that_of_the_latents():
    assert EncodecConfig(**MONO).codebook_dim == MONO["hidden_size"]
    assert f"hidden_size, {MONO['hidden_size']}" in assert_refused("codebook_dim", 5)


@pytest.mark.parametrize("value", [-0.1, 1.01, "1", True, None, math.nan])
def test_trim_right_ratio_that_is_no_share_is_refused(value):
    assert repr(value) in assert_refused("trim_right_ratio", value)


def test_trim_right_ratio_belongs_to_causal_models():
    assert EncodecConfig(**MONO, trim_right_ratio=0.4).trim_right_ratio == 0.4
    assert_refused("trim_right_ratio", 0.4, use_causal_conv=False)


def test_residual_branches_keep_a_channel_at_least():
    assert_refused("compress", MONO["num_filters"] + 1)


@pytest.mark.parametrize("value", [True, "1", -1.0, 0, math.nan, math.inf, 1e308, 1e-9, [1.0]])
def test_length_of_segments_that_is_no_number_or_under_a_frame_is_refused(value):
    assert repr(value) in assert_refused("chunk_length_s", value, overlap=0.1)


@pytest.mark.parametrize("value", [None, True, "x", -0.1, 1.0, 1, 1.5, math.nan])
def test_overlap_of_all_of_a_segment_or_no_number_is_refused(value):
    assert repr(value) in assert_refused("overlap", value, chunk_length_s=0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_bandwidths", [1e6]),
        ("upsampling_ratios", [1] * 17),
        ("upsampling_ratios", [2**32, 2**32]),
        ("num_residual_layers", 17),
        ("num_lstm_layers", 17),
        ("sampling_rate", 10**400),
    ],
)
def test_sizes_beyond_any_codec_are_refused_at_once(field, value):
    assert_refused(field, value)


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    EncodecConfig(**STEREO).save_pretrained(tmp_path)
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("segmentation", ["original", "transformers"])
@pytest.mark.parametrize("fields", [{}, MONO, STEREO, *ENCODEC_PRESETS.values()])
def test_configuration_survives_its_file(fields, segmentation, tmp_path):
    config = EncodecConfig(**fields, segmentation=segmentation)
    config.save_pretrained(tmp_path)
    loaded = EncodecConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.architecture == config.architecture
    assert loaded.segmentation == segmentation


def test_transformers_own_configuration_reads_the_file_with_the_same_facts(preset, tmp_path):
    config, _ = preset
    config.save_pretrained(tmp_path)
    theirs = transformers.EncodecConfig.from_pretrained(tmp_path)
    for fact in (
        *POSITIVE_INTEGERS,
        *SWITCHES,
        *("target_bandwidths", "upsampling_ratios", "codebook_dim", "pad_mode", "norm_type"),
        *("num_quantizers", "frame_rate", "hop_length", "chunk_length", "chunk_stride"),
    ):
        assert getattr(theirs, fact) == getattr(config, fact), fact
    assert transformers.AutoConfig.from_pretrained(tmp_path).model_type == "encodec"


def test_file_of_transformers_is_read_and_lacks_but_our_own_fields(folder):
    ours = json.loads((folder / "config.json").read_text())
    transformers.EncodecConfig(**STEREO).save_pretrained(folder)
    theirs = json.loads((folder / "config.json").read_text())
    assert ours.keys() - theirs.keys() == {"segmentation"} | CHUNK_FIELDS
    assert EncodecConfig.from_pretrained(folder).to_dict() == EncodecConfig(**STEREO).to_dict()


def test_fields_can_be_overridden_when_loading(folder):
    config, unused = EncodecConfig.from_pretrained(
        folder,
        return_unused_kwargs=True,
        segmentation="transformers",
        upsampling_ratios=[4, 3],
        encode_dtype="bfloat16",
    )
    assert (config.segmentation, config.hop_length) == ("transformers", 12)
    assert unused == {"encode_dtype": "bfloat16"}


@pytest.mark.parametrize(
    "override", [{"segmentation": "none"}, {"compress": 99}, {"target_bandwidths": []}]
)
def test_overridden_field_is_validated(folder, override):
    with pytest.raises(ValueError, match=next(iter(override))):
        EncodecConfig.from_pretrained(folder, **override)


def test_overrides_that_contradict_each_other_or_the_file_are_refused(folder):
    with pytest.raises(ValueError, match="codebook_dim"):
        EncodecConfig.from_pretrained(folder, hidden_size=16)
    widened = EncodecConfig.from_pretrained(folder, hidden_size=16, codebook_dim=16)
    assert widened.architecture.hidden_size == 16


def test_bad_field_in_the_file_is_refused(folder):
    edit(folder, num_filters=0)
    with pytest.raises(ValueError, match="num_filters=0"):
        EncodecConfig.from_pretrained(folder)


def test_unknown_field_in_the_file_is_kept(folder):
    edit(folder, comment="from a later version")
    assert EncodecConfig.from_pretrained(folder).comment == "from a later version"


@pytest.mark.parametrize("content", ["[]", '"encodec"', ""])
def test_file_that_is_no_object_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises((ValueError, OSError), match=r"config\.json"):
        EncodecConfig.from_pretrained(folder)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_configuration_survives_copying_and_pickling(duplicate):
    config = EncodecConfig(**STEREO, segmentation="transformers")
    assert duplicate(config).to_dict() == config.to_dict()
    assert duplicate(config).architecture == config.architecture


def test_architectures_of_equal_configurations_are_equal_and_hash_alike():
    one, other = EncodecConfig(**MONO).architecture, EncodecConfig(**MONO).architecture
    assert one == other
    assert hash(one) == hash(other)
    assert one != EncodecConfig(**MONO, num_residual_layers=2).architecture


def test_segmentation_is_no_part_of_the_architecture():
    """So that both kinds of segments share what is compiled."""
    both = [EncodecConfig(**STEREO, segmentation=name) for name in ("original", "transformers")]
    assert both[0].architecture == both[1].architecture


def test_receptive_field_is_what_the_encoders_convolutions_see():
    """Ratio 2, then 5, each convolution of twice the stride after a residual block of kernel 3."""
    config = EncodecConfig(**MONO)
    assert config.receptive_field == 6 + 2 + 3 + 2 * 2 + 2 * 9 + 10 * 6 + 1
