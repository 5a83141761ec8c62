"""Weight norm of models' trees: as torch's, and the same model."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from codax import DacConfig, EncodecConfig
from codax.modeling.weight_table import CONV, CONV_TRANSPOSE
from codax.training.weight_norm import merge_kernels, split_kernels, training_weight_rules
from tests.tiny_encodec import MONO, STEREO, random_params

DAC = DacConfig(
    encoder_hidden_size=4,
    downsampling_ratios=[2, 5],
    decoder_hidden_size=16,
    n_codebooks=1,
    codebook_size=8,
    codebook_dim=4,
)
ENCODEC = EncodecConfig(**MONO)
# Norms of a few hundred products.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def encodec_params():
    return random_params(ENCODEC)


def test_splitting_and_merging_gives_the_same_parameters(encodec_params):
    split = split_kernels(encodec_params, training_weight_rules(ENCODEC))
    merged = flatten_dict(jax.jit(merge_kernels)(split))
    plain = flatten_dict(encodec_params)
    assert set(merged) == set(plain)
    for path, leaf in plain.items():
        # A norm divided by itself, up to rounding.
        np.testing.assert_allclose(merged[path], leaf, rtol=1e-6, err_msg=str(path))


def test_gain_scales_a_kernel_and_the_length_of_its_direction_does_not(encodec_params):
    split = split_kernels(encodec_params, training_weight_rules(ENCODEC))
    kernel = split["encoder"]["layers"]["0"]["conv"]["kernel"]
    kernel = {"gain": 2 * kernel["gain"], "direction": 3 * kernel["direction"]}
    plain = encodec_params["encoder"]["layers"]["0"]["conv"]["kernel"]
    np.testing.assert_allclose(merge_kernels({"kernel": kernel})["kernel"], 2 * plain, rtol=1e-6)


@pytest.mark.parametrize("config", [DAC, ENCODEC], ids=["dac", "encodec"])
@pytest.mark.parametrize("layout", [CONV, CONV_TRANSPOSE], ids=["conv", "transposed"])
def test_kernels_and_their_gradients_equal_torchs_weight_norm(config, layout):
    torch = pytest.importorskip("torch")
    rules = [r for r in training_weight_rules(config) if r.weight_norm and r.layout is layout]
    rule = max(rules, key=lambda r: r.flax_shape)
    generator = np.random.default_rng(0)
    shapes = (rule.torch_shape, rule.torch_shape, rule.gain_shape)
    direction, toward, gain = (generator.standard_normal(s).astype(np.float32) for s in shapes)
    parts = [torch.from_numpy(array).requires_grad_() for array in (direction, gain)]
    expected = torch._weight_norm(*parts, 0)
    gradients = torch.autograd.grad(expected, parts, torch.from_numpy(toward))

    direction = rule.to_flax(direction)
    split = flatten_dict(split_kernels(unflatten_dict({rule.flax_path: direction}), [rule]))
    gain = gain.reshape(split[*rule.flax_path, "gain"].shape)
    kernel = {"direction": direction, "gain": gain}
    merged, pull = jax.vjp(lambda kernel: merge_kernels({"kernel": kernel})["kernel"], kernel)
    (ours,) = pull(rule.to_flax(toward))
    np.testing.assert_allclose(merged, rule.to_flax(expected.detach().numpy()), rtol=TOLERANCE)
    np.testing.assert_allclose(
        ours["direction"], rule.to_flax(gradients[0].numpy()), atol=TOLERANCE
    )
    np.testing.assert_allclose(ours["gain"].ravel(), gradients[1].numpy().ravel(), atol=TOLERANCE)


def test_every_convolution_of_dac_is_normalised_and_nothing_else():
    normalised = {rule.flax_path for rule in training_weight_rules(DAC) if rule.weight_norm}
    kernels = {r.flax_path for r in training_weight_rules(DAC) if r.flax_path[-1] == "kernel"}
    assert normalised == kernels
    assert ("quantizer", "quantizers_0", "in_proj", "kernel") in normalised


def test_encodec_with_group_norm_has_no_weight_norm():
    rules = training_weight_rules(EncodecConfig(**STEREO))
    assert not any(rule.weight_norm for rule in rules)


def test_lstm_of_encodec_keeps_plain_kernels():
    plain = {r.torch_key for r in training_weight_rules(ENCODEC) if not r.weight_norm}
    assert "encoder.layers.7.lstm.weight_ih_l0" in plain


def test_a_kernel_that_is_missing_is_named(encodec_params):
    with pytest.raises(ValueError, match=r"params must have the kernel encoder\.layers\.0\.conv"):
        split_kernels({"decoder": encodec_params["decoder"]}, training_weight_rules(ENCODEC))


def test_configuration_of_another_model_is_an_error():
    with pytest.raises(ValueError, match="DacConfig or EncodecConfig; got dict"):
        training_weight_rules({})
