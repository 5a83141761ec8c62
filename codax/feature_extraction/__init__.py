"""Audio of any kind in, model inputs out."""

from .audio_input import AUDIO_SUFFIXES, AudioBlocks, read_audio
from .extractor_registration import EXTRACTORS, register_feature_extractors
from .feature_extraction_dac import DacFeatureExtractor
from .feature_extraction_encodec import EncodecFeatureExtractor, mix
from .loudness import (
    LoudnessMeter,
    gain_to_loudness,
    gain_to_peak,
    limit_peak,
    measure_loudness,
)
from .resampling import Resampler, resample
from .sample_types import as_float_audio

__all__ = [
    "AUDIO_SUFFIXES",
    "EXTRACTORS",
    "AudioBlocks",
    "DacFeatureExtractor",
    "EncodecFeatureExtractor",
    "LoudnessMeter",
    "Resampler",
    "as_float_audio",
    "gain_to_loudness",
    "gain_to_peak",
    "limit_peak",
    "measure_loudness",
    "mix",
    "read_audio",
    "register_feature_extractors",
    "resample",
]
