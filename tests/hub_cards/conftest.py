"""The four shapes of models, as they are published."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codax.hub_cards import Origin, write_repository
from codax.modeling import model_class_of
from tests.conftest import write_tiny_dac
from tests.reference import peers
from tests.tiny_encodec import MONO, MUSIC, STEREO, noise, write_tiny_encodec


def write_full_size(folder):
    """DAC at 44.1 kHz with random weights, as torch's transformers writes it."""
    if reason := peers.missing_transformers():
        pytest.skip(reason)
    from tests.reference import checkpoints, variants

    checkpoints.write_transformers_folder(
        checkpoints.make_weights(variants.VARIANTS["44khz"]), folder
    )
    return folder


SHAPES = {
    "dac": write_tiny_dac,
    "encodec-24khz": lambda folder: write_tiny_encodec(folder, MONO),
    "encodec-32khz": lambda folder: write_tiny_encodec(folder, MUSIC),
    "encodec-48khz": lambda folder: write_tiny_encodec(folder, STEREO),
    "dac-full-size": write_full_size,
}
SLOW = {"dac-full-size"}
ORIGIN = Origin("mit", "the text of the licence\n")
NUM_SAMPLES = 1600


@dataclass(frozen=True)
class Published:
    """A model, and the folder of files that its repository holds.

    clip: float32 [C, T], which codes and audio below are of
    codes, audio: what codax gives for it, with all codebooks
    """

    name: str
    repo_id: str
    model: Any
    folder: Path
    clip: np.ndarray
    codes: np.ndarray
    audio: np.ndarray

    @property
    def rate(self):
        return self.model.config.sampling_rate

    @property
    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


def coded(model, inputs):
    """Codes and audio as NumPy arrays, with all codebooks; inputs: of the feature extractor."""
    if model.config.model_type == "dac":
        codes = model.encode(inputs["input_values"]).audio_codes
        return np.asarray(codes), np.asarray(model.decode(audio_codes=codes).audio_values)
    mask = inputs["padding_mask"]
    bandwidth = model.config.target_bandwidths[-1]
    encoded = model.encode(inputs["input_values"], mask, bandwidth=bandwidth)
    decoded = model.decode(encoded.audio_codes, encoded.audio_scales, mask)
    return np.asarray(encoded.audio_codes), np.asarray(decoded.audio_values)


@pytest.fixture(scope="session")
def published_as(tmp_path_factory):
    """`published_as("dac")` -> `Published`, made once."""
    made = {}

    def publish(name):
        if name not in made:
            source = SHAPES[name](tmp_path_factory.mktemp(name))
            folder = tmp_path_factory.mktemp("published") / f"tiny-{name}"
            made[name] = _publish(name, source, folder)
        return made[name]

    return publish


def _publish(name, source, folder):
    from transformers import AutoFeatureExtractor

    model = model_class_of(source).from_pretrained(source)
    repo_id = f"owner/tiny-{name}"
    write_repository(folder, model, ORIGIN, repo_id, measure=False)
    channels = model.config.audio_channels
    clip = noise(channels, NUM_SAMPLES)
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    rate = model.config.sampling_rate
    inputs = extractor(clip, sampling_rate=rate, return_tensors="np")
    return Published(name, repo_id, model, folder, clip, *coded(model, inputs))


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.full] * (name in SLOW)) for name in SHAPES]
)
def published(request, published_as):
    """Each of the shapes."""
    return published_as(request.param)


# One model of each family in every run, where the models' code is the same and a test takes long.
ON_EACH_FAMILY = pytest.mark.parametrize(
    "published",
    [
        pytest.param(name, marks=[pytest.mark.full] * (name not in ("dac", "encodec-48khz")))
        for name in SHAPES
    ],
    indirect=True,
)


@pytest.fixture
def dac(published_as):
    return published_as("dac")
