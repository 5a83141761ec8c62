"""Random EnCodec checkpoints in the layouts of both references, of full size, seeded.

As for DAC (checkpoints.py), weights are drawn uneven and with biases, then calibrated in float64 on
speech, music and noise, layer by layer as the signal first passes through, so that it keeps its
size. Codebooks are drawn, level by level, from the covariance of what the levels before leave over.
The decoder is calibrated on the quantised latents.

`usefulness.assert_useful_encodec` states what the weights must achieve.
"""

import functools
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.parametrize import remove_parametrizations
from transformers import EncodecConfig, EncodecFeatureExtractor, EncodecModel
from transformers.modeling_utils import no_init_weights

from . import encodec_inputs, peers
from .encodec_variants import EncodecVariant

DEFAULT_SEED = 20240

# Standard deviations that the calibration gives to the outputs of the named layers.
RESIDUAL_BRANCH_STD = 0.5
AUDIO_STD = 0.15
NORMALIZED_AUDIO_STD = 1.3  # before it is multiplied with the segment's scale
BIAS_STD = 0.1  # of the layer's own spread

LSTM_WEIGHT_GAIN = 1.0  # times 1 / sqrt(width): the recurrence forgets
LSTM_BIAS_STD = 0.2
# Of a level's codewords: parts of the spread of what is left to quantise.
CODEWORD_SPREAD = 0.4
ISOTROPIC_PART = 0.2
CODEWORD_NORM_SPREAD = 0.2

CALIBRATION_S = 0.2
CALIBRATION_CONTENT = ("speech", "music", "white_noise")

PARAMETRIZATIONS = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
"""Weight norm's gain and direction, and what torch >= 2.1 calls them."""


@dataclass
class Weights:
    """float32 under transformers' names; weight norm's gain and direction: weight_g, weight_v."""

    variant: EncodecVariant
    state: dict[str, torch.Tensor]


def make_weights(variant, seed=DEFAULT_SEED):
    """Draw and calibrate the weights of a variant."""
    generator = torch.Generator().manual_seed(seed)
    with no_init_weights():
        model = EncodecModel(transformers_config(variant)).double().eval()
    _drop_weight_norm(model)
    with torch.no_grad():
        _draw(model, generator)
        audio = _calibration_audio(variant)
        with _calibration(model.encoder, 1.0, generator):
            latents = model.encoder(audio)
        quantized = _draw_codebooks(model.quantizer, latents, generator)
        audio_std = NORMALIZED_AUDIO_STD if variant.normalize else AUDIO_STD
        with _calibration(model.decoder, audio_std, generator):
            model.decoder(quantized)
        state = {name: value.detach() for name, value in model.state_dict().items()}
        if variant.norm_type == "weight_norm":
            state = _split_norms(state, generator)
    return Weights(variant, {name: value.float() for name, value in state.items()})


def _drop_weight_norm(model):
    """Plain weights; with gradients turned off, torch would not make parameters of them."""
    for module in model.modules():
        if torch.nn.utils.parametrize.is_parametrized(module):
            remove_parametrizations(module, "weight")


def _draw(model, generator):
    def normal(shape):
        return torch.randn(shape, generator=generator).double()

    for name, parameter in model.named_parameters():
        if ".lstm." in name:
            weight = LSTM_WEIGHT_GAIN * parameter.shape[-1] ** -0.5
            parameter.copy_(
                (weight if "weight" in name else LSTM_BIAS_STD) * normal(parameter.shape)
            )
        elif name.endswith("norm.weight"):
            parameter.copy_(torch.exp(0.3 * normal(parameter.shape)))
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            uneven_norms = torch.exp(0.3 * normal((len(parameter), 1, 1)))
            parameter.copy_(uneven_norms * normal(parameter.shape))


@contextmanager
def _calibration(network, last_std, generator):
    """Scale and centre every layer's output in a network as the signal first passes through it.

    network: transformers' encoder or decoder without weight norm
    last_std: standard deviation of its output
    """

    def calibrate_output(target_std, module, _inputs, output):
        mean = output.mean(dim=(0, 2))
        scale = target_std / (output - mean[:, None]).std()
        noise = torch.randn(len(mean), generator=generator, dtype=torch.float64)
        bias = BIAS_STD * target_std * noise - mean * scale
        module.weight.mul_(scale)
        module.bias.copy_(module.bias * scale + bias)
        return output * scale + bias[:, None]

    hooks = [
        module.register_forward_hook(
            functools.partial(calibrate_output, _target_std(name, network, last_std))
        )
        for name, module in network.named_modules()
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d, torch.nn.GroupNorm))
    ]
    yield
    for hook in hooks:
        hook.remove()


def _target_std(name, network, last_std):
    if name.startswith(f"layers.{len(network.layers) - 1}."):
        return last_std
    return RESIDUAL_BRANCH_STD if ".block.3." in name else 1.0


def _calibration_audio(variant):
    """Speech, music and noise, float64 [3, C, T], at the level that the encoder sees."""
    num_samples = int(CALIBRATION_S * variant.sampling_rate)
    if variant.chunk_length is not None:
        num_samples = min(num_samples, variant.chunk_length)
    signals = [
        np.resize(encodec_inputs.make_input(name, variant), (variant.audio_channels, num_samples))
        for name in CALIBRATION_CONTENT
    ]
    audio = torch.from_numpy(np.stack(signals)).double()
    if variant.normalize:
        audio = audio / audio.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt()
    return audio


def _draw_codebooks(quantizer, latents, generator):
    """Fill the codebooks; returns the quantised latents. latents, result: float64 [B, D, F]."""

    def normal(*shape):
        return torch.randn(shape, generator=generator).double()

    batch, width, num_frames = latents.shape
    residual = latents.transpose(1, 2).reshape(-1, width)
    quantized = torch.zeros_like(residual)
    for layer in quantizer.layers:
        codebook = layer.codebook
        size = codebook.codebook_size
        # A sum of residuals with random weights has the residuals' covariance.
        likely = normal(size, len(residual)) @ residual / len(residual) ** 0.5
        codewords = likely + ISOTROPIC_PART * residual.std() * normal(size, width)
        uneven_norms = torch.exp(CODEWORD_NORM_SPREAD * normal(size, 1))
        codebook.embed.copy_(CODEWORD_SPREAD * uneven_norms * codewords)
        # What training leaves behind, and inference must ignore.
        codebook.cluster_size.copy_(torch.exp(normal(size)))
        codebook.embed_avg.copy_(codebook.embed * codebook.cluster_size[:, None])
        nearest = codebook.decode(codebook.quantize(residual))
        residual = residual - nearest
        quantized = quantized + nearest
    return quantized.reshape(batch, num_frames, width).transpose(1, 2)


def _split_norms(state, generator):
    """Convolutions' weights as gain and direction, which has norms of its own: not to matter."""
    split = {}
    for name, value in state.items():
        if not name.endswith(".conv.weight"):
            split[name] = value
            continue
        norm = value.flatten(1).norm(dim=1)[:, None, None]
        uneven_norms = torch.exp(
            0.5 * torch.randn(norm.shape, generator=generator, dtype=torch.float64)
        )
        split[f"{name}_g"] = norm
        split[f"{name}_v"] = uneven_norms * value / norm
    return split


def transformers_config(variant):
    """transformers' EncodecConfig."""
    return EncodecConfig(
        target_bandwidths=list(variant.target_bandwidths),
        sampling_rate=variant.sampling_rate,
        audio_channels=variant.audio_channels,
        normalize=variant.normalize,
        chunk_length_s=variant.chunk_length_s,
        overlap=variant.overlap,
        hidden_size=variant.hidden_size,
        num_filters=variant.num_filters,
        num_residual_layers=variant.num_residual_layers,
        upsampling_ratios=list(variant.upsampling_ratios),
        norm_type=variant.norm_type,
        use_causal_conv=variant.causal,
        pad_mode=variant.pad_mode,
        num_lstm_layers=variant.num_lstm_layers,
        trim_right_ratio=variant.trim_right_ratio,
        codebook_size=variant.codebook_size,
        use_conv_shortcut=variant.use_conv_shortcut,
    )


def feature_extractor(variant):
    """transformers' EncodecFeatureExtractor."""
    return EncodecFeatureExtractor(
        feature_size=variant.audio_channels,
        sampling_rate=variant.sampling_rate,
        chunk_length_s=variant.chunk_length_s,
        overlap=variant.overlap,
    )


def transformers_state(weights, *, parametrizations=True):
    """State dict of transformers' EncodecModel, as torch >= 2.1 names it or as before."""
    if not parametrizations:
        return dict(weights.state)
    return {
        ".".join([*name.split(".")[:-1], PARAMETRIZATIONS.get(leaf, leaf)]): value
        for name, value in weights.state.items()
        for leaf in [name.split(".")[-1]]
    }


def write_transformers_folder(weights, folder, *, parametrizations=True):
    """What `save_pretrained` of EncodecModel and EncodecFeatureExtractor write.

    parametrizations: False names weight norm's tensors as before torch 2.1, as in the folders of
      the Hub's facebook/encodec_24khz and facebook/encodec_32khz
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    with torch.device("meta"):
        model = EncodecModel(transformers_config(weights.variant))
    model.load_state_dict(transformers_state(weights), assign=True)
    model.save_pretrained(folder)
    if not parametrizations:
        state = {
            name: value.contiguous()
            for name, value in transformers_state(weights, parametrizations=False).items()
        }
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    feature_extractor(weights.variant).save_pretrained(folder)
    return folder


def original_name(name, variant):
    """What the encodec package calls a tensor of transformers' EncodecModel.

    There, every convolution is wrapped twice (`conv.conv`, `convtr.convtr`), its norm once.
    """
    module, _, leaf = name.rpartition(".")
    module, _, kind = module.rpartition(".")
    if kind == "codebook":
        return f"{module.replace('quantizer.', 'quantizer.vq.')}._codebook.{leaf}"
    module = module.replace(".layers.", ".model.", 1)
    if kind == "lstm":
        return f"{module}.lstm.{leaf}"
    wrapper = "convtr" if module in _transposed_modules(variant) else "conv"
    inner = "norm" if kind == "norm" else wrapper
    return f"{module}.{wrapper}.{inner}.{leaf}"


def _transposed_modules(variant):
    """decoder.model: convolution, LSTM, then for each ratio ELU, this, the residual blocks."""
    steps = 2 + variant.num_residual_layers
    return {f"decoder.model.{3 + steps * index}" for index in range(len(variant.upsampling_ratios))}


def original_state(weights):
    """State dict of the encodec package's EncodecModel."""
    variant = weights.variant
    return {original_name(name, variant): value for name, value in weights.state.items()}


def write_original_file(weights, path):
    """A `.th` file as the encodec package's releases are: the state dict and nothing else."""
    torch.save(original_state(weights), path)
    return Path(path)


def load_transformers(folder):
    """transformers' EncodecModel in evaluation mode; every weight must have been found."""
    model, report = EncodecModel.from_pretrained(folder, output_loading_info=True)
    faults = {kind: keys for kind, keys in report.items() if keys}
    if faults:
        raise ValueError(f"transformers did not load {folder} completely: {faults}")
    return model.eval()


def load_original(path, variant):
    """The encodec package's EncodecModel in evaluation mode; every weight must have been found.

    Put together from its parts, since `EncodecModel._get_model` makes the 24 and 48 kHz networks
    only.
    """
    encodec = peers.import_encodec()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.nn.utils.weight_norm: deprecated
        networks = [
            network(**_network_arguments(variant), **more)
            for network, more in (
                (encodec.modules.SEANetEncoder, {}),
                (encodec.modules.SEANetDecoder, {"trim_right_ratio": variant.trim_right_ratio}),
            )
        ]
        quantizer = encodec.quantization.ResidualVectorQuantizer(
            dimension=variant.hidden_size, n_q=variant.n_codebooks, bins=variant.codebook_size
        )
        model = encodec.EncodecModel(
            *networks,
            quantizer,
            list(variant.target_bandwidths),
            variant.sampling_rate,
            variant.audio_channels,
            normalize=variant.normalize,
            segment=variant.chunk_length_s,
            overlap=variant.overlap or 0.01,
            name=variant.name,
        )
        model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def _network_arguments(variant):
    return {
        "channels": variant.audio_channels,
        "dimension": variant.hidden_size,
        "n_filters": variant.num_filters,
        "n_residual_layers": variant.num_residual_layers,
        "ratios": list(variant.upsampling_ratios),
        "norm": variant.norm_type,
        "causal": variant.causal,
        "pad_mode": variant.pad_mode,
        "true_skip": not variant.use_conv_shortcut,
        "lstm": variant.num_lstm_layers,
    }
