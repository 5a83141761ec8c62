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
