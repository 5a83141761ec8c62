"""What runs begin with: models and discriminators of others, and what is refused of them."""

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from codax import DacConfig, FlaxDacModel
from codax.errors import CheckpointError, CodaxError
from codax.modeling.torch_layout import params_to_torch
from codax.training import Trainer
from codax.training.discriminator_files import load_discriminator, save_discriminator
from codax.training.steps import Training
from codax.training.weight_norm import merge_kernels, split_kernels

from .runs import tiny_recipe, tiny_trainer, write_audio
from .torch_discriminators import descript_pair, encodec_pair

FIELDS = {
    "dac": "{periods = [3], fft_sizes = [64], bands = [[0.0, 0.4], [0.4, 1.0]], "
    "period_channels = [32, 128, 512, 1024, 1024], band_channels = 32}",
    "encodec": "{audio_channels = 2, window_lengths = [64, 32], channels = 4, "
    "time_dilations = [2], leaky_slope = 0.2}",
}
"""As the pairs have them."""


@pytest.fixture(params=["dac", "encodec"])
def kind(request):
    return request.param


@pytest.fixture
def pair(kind):
    return {"dac": descript_pair, "encodec": encodec_pair}[kind]()


@pytest.fixture
def training(kind):
    recipe = tiny_recipe(kind, f"discriminator.fields={FIELDS[kind]}")
    return Training(recipe, recipe.model.config())


def assert_same(params, expected):
    leaves, expected = flatten_dict(merge_kernels(params)), flatten_dict(expected)
    assert leaves.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_allclose(leaves[path], leaf, rtol=1e-6, atol=1e-7)


def test_what_the_references_keep_of_discriminators_is_read(kind, pair, training, tmp_path):
    state = pair.torch_module.state_dict()
    content = {
        "dac": {"state_dict": state, "metadata": {"kwargs": {"periods": [3]}}},
        "encodec": {
            "adv_losses": {
                "msstftd": {
                    **{f"adversary.{key}": tensor for key, tensor in state.items()},
                    "optimizer": {"state": {}, "param_groups": [{"lr": 3e-4}]},
                }
            },
            "best_state": {"model": {}},
        },
    }
    for name, what in (("weights.pth", content[kind]), ("bare.pth", state)):
        torch.save(what, tmp_path / name)
        assert_same(load_discriminator(training, tmp_path / name), pair.params)


def test_what_a_run_leaves_is_read_here_and_by_the_reference(pair, training, tmp_path):
    path = tmp_path / "discriminator.safetensors"
    save_discriminator(training, split_kernels(pair.params, pair.rules), path)
    assert_same(load_discriminator(training, path), pair.params)

    from safetensors.torch import load_file

    expected = pair.torch_maps(torch.from_numpy(pair.fake))
    with torch.no_grad():
        for parameter in pair.torch_module.parameters():
            parameter.zero_()
    pair.torch_module.load_state_dict(load_file(path))
    for maps, others in zip(pair.torch_maps(torch.from_numpy(pair.fake)), expected, strict=True):
        torch.testing.assert_close(maps[-1], others[-1])


def test_files_of_something_else_are_refused_by_what_is_wrong(kind, pair, training, tmp_path):
    state = params_to_torch(pair.rules, pair.params)
    first = next(key for key in state if key.endswith("bias"))
    torch.save({key: torch.from_numpy(state[key].copy()) for key in state if key != first},
               tmp_path / "part.pth")  # fmt: skip
    with pytest.raises(CheckpointError, match=f"part.pth: 1 weights do not fit.*missing: {first}"):
        load_discriminator(training, tmp_path / "part.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list.pth: holds a list instead of a state dict"):
        load_discriminator(training, tmp_path / "list.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"torn\.safetensors"):
        load_discriminator(training, tmp_path / "torn.safetensors")
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(FileNotFoundError, match=name):
            load_discriminator(training, tmp_path / name)


class Bomb:
    def __reduce__(self):
        return print, ("ran",)


def test_pickled_code_does_not_run(kind, training, tmp_path, capsys):
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError, match=r"bomb.pth: refused: it asks for print"):
        load_discriminator(training, tmp_path / "bomb.pth")
    assert capsys.readouterr().out == ""


def test_a_run_goes_on_with_the_discriminator_of_another(kind, tmp_path):
    recipe = tiny_recipe(kind)
    training = Training(recipe, recipe.model.config())
    random = np.random.default_rng(0)
    params = jax.tree.map(  # without the time that it takes to compile the drawing of fresh ones
        lambda leaf: random.standard_normal(leaf.shape).astype(np.float32),
        jax.eval_shape(training._fresh_discriminator),
    )
    save_discriminator(training, params, tmp_path / "given.safetensors")
    trainer = tiny_trainer(kind, tmp_path, discriminator=tmp_path / "given.safetensors")
    shapes = trainer._model(_do_init=False).params_shape_tree
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = trainer.training.initial_state(zeros, trainer._discriminator)
    assert_same(state.discriminator, merge_kernels(params))


def test_models_of_another_rate_or_network_are_refused_before_data_is_opened(tmp_path):
    recipe = tiny_recipe("dac")
    for name, fields, told in (
        ("rate", {"sampling_rate": 16000}, "a model of 16000 Hz, but the recipe"),
        ("network", {"n_codebooks": 3}, "another network than the recipe's"),
    ):
        config = DacConfig(**{**recipe.model.fields, **fields})
        FlaxDacModel(config).save_pretrained(tmp_path / name)
        with pytest.raises(CodaxError, match=f"{name}: is {told}"):
            Trainer(
                tiny_recipe("dac"),
                {"all": [tmp_path / "no data"]},
                tmp_path / "run",
                from_pretrained=tmp_path / name,
            )
    assert not (tmp_path / "run").exists()


def test_discriminators_without_losses_are_refused(tmp_path):
    settings = ("losses.adversarial=0", "losses.features=0")
    with pytest.raises(CodaxError, match=r"given\.pth: the recipe has neither losses\.adversarial"):
        tiny_trainer("dac", tmp_path, *settings, discriminator="given.pth")


def test_what_was_refused_leaves_nothing_that_hinders_the_next(tmp_path):
    with pytest.raises(CodaxError, match="shorter"):
        tiny_trainer("dac", tmp_path, "excerpts.duration_s=60.0")
    assert not (tmp_path / "run").exists()
    write_audio(tmp_path / "audio")
    tiny_trainer("dac", tmp_path, "run.seed=3")
