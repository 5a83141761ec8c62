"""Every form of weights that loads, and what loading may be told."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from codax.configuration import DacConfig
from codax.modeling import FlaxDacModel, FlaxDacModule

from .tiny import tiny_config, tiny_model
from .weight_folders import (
    BFLOAT16,
    PARAMETRIZATIONS,
    WEIGHT_G_V,
    assert_same_weights,
    flax_state,
    torch_state,
    unfold,
    write_folder,
    write_shards,
)

load = FlaxDacModel.from_pretrained


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_saved_model_loads_as_it_was(model, saved, audio, encoded):
    loaded = load(saved)
    assert_same_weights(loaded.params, model.params)
    assert loaded.module == model.module
    np.testing.assert_array_equal(loaded.encode(audio).audio_codes, encoded.audio_codes)


@pytest.mark.parametrize("hidden_size", [8, 48])
def test_latent_width_of_its_own_survives_saving(tmp_path, hidden_size):
    model = tiny_model(tiny_config(hidden_size=hidden_size))
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.config.hidden_size == hidden_size
    assert_same_weights(loaded.params, model.params)


@pytest.mark.parametrize("suffixes", [WEIGHT_G_V, PARAMETRIZATIONS], ids=["g_v", "parametrized"])
def test_unfolded_weight_norm_loads_as_folded(model, tmp_path, suffixes):
    folder = write_folder(tmp_path, model, unfold(torch_state(model), suffixes))
    # g and v were rounded to float32 and so is their product: three half steps.
    assert_same_weights(load(folder).params, model.params, tolerance=2e-7)


def test_weights_in_flax_layout_load(model, tmp_path):
    folder = write_folder(tmp_path, model, flax_state(model), layout="flax")
    assert_same_weights(load(folder).params, model.params)


def test_msgpack_weights_load(model, tmp_path):
    packed = flax.serialization.to_bytes(model.params)
    folder = write_folder(tmp_path, model, flax_model__msgpack=packed)
    assert_same_weights(load(folder).params, model.params)


@pytest.mark.parametrize(("state", "layout"), [(torch_state, "pt"), (flax_state, "flax")])
def test_sharded_weights_load(model, tmp_path, state, layout):
    folder = write_shards(tmp_path, model, state(model), layout)
    assert_same_weights(load(folder).params, model.params)


def test_file_without_metadata_is_taken_for_torch_layout(model, tmp_path):
    folder = write_folder(tmp_path, model, torch_state(model), layout=None)
    assert_same_weights(load(folder).params, model.params)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float64])
def test_weights_stored_in_another_float_type_load_as_float32(model, tmp_path, dtype):
    stored = {key: weight.astype(dtype) for key, weight in torch_state(model).items()}
    loaded = load(write_folder(tmp_path, model, stored))
    exact = jax.tree.map(lambda w: np.asarray(w).astype(dtype).astype(np.float32), model.params)
    assert_same_weights(loaded.params, exact)


def test_of_two_weight_files_safetensors_is_taken_and_the_other_is_named(model, tmp_path, caplog):
    other = flax.serialization.to_bytes(tiny_model(seed=7).params)
    folder = write_folder(tmp_path, model, torch_state(model), flax_model__msgpack=other)
    assert_same_weights(load(folder).params, model.params)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "using model.safetensors, not flax_model.msgpack" in record.message


def test_one_weight_file_is_not_worth_a_word(saved, caplog):
    load(saved)
    assert not caplog.records


def test_without_init_the_weights_come_apart_from_the_model(model, saved, audio, encoded):
    loaded, params = load(saved, _do_init=False)
    assert_same_weights(params, model.params)
    codes = loaded.encode(audio, params=params).audio_codes
    np.testing.assert_array_equal(codes, encoded.audio_codes)
    with pytest.raises(ValueError, match="params"):
        loaded.encode(audio)


def test_weights_are_found_in_a_subfolder(model, tmp_path):
    model.save_pretrained(tmp_path / "deep" / "inside")
    assert_same_weights(load(tmp_path, subfolder="deep/inside").params, model.params)


@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_folder_is_named_by_text_or_by_path(saved, as_type):
    assert load(as_type(saved)).config.hop_length == 10


@pytest.mark.parametrize(
    "give", [str, DacConfig.from_pretrained, transformers.DacConfig.from_pretrained]
)
def test_configuration_may_be_given_by_folder_or_as_either_class(model, saved, give):
    loaded = load(saved, config=give(saved))
    assert isinstance(loaded.config, DacConfig)
    assert_same_weights(loaded.params, model.params)


def test_fields_of_the_configuration_can_be_overridden(saved):
    loaded = load(saved, commitment_loss_weight=2.0)
    assert loaded.config.commitment_loss_weight == 2.0
    assert loaded.module.architecture.commitment_loss_weight == 2.0


def test_overridden_field_is_refused_by_its_name_if_bad(saved):
    with pytest.raises(ValueError, match="n_codebooks=0"):
        load(saved, n_codebooks=0)


def test_derived_field_cannot_be_overridden(saved):
    assert load(saved, hop_length=99).config.hop_length == 10


def test_options_of_the_constructor_pass_through(saved):
    loaded = load(saved, encode_dtype=jnp.bfloat16, precision="default", seed=5)
    assert loaded.module.encode_dtype == jnp.bfloat16
    assert loaded.module.precision == jax.lax.Precision.DEFAULT


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_dtype_is_that_of_the_computation_not_of_the_weights(model, saved, dtype):
    for loaded in (load(saved, dtype=dtype), load(saved, dtype)):
        assert loaded.module.dtype == jnp.bfloat16
        assert loaded.module.encode_dtype == jnp.float32
        assert_same_weights(loaded.params, model.params)


def test_option_that_nothing_knows_is_refused_by_its_name(saved):
    with pytest.raises(TypeError, match="flavour"):
        load(saved, flavour="sweet")


def test_mismatched_sizes_are_never_ignored(saved):
    with pytest.raises(ValueError, match="ignore_mismatched_sizes"):
        load(saved, ignore_mismatched_sizes=True)


def test_loading_draws_no_random_numbers(model, saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("random initialisation")

    for name in ("uniform", "normal", "truncated_normal", "bits", "split", "fold_in", "PRNGKey"):
        monkeypatch.setattr(jax.random, name, refuse)
    for name in ("init", "lazy_init", "init_with_output"):
        monkeypatch.setattr(FlaxDacModule, name, refuse)
    monkeypatch.setattr(FlaxDacModel, "init_weights", refuse)
    assert_same_weights(load(saved).params, model.params)


def test_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        load(tmp_path / "nowhere")


def test_folder_without_weights_is_named_with_the_files_looked_for(model, tmp_path):
    with pytest.raises(OSError) as error:
        load(write_folder(tmp_path, model))
    for name in (str(tmp_path), "model.safetensors", "model.safetensors.index.json",
                 "flax_model.msgpack", "flax_model.msgpack.index.json"):  # fmt: skip
        assert name in str(error.value)
    assert "convert" not in str(error.value)


def test_pickled_weights_are_left_to_conversion(model, tmp_path):
    folder = write_folder(tmp_path, model, pytorch_model__bin=b"pickle")
    with pytest.raises(OSError, match=r"pytorch_model\.bin with `codax convert`"):
        load(folder)


def test_fresh_weights_are_those_listed_and_depend_on_the_seed():
    # Few different shapes: drawing each compiles a program.
    config = tiny_config(downsampling_ratios=[2], n_codebooks=1, encoder_hidden_size=8)
    with jax.default_prng_impl("rbg"):  # compiles faster than the default
        one, same, other = (FlaxDacModel(config, seed=seed) for seed in (1, 1, 2))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one.params)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one.params_shape_tree)
    assert_same_weights(same.params, one.params)
    kernels = [fresh.params["encoder"]["conv1"]["kernel"] for fresh in (one, other)]
    assert (kernels[0] != kernels[1]).all()
