"""The language model of EnCodec's `.ecdc` files by torch, with the bits of the encodec package.

Source: facebookresearch/encodec, model.py (`LMModel`) and modules/transformer.py.

An arithmetic coder needs the very bits that a file was written with. Sums of floats depend on the
order of their terms, which is up to the kernels, and these choose it by shape, strides and what
surrounds them. So here everything goes to the same operations of torch, in the same shapes, even
where that is a detour: all frames in memory are projected to keys and values anew for every frame,
a mask hides nothing, and probabilities are not along the last axis.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from codax.configuration.config_fields import require_positive_int
from codax.configuration.configuration_encodec_lm import EncodecLmArchitecture
from codax.formats import NextProbabilities, Probabilities
from codax.modeling.modeling_flax_encodec_lm import LONGEST_PERIOD, NO_CODE, EncodecLm
from codax.modeling.torch_layout import params_to_torch
from codax.modeling.weight_table import encodec_lm_weight_rules

from .torch_files import import_torch


def torch_probabilities(lm: EncodecLm, *, num_threads: int | None = None) -> Probabilities:
    """What `read_ecdc` and `write_ecdc` take, for files of the encodec package.

    num_threads: on which the file was written, or is to be read; by default torch's own number. The
        package sets none, so its files are of torch's number there, often that of the cores.
        Attention and softmax split their work by it, and so their sums: the probabilities were six
        different ones on 1, 2, 3, 4, 6 and 8 threads. More threads than there are cores are slow,
        but right.

    The kind of CPU and the version of torch may matter likewise. Where anything did, reading raises
    `AstrayError`, as it does for files that codax wrote by its Flax module (`ecdc_probabilities`).

    Raises `CodaxError` where torch is missing, `CheckpointError` for weights that are not the
    model's, `ValueError` for a number of threads below 1. What is returned raises `FormatError` for
    files of another model than the language model is for.
    """
    if num_threads is not None:
        require_positive_int("num_threads", num_threads)
    network = _network(lm)

    def start(model: str, num_codebooks: int) -> NextProbabilities:
        lm.check_codes_of(model, num_codebooks)
        return _Stream(network, lm.architecture, num_codebooks, num_threads).step

    return start


class _Stream:
    """One segment, frame by frame.

    network: of `_network`. num_threads: None for those that torch has.
    """

    def __init__(
        self,
        network: Any,
        architecture: EncodecLmArchitecture,
        num_codebooks: int,
        num_threads: int | None,
    ):
        self._torch, self._network, self._architecture = import_torch(), network, architecture
        self._num_codebooks, self._num_threads = num_codebooks, num_threads
        self._frame = 0
        # Of each layer float32 [1, S, D], its inputs so far, up to `past_context` of them. The
        # original begins with an input of zeros, and compares frames with it as with any other.
        first = self._torch.zeros(1, 1, architecture.dim)
        self._inputs = [first] * architecture.num_layers

    def step(self, previous: np.ndarray | None) -> np.ndarray:
        """Codes int [K] of the frame before, None at the start -> float32 [K, N]."""
        codes = np.full(self._num_codebooks, NO_CODE) if previous is None else previous
        with self._torch.no_grad(), _threads(self._num_threads):
            hidden = self._embed(codes) + self._position()
            for index, layer in enumerate(self._network["transformer"]["layers"]):
                hidden = self._through(layer, index, hidden)
            probabilities = self._predict(hidden)
        self._frame += 1
        return probabilities[0, :, :, 0].T.numpy()

    def _embed(self, codes: np.ndarray) -> Any:
        """[K] -> [1, 1, D]."""
        entries = self._torch.from_numpy(1 + codes.astype(np.int64))[None, :, None]
        embeddings = self._network["emb"]
        levels = range(self._num_codebooks)
        embedded = sum(embeddings[level](entries[:, level]) for level in levels)
        return self._network["transformer"]["norm_in"](embedded)

    def _position(self) -> Any:
        """[1, 1, D]: cosines, then sines, of the frame's number."""
        torch, num_waves = self._torch, self._architecture.dim // 2
        period = LONGEST_PERIOD ** (torch.arange(num_waves).view(1, 1, -1) / (num_waves - 1))
        angle = torch.tensor([[[self._frame]]]) / period
        return torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)

    def _through(self, layer: Any, index: int, hidden: Any) -> Any:
        """The frame [1, 1, D] through a layer -> [1, 1, D]; its input is kept."""
        inputs = self._torch.cat([self._inputs[index], hidden], dim=1)
        self._inputs[index] = inputs[:, -self._architecture.past_context :]
        # A mask of nothing: without one torch may take another kernel. That queries are another
        # tensor than keys decides how it projects them.
        nowhere = self._torch.zeros(1, inputs.shape[1], dtype=self._torch.bool)
        attended, _ = layer.self_attn(hidden, inputs, inputs, attn_mask=nowhere, need_weights=False)
        hidden = layer.norm1(hidden + attended)
        widened = self._torch.nn.functional.gelu(layer.linear1(hidden))
        return layer.norm2(hidden + layer.linear2(widened))

    def _predict(self, hidden: Any) -> Any:
        """[1, 1, D] -> [1, N, K, 1]. Along this axis softmax adds up in another order."""
        heads = self._network["linears"]
        logits = [heads[level](hidden) for level in range(self._num_codebooks)]
        return self._torch.stack(logits, dim=1).permute(0, 3, 1, 2).softmax(dim=1)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """torch on so many threads for the length of the block."""
    torch = import_torch()
    before = torch.get_num_threads()
    if number in (None, before):
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _network(lm: EncodecLm) -> Any:
    """torch's modules with the weights, under the original's names; nothing random is drawn."""
    torch, architecture = import_torch(), lm.architecture
    nn = torch.nn
    entries, dim = architecture.codebook_size, architecture.dim
    codebooks = range(architecture.num_codebooks)
    with torch.device("meta"):
        layers = [
            nn.TransformerEncoderLayer(
                dim,
                architecture.num_heads,
                architecture.feed_forward_dim,
                dropout=0.0,
                batch_first=True,
            )
            for _ in range(architecture.num_layers)
        ]
        transformer = {"norm_in": nn.LayerNorm(dim), "layers": nn.ModuleList(layers)}
        network = nn.ModuleDict(
            {
                "emb": nn.ModuleList([nn.Embedding(1 + entries, dim) for _ in codebooks]),
                "transformer": nn.ModuleDict(transformer),
                "linears": nn.ModuleList([nn.Linear(dim, entries) for _ in codebooks]),
            }
        )
    weights = params_to_torch(encodec_lm_weight_rules(architecture), lm.params)
    # Copies, aligned as torch aligns its own.
    state = {name: torch.tensor(weight) for name, weight in weights.items()}
    network.load_state_dict(state, assign=True)
    return network.eval()
