"""What transformers' Auto classes give once codax's feature extractors are registered."""

import os
import subprocess
import sys

import pytest
import transformers
from transformers import AutoFeatureExtractor, AutoProcessor, DacConfig
from transformers.models.auto.feature_extraction_auto import feature_extractor_class_from_name

from codax.feature_extraction import DacFeatureExtractor, register_feature_extractors

RATIOS_24KHZ = {"downsampling_ratios": [2, 4, 5, 8], "sampling_rate": 24000}


@pytest.fixture(autouse=True)
def registered():
    register_feature_extractors()


@pytest.fixture
def folder(tmp_path):
    """A DAC folder as the official repositories have it, weights aside."""
    DacConfig(**RATIOS_24KHZ).save_pretrained(tmp_path)
    DacFeatureExtractor(sampling_rate=24000, hop_length=320).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("auto_class", [AutoFeatureExtractor, AutoProcessor])
def test_auto_class_gives_our_extractor(folder, auto_class):
    extractor = auto_class.from_pretrained(folder)
    assert type(extractor) is DacFeatureExtractor
    assert (extractor.sampling_rate, extractor.hop_length) == (24000, 320)


def test_auto_class_passes_our_options_on(folder):
    extractor = AutoFeatureExtractor.from_pretrained(folder, resample=True, loudness=-16.0)
    assert (extractor.resample, extractor.loudness) == (True, -16.0)


def test_file_without_a_type_is_resolved_by_the_model_config(folder):
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 24000, "hop_length": 320}')
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert type(extractor) is DacFeatureExtractor
    assert extractor.hop_length == 320


@pytest.mark.parametrize("name", ["ClapFeatureExtractor", "WhisperFeatureExtractor"])
def test_other_extractors_stay_those_of_transformers(name):
    assert feature_extractor_class_from_name(name) is getattr(transformers, name)


def test_registering_again_changes_nothing(folder):
    register_feature_extractors()
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is DacFeatureExtractor


def test_registering_and_extracting_work_without_torch():
    """In a process where torch cannot be imported; USE_TORCH=0 tells transformers so."""
    script = """
import sys
sys.modules["torch"] = None
import numpy as np
from codax.feature_extraction import DacFeatureExtractor, register_feature_extractors
register_feature_extractors()
features = DacFeatureExtractor()(np.zeros(10), sampling_rate=16000, return_tensors="np")
assert features["input_values"].shape == (1, 1, 512)
"""
    environment = os.environ | {"USE_TORCH": "0"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
