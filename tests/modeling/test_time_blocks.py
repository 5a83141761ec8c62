"""Layers in blocks of time: the numbers of the whole, from a fraction of it at a time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.configuration.conv_geometry import (
    Conv,
    Group,
    Lstm,
    Snake,
    convolutions,
    output_length,
)
from codax.modeling import pretrained_base, time_blocks
from tests.modeling.tiny import tiny_config, tiny_model
from tests.tiny_encodec import MONO, MUSIC, tiny_encodec

TOLERANCE = 2e-6
MODELS = {
    "DAC": lambda: tiny_model(),
    "DAC, odd strides": lambda: tiny_model(tiny_config(downsampling_ratios=[3, 5])),
    "EnCodec, causal": lambda: tiny_encodec(MONO),
    "EnCodec, not causal": lambda: tiny_encodec(MONO, use_causal_conv=False),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture(params=[0, 2_500_000], ids=["rates apart", "rates together"])
def blocks(monkeypatch, request):
    """Blocks of a few kilobytes; holds how spans that go by blocks were run."""
    taken = []
    decide = time_blocks.time_blocks

    def recorded(*args):
        taken.append(decide(*args))
        return taken[-1]

    monkeypatch.setattr(time_blocks, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(time_blocks, "FEWEST_BLOCKS", 2)
    monkeypatch.setattr(time_blocks, "KERNEL_BYTES", request.param)
    monkeypatch.setattr(time_blocks, "time_blocks", recorded)

    # No program of other tests, or for them: a function of its own has programs of its own.
    run_anew = jax.jit(
        partial(pretrained_base._run.__wrapped__), static_argnames=("module", "method", "options")
    )
    monkeypatch.setattr(pretrained_base, "_run", run_anew)
    return taken


def run(model, network, inputs, lengths=None, **fields):
    module = model.module.clone(**fields)

    def network_of(module, inputs, lengths):
        return getattr(module, network)(inputs, lengths=lengths)

    @jax.jit
    def compiled(params, inputs, lengths):
        return module.apply({"params": params}, inputs, lengths, method=network_of)

    return np.asarray(compiled(model.params, inputs, lengths))


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def inputs_of(model, network, batch, length):
    first, *_ = convolutions_of(model, network)
    return random(batch, length, first.in_channels)


def convolutions_of(model, network):
    return convolutions(getattr(model.module.architecture, network))


@pytest.mark.parametrize("length", [2000, 2001, 2019])
def test_an_encoder_in_blocks_gives_what_the_whole_gives(model, blocks, length):
    inputs = inputs_of(model, "encoder", 2, length)
    expected = run(model, "encoder", inputs)
    result = run(model, "encoder", inputs, in_blocks=True)
    assert any(blocks)
    np.testing.assert_allclose(result, expected, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("length", [300, 307])
def test_a_decoder_in_blocks_gives_what_the_whole_gives(model, blocks, length):
    inputs = inputs_of(model, "decoder", 2, length)
    expected = run(model, "decoder", inputs)
    result = run(model, "decoder", inputs, in_blocks=True)
    assert any(blocks)
    np.testing.assert_allclose(result, expected, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_clips_of_all_lengths_end_in_blocks_as_they_end_alone(model, blocks, network):
    longest = 1503 if network == "encoder" else 203
    lengths = np.linspace(longest // 50, longest, 5).astype(np.int32)
    inputs = inputs_of(model, network, len(lengths), longest)
    inputs[np.arange(longest) >= lengths[:, None]] = np.nan  # nothing may depend on it
    expected = run(model, network, inputs, lengths)
    result = run(model, network, inputs, lengths, in_blocks=True)
    assert any(blocks)
    for row, ours, length in zip(expected, result, lengths, strict=True):
        end = output_length(convolutions_of(model, network), int(length))
        np.testing.assert_allclose(ours[:end], row[:end], atol=TOLERANCE * np.abs(row[:end]).max())


@pytest.mark.parametrize("ratios", [[5, 4], [4, 5], [3, 2]])
def test_clips_that_end_anywhere_in_a_block_end_as_they_end_alone(blocks, ratios):
    model = tiny_encodec(MUSIC, upsampling_ratios=ratios)
    lengths = np.arange(1200, 2000, dtype=np.int32)
    inputs = inputs_of(model, "encoder", len(lengths), 2003)
    expected = run(model, "encoder", inputs, lengths)
    result = run(model, "encoder", inputs, lengths, in_blocks=True)
    assert any(blocks)
    for row, ours, length in zip(expected, result, lengths, strict=True):
        end = output_length(convolutions_of(model, "encoder"), int(length))
        np.testing.assert_allclose(ours[:end], row[:end], atol=TOLERANCE * np.abs(row[:end]).max())


def test_the_numbers_of_a_clip_do_not_depend_on_its_batch(blocks, monkeypatch):
    monkeypatch.setattr(time_blocks, "BLOCK_BYTES", 100_000)  # more than what context makes least
    # Convolutions by fewer products round by the place in a window.
    model = tiny_model(tiny_config(encoder_hidden_size=64, downsampling_ratios=[2, 4, 8]))
    inputs = inputs_of(model, "encoder", 4, 6000)
    together = run(model, "encoder", inputs, in_blocks=True)
    assert any(blocks)
    for batch in (1, 2, 3):
        alone = run(model, "encoder", inputs[:batch], in_blocks=True)
        np.testing.assert_array_equal(alone, together[:batch])


def test_a_model_on_a_cpu_goes_by_blocks_but_not_in_a_callers_jit(blocks):
    model = tiny_model()
    audio = inputs_of(model, "encoder", 1, 2048).swapaxes(1, 2)
    codes = model.encode(audio).audio_codes
    assert any(blocks)
    blocks.clear()
    traced = jax.jit(lambda params, audio: model.encode(audio, params=params).audio_codes)
    np.testing.assert_array_equal(traced(model.params, audio), codes)
    jax.grad(lambda audio: model.encode(audio).quantized_representation.sum())(jnp.asarray(audio))
    assert not any(blocks)


def test_spans_end_with_a_rate_and_at_what_is_not_local():
    down = Conv("down", 2, 2, 4, stride=2)
    up = Group("up", (Snake("snake", 2), Conv("conv", 2, 2, 4, stride=2, transposed=True)))
    same, norm = Conv("same", 2, 2, 3), Conv("norm", 2, 2, 3, time_group_norm=True)
    lstm = Lstm("lstm", 2, 1)
    network = (same, down, same, lstm, same, up, same, up, norm, same)
    assert [span for span, _ in time_blocks.spans(network, 1000)] == [
        (same, down),
        (same,),
        (lstm,),
        (same,),
        (up, same),
        (up,),
        (norm,),
        (same,),
    ]


def test_rates_share_blocks_while_their_kernels_are_small():
    def down(channels, next_channels):
        return Conv("down", channels, next_channels, 4, stride=2, padding=(1, 1))

    network = (down(32, 64), down(64, 128), down(128, 2048))
    together, alone = time_blocks.spans(network, 1_000_000)
    assert [span for span, _ in (together, alone)] == [network[:2], network[2:]]
    assert together[1].unit_in == 4
    assert together[1].length_out == alone[1].length == 250_000


def test_short_signals_and_what_is_not_local_are_run_at_once():
    wide = Conv("wide", 64, 64, 7, padding=(3, 3))
    assert time_blocks.time_blocks((wide,), 10_000) is None
    assert time_blocks.time_blocks((Lstm("lstm", 64, 1),), 10_000_000) is None
    norm = Conv("norm", 64, 64, 7, padding=(3, 3), time_group_norm=True)
    assert time_blocks.time_blocks((wide, norm), 10_000_000) is None


def padded_outputs(conv, length, lengths=None):
    """bool [B, T']: which were computed in windows that are padded."""

    def layers(window, padded, _):
        outputs = conv.output_length(window.shape[1], padded)
        return jnp.full((len(window), outputs, 1), padded, jnp.float32)

    batch = 1 if lengths is None else len(lengths)
    hidden = jnp.zeros((batch, length, conv.in_channels))
    taken = time_blocks.time_blocks((conv,), length)
    return taken, np.asarray(taken.run(layers, hidden, lengths))[..., 0] > 0


def test_only_windows_at_the_ends_are_padded_where_padding_mirrors():
    mirrored = Conv("mirrored", 64, 64, 7, padding=(6, 0), pad_mode="reflect")
    taken, padded = padded_outputs(mirrored, 500_001)
    assert padded[0, 0]
    assert padded[0, -1]
    assert padded.sum() <= 2 * taken.size
    lengths = jnp.asarray([500_001, 300_000])
    taken, padded = padded_outputs(mirrored, 500_001, lengths)
    for own, length in zip(padded, lengths, strict=True):
        inside = np.flatnonzero(~own)
        assert inside[0] == taken.size
        assert length - 2 * taken.window < inside[-1] < length
    zeros = Conv("zeros", 64, 64, 7, padding=(3, 3))  # which costs nothing
    assert padded_outputs(zeros, 500_001)[1].all()


def test_blocks_are_of_a_few_megabytes_and_cover_the_signal():
    wide = Conv("wide", 64, 64, 7, padding=(3, 3))
    blocks = time_blocks.time_blocks((wide,), 500_001)
    assert 64 * 4 * blocks.window < 1.1 * time_blocks.BLOCK_BYTES
    assert blocks.count * blocks.size >= 500_001 == blocks.length_out
