"""The references' discriminators, narrow in scales, with random weights, and ours of the same."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from codax.modeling.torch_layout import params_from_torch
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
from tests.reference import peers

NUM_SAMPLES = 402  # hops do not divide it
BANDS = ((0.0, 0.4), (0.4, 1.0))


class Pair(NamedTuple):
    """torch_maps(samples): the reference's maps as lists of lists, the score last.

    fake, real: float32 [2, C, T], white noise and what a filter makes of it
    """

    torch_module: Any
    torch_maps: Any
    module: Any
    rules: tuple
    params: dict
    fake: np.ndarray
    real: np.ndarray


def descript_pair():
    """descript's, over one period and one resolution; its widths cannot be changed."""
    peers.import_dac()
    from dac.model.discriminator import Discriminator

    config = DacDiscriminatorConfig(periods=(3,), fft_sizes=(64,), bands=BANDS)
    torch_module = _seeded(lambda: Discriminator(periods=[3], fft_sizes=[64], bands=list(BANDS)))
    rules = dac_discriminator_weight_rules(config)
    params = params_from_torch(rules, _state(torch_module), "descript's discriminator")
    module = FlaxDacDiscriminator(config)
    return Pair(torch_module, torch_module, module, rules, params, *_fake_and_real(1))


def encodec_pair():
    """encodec's, of stereo audio at two resolutions."""
    config = MsStftDiscriminatorConfig(
        audio_channels=2, window_lengths=(64, 32), channels=4, time_dilations=(2,)
    )
    torch_module = _seeded(
        lambda: peers.import_msstftd().MultiScaleSTFTDiscriminator(
            filters=4,
            in_channels=2,
            n_ffts=[64, 32],
            hop_lengths=[16, 8],
            win_lengths=[64, 32],
            dilations=[2],
        )
    )

    def torch_maps(samples):
        scores, maps = torch_module(samples)
        return [[*features, score] for features, score in zip(maps, scores, strict=True)]

    rules = ms_stft_discriminator_weight_rules(config)
    params = params_from_torch(rules, _state(torch_module), "encodec's discriminator")
    module = FlaxMsStftDiscriminator(config)
    return Pair(torch_module, torch_maps, module, rules, params, *_fake_and_real(2))


def _seeded(make):
    """Made from torch's own random start; the weight norm that it takes is deprecated."""
    import torch

    with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        module = make()
        for key, parameter in module.named_parameters():
            if key.endswith(("conv_post.conv.weight_g", "conv_post.conv.weight_v")):
                parameter.mul_(200)  # scores beyond 1 and -1, where hinges bend
            elif key.endswith("conv_post.conv.bias"):
                parameter.fill_(-2.0)
        return module


def _state(module):
    return {key: tensor.detach().numpy() for key, tensor in module.state_dict().items()}


def _fake_and_real(channels):
    white = np.random.default_rng(5).standard_normal((2, channels, NUM_SAMPLES))
    return (0.3 * white).astype(np.float32), (0.05 * np.cumsum(white, -1)).astype(np.float32)
