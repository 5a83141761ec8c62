"""EnCodec's codebook learning against the encodec package, and what it promises."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.training.ema_codebooks import (
    REFERENCE_VECTORS,
    CodebookLearning,
    draw_indices,
    initialise_codebooks,
    moved_codebook,
    nearest_codewords,
    update_codebooks,
)
from tests.reference import peers

LEVELS, SIZE, WIDTH = 3, 16, 4
STEPS = 3
FIRST_KEY = jax.random.key(7)
REFERENCE = CodebookLearning(reseed_lasts=False)
# Sums of some 60 float32 products of order one.
TOLERANCE = 2e-6
TORCH_NAMES = {
    "embedding": "embed",
    "cluster_size": "cluster_size",
    "embedding_sum": "embed_avg",
    "is_initialized": "inited",
}


def latents_of(step):
    """float32 [2, 30, WIDTH] around a few centres, so that clusters are of uneven size."""
    generator = np.random.default_rng(step)
    centres = np.random.default_rng(99).standard_normal((5, WIDTH))
    chosen = centres[generator.choice(5, (2, 30), p=[0.5, 0.3, 0.1, 0.06, 0.04])]
    return (chosen + 0.3 * generator.standard_normal(chosen.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def zeros():
    """Codebooks that nobody initialised."""
    shapes = {"embedding": (SIZE, WIDTH), "cluster_size": (SIZE,), "is_initialized": (1,)}
    shapes["embedding_sum"] = shapes["embedding"]
    level = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    return {f"codebooks_{k}": level for k in range(LEVELS)}


@pytest.fixture(scope="module")
def update():
    return jax.jit(partial(update_codebooks, learning=REFERENCE))


@pytest.fixture(scope="module")
def first(zeros):
    return jax.jit(initialise_codebooks)(zeros, latents_of(0), FIRST_KEY)


@pytest.fixture(scope="module")
def ours(first, update):
    """Parameters after each step."""
    steps = []
    for step in range(STEPS):
        params = steps[-1] if steps else first
        steps.append(update(params, latents_of(step), LEVELS, jax.random.key(step)))
    return steps


@pytest.fixture(scope="module")
def theirs():
    """The buffers of each level after each step of the encodec package."""
    if reason := peers.missing_encodec():
        pytest.skip(reason)
    import torch

    peers.import_encodec()
    from encodec.quantization import core_vq

    with pytest.MonkeyPatch.context() as patch:
        _inject_first_means(patch, core_vq)
        quantizer = core_vq.ResidualVectorQuantization(
            num_quantizers=LEVELS, dim=WIDTH, codebook_size=SIZE
        ).train()
        return [_torch_step(torch, quantizer, latents_of(step)) for step in range(STEPS)]


def _inject_first_means(patch, core_vq):
    """k-means starts from the vectors that ours draws.

    What expired codewords are replaced with is overwritten in the same step, so these vectors do
    for that too.
    """
    every = np.ones(latents_of(0).size // WIDTH, bool)
    keys = [jax.random.fold_in(FIRST_KEY, k) for k in range(LEVELS)]
    indices = [np.array(draw_indices(key, every, SIZE)) for key in keys]
    k_means, level = core_vq.kmeans, iter(indices)
    current = []

    def k_means_from_ours(*args):
        current[:] = [next(level)]
        return k_means(*args)

    patch.setattr(core_vq, "kmeans", k_means_from_ours)
    patch.setattr(core_vq, "sample_vectors", lambda samples, _: samples[current[0]])


def _torch_step(torch, quantizer, latents):
    quantizer(torch.from_numpy(latents.transpose(0, 2, 1).copy()))
    return [
        {ours: getattr(layer._codebook, name).clone().numpy() for ours, name in TORCH_NAMES.items()}
        for layer in quantizer.layers
    ]


@pytest.mark.parametrize("step", range(STEPS))
def test_codebooks_equal_encodecs_after_each_step(ours, theirs, step):
    for k, buffers in enumerate(theirs[step]):
        for name, expected in buffers.items():
            actual = ours[step][f"codebooks_{k}"][name]
            where = f"level {k}, {name}"
            np.testing.assert_allclose(actual, expected, atol=TOLERANCE, err_msg=where)


def test_some_codewords_of_the_comparison_are_below_the_least_size(ours):
    sizes = [params["codebooks_0"]["cluster_size"] for params in ours]
    assert min(size.min() for size in sizes) < 2 < max(size.max() for size in sizes)


def test_codewords_that_few_choose_become_vectors_of_the_batch(ours):
    book = ours[-1]["codebooks_0"]
    vectors = latents_of(5).reshape(-1, WIDTH)
    codes = nearest_codewords(book["embedding"], vectors)
    every, key = np.ones(len(vectors), bool), jax.random.key(3)
    move = jax.jit(partial(moved_codebook, learning=CodebookLearning()))
    moved = move(book, vectors, codes, every, key)

    drawn = vectors[draw_indices(key, every, SIZE)]
    least = 2 * min(1, len(vectors) / SIZE / REFERENCE_VECTORS)
    expired = np.asarray(book["cluster_size"]) < least
    sizes = np.where(expired, least, book["cluster_size"])
    sums = np.where(expired[:, None], least * drawn, book["embedding_sum"])
    counts = np.bincount(codes, minlength=SIZE)
    np.testing.assert_allclose(moved["cluster_size"], 0.99 * sizes + 0.01 * counts, rtol=1e-5)
    of_codes = np.zeros((SIZE, WIDTH))
    np.add.at(of_codes, np.asarray(codes), vectors)
    expected = 0.99 * sums + 0.01 * of_codes
    np.testing.assert_allclose(moved["embedding_sum"], expected, rtol=1e-4, atol=1e-6)
    # The mean of its two copies and the vectors of the batch that chose the codeword before.
    weights = 0.99 * sizes + 0.01 * counts
    actual = moved["embedding"][expired]
    np.testing.assert_allclose(actual, (expected / weights[:, None])[expired], rtol=1e-3, atol=1e-5)
    assert expired.any()
    assert not expired.all()


def test_items_move_only_the_codebooks_that_code_them(first, update):
    key, latents = jax.random.key(1), latents_of(1)
    together = update(first, latents, np.array([1, 2]), key)
    both, second = update(first, latents, 1, key), update(first, latents[1:], 2, key)
    for name, expected in (("codebooks_0", both), ("codebooks_1", second), ("codebooks_2", first)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=TOLERANCE),
            together[name],
            expected[name],
        )
    change = together["codebooks_1"]["cluster_size"] - first["codebooks_1"]["cluster_size"]
    assert np.abs(change).max() > 10 * TOLERANCE


def test_other_levels_and_keys_do_not_compile_again(first, update):
    for number in (1, 2):
        update(first, latents_of(1), jnp.full(2, number), jax.random.key(number))
    compiled = update._cache_size()
    update(first, latents_of(2), jnp.full(2, 3), jax.random.key(3))
    assert update._cache_size() == compiled


def test_indices_are_drawn_from_what_is_used_and_differ_where_there_are_enough():
    used = np.arange(20) % 2 == 0
    drawn = np.asarray(draw_indices(jax.random.key(0), used, 10))
    assert sorted(drawn.tolist()) == list(range(0, 20, 2))
    few = np.asarray(draw_indices(jax.random.key(0), np.arange(20) < 3, 8))
    assert sorted(np.bincount(few, minlength=3).tolist()) == [2, 3, 3]


def test_params_of_another_module_are_an_error():
    with pytest.raises(ValueError, match=r"codebooks_0 to codebooks_K.*got \['codebooks_1'\]"):
        update_codebooks({"codebooks_1": {}}, jnp.zeros((1, 2, 3)), 1, jax.random.key(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decay": 1.0}, "decay must be from 0 to below 1; got 1.0"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"k_means_iterations": 0}, "k_means_iterations must be positive"),
        ({"least_cluster_size": -1.0}, "least_cluster_size must not be negative"),
    ],
)
def test_values_out_of_range_are_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        CodebookLearning(**fields)
