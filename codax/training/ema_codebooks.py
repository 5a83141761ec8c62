"""EnCodec's codebooks, learnt by moving averages instead of gradients.

Pure functions on the parameters of `FlaxEuclideanResidualVectorQuantizer` (a level is "embedding"
[N, D], "cluster_size" [N], "embedding_sum" [N, D], "is_initialized" [1]), as in
encodec/quantization/core_vq.py (van den Oord et al. 2017, appendix A.1; Defossez et al. 2022,
section 3.2). Here N is the number of codewords and M that of the vectors that a level quantizes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from codax.modeling.quantizer import FlaxEuclideanCodebook

Codebook = dict[str, jax.Array]
PRECISION = lax.Precision.HIGHEST


@dataclass(frozen=True)
class CodebookLearning:
    """How codebooks are learnt; the defaults are EnCodec's.

    decay: of the moving averages, at every step
    epsilon: of the Laplace smoothing of cluster sizes
    k_means_iterations: on the first batch
    least_cluster_size: codewords that fewer vectors choose, on average, are re-seeded; 0: none. It
        is that of the reference, whose batches have 4.7 vectors for each codeword, and less in
        proportion where batches are smaller, or nearly all would be re-seeded always
    reseed_lasts: False as in the reference, which puts vectors of the batch in the place of such
        codewords, but overwrites them by the moving averages in the same step, so that nothing
        comes of it. True puts them into the averages too, with the least cluster size, which
        is what the paper describes.

    Raises `ValueError` for values out of range.
    """

    decay: float = 0.99
    epsilon: float = 1e-5
    k_means_iterations: int = 50
    least_cluster_size: float = 2.0
    reseed_lasts: bool = True

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be from 0 to below 1; got {self.decay}")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be positive; got {self.epsilon}")
        if self.k_means_iterations < 1:
            raise ValueError(f"k_means_iterations must be positive; got {self.k_means_iterations}")
        if not self.least_cluster_size >= 0:
            raise ValueError(
                f"least_cluster_size must not be negative; got {self.least_cluster_size}"
            )


DEFAULTS = CodebookLearning()

REFERENCE_VECTORS = 64 * 75 / 1024
"""Of a batch, for each codeword: excerpts of a second at 75 frames (audiocraft, default.yaml)."""


def initialise_codebooks(
    params: Mapping[str, Any],
    latents: jax.Array,
    key: jax.Array,
    learning: CodebookLearning = DEFAULTS,
) -> dict[str, Codebook]:
    """Codebooks of the means that k-means finds among what each level is to quantize.

    Whatever they were: the reference does this to a level when it is first used.

    params: of the quantizer, for its shapes
    latents: float32 [B, F, D]
    key: of jax.random; each level starts from vectors drawn from the batch

    Raises `ValueError` for params that are not those of such a quantizer.
    """

    def initialise(residual, level_and_book):
        level, book = level_and_book
        vectors = residual.reshape(-1, residual.shape[-1])
        drawn = draw_indices(
            jax.random.fold_in(key, level), jnp.ones(len(vectors), bool), len(book["embedding"])
        )
        means, sizes = k_means(vectors, vectors[drawn], learning.k_means_iterations)
        ones = jnp.ones_like(book["is_initialized"])
        book = {
            "embedding": means,
            "cluster_size": sizes,
            "embedding_sum": means,
            "is_initialized": ones,
        }
        codewords = means[nearest_codewords(means, vectors)]
        return residual - codewords.reshape(residual.shape), book

    return _over_levels(initialise, latents, params)


def update_codebooks(
    params: Mapping[str, Any],
    latents: jax.Array,
    levels: jax.Array | int,
    key: jax.Array,
    learning: CodebookLearning = DEFAULTS,
) -> dict[str, Codebook]:
    """Move all codebooks by one batch, each by what those before it left over.

    What is left over is that of the codewords before they move, with which the batch was coded.

    latents: float32 [B, F, D]
    levels: int [B], by how many codebooks each item is coded, or one number for all; the others
        learn nothing of it, and codebooks that no item uses stay as they are
    key: of jax.random, for re-seeding; another at every step

    Raises `ValueError` for params that are not those of such a quantizer.
    """

    def update(residual, level_and_book):
        level, book = level_and_book
        vectors = residual.reshape(-1, residual.shape[-1])
        used = jnp.broadcast_to(level < levels, residual.shape[:1])
        used = jnp.repeat(used, residual.shape[1])
        codes = nearest_codewords(book["embedding"], vectors)
        moved = moved_codebook(book, vectors, codes, used, jax.random.fold_in(key, level), learning)
        is_used = jnp.any(used)
        moved = {name: jnp.where(is_used, moved[name], leaf) for name, leaf in book.items()}
        return residual - book["embedding"][codes].reshape(residual.shape), moved

    return _over_levels(update, latents, params)


def draw_indices(key: jax.Array, used: jax.Array, count: int) -> jax.Array:
    """Draw int32 [count] from where `used`, bool [M], is true.

    All differ where there are as many; otherwise each is drawn about as often as any other (the
    reference draws with replacement then).
    """
    order = jax.random.permutation(key, len(used))
    order = order[jnp.argsort(~used[order], stable=True)]
    return order[jnp.arange(count) % jnp.maximum(jnp.sum(used), 1)]


def k_means(
    vectors: jax.Array, means: jax.Array, iterations: int, nearest: Callable | None = None
) -> tuple[jax.Array, jax.Array]:
    """Lloyd's algorithm from given means, of which those that no vector chooses stay.

    vectors float32 [M, D], means [N, D] -> means [N, D], and how many vectors chose each in the
    last iteration, [N], before the means moved a last time: a quirk of core_vq.py.
    nearest(means, vectors) -> int32 [M]: by Euclidean distance, where it is not given
    """
    nearest = nearest or nearest_codewords

    def iterate(_, state):
        means, _ = state
        codes = nearest(means, vectors)
        sums, sizes = _clusters(vectors, codes, jnp.ones(len(vectors), bool), len(means))
        moved = sums / jnp.maximum(sizes, 1)[:, None]
        return jnp.where(sizes[:, None] == 0, means, moved), sizes

    return lax.fori_loop(0, iterations, iterate, (means, jnp.zeros(len(means), means.dtype)))


def moved_codebook(
    book: Codebook,
    vectors: jax.Array,
    codes: jax.Array,
    used: jax.Array,
    key: jax.Array,
    learning: CodebookLearning,
) -> Codebook:
    """Move every codeword toward the mean of the vectors that chose it; re-seed the unused.

    vectors: float32 [M, D]; codes: int32 [M], their codewords; used: bool [M], which count
    """
    if learning.reseed_lasts and learning.least_cluster_size > 0:
        size = len(book["embedding"])
        seeds = vectors[draw_indices(key, used, size)]
        share = min(1.0, len(vectors) / size / REFERENCE_VECTORS)
        book = _reseeded(book, seeds, share * learning.least_cluster_size)
    decay = learning.decay
    sums, sizes = _clusters(vectors, codes, used, len(book["embedding"]))
    cluster_size = decay * book["cluster_size"] + (1 - decay) * sizes
    embedding_sum = decay * book["embedding_sum"] + (1 - decay) * sums
    smoothed = _smoothed(cluster_size, learning.epsilon)
    return {
        "embedding": embedding_sum / smoothed[:, None],
        "cluster_size": cluster_size,
        "embedding_sum": embedding_sum,
        "is_initialized": book["is_initialized"],
    }


def nearest_codewords(codewords: jax.Array, vectors: jax.Array) -> jax.Array:
    """Float32 [N, D] and [M, D] -> int32 [M], as the model itself decides."""
    codebook = FlaxEuclideanCodebook(len(codewords), codewords.shape[1], PRECISION)
    # Params that `nearest` does not read; they take the place that setup asks for.
    size = jnp.zeros(len(codewords))
    params = {
        "embedding": codewords,
        "cluster_size": size,
        "embedding_sum": codewords,
        "is_initialized": size[:1],
    }
    codes: Any = codebook.apply({"params": params}, vectors[None], method="nearest")
    return codes[0]


def _reseeded(book: Codebook, seeds: jax.Array, least_cluster_size: float) -> Codebook:
    """Codewords that too few vectors choose become seeds float32 [N, D], with the least size."""
    unused = book["cluster_size"] < least_cluster_size
    sums = jnp.where(unused[:, None], least_cluster_size * seeds, book["embedding_sum"])
    sizes = jnp.where(unused, least_cluster_size, book["cluster_size"])
    return {**book, "cluster_size": sizes, "embedding_sum": sums}


def _clusters(vectors, codes, used, size: int) -> tuple[jax.Array, jax.Array]:
    """Sums [N, D] and counts [N] of the vectors [M, D] that chose each codeword and count.

    By a product, whose order of summation is the same in every run, unlike that of a scatter.
    """
    chosen = jax.nn.one_hot(codes, size, dtype=vectors.dtype) * used[:, None]
    return jnp.einsum("mn,md->nd", chosen, vectors, precision=PRECISION), jnp.sum(chosen, axis=0)


def _smoothed(cluster_size, epsilon):
    """Laplace smoothing: no size is zero, and their sum stays."""
    total = jnp.sum(cluster_size)
    return (cluster_size + epsilon) / (total + len(cluster_size) * epsilon) * total


def _over_levels(step: Callable, latents: jax.Array, params: Mapping[str, Any]) -> dict:
    """Run step(residual, (level, its codebook)) for every level: one loop, compiled once."""
    names = [f"codebooks_{k}" for k in range(len(params))]
    if not names or set(names) != set(params):
        raise ValueError(
            f"params must have codebooks_0 to codebooks_K, as a quantizer of EnCodec; "
            f"got {sorted(params)}"
        )
    books = [dict(params[name]) for name in names]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *books)
    levels = jnp.arange(len(names))
    _, learnt = lax.scan(step, lax.stop_gradient(latents), (levels, stacked))
    return {
        name: {leaf: array[k] for leaf, array in learnt.items()} for k, name in enumerate(names)
    }
