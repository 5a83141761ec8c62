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
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from codax.configuration.config_fields import DecodeChunks
from codax.configuration.configuration_encodec import ContextFrames
from codax.configuration.conv_geometry import Layer, Lstm, named_layers

from .chunking import Chunking, is_traced, one_ahead, take_counts, take_spans
from .devices import on_host
from .lstm import LstmCarry
from .segments import OverlapAdd
from .windows import joined

PARTS_OF_SEGMENT = (8, 4, 2, 1)
"""Of a clip's last segment, which may be short, such a part is coded, rather than all of it."""

PREFIX_FRAMES = 512
"""Frames at a time of what is run through for the LSTM's state alone."""


@dataclass(frozen=True)
class CarriedPart:
    """The encoder or decoder of an EnCodec model as it runs over the chunks of a clip."""

    model: Any
    is_encoder: bool

    @property
    def context(self) -> ContextFrames:
        """Frames that a chunk needs beside it."""
        config = self.model.config
        return config.encoder_context if self.is_encoder else config.decoder_context

    @cached_property
    def _lstm(self) -> tuple[tuple[str, ...], Lstm]:
        """The path of the only LSTM in the tree of variables."""
        architecture = self.model.module.architecture
        name = "encoder" if self.is_encoder else "decoder"
        layers: tuple[Layer, ...] = getattr(architecture, name)
        ((path, lstm),) = (
            (path, layer) for path, layer in named_layers(layers) if isinstance(layer, Lstm)
        )
        return (name, *path), lstm

    def no_states(self, batch: int) -> jax.Array:
        """Of the LSTM before the first chunk: float32 [layers, 2, B, C]."""
        _, lstm = self._lstm
        return jnp.zeros((lstm.num_layers, 2, batch, lstm.size), jnp.float32)

    def encode(
        self, states: Any, start: Any, following: Any, audio: Any, lengths: Any, levels: int, params
    ) -> tuple[Any, Any]:
        """One chunk, audio [B, C, T] with `lengths` int [B] -> (states, codes [B, K, F]).

        It begins at frame `start` of the clip, the next one at frame `following`, whose states are
        given back. A chunk from the beginning of the clip takes no states.
        """
        return self._run(
            "encode_codes",
            states,
            start,
            following,
            params,
            audio.swapaxes(1, 2),
            lengths,
            num_quantizers=levels,
        )

    def decode(
        self, states: Any, start: Any, following: Any, codes: Any, num_frames: Any, params
    ) -> tuple[Any, Any]:
        """One chunk likewise, codes [B, K, F], int [B] -> (states, audio [B, C, T])."""
        states, samples = self._run(
            "decode_segments", states, start, following, params, codes, None, num_frames
        )
        return states, samples.swapaxes(1, 2)

    def states_at(self, frame: int, codes: Any, params: Any) -> Any:
        """The decoder's states for a chunk that begins at `frame`: its LSTM runs up to there."""
        states = self.no_states(len(codes))
        # Up to where the state is kept, the LSTM's inputs must be right.
        step = PREFIX_FRAMES - self.context.before_lstm - self.context.after
        for start in range(0, frame, step):
            # What is filled up lies behind the frames before which states are kept.
            piece = take_spans(codes, [start], PREFIX_FRAMES)
            missing = PREFIX_FRAMES - piece.shape[-1]
            piece = np.pad(piece, ((0, 0), (0, 0), (0, missing)))
            following = min(start + step, frame)
            states, _ = self._run("decode_no_audio", states, start, following, params, piece)
        return states

    def _run(
        self, method: str, states: Any, start: Any, following: Any, params: Any, *arrays, **options
    ) -> tuple[Any, Any]:
        path, _ = self._lstm
        before_lstm = self.context.before_lstm
        is_first = start == 0
        carry = LstmCarry(
            states=jnp.where(is_first, 0.0, states),
            enter=jnp.where(is_first, 0, before_lstm),
            leave=jnp.asarray(following + before_lstm - start),
        )
        variables = unflatten_dict({(*path, "carry"): carry})
        variables, result = self.model._apply_carrying(
            method, params, variables, *arrays, **options
        )
        for name in (*path, "carry"):
            variables = variables[name]
        return variables.states, result


def encode_in_chunks(
    model, audio: Any, lengths: Any, levels: int, frames: int, params: Any
) -> tuple[Any, Any]:
    """audio [B, C, T], lengths int [B] or None -> codes [S, B, K, F] and scales [S, B, 1] or None.

    frames: how many are encoded at a time
    """
    part = CarriedPart(model, is_encoder=True)
    hop_length = model.config.hop_length
    batch, _, length = audio.shape
    num_frames = -(-length // hop_length)
    traced = is_traced(audio, lengths, params)
    numpy = jnp if traced else np
    missing = num_frames * hop_length - length
    samples = numpy.pad(audio if traced else on_host(audio), ((0, 0), (0, 0), (0, missing)))
    lengths = numpy.full(batch, length) if lengths is None else lengths
    # The clip may end inside a frame, and then no chunk but the last is right up to its end.
    chunking = Chunking.exact(frames, (part.context.before, part.context.after))

    def process(states, starts, following, size):
        (start,) = starts
        piece = take_spans(samples, [start * hop_length], size * hop_length)
        own_lengths = take_counts(lengths, [start * hop_length], size * hop_length)
        return part.encode(states, start, following, piece, own_lengths, levels, params)

    run = chunking.kept_traced if traced else chunking.kept
    kept = run(process, num_frames, state=part.no_states(batch))
    return numpy.concatenate([*kept], axis=-1)[None], None


def decode_in_chunks(
    model,
    codes: Any,
    num_frames: Any,
    chunks: DecodeChunks,
    params: Any,
    span: tuple[int, int] | None = None,
) -> Iterator[Any]:
    """codes int32 [B, K, F], num_frames int [B] or None -> pieces of audio float32 [B, C, T].

    span: the frames whose audio is wanted, if not all
    """
    if span is not None and span[0] >= span[1]:
        return iter(())
    part = CarriedPart(model, is_encoder=False)
    hop_length = model.config.hop_length
    batch, _, total = codes.shape
    traced = is_traced(codes, num_frames, params)
    codes = codes if traced else on_host(codes)
    chunking = Chunking.of(chunks, (part.context.before, part.context.after))
    exact = chunks.mode == "exact"

    def process(states, starts, following, size):
        pieces = take_spans(codes, starts, size)
        counts = take_counts(num_frames, starts, size)
        if exact:
            (start,) = starts
            return part.decode(states, start, following, pieces, counts, params)
        samples = model._apply("decode_segments", params, pieces, None, counts)
        return states, samples.swapaxes(1, 2)

    if traced:
        state = part.no_states(batch) if exact else None
        kept = chunking.kept_traced(process, total, hop_length, state)
        return joined(kept, chunking.fade(hop_length), jnp)
    state = None
    if exact:
        first = next(chunking.windows(total, span)).start
        state = part.states_at(first, codes, params)
    at_once = 1 if exact else model.chunks_at_once(batch, params)
    kept = chunking.kept(process, total, hop_length, state, at_once, span)
    return joined(kept, chunking.fade(hop_length))


def encode_in_groups(
    model, audio: Any, lengths: Any, levels: int, at_once: int, params: Any
) -> tuple[Any, Any]:
    """As `encode_in_chunks`, of a model that codes segments: `at_once` of them at a time."""
    size, stride = model.config.segmenting
    samples = on_host(audio)
    batch, channels, length = samples.shape
    lengths = np.full(batch, length) if lengths is None else lengths
    count = -(-length // stride)

    def encoded() -> Iterator[tuple[range, Any]]:
        for group in _groups(count, at_once):
            own_lengths = np.zeros((at_once, batch), np.int32)
            starts = np.arange(group.start, group.stop) * stride
            own_lengths[: len(group)] = (lengths - starts[:, None]).clip(0, size)
            fitting = _fitting(own_lengths.max(), size)
            segments = np.zeros((at_once, batch, channels, fitting), np.float32)
            for row, start in zip(segments, starts, strict=False):
                piece = samples[..., start : start + fitting]
                row[..., : piece.shape[-1]] = piece
            segments = segments.reshape(-1, channels, fitting).swapaxes(1, 2)
            arrays = segments, _unless_all(own_lengths.reshape(-1), size)
            options = {"num_quantizers": levels}
            yield group, model._apply("encode_segments", params, *arrays, **options)

    longest = model.config.encoded_length(min(size, length))
    pieces = []
    for group, (codes, scales) in one_ahead(encoded()):
        arrays = [_fitted(on_host(codes), longest)]
        arrays += [] if scales is None else [on_host(scales)]
        pieces.append([a.reshape(at_once, batch, *a.shape[1:])[: len(group)] for a in arrays])
    codes, *scales = (np.concatenate(one) for one in zip(*pieces, strict=True))
    return codes, scales[0] if scales else None


def decode_in_groups(
    model,
    codes: Any,
    scales: Any,
    num_frames: Any,
    at_once: int,
    params: Any,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """codes int32 [S, B, K, F], scales float32 [S, B, 1], num_frames int [S, B] or None

    -> pieces of audio float32 [B, C, T], of segments decoded `at_once` at a time.

    first: the segment with which the audio begins; those that reach into it are decoded too
    """
    config, stride = model.config, model.config.segmenting.stride
    codes = on_host(codes)
    count, batch, _, total = codes.shape
    frames = np.full((count, batch), total) if num_frames is None else np.asarray(num_frames)
    skipped = max(first - (config.segmenting.length - 1) // stride, 0)
    longest = config.encoded_length(config.segmenting.length)

    def fill(array: Any, group: range) -> Any:
        if array is None:
            return None
        array = on_host(array)[group.start : group.stop]
        missing = [(0, at_once - len(array))] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, missing).reshape(-1, *array.shape[2:])

    def decoded() -> Iterator[tuple[range, Any]]:
        for group in _groups(count, at_once, skipped):
            own_codes, own_scales, own_frames = (
                fill(array, group) for array in (codes, scales, frames)
            )
            fitting = _fitting(own_frames.max(), longest)
            arrays = _fitted(own_codes, fitting), own_scales, _unless_all(own_frames, longest)
            yield group, model._apply("decode_segments", params, *arrays)

    def segments() -> Iterator[np.ndarray]:
        for group, samples in one_ahead(decoded()):
            fetched = _fitted(on_host(samples).swapaxes(1, 2), total * config.hop_length)
            yield from fetched.reshape(at_once, batch, *fetched.shape[1:])[: len(group)]

    lengths = frames * config.hop_length
    adding = OverlapAdd(stride, lengths[0])
    left = (count - 1 - first) * stride + total * config.hop_length
    for index, segment in enumerate(segments(), start=skipped):
        piece = adding.push(segment, lengths[index])
        if index >= first:
            yield piece[..., :left]
            left -= min(left, stride)
    yield adding.flush()[..., :left]


def _fitting(length: int, longest: int) -> int:
    """Of few sizes, each of which is a program, the least that holds `length`; else `length`."""
    sizes = (-(-longest // parts) for parts in PARTS_OF_SEGMENT)
    return next((size for size in sizes if size >= length), length)


def _fitted(array: np.ndarray, size: int) -> np.ndarray:
    """[..., n] -> [..., size], cut off or filled up with zeros."""
    missing = max(size - array.shape[-1], 0)
    return np.pad(array[..., :size], [*[(0, 0)] * (array.ndim - 1), (0, missing)])


def _unless_all(lengths: np.ndarray, longest: int) -> np.ndarray | None:
    """None where all segments are whole: the network is faster where it need not mask."""
    return None if (lengths == longest).all() else lengths


def _groups(count: int, size: int, first: int = 0) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(first, count, size))
