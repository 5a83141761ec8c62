"""The language model of `.ecdc` files by torch: the original's bits, and so its files."""

import dataclasses
import sys

import numpy as np
import pytest

from codax.codec.ecdc_probabilities import ecdc_probabilities
from codax.configuration.configuration_encodec_lm import ENCODEC_LMS, EncodecLmArchitecture
from codax.conversion.encodec_lm import load_encodec_lm, save_encodec_lm
from codax.conversion.encodec_lm_torch import torch_probabilities
from codax.errors import CheckpointError, CodaxError, FormatError
from codax.formats import EncodedAudio, ecdc_bytes, read_ecdc
from codax.formats.arithmetic_coding import AstrayError
from codax.modeling.modeling_flax_encodec_lm import EncodecLm
from codax.modeling.torch_layout import params_from_torch
from codax.modeling.weight_table import encodec_lm_weight_rules
from tests.reference import peers

if reason := peers.missing_encodec():
    pytest.skip(reason, allow_module_level=True)

import torch

from tests.reference import encodec_lm as original

TINY = EncodecLmArchitecture(
    num_codebooks=3,
    past_context=7,
    codebook_size=1024,
    dim=16,
    num_layers=2,
    num_heads=4,
    feed_forward_dim=32,
)


def random_codes(num_codebooks, num_frames, seed=0):
    """-> int32 [K, F]."""
    return np.random.default_rng(seed).integers(0, 1024, (num_codebooks, num_frames), np.int32)


def ours(lm, architecture, model="encodec_24khz"):
    """The original's weights in our layout."""
    rules = encodec_lm_weight_rules(architecture)
    params = params_from_torch(rules, original.state_arrays(lm), "the original's")
    return EncodecLm(model, architecture, params)


def step_by_step(lm, codes, **options):
    """As files are coded -> float32 [K, F, N]."""
    step = torch_probabilities(lm, **options)(lm.model, len(codes))
    return np.stack([step(frame) for frame in (None, *codes.T[:-1])], axis=1)


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


@pytest.fixture(autouse=True)
def _one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny_lm():
    """The original's model."""
    return original.random_lm(TINY)


@pytest.fixture(scope="module", params=list(ENCODEC_LMS))
def full_size(request):
    """A model of the original in full size, and its weights as ours."""
    architecture = ENCODEC_LMS[request.param]
    lm = original.random_lm(architecture)
    return lm, ours(lm, architecture, request.param)


def clip_of(model, num_codebooks, num_frames=40):
    """So many frames in one segment, or at 48 kHz 149 frames and 1 in two."""
    if model == "encodec_24khz":
        return EncodedAudio(
            random_codes(num_codebooks, num_frames)[None],
            sampling_rate=24000,
            num_samples=num_frames * 320,
            model=model,
        )
    return EncodedAudio(
        random_codes(num_codebooks, 150)[None],
        sampling_rate=48000,
        num_samples=47521,
        channels_per_stream=2,
        segment_frames=(149, 1),
        scales=np.array([[0.25, 0.5]], np.float32),
        model=model,
    )


# --- probabilities -------------------------------------------------------------------------------


@pytest.mark.parametrize("codebooks_in_use", [1, 8, None])
def test_every_bit_is_the_originals_in_full_size(full_size, codebooks_in_use):
    theirs, lm = full_size
    codes = random_codes(codebooks_in_use or lm.architecture.num_codebooks, 40)
    expected = original.probabilities_step_by_step(theirs, codes)
    assert_same_bits(step_by_step(lm, codes), expected)


@pytest.mark.parametrize("full_size", ["encodec_24khz"], indirect=True)
def test_every_bit_is_the_originals_in_full_size_beyond_the_context(full_size):
    theirs, lm = full_size
    codes = random_codes(2, lm.architecture.past_context + 3)
    expected = original.probabilities_step_by_step(theirs, codes)
    assert_same_bits(step_by_step(lm, codes), expected)


@pytest.mark.parametrize("past_context", [1, 2, 19, 20, 21])
def test_every_bit_is_the_originals_for_any_context(past_context):
    architecture = dataclasses.replace(TINY, past_context=past_context)
    lm = original.random_lm(architecture)
    codes = random_codes(3, 20)
    expected = original.probabilities_step_by_step(lm, codes)
    assert_same_bits(step_by_step(ours(lm, architecture), codes), expected)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("full_size", ["encodec_24khz"], indirect=True)
def test_every_bit_is_the_originals_on_as_many_threads(full_size, num_threads):
    theirs, lm = full_size
    codes = random_codes(8, 10)
    torch.set_num_threads(num_threads)
    expected = original.probabilities_step_by_step(theirs, codes)
    torch.set_num_threads(1)
    assert_same_bits(step_by_step(lm, codes, num_threads=num_threads), expected)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("full_size", ["encodec_24khz"], indirect=True)
def test_bits_survive_a_file_of_the_weights(full_size, tmp_path):
    """Whose arrays lie at any address, and are nobody's to write to."""
    theirs, lm = full_size
    save_encodec_lm(lm, tmp_path)
    codes = random_codes(2, 10)
    expected = original.probabilities_step_by_step(theirs, codes)
    assert_same_bits(step_by_step(load_encodec_lm(tmp_path), codes), expected)


def test_streams_do_not_know_of_each_other(tiny_lm):
    start = torch_probabilities(ours(tiny_lm, TINY))
    codes = random_codes(2, 3)
    expected = original.probabilities_step_by_step(tiny_lm, codes)
    first, second = start("encodec_24khz", 2), start("encodec_24khz", 2)
    for frame, previous in enumerate((None, *codes.T[:-1])):
        for step in (first, second):
            assert_same_bits(step(previous), expected[:, frame])


def test_torchs_random_numbers_and_gradient_mode_are_left_alone(tiny_lm):
    before = torch.get_rng_state()
    step_by_step(ours(tiny_lm, TINY), random_codes(2, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(ENCODEC_LMS))
def test_files_are_the_originals_byte_for_byte_and_read_to_the_same_codes(tiny_lm, model):
    clip = clip_of(model, 3)
    probabilities = torch_probabilities(ours(tiny_lm, TINY, model))
    content = original.ecdc_bytes(clip, tiny_lm)
    assert ecdc_bytes(clip, probabilities) == content
    read = read_ecdc(content, probabilities)
    np.testing.assert_array_equal(read.codes, clip.codes)
    assert read.num_samples == clip.num_samples


def test_files_are_the_originals_in_full_size(full_size):
    theirs, lm = full_size
    clip = clip_of(lm.model, 4)
    content = original.ecdc_bytes(clip, theirs)
    probabilities = torch_probabilities(lm)
    assert ecdc_bytes(clip, probabilities) == content
    np.testing.assert_array_equal(read_ecdc(content, probabilities).codes, clip.codes)


@pytest.mark.parametrize("full_size", ["encodec_24khz"], indirect=True)
def test_a_file_written_on_two_threads_is_read_on_two(full_size):
    theirs, lm = full_size
    clip = clip_of(lm.model, 4, num_frames=12)
    torch.set_num_threads(2)
    content = original.ecdc_bytes(clip, theirs)
    torch.set_num_threads(1)
    probabilities = torch_probabilities(lm, num_threads=2)
    np.testing.assert_array_equal(read_ecdc(content, probabilities).codes, clip.codes)


def test_a_file_of_the_flax_form_is_refused(tiny_lm):
    lm = ours(tiny_lm, TINY)
    content = ecdc_bytes(clip_of(lm.model, 3), ecdc_probabilities(lm))
    with pytest.raises(AstrayError, match="did not repeat bit for bit"):
        read_ecdc(content, torch_probabilities(lm))


# --- refusals ------------------------------------------------------------------------------------


def test_a_file_of_another_model_is_refused(tiny_lm):
    with pytest.raises(FormatError) as refusal:
        torch_probabilities(ours(tiny_lm, TINY))("encodec_48khz", 2)
    assert str(refusal.value) == (
        "m is encodec_48khz, but the language model given is for encodec_24khz"
    )


def test_more_codebooks_than_there_are_are_refused(tiny_lm):
    with pytest.raises(FormatError, match="nc is 4, but the language model given knows 3"):
        torch_probabilities(ours(tiny_lm, TINY))("encodec_24khz", 4)


def test_a_number_of_threads_below_one_is_refused(tiny_lm):
    with pytest.raises(ValueError, match="num_threads=0 must be a positive integer"):
        torch_probabilities(ours(tiny_lm, TINY), num_threads=0)


def test_weights_of_another_architecture_are_refused(tiny_lm):
    lm = dataclasses.replace(
        ours(tiny_lm, TINY), architecture=dataclasses.replace(TINY, num_layers=3)
    )
    with pytest.raises(CheckpointError, match="missing: layers_2"):
        torch_probabilities(lm)


def test_where_torch_is_missing_the_way_to_install_it_is_given(tiny_lm, monkeypatch):
    lm = ours(tiny_lm, TINY)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CodaxError, match=r'pip install "codax\[convert\]"'):
        torch_probabilities(lm)
