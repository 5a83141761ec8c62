"""Audio of any kind in, model inputs out."""

from .audio_input import AUDIO_SUFFIXES, as_float_audio, read_audio
from .extractor_registration import EXTRACTORS, register_feature_extractors
from .feature_extraction_dac import DacFeatureExtractor
from .feature_extraction_encodec import EncodecFeatureExtractor, mix
from .loudness import gain_to_loudness, limit_peak, measure_loudness
from .resampling import resample

__all__ = [
    "AUDIO_SUFFIXES",
    "EXTRACTORS",
    "DacFeatureExtractor",
    "EncodecFeatureExtractor",
    "as_float_audio",
    "gain_to_loudness",
    "limit_peak",
    "measure_loudness",
    "mix",
    "read_audio",
    "register_feature_extractors",
    "resample",
]
