"""The training forward pass against the references' own, in their training mode."""

import numpy as np
import pytest

from tests.reference import peers

if reason := peers.missing_descript() or peers.missing_encodec():
    pytest.skip(reason, allow_module_level=True)

import jax
import jax.numpy as jnp
import torch

from codax import FlaxDacModel, FlaxEncodecModel
from codax.training.reconstruction import TRAINING_MODULES, draw_levels
from tests.reference import checkpoints, encodec_checkpoints
from tests.reference.encodec_variants import TINY_CAUSAL, TINY_SEGMENTED
from tests.reference.variants import TINY

LEVELS = (2, 1, 3, 3)
HOPS = 6
# float32, through some 30 layers.
VALUE = {"rtol": 1e-4, "atol": 1e-5}
# Of the largest: gradients are sums in which much cancels.
GRADIENT_SHARE = 5e-5


def noise(channels, num_samples):
    generator = np.random.default_rng(0)
    shape = (len(LEVELS), channels, num_samples)
    return (0.1 * generator.standard_normal(shape)).astype(np.float32)


def training_module(model):
    return TRAINING_MODULES[model.config.model_type](model.config.architecture)


def reconstructed(model, audio, levels):
    variables = {"params": model.params}
    module = training_module(model)
    return jax.jit(lambda audio: module.apply(variables, audio, levels, method="reconstruct"))(
        audio
    )


@pytest.fixture(scope="module")
def dac_pair(tmp_path_factory):
    """The same weights here and in descript's model, in training mode."""
    folder = tmp_path_factory.mktemp("dac")
    weights = checkpoints.make_weights(TINY)
    checkpoints.write_transformers_folder(weights, folder / "transformers")
    original = checkpoints.load_descript(
        checkpoints.write_descript_file(weights, folder / "weights.pth")
    ).train()
    original.quantizer.quantizer_dropout = 1.0
    return FlaxDacModel.from_pretrained(folder / "transformers"), original


def torch_forward(original, audio, monkeypatch):
    """Descript's forward pass, with these levels drawn."""
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(LEVELS))
    return original(audio, TINY.sampling_rate)


def test_dac_reconstructs_as_descript_with_the_same_levels_drawn(dac_pair, monkeypatch):
    model, original = dac_pair
    audio = noise(1, HOPS * model.config.hop_length - 7)  # the last frame is not whole
    made = reconstructed(model, audio, jnp.array(LEVELS))
    with torch.no_grad():
        expected = torch_forward(original, torch.tensor(audio), monkeypatch)
    shorter = expected["audio"].numpy()  # by an odd stride; here silence fills it up
    np.testing.assert_allclose(made.audio[..., : shorter.shape[-1]], shorter, **VALUE)
    assert not made.audio[..., shorter.shape[-1] :].any()
    np.testing.assert_allclose(made.commitment, expected["vq/commitment_loss"].numpy(), **VALUE)
    np.testing.assert_allclose(made.codebook, expected["vq/codebook_loss"].numpy(), **VALUE)


def assert_gradients_agree(ours, expected):
    expected = expected.numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=GRADIENT_SHARE * np.abs(expected).max())


def test_gradients_of_dac_are_descripts(dac_pair, monkeypatch):
    model, original = dac_pair
    audio = noise(1, HOPS * model.config.hop_length)
    direction = np.random.default_rng(1).standard_normal(audio.shape).astype(np.float32)
    module, levels = training_module(model), jnp.array(LEVELS)

    def loss(params, audio):
        made = module.apply({"params": params}, audio, levels, method="reconstruct")
        return jnp.sum(made.audio * direction) + 3 * made.commitment + 5 * made.codebook

    by_params, by_audio = jax.jit(jax.grad(loss, argnums=(0, 1)))(model.params, audio)
    given = torch.tensor(audio, requires_grad=True)
    made = torch_forward(original, given, monkeypatch)
    total = (made["audio"] * torch.tensor(direction)[..., : made["audio"].shape[-1]]).sum()
    (total + 3 * made["vq/commitment_loss"] + 5 * made["vq/codebook_loss"]).backward()
    assert_gradients_agree(by_audio, given.grad)
    for level, quantizer in enumerate(original.quantizer.quantizers):
        ours = by_params["quantizer"][f"quantizers_{level}"]["codebook"]["embedding"]
        assert_gradients_agree(ours, quantizer.codebook.weight.grad)


@pytest.mark.parametrize("variant", [TINY_CAUSAL, TINY_SEGMENTED], ids=lambda one: one.name)
def test_encodec_reconstructs_as_the_package_in_training_mode(variant, tmp_path):
    weights = encodec_checkpoints.make_weights(variant)
    encodec_checkpoints.write_transformers_folder(weights, tmp_path / "transformers")
    encodec_checkpoints.write_original_file(weights, tmp_path / "weights.th")
    model = FlaxEncodecModel.from_pretrained(tmp_path / "transformers")
    original = encodec_checkpoints.load_original(tmp_path / "weights.th", variant)
    audio = noise(variant.audio_channels, HOPS * model.config.hop_length)
    levels = 2
    made = reconstructed(model, audio, jnp.full(len(LEVELS), levels))

    given, scale = torch.tensor(audio), 1.0
    if variant.normalize:
        scale = given.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt() + 1e-8
    with torch.no_grad():
        latents = original.encoder(given / scale)
        quantized, _, losses = original.quantizer.train().vq(latents, n_q=levels)
        expected = original.decoder(quantized)[..., : given.shape[-1]] * scale
    np.testing.assert_allclose(made.audio, expected.numpy(), **VALUE)
    np.testing.assert_allclose(made.commitment, losses.mean().numpy(), **VALUE)


def test_levels_are_drawn_for_the_first_of_a_batch_in_that_share():
    drawn = np.stack([draw_levels(key, 10, 5, 0.5, "item") for key in keys(200)])
    assert (drawn[:, 5:] == 5).all()
    assert set(drawn[:, :5].ravel()) == {1, 2, 3, 4, 5}


def test_levels_of_a_batch_are_one_number():
    drawn = np.stack([draw_levels(key, 4, 5, 1.0, "batch") for key in keys(100)])
    assert (drawn == drawn[:, :1]).all()
    assert set(drawn[:, 0]) == {1, 2, 3, 4, 5}
    assert (draw_levels(keys(1)[0], 4, 5, 0.0, "batch") == 5).all()


def keys(count):
    return jax.random.split(jax.random.key(0), count)
