"""transformers' torch weights <-> the Flax tree: one table, complete both ways.

`weight_rules` lists every weight of an architecture: its key and shape in a torch state dict, its
path and shape in the Flax tree, and how elements are ordered in the two. Nothing is matched by
pattern, so a key is in the table or an error.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from codax.configuration.configuration_dac import DacArchitecture
from codax.configuration.conv_geometry import Conv, Layer, named_layers
from codax.errors import CheckpointError

READERS = 4  # threads: one reads while others reorder what was read
ALIGNMENT = 64  # bytes, of arrays on XLA's CPU device

WEIGHT_NORM_SUFFIXES = (
    # (gain, direction) in place of "weight", in the two spellings that torch has had.
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
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
CONV = Layout(lambda kernel: kernel.transpose(2, 1, 0), lambda kernel, _: kernel.transpose(2, 1, 0))
CONV_TRANSPOSE = Layout(_frames_from_taps, _taps_from_frames)


@dataclass(frozen=True)
class WeightRule:
    """One weight in both layouts."""

    torch_key: str
    torch_shape: tuple[int, ...]
    flax_path: tuple[str, ...]
    flax_shape: tuple[int, ...]
    layout: Layout = AS_IT_IS

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """An array of `torch_shape` -> float32 of `flax_shape`."""
        return _contiguous(self.layout.to_flax(array), np.float32).reshape(self.flax_shape)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """An array of `flax_shape` -> float32 of `torch_shape`."""
        view = self.layout.to_torch(array, self.torch_shape)
        return _contiguous(view, np.float32).reshape(self.torch_shape)


def weight_rules(architecture: DacArchitecture) -> tuple[WeightRule, ...]:
    """Every weight of a DAC model."""
    return (
        *_network_rules(architecture.encoder, "encoder"),
        *_quantizer_rules(architecture),
        *_network_rules(architecture.decoder, "decoder"),
    )


def _network_rules(layers: Iterable[Layer], *root: str) -> Iterator[WeightRule]:
    for path, layer in named_layers(layers, root):
        if isinstance(layer, Conv):
            yield from _conv_rules(layer, ".".join(path), path)
        else:
            torch_shape = (1, layer.channels, 1)
            torch_key = ".".join((*path, "alpha"))
            yield WeightRule(torch_key, torch_shape, (*path, "alpha"), torch_shape[1:2])


def _quantizer_rules(architecture: DacArchitecture) -> Iterator[WeightRule]:
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


def _conv_rules(conv: Conv, torch_root: str, flax_root: tuple[str, ...]) -> Iterator[WeightRule]:
    channels_in, channels_out, taps = conv.in_channels, conv.out_channels, conv.kernel_size
    if conv.transposed:
        torch_shape, layout = (channels_in, channels_out, taps), CONV_TRANSPOSE
        flax_shape = (2, channels_in, conv.stride * channels_out)
    else:
        torch_shape, layout = (channels_out, channels_in, taps), CONV
        flax_shape = torch_shape[::-1]
    path = (*flax_root, "kernel")
    yield WeightRule(f"{torch_root}.weight", torch_shape, path, flax_shape, layout)
    bias = (channels_out,)
    yield WeightRule(f"{torch_root}.bias", bias, (*flax_root, "bias"), bias)


def params_from_torch(
    rules: Iterable[WeightRule], state: Mapping[str, np.ndarray], source: str
) -> dict:
    """A torch state dict -> the Flax tree (float32), weight norm folded where it is not yet.

    `state` may be lazy: each entry is read once, and let go before the next. Raises
    `CheckpointError` that lists every missing, unexpected, mis-shaped and non-finite weight.
    """
    faults = []
    stored: list[tuple[WeightRule, tuple[str, ...]]] = []
    unused = set(state)
    for rule in rules:
        keys = _keys_of_weight(rule.torch_key, unused)
        if keys is None:
            faults.append(f"missing: {rule.torch_key}")
        else:
            unused.difference_update(keys)
            stored.append((rule, keys))
    params = {}
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda entry: _read_leaf(entry[0], entry[1], state), stored)
        for (rule, _), (leaf, found) in zip(stored, read, strict=True):
            faults.extend(found)
            params[rule.flax_path] = leaf
    faults.extend(f"unexpected: {key}" for key in sorted(unused))
    raise_faults(faults, source)
    return unflatten_dict(params)


def params_from_flax(rules: Iterable[WeightRule], tree: Mapping, source: str) -> dict:
    """A nested tree in Flax's own layout -> the same, checked, as float32 device arrays."""
    leaves = _checked_leaves(rules, tree, source)
    return unflatten_dict(
        {rule.flax_path: jax.device_put(np.asarray(leaf, np.float32)) for rule, leaf in leaves}
    )


def params_to_torch(
    rules: Iterable[WeightRule], params: Mapping, source: str = "params"
) -> dict[str, np.ndarray]:
    """The Flax tree -> a torch state dict (float32, weight norm folded), checked likewise."""
    return {
        rule.torch_key: rule.to_torch(leaf) for rule, leaf in _checked_leaves(rules, params, source)
    }


def _checked_leaves(
    rules: Iterable[WeightRule], tree: Mapping, source: str
) -> list[tuple[WeightRule, np.ndarray]]:
    """Every rule with its leaf of a Flax tree; `CheckpointError` listing all faults."""
    leaves = dict(flatten_dict(tree))
    faults, found = [], []
    for rule in rules:
        leaf = _as_array(leaves.pop(rule.flax_path, None))
        fault = "missing" if leaf is None else _fault_of(leaf, rule.flax_shape)
        if fault:
            faults.append(f"{fault}: {'.'.join(rule.flax_path)}")
        else:
            found.append((rule, leaf))
    faults.extend(f"unexpected: {'.'.join(map(str, path))}" for path in sorted(leaves, key=str))
    raise_faults(faults, source)
    return found


def _as_array(leaf: Any) -> np.ndarray | None:
    try:
        return None if leaf is None else np.asarray(leaf)
    except ValueError:  # nested lists of uneven lengths
        return np.empty(0, object)


def raise_faults(faults: list[str], source: str) -> None:
    """One error for all that is wrong with a checkpoint; none for no faults."""
    if faults:
        raise CheckpointError(
            f"{source}: {len(faults)} weights do not fit the model: {'; '.join(faults)}"
        )


def _keys_of_weight(key: str, available: set[str]) -> tuple[str, ...] | None:
    """The stored keys that make up the weight `key`: itself, or its gain and direction."""
    if key in available:
        return (key,)
    root, _, leaf = key.rpartition(".")
    if leaf == "weight":
        for suffixes in WEIGHT_NORM_SUFFIXES:
            keys = tuple(f"{root}.{suffix}" for suffix in suffixes)
            if available.issuperset(keys):
                return keys
    return None


def _read_leaf(
    rule: WeightRule, keys: tuple[str, ...], state: Mapping[str, np.ndarray]
) -> tuple[jax.Array | None, list[str]]:
    """As `_read_weight`, in Flax's layout and on the device."""
    weight, faults = _read_weight(rule, keys, state)
    return None if weight is None else jax.device_put(rule.to_flax(weight)), faults


def _read_weight(
    rule: WeightRule, keys: tuple[str, ...], state: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | None, list[str]]:
    """(the weight in torch's layout, no faults), or (None, what is wrong with its parts)."""
    shape = rule.torch_shape
    gain_shape = (shape[0], *(1 for _ in shape[1:]))
    shapes = (shape,) if len(keys) == 1 else (gain_shape, shape)
    arrays = [state[key] for key in keys]
    faults = [
        f"{fault}: {key}"
        for key, array, expected in zip(keys, arrays, shapes, strict=True)
        if (fault := _fault_of(array, expected))
    ]
    if faults or len(keys) == 1:
        return (None if faults else arrays[0]), faults
    weight = _fold(*arrays)
    fault = _fault_of(weight, shape)
    return (None, [f"{fault}: {rule.torch_key}, folded"]) if fault else (weight, [])


def _fold(gain: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """g * v / |v| with the norm over all axes but the first; float32.

    No epsilon, as in torch: a direction of zeros gives NaN. The first axis is the output channel of
    a convolution and the input channel of a transposed one.
    """
    direction = direction.astype(np.float64)
    norm = np.linalg.norm(direction.reshape(len(direction), -1), axis=1).reshape(gain.shape)
    with np.errstate(invalid="ignore"):
        return (gain * (direction / norm)).astype(np.float32)


def _fault_of(weight: np.ndarray, shape: tuple[int, ...]) -> str | None:
    if weight.shape != shape:
        return f"shape {weight.shape} instead of {shape}"
    if not np.issubdtype(weight.dtype, np.floating) and weight.dtype.name != "bfloat16":
        return f"dtype {weight.dtype} is not a float type"
    # The sum is finite exactly where all values are, short of an overflow of astronomic weights.
    with np.errstate(all="ignore"):
        is_finite = math.isfinite(np.sum(weight, dtype=np.float32))
    if not is_finite:
        return "NaN or infinite values"
    return None


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
