"""Every weight of a model, in transformers' torch state dict and in the Flax tree: one table.

A rule gives a weight's key and shape in the one, its path and shape in the other, and how elements
are ordered in the two. Nothing is matched by pattern, so a key is in the table or an error.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codax.configuration.configuration_dac import DacArchitecture
from codax.configuration.configuration_encodec import EncodecArchitecture
from codax.configuration.configuration_encodec_lm import EncodecLmArchitecture
from codax.configuration.conv_geometry import Conv, Layer, Lstm, Snake, named_layers

ALIGNMENT = 64  # bytes, of arrays on XLA's CPU device

WEIGHT_NORM_SUFFIXES = (
    # (gain, direction) in place of "weight", as torch spells them, and as it did before 2.1.
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ("weight_g", "weight_v"),
)


class Layout(NamedTuple):
    """How one kind of weight is laid out: views of an array, one way and the other.

    The views have the order of elements of the other layout; their shape may split its axes.
    """

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


def _frames_from_taps(kernel: np.ndarray) -> np.ndarray:
    """[C_in, C_out, 2s] -> [2, C_in, s, C_out]: the tail of the kernel first, then its head."""
    channels_in, channels_out, taps = kernel.shape
    halves = kernel.reshape(channels_in, channels_out, 2, taps // 2)
    return halves[:, :, ::-1].transpose(2, 0, 3, 1)


def _taps_from_frames(kernel: np.ndarray, torch_shape: tuple[int, ...]) -> np.ndarray:
    """[2, C_in, s * C_out] -> [C_in, C_out, 2, s], the inverse."""
    channels_in, channels_out, taps = torch_shape
    halves = kernel.reshape(2, channels_in, taps // 2, channels_out)
    return halves[::-1].transpose(1, 3, 0, 2)


AS_IT_IS = Layout(lambda array: array, lambda array, _: array)
LINEAR = Layout(lambda kernel: kernel.T, lambda kernel, _: kernel.T)
CONV = Layout(lambda kernel: kernel.transpose(2, 1, 0), lambda kernel, _: kernel.transpose(2, 1, 0))
CONV_TRANSPOSE = Layout(_frames_from_taps, _taps_from_frames)


@dataclass(frozen=True)
class WeightRule:
    """One weight in both layouts.

    weight_norm: torch's model stores gain and direction; in the Flax tree they are folded.
    """

    torch_key: str
    torch_shape: tuple[int, ...]
    flax_path: tuple[str, ...]
    flax_shape: tuple[int, ...]
    layout: Layout = AS_IT_IS
    weight_norm: bool = False

    @property
    def gain_shape(self) -> tuple[int, ...]:
        """Of the gain, where weight norm is not folded: one value for each entry of axis 0."""
        return (self.torch_shape[0], *(1 for _ in self.torch_shape[1:]))

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """An array of `torch_shape` -> float32 of `flax_shape`."""
        return _contiguous(self.layout.to_flax(array), np.float32).reshape(self.flax_shape)

    def to_torch(self, array: np.ndarray, spelling: int = 0) -> dict[str, np.ndarray]:
        """An array of `flax_shape` -> float32 of `torch_shape`, by torch's key.

        With weight norm: two arrays, the weight as direction and its own norm as gain, under the
        names of a spelling in `WEIGHT_NORM_SUFFIXES`.
        """
        view = self.layout.to_torch(array, self.torch_shape)
        weight = _contiguous(view, np.float32).reshape(self.torch_shape)
        if not self.weight_norm:
            return {self.torch_key: weight}
        norm = np.linalg.norm(weight.astype(np.float64).reshape(len(weight), -1), axis=1)
        gain_key, direction_key = self.weight_norm_keys()[spelling]
        return {
            gain_key: norm.astype(np.float32).reshape(self.gain_shape),
            direction_key: weight,
        }

    def weight_norm_keys(self) -> tuple[tuple[str, str], ...]:
        """The keys of gain and direction that may stand for this weight, in every spelling."""
        root, _, leaf = self.torch_key.rpartition(".")
        if leaf != "weight":
            return ()
        return tuple(
            (f"{root}.{gain}", f"{root}.{direction}") for gain, direction in WEIGHT_NORM_SUFFIXES
        )


def dac_weight_rules(architecture: DacArchitecture) -> tuple[WeightRule, ...]:
    """Every weight of a DAC model."""
    return (
        *_network_rules(architecture.encoder, "encoder"),
        *_dac_quantizer_rules(architecture),
        *_network_rules(architecture.decoder, "decoder"),
    )


def encodec_weight_rules(architecture: EncodecArchitecture) -> tuple[WeightRule, ...]:
    """Every weight of an EnCodec model, the statistics that train its codebooks included."""
    return (
        *_network_rules(architecture.encoder, "encoder", weight_norm=True),
        *_encodec_quantizer_rules(architecture),
        *_network_rules(architecture.decoder, "decoder", weight_norm=True),
    )


def encodec_lm_weight_rules(architecture: EncodecLmArchitecture) -> tuple[WeightRule, ...]:
    """Every weight of the language model of `.ecdc` files; torch's keys are the original's."""
    entries, dim = architecture.codebook_size, architecture.dim
    embedding = (1 + entries, dim)
    levels = range(architecture.num_codebooks)
    return (
        *(
            WeightRule(f"emb.{k}.weight", embedding, (f"embeddings_{k}", "embedding"), embedding)
            for k in levels
        ),
        *_norm_rules(dim, "transformer.norm_in", ("input_norm",)),
        *(
            rule
            for index in range(architecture.num_layers)
            for rule in _transformer_layer_rules(architecture, index)
        ),
        *(
            rule
            for k in levels
            for rule in _dense_rules(dim, entries, f"linears.{k}.", (f"heads_{k}",))
        ),
    )


def _network_rules(
    layers: Iterable[Layer], *root: str, weight_norm: bool = False
) -> Iterator[WeightRule]:
    for path, layer in named_layers(layers, root):
        torch_root = ".".join(path)
        match layer:
            case Conv():
                yield from _conv_rules(layer, torch_root, path, weight_norm)
            case Snake(channels=channels):
                shape = (1, channels, 1)
                yield WeightRule(f"{torch_root}.alpha", shape, (*path, "alpha"), shape[1:2])
            case Lstm():
                yield from _lstm_rules(layer, torch_root, path)


def _dac_quantizer_rules(architecture: DacArchitecture) -> Iterator[WeightRule]:
    hidden_size, codebook_dim = architecture.hidden_size, architecture.codebook_dim
    codebook = (architecture.codebook_size, codebook_dim)
    for level in range(architecture.n_codebooks):
        torch_root = f"quantizer.quantizers.{level}"
        flax_root = ("quantizer", f"quantizers_{level}")
        yield WeightRule(
            f"{torch_root}.codebook.weight",
            codebook,
            (*flax_root, "codebook", "embedding"),
            codebook,
        )
        for conv in (
            Conv("in_proj", hidden_size, codebook_dim, kernel_size=1),
            Conv("out_proj", codebook_dim, hidden_size, kernel_size=1),
        ):
            yield from _conv_rules(conv, f"{torch_root}.{conv.name}", (*flax_root, conv.name))


def _encodec_quantizer_rules(architecture: EncodecArchitecture) -> Iterator[WeightRule]:
    size, dim = architecture.codebook_size, architecture.hidden_size
    for level in range(architecture.num_quantizers):
        for torch_name, flax_name, shape in (
            ("inited", "is_initialized", (1,)),
            ("cluster_size", "cluster_size", (size,)),
            ("embed", "embedding", (size, dim)),
            ("embed_avg", "embedding_sum", (size, dim)),
        ):
            torch_key = f"quantizer.layers.{level}.codebook.{torch_name}"
            path = ("quantizer", f"codebooks_{level}", flax_name)
            yield WeightRule(torch_key, shape, path, shape)


def _conv_rules(
    conv: Conv, torch_root: str, flax_root: tuple[str, ...], weight_norm: bool = False
) -> Iterator[WeightRule]:
    channels_in, channels_out, taps = conv.in_channels, conv.out_channels, conv.kernel_size
    if conv.transposed:
        torch_shape, layout = (channels_in, channels_out, taps), CONV_TRANSPOSE
        flax_shape = (2, channels_in, conv.stride * channels_out)
    else:
        torch_shape, layout = (channels_out, channels_in, taps), CONV
        flax_shape = torch_shape[::-1]
    path = (*flax_root, "kernel")
    weight_norm = weight_norm and not conv.time_group_norm
    yield WeightRule(f"{torch_root}.weight", torch_shape, path, flax_shape, layout, weight_norm)
    bias = (channels_out,)
    yield WeightRule(f"{torch_root}.bias", bias, (*flax_root, "bias"), bias)
    if conv.time_group_norm:  # torch keeps it beside the convolution
        norm = f"{torch_root.rpartition('.')[0]}.norm"
        yield WeightRule(f"{norm}.weight", bias, (*flax_root, "norm", "scale"), bias)
        yield WeightRule(f"{norm}.bias", bias, (*flax_root, "norm", "bias"), bias)


def _lstm_rules(lstm: Lstm, torch_root: str, path: tuple[str, ...]) -> Iterator[WeightRule]:
    size, gates = lstm.size, 4 * lstm.size
    for index in range(lstm.num_layers):
        for torch_suffix, flax_name, layout in (
            ("ih", "input", LINEAR),
            ("hh", "hidden", AS_IT_IS),
        ):
            yield WeightRule(
                f"{torch_root}.weight_{torch_suffix}_l{index}",
                (gates, size),
                (*path, f"{flax_name}_kernel_l{index}"),
                (size, gates) if layout is LINEAR else (gates, size),
                layout,
            )
            yield WeightRule(
                f"{torch_root}.bias_{torch_suffix}_l{index}",
                (gates,),
                (*path, f"{flax_name}_bias_l{index}"),
                (gates,),
            )


def _transformer_layer_rules(
    architecture: EncodecLmArchitecture, index: int
) -> Iterator[WeightRule]:
    dim, wide = architecture.dim, architecture.feed_forward_dim
    torch_root, path = f"transformer.layers.{index}", (f"layers_{index}",)
    for torch_name, flax_name, size_in, size_out in (
        ("self_attn.in_proj_", "query_key_value", dim, 3 * dim),
        ("self_attn.out_proj.", "attention_output", dim, dim),
        ("linear1.", "expansion", dim, wide),
        ("linear2.", "contraction", wide, dim),
    ):
        yield from _dense_rules(size_in, size_out, f"{torch_root}.{torch_name}", (*path, flax_name))
    yield from _norm_rules(dim, f"{torch_root}.norm1", (*path, "attention_norm"))
    yield from _norm_rules(dim, f"{torch_root}.norm2", (*path, "feed_forward_norm"))


def _dense_rules(
    size_in: int, size_out: int, torch_prefix: str, path: tuple[str, ...]
) -> Iterator[WeightRule]:
    kernel, bias = (size_in, size_out), (size_out,)
    yield WeightRule(f"{torch_prefix}weight", kernel[::-1], (*path, "kernel"), kernel, LINEAR)
    yield WeightRule(f"{torch_prefix}bias", bias, (*path, "bias"), bias)


def _norm_rules(size: int, torch_root: str, path: tuple[str, ...]) -> Iterator[WeightRule]:
    yield WeightRule(f"{torch_root}.weight", (size,), (*path, "scale"), (size,))
    yield WeightRule(f"{torch_root}.bias", (size,), (*path, "bias"), (size,))


def _contiguous(view: np.ndarray, dtype) -> np.ndarray:
    """Copy a view with permuted axes in blocks of its last axis.

    Blocks of 32 keep the source rows in cache: about twice as fast as one assignment for kernels of
    several megabytes, and reordering is most of the time that loading takes.
    """
    copy = _aligned_empty(view.shape, np.dtype(dtype))
    for start in range(0, view.shape[-1], 32):
        copy[..., start : start + 32] = view[..., start : start + 32]
    return copy


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array whose memory a device that is the CPU takes over as it is, instead of a copy."""
    num_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + num_bytes].view(dtype).reshape(shape)
