"""Both recipes can learn: a tiny model comes close to the little that it is trained on."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codax import AudioCodec
from codax.evaluation.distances import si_sdr
from codax.feature_extraction import read_audio, resample
from codax.training import Trainer, load_recipe

from .runs import told_lines

SPEECH = Path(__file__).parents[1] / "assets" / "speech.flac"
RATE = 8000
SECONDS = 3
LEAST_SI_SDR = 15

SHARED = [
    "balanced=true",
    "losses={waveform = 20, adversarial = 1, features = 1}",
    "optimizer.learning_rate=3e-3",
    "optimizer.betas=[0.8, 0.99]",
    "optimizer.decay=0.999",
    "optimizer.generator_clip=0",
    "quantizer.dropout=0",
    "excerpts.transforms=none",
    "excerpts.loudest=false",
    "excerpts.duration_s=0.25",
    "excerpts.batch_size=3",
    f"excerpts.validation_s={SECONDS}",
    "run.average_decay=0.99",
    "run.validate_every=0",
    "run.log_every=1",
]
"""Of recipes, but for waveforms instead of what is heard: that is what is measured here."""

RECIPES = {
    "dac_16khz": [
        "model.fields={encoder_hidden_size = 8, decoder_hidden_size = 64, n_codebooks = 8, "
        f"downsampling_ratios = [2, 2], codebook_size = 256, sampling_rate = {RATE}}}",
        "discriminator.fields={periods = [2, 3, 5], period_channels = [8, 16, 32], "
        "fft_sizes = [512, 256], bands = [[0.0, 0.25], [0.25, 1.0]], band_channels = 8}",
        "losses.mel=1",
        "run.steps=2000",
    ],
    "encodec_24khz": [
        "model.fields={num_filters = 16, hidden_size = 32, num_lstm_layers = 1, "
        "upsampling_ratios = [2, 2], codebook_size = 256, target_bandwidths = [128.0], "
        f"sampling_rate = {RATE}}}",
        "discriminator.fields={window_lengths = [512, 256, 128], channels = 8}",
        "losses.encodec_mel=1",
        "run.steps=1300",
    ],
}


@pytest.mark.full
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_tiny_model_learns_three_seconds_of_speech(recipe, tmp_path):
    samples, rate = read_audio(SPEECH)
    samples = resample(samples, rate, RATE)[:, : SECONDS * RATE]
    samples = samples * (0.7 / np.max(np.abs(samples)))
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "speech.wav", samples.T, RATE, subtype="FLOAT")

    settings = [*SHARED, *RECIPES[recipe]]
    domains = {"all": [tmp_path / "audio"]}
    Trainer(load_recipe(recipe, settings), domains, tmp_path / "run").run()

    lines = told_lines(tmp_path)
    assert all(math.isfinite(line["adversarial"]) and line["features"] > 0 for line in lines)
    codec = AudioCodec.from_pretrained(tmp_path / "run" / "model")
    encoded = codec.encode(samples, RATE, loudness_db=None)  # as loud as it was trained on
    decoded = codec.decode(encoded).samples
    assert float(si_sdr(decoded[None], samples[None])) > LEAST_SI_SDR
