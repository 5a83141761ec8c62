"""What is measured for a card."""

import numpy as np
import pytest

from codax.hub_cards import CLIP_S, measure_speed, reconstruct, synthetic_clip

from .conftest import ON_EACH_FAMILY


@pytest.mark.parametrize("channels", [1, 2])
def test_the_synthetic_clip_is_audio(channels):
    clip = synthetic_clip(8000, channels, seconds=2.0)
    assert clip.shape == (channels, 16000)
    assert clip.dtype == np.float32
    assert 0.05 < np.sqrt(np.mean(clip**2)) < 0.5
    assert np.abs(clip).max() < 1
    np.testing.assert_array_equal(clip, synthetic_clip(8000, channels, seconds=2.0))


@ON_EACH_FAMILY
def test_reconstruction_is_what_encoding_and_decoding_give(published):
    clip = reconstruct(published.model, published.clip)
    assert clip.shape == published.clip.shape
    expected = published.audio.reshape(len(clip), -1)[:, : clip.shape[1]]
    same = expected.shape[1]  # the 16 and 24 kHz DAC models decode to some samples less
    np.testing.assert_allclose(clip[:, :same], expected, atol=1e-6)


def test_speed_is_that_of_whole_clips_whatever_the_configuration_says(dac, monkeypatch):
    chunked = type(dac.model).from_pretrained(
        dac.folder, encode_chunk_length_s=0.5, decode_chunk_length_s=0.5
    )
    shapes = []
    apply = chunked._apply

    def noting(method, params, *arrays, **options):
        shapes.extend(array.shape[-1] for array in arrays if array is not None)
        return apply(method, params, *arrays, **options)

    monkeypatch.setattr(chunked, "_apply", noting)
    speed = measure_speed(chunked, repeats=1)
    samples = round(CLIP_S * dac.rate)
    assert set(shapes) == {samples, samples // 10}
    assert (speed.clip_s, speed.dtype) == (CLIP_S, "float32")
    assert min(speed.encode_s, speed.decode_s) > 0
    assert "jax" in speed.machine
