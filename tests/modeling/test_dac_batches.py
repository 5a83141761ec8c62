"""Clips of unequal length in one batch: each is coded as it would be alone."""

import jax
import numpy as np
import pytest

from tests.modeling.tiny import HOP_LENGTH, noise

# Audio float32: sums in another order.
TOLERANCE = 1e-5
LENGTHS = (700, 693, 401, 9, 0)
FRAMES = tuple(-(-length // HOP_LENGTH) for length in LENGTHS)
SHAPE = (len(LENGTHS), 1, max(LENGTHS))


@pytest.fixture(scope="module")
def clips():
    return noise(*SHAPE)


@pytest.fixture(scope="module")
def mask():
    return (np.arange(SHAPE[-1]) < np.array(LENGTHS)[:, None]).astype(np.int32)


@pytest.fixture(scope="module")
def batch(model, clips, mask):
    return model.encode(clips, padding_mask=mask)


@pytest.fixture(scope="module")
def alone(model, clips):
    """What each clip with samples gives by itself, filled with silence to whole frames."""
    outputs = []
    for clip, length, frames in zip(clips, LENGTHS, FRAMES, strict=True):
        if frames:
            filled = np.zeros((1, 1, frames * HOP_LENGTH), np.float32)
            filled[..., :length] = clip[:, :length]
            outputs.append(model.encode(filled))
    return outputs


def test_each_clip_has_the_codes_it_has_alone(batch, alone):
    for index, output in enumerate(alone):
        assert np.array_equal(
            batch.audio_codes[index, :, : FRAMES[index]], output.audio_codes[0]
        ), LENGTHS[index]


@pytest.mark.parametrize("field", ["quantized_representation", "projected_latents"])
def test_each_clip_has_the_latents_it_has_alone(batch, alone, field):
    for index, output in enumerate(alone):
        ours = np.asarray(getattr(batch, field))[index, :, : FRAMES[index]]
        np.testing.assert_allclose(ours, getattr(output, field)[0], atol=TOLERANCE)


def test_everything_beyond_a_clip_is_zero(batch):
    for array in (batch.audio_codes, batch.quantized_representation, batch.projected_latents):
        for item, frames in zip(np.asarray(array), FRAMES, strict=True):
            assert not item[:, frames:].any()


def test_the_loss_is_the_mean_over_the_frames_that_there_are(batch, alone):
    weights = [count for count in FRAMES if count]
    losses = [float(output.loss) for output in alone]
    assert float(batch.loss) == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_what_follows_a_clip_is_not_seen(model, clips, mask, batch):
    other = np.where(mask[:, None] > 0, clips, 7.0)
    assert np.array_equal(model.encode(other, padding_mask=mask).audio_codes, batch.audio_codes)


def test_the_last_samples_of_a_masked_batch_are_coded(model, clips):
    cut = clips[:, :, :693]
    ones = np.ones((len(cut), 693), np.int32)
    assert model.encode(cut, padding_mask=ones).audio_codes.shape[-1] == 70


@pytest.mark.parametrize("chunk_length_s", [70 / 800, 33 / 800])
def test_chunks_change_no_clip_of_a_batch(model, clips, mask, batch, chunk_length_s):
    chunked = model.encode(clips, padding_mask=mask, chunk_length_s=chunk_length_s)
    assert np.array_equal(chunked.audio_codes, batch.audio_codes)
    assert float(chunked.loss) == pytest.approx(float(batch.loss), rel=1e-5)
    for item, frames in zip(chunked.quantized_representation, FRAMES, strict=True):
        assert not item[:, frames:].any()


def test_a_traced_mask_does_as_well(model, clips, mask, batch):
    encode = jax.jit(
        lambda params, clips, mask: (
            model.encode(clips, padding_mask=mask, params=params).audio_codes
        )
    )
    assert np.array_equal(encode(model.params, clips, mask), batch.audio_codes)


@pytest.fixture(scope="module")
def decoded_alone(model, batch):
    counts = [count for count in FRAMES if count]
    return [
        np.asarray(model.decode(audio_codes=batch.audio_codes[i : i + 1, :, :n]).audio_values[0])
        for i, n in enumerate(counts)
    ]


def test_each_clip_decodes_as_it_does_alone(model, batch, decoded_alone):
    both = {
        "codes": {"audio_codes": batch.audio_codes},
        "latents": {"quantized_representation": batch.quantized_representation},
    }
    for name, given in both.items():
        audio = np.asarray(model.decode(**given, num_frames=FRAMES).audio_values)
        for item, expected in zip(audio, decoded_alone, strict=False):
            np.testing.assert_allclose(
                item[: len(expected)], expected, atol=TOLERANCE, err_msg=name
            )
            assert not item[len(expected) :].any(), name


def test_clips_of_a_batch_decode_in_exact_chunks(model, batch, decoded_alone):
    audio = model.decode(
        audio_codes=batch.audio_codes,
        num_frames=FRAMES,
        chunk_length_s=33 / 800,
        chunk_mode="exact",
    ).audio_values
    for item, expected in zip(audio, decoded_alone, strict=False):
        np.testing.assert_allclose(item[: len(expected)], expected, atol=TOLERANCE)
        assert not item[len(expected) :].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding_mask": np.ones((2, 3))}, r"padding_mask has shape \(2, 3\)"),
        ({"padding_mask": np.eye(5, 700)}, "must be 1 up to where a clip ends"),
        ({"padding_mask": np.ones((5, 700)), "padded": False}, "takes no padding_mask"),
    ],
)
def test_bad_masks_are_refused(model, clips, options, message):
    with pytest.raises(ValueError, match=message):
        model.encode(clips, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": [1, 2]}, r"expected integers \(5,\)"),
        ({"num_frames": [71, 1, 1, 1, 1]}, "reach from 1 to 71; expected 0 to 70"),
        ({"num_frames": [1.5] * 5}, "dtype float64"),
        ({"num_frames": [70] * 5, "padded": False}, "takes no num_frames"),
    ],
)
def test_bad_numbers_of_frames_are_refused(model, batch, options, message):
    with pytest.raises(ValueError, match=message):
        model.decode(audio_codes=batch.audio_codes, **options)
