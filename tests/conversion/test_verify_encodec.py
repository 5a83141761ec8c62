"""The report of an EnCodec conversion beside torch's model."""

import pytest

from codax.conversion import convert_checkpoint, verify_against_torch
from codax.conversion.verify import AUDIO_TOLERANCE, MARGIN_TOLERANCE
from tests.reference import peers
from tests.reference.encodec_variants import TINY_SEGMENTED, TINY_ZEROS

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

import torch
import transformers

from tests.reference import encodec_checkpoints

from .encodec_files import export_of, make_weights, save

SECONDS = 0.1  # 40 frames of the one, of the other more than the 22 that a segment has


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What is made of an export of audiocraft."""
    folder = tmp_path_factory.mktemp("whole")
    return convert_checkpoint(save(folder / "export.bin", export_of(TINY_ZEROS)), folder / "model")


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """What is made of a folder of transformers: stereo, normalised, in segments."""
    folder = tmp_path_factory.mktemp("segmented")
    weights = make_weights(TINY_SEGMENTED)
    source = encodec_checkpoints.write_transformers_folder(weights, folder / "source")
    return convert_checkpoint(source, folder / "model")


@pytest.fixture
def change(monkeypatch):
    """`change(name, index)`: torch's model loads with another value for one entry of a weight."""
    load = transformers.EncodecModel.from_pretrained

    def set_up(name, index):
        def load_changed(folder):
            model = load(folder)
            with torch.no_grad():
                dict(model.named_parameters(), **dict(model.named_buffers()))[name][index] += 1
            return model

        monkeypatch.setattr(transformers.EncodecModel, "from_pretrained", load_changed)

    return set_up


def test_conversion_agrees_with_transformers(whole):
    threads = torch.get_num_threads()
    agreement = verify_against_torch(whole, seconds=SECONDS)
    assert agreement.holds
    assert agreement.reference == "transformers.EncodecModel"
    assert (agreement.frames, agreement.codes_total) == (40, 80)
    assert agreement.codes_equal == 80
    assert agreement.max_margin == 0
    assert 0 < agreement.max_audio_error < 1e-5
    assert agreement.original is None
    assert torch.get_num_threads() == threads


def test_model_that_codes_segments_is_compared_on_one_at_its_highest_bandwidth(segmented):
    agreement = verify_against_torch(segmented, seconds=SECONDS)
    assert agreement.holds
    assert (agreement.frames, agreement.codes_total) == (22, 88)
    assert agreement.codes_equal == 88
    assert 0 < agreement.max_audio_error < AUDIO_TOLERANCE


def test_one_weight_changed_in_the_encoder_is_found_by_the_codes(whole, change):
    change("encoder.layers.0.conv.bias", 0)
    agreement = verify_against_torch(whole, seconds=SECONDS)
    assert not agreement.holds
    assert agreement.codes_equal < agreement.codes_total
    assert agreement.max_margin > 10 * MARGIN_TOLERANCE


def test_one_weight_changed_in_the_decoder_is_found_by_the_audio(whole, change):
    change("decoder.layers.0.conv.parametrizations.weight.original1", (0, 0, 0))
    agreement = verify_against_torch(whole, seconds=SECONDS)
    assert not agreement.holds
    assert agreement.codes_equal == agreement.codes_total
    assert agreement.max_audio_error > 10 * AUDIO_TOLERANCE


def test_codebook_changed_in_one_dimension_is_found(segmented, change):
    change("quantizer.layers.3.codebook.embed", (slice(None), 0))
    assert not verify_against_torch(segmented, seconds=SECONDS).holds


def test_one_weight_changed_in_a_norm_is_found(segmented, change):
    change("encoder.layers.0.norm.weight", 0)
    assert not verify_against_torch(segmented, seconds=SECONDS).holds


def test_margin_of_differing_codes_is_that_of_the_first_codebook_only(whole, change):
    """Codewords that are farther by far: of a residual that the change moved a long way."""
    change("quantizer.layers.0.codebook.embed", slice(None))
    agreement = verify_against_torch(whole, seconds=SECONDS)
    assert agreement.codes_equal < agreement.codes_total
    assert MARGIN_TOLERANCE < agreement.max_margin <= 1


def test_training_statistics_are_not_compared(whole, change):
    change("quantizer.layers.0.codebook.embed_avg", (0, 0))
    assert verify_against_torch(whole, seconds=SECONDS).holds
