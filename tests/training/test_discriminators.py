"""What the discriminators promise without a reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from codax.modeling.torch_layout import params_from_torch, params_to_torch
from codax.training.discriminator_weights import (
    dac_discriminator_weight_rules,
    ms_stft_discriminator_weight_rules,
)
from codax.training.discriminators import (
    DacDiscriminatorConfig,
    FlaxDacDiscriminator,
    FlaxMsStftDiscriminator,
    MsStftDiscriminatorConfig,
)

NARROW_DAC = DacDiscriminatorConfig(
    periods=(2, 3), fft_sizes=(32,), bands=((0, 0.5),), period_channels=(4, 6), band_channels=4
)
NARROW_ENCODEC = MsStftDiscriminatorConfig(window_lengths=(32,), channels=4, time_dilations=(1,))
CASES = {
    "dac": (FlaxDacDiscriminator(NARROW_DAC), dac_discriminator_weight_rules(NARROW_DAC)),
    "encodec": (
        FlaxMsStftDiscriminator(NARROW_ENCODEC),
        ms_stft_discriminator_weight_rules(NARROW_ENCODEC),
    ),
}
NUM_SAMPLES = 96


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def params(case):
    module, _ = case
    shape = jax.ShapeDtypeStruct((1, 1, NUM_SAMPLES), jnp.float32)
    return module.lazy_init(jax.random.key(0), shape)["params"]


def test_weight_rules_name_every_parameter_and_its_shape(case, params):
    shapes = {path: leaf.shape for path, leaf in flatten_dict(params).items()}
    assert shapes == {rule.flax_path: rule.flax_shape for rule in case[1]}


def test_state_dict_with_weight_norm_gives_the_same_parameters_back(case, params):
    rules = case[1]
    state = params_to_torch(rules, params, old_spelling=True)
    assert any(key.endswith("weight_g") for key in state)
    again = params_from_torch(rules, state, "state")
    # One division and one product.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, again)


def test_initial_weights_and_biases_are_uniform_by_fan_in():
    shape = jax.ShapeDtypeStruct((1, 1, 8192), jnp.float32)
    config = MsStftDiscriminatorConfig(window_lengths=(128,))
    leaves = FlaxMsStftDiscriminator(config).lazy_init(jax.random.key(0), shape)["params"]
    weights = leaves["scales_0"]["convs_1"]
    bound = (3 * 9 * 32) ** -0.5
    assert 0.99 * bound < jnp.abs(weights["kernel"]).max() <= bound
    assert 0.5 * bound < jnp.abs(weights["bias"]).max() <= bound
    # The variance of a uniform distribution, of 27,648 weights.
    np.testing.assert_allclose(weights["kernel"].std(), bound / 3**0.5, rtol=0.02)


def test_in_bfloat16_maps_and_gradients_are_nearly_those_of_float32(case, params):
    module, _ = case
    samples = np.random.default_rng(0).standard_normal((2, 1, NUM_SAMPLES)).astype(np.float32)

    def gradients(dtype):
        def level(samples):
            maps = module.clone(dtype=dtype).apply({"params": params}, samples)
            assert {single.dtype for single in jax.tree.leaves(maps)} == {jnp.dtype(dtype)}
            return sum(
                jnp.mean(single.astype(jnp.float32) ** 2) for single in jax.tree.leaves(maps)
            )

        return jax.jit(jax.value_and_grad(level))(samples)

    (exact, by_samples), (rounded, by_samples_rounded) = map(gradients, (jnp.float32, jnp.bfloat16))
    # Three to five layers, each rounded by up to 2^-9 a few times.
    np.testing.assert_allclose(rounded, exact, rtol=0.02)
    error = np.linalg.norm(by_samples_rounded - by_samples) / np.linalg.norm(by_samples)
    assert 1e-4 < error < 0.05


def test_feature_maps_are_channel_last_and_the_score_has_one_channel(case, params):
    module, _ = case
    samples = jax.ShapeDtypeStruct((2, 1, NUM_SAMPLES), jnp.float32)
    maps = jax.eval_shape(lambda x: module.apply({"params": params}, x), samples)
    for features in maps:
        assert [single.ndim for single in features] == [4] * len(features)
        assert features[-1].shape[0] in (2, 2 * 2, 2 * 3)  # items, or their periods
        assert features[-1].shape[-1] == 1
        assert {single.shape[-1] for single in features[:-1]} <= {4, 6}


def test_descripts_judge_each_channel_as_if_it_were_alone_and_at_any_volume():
    module = CASES["dac"][0]
    samples = np.random.default_rng(0).standard_normal((1, 2, NUM_SAMPLES)).astype(np.float32)
    params = module.lazy_init(jax.random.key(0), samples)["params"]
    judge = jax.jit(lambda x: [maps[-1] for maps in module.apply({"params": params}, x)])
    mono = judge(np.stack([samples[0, :1], 0.1 * samples[0, 1:] + 2]))
    for together, apart in zip(judge(samples), mono, strict=True):
        # 2 is subtracted from numbers of a tenth: rounding of 1e-7 grows to 1e-6.
        np.testing.assert_allclose(together, apart, atol=5e-6)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (CASES["dac"][0], (2, 96), r"\[B, C, T\]; got shape \(2, 96\)"),
        (CASES["dac"][0], (1, 1, 2), "too short for a period of 2: 2 samples"),
        (CASES["dac"][0], (1, 1, 9), "9 samples is too short"),
        (CASES["encodec"][0], (1, 2, 96), "takes 1 channels; got 2"),
        (CASES["encodec"][0], (1, 1, 31), "31 samples is shorter than a frame of 32"),
    ],
)
def test_audio_that_does_not_fit_is_an_error(module, shape, message):
    with pytest.raises(ValueError, match=message):
        module.lazy_init(jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (DacDiscriminatorConfig, {"periods": (2, 0)}, r"periods must be positive; got \(2, 0\)"),
        (DacDiscriminatorConfig, {"band_channels": 0}, "band_channels must be positive"),
        (DacDiscriminatorConfig, {"fft_sizes": (510,)}, r"multiples of 4; got \(510,\)"),
        (DacDiscriminatorConfig, {"bands": ((0.5, 1.5),)}, r"lie in 0 to 1 .* got \(0.5, 1.5\)"),
        (DacDiscriminatorConfig, {"bands": ((0.5, 0.5),)}, "at least one bin"),
        (MsStftDiscriminatorConfig, {"window_lengths": (2,)}, "multiples of 4"),
        (MsStftDiscriminatorConfig, {"audio_channels": 0}, "audio_channels must be positive"),
    ],
)
def test_sizes_out_of_range_are_an_error(config, fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)
