"""How transformers' Auto classes come to give codax's feature extractors."""

from transformers.models.auto.feature_extraction_auto import (
    FEATURE_EXTRACTOR_MAPPING_NAMES,
    AutoFeatureExtractor,
)
from transformers.models.dac.configuration_dac import DacConfig
from transformers.models.encodec.configuration_encodec import EncodecConfig

from .feature_extraction_dac import DacFeatureExtractor
from .feature_extraction_encodec import EncodecFeatureExtractor

EXTRACTORS = {"dac": DacFeatureExtractor, "encodec": EncodecFeatureExtractor}
"""By the `model_type` of the configuration."""


def register_feature_extractors() -> None:
    """Make `AutoFeatureExtractor` and `AutoProcessor` give codax's extractors.

    Two steps, for the two ways in which a folder may call for one:

    - preprocessor_config.json names its class. transformers looks the name up in its table of
      built-in classes first and among registered ones only if it is not there, so the entry leaves
      the table. (The entries of xcodec and musicgen have the same names, but their modules hold no
      such class, so transformers passes on, and their files get these classes too, with the same
      outputs.)
    - preprocessor_config.json names no class: the class of the model's config decides.
    """
    for config_class in (DacConfig, EncodecConfig):
        model_type = config_class.model_type
        FEATURE_EXTRACTOR_MAPPING_NAMES.pop(model_type, None)
        AutoFeatureExtractor.register(config_class, EXTRACTORS[model_type], exist_ok=True)
