"""What follows from a DAC configuration: presets, lengths, rates, and refusals."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codax.configuration import DAC_PRESETS, DacConfig
from codax.modeling.weight_table import dac_weight_rules

TINY = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 5],
    "decoder_hidden_size": 16,
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "sampling_rate": 8000,
}
POSITIVE_INTEGERS = (
    "encoder_hidden_size",
    "decoder_hidden_size",
    "hidden_size",
    "n_codebooks",
    "codebook_size",
    "codebook_dim",
    "sampling_rate",
)
WEIGHTS_OF_LOSSES = ("commitment_loss_weight", "codebook_loss_weight")

# name: hop, frame rate, kbps, millions of parameters, delay, loss of an unpadded round trip.
# Source: descript-audio-codec 1.0.0 as run; its counts include weight norm's gains.
PRESET_FACTS = {
    "dac_44khz": (512, 44100 / 512, 7.75, 76.65, 7904, 16022),
    "dac_44khz_16kbps": (512, 44100 / 512, 15.5, 64.21, 7904, 16022),
    "dac_24khz": (320, 75.0, 24.0, 74.71, 5264, 10654),
    "dac_16khz": (320, 50.0, 6.0, 74.18, 5264, 10654),
}


@pytest.fixture(params=PRESET_FACTS)
def preset(request):
    return DacConfig.preset(request.param), PRESET_FACTS[request.param]


def test_facts_are_stated_for_every_preset():
    assert set(PRESET_FACTS) == set(DAC_PRESETS)


def test_preset_has_the_published_hop_frame_rate_and_bitrate(preset):
    config, (hop_length, frame_rate, kbps, *_) = preset
    assert config.hop_length == hop_length
    assert config.frame_rate == frame_rate
    # The published figures are rounded to three digits (7.752 is called 7.75).
    assert config.bitrate() / 1000 == pytest.approx(kbps, rel=5e-4)


def test_preset_has_as_many_parameters_as_the_original_file(preset):
    config, (_, _, _, millions, *_) = preset
    rules = dac_weight_rules(config.architecture)
    gains = [
        rule.torch_shape[0]
        for rule in rules
        if rule.torch_key.endswith("weight") and len(rule.torch_shape) == 3
    ]
    count = sum(math.prod(rule.torch_shape) for rule in rules) + sum(gains)
    assert round(count / 1e6, 2) == millions


def test_preset_loses_at_each_end_what_the_reference_calls_delay(preset):
    config, (*_, delay, _) = preset
    assert config.delay == delay


@pytest.mark.parametrize("duration_s", [0.5, 1.0, 5.0])
def test_unpadded_round_trip_of_a_reference_chunk_loses_a_fixed_number_of_samples(
    preset, duration_s
):
    """Half a second at 16 kHz is shorter than that: nothing is left (the reference crashes)."""
    config, (hop_length, *_, lost) = preset
    chunk = math.ceil(int(duration_s * config.sampling_rate) / hop_length) * hop_length
    frames = config.encoded_length(chunk, padded=False)
    assert config.decoded_length(frames, padded=False) == max(chunk - lost, 0)


def test_decoded_length_is_whole_frames_for_even_strides_and_eight_short_for_a_stride_of_five():
    frames = range(1, 200)
    even, odd = DacConfig.preset("dac_44khz"), DacConfig.preset("dac_16khz")
    assert [even.decoded_length(n) for n in frames] == [512 * n for n in frames]
    assert [odd.decoded_length(n) for n in frames] == [320 * n - 8 for n in frames]


def test_whole_frames_of_samples_give_as_many_frames_of_codes(preset):
    config, (hop_length, *_) = preset
    assert [config.encoded_length(n * hop_length) for n in range(50)] == list(range(50))


def test_preset_needs_eight_frames_of_context_to_encode_and_ten_to_decode(preset):
    config, _ = preset
    assert config.encoder_context_frames == (8, 8)
    assert config.decoder_context_frames == (10, 10)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 400))
@example([3, 1], 3)
@example([1, 1], 1)
@example([5, 5], 19)
@settings(deadline=None)
def test_frames_to_cover_is_the_fewest_whose_audio_is_long_enough(downsampling_ratios, num_samples):
    config = DacConfig(downsampling_ratios=downsampling_ratios)
    frames = config.frames_to_cover(num_samples)
    assert config.decoded_length(frames) >= num_samples
    assert frames == 1 or config.decoded_length(frames - 1) < num_samples


@given(st.integers(1, 9), st.integers(0, 12))
@settings(deadline=None)
def test_bitrate_is_proportional_to_the_codebooks_and_to_bits_per_code(n_quantizers, bits):
    config = DacConfig(**{**TINY, "n_codebooks": 9, "codebook_size": 2**bits})
    assert config.bitrate(n_quantizers) == pytest.approx(800 * n_quantizers * bits)
    assert config.bitrate() == pytest.approx(config.bitrate(9))


def test_latent_width_is_derived_unless_stated():
    assert DacConfig(**TINY).hidden_size == 16
    assert DacConfig(**TINY, hidden_size=24).hidden_size == 24
    assert DacConfig.preset("dac_44khz_16kbps").hidden_size == 128


def test_decoder_upsamples_in_the_reverse_order():
    strides = [conv.stride for conv in DacConfig(**TINY).architecture.decoder_convs]
    assert [stride for stride in strides if stride > 1] == [5, 2]


def assert_refused(field, value):
    with pytest.raises(ValueError) as error:
        DacConfig(**{**TINY, field: value})
    assert field in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    "value", [True, False, 1.5, 2.0, "4", "", -1, 0, math.nan, math.inf, [4], np.float32(4)]
)
@pytest.mark.parametrize("field", POSITIVE_INTEGERS)
def test_anything_but_a_positive_integer_is_refused(field, value):
    assert_refused(field, value)


@pytest.mark.parametrize("field", [name for name in POSITIVE_INTEGERS if name != "hidden_size"])
def test_none_is_refused_where_there_is_no_derived_value(field):
    assert_refused(field, None)


@pytest.mark.parametrize("value", [None, [], (), "25", 5, -1, 2.5, {2: 5}, {2, 5}, True])
def test_downsampling_ratios_that_are_no_list_are_refused(value):
    assert_refused("downsampling_ratios", value)


@pytest.mark.parametrize("entry", [0, -2, 2.0, True, "2", None, [2]])
def test_downsampling_ratio_that_is_no_positive_integer_is_refused(entry):
    with pytest.raises(ValueError, match="downsampling_ratios") as error:
        DacConfig(**{**TINY, "downsampling_ratios": [2, entry]})
    assert repr(entry) in str(error.value)


@pytest.mark.parametrize("value", [None, "0.5", -0.1, 1.01, 2, math.nan, math.inf, [0.5], True])
def test_quantizer_dropout_that_is_no_probability_is_refused(value):
    assert_refused("quantizer_dropout", value)


@pytest.mark.parametrize("value", [None, "1", -0.1, math.nan, math.inf, -math.inf, [1.0], True])
@pytest.mark.parametrize("field", WEIGHTS_OF_LOSSES)
def test_weight_of_a_loss_that_is_no_finite_number_from_zero_is_refused(field, value):
    assert_refused(field, value)


@pytest.mark.parametrize("value", [3, 24, 1000, 1025])
def test_codebook_size_that_is_no_power_of_two_is_refused(value):
    assert_refused("codebook_size", value)


@pytest.mark.parametrize(("width", "ratios"), [(18, [2, 2]), (2, [2, 2]), (1500, [2, 4, 8, 8])])
def test_decoder_width_that_cannot_be_halved_for_every_ratio_is_refused(width, ratios):
    with pytest.raises(ValueError, match=f"decoder_hidden_size={width} .*{2 ** len(ratios)}"):
        DacConfig(**{**TINY, "decoder_hidden_size": width, "downsampling_ratios": ratios})


def test_unknown_preset_is_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match="'dac_48khz'") as error:
        DacConfig.preset("dac_48khz")
    assert all(name in str(error.value) for name in DAC_PRESETS)


def test_presets_are_not_changed_by_changing_a_configuration():
    config = DacConfig.preset("dac_44khz")
    config.downsampling_ratios.append(2)
    config.sampling_rate = 1
    assert DacConfig.preset("dac_44khz").hop_length == 512
    assert DacConfig.preset("dac_44khz").sampling_rate == 44100


def test_architectures_of_equal_configurations_are_equal_and_hash_alike():
    one, other = DacConfig(**TINY).architecture, DacConfig(**TINY).architecture
    assert one == other
    assert hash(one) == hash(other)
    assert one != DacConfig(**TINY, hidden_size=8).architecture


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_configuration_survives_copying_and_pickling(duplicate):
    config = DacConfig(**TINY, hidden_size=24)
    assert duplicate(config).to_dict() == config.to_dict()
    assert duplicate(config).architecture == config.architecture


@pytest.mark.parametrize(
    ("field", "value"), [("n_codebooks", 10**9), ("downsampling_ratios", [1] * 17)]
)
def test_sizes_beyond_any_codec_are_refused_at_once(field, value):
    with pytest.raises(ValueError, match=field):
        DacConfig(**{field: value})
