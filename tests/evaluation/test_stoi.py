"""Scores of STOI, and what is said where it has none."""

import sys
from pathlib import Path

import numpy as np
import pytest

from codax.errors import AudioError, CodaxError
from codax.evaluation.stoi import Stoi
from codax.feature_extraction import read_audio

RATE = 16000
SPEECH = Path(__file__).parents[1] / "assets" / "speech.flac"


@pytest.fixture(scope="module")
def stoi():
    pytest.importorskip("pystoi", reason="pystoi is not installed")
    return Stoi()


def noise(shape):
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def test_speech_in_more_noise_is_understood_less(stoi):
    reference, rate = read_audio(SPEECH)
    error = noise(reference.shape)
    scores = [stoi.score(reference + level * error, reference, rate) for level in (0, 0.2, 50)]
    assert scores[0] == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.5


def test_level_does_not_count_and_channels_are_averaged(stoi):
    reference = noise((2, RATE))
    estimate = reference + 0.5 * noise((2, RATE))[:, ::-1]
    mono = [0.1 * one.mean(axis=0, keepdims=True) for one in (estimate, reference)]
    score = stoi.score(estimate, reference, RATE)
    assert 0 < score < 1
    assert score == pytest.approx(stoi.score(*mono, RATE))


@pytest.mark.parametrize("clip", [noise((1, 10)), noise((1, 4000)), np.zeros((1, RATE))])
def test_clips_without_a_score_are_told(stoi, clip):
    with pytest.raises(AudioError, match="STOI has no score for"):
        stoi.score(clip, clip, RATE)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(CodaxError, match=r'pip install "codax\[eval\]"'):
        Stoi()
