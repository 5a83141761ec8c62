"""The original's language model with random weights, and the original's `.ecdc` files with it.

As the original draws them, biases are zero and all probabilities nearly equal, so that little that
is wrong would show. Here biases and norms are uneven, attention and probabilities are decided.
"""

import importlib
import io

import numpy as np
import torch

from . import peers

ATTENTION_GAIN = 1.4  # scores have a standard deviation of 2
OUTPUT_GAIN = 2.0  # and so have logits
DECIDING = 4  # hidden values, on which each code of a coarse model depends
INPUT_GAIN = 10.0  # of a coarse model: codes decide more than positions
SATURATION = 1e6  # so large that softmax gives the second best exactly 0


def random_lm(architecture, seed=0):
    """The original's `LMModel`."""
    peers.import_encodec()
    model = importlib.import_module("encodec.model").LMModel(
        n_q=architecture.num_codebooks,
        card=architecture.codebook_size,
        dim=architecture.dim,
        num_layers=architecture.num_layers,
        num_heads=architecture.num_heads,
        hidden_scale=architecture.feed_forward_dim / architecture.dim,
        past_context=architecture.past_context,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_scaled(name, torch.randn(parameter.shape, generator=generator)))
    return model.eval()


def _scaled(name, normal):
    is_norm = "norm" in name
    if is_norm and name.endswith("weight"):
        return torch.exp(0.3 * normal)
    if name.endswith("bias"):
        return 0.3 * normal
    if name.startswith("emb."):
        return normal
    gain = 1.0
    if "in_proj" in name:
        gain = ATTENTION_GAIN
    elif name.startswith("linears."):
        gain = OUTPUT_GAIN
    return gain * normal / normal.shape[1] ** 0.5


def coarse_lm(architecture, seed=0):
    """One whose probabilities leave nothing to rounding, and still depend on the past.

    Each code's logit is a hidden value, or minus one, times so much that the codes of the largest
    have exactly 1 over their number each, and all others exactly 0.
    """
    model = random_lm(architecture, seed)
    code = torch.arange(architecture.codebook_size)
    sign = 1 - 2 * (code // DECIDING % 2)
    with torch.no_grad():
        model.transformer.norm_in.weight.mul_(INPUT_GAIN)
        for level, head in enumerate(model.linears):
            head.bias.zero_()
            head.weight.zero_()
            head.weight[code, DECIDING * level + code % DECIDING] = SATURATION * sign
    return model


def state_arrays(model):
    """Its weights by name, as NumPy arrays."""
    return {name: value.numpy() for name, value in model.state_dict().items()}


@torch.no_grad()
def probabilities_step_by_step(model, codes):
    """As the original codes a stream: codes int [K, F] -> float [K, F, N]."""
    state, offset, frames = None, 0, []
    for indices in _indices(codes).split(1, dim=2):
        probabilities, state, offset = model(indices, state, offset)
        frames.append(probabilities[0, ..., 0].T.numpy())
    return np.stack(frames, axis=1)


@torch.no_grad()
def probabilities_at_once(model, codes):
    """Codes int [K, F] -> float [K, F, N], in one pass."""
    return model(_indices(codes))[0][0].permute(1, 2, 0).numpy()


def _indices(codes):
    """What the original takes: 1 + the codes of the frame before each, 0 for none; [1, K, F]."""
    before = np.zeros_like(codes[:, :1])
    return torch.from_numpy(np.concatenate([before, 1 + codes[:, :-1]], axis=1)[None]).long()


class _CodesInPlaceOfAudio:
    """What the original's `compress_to_file` asks of a codec's model, but for the network."""

    def __init__(self, clip, lm):
        self._clip, self._lm = clip, lm
        self.name = clip.model

    def get_lm_model(self):
        return self._lm

    def encode(self, _audio):
        stops = np.cumsum(self._clip.segment_frames or (self._clip.num_frames,))
        pieces = np.split(self._clip.codes, stops[:-1], axis=-1)
        scales = [None] * len(pieces) if self._clip.scales is None else self._clip.scales[0]
        return [
            (torch.from_numpy(codes).long(), None if scale is None else torch.tensor(scale))
            for codes, scale in zip(pieces, scales, strict=True)
        ]


def ecdc_bytes(clip, lm):
    """The `.ecdc` file that the original writes for an `EncodedAudio`, with its language model."""
    peers.import_encodec()
    audio = torch.zeros(clip.channels, clip.num_samples)
    file = io.BytesIO()
    importlib.import_module("encodec.compress").compress_to_file(
        _CodesInPlaceOfAudio(clip, lm), audio, file, use_lm=True
    )
    return file.getvalue()
