"""Tiny models as folders, each loaded once, and clips with the codes that they have alone."""

import datasets
import pytest

from codax.corpus import DecodeAudio, EncodeAudio
from tests.modeling.tiny import tiny_model
from tests.tiny_encodec import MONO, STEREO, tiny_encodec

from .clips import mixed_clips

MODELS = {
    "dac": tiny_model,
    "encodec_24khz": lambda: tiny_encodec(MONO),
    "encodec_48khz": lambda: tiny_encodec(STEREO),
}

datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Of each kind of model."""
    parent = tmp_path_factory.mktemp("models")
    for name, make in MODELS.items():
        make().save_pretrained(parent / name)
    return {name: str(parent / name) for name in MODELS}


@pytest.fixture(scope="session")
def dac_folder(folders):
    return folders["dac"]


@pytest.fixture(scope="session")
def named(folders):
    """The models behind the callables, loaded where they are first used."""
    return {name: EncodeAudio(folder).named for name, folder in folders.items()}


@pytest.fixture(scope="session")
def encoder(folders, named):
    """`encoder(kind of model, **options)`: an `EncodeAudio` whose model is loaded once."""
    return lambda kind="dac", **options: _sharing(EncodeAudio(folders[kind], **options), named)


@pytest.fixture(scope="session")
def decoder(folders, named):
    """`decoder(kind of model, **options)`: a `DecodeAudio`, likewise."""
    return lambda kind="dac", **options: _sharing(DecodeAudio(folders[kind], **options), named)


def _sharing(operator, named):
    operator.named = next(one for one in named.values() if one.model == operator.named.model)
    return operator


@pytest.fixture(scope="module", params=MODELS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def codec(kind, named):
    return named[kind].codec()


@pytest.fixture(scope="module")
def clips(codec):
    """[(float32 [C, T], Hz)]"""
    return mixed_clips(codec.config.audio_channels)


@pytest.fixture(scope="module")
def alone(codec, clips):
    """What `AudioCodec.encode` makes of each clip."""
    return [codec.encode(*clip) for clip in clips]
