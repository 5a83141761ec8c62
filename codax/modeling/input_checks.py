"""What every codec checks of the arrays that it is given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .devices import on_host


def checked_audio(input_values: Any, channels: int, shortest: int, hint: str) -> Any:
    """Floats [B, channels, T] with T at least `shortest`; `ValueError` for anything else.

    hint: what to do about another number of channels.
    -> what is on the host stays there, so that a long clip need not fit on a device.
    """
    audio = input_values if isinstance(input_values, jax.Array) else np.asarray(input_values)
    if audio.dtype == np.float64:
        audio = audio.astype(np.float32)
    if audio.ndim != 3 or audio.shape[1] != channels:
        raise ValueError(
            f"input_values has shape {audio.shape}; expected [batch, {channels}, samples] ({hint})"
        )
    if not jnp.issubdtype(audio.dtype, jnp.floating):
        raise ValueError(
            f"input_values has dtype {audio.dtype}; expected floats in [-1, 1] (the feature "
            "extractor scales integer PCM)"
        )
    if audio.shape[0] < 1 or audio.shape[-1] < shortest:
        raise ValueError(
            f"input_values has shape {audio.shape}; expected at least one item and {shortest} "
            "samples (the feature extractor pads to whole frames)"
        )
    return audio


def checked_codes(audio_codes: Any, axes: str, most: int, size: int) -> Any:
    """int32 [..., K, F] with K at most `most` and codes below `size`; `ValueError` otherwise.

    Codes are on the host then, unless they are traced.

    axes: the names of the axes before K, for messages: "batch", or "segments, batch". The values of
    traced codes cannot be checked.
    """
    is_traced = isinstance(audio_codes, Tracer)
    codes = audio_codes if is_traced else on_host(audio_codes)
    dimensions = 3 + axes.count(",")
    if codes.ndim != dimensions or not 1 <= codes.shape[-2] <= most or 0 in codes.shape:
        raise ValueError(
            f"audio_codes has shape {codes.shape}; expected [{axes}, 1 to {most}, frames]"
        )
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        raise ValueError(f"audio_codes has dtype {codes.dtype}; expected integers")
    if not is_traced and (codes.min() < 0 or codes.max() >= size):
        raise ValueError(
            f"audio_codes reach from {codes.min()} to {codes.max()}, not 0 to {size - 1}"
        )
    return codes.astype(jnp.int32)


def checked_counts(name: str, counts: Any, batch: int) -> np.ndarray:
    """Whole numbers: one, or one for each item, [batch]; `ValueError` for anything else."""
    if isinstance(counts, Tracer):
        raise ValueError(f"{name} is traced, but decides shapes: give padding_mask or num_frames")
    given = np.asarray(counts)
    if not np.issubdtype(given.dtype, np.integer) or given.shape not in ((), (batch,)):
        raise ValueError(f"{name}={counts!r} must be an integer, or {batch} of them, for each item")
    return given


def checked_frames(num_frames: Any, shape: tuple[int, ...], size: int) -> Any:
    """Integers of this shape from 0 to `size`, unless they are traced; `ValueError` otherwise.

    None, for all frames, stays None.
    """
    if num_frames is None:
        return None
    is_traced = isinstance(num_frames, Tracer)
    frames = num_frames if is_traced else np.asarray(num_frames)
    if frames.shape != shape or not jnp.issubdtype(frames.dtype, jnp.integer):
        raise ValueError(
            f"num_frames has shape {frames.shape} and dtype {frames.dtype}; expected integers "
            f"{shape}"
        )
    if not is_traced and not ((frames >= 0) & (frames <= size)).all():
        raise ValueError(
            f"num_frames reach from {frames.min()} to {frames.max()}; expected 0 to {size}"
        )
    return frames


def lengths_of_mask(padding_mask: Any, batch: int, length: int) -> Any:
    """[B, T] or [B, C, T], 1 where there is audio -> int32 [B], a NumPy array unless it is traced.

    `ValueError` for another shape, and for padding that is not on the right.
    """
    is_traced = isinstance(padding_mask, Tracer)
    mask = padding_mask if is_traced else np.asarray(padding_mask)
    if mask.ndim not in (2, 3) or (mask.shape[0], mask.shape[-1]) != (batch, length):
        raise ValueError(
            f"padding_mask has shape {mask.shape}; expected [{batch}, {length}] or "
            f"[{batch}, channels, {length}]"
        )
    mask = mask.astype(bool).reshape(batch, -1, length)
    lengths = mask[:, 0].sum(axis=-1).astype(np.int32)
    if not is_traced and (mask != (np.arange(length) < lengths[:, None, None])).any():
        raise ValueError("padding_mask must be 1 up to where a clip ends, and 0 from there on")
    return lengths
