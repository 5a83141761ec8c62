"""Padding that depends on where a signal ends, for signals [B, T, C] of equal or mixed lengths."""

import jax
import jax.numpy as jnp
from jax import lax

from codax.configuration.conv_geometry import Conv


def needs_own_padding(conv: Conv, lengths) -> bool:
    """Whether `pad_for` has to pad, rather than the convolution itself, by a number of zeros."""
    return conv.pad_mode == "reflect" or conv.completes_stride or lengths is not None


def pad_for(conv: Conv, hidden, lengths=None):
    """[B, T, C] -> [B, T + padding, C], of which `conv`, unpadded, makes its padded output.

    lengths: int [B]; each item is padded where it ends, not where the batch does. What follows an
        item's padding is arbitrary, and is seen only by outputs beyond `conv.output_length(length)`

    Reflection mirrors about the first and the last sample. Where an item is no longer than the
    padding, it is first extended by zeros until it is, and as many samples are cut off at the end
    afterwards. Source: facebookresearch/encodec, modules/conv.py, `pad1d`.
    """
    left, right = conv.padding
    if lengths is None:
        right += _missing(conv, hidden.shape[1])
        if conv.pad_mode == "zeros":
            return _pad(hidden, left, right)
        return _reflect(hidden, left, right)
    if conv.pad_mode == "zeros":
        longest_right = right + (conv.stride - 1 if conv.completes_stride else 0)
        return _pad(without_rest(hidden, lengths), left, longest_right)
    return _reflect_each(hidden, lengths, conv)


def without_rest(hidden, lengths):
    """[B, T, C] with zeros from `lengths` int [B] on."""
    positions = jnp.arange(hidden.shape[1])[None, :, None]
    return jnp.where(positions < lengths[:, None, None], hidden, 0)


def _missing(conv: Conv, length):
    """Samples that complete the last stride."""
    return -length % conv.stride if conv.completes_stride else 0


def _pad(hidden, left: int, right: int, mode: str = "constant"):
    return jnp.pad(hidden, ((0, 0), (left, right), (0, 0)), mode)


def _reflect(hidden, left: int, right: int):
    extension = max(0, max(left, right) - hidden.shape[1] + 1)
    reflected = _pad(_pad(hidden, 0, extension), left, right, "reflect")
    return reflected[:, : reflected.shape[1] - extension]


def _reflect_each(hidden, lengths, conv: Conv):
    """As `_reflect`, for each item at its own end.

        item      [ left | signal ........ | right | (arbitrary) ]

    Only the two borders are gathered; the signal is copied once.
    """
    left, right = conv.padding
    longest_right = right + (conv.stride - 1 if conv.completes_stride else 0)
    right = right + _missing(conv, lengths)
    extended = jnp.maximum(lengths, jnp.maximum(left, right) + 1)[:, None]

    def gather(positions):
        """Samples at int [B, n] -> [B, n, C]; zeros beyond the end of the item."""
        samples = jnp.take_along_axis(hidden, positions[..., None], axis=1, mode="clip")
        return jnp.where((positions < lengths[:, None])[..., None], samples, 0)

    before = jnp.broadcast_to(jnp.arange(left, 0, -1), (len(hidden), left))
    after = lengths[:, None] + jnp.arange(longest_right)
    after = jnp.where(after < extended, after, 2 * (extended - 1) - after)
    padded = jnp.concatenate([gather(before), _pad(hidden, 0, longest_right)], axis=1)
    write = jax.vmap(lambda item, border, start: lax.dynamic_update_slice(item, border, (start, 0)))
    return write(padded, gather(after), left + lengths)
