"""Weights of every layout become one folder, whole and checked, or one error."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from codax.configuration import DAC_PRESETS, ENCODEC_PRESETS, DacConfig
from codax.conversion import RELEASED, checkpoints, convert_checkpoint, load_original
from codax.errors import CheckpointError
from codax.feature_extraction import DacFeatureExtractor
from codax.modeling import FlaxDacModel
from tests.messages import one_line_error
from tests.reference.variants import TINY

torch = pytest.importorskip("torch", reason="torch is not installed (from the extra `convert`)")

FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_without_torch_the_room_imports_and_tells_how_to_get_it(original):
    code = f"""
import sys
sys.modules["torch"] = None
import codax.conversion as conversion
for arguments in (({str(original.save())!r}, "model"), ("dac_44khz", "model")):
    try:
        conversion.convert_checkpoint(*arguments)
    except ValueError as error:
        assert str(error) == 'this needs torch: pip install "codax[convert]"', error
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def audio_of(config):
    noise = np.random.default_rng(0).standard_normal((1, 1, 20 * config.hop_length))
    return 0.3 * noise.astype(np.float32)


def codes_of(folder):
    model = FlaxDacModel.from_pretrained(folder)
    return model.encode(audio_of(model.config)).audio_codes


@pytest.mark.parametrize("parametrizations", [False, True], ids=["weight_g", "parametrizations"])
def test_converted_original_gives_what_torch_gives(any_weights, parametrizations, tmp_path):
    from tests.reference import checkpoints as reference_checkpoints

    path = reference_checkpoints.write_descript_file(
        any_weights, tmp_path / "weights.pth", parametrizations=parametrizations
    )
    folder = convert_checkpoint(path, tmp_path / "model")
    assert sorted(contents(folder)) == FILES

    model = FlaxDacModel.from_pretrained(folder)
    reference = reference_checkpoints.load_transformers(folder)
    audio = audio_of(model.config)
    with torch.no_grad():
        expected = reference.encode(torch.from_numpy(audio)).audio_codes
        expected_audio = reference.decode(audio_codes=expected).audio_values.numpy()
    np.testing.assert_array_equal(model.encode(audio).audio_codes, expected.numpy())
    decoded = model.decode(audio_codes=expected.numpy()).audio_values
    # The two frameworks sum in other orders; 1e-6 was observed on these models.
    np.testing.assert_allclose(decoded, expected_audio, atol=1e-5)


def test_configuration_is_what_the_metadata_say(any_weights, tmp_path):
    from tests.reference import checkpoints as reference_checkpoints

    path = reference_checkpoints.write_descript_file(any_weights, tmp_path / "weights.pth")
    config, params = load_original(path)
    variant = any_weights.variant
    expected = DacConfig(
        encoder_hidden_size=variant.encoder_hidden_size,
        downsampling_ratios=variant.downsampling_ratios,
        decoder_hidden_size=variant.decoder_hidden_size,
        n_codebooks=variant.n_codebooks,
        codebook_size=variant.codebook_size,
        codebook_dim=variant.codebook_dim,
        quantizer_dropout=0.5,
        sampling_rate=variant.sampling_rate,
        hidden_size=variant.hidden_size,
    )
    assert config.to_dict() == expected.to_dict()
    assert FlaxDacModel(config, _do_init=False).encode(audio_of(config), params=params)


def test_extractor_of_the_folder_pads_to_the_models_hop(original, tmp_path):
    folder = convert_checkpoint(original.save(), tmp_path / "model")
    extractor = DacFeatureExtractor.from_pretrained(folder)
    assert (extractor.sampling_rate, extractor.hop_length) == (TINY.sampling_rate, TINY.hop_length)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_all_spellings_of_one_model_become_the_same_folder(original, weights, tmp_path, is_zip):
    from tests.reference import checkpoints as reference_checkpoints

    expected = contents(convert_checkpoint(original.save(), tmp_path / "expected"))
    original.state = reference_checkpoints.descript_state(weights, parametrizations=True)
    original.kwargs |= {
        "latent_dim": None,
        "codebook_dim": [4, 4, 4],
        "encoder_rates": (2, 4, 5),
        "unknown": "left out",
    }
    path = original.save("other.pth", _use_new_zipfile_serialization=is_zip)
    assert contents(convert_checkpoint(path, tmp_path / "other")) == expected


def test_latent_width_may_be_stated_or_left_to_its_default(original):
    assert "latent_dim" not in original.kwargs
    assert load_original(original.save())[0].hidden_size == TINY.hidden_size
    original.kwargs["latent_dim"] = TINY.hidden_size
    assert load_original(original.save())[0].hidden_size == TINY.hidden_size


@pytest.mark.parametrize("layout", ["safetensors", "pytorch_model.bin", "flax_model.msgpack"])
def test_folders_of_every_layout_become_the_same_weights(original, weights, tmp_path, layout):
    from flax.serialization import msgpack_serialize

    from tests.reference import checkpoints as reference_checkpoints

    expected = contents(convert_checkpoint(original.save(), tmp_path / "expected"))
    source = reference_checkpoints.write_transformers_folder(weights, tmp_path / "source")
    if layout != "safetensors":
        (source / "model.safetensors").unlink()
    if layout == "pytorch_model.bin":
        state = reference_checkpoints.transformers_state(weights, fold_weight_norm=False)
        torch.save(state, source / layout)
    if layout == "flax_model.msgpack":
        params = load_original(original.save())[1]
        (source / layout).write_bytes(msgpack_serialize(params))
    converted = contents(convert_checkpoint(source, tmp_path / "model"))
    assert sorted(converted) == FILES
    if layout == "safetensors":  # folded by torch, which rounds otherwise
        codes = [codes_of(tmp_path / folder) for folder in ("expected", "model")]
        np.testing.assert_array_equal(*codes)
    else:
        assert converted["model.safetensors"] == expected["model.safetensors"]


def test_pickled_folder_without_a_state_dict_is_refused(original, tmp_path):
    folder = convert_checkpoint(original.save(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save([1, 2], folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: holds a list"):
        convert_checkpoint(folder, tmp_path / "other")


def test_existing_model_is_replaced_only_when_told_to(original, tmp_path):
    folder = convert_checkpoint(original.save(), tmp_path / "model")
    before = contents(folder)
    original.state["decoder.model.0.bias"] = original.state["decoder.model.0.bias"] + 1
    path = original.save()
    with pytest.raises(CheckpointError, match=r"config\.json, model\.safetensors"):
        convert_checkpoint(path, folder)
    assert contents(folder) == before
    convert_checkpoint(path, folder, overwrite=True)
    assert contents(folder)["model.safetensors"] != before["model.safetensors"]


def test_failed_conversion_leaves_the_existing_model_as_it_is(original, tmp_path):
    folder = convert_checkpoint(original.save(), tmp_path / "model")
    before = contents(folder)
    del original.state["decoder.model.0.bias"]
    with pytest.raises(CheckpointError):
        convert_checkpoint(original.save(), folder, overwrite=True)
    assert contents(folder) == before


def test_all_weights_that_do_not_fit_are_told_at_once_by_their_original_names(original):
    state = original.state
    del state["encoder.block.0.bias"], state["decoder.model.1.block.1.weight_g"]
    state["extra.weight"] = torch.zeros(1)
    state["encoder.conv1.bias"] = torch.zeros(8)  # transformers' name is none of the original's
    state["encoder.block.4.alpha"] = torch.ones(1, 7, 1)
    state["quantizer.quantizers.1.codebook.weight"][2, 3] = float("nan")
    state["decoder.model.5.bias"] = torch.zeros(1, dtype=torch.int32)
    message = one_line_error(CheckpointError, load_original, original.save())
    for fault in (
        "missing: encoder.block.0.bias",
        "missing: decoder.model.1.block.1.weight",
        "unexpected: decoder.model.1.block.1.weight_v",
        "unexpected: extra.weight",
        "unexpected: encoder.conv1.bias",
        "shape (1, 7, 1) instead of (1, 64, 1): encoder.block.4.alpha",
        "NaN or infinite values: quantizer.quantizers.1.codebook.weight",
        "dtype int32 is not a float type: decoder.model.5.bias",
    ):
        assert fault in message
    assert "8 weights" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"codebook_dim": [4, 4, 8]}, "several widths"),
        ({"codebook_dim": []}, "several widths"),
        ({"decoder_rates": [2, 4, 5]}, r"decoder_rates=\[2, 4, 5\] must be encoder_rates"),
        ({"encoder_rates": [2, "4", 5]}, "encoder_rates must be a list of integers, not list"),
        ({"encoder_rates": []}, "encoder_rates must be a list of integers"),
        ({"sample_rate": "8000"}, "sample_rate must be of type int, not str"),
        ({"encoder_dim": True}, "encoder_dim must be of type int, not bool"),
        ({"encoder_dim": -8}, "encoder_hidden_size=-8 must be a positive integer"),
        ({"codebook_size": 15}, "power of two"),
        ({"n_codebooks": 10**9}, "1000000000 codebooks, but there are only"),
        ({"quantizer_dropout": 2.0}, "quantizer_dropout=2.0"),
    ],
)
def test_metadata_of_no_dac_are_refused(original, change, reason):
    original.kwargs |= change
    path = original.save()
    with pytest.raises(CheckpointError, match=reason) as raised:
        load_original(path)
    assert str(raised.value).startswith(str(path))


def test_missing_metadata_are_named(original):
    del original.kwargs["sample_rate"], original.kwargs["n_codebooks"]
    with pytest.raises(CheckpointError, match="lack n_codebooks, sample_rate"):
        load_original(original.save())


def test_file_without_metadata_is_no_original(original, tmp_path):
    torch.save(original.state, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="not an original DAC checkpoint"):
        load_original(tmp_path / "bare.pth")


def test_unknown_source_is_told_with_what_is_allowed(tmp_path):
    with pytest.raises(CheckpointError, match="dac_44khz_16kbps"):
        convert_checkpoint(tmp_path / "absent.pth", tmp_path / "model")


@pytest.fixture
def released(original, monkeypatch):
    """A released model `tiny` whose original is in the cache already."""
    path = checkpoints.originals_folder() / "tiny.pth"
    path.parent.mkdir(parents=True)
    original.save().rename(path)
    entry = dataclasses.replace(RELEASED["dac_44khz_16kbps"], file_name=path.name)
    monkeypatch.setitem(RELEASED, "tiny", entry)
    preset = json.loads(load_original(path)[0].to_json_string(use_diff=False))
    fields = ("encoder_hidden_size", "decoder_hidden_size", "downsampling_ratios", "hidden_size")
    fields += ("n_codebooks", "codebook_size", "codebook_dim", "sampling_rate")
    monkeypatch.setitem(DAC_PRESETS, "tiny", {field: preset[field] for field in fields})


def test_released_model_is_converted_by_its_name(released, tmp_path):
    assert sorted(contents(convert_checkpoint("tiny", tmp_path / "model"))) == FILES


def test_file_of_another_model_than_released_is_refused(released, tmp_path, monkeypatch):
    monkeypatch.setitem(DAC_PRESETS["tiny"], "sampling_rate", 16000)
    with pytest.raises(CheckpointError, match="a dac model, but not tiny"):
        convert_checkpoint("tiny", tmp_path / "model")


def test_released_models_are_those_with_presets():
    assert RELEASED.keys() == DAC_PRESETS.keys() | ENCODEC_PRESETS.keys()
    assert len({entry.file_name for entry in RELEASED.values()}) == len(RELEASED)


@pytest.mark.parametrize("shape", [(5, 1, 1), (1, 1, 1), (8,), ()])
def test_gain_of_another_shape_is_not_spread_over_the_channels(original, shape):
    original.state["encoder.block.0.weight_g"] = torch.ones(shape)
    with pytest.raises(
        CheckpointError, match=r"instead of \(8, 1, 1\): encoder\.block\.0\.weight_g"
    ):
        load_original(original.save())


def test_direction_of_zeros_is_not_finite_and_so_refused(original):
    original.state["encoder.block.0.weight_v"].zero_()
    with pytest.raises(CheckpointError, match=r"encoder\.block\.0\.weight"):
        load_original(original.save())
