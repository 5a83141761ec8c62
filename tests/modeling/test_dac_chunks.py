"""DAC in chunks: exact ones change nothing, overlapping ones next to nothing."""

import jax
import numpy as np
import pytest

from codax.modeling.pretrained_base import _run

from .tiny import HOP_LENGTH, noise, tiny_config, tiny_model

FRAMES = 203
# Sums of float32 products of order one, in an order that depends on the length: 4e-7 was seen.
TOLERANCE = 1e-5
SETTINGS = {
    "overlap average": {"overlap": 0.25},
    "overlap as long as the context": {"overlap": 0.7},
    "exact": {"chunk_mode": "exact"},
    "mean": {"chunk_mode": "mean"},
}


def seconds(model, frames):
    return frames / model.config.frame_rate


@pytest.fixture(scope="module")
def codes(model):
    shape = (2, model.config.n_codebooks, FRAMES)
    return np.random.default_rng(0).integers(0, model.config.codebook_size, shape)


@pytest.fixture(scope="module")
def whole(model, codes):
    return np.asarray(model.decode(audio_codes=codes).audio_values)


@pytest.fixture(scope="module")
def long_audio():
    """Ends inside a frame."""
    return noise(2, 1, FRAMES * HOP_LENGTH + 7)


@pytest.fixture(scope="module")
def encoded(model, long_audio):
    return model.encode(long_audio)


# --- decoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 17, 60, 171, 202, 203, 500])
def test_exact_chunks_of_any_length_decode_as_the_whole(model, codes, whole, frames):
    audio = model.decode(
        audio_codes=codes, chunk_length_s=seconds(model, frames), chunk_mode="exact"
    ).audio_values
    assert audio.shape == whole.shape
    np.testing.assert_allclose(audio, whole, atol=TOLERANCE)


@pytest.mark.parametrize(("frames", "overlap"), [(60, 0.7), (80, 0.41), (100, 0.9)])
def test_overlaps_as_long_as_the_context_change_nothing(model, codes, whole, frames, overlap):
    assert round(frames * overlap) >= sum(model.config.decoder_context_frames)
    chunked = model.decode(
        audio_codes=codes, chunk_length_s=seconds(model, frames), overlap=overlap
    )
    np.testing.assert_allclose(chunked.audio_values, whole, atol=TOLERANCE)


def test_an_overlap_average_is_nearer_to_the_whole_than_the_mean_and_that_than_no_overlap(
    model, codes, whole
):
    def error(**settings):
        chunked = model.decode(
            audio_codes=codes, chunk_length_s=seconds(model, 60), num_samples=2000, **settings
        )
        return np.sqrt(np.mean((chunked.audio_values - whole[:, :2000]) ** 2))

    at_once = model.config.decoder_context_frames
    assert sum(at_once) == 32
    average, none = error(overlap=0.3), error(overlap=0.0)
    assert 0 < average < none
    assert error(overlap=0.5) < average


def test_the_mean_is_that_of_hance_ai(model, codes):
    """Each chunk decoded alone; the overlap is halved between what is there and what comes."""
    chunked = model.decode(
        audio_codes=codes, chunk_length_s=seconds(model, 50), overlap=0.1, chunk_mode="mean"
    )
    joined, shared = None, 5 * HOP_LENGTH
    for start in range(0, FRAMES, 45):
        chunk = model.decode(audio_codes=codes[..., start : start + 50]).audio_values
        shared = min(shared, chunk.shape[-1])
        if joined is None:
            joined = np.asarray(chunk)
            continue
        mean = (joined[:, -shared:] + chunk[:, :shared]) / 2
        joined = np.concatenate([joined[:, :-shared], mean, chunk[:, shared:]], axis=-1)
    assert joined is not None
    np.testing.assert_allclose(chunked.audio_values, joined, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_chunks_inside_a_callers_jit_are_the_same(model, codes, settings):
    settings = {"chunk_length_s": seconds(model, 60), **settings}

    @jax.jit
    def decode(params, codes):
        return model.decode(audio_codes=codes, params=params, **settings).audio_values

    expected = model.decode(audio_codes=codes, **settings).audio_values
    np.testing.assert_allclose(decode(model.params, codes), expected, atol=TOLERANCE)


def test_quantized_representations_are_decoded_in_chunks_too(model, long_audio, encoded):
    settings = {"chunk_length_s": seconds(model, 60), "chunk_mode": "exact"}
    latents = encoded.quantized_representation
    expected = model.decode(latents).audio_values
    np.testing.assert_allclose(
        model.decode(latents, **settings).audio_values, expected, atol=TOLERANCE
    )


def test_more_chunks_of_the_same_length_do_not_compile_again(model, codes):
    settings = {"chunk_length_s": seconds(model, 60), "chunk_mode": "exact"}
    model.decode(audio_codes=codes, **settings)
    before = _run._cache_size()
    model.decode(audio_codes=np.tile(codes, 3), **settings)
    model.decode(audio_codes=codes[..., :111], **settings)
    assert _run._cache_size() == before


def test_audio_in_chunks_is_on_the_host(model, codes):
    chunked = model.decode(audio_codes=codes, chunk_length_s=seconds(model, 60))
    assert isinstance(chunked.audio_values, np.ndarray)


# --- encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 40, 202, 500])
def test_chunks_of_any_length_encode_to_the_same_codes(model, long_audio, encoded, frames):
    chunked = model.encode(long_audio, chunk_length_s=seconds(model, frames))
    np.testing.assert_array_equal(chunked.audio_codes, encoded.audio_codes)
    for field in ("quantized_representation", "projected_latents", "loss"):
        np.testing.assert_allclose(chunked[field], encoded[field], rtol=1e-5, atol=TOLERANCE)


def test_fewer_codebooks_encode_in_chunks_too(model, long_audio, encoded):
    chunked = model.encode(long_audio, n_quantizers=1, chunk_length_s=seconds(model, 40))
    np.testing.assert_array_equal(chunked.audio_codes, encoded.audio_codes[:, :1])


def test_encoding_in_chunks_inside_a_callers_jit_is_the_same(model, long_audio, encoded):
    @jax.jit
    def encode(params, audio):
        return model.encode(audio, params=params, chunk_length_s=seconds(model, 40))

    output = encode(model.params, long_audio)
    np.testing.assert_array_equal(output.audio_codes, encoded.audio_codes)
    np.testing.assert_allclose(output.loss, encoded.loss, rtol=1e-5)


# --- settings ------------------------------------------------------------------------------------


def test_settings_of_the_configuration_hold_until_a_call_gives_others(model, codes, whole):
    config = tiny_config(
        decode_chunk_length_s=seconds(model, 60),
        decode_chunk_mode="exact",
        encode_chunk_length_s=seconds(model, 40),
    )
    chunking = tiny_model(config)
    audio = chunking.decode(audio_codes=codes).audio_values
    assert isinstance(audio, np.ndarray)
    np.testing.assert_allclose(audio, whole, atol=TOLERANCE)
    assert isinstance(chunking.encode(noise(1, 1, 1000)).audio_codes, np.ndarray)
    in_one = chunking.decode(audio_codes=codes, chunk_length_s=0).audio_values
    assert isinstance(in_one, jax.Array)


def test_settings_are_given_to_from_pretrained_and_saved(model, codes, tmp_path):
    model.save_pretrained(tmp_path / "plain")
    loaded = type(model).from_pretrained(
        tmp_path / "plain", decode_chunk_length_s=0.05, decode_overlap=0.25
    )
    assert isinstance(loaded.decode(audio_codes=codes).audio_values, np.ndarray)
    loaded.save_pretrained(tmp_path / "chunking")
    again = type(model).from_pretrained(tmp_path / "chunking")
    assert again.config.decode_chunks() == loaded.config.decode_chunks()
    assert again.config.decode_overlap == 0.25


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"overlap": 1}, "decode_overlap=1 must be a number from 0 to less than 1"),
        ({"overlap": -0.1}, "decode_overlap=-0.1"),
        ({"chunk_length_s": -1}, "decode_chunk_length_s=-1 must be a number from 0"),
        ({"chunk_length_s": float("nan")}, "decode_chunk_length_s=nan"),
        ({"chunk_mode": "best"}, "'overlap_average', 'exact', 'mean'"),
    ],
)
def test_settings_that_are_none_are_refused_by_name_and_value(model, codes, settings, told):
    with pytest.raises(ValueError, match="decode_") as refusal:
        model.decode(audio_codes=codes, **{"chunk_length_s": 0.05, **settings})
    assert told in str(refusal.value)
    fields = {f"decode_{name}": value for name, value in settings.items()}
    with pytest.raises(ValueError, match="decode_"):
        tiny_config(**fields)


def test_audio_in_chunks_stays_on_the_host_whatever_its_length(model, codes):
    settings = {"chunk_length_s": seconds(model, 60), "chunk_mode": "exact"}
    chunked = model.decode(audio_codes=codes, num_samples=2100, **settings).audio_values
    assert isinstance(chunked, np.ndarray)
    assert chunked.shape == (2, 2100)


def test_calling_a_model_that_chunks_gives_what_it_gives_as_a_whole(model, long_audio):
    config = tiny_config(
        encode_chunk_length_s=seconds(model, 40),
        decode_chunk_length_s=seconds(model, 60),
        decode_chunk_mode="exact",
    )
    expected, result = model(long_audio), tiny_model(config)(long_audio)
    assert isinstance(result.audio_values, np.ndarray)
    np.testing.assert_array_equal(result.audio_codes, expected.audio_codes)
    np.testing.assert_allclose(result.audio_values, expected.audio_values, atol=TOLERANCE)


def test_a_span_of_the_mean_is_refused(model, codes):
    chunks = model.config.decode_chunks(seconds(model, 60), mode="mean")
    with pytest.raises(ValueError, match='"exact", not "mean"'):
        list(model.decode_pieces(codes, chunks, span=(1000, 1200)))
