"""Scores of ViSQOL, and what is said where it has none."""

import sys

import numpy as np
import pytest

from codax.errors import AudioError, CodaxError
from codax.evaluation.visqol import Visqol

RATE = 16000


def noise(seconds=1.0, channels=1):
    shape = channels, round(seconds * RATE)
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def speech():
    pytest.importorskip("visqol", reason="visqol-python is not installed")
    return Visqol("speech")


def test_worse_reconstructions_score_less(speech):
    reference = noise()
    error = np.random.default_rng(1).normal(0, 1, reference.shape).astype(np.float32)
    scores = [speech.score(reference + level * error, reference, RATE) for level in (0, 0.02, 0.5)]
    assert scores[0] > 4.9
    assert scores == sorted(scores, reverse=True)
    assert 1 <= scores[-1] < 3


def test_channels_are_averaged(speech):
    reference = noise(channels=2)
    mono = reference.mean(axis=0, keepdims=True)
    stereo_score = speech.score(0.9 * reference, reference, RATE)
    assert stereo_score == pytest.approx(speech.score(0.9 * mono, mono, RATE))


def test_audio_mode_takes_any_rate():
    pytest.importorskip("visqol", reason="visqol-python is not installed")
    assert Visqol("audio").score(noise(), noise(), RATE) > 4.5


@pytest.mark.parametrize("clip", [noise(0.3), noise(0.001), np.zeros((1, RATE), np.float32)])
def test_clips_without_a_score_are_told(speech, clip):
    with pytest.raises(AudioError, match=r"ViSQOL .* (s of it|silent)"):
        speech.score(clip, clip, RATE)


def test_a_mode_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValueError, match="audio, speech; got 'music'"):
        Visqol("music")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "visqol", None)
    with pytest.raises(CodaxError, match=r'pip install "codax\[eval\]"'):
        Visqol()
