"""The code on the cards, run as it stands, against a Hub that holds the model."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codax.hub_cards import publish
from tests.reference import peers

from .conftest import ORIGIN

ROOT = Path(__file__).parents[2]
# What a card's reader has: an array, a file and a folder of files.
BEGINNING = """
import numpy as np
waveform = np.load("waveform.npy")
bandwidth = {bandwidth}
"""
# Long audio in chunks gives what it gives as a whole.
CODING_AGAIN = """
if model.config.model_type == "dac":
    again = model.encode(inputs.input_values).audio_codes
else:
    again = model.encode(inputs.input_values, inputs.padding_mask, bandwidth=bandwidth).audio_codes
assert np.array_equal(again, codes)
"""
# A row of the data set has all that decoding takes.
DECODING = """
row = {name: np.array(column) for name, column in coded[0].items() if name != "path"}
if model.config.model_type == "dac":
    decoded = model.decode(audio_codes=row["codes"].astype(np.int32))
else:
    scales = row["scales"].astype(np.float32) if "scales" in row else None
    decoded = model.decode(row["codes"].astype(np.int32), scales)
assert abs(decoded.audio_values).max() > 0.01
"""
# Checked behind each of the snippets.
ENDINGS = (
    "assert model.config and extractor.sampling_rate",
    "assert codes.dtype == 'int32' and audio.shape[-1] >= waveform.shape[-1] - 10",
    "assert model.config.decode_chunk_mode == 'exact'\n" + CODING_AGAIN,
    "assert len(coded) == 2\n" + DECODING,
    "assert codes is not None and audio.shape[-1] >= waveform.shape[-1] - 10",
    "assert codec.config.sampling_rate == extractor.sampling_rate",
)


SHAPES = [
    "dac",
    "encodec-48khz",
    pytest.param("encodec-24khz", marks=pytest.mark.full),
    pytest.param("encodec-32khz", marks=pytest.mark.full),
]


@pytest.fixture(params=SHAPES)
def published(request, published_as):
    return published_as(request.param)


@pytest.fixture
def reader(published, hub, tmp_path):
    """The folder of somebody who reads the card."""
    if reason := peers.missing_transformers():
        pytest.skip(reason)
    publish(published.model, ORIGIN, published.repo_id, measure=False)
    channels = len(published.clip)
    clip = 0.1 * np.random.default_rng(0).standard_normal((channels, 3 * published.rate))
    clip = clip.astype(np.float32)
    np.save(tmp_path / "waveform.npy", clip[0] if channels == 1 else clip)
    soundfile.write(tmp_path / "song.flac", clip.T, published.rate)
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "clips" / f"{name}.wav", clip.T, 2 * published.rate)
    return tmp_path


def test_the_snippets_of_a_card_run(published, reader, hub):
    card = hub.repositories[published.repo_id].files()["README.md"].decode()
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    bandwidth = getattr(published.model.config, "target_bandwidths", [None])[-1]
    parts = [part for pair in zip(snippets, ENDINGS, strict=True) for part in pair]
    finished = subprocess.run(
        [sys.executable, "-c", "\n".join([BEGINNING.format(bandwidth=bandwidth), *parts])],
        cwd=reader,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    song, decoded = (soundfile.info(reader / name) for name in ("song.flac", "song.wav"))
    assert (decoded.frames, decoded.samplerate) == (song.frames, song.samplerate)
