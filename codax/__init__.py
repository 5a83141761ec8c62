"""DAC and EnCodec, the neural audio codecs, in JAX and at home on the Hugging Face Hub.

Importing codax registers its classes with transformers: afterwards `FlaxAutoModel.from_pretrained`
and `AutoFeatureExtractor.from_pretrained` load codec repositories, the official ones included. The
public names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

from codax.feature_extraction.extractor_registration import register_feature_extractors
from codax.modeling.model_registration import register_models

if TYPE_CHECKING:
    from codax.codec import Audio, AudioCodec
    from codax.configuration import DAC_PRESETS, ENCODEC_PRESETS, DacConfig, EncodecConfig
    from codax.errors import AudioError, CheckpointError, CodaxError, FormatError
    from codax.feature_extraction import DacFeatureExtractor, EncodecFeatureExtractor
    from codax.formats import EncodedAudio
    from codax.modeling import FlaxDacModel, FlaxDacModule, FlaxEncodecModel, FlaxEncodecModule

__version__ = "0.1.0"

_HOMES = {
    "Audio": "codax.codec",
    "AudioCodec": "codax.codec",
    "DAC_PRESETS": "codax.configuration",
    "ENCODEC_PRESETS": "codax.configuration",
    "DacConfig": "codax.configuration",
    "EncodecConfig": "codax.configuration",
    "AudioError": "codax.errors",
    "CheckpointError": "codax.errors",
    "CodaxError": "codax.errors",
    "FormatError": "codax.errors",
    "DacFeatureExtractor": "codax.feature_extraction",
    "EncodecFeatureExtractor": "codax.feature_extraction",
    "EncodedAudio": "codax.formats",
    "FlaxDacModel": "codax.modeling",
    "FlaxDacModule": "codax.modeling",
    "FlaxEncodecModel": "codax.modeling",
    "FlaxEncodecModule": "codax.modeling",
}

__all__ = [
    "DAC_PRESETS",
    "ENCODEC_PRESETS",
    "Audio",
    "AudioCodec",
    "AudioError",
    "CheckpointError",
    "CodaxError",
    "DacConfig",
    "DacFeatureExtractor",
    "EncodecConfig",
    "EncodecFeatureExtractor",
    "EncodedAudio",
    "FlaxDacModel",
    "FlaxDacModule",
    "FlaxEncodecModel",
    "FlaxEncodecModule",
    "FormatError",
]

register_models()
register_feature_extractors()


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("conversion", "hub_cards"):
        return importlib.import_module(f"codax.{name}")
    raise AttributeError(f"module 'codax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
