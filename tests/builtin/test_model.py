"""The built-in model is a trained one: what it is held to that random weights cannot show."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from codax import AudioCodec, FlaxDacModel, builtin
from codax.evaluation import evaluate
from codax.feature_extraction import read_audio
from tests.reference import peers

MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def codec():
    return AudioCodec.from_pretrained("builtin")


@pytest.fixture(scope="module")
def model(codec):
    return codec.model


@pytest.fixture(scope="module")
def clip():
    """float32 [1, 1, T], 4 s of the recording in whole frames."""
    samples, rate = read_audio(builtin.RECORDING)
    assert rate == 16000
    return samples[None, :, : 4 * rate]


@pytest.fixture(scope="module")
def codes(model, clip):
    return model.encode(clip).audio_codes


def decibels(signal, error):
    return 10 * np.log10(np.sum(np.square(signal)) / np.sum(np.square(error)))


def test_it_is_small(model):
    files = {path.name: path.stat().st_size for path in builtin.MODEL.iterdir()}
    assert set(files) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert sum(files.values()) < MOST_BYTES
    assert 4000 <= model.config.bitrate() <= 8000


def test_it_is_better_than_opus_and_the_better_the_more_bits():
    codec = AudioCodec.from_pretrained("builtin")
    levels = [1, 2, 4, 8, 12]
    report = evaluate(codec, [builtin.RECORDING], n_quantizers=levels, opus_kbps=[7])
    *steps, opus = report.steps
    distances = [step.metrics["mel"] for step in steps]
    assert distances == sorted(distances, reverse=True)
    assert opus.kbps >= steps[-1].kbps
    assert distances[-1] < opus.metrics["mel"]


def test_bfloat16_decodes_nearly_the_same(model, codes):
    halved = FlaxDacModel.from_pretrained(builtin.MODEL, dtype=jnp.bfloat16)
    audio = np.asarray(model.decode(audio_codes=codes).audio_values)
    error = np.asarray(halved.decode(audio_codes=codes).audio_values, np.float32) - audio
    assert decibels(audio, error) > 45


def test_chunks_leave_no_seams(model, clip, codes):
    whole = np.asarray(model.decode(audio_codes=codes).audio_values)
    exact = model.decode(audio_codes=codes, chunk_length_s=1.0, chunk_mode="exact").audio_values
    np.testing.assert_allclose(exact, whole, atol=1e-5)
    averaged = model.decode(
        audio_codes=codes, chunk_length_s=1.0, chunk_mode="overlap_average", overlap=0.25
    ).audio_values
    assert decibels(whole, np.asarray(averaged) - whole) > 20
    np.testing.assert_array_equal(model.encode(clip, chunk_length_s=1.0).audio_codes, codes)


def test_torch_has_the_same_codes_and_audio(clip, codes, model):
    if reason := peers.missing_transformers():
        pytest.skip(reason)
    import torch
    from transformers import DacModel

    reference = DacModel.from_pretrained(builtin.MODEL).eval()
    assert reference.dtype == torch.float32
    with torch.no_grad():
        expected = reference.encode(torch.from_numpy(clip)).audio_codes
        audio = reference.decode(audio_codes=expected).audio_values.numpy()
    np.testing.assert_array_equal(codes, expected.numpy())
    np.testing.assert_allclose(model.decode(audio_codes=codes).audio_values, audio, atol=1e-5)


def test_its_name_is_that_of_a_model_everywhere(codec, tmp_path):
    from codax.conversion import download_model, resolve_model

    assert resolve_model("builtin") == str(builtin.MODEL) == download_model("builtin")
    encoded = codec.encode(builtin.RECORDING, n_quantizers=2)
    assert encoded.model == "builtin"


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    from codax.conversion import resolve_model

    monkeypatch.chdir(tmp_path)
    Path("builtin").mkdir()
    assert resolve_model("builtin") == "builtin"


def test_its_card_says_what_it_is():
    card = (builtin.MODEL / "README.md").read_text("utf-8")
    assert "license: mit" in card
    assert 'AudioCodec.from_pretrained("builtin")' in card
    assert "trust_remote_code" not in card
