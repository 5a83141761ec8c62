"""What saving writes, and what it leaves alone when it fails."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open

from codax import files
from codax.modeling import FlaxDacModel, pretrained_base

from .tiny import tiny_config, tiny_model
from .weight_folders import BFLOAT16, assert_same_weights, torch_state, write_folder

FILES = {"config.json", "model.safetensors"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_configuration_and_one_weight_file_are_written(model, tmp_path):
    model.save_pretrained(tmp_path / "new" / "folder", max_shard_size="1KB")
    assert set(contents(tmp_path / "new" / "folder")) == FILES


def test_configuration_names_transformers_torch_class(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["DacModel"]
    assert config["model_type"] == "dac"


def test_weights_are_float32_in_torch_layout_and_say_so(model, tmp_path):
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == {rule.torch_key for rule in model.weight_rules(model.config)}
        assert {file.get_tensor(key).dtype for key in file.keys()} == {np.dtype("float32")}  # noqa: SIM118


def test_saving_twice_gives_the_same_bytes(model, tmp_path):
    model.save_pretrained(tmp_path / "one")
    FlaxDacModel.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("wrap", [dict, freeze], ids=["dict", "frozen"])
def test_given_weights_are_saved_instead_of_the_models_own(model, tmp_path, wrap):
    other = tiny_model(seed=6)
    model.save_pretrained(tmp_path, params=wrap(other.params))
    assert_same_weights(FlaxDacModel.from_pretrained(tmp_path).params, other.params)


def test_weights_of_half_precision_are_saved_as_float32(model, tmp_path):
    half = jax.tree.map(lambda weight: np.asarray(weight).astype(BFLOAT16), model.params)
    model.save_pretrained(tmp_path, params=jax.tree.map(jnp.asarray, half))
    expected = jax.tree.map(lambda weight: weight.astype(np.float32), half)
    assert_same_weights(FlaxDacModel.from_pretrained(tmp_path).params, expected)


def test_model_read_from_half_precision_does_not_claim_it_when_saved_as_float32(model, tmp_path):
    stored = {key: weight.astype(BFLOAT16) for key, weight in torch_state(model).items()}
    config = tiny_config(dtype="bfloat16")
    folder = write_folder(tmp_path, FlaxDacModel(config, _do_init=False), stored)
    FlaxDacModel.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert written.get("dtype") in (None, "float32")


def test_model_without_weights_saves_given_ones_only(model, tmp_path):
    empty = FlaxDacModel(tiny_config(), _do_init=False)
    with pytest.raises(ValueError, match="params"):
        empty.save_pretrained(tmp_path)
    assert not contents(tmp_path)
    empty.save_pretrained(tmp_path, params=model.params)
    assert set(contents(tmp_path)) == FILES


def changed(params, path, weight):
    leaves = dict(flatten_dict(params))
    leaves.pop(path) if weight is None else leaves.update({path: weight})
    return unflatten_dict(leaves)


@pytest.mark.parametrize("change", ["missing", "transposed", "another shape", "unexpected"])
def test_weights_that_do_not_fit_are_not_saved(model, tmp_path, change):
    path = ("encoder", "conv1", "kernel")
    kernel = model.params["encoder"]["conv1"]["kernel"]
    params = {
        "missing": changed(model.params, path, None),
        "transposed": changed(model.params, path, kernel.T),
        "another shape": changed(model.params, path, kernel[:3]),
        "unexpected": changed(model.params, ("encoder", "conv3", "kernel"), kernel),
    }[change]
    with pytest.raises(ValueError, match=r"encoder\.conv[13]"):
        model.save_pretrained(tmp_path, params=params)
    assert not contents(tmp_path)


def test_other_formats_than_safetensors_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="safe_serialization"):
        model.save_pretrained(tmp_path / "new", safe_serialization=False)
    assert not (tmp_path / "new").exists()


def test_saving_onto_a_file_is_refused_and_leaves_it(model, tmp_path):
    target = tmp_path / "taken"
    target.write_text("mine")
    with pytest.raises(OSError, match="taken"):
        model.save_pretrained(target)
    assert target.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_named(model, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=tmp_path.name):
        model.save_pretrained(tmp_path)


class PowerCutError(BaseException):
    """Stands for Ctrl-C and whatever else is no Exception."""


@pytest.fixture
def earlier_save(tmp_path):
    tiny_model(seed=8).save_pretrained(tmp_path)
    return contents(tmp_path)


@pytest.mark.parametrize("failure", [OSError, PowerCutError])
def test_failing_to_write_weights_leaves_the_earlier_ones(
    model, tmp_path, earlier_save, monkeypatch, failure
):
    def write_half(state, path, metadata):
        path.write_bytes(b"half of it")
        raise failure("disk full")

    monkeypatch.setattr(pretrained_base, "save_file", write_half)
    with pytest.raises(failure, match="disk full"):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path) == earlier_save


def test_failing_to_replace_weights_leaves_the_earlier_ones(
    model, tmp_path, earlier_save, monkeypatch
):
    def refuse(source, target):
        raise PermissionError(f"cannot replace {target}")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"model\.safetensors"):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path) == earlier_save


def test_failing_to_write_the_configuration_leaves_the_earlier_one(
    model, tmp_path, earlier_save, monkeypatch
):
    def write_half(path):
        path.write_text("{")
        raise OSError("disk full")

    monkeypatch.setattr(model.config, "to_json_file", write_half, raising=False)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path).keys() == FILES
    assert contents(tmp_path)["config.json"] == earlier_save["config.json"]


def test_saved_files_have_the_permissions_that_the_umask_gives(model, tmp_path):
    umask = os.umask(0o027)
    try:
        model.save_pretrained(tmp_path)
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
