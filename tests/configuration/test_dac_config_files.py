"""config.json: written and read by codax, by transformers, and by people who err."""

import json
import math

import pytest
import transformers

from codax.configuration import DacConfig

TINY = {"encoder_hidden_size": 4, "downsampling_ratios": [2, 5], "decoder_hidden_size": 16}


@pytest.fixture
def folder(tmp_path):
    DacConfig(**TINY).save_pretrained(tmp_path)
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_consistent(config, downsampling_ratios):
    assert config.downsampling_ratios == downsampling_ratios
    assert config.upsampling_ratios == downsampling_ratios[::-1]
    assert config.hop_length == math.prod(downsampling_ratios)
    strides = [conv.stride for conv in config.architecture.decoder_convs if conv.transposed]
    assert strides == downsampling_ratios[::-1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"hidden_size": 128},
        {"hidden_size": 1024, "encoder_hidden_size": 32},
        {"sampling_rate": 44100, "n_codebooks": 18, "quantizer_dropout": 0.5},
        {"commitment_loss_weight": 0.0, "codebook_loss_weight": 2},
        {"downsampling_ratios": (8, 8, 4, 2)},
    ],
)
def test_configuration_survives_its_file(fields, tmp_path):
    config = DacConfig(**fields)
    config.save_pretrained(tmp_path)
    assert DacConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_latent_width_survives_transformers_own_configuration(tmp_path):
    DacConfig(**TINY, hidden_size=128).save_pretrained(tmp_path / "ours")
    theirs = transformers.DacConfig.from_pretrained(tmp_path / "ours")
    assert theirs.hidden_size == 128
    theirs.save_pretrained(tmp_path / "theirs")
    assert DacConfig.from_pretrained(tmp_path / "theirs").hidden_size == 128


# What both families have beyond transformers' fields: how long audio is cut.
CHUNK_FIELDS = {
    "decode_chunk_length_s",
    "decode_chunk_mode",
    "decode_overlap",
    "encode_chunk_length_s",
}


def test_transformers_own_configuration_lacks_but_our_own_fields(folder):
    ours = json.loads((folder / "config.json").read_text())
    transformers.DacConfig(**TINY).save_pretrained(folder)
    theirs = json.loads((folder / "config.json").read_text())
    assert ours.keys() - theirs.keys() == CHUNK_FIELDS
    assert theirs.keys() <= ours.keys()


def test_transformers_auto_config_reads_the_file(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.model_type == "dac"
    assert config.downsampling_ratios == [2, 5]


def test_wrong_hop_length_in_the_file_is_ignored_and_told(folder, caplog):
    edit(folder, hop_length=512)
    config = DacConfig.from_pretrained(folder)
    assert_consistent(config, [2, 5])
    assert "hop_length=512" in caplog.text
    assert "hop_length=10" in caplog.text


def test_wrong_upsampling_ratios_in_the_file_are_ignored_and_told(folder, caplog):
    edit(folder, upsampling_ratios=[2, 5])
    assert_consistent(DacConfig.from_pretrained(folder), [2, 5])
    assert "upsampling_ratios=[2, 5]" in caplog.text


def test_right_derived_fields_in_the_file_are_not_worth_a_word(folder, caplog):
    DacConfig.from_pretrained(folder)
    assert not caplog.records


def test_wrong_hop_length_is_not_written_back(folder):
    edit(folder, hop_length=512)
    DacConfig.from_pretrained(folder).save_pretrained(folder)
    assert transformers.DacConfig.from_pretrained(folder).hop_length == 10


def test_bad_field_in_the_file_is_refused(folder):
    edit(folder, n_codebooks=0)
    with pytest.raises(ValueError, match="n_codebooks=0"):
        DacConfig.from_pretrained(folder)


def test_unknown_field_in_the_file_is_kept(folder):
    edit(folder, comment="from a later version")
    assert DacConfig.from_pretrained(folder).comment == "from a later version"


def test_file_without_derived_fields_is_enough(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dac", **TINY}))
    config = DacConfig.from_pretrained(tmp_path)
    assert_consistent(config, [2, 5])
    assert config.hidden_size == 16


def test_field_can_be_overridden_when_loading(folder):
    config = DacConfig.from_pretrained(folder, commitment_loss_weight=3.0, n_codebooks=4)
    assert config.commitment_loss_weight == 3.0
    assert config.n_codebooks == 4


def test_overridden_field_is_validated(folder):
    with pytest.raises(ValueError, match="n_codebooks=0"):
        DacConfig.from_pretrained(folder, n_codebooks=0)
    with pytest.raises(ValueError, match="downsampling_ratios"):
        DacConfig.from_pretrained(folder, downsampling_ratios=[])


def test_derived_fields_follow_overridden_ratios(folder):
    assert_consistent(DacConfig.from_pretrained(folder, downsampling_ratios=[4, 3]), [4, 3])


def test_derived_field_cannot_be_overridden(folder):
    assert_consistent(DacConfig.from_pretrained(folder, hop_length=99), [2, 5])


def test_options_that_are_no_fields_come_back_unused(folder):
    config, unused = DacConfig.from_pretrained(
        folder, return_unused_kwargs=True, n_codebooks=4, encode_dtype="bfloat16"
    )
    assert config.n_codebooks == 4
    assert unused == {"encode_dtype": "bfloat16"}
