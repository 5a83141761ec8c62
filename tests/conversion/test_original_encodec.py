"""Files of the encodec package: the released models' state dicts, checked and nothing else."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from codax.configuration import ENCODEC_PRESETS, EncodecConfig
from codax.conversion import RELEASED, checkpoints, convert_checkpoint, load_original
from codax.conversion.original_encodec import is_encodec, load_encodec
from codax.errors import CheckpointError, CodaxError
from codax.feature_extraction import EncodecFeatureExtractor
from codax.modeling import FlaxEncodecModel
from tests.reference import peers
from tests.reference.encodec_variants import TINY_CAUSAL, TINY_IDENTITY, TINY_SEGMENTED

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

import torch

from tests.reference import encodec_checkpoints

from .encodec_files import (
    fields_of,
    in_newer_spelling,
    make_weights,
    original_state,
    refusal_of,
    save,
)

FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]
# What stands for the released models here, since their files do not tell their architecture.
STAND_INS = {
    "encodec_24khz": TINY_CAUSAL,
    "encodec_48khz": TINY_SEGMENTED,
    "encodec_32khz": TINY_IDENTITY,
}
NAMES = [RELEASED[name].file_name for name in ("encodec_24khz", "encodec_48khz")]


@pytest.fixture(autouse=True)
def presets(monkeypatch):
    """The released models, tiny."""
    for name, variant in STAND_INS.items():
        monkeypatch.setitem(ENCODEC_PRESETS, name, fields_of(variant))


@pytest.fixture(params=STAND_INS)
def name(request):
    """Of a released model."""
    return request.param


@pytest.fixture
def state():
    """What the file of the 24 kHz model holds, to be changed."""
    return original_state(TINY_CAUSAL)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.th"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_weights(params, expected):
    params, expected = flatten_dict(params), flatten_dict(expected)
    assert params.keys() == expected.keys()
    for key, weight in expected.items():
        assert params[key].dtype == np.float32
        np.testing.assert_array_equal(params[key], weight, err_msg=".".join(key))


def weights_of_transformers(variant, folder):
    """As codax loads the folder that torch's transformers writes of the same weights."""
    encodec_checkpoints.write_transformers_folder(make_weights(variant), folder)
    return FlaxEncodecModel.from_pretrained(folder).params


# Weights and configuration


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("spelled", [dict, in_newer_spelling], ids=["weight_g", "parametrizations"])
def test_original_has_the_weights_of_the_folder_that_transformers_writes(
    name, spelled, is_zip, path, tmp_path
):
    state = spelled(original_state(STAND_INS[name]))
    save(path, state, _use_new_zipfile_serialization=is_zip)
    _, params = load_original(path)
    assert_same_weights(params, weights_of_transformers(STAND_INS[name], tmp_path / "expected"))


def test_configuration_is_that_of_the_released_model_whose_weights_fit(name, path):
    config, _ = load_original(save(path, original_state(STAND_INS[name])))
    assert config.to_dict() == EncodecConfig.preset(name).to_dict()


@pytest.mark.skipif(peers.missing_encodec() is not None, reason=str(peers.missing_encodec()))
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("rate", ["24khz", "48khz"])
def test_released_model_is_known_by_the_names_and_shapes_of_its_weights(rate, monkeypatch):
    monkeypatch.undo()  # the released models, in full size
    package = peers.import_encodec().EncodecModel
    with torch.device("meta"):
        model = getattr(package, f"encodec_model_{rate}")(pretrained=False)
    state = {key: torch.ones(tensor.shape) for key, tensor in model.state_dict().items()}
    assert is_encodec(state)
    config, _ = load_encodec(state, "file")
    assert config.to_dict() == EncodecConfig.preset(f"encodec_{rate}").to_dict()


def test_converted_original_is_a_folder_that_codax_and_torch_load(name, path, tmp_path):
    save(path, original_state(STAND_INS[name]))
    folder = convert_checkpoint(path, tmp_path / "model")
    assert sorted(contents(folder)) == FILES
    variant = STAND_INS[name]
    model = encodec_checkpoints.load_transformers(folder)
    assert model.config.upsampling_ratios == list(variant.upsampling_ratios)
    extractor = EncodecFeatureExtractor.from_pretrained(folder)
    assert extractor.feature_size == variant.audio_channels
    assert extractor.sampling_rate == variant.sampling_rate
    assert (extractor.chunk_length, extractor.chunk_stride) == (
        variant.chunk_length,
        variant.chunk_stride,
    )


def test_converted_folder_has_the_weights_of_the_original_bit_for_bit(name, path, tmp_path):
    save(path, original_state(STAND_INS[name]))
    _, expected = load_original(path)
    folder = convert_checkpoint(path, tmp_path / "model")
    assert_same_weights(FlaxEncodecModel.from_pretrained(folder).params, expected)


def test_statistics_that_train_the_codebooks_are_kept(path):
    state = original_state(TINY_CAUSAL)
    _, params = load_original(save(path, state))
    for level in range(TINY_CAUSAL.n_codebooks):
        codebook = params["quantizer"][f"codebooks_{level}"]
        for ours, theirs in {
            "is_initialized": "inited",
            "cluster_size": "cluster_size",
            "embedding": "embed",
            "embedding_sum": "embed_avg",
        }.items():
            expected = state[f"quantizer.vq.layers.{level}._codebook.{theirs}"]
            np.testing.assert_array_equal(codebook[ours], expected)


def test_weights_may_be_of_half_precision(state, path):
    half = {key: tensor.bfloat16() for key, tensor in state.items()}
    _, params = load_original(save(path, half))
    bias = params["encoder"]["layers"]["0"]["conv"]["bias"]
    expected = half["encoder.model.0.conv.conv.bias"].float()
    np.testing.assert_array_equal(bias, expected)


# Weights that do not fit


def test_all_weights_that_do_not_fit_are_told_at_once_by_their_original_names(state, path):
    del state["encoder.model.1.shortcut.conv.conv.bias"]
    del state["decoder.model.3.convtr.convtr.weight_g"]
    del state["quantizer.vq.layers.2._codebook.embed"]
    state["extra.weight"] = torch.zeros(1)
    state["encoder.layers.0.conv.bias"] = torch.zeros(4)  # transformers' name, not the original's
    state["encoder.model.7.lstm.bias_hh_l1"] = torch.zeros(63)
    state["quantizer.vq.layers.1._codebook.embed"][2, 3] = float("nan")
    state["decoder.model.9.conv.conv.bias"] = torch.zeros(1, dtype=torch.int32)
    message = refusal_of(save(path, state))
    for fault in (
        "missing: encoder.model.1.shortcut.conv.conv.bias",
        "missing: decoder.model.3.convtr.convtr.weight",
        "unexpected: decoder.model.3.convtr.convtr.weight_v",
        "missing: quantizer.vq.layers.2._codebook.embed",
        "unexpected: extra.weight",
        "unexpected: encoder.layers.0.conv.bias",
        "shape (63,) instead of (64,): encoder.model.7.lstm.bias_hh_l1",
        "NaN or infinite values: quantizer.vq.layers.1._codebook.embed",
        "dtype int32 is not a float type: decoder.model.9.conv.conv.bias",
    ):
        assert fault in message
    assert "9 weights" in message
    assert "compared with encodec_24khz" in message


@pytest.mark.parametrize(
    "key",
    [
        "encoder.model.0.conv.conv.bias",
        "encoder.model.0.conv.conv.weight_v",
        "decoder.model.1.lstm.weight_ih_l0",
        "quantizer.vq.layers.3._codebook.inited",
    ],
)
def test_any_weight_that_is_missing_is_named(state, path, key):
    del state[key]
    assert f"missing: {key.removesuffix('_v')}" in refusal_of(save(path, state))


def test_model_that_comes_closest_is_the_one_that_faults_are_told_of(path):
    state = original_state(TINY_SEGMENTED)
    del state["encoder.model.0.conv.norm.weight"]
    message = refusal_of(save(path, state))
    assert ": 1 weights do not fit" in message
    assert "compared with encodec_48khz" in message


@pytest.mark.parametrize("shape", [(5, 1, 1), (1, 1, 1), (4,), ()])
def test_gain_of_another_shape_is_not_spread_over_the_channels(state, path, shape):
    state["encoder.model.0.conv.conv.weight_g"] = torch.ones(shape)
    message = refusal_of(save(path, state))
    assert f"shape {shape} instead of (4, 1, 1): encoder.model.0.conv.conv.weight_g" in message


def test_direction_of_zeros_is_not_finite_and_so_refused(state, path):
    state["decoder.model.0.conv.conv.weight_v"].zero_()
    assert "decoder.model.0.conv.conv.weight" in refusal_of(save(path, state))


def test_entries_that_are_no_weights_are_named(state, path):
    state["epoch"] = 3
    assert "'epoch'" in refusal_of(save(path, state))


@pytest.mark.parametrize("content", [[1, 2], {}, "weights", {"weight": torch.zeros(1)}], ids=str)
def test_torch_file_of_something_else_is_no_original(path, content):
    assert "not an original" in refusal_of(save(path, content))


def test_state_dict_of_transformers_is_told_to_be_given_by_its_folder(path):
    state = encodec_checkpoints.transformers_state(make_weights(TINY_CAUSAL))
    assert "giving its folder" in refusal_of(save(path, state))


# Checksums


@pytest.mark.parametrize("file_name", NAMES)
def test_file_named_as_released_with_another_content_is_refused(tmp_path, file_name):
    prefix = file_name.removesuffix(".th").rpartition("-")[2]
    path = save(tmp_path / file_name, original_state(TINY_CAUSAL))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    message = refusal_of(path)
    assert "SHA-256" in message
    assert prefix in message
    assert digest[:8] in message


def test_file_with_another_checksum_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", pytest.fail)
    path = tmp_path / NAMES[0]
    path.write_bytes(b"anything")
    assert "SHA-256" in refusal_of(path)


def test_file_with_the_published_checksum_is_read(tmp_path, monkeypatch):
    path = save(tmp_path / "new.th", original_state(TINY_CAUSAL))
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    entry = dataclasses.replace(
        RELEASED["encodec_24khz"], file_name=f"encodec_24khz-{prefix}.th", sha256_prefix=prefix
    )
    monkeypatch.setitem(RELEASED, "encodec_24khz", entry)
    path = path.rename(tmp_path / entry.file_name)
    config, _ = load_original(path)
    assert config.sampling_rate == TINY_CAUSAL.sampling_rate
    path.write_bytes(path.read_bytes() + b"\0")
    assert prefix in refusal_of(path)


def test_converting_a_file_with_another_checksum_writes_nothing(tmp_path):
    path = save(tmp_path / NAMES[0], original_state(TINY_CAUSAL))
    with pytest.raises(CheckpointError, match="SHA-256"):
        convert_checkpoint(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Files that are none, and hostile ones


class Gadget:
    """Unpickled the usual way, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_state_dict_that_would_run_a_command_is_refused_and_runs_nothing(
    state, path, tmp_path, is_zip
):
    trace = tmp_path / "trace"
    state["encoder.model.0.conv.conv.bias"] = Gadget(trace)
    save(path, state, _use_new_zipfile_serialization=is_zip)
    assert "posix.system" in refusal_of(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Gadget(trace)))
    assert trace.exists()  # so it would have been


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0, 0.001, 0.3, 0.6, 0.999])
def test_truncated_file_is_refused_by_its_name(state, path, is_zip, kept):
    save(path, state, _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refusal_of(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"<html>404</html>", b"PK\x05\x06" + bytes(18), b"RIFF\0\0\0\0WAVEfmt ", b"."],
    ids=repr,
)
def test_other_files_are_refused_by_their_name(path, content):
    path.write_bytes(content)
    refusal_of(path)


@pytest.mark.parametrize("magic", [b"", b"PK\x03\x04", b"\x80\x02"], ids=repr)
def test_huge_file_of_nothing_is_refused_without_reading_it_to_memory(path, magic):
    with path.open("wb") as file:
        file.write(magic)
        file.truncate(2**36)  # bytes, of which next to none take room
    refusal_of(path)


@pytest.mark.filterwarnings("ignore:.*TorchScript archive")
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_archive_of_another_kind_is_refused_without_advice_to_trust_it(path, tmp_path, suffix):
    """A .tar file, as torch saved long ago, and what TorchScript saves."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("constants.pkl", "data.pkl"):
        (folder / name).write_bytes(b"\x80\x02N.")
    (folder / "version").write_text("3\n")
    archive = shutil.make_archive(str(tmp_path / "archive"), suffix, tmp_path, "model")
    shutil.move(archive, path)
    assert "weights_only" not in refusal_of(path)


def test_missing_file_is_an_os_error(path):
    with pytest.raises(FileNotFoundError, match=str(path)):
        load_original(path)


def test_without_torch_the_way_to_install_it_is_told(state, path, monkeypatch):
    save(path, state)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CodaxError, match=r'pip install "codax\[convert\]"'):
        load_original(path)


# Released models by their names


@pytest.fixture
def cached(monkeypatch):
    """`cached(name, variant)`: puts an original into the cache, as if downloaded."""

    def put(name, content):
        entry = dataclasses.replace(RELEASED[name], file_name=f"{name}.th", sha256_prefix=None)
        monkeypatch.setitem(RELEASED, name, entry)
        path = checkpoints.originals_folder() / entry.file_name
        path.parent.mkdir(parents=True)
        return save(path, content)

    return put


def test_released_model_is_converted_by_its_name(name, cached, tmp_path):
    cached(name, original_state(STAND_INS[name]))
    folder = convert_checkpoint(name, tmp_path / "model")
    assert sorted(contents(folder)) == FILES
    written = json.loads((folder / "config.json").read_text())
    assert written["sampling_rate"] == STAND_INS[name].sampling_rate


def test_file_of_another_model_than_released_is_refused(cached, tmp_path):
    path = cached("encodec_24khz", original_state(TINY_SEGMENTED))
    with pytest.raises(CheckpointError, match="but not encodec_24khz") as raised:
        convert_checkpoint("encodec_24khz", tmp_path / "model")
    assert str(raised.value).startswith(str(path))


# Folders of transformers


@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin"])
def test_folder_whose_configuration_claims_shortcuts_that_it_lacks_is_converted(layout, tmp_path):
    """As one revision of facebook/encodec_32khz."""
    source = tmp_path / "source"
    weights = make_weights(TINY_IDENTITY)
    encodec_checkpoints.write_transformers_folder(weights, source)
    if layout == "pytorch_model.bin":
        (source / "model.safetensors").unlink()
        save(source / layout, encodec_checkpoints.transformers_state(weights))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "use_conv_shortcut": True}))
    folder = convert_checkpoint(source, tmp_path / "model")
    assert EncodecConfig.from_pretrained(folder).use_conv_shortcut is False


@pytest.mark.parametrize("spelled", [True, False], ids=["parametrizations", "weight_g"])
def test_pickled_folder_has_the_weights_of_the_original(spelled, state, path, tmp_path):
    weights = make_weights(TINY_CAUSAL)
    source = encodec_checkpoints.write_transformers_folder(weights, tmp_path / "source")
    (source / "model.safetensors").unlink()
    stored = encodec_checkpoints.transformers_state(weights, parametrizations=spelled)
    save(source / "pytorch_model.bin", stored)
    converted = convert_checkpoint(source, tmp_path / "model")
    expected = convert_checkpoint(save(path, state), tmp_path / "expected")
    name = "model.safetensors"
    assert contents(converted)[name] == contents(expected)[name]
