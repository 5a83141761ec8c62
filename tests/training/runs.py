"""Tiny training runs, which tests make in this process and in others.

    python -m tests.training.runs KIND FOLDER STEPS KILLED_AFTER

trains in FOLDER on the audio that `write_audio` makes, and gets a SIGKILL after that step.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import soundfile

from codax.training import Trainer, load_recipe

RATE = 8000
SMALL = [
    "run.log_every=1",
    "run.validate_every=0",
    "run.checkpoint_every=2",
    "excerpts.batch_size=4",
    "excerpts.duration_s=0.15",
    "excerpts.validation_s=0.2",
]
SETTINGS = {
    "dac": [
        "model.fields={encoder_hidden_size = 4, downsampling_ratios = [2, 5], n_codebooks = 2, "
        "decoder_hidden_size = 16, codebook_size = 16, codebook_dim = 4, sampling_rate = 8000}",
        "discriminator.fields={periods = [2], fft_sizes = [256], period_channels = [4, 8], "
        "bands = [[0.0, 0.5], [0.5, 1.0]], band_channels = 4}",
    ],
    "encodec": [
        "model.fields={num_filters = 4, upsampling_ratios = [4, 2], hidden_size = 8, "
        "codebook_size = 16, sampling_rate = 8000, target_bandwidths = [8.0], "
        "num_lstm_layers = 1}",
        "discriminator.fields={window_lengths = [256], channels = 4}",
    ],
}
RECIPES = {"dac": "dac_16khz", "encodec": "encodec_24khz"}


def tiny_recipe(kind, *settings):
    return load_recipe(RECIPES[kind], [*SMALL, *SETTINGS[kind], *settings])


def write_audio(folder, count=2, seconds=1.0, seed=0):
    """Chords of different pitch, with some noise."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    for index in range(count):
        pitch = 200 * (index + 1)
        tones = sum(np.sin(2 * np.pi * pitch * factor * times) for factor in (1, 1.25, 1.5))
        samples = 0.15 * tones + 0.005 * generator.standard_normal(len(times))
        soundfile.write(folder / f"{index}.wav", samples, RATE)
    return folder


def tiny_trainer(kind, folder, *settings, **options):
    """Trains in `folder / "run"` on the audio of `folder / "audio"`."""
    if not (folder / "audio").exists():
        write_audio(folder / "audio")
    domains = {"all": [folder / "audio"]}
    return Trainer(tiny_recipe(kind, *settings), domains, folder / "run", **options)


def with_devices(count):
    """The environment of a process with so many simulated devices.

    Steps run there a few times: optimising them takes minutes, and saves seconds.
    """
    return {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


def told_lines(folder):
    """What the run in `folder / "run"` told of its steps: the lines of its log, parsed."""
    lines = (folder / "run" / "logs" / "losses.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    kind, given, steps, last = sys.argv[1:]

    def kill(progress):
        if progress.step == int(last):
            os.kill(os.getpid(), signal.SIGKILL)

    tiny_trainer(kind, Path(given), f"run.steps={steps}").run(kill)
