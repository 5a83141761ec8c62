"""What a DAC may begin with, so that training need not find it first: a linear transform codec.

As the reference begins, signals shrink a thousandfold on their way through the networks, no
convolution knows what the others do, and a level of the quantizer adds more than it takes away.
None of this hinders long training, but the first thousands of steps of a short one are lost.

Here the networks are fitted to audio, layer by layer, so that all of them together code its
waveform. Residual units begin as little more than what bypasses them, and activations as nearly
linear; what is left are strided convolutions, one after the other:

- each of the encoder's gives the principal components of what its kernel sees (the Karhunen-Loeve
  transform, which of all linear ones keeps the most energy in so many channels);
- each level of the quantizer looks at the principal axes of what those before it left over, with
  codewords that k-means finds there by the angle;
- each of the decoder's gives, by least squares, what the encoder's of the same rate saw, and the
  last one the audio itself, from the latents as they were quantized.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from codax.configuration.conv_geometry import Conv
from codax.modeling.layers import FlaxConv, FlaxConvTranspose
from codax.modeling.quantizer import FlaxCodebook
from codax.training.ema_codebooks import draw_indices, k_means

PRECISION = lax.Precision.HIGHEST
SMALLEST = 1e-6
"""Deviation, so that all is finite where audio is silent."""

ALPHA = 0.2
"""Of all snakes, x + sin^2(alpha x) / alpha: nearly linear for signals of deviation 1."""
BRANCH = 0.1
"""Deviation of what a residual unit adds to a signal of deviation 1."""
RIDGE = 1e-4
"""Of least squares, as a share of the mean energy of what is combined; float32 allows no less."""
K_MEANS_ITERATIONS = 25
VECTORS_OF_A_CODEWORD = 16
"""Latents that each codeword is to be found from, on average."""
NETWORK_S = 60.0
"""Seconds of audio, at most, that the networks are fitted to; more makes no difference."""

Params = Mapping[str, Any]


def fit_to_audio(
    module: nn.Module, params: Params, samples: jax.Array, sampling_rate: int, key: jax.Array
) -> dict[str, Any]:
    """-> parameters of a codec that is nearly linear, fitted to audio.

    module: `FlaxDacModule`; params: its fresh ones, with plain kernels
    samples: float32 [B, 1, T], T a multiple of the hop; codebooks want `VECTORS_OF_A_CODEWORD`
        frames for each codeword
    key: of jax.random, for rotations and the codewords that k-means starts from
    """
    params = _with_alphas(params)
    signal = jnp.swapaxes(samples, 1, 2)
    few = signal[: max(1, round(NETWORK_S * sampling_rate / signal.shape[1]))]
    for_encoder, for_quantizer, for_decoder = jax.random.split(key, 3)
    encoder, seen = _fit_encoder(module, params, few, for_encoder)
    params = {**params, "encoder": encoder}
    latents: Any = lax.map(lambda item: _encoded(module, params, item[None])[0], signal)
    quantizer, quantized = fit_quantizer(params["quantizer"], latents, for_quantizer)
    targets = [latents[: len(few)], *reversed(seen), few]
    decoder = _fit_decoder(module, params, quantized[: len(few)], targets, for_decoder)
    return {**params, "quantizer": quantizer, "decoder": decoder}


def fit_quantizer(
    params: Params, latents: jax.Array, key: jax.Array
) -> tuple[dict[str, Any], jax.Array]:
    """All levels, fitted to latents; and what all of them together make of these.

    params: of `FlaxResidualVectorQuantizer`, for their shapes
    latents: float32 [B, F, D]. Of fewer frames than dimensions there are only so many axes.
    """
    vectors = residual = latents.reshape(-1, latents.shape[-1])
    fitted = {}
    for level in range(len(params)):
        name = f"quantizers_{level}"
        size, dim = params[name]["codebook"]["embedding"].shape
        fitted[name], quantized = _fit_level(residual, size, dim, jax.random.fold_in(key, level))
        residual = residual - quantized
    return fitted, (vectors - residual).reshape(latents.shape)


def _fit_level(
    vectors: jax.Array, size: int, dim: int, key: jax.Array
) -> tuple[dict[str, Any], jax.Array]:
    """A level that quantizes float32 [M, D], and what it makes of them.

    What it looks at has a deviation of 1 along the first axis, and less along the others.
    """
    mean = jnp.mean(vectors, axis=0)
    centred = vectors - mean
    energies, axes = _principal_axes(_product(centred.T, centred) / len(centred), dim)
    scale = jnp.maximum(jnp.sqrt(jnp.maximum(energies[0], 0)), SMALLEST)
    down, up = axes / scale, (axes * scale).T
    projected = _product(centred, down)
    drawn = draw_indices(key, jnp.ones(len(projected), bool), size)
    codewords, _ = k_means(projected, projected[drawn], K_MEANS_ITERATIONS, _nearest_by_angle)
    quantized = _product(codewords[_nearest_by_angle(codewords, projected)], up) + mean
    return {
        "codebook": {"embedding": codewords},
        "in_proj": {"kernel": down[None], "bias": -_product(mean, down)},
        "out_proj": {"kernel": up[None], "bias": mean},
    }, quantized


def _nearest_by_angle(codewords: jax.Array, vectors: jax.Array) -> jax.Array:
    """Float32 [N, d] and [M, d] -> int32 [M], as the model itself decides."""
    codebook = FlaxCodebook(len(codewords), codewords.shape[1], PRECISION)
    params = {"params": {"embedding": codewords}}
    codes: Any = codebook.apply(params, vectors[None], method="nearest")
    return codes[0]


def _fit_encoder(
    module: nn.Module, params: Params, signal: jax.Array, key: jax.Array
) -> tuple[dict[str, Any], list[jax.Array]]:
    """Its parameters, and what each of its strided convolutions sees, float32 [B, T, C]."""
    seen = []

    def principal(conv: Conv, hidden: jax.Array) -> jax.Array:
        """[K * C_in, C_out], rotated, so that all channels are about as loud."""
        _, axes = _principal_axes(_patch_energy(conv, hidden), conv.out_channels)
        count = axes.shape[1]
        return _product(axes, _rotation(jax.random.fold_in(key, len(seen)), count, count))

    def kernel_of(conv, is_last, hidden, fresh):
        if conv.stride > 1:
            seen.append(hidden)
            fresh = principal(conv, hidden).reshape(fresh.shape)
        elif is_last:
            components = principal(Conv("", conv.in_channels, conv.out_channels, 1), hidden)
            wide = jnp.zeros_like(fresh[0]).at[:, : components.shape[1]].set(components)
            fresh = jnp.zeros_like(fresh).at[conv.kernel_size // 2].set(wide)
        return fresh, _deviation_of(conv)

    encoder = _fit_convolutions(module, params, "encoder", signal, kernel_of)
    return encoder, seen


def _fit_decoder(
    module: nn.Module, params: Params, latents: jax.Array, targets: list[jax.Array], key: jax.Array
) -> dict[str, Any]:
    """targets: what its convolutions are to give that are in no residual unit, first to last."""
    left = list(targets)

    def kernel_of(conv, is_last, hidden, fresh):
        is_first = len(left) == len(targets)
        if not (conv.transposed or is_first or is_last):
            return fresh, _deviation_of(conv)
        target = left.pop(0)
        if not is_last:
            turned = _rotation(
                jax.random.fold_in(key, len(left)), target.shape[-1], conv.out_channels
            )
            target = _product(target, turned)
            target = target / jnp.maximum(jnp.std(target), SMALLEST)
        return _least_squares(conv, hidden, target).reshape(fresh.shape), None

    return _fit_convolutions(module, params, "decoder", latents, kernel_of)


def _fit_convolutions(
    module: nn.Module, params: Params, name: str, inputs: jax.Array, kernel_of: Callable
) -> dict[str, Any]:
    """The parameters of one of the networks.

    kernel_of(conv, is_last, hidden, fresh kernel): the kernel, and the deviation that it is to be
        scaled to; None to leave it as it is
    """
    leaves: dict[tuple[str, ...], Any] = dict(flatten_dict(params[name]))

    def fitted(call, arguments, options, context):
        layer = context.module
        if not isinstance(layer, FlaxConv | FlaxConvTranspose) or not layer.path:
            return call(*arguments, **options)
        path, hidden = layer.path[1:], arguments[0]
        kernel, deviation = kernel_of(
            layer.conv, path == ("conv2",), hidden, leaves[*path, "kernel"]
        )
        plain = layer.clone(parent=None)  # bound to nothing, so not fitted again
        variables = {"params": {"kernel": kernel, "bias": leaves[*path, "bias"]}}
        outputs: Any = plain.apply(variables, hidden)
        scale = 1.0
        if deviation is not None:
            scale = deviation / jnp.maximum(jnp.std(outputs), SMALLEST)
        leaves[*path, "kernel"] = kernel * scale
        return outputs * scale  # there is no bias yet

    with nn.intercept_methods(fitted):
        module.apply(
            {"params": params}, inputs, method=lambda self, inputs: getattr(self, name)(inputs)
        )
    return unflatten_dict(leaves)


def _deviation_of(conv: Conv) -> float:
    """What a convolution is to give; those of one tap end residual units."""
    return BRANCH if conv.kernel_size == 1 else 1.0


def _with_alphas(params: Params) -> dict[str, Any]:
    leaves: dict[tuple[str, ...], Any] = dict(flatten_dict(params))
    alphas = {path: jnp.full_like(leaf, ALPHA) for path, leaf in leaves.items() if "alpha" in path}
    return unflatten_dict({**leaves, **alphas})


def _encoded(module: nn.Module, params: Params, signal: jax.Array) -> Any:
    return module.apply(
        {"params": params}, signal, method=lambda self, inputs: self.encoder(inputs)
    )


def _principal_axes(energy: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Of a matrix [D, D]: energies [N] and axes [D, N], at most `count`, the strongest first."""
    energies, axes = jnp.linalg.eigh(energy)  # ascending
    return energies[::-1][:count], axes[:, ::-1][:, :count]


def _rotation(key: jax.Array, rows: int, columns: int) -> jax.Array:
    """Float32 [rows, columns], at random, with orthonormal rows or columns, whichever are fewer."""
    drawn = jax.random.normal(key, (max(rows, columns), min(rows, columns)))
    orthonormal, _ = jnp.linalg.qr(drawn)
    return orthonormal if rows >= columns else orthonormal.T


def _patch_energy(conv: Conv, hidden: jax.Array) -> jax.Array:
    """The sum of outer products of what a kernel sees at each place: float32 [K * C, K * C]."""

    def added(total, item):
        patches = _patches(conv, item)
        return total + _product(patches.T, patches), None

    size = conv.kernel_size * conv.in_channels
    total, _ = lax.scan(added, jnp.zeros((size, size)), hidden)
    return total


def _least_squares(conv: Conv, hidden: jax.Array, target: jax.Array) -> jax.Array:
    """The kernel [K * C_in, C_out] that makes of hidden [B, T, C_in] the most of a target.

    Of a transposed convolution the kernel of two frames, [2 * C_in, stride * C_out], for frames
    that are not at the ends.
    """
    framed = _of_frames(conv) if conv.transposed else conv
    length = framed.output_length(hidden.shape[1])
    if conv.transposed:
        before = conv.padding[0]
        missing = max(0, length * conv.stride - before - target.shape[1])
        target = jnp.pad(target, ((0, 0), (before, missing), (0, 0)))
        target = target[:, : length * conv.stride]
        target = target.reshape(len(target), length, framed.out_channels)
    ends = 1 if conv.transposed else 0

    def added(totals, item_and_target):
        item, aim = item_and_target
        patches = _patches(framed, item)[ends : length - ends]
        energy, products = totals
        aim = aim[ends : length - ends]
        return (energy + _product(patches.T, patches), products + _product(patches.T, aim)), None

    size = framed.kernel_size * framed.in_channels
    none = jnp.zeros((size, size)), jnp.zeros((size, framed.out_channels))
    (energy, products), _ = lax.scan(added, none, (hidden, target[:, :length]))
    energies, axes = jnp.linalg.eigh(energy)
    ridge = RIDGE * jnp.mean(energies) + SMALLEST
    return _product(axes, _product(axes.T, products) / (jnp.maximum(energies, 0) + ridge)[:, None])


def _of_frames(conv: Conv) -> Conv:
    """A transposed convolution as one over frames (see `FlaxConvTranspose`)."""
    return Conv(conv.name, conv.in_channels, conv.stride * conv.out_channels, 2, padding=(1, 1))


def _patches(conv: Conv, item: jax.Array) -> jax.Array:
    """What the kernel sees at each place: [T, C] -> [T', K * C]."""
    padded = jnp.pad(item, (conv.padding, (0, 0)))
    length = conv.output_length(len(item))
    reach = (length - 1) * conv.stride + 1
    starts = range(0, conv.span + 1, conv.dilation)
    taps = [padded[start : start + reach : conv.stride] for start in starts]
    return jnp.concatenate(taps, axis=1)


def _product(one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.matmul(one, other, precision=PRECISION)
