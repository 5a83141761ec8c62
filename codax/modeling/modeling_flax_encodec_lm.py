"""The language model of EnCodec's `.ecdc` files in Flax (Défossez et al. 2022, section 3.3).

Source: facebookresearch/encodec, model.py (`LMModel`) and modules/transformer.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from codax.configuration.configuration_encodec_lm import EncodecLmArchitecture
from codax.errors import FormatError

NO_CODE = -1
"""In place of the codes before the first frame."""

LONGEST_PERIOD = 10_000  # frames, over 2 pi, of the slowest wave that tells positions apart


@dataclass(frozen=True)
class EncodecLm:
    """A language model and its weights.

    model: name of the codec's model whose codes it predicts, "encodec_24khz" or "encodec_48khz"
    params: of `FlaxEncodecLmModule`, float32
    """

    model: str
    architecture: EncodecLmArchitecture
    params: Mapping

    def check_codes_of(self, model: str, num_codebooks: int) -> None:
        """Raise `FormatError` for a file whose codes, by its header, are not of this kind."""
        if model != self.model:
            raise FormatError(f"m is {model}, but the language model given is for {self.model}")
        if num_codebooks > self.architecture.num_codebooks:
            raise FormatError(
                f"nc is {num_codebooks}, but the language model given knows "
                f"{self.architecture.num_codebooks} codebooks"
            )


class LmState(NamedTuple):
    """What the frames so far leave behind, in slots, the oldest first.

    filled: bool [S], which slots hold anything
    keys, values: for each layer float32 [B, heads, head_dim, S], of its past inputs
    """

    filled: jax.Array
    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


class FlaxEncodecLmModule(nn.Module):
    """Probabilities of each frame's codes, given the codes of the frames before it. All in float32.

    In two forms, of all frames at once and of one frame after the other. They give the same up to
    rounding, not the same bits: on a CPU 98 of 100 probabilities differ, by up to 2e-5 of their
    value, and with them all tables of the arithmetic coder. So whoever codes with the one cannot
    decode with the other. A decoder has no choice, hence `step` is what writes and reads files, and
    `__call__`, 5 to 20 times as fast, serves to estimate sizes and to compare models.

    A stream may use fewer codebooks than there are: then the first ones, as if there were no more.
    """

    architecture: EncodecLmArchitecture
    precision: lax.Precision = lax.Precision.HIGHEST

    def setup(self):
        architecture = self.architecture
        entries, dim = architecture.codebook_size, architecture.dim
        codebooks = range(architecture.num_codebooks)
        self.embeddings = [nn.Embed(1 + entries, dim) for _ in codebooks]
        self.input_norm = _layer_norm()
        self.layers = [
            FlaxEncodecLmLayer(architecture, self.precision) for _ in range(architecture.num_layers)
        ]
        self.heads = [nn.Dense(entries, precision=self.precision) for _ in codebooks]

    def __call__(self, codes):
        """All frames of a stream: codes int [B, K, F] -> float32 [B, K, F, N], N entries.

        Frame f's are those of its codes given the frames before f. Takes memory for F^2 numbers.
        """
        before = jnp.full_like(codes[..., :1], NO_CODE)
        previous = jnp.concatenate([before, codes[..., :-1]], axis=-1)
        position = position_embedding(0, codes.shape[-1], self.architecture.dim)
        probabilities, _ = self._advance(self._start(len(codes), 1), previous, position)
        return probabilities

    def initial_state(self, batch_size: int) -> LmState:
        """What `step` begins a stream with: as many slots as a frame is compared with."""
        return self._start(batch_size, self.architecture.past_context)

    def step(self, state: LmState, previous, position):
        """One frame -> its probabilities float32 [B, K, N], and the state for the next.

        previous: int [B, K], the codes of the frame before it, or `NO_CODE`s
        position: float32 [1, D], `position_embedding` of the frame's number
        """
        probabilities, state = self._advance(state, previous[..., None], position)
        return probabilities[..., 0, :], state

    def _start(self, batch_size: int, num_slots: int) -> LmState:
        """One slot is filled, with an input of zeros.

        The original begins with such an input for each layer, and compares frames with it as with
        any other: its key and value are the biases.
        """
        zeros = jnp.zeros((batch_size, num_slots, self.architecture.dim), jnp.float32)
        projected = [layer.project(zeros) for layer in self.layers]
        return LmState(
            filled=jnp.arange(num_slots) == num_slots - 1,
            keys=tuple(keys for _, keys, _ in projected),
            values=tuple(values for _, _, values in projected),
        )

    def _advance(self, state: LmState, previous, position):
        """F frames -> probabilities float32 [B, K, F, N], and a state of as many slots as before.

        previous: int [B, K, F], codes of the frame before each. position: float32 [F, D].

        Every layer compares a frame with its own input and, back to `past_context`, with those
        before it. Of frames x3 to x5, where 0 is the input of zeros, and `.` an empty slot:

                              slots           frames
            inputs      [ .  0  x0  x1  x2 ]  x3  x4  x5
            age for x4    6  5   4   3   2     1   0  -1     visible: 0 <= age <= past_context
        """
        num_slots, num_frames = len(state.filled), previous.shape[-1]
        filled = jnp.concatenate([state.filled, jnp.ones(num_frames, bool)])
        age = num_slots + np.arange(num_frames)[:, None] - np.arange(num_slots + num_frames)
        visible = filled & (age >= 0) & (age <= self.architecture.past_context)
        num_codebooks = previous.shape[1]
        levels = zip(self.embeddings[:num_codebooks], previous.swapaxes(0, 1), strict=True)
        embedded = [embedding(1 + codes) for embedding, codes in levels]
        hidden = self.input_norm(sum(embedded)) + position
        all_keys, all_values = [], []
        for layer, keys, values in zip(self.layers, state.keys, state.values, strict=True):
            hidden, keys, values = layer(hidden, keys, values, visible)
            all_keys.append(keys[..., -num_slots:])
            all_values.append(values[..., -num_slots:])
        logits = jnp.stack([head(hidden) for head in self.heads[:num_codebooks]], axis=1)
        state = LmState(filled[-num_slots:], tuple(all_keys), tuple(all_values))
        return jax.nn.softmax(logits, axis=-1), state


class FlaxEncodecLmLayer(nn.Module):
    """A transformer layer that looks back, normalised after each half (Vaswani et al. 2017).

    The original keeps a layer's past inputs, and projects them anew for every frame; here their
    projections are kept.
    """

    architecture: EncodecLmArchitecture
    precision: lax.Precision

    def setup(self):
        architecture = self.architecture
        self.query_key_value = self._dense(3 * architecture.dim)
        self.attention_output = self._dense(architecture.dim)
        self.attention_norm = _layer_norm()
        self.expansion = self._dense(architecture.feed_forward_dim)
        self.contraction = self._dense(architecture.dim)
        self.feed_forward_norm = _layer_norm()

    def __call__(self, hidden, keys, values, visible):
        """F frames [B, F, D] -> [B, F, D], and the keys and values, theirs appended.

        keys, values: [B, heads, head_dim, S], of S inputs before. visible: bool [F, S + F], which
        of the S + F inputs each frame is compared with; it is one of them.
        """
        query, key, value = self.project(hidden)
        keys = jnp.concatenate([keys, key], axis=-1)
        values = jnp.concatenate([values, value], axis=-1)
        query = query * np.float32(self.architecture.head_dim**-0.5)
        scores = jnp.einsum("bhdq,bhdk->bhqk", query, keys, precision=self.precision)
        shares = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)
        attended = jnp.einsum("bhqk,bhdk->bqhd", shares, values, precision=self.precision)
        attended = self.attention_output(attended.reshape(hidden.shape))
        hidden = self.attention_norm(hidden + attended)
        widened = jax.nn.gelu(self.expansion(hidden), approximate=False)
        return self.feed_forward_norm(hidden + self.contraction(widened)), keys, values

    def project(self, hidden):
        """[B, F, D] -> queries, keys and values, each [B, heads, head_dim, F].

        Frames are last, since a head's width is no multiple of what processors take at once.
        """
        heads = (self.architecture.num_heads, self.architecture.head_dim)
        parts = jnp.split(self.query_key_value(hidden), 3, axis=-1)
        return [part.reshape(*hidden.shape[:2], *heads).transpose(0, 2, 3, 1) for part in parts]

    def _dense(self, width: int) -> nn.Dense:
        return nn.Dense(width, precision=self.precision)


def _layer_norm() -> nn.LayerNorm:
    """torch's: the variance of what is left over from the mean."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)


def position_embedding(first: int, count: int, dim: int) -> np.ndarray:
    """Cosines, then sines, of the numbers of frames from `first` on: float32 [count, dim].

    Made by NumPy, since compilers may turn the division into a product: late in a stream angles are
    large, and a last bit of them is much (1e-3 at frame 10,000). torch's own periods differ in the
    last bit of 3 of 100, so that the original is met to 1.5e-5 up to frame 1000, to 2.5e-4 up to
    20,000.
    """
    exponent = np.arange(dim // 2, dtype=np.float32) / np.float32(dim // 2 - 1)
    period = np.power(LONGEST_PERIOD, exponent.astype(np.float64)).astype(np.float32)
    frame = np.arange(first, first + count, dtype=np.float32)
    angle = (frame[:, None] / period).astype(np.float64)
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
