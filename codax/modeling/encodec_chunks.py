"""EnCodec for long clips: chunks that hand the state of the LSTM on, or segments in groups.

With the 24 and 32 kHz models a chunk depends on all of the clip before it, through the LSTM. What
its convolutions see is brought along as context; the LSTM goes on from where it was, `enter`, in
the chunk before. So the numbers are those of the whole clip.

    chunk       [ context | kept                 | context ]
                     ^ enter                  ^ leave
    next                                [ context | kept ...
                                              ^ enter
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from codax.configuration.config_fields import DecodeChunks
from codax.configuration.configuration_encodec import ContextFrames
from codax.configuration.conv_geometry import Layer, Lstm, named_layers

from .chunking import Chunking, is_traced, take_span
from .lstm import LstmCarry
from .segments import overlap_added
from .windows import joined


def encode_in_chunks(
    model, audio: Any, lengths: Any, levels: int, frames: int, params: Any
) -> tuple[Any, Any]:
    """audio [B, C, T], lengths int [B] or None -> codes [S, B, K, F] and scales [S, B, 1] or None.

    frames: how many are encoded at a time
    """
    config = model.config
    hop_length, context = config.hop_length, config.encoder_context
    batch, _, length = audio.shape
    num_frames = -(-length // hop_length)
    traced = is_traced(audio, lengths, params)
    numpy = jnp if traced else np
    missing = num_frames * hop_length - length
    samples = numpy.pad(numpy.asarray(audio), ((0, 0), (0, 0), (0, missing)))
    lengths = numpy.full(batch, length) if lengths is None else lengths
    # The clip may end inside a frame, and then no chunk but the last is right up to its end.
    chunking = Chunking.exact(frames, (context.before, context.after))

    def process(state, start, following, size):
        piece = take_span(samples, start * hop_length, size * hop_length)
        own_lengths = (lengths - start * hop_length).clip(0, size * hop_length)
        carry = _carry(config.architecture.encoder, "encoder", state, start, following, context)
        carry, encoded = model._apply_carrying(
            "encode_segments",
            params,
            carry,
            piece.swapaxes(1, 2),
            own_lengths,
            num_quantizers=levels,
        )
        return _states(carry), encoded.codes

    state = _no_states(config.architecture.encoder, batch)
    run = chunking.kept_traced if traced else chunking.kept
    return numpy.concatenate([*run(process, num_frames, state=state)], axis=-1)[None], None


def decode_in_chunks(model, codes: Any, num_frames: Any, chunks: DecodeChunks, params: Any) -> Any:
    """codes int32 [B, K, F], num_frames int [B] or None -> audio float32 [B, C, T]."""
    config = model.config
    hop_length, context = config.hop_length, config.decoder_context
    batch, _, total = codes.shape
    traced = is_traced(codes, num_frames, params)
    codes = codes if traced else np.asarray(codes)
    chunking = Chunking.of(chunks, (context.before, context.after))

    def counts(start, size):
        return None if num_frames is None else (num_frames - start).clip(0, size)

    def process_alone(state, start, _, size):
        piece = take_span(codes, start, size)
        decoded = model._apply("decode_segments", params, piece, None, counts(start, size))
        return state, decoded.swapaxes(1, 2)

    def process(state, start, following, size):
        piece = take_span(codes, start, size)
        carry = _carry(config.architecture.decoder, "decoder", state, start, following, context)
        carry, decoded = model._apply_carrying(
            "decode_segments", params, carry, piece, None, counts(start, size)
        )
        return _states(carry), decoded.swapaxes(1, 2)

    exact = chunks.mode == "exact"
    state = _no_states(config.architecture.decoder, batch) if exact else None
    numpy, run = (jnp, chunking.kept_traced) if traced else (np, chunking.kept)
    kept = run(process if exact else process_alone, total, hop_length, state)
    return numpy.concatenate([*joined(kept, chunking.fade(hop_length), numpy)], axis=-1)


def encode_in_groups(
    model, audio: Any, lengths: Any, levels: int, at_once: int, params: Any
) -> tuple[Any, Any]:
    """As `encode_in_chunks`, of a model that codes segments: `at_once` of them at a time."""
    size, stride = model.config.segmenting
    samples = np.asarray(audio).swapaxes(1, 2)
    batch, length, channels = samples.shape
    lengths = np.full(batch, length) if lengths is None else lengths
    count = -(-length // stride)

    def encode(group: range) -> list[np.ndarray]:
        segments = np.zeros((at_once, batch, size, channels), np.float32)
        own_lengths = np.zeros((at_once, batch), np.int32)
        for row, row_lengths, index in zip(segments, own_lengths, group, strict=False):
            piece = samples[:, index * stride : index * stride + size]
            row[:, : piece.shape[1]] = piece
            row_lengths[:] = (lengths - index * stride).clip(0, size)
        segments = segments.reshape(-1, size, channels)
        encoded = model._apply(
            "encode_segments", params, segments, own_lengths.reshape(-1), num_quantizers=levels
        )
        arrays = [np.asarray(array) for array in encoded if array is not None]
        return [array.reshape(at_once, batch, *array.shape[1:])[: len(group)] for array in arrays]

    pieces = zip(*map(encode, _groups(count, at_once)), strict=True)
    codes, *scales = (np.concatenate(one) for one in pieces)
    return codes, scales[0] if scales else None


def decode_in_groups(
    model, codes: Any, scales: Any, num_frames: Any, at_once: int, params: Any
) -> np.ndarray:
    """codes int32 [S, B, K, F], scales float32 [S, B, 1], num_frames int [S, B] or None

    -> audio float32 [B, C, T], of segments decoded `at_once` at a time.
    """
    config = model.config
    codes = np.asarray(codes)
    count, batch, _, total = codes.shape
    frames = np.full((count, batch), total) if num_frames is None else np.asarray(num_frames)

    def fill(array: Any, group: range) -> Any:
        if array is None:
            return None
        array = np.asarray(array)[group.start : group.stop]
        missing = [(0, at_once - len(array))] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, missing).reshape(-1, *array.shape[2:])

    def decode(group: range) -> Iterator[np.ndarray]:
        pieces = (fill(array, group) for array in (codes, scales, frames))
        decoded = np.asarray(model._apply("decode_segments", params, *pieces))
        segments = decoded.reshape(at_once, batch, *decoded.shape[1:])
        return iter(segments[: len(group)].swapaxes(2, 3))

    segments = (segment for group in _groups(count, at_once) for segment in decode(group))
    return overlap_added(segments, frames * config.hop_length, config.segmenting.stride)


def _groups(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _lstm(layers: tuple[Layer, ...]) -> tuple[tuple[str, ...], Lstm]:
    """The only LSTM of a network, and its path in the tree of variables."""
    ((path, lstm),) = (
        (path, layer) for path, layer in named_layers(layers) if isinstance(layer, Lstm)
    )
    return path, lstm


def _no_states(layers: tuple[Layer, ...], batch: int) -> Any:
    _, lstm = _lstm(layers)
    return jnp.zeros((lstm.num_layers, 2, batch, lstm.size), jnp.float32)


def _carry(
    layers: tuple[Layer, ...],
    part: str,
    states: Any,
    start: Any,
    following: Any,
    context: ContextFrames,
) -> dict:
    """The collection `CARRY` for a chunk from frame `start`; the next one begins at `following`."""
    path, _ = _lstm(layers)
    enter = jnp.where(start == 0, 0, context.before_lstm)
    leave = following + context.before_lstm - start
    return unflatten_dict({(part, *path, "carry"): LstmCarry(states, enter, jnp.asarray(leave))})


def _states(carry: Any) -> Any:
    (carried,) = _leaves(carry)
    return carried.states


def _leaves(tree: Any) -> Iterator[LstmCarry]:
    if isinstance(tree, LstmCarry):
        yield tree
    else:
        for branch in tree.values():
            yield from _leaves(branch)
