"""Weight normalisation of a tree of parameters, outside the modules (Salimans & Kingma 2016).

Modules have plain kernels. Training keeps {"gain", "direction"} in the place of a kernel:

    kernel = gain * direction / |direction|

with the norm over all axes of torch's kernel but its first: the output channels of a convolution,
the input channels of a transposed one (torch.nn.utils.parametrizations.weight_norm). There is no
epsilon, as in torch: a direction of zeros gives NaN.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from codax.configuration.configuration_dac import DacConfig
from codax.configuration.configuration_encodec import EncodecConfig
from codax.modeling.weight_table import (
    CONV_TRANSPOSE,
    WeightRule,
    dac_weight_rules,
    encodec_weight_rules,
)

PARTS = {"gain", "direction"}


def training_weight_rules(config: DacConfig | EncodecConfig) -> tuple[WeightRule, ...]:
    """The model's weight rules, whose `weight_norm` says how the references train each kernel.

    DAC trains all its convolutions with weight norm, those of the quantizer too; transformers'
    layout, which its table describes, has them folded. EnCodec's table says it as it is: none
    where `norm_type` is "time_group_norm".

    Raises `ValueError` for the configuration of another model.
    """
    if isinstance(config, DacConfig):
        rules = dac_weight_rules(config.architecture)
        return tuple(replace(rule, weight_norm=rule.flax_path[-1] == "kernel") for rule in rules)
    if isinstance(config, EncodecConfig):
        return encodec_weight_rules(config.architecture)
    raise ValueError(f"config must be a DacConfig or EncodecConfig; got {type(config).__name__}")


def split_kernels(params: Mapping[str, Any], rules: Iterable[WeightRule]) -> dict[str, Any]:
    """Put {"gain", "direction"} in the place of every kernel whose rule says `weight_norm`.

    The direction is the kernel itself and the gain its norm, float32, of the kernel's number of
    axes: 1 along those that the norm is taken over. `merge_kernels` gives the kernels back. This
    is what torch starts from too.

    Raises `ValueError` that names a kernel which is not in the tree.
    """
    leaves: dict[tuple[str, ...], Any] = dict(flatten_dict(params))
    for rule in rules:
        if not rule.weight_norm:
            continue
        if rule.flax_path not in leaves:
            raise ValueError(f"params must have the kernel {'.'.join(rule.flax_path)}")
        kernel = leaves.pop(rule.flax_path)
        leaves[*rule.flax_path, "gain"] = _norm(kernel, _normalised_axes(rule))
        leaves[*rule.flax_path, "direction"] = kernel
    return unflatten_dict(leaves)


def merge_kernels(params: Mapping[str, Any]) -> dict[str, Any]:
    """Put the kernel in the place of every {"gain", "direction"}; differentiable."""
    return {
        name: _merged(branch) if isinstance(branch, Mapping) else branch
        for name, branch in params.items()
    }


def _merged(branch: Mapping[str, Any]) -> Any:
    if set(branch) != PARTS:
        return merge_kernels(branch)
    gain, direction = branch["gain"], branch["direction"]
    # The gain's own axis may be of size 1 too: the norm over it changes nothing.
    axes = tuple(axis for axis, size in enumerate(gain.shape) if size == 1)
    return direction * (gain / _norm(direction, axes))


def _norm(direction: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(direction), axis=axes, keepdims=True))


def _normalised_axes(rule: WeightRule) -> tuple[int, ...]:
    """All but torch's first: [2, C_in, s * C_out] of a transposed convolution, else C_out last."""
    last = len(rule.flax_shape) - 1
    gain_axis = 1 if rule.layout is CONV_TRANSPOSE else last
    return tuple(axis for axis in range(last + 1) if axis != gain_axis)
