"""EnCodec's padding, segments, norm, LSTM and quantizer against their definitions, in plain loops.

A batch of items of different lengths must give each what it would be alone: what lies beyond the
end of an item is NaN in these tests.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codax.configuration.conv_geometry import Conv, Lstm
from codax.modeling.conv_padding import pad_for
from codax.modeling.layers import FlaxConv, FlaxConvTranspose, FlaxTimeGroupNorm
from codax.modeling.lstm import FlaxLstm
from codax.modeling.quantizer import FlaxEuclideanResidualVectorQuantizer
from codax.modeling.segments import cut_segments, overlap_add, segment_lengths

EXACTLY = {"dtype": jnp.float32, "precision": lax.Precision.HIGHEST}
# Sums of at most some dozens of float32 products of order one, each rounded by 6e-8.
TOLERANCE = 3e-6
LENGTHS = range(1, 11)

CONVOLUTIONS = {  # kernel, stride, dilation
    "pointwise": (1, 1, 1),
    "of a residual block": (3, 1, 1),
    "dilated": (3, 1, 4),
    "outer": (7, 1, 1),
    "down by 2": (4, 2, 1),
    "down by 5": (10, 5, 1),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_of(kind, causal, pad_mode, **options):
    kernel_size, stride, dilation = CONVOLUTIONS[kind]
    total = dilation * (kernel_size - 1) + 1 - stride
    right = 0 if causal else total // 2
    padding = (total - right, right)
    return Conv(
        "conv", 2, 3, kernel_size, stride, dilation, padding, False, pad_mode, True, **options
    )


def padded_by_definition(signal, conv):
    """[T, C] -> [T', C]. Source: facebookresearch/encodec, modules/conv.py, `SConv1d`, `pad1d`."""
    left, right = conv.padding
    length, span = len(signal), conv.dilation * (conv.kernel_size - 1) + 1
    frames = math.ceil((length - span + left + right) / conv.stride + 1)
    right += (frames - 1) * conv.stride + span - (left + right) - length
    if conv.pad_mode == "zeros":
        return np.pad(signal, ((left, right), (0, 0)))
    extra = max(left, right) - length + 1 if length <= max(left, right) else 0
    signal = np.pad(signal, ((0, extra), (0, 0)))
    padded = np.pad(signal, ((left, right), (0, 0)), "reflect")
    return padded[: len(padded) - extra]


def batch_with_nan(items):
    """Items [T, C] of different lengths -> [B, longest T, C]."""
    longest = max(map(len, items))
    return np.stack(
        [np.pad(one, ((0, longest - len(one)), (0, 0)), constant_values=np.nan) for one in items]
    )


# --- padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "not causal"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_signals_of_every_length_are_padded_by_definition(kind, causal, pad_mode):
    conv = conv_of(kind, causal, pad_mode)
    items = [normal(length, 2, seed=length) for length in LENGTHS]
    lengths = np.array(LENGTHS, np.int32)

    @jax.jit
    def pad(items, batch, lengths):
        alone = [pad_for(conv, item[None])[0] for item in items]
        return alone, pad_for(conv, batch, lengths)

    alone, together = pad(items, batch_with_nan(items), lengths)
    for item, one, row in zip(items, alone, together, strict=True):
        expected = padded_by_definition(item, conv)
        assert conv.output_length(len(item)) == -(-len(item) // conv.stride)
        np.testing.assert_array_equal(one, expected)
        np.testing.assert_array_equal(row[: len(expected)], expected)


def test_signal_shorter_than_its_padding_is_extended_by_zeros_before_it_is_mirrored():
    """`numpy.pad` and `jax.numpy.pad` would mirror it again and again."""
    conv = conv_of("outer", causal=True, pad_mode="reflect")
    padded = pad_for(conv, jnp.float32([[[1], [2], [3]]]))[0, :, 0]
    assert padded.tolist() == [0, 0, 0, 0, 3, 2, 1, 2, 3]
    one = pad_for(conv, jnp.float32([[[5]]]))[0, :, 0]
    assert one.tolist() == [0, 0, 0, 0, 0, 0, 5]


@pytest.mark.parametrize("time_group_norm", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("kind", ["outer", "down by 5"])
def test_convolution_gives_each_item_of_a_batch_what_it_gives_it_alone(kind, time_group_norm):
    conv = conv_of(kind, causal=False, pad_mode="reflect", time_group_norm=time_group_norm)
    params = {"kernel": normal(conv.kernel_size, 2, 3), "bias": normal(3, seed=1)}
    if time_group_norm:
        params["norm"] = {"scale": normal(3, seed=2), "bias": normal(3, seed=3)}
    assert_alone_as_together(FlaxConv(conv, **EXACTLY), params, 2, conv.output_length)


@pytest.mark.parametrize("padding", [(0, 3), (2, 1)], ids=["causal", "not causal"])
def test_transposed_convolution_gives_each_item_of_a_batch_what_it_gives_it_alone(padding):
    conv = Conv("conv", 2, 3, 6, 3, 1, padding, transposed=True, time_group_norm=True)
    params = {
        "kernel": normal(2, 2, 9),
        "bias": normal(3, seed=1),
        "norm": {"scale": normal(3, seed=2), "bias": normal(3, seed=3)},
    }
    assert_alone_as_together(FlaxConvTranspose(conv, **EXACTLY), params, 2, conv.output_length)


def assert_alone_as_together(module, params, channels, output_length):
    items = [normal(length, channels, seed=length) for length in (1, 4, 10)]
    lengths = np.array(list(map(len, items)), np.int32)

    @jax.jit
    def run(items, batch, lengths):
        def apply(*arguments):
            return module.apply({"params": params}, *arguments)

        return [apply(item[None])[0] for item in items], apply(batch, True, lengths)

    alone, together = run(items, batch_with_nan(items), lengths)
    for item, one, row in zip(items, alone, together, strict=True):
        assert len(one) == output_length(len(item))
        np.testing.assert_allclose(row[: len(one)], one, atol=TOLERANCE)


# --- norm ----------------------------------------------------------------------------------------


def test_time_group_norm_is_that_of_torch_with_one_group():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    items = [normal(length, 3, seed=length) for length in (1, 4, 10)]
    offset = np.float32([2, -1, 3])
    scale, bias = normal(3, seed=1), normal(3, seed=2)
    theirs = torch.nn.GroupNorm(1, 3)
    theirs.load_state_dict({"weight": torch.from_numpy(scale), "bias": torch.from_numpy(bias)})
    norm = FlaxTimeGroupNorm(3)
    params = {"params": {"scale": scale, "bias": bias}}
    together = jax.jit(norm.apply)(params, batch_with_nan(items), offset, np.int32([1, 4, 10]))
    for item, row in zip(items, together, strict=True):
        with torch.no_grad():
            expected = theirs(torch.from_numpy((item + offset).T.copy())[None])[0].numpy().T
        np.testing.assert_allclose(row[: len(item)], expected, atol=TOLERANCE)


def test_time_group_norm_of_silence_is_its_bias():
    params = {"params": {"scale": normal(3), "bias": normal(3, seed=1)}}
    normalised = FlaxTimeGroupNorm(3).apply(params, jnp.full((1, 5, 3), 7.0), jnp.zeros(3))
    np.testing.assert_allclose(normalised[0], np.tile(params["params"]["bias"], (5, 1)), atol=1e-4)


# --- LSTM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_layers", [1, 2])
def test_lstm_is_that_of_torch(num_layers):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    generator = torch.Generator().manual_seed(0)
    theirs = torch.nn.LSTM(6, 6, num_layers)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    params = {}
    for name, weight in theirs.state_dict().items():
        kind, part, layer = name.split("_")
        array = weight.numpy()
        if (kind, part) == ("weight", "ih"):
            array = array.T
        side = {"ih": "input", "hh": "hidden"}[part]
        params[f"{side}_{'kernel' if kind == 'weight' else 'bias'}_{layer}"] = array
    signal = normal(3, 20, 6)
    module = FlaxLstm(Lstm("lstm", 6, num_layers), **EXACTLY)
    result = jax.jit(module.apply)({"params": params}, signal)
    with torch.no_grad():
        expected, _ = theirs(torch.from_numpy(signal.swapaxes(0, 1).copy()))
    np.testing.assert_allclose(result, expected.numpy().swapaxes(0, 1), atol=1e-5)
    # What comes later in time has no influence.
    changed = jax.jit(module.apply)({"params": params}, np.where(np.arange(6) < 9, signal, 5))
    np.testing.assert_array_equal(changed[:, :9], result[:, :9])


# --- segments ------------------------------------------------------------------------------------


def joined_by_definition(frames, stride):
    """Frames [T_i, C] -> [T, C]. Source: facebookresearch/encodec, `_linear_overlap_add`, cut off
    where a frame reaches beyond the end of the last one.
    """
    end = (len(frames) - 1) * stride + len(frames[-1])
    time = np.linspace(0, 1, len(frames[0]) + 2)[1:-1]
    weight = 0.5 - np.abs(time - 0.5)
    total, weights = np.zeros((end, frames[0].shape[1])), np.zeros((end, 1))
    for index, frame in enumerate(frames):
        piece = frame[: end - index * stride]
        span = slice(index * stride, index * stride + len(piece))
        total[span] += weight[: len(piece), None] * piece
        weights[span] += weight[: len(piece), None]
    return total / weights


@pytest.mark.parametrize(
    ("stride", "lengths"),
    [
        (7, [[10, 10, 10, 10], [10, 10, 10, 3], [10, 10, 9, 2], [10, 8, 1, 0]]),
        (7, [[10, 1, 0], [10, 0, 0], [4, 0, 0], [1, 0, 0]]),
        (10, [[10, 10, 4], [10, 3, 0]]),
        (3, [[10, 10, 10, 10, 10], [10, 10, 9, 6, 3]]),
    ],
    ids=["some overlap", "short clips", "no overlap", "much overlap"],
)
def test_segments_are_joined_by_definition(stride, lengths):
    segments = normal(len(lengths[0]), len(lengths), 10, 2)
    joined = np.asarray(overlap_add(segments, np.array(lengths, np.int32).T, stride=stride))
    assert joined.shape == (len(lengths), (len(lengths[0]) - 1) * stride + 10, 2)
    for clip, (row, own_lengths) in enumerate(zip(joined, lengths, strict=True)):
        frames = [
            segment[:length]
            for segment, length in zip(segments[:, clip], own_lengths, strict=True)
            if length
        ]
        expected = joined_by_definition(frames, stride)
        np.testing.assert_allclose(row[: len(expected)], expected, atol=TOLERANCE)
        assert not row[len(expected) :].any()


def test_segment_that_reaches_beyond_the_last_one_is_cut_off():
    """Where `_linear_overlap_add` fails: 10 samples at 0, then 1 at 7."""
    segments, lengths = np.ones((2, 1, 10, 1), np.float32), np.int32([[10], [1]])
    joined = overlap_add(segments, lengths, stride=7)[0, :, 0]
    np.testing.assert_allclose(joined, [1] * 8 + [0] * 9, atol=TOLERANCE)


def test_joining_the_segments_of_a_clip_gives_the_clip():
    clip = normal(2, 31, 3)
    lengths = np.int32([31, 15])
    segments, own_lengths = cut_segments(clip, lengths, 10, 7)
    joined = overlap_add(segments, own_lengths, stride=7)
    np.testing.assert_allclose(joined[0, :31], clip[0], atol=TOLERANCE)
    np.testing.assert_allclose(joined[1, :15], clip[1, :15], atol=TOLERANCE)
    assert not joined[1, 15:].any()


@pytest.mark.parametrize("num_samples", [1, 6, 7, 8, 10, 11, 21, 22])
def test_clips_are_cut_every_stride_into_segments_as_short_as_what_is_left(num_samples):
    clip = normal(1, num_samples, 2)
    segments, lengths = cut_segments(clip, np.int32([num_samples]), 10, 7)
    expected = [clip[0, start : start + 10] for start in range(0, num_samples, 7)]
    assert np.asarray(lengths)[:, 0].tolist() == list(map(len, expected))
    for segment, piece in zip(segments[:, 0], expected, strict=True):
        np.testing.assert_array_equal(segment[: len(piece)], piece)


def test_clips_that_end_early_have_segments_without_samples():
    lengths = segment_lengths(np.int32([22, 7, 8, 0]), 4, 10, 7)
    assert lengths.T.tolist() == [[10, 10, 8, 1], [7, 0, 0, 0], [8, 1, 0, 0], [0, 0, 0, 0]]


# --- quantizer -----------------------------------------------------------------------------------


def quantizer_with(books):
    count, size, width = books.shape
    quantizer = FlaxEuclideanResidualVectorQuantizer(count, width, size, lax.Precision.HIGHEST)
    unused = {
        "cluster_size": np.full(size, np.nan),
        "embedding_sum": np.full((size, width), np.nan),
        "is_initialized": np.zeros(1),
    }
    params = {f"codebooks_{k}": {"embedding": book, **unused} for k, book in enumerate(books)}
    return quantizer, {"params": params}


def test_codes_are_the_nearest_codewords_of_what_earlier_levels_leave_over():
    books, latents = normal(3, 8, 4), normal(2, 15, 4, seed=1)
    quantizer, variables = quantizer_with(books)
    codes = np.asarray(quantizer.apply(variables, latents, 3))
    residual = latents.astype(np.float64)
    for level, book in enumerate(books):
        distances = ((residual[:, :, None] - book) ** 2).sum(axis=-1)
        np.testing.assert_array_equal(codes[:, level], distances.argmin(axis=-1))
        residual = residual - book[codes[:, level]]
    fewer = quantizer.apply(variables, latents, 2)
    np.testing.assert_array_equal(fewer, codes[:, :2])
    restored = quantizer.apply(variables, codes, method="dequantize")
    np.testing.assert_allclose(restored, latents - residual, atol=TOLERANCE)


def test_of_codewords_that_are_equally_near_the_first_is_taken():
    book = np.float32([[9, 9], [1, 0], [1, 0], [0, 1]])
    quantizer, variables = quantizer_with(book[None])
    codes = quantizer.apply(variables, np.float32([[[1, 0], [0.5, 0.5]]]), 1)
    assert codes.tolist() == [[[1, 1]]]


@pytest.mark.parametrize("code", [-1, 8])
def test_code_outside_its_codebook_gives_nan_and_no_guess(code):
    quantizer, variables = quantizer_with(normal(1, 8, 4))
    latents = quantizer.apply(variables, np.int32([[[code, 3]]]), method="dequantize")
    assert np.isnan(latents[0, 0]).all()
    assert np.isfinite(latents[0, 1]).all()
