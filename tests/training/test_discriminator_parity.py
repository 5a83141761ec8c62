"""Discriminators, their losses and weight norm against the references, stage by stage."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from codax.training import adversarial
from codax.training.weight_norm import merge_kernels, split_kernels
from tests.reference import peers

if reason := peers.missing_descript() or peers.missing_encodec():
    pytest.skip(reason, allow_module_level=True)

from .torch_discriminators import descript_pair, encodec_pair  # after what they need is there

# Up to nine float32 sums of thousands of products; relative to the largest element.
MAPS_TOLERANCE = 1e-5
# The gradient passes through every layer twice, and gains' are sums of what nearly cancels.
GRADIENT_TOLERANCE = 1e-4

GENERATOR_LOSSES = {
    "descript": (adversarial.lsgan_generator_loss, adversarial.summed_feature_loss),
    "encodec": (adversarial.hinge_generator_loss, adversarial.mean_feature_loss),
}
DISCRIMINATOR_LOSSES = {
    "descript": adversarial.lsgan_discriminator_loss,
    "encodec": adversarial.hinge_discriminator_loss,
}


@pytest.fixture(scope="module", params=["descript", "encodec"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def pair(family):
    return {"descript": descript_pair, "encodec": encodec_pair}[family]()


@pytest.fixture(scope="module")
def expected(pair, family):
    return _of_torch(pair, family)


@pytest.fixture(scope="module")
def actual(pair, family):
    """One compiled program for all that is compared."""
    split = split_kernels(pair.params, pair.rules)
    return jax.jit(partial(_of_ours, pair.module, family))(split, pair.fake, pair.real)


def test_feature_maps_equal_the_references(expected, actual):
    for i, (theirs, ours) in enumerate(zip(expected["maps"], actual["maps"], strict=True)):
        for j, (their_map, our_map) in enumerate(zip(theirs, ours, strict=True)):
            expected = their_map.transpose(0, 2, 3, 1)
            if our_map.shape[2] == 1:  # over periods, of which ours are items
                expected = expected.swapaxes(1, 2).reshape(our_map.shape)
            assert_close(expected, our_map, MAPS_TOLERANCE, f"{i}.{j}")


@pytest.mark.parametrize("name", ["generator", "features", "discriminator"])
def test_losses_equal_the_references(expected, actual, name):
    assert_close(expected[name], actual[name], MAPS_TOLERANCE, name)


@pytest.mark.parametrize("family", ["encodec"], indirect=True)
def test_some_scores_lie_on_either_side_of_the_hinges(expected):
    scores = np.concatenate([maps[-1].ravel() for maps in expected["maps"]])
    assert scores.min() < -1
    assert scores.max() > 1


def test_gradients_of_the_audio_equal_the_references(expected, actual):
    stage = "generator losses by samples"
    assert_close(expected["by_samples"], actual["by_samples"], GRADIENT_TOLERANCE, stage)


def test_gradients_of_gains_directions_and_biases_equal_torchs_weight_norm(pair, expected, actual):
    gradients, theirs = flatten_dict(actual["by_params"]), dict(expected["by_params"])
    for rule in pair.rules:
        if not rule.weight_norm:
            gradient = rule.to_flax(theirs.pop(rule.torch_key))
            ours = gradients.pop(rule.flax_path)
            assert_close(gradient, ours, GRADIENT_TOLERANCE, rule.torch_key)
            continue
        gain_key, direction_key = next(k for k in rule.weight_norm_keys() if k[0] in theirs)
        gain = gradients.pop((*rule.flax_path, "gain"))
        direction = gradients.pop((*rule.flax_path, "direction"))
        their_gain = theirs.pop(gain_key).ravel()
        assert_close(their_gain, gain.ravel(), GRADIENT_TOLERANCE, gain_key)
        their_direction = rule.to_flax(theirs.pop(direction_key))
        assert_close(their_direction, direction, GRADIENT_TOLERANCE, direction_key)
    assert not gradients
    assert not theirs


def assert_close(expected, actual, tolerance, stage):
    expected, actual = np.asarray(expected), np.asarray(actual)
    assert expected.shape == actual.shape, stage
    largest = np.abs(expected).max()
    assert largest > 0, stage
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest, err_msg=stage)


def _of_ours(module, family, split, fake, real):
    """Fake and real audio are one batch: one network to compile."""

    def maps_of(split, samples):
        maps = module.apply({"params": merge_kernels(split)}, samples)
        halves = jax.tree.map(lambda array: jnp.split(array, 2), maps)
        return jax.tree.transpose(jax.tree.structure(maps), None, halves)

    (fake_maps, real_maps), pull = jax.vjp(maps_of, split, jnp.concatenate([fake, real]))
    generator_loss, feature_loss = GENERATOR_LOSSES[family]
    generator, from_generator = jax.value_and_grad(generator_loss)(fake_maps)
    features, from_features = jax.value_and_grad(feature_loss)(fake_maps, real_maps)
    toward_samples = jax.tree.map(jnp.add, from_generator, from_features)
    discriminator, toward_params = jax.value_and_grad(DISCRIMINATOR_LOSSES[family], (0, 1))(
        fake_maps, real_maps
    )
    nothing = jax.tree.map(jnp.zeros_like, real_maps)
    return {
        "maps": real_maps,
        "generator": generator,
        "features": features,
        "discriminator": discriminator,
        "by_samples": pull([toward_samples, nothing])[1][: len(fake)],
        "by_params": pull(list(toward_params))[0],
    }


def _of_torch(pair, family):
    import torch

    real = torch.from_numpy(pair.real)
    fake = torch.from_numpy(pair.fake).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # audiotools, of arguments that torch renamed
        maps = pair.torch_maps(real)
        generator, features = _torch_generator_losses(pair, family, fake, real)
        (by_samples,) = torch.autograd.grad(generator + features, [fake])
        discriminator = _torch_discriminator_loss(pair, family, fake.detach(), real)
        weights = dict(pair.torch_module.named_parameters())
        by_params = torch.autograd.grad(discriminator, list(weights.values()))
    return {
        "maps": [[single.detach().numpy() for single in maps_of_one] for maps_of_one in maps],
        "generator": generator.detach().numpy(),
        "features": features.detach().numpy(),
        "discriminator": discriminator.detach().numpy(),
        "by_samples": by_samples.numpy(),
        "by_params": {key: grad.numpy() for key, grad in zip(weights, by_params, strict=True)},
    }


def _torch_generator_losses(pair, family, fake, real):
    if family == "descript":
        return _gan_loss(pair).generator_loss(_signal(fake), _signal(real))
    # audiocraft is not among the packages that tests need: its definitions, in its own terms.
    fake_maps, real_maps = pair.torch_maps(fake), pair.torch_maps(real)
    count = len(fake_maps)
    generator = sum(-maps[-1].mean() for maps in fake_maps) / count
    features = 0
    for fakes, reals in zip(fake_maps, real_maps, strict=True):
        differences = [(f - r).abs().mean() for f, r in zip(fakes[:-1], reals[:-1], strict=True)]
        features = features + sum(differences) / len(differences) / count
    return generator, features


def _torch_discriminator_loss(pair, family, fake, real):
    import torch

    if family == "descript":
        return _gan_loss(pair).discriminator_loss(_signal(fake), _signal(real))
    fake_maps, real_maps = pair.torch_maps(fake), pair.torch_maps(real)
    losses = [
        torch.relu(1 + f[-1]).mean() + torch.relu(1 - r[-1]).mean()
        for f, r in zip(fake_maps, real_maps, strict=True)
    ]
    return sum(losses) / len(losses)


def _gan_loss(pair):
    from dac.nn.loss import GANLoss

    return GANLoss(pair.torch_module)


def _signal(samples):
    return peers.import_audiotools().AudioSignal(samples, 44100)
