"""Random DAC checkpoints in the layouts of both references, of full size, seeded.

Freshly initialised models test little: their latents vanish, their codes collapse to a few
values, their output is either silent or saturated. The weights here are drawn with uneven norms,
uneven Snake alphas and non-zero biases, then one pass over speech, music and noise sets each
layer's scale and bias so that its output is centred with a chosen spread. That pass runs in
float64 and is rounded to float32 at the end, so that a seed means the same weights on every
machine.

`assert_useful` states what the weights must achieve.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import DacConfig, DacFeatureExtractor, DacModel

from . import inputs, peers
from .variants import Variant

DEFAULT_SEED = 20240


# Standard deviations that the calibration gives to the outputs of the named layers.
RESIDUAL_BRANCH_STD = 0.5
OUT_PROJ_STD = 0.35
AUDIO_STD_BEFORE_TANH = 0.12
BIAS_STD = 0.1  # of the layer's own spread
CALIBRATION_S = 0.05


@dataclass
class Weights:
    """Parameters under transformers' module names; convolutions as weight norm's g and v."""

    variant: Variant
    convolutions: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # g, v, bias
    others: dict[str, torch.Tensor]  # `….alpha`, `….codebook.weight`


def make_weights(variant, seed=DEFAULT_SEED):
    """Draw and calibrate the weights of a variant."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = DacModel(transformers_config(variant))
    model = model.double().to_empty(device="cpu").eval()
    with torch.no_grad():
        _draw(model, generator)
        _calibrate(model, variant, generator)
    return _weights_of(model, variant, generator)


def make_initial_weights(variant, seed=DEFAULT_SEED):
    """Those that transformers initialises a model of the variant with: a network nearly linear."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DacModel(transformers_config(variant))
    return _weights_of(model, variant, generator)


def _weights_of(model, variant, generator):
    convolutions = {
        name: _split_norm(module, generator) for name, module in _named_convolutions(model)
    }
    others = {
        name: parameter.detach().float()
        for name, parameter in model.named_parameters()
        if name.endswith(("alpha", "codebook.weight"))
    }
    return Weights(variant, convolutions, others)


def _named_convolutions(model):
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            yield name, module


def _draw(model, generator):
    def normal(shape):
        return torch.randn(shape, generator=generator).double()

    for name, parameter in model.named_parameters():
        if name.endswith("alpha"):
            parameter.copy_(torch.exp(0.5 * normal(parameter.shape)))
            parameter[:, 0] = 0.0  # the activation's 1e-9 is all that keeps this channel finite
            parameter[:, 1] *= -1.0
        elif name.endswith("codebook.weight"):
            uneven_norms = torch.exp(0.3 * normal((len(parameter), 1)))
            parameter.copy_(uneven_norms * normal(parameter.shape))
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            uneven_norms = torch.exp(0.3 * normal((len(parameter), 1, 1)))
            parameter.copy_(uneven_norms * normal(parameter.shape))


def _target_std(name):
    if name.startswith("decoder.conv2"):
        return AUDIO_STD_BEFORE_TANH
    if name.endswith("out_proj"):
        return OUT_PROJ_STD
    if "res_unit" in name and name.endswith("conv2"):
        return RESIDUAL_BRANCH_STD
    return 1.0


def _calibrate(model, variant, generator):
    """Scale and centre every convolution's output as the signal first passes through it."""

    def calibrate_output(name, module, output):
        mean = output.mean(dim=(0, 2))
        scale = _target_std(name) / (output - mean[:, None]).std()
        noise = torch.randn(len(mean), generator=generator, dtype=torch.float64)
        module.weight.mul_(scale)
        module.bias.copy_(BIAS_STD * _target_std(name) * noise - mean * scale)
        return output * scale + module.bias[:, None]

    hooks = [
        module.register_forward_hook(
            lambda module, _inputs, output, name=name: calibrate_output(name, module, output)
        )
        for name, module in _named_convolutions(model)
    ]
    model(_calibration_audio(variant))
    for hook in hooks:
        hook.remove()


def _calibration_audio(variant):
    """Speech, music and noise, float64 [3, 1, T]."""
    num_samples = int(CALIBRATION_S * variant.sampling_rate) // variant.hop_length
    num_samples = max(num_samples, 4) * variant.hop_length
    names = ("speech", "music_left", "white_noise")
    signals = [inputs.make_input(name, variant.sampling_rate, variant.hop_length) for name in names]
    return torch.from_numpy(np.stack(signals)[:, None, :num_samples]).double()


def _split_norm(module, generator):
    """g, v, bias in float32; v has norms of its own, which must not matter."""
    weight = module.weight.detach()
    norm = weight.flatten(1).norm(dim=1)[:, None, None]
    uneven_norms = torch.exp(
        0.5 * torch.randn(norm.shape, generator=generator, dtype=torch.float64)
    )
    direction = uneven_norms * weight / norm
    return norm.float(), direction.float(), module.bias.detach().float()


def transformers_config(variant):
    """transformers' DacConfig, its latent width (no parameter of its own) overwritten."""
    config = DacConfig(
        encoder_hidden_size=variant.encoder_hidden_size,
        downsampling_ratios=list(variant.downsampling_ratios),
        decoder_hidden_size=variant.decoder_hidden_size,
        n_codebooks=variant.n_codebooks,
        codebook_size=variant.codebook_size,
        codebook_dim=variant.codebook_dim,
        sampling_rate=variant.sampling_rate,
    )
    config.hidden_size = variant.hidden_size
    return config


def transformers_state(weights, *, fold_weight_norm=True):
    """State dict of transformers' DacModel; weight norm folded in float32 as torch folds it."""
    state = dict(weights.others)
    for name, (g, v, bias) in weights.convolutions.items():
        state[f"{name}.bias"] = bias
        if fold_weight_norm:
            state[f"{name}.weight"] = torch._weight_norm(v, g, 0)
        else:
            state[f"{name}.parametrizations.weight.original0"] = g
            state[f"{name}.parametrizations.weight.original1"] = v
    return state


def write_transformers_folder(weights, folder, *, fold_weight_norm=True):
    """What `DacModel.save_pretrained` and `DacFeatureExtractor.save_pretrained` write."""
    variant = weights.variant
    with torch.device("meta"):
        model = DacModel(transformers_config(variant))
        if not fold_weight_norm:
            model.apply_weight_norm()
    state = transformers_state(weights, fold_weight_norm=fold_weight_norm)
    model.load_state_dict(state, assign=True)
    model.save_pretrained(folder)
    DacFeatureExtractor(
        sampling_rate=variant.sampling_rate, hop_length=variant.hop_length
    ).save_pretrained(folder)
    return Path(folder)


def descript_kwargs(variant):
    """Arguments of descript's DAC, as a release file carries them.

    `latent_dim` is left out where it is the default, as in files older than that argument.
    """
    kwargs = {
        "encoder_dim": variant.encoder_hidden_size,
        "encoder_rates": list(variant.downsampling_ratios),
        "decoder_dim": variant.decoder_hidden_size,
        "decoder_rates": list(variant.downsampling_ratios[::-1]),
        "n_codebooks": variant.n_codebooks,
        "codebook_size": variant.codebook_size,
        "codebook_dim": variant.codebook_dim,
        "quantizer_dropout": 0.5,
        "sample_rate": variant.sampling_rate,
    }
    if variant.latent_width is not None:
        kwargs["latent_dim"] = variant.latent_width
    return kwargs


def descript_module_name(name, num_blocks):
    """Where descript's DAC keeps a module of transformers' DacModel.

    Both list a network in signal order; descript numbers the steps, transformers names them:
    encoder: conv1, block.0 …, snake1, conv2 are `encoder.block.0`, `.1` …, `.5`, `.6` (4 blocks).
    """
    part, _, rest = name.partition(".")
    if part == "quantizer":
        return name
    sequence = "encoder.block" if part == "encoder" else "decoder.model"
    outer = {"conv1": 0, "snake1": num_blocks + 1, "conv2": num_blocks + 2}
    if rest in outer:
        return f"{sequence}.{outer[rest]}"
    _, block, *inner = rest.split(".")
    if part == "encoder":
        steps = ["res_unit1", "res_unit2", "res_unit3", "snake1", "conv1"]
    else:
        steps = ["snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3"]
    path = [sequence, str(int(block) + 1), "block", str(steps.index(inner[0]))]
    if len(inner) == 2:
        path += ["block", str(["snake1", "conv1", "snake2", "conv2"].index(inner[1]))]
    return ".".join(path)


def descript_state(weights, *, parametrizations=False):
    """State dict of descript's DAC; `parametrizations` spells g and v as newer torch does."""
    num_blocks = len(weights.variant.downsampling_ratios)
    names = ("weight_g", "weight_v")
    if parametrizations:
        names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    state = {}
    for name, (g, v, bias) in weights.convolutions.items():
        module = descript_module_name(name, num_blocks)
        state |= {f"{module}.bias": bias, f"{module}.{names[0]}": g, f"{module}.{names[1]}": v}
    for name, value in weights.others.items():
        module, _, parameter = name.rpartition(".")
        if parameter == "alpha":
            module = descript_module_name(module, num_blocks)
        state[f"{module}.{parameter}"] = value
    return state


def write_descript_file(weights, path, *, parametrizations=False):
    """A `.pth` file as descript's releases are."""
    checkpoint = {
        "state_dict": descript_state(weights, parametrizations=parametrizations),
        "metadata": {"kwargs": descript_kwargs(weights.variant)},
    }
    torch.save(checkpoint, path)
    return Path(path)


def load_transformers(folder):
    """transformers' DacModel in evaluation mode; every weight must have been found."""
    model, report = DacModel.from_pretrained(folder, output_loading_info=True)
    faults = {kind: keys for kind, keys in report.items() if keys}
    if faults:
        raise ValueError(f"transformers did not load {folder} completely: {faults}")
    return model.eval()


def load_descript(path):
    """descript's DAC in evaluation mode; every weight must have been found."""
    dac = peers.import_dac()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script, torch.nn.utils.weight_norm: deprecated
        return dac.DAC.load(str(path), strict=True).eval()
