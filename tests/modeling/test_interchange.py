"""The same folder in torch's transformers, in FlaxAutoModel, and where torch is not installed."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from transformers import FlaxAutoModel

import codax
from codax.modeling import FlaxDacModel

from .tiny import TINY, noise, tiny_config, tiny_model
from .weight_folders import assert_same_weights, torch_state

torch = pytest.importorskip("torch")
ROOT = Path(codax.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Saved by codax."""
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def torch_folder(model, tmp_path_factory):
    """Saved by torch's transformers, with the same weights."""
    theirs = transformers.DacModel(transformers.DacConfig(**TINY))
    state = {key: torch.from_numpy(weight) for key, weight in torch_state(model).items()}
    theirs.load_state_dict(state)
    folder = tmp_path_factory.mktemp("torch")
    theirs.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("hidden_size", [None, 8, 24])
def test_saved_folder_loads_completely_in_torch(tmp_path, hidden_size):
    model = tiny_model(tiny_config(hidden_size=hidden_size))
    model.save_pretrained(tmp_path)
    theirs, report = transformers.DacModel.from_pretrained(tmp_path, output_loading_info=True)
    assert {kind: keys for kind, keys in report.items() if keys} == {}
    state, expected = theirs.state_dict(), torch_state(model)
    assert state.keys() == expected.keys()
    for key, weight in state.items():
        np.testing.assert_array_equal(weight.numpy(), expected[key], err_msg=key)


def test_folder_saved_by_torch_loads_in_codax(model, torch_folder):
    assert_same_weights(FlaxDacModel.from_pretrained(torch_folder).params, model.params)


def test_folder_saved_by_torch_in_half_precision_loads_as_float32(model, torch_folder, tmp_path):
    theirs = transformers.DacModel.from_pretrained(torch_folder, dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path)
    loaded = FlaxAutoModel.from_pretrained(tmp_path)
    assert loaded.module.dtype == jnp.float32
    # Eight bits of mantissa.
    assert_same_weights(loaded.params, model.params, tolerance=2**-8)


@pytest.mark.parametrize("saver", ["folder", "torch_folder"])
def test_auto_model_loads_the_folder_of_either(model, audio, encoded, saver, request):
    loaded = FlaxAutoModel.from_pretrained(request.getfixturevalue(saver))
    assert type(loaded) is FlaxDacModel
    assert isinstance(loaded.config, codax.DacConfig)
    assert_same_weights(loaded.params, model.params)
    np.testing.assert_array_equal(loaded.encode(audio).audio_codes, encoded.audio_codes)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.float32, np.float32])
def test_auto_model_passes_the_dtype_of_the_computation(model, folder, tmp_path, dtype):
    loaded = FlaxAutoModel.from_pretrained(folder, dtype=dtype)
    assert loaded.module.dtype == jnp.dtype(dtype)
    assert_same_weights(loaded.params, model.params)
    loaded.save_pretrained(tmp_path)
    assert transformers.DacModel.from_pretrained(tmp_path, dtype="auto").dtype == torch.float32


def test_auto_model_passes_options_and_overridden_fields(folder):
    loaded = FlaxAutoModel.from_pretrained(
        folder, encode_dtype=jnp.bfloat16, precision="default", commitment_loss_weight=3.0
    )
    assert loaded.module.encode_dtype == jnp.bfloat16
    assert loaded.module.precision == jax.lax.Precision.DEFAULT
    assert loaded.config.commitment_loss_weight == 3.0
    assert loaded.module.architecture.commitment_loss_weight == 3.0


def test_auto_model_keeps_a_latent_width_of_its_own(tmp_path):
    model = tiny_model(tiny_config(hidden_size=24))
    model.save_pretrained(tmp_path)
    loaded = FlaxAutoModel.from_pretrained(tmp_path)
    assert loaded.config.hidden_size == 24
    assert_same_weights(loaded.params, model.params)


def test_auto_model_ignores_a_wrong_hop_length(folder, torch_folder, caplog):
    config = transformers.DacConfig.from_pretrained(torch_folder)
    config.hop_length = 512
    loaded = FlaxAutoModel.from_pretrained(folder, config=config)
    assert loaded.config.hop_length == 10
    assert "hop_length=512" in caplog.text


def test_auto_model_gives_model_and_weights_apart(model, folder):
    loaded, params = FlaxAutoModel.from_pretrained(folder, _do_init=False)
    assert type(loaded) is FlaxDacModel
    assert_same_weights(params, model.params)


@pytest.mark.parametrize("config_class", [transformers.DacConfig, codax.DacConfig])
def test_auto_model_makes_a_model_for_either_configuration_class(config_class):
    model = FlaxAutoModel.from_config(config_class(**TINY), _do_init=False)
    assert type(model) is FlaxDacModel
    assert model.config.hop_length == 10


def test_importing_codax_registers_the_model_for_either_configuration_class():
    for config_class in (transformers.DacConfig, codax.DacConfig):
        assert FlaxAutoModel._model_mapping[config_class] is FlaxDacModel


WITHOUT_TORCH = """
import importlib.abc, sys

class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
sys.modules["torch"] = None  # transformers asks for the module's specification first

import numpy as np
from transformers import FlaxAutoModel
from transformers.utils import is_torch_available
import codax

assert not is_torch_available()
folder, audio, codes = sys.argv[1:]
model = FlaxAutoModel.from_pretrained(folder)
np.save(codes, model.encode(np.load(audio)).audio_codes)
model.save_pretrained(folder + "/again")
assert not [name for name in sys.modules if name.startswith("torch.")]
"""


def test_without_torch_a_folder_saved_by_torch_loads_encodes_and_saves(
    model, torch_folder, tmp_path
):
    audio = noise(1, 1, 60)
    np.save(tmp_path / "audio.npy", audio)
    files = [torch_folder, tmp_path / "audio.npy", tmp_path / "codes.npy"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = np.load(tmp_path / "codes.npy")
    np.testing.assert_array_equal(codes, model.encode(audio).audio_codes)
    again = FlaxDacModel.from_pretrained(torch_folder / "again")
    assert_same_weights(again.params, model.params)
