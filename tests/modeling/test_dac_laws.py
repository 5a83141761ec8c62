"""What must hold of codes and audio, whatever the weights."""

from functools import partial

import jax
import numpy as np
import pytest

from codax.configuration.conv_geometry import input_span

from .tiny import BATCH, FRAMES, HOP_LENGTH, noise, tiny_config, tiny_model

# Sums of float32 products of order one, in an order that depends on the program: 3e-7 was seen.
TOLERANCE = 2e-6


def decode(model, codes, **options):
    return np.asarray(model.decode(audio_codes=codes, **options).audio_values)


def test_codes_use_much_of_the_codebook(encoded):
    """What the other tests here compare must vary."""
    assert all(len(np.unique(codes)) >= 6 for codes in np.moveaxis(encoded.audio_codes, 1, 0))


@pytest.mark.parametrize("n_quantizers", [1, 2])
def test_codes_of_fewer_quantizers_are_the_first_of_all(model, audio, encoded, n_quantizers):
    fewer = model.encode(audio, n_quantizers=n_quantizers)
    np.testing.assert_array_equal(fewer.audio_codes, encoded.audio_codes[:, :n_quantizers])
    dims = n_quantizers * model.config.codebook_dim
    first_latents = encoded.projected_latents[:, :dims]
    np.testing.assert_allclose(fewer.projected_latents, first_latents, atol=TOLERANCE)
    assert fewer.loss < encoded.loss


def test_decoding_codes_and_decoding_their_latents_give_the_same_audio(model, encoded, decoded):
    by_latents = model.decode(encoded.quantized_representation).audio_values
    np.testing.assert_allclose(by_latents, decoded, atol=TOLERANCE)


def test_calling_encodes_and_decodes(model, audio, encoded, decoded):
    output = model(audio)
    np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)
    np.testing.assert_allclose(output.audio_values, decoded, atol=TOLERANCE)
    np.testing.assert_allclose(output.loss, encoded.loss, rtol=1e-5)


def test_loss_weighs_the_losses_of_the_codebooks_as_the_configuration_says(model, audio):
    """Both losses have the same value and differ in their gradients only."""
    weighted = tiny_model(tiny_config(commitment_loss_weight=0.5, codebook_loss_weight=3.0))
    default = model.config.commitment_loss_weight + model.config.codebook_loss_weight
    ratio = weighted.encode(audio).loss / model.encode(audio).loss
    np.testing.assert_allclose(ratio, 3.5 / default, rtol=1e-5)


def test_clip_does_not_depend_on_its_neighbours_in_the_batch(model, audio, encoded, decoded):
    for item in range(BATCH):
        alone = model.encode(audio[item : item + 1]).audio_codes
        np.testing.assert_array_equal(alone, encoded.audio_codes[item : item + 1])
        np.testing.assert_allclose(decode(model, alone)[0], decoded[item], atol=1e-6)
    neighbour = np.stack([audio[0], noise(1, audio.shape[-1], seed=9)])
    np.testing.assert_array_equal(model.encode(neighbour).audio_codes[0], encoded.audio_codes[0])


def test_silent_neighbour_and_order_in_the_batch_change_nothing(model, audio, encoded):
    silenced = np.stack([np.zeros_like(audio[1]), audio[1]])
    np.testing.assert_array_equal(model.encode(silenced).audio_codes[1], encoded.audio_codes[1])
    swapped = model.encode(audio[::-1]).audio_codes
    np.testing.assert_array_equal(swapped, encoded.audio_codes[::-1])


def outputs_reached(convs, position, count):
    """bool [count]: whether an output's span holds the input at `position`."""
    spans = [input_span(convs, output, output + 1) for output in range(count)]
    return np.array([start <= position < stop for start, stop in spans])


@pytest.fixture(scope="module")
def random_codes():
    codes = np.random.default_rng(4).integers(0, 16, (BATCH, 3, FRAMES))
    return codes.astype(np.int32)


@pytest.mark.parametrize("frame", [0, 35, FRAMES - 1])
def test_one_frame_of_codes_changes_audio_within_its_reach_only(model, random_codes, frame):
    before = decode(model, random_codes)[0]
    changed = random_codes.copy()
    changed[..., frame] = (changed[..., frame] + 5) % 16
    difference = np.abs(decode(model, changed)[0] - before)
    reached = outputs_reached(model.config.architecture.decoder_convs, frame, len(before))
    assert 0 < reached.sum() < len(reached)
    # The same program on the same operands: nothing to tolerate.
    assert not difference[~reached].any()
    # Far from the frame its influence sinks below float32's steps; near it every sample moves.
    centre = slice(frame * HOP_LENGTH, (frame + 1) * HOP_LENGTH)
    assert (difference[centre] > 0).all()


@pytest.mark.parametrize("position", [0, 351, 10 * FRAMES - 1])
def test_one_sample_changes_frames_within_its_reach_only(model, audio, encoded, position):
    changed = audio.copy()
    changed[..., position] += 0.5
    after = model.encode(changed)
    reached = outputs_reached(model.config.architecture.encoder_convs, position, FRAMES)
    assert 0 < reached.sum() < len(reached)
    difference = np.abs(after.projected_latents - encoded.projected_latents)[0]
    # The same program on the same operands: nothing to tolerate.
    assert not difference[:, ~reached].any()
    assert (difference[:, position // HOP_LENGTH] > 0).any()
    unreached = after.audio_codes[..., ~reached]
    np.testing.assert_array_equal(unreached, encoded.audio_codes[..., ~reached])


def test_unpadded_decoding_equals_padded_decoding_away_from_the_ends(model, random_codes):
    padded = decode(model, random_codes)[0]
    unpadded = decode(model, random_codes, padded=False)[0]
    lost = (len(padded) - len(unpadded)) // 2  # as much at the one end as at the other
    left, right = model.config.decoder_context_frames
    interior = slice(left * HOP_LENGTH, (FRAMES - right) * HOP_LENGTH)
    aligned = np.zeros_like(padded)
    aligned[lost : lost + len(unpadded)] = unpadded
    assert interior.start >= lost
    np.testing.assert_allclose(aligned[interior], padded[interior], atol=TOLERANCE)


def test_unpadded_encoding_of_a_window_gives_the_codes_of_the_whole(model, audio, encoded):
    frames = (25, 41)
    whole = encoded.audio_codes
    start, stop = input_span(model.config.architecture.encoder_convs, *frames)
    assert 0 <= start < stop <= audio.shape[-1]
    encode = jax.jit(partial(model.module.apply, padded=False, method="encode"))
    window = encode({"params": model.params}, audio[..., start:stop])
    np.testing.assert_array_equal(window.audio_codes, whole[..., slice(*frames)])


def test_padded_encoding_of_a_window_gives_the_codes_of_the_whole_between_its_context(
    model, audio, encoded
):
    whole = encoded.audio_codes
    left, right = model.config.encoder_context_frames
    window = model.encode(audio[..., 100:]).audio_codes[..., left:]
    np.testing.assert_array_equal(window, whole[..., 10 + left :])
    window = model.encode(audio[..., :600]).audio_codes[..., : 60 - right]
    np.testing.assert_array_equal(window, whole[..., : 60 - right])


def test_keep_length_is_decoding_of_the_padded_audio_cropped(model, audio, encoded):
    """The last hop is short of its samples: 698 come from 700, so one more frame is coded."""
    kept = model(audio, keep_length=True)
    assert kept.audio_values.shape == (BATCH, audio.shape[-1])
    longer = np.pad(audio, ((0, 0), (0, 0), (0, HOP_LENGTH)))
    expected = model(longer)
    np.testing.assert_array_equal(kept.audio_codes, expected.audio_codes)
    np.testing.assert_array_equal(kept.audio_values, expected.audio_values[:, : audio.shape[-1]])
    assert kept.audio_codes.shape[-1] == FRAMES + 1
