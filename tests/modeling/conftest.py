"""One tiny model with its audio and codes, computed once."""

import pytest

from .tiny import BATCH, FRAMES, HOP_LENGTH, noise, tiny_model


@pytest.fixture(scope="session")
def model():
    return tiny_model()


@pytest.fixture(scope="session")
def audio():
    return noise(BATCH, 1, FRAMES * HOP_LENGTH)


@pytest.fixture(scope="session")
def encoded(model, audio):
    return model.encode(audio)


@pytest.fixture(scope="session")
def decoded(model, encoded):
    """float32 [B, T]"""
    return model.decode(audio_codes=encoded.audio_codes).audio_values
