"""How transformers' Auto classes come to give codax's feature extractors."""

from transformers.models.auto.feature_extraction_auto import (
    FEATURE_EXTRACTOR_MAPPING_NAMES,
    AutoFeatureExtractor,
)
from transformers.models.dac.configuration_dac import DacConfig

from .feature_extraction_dac import DacFeatureExtractor


def register_feature_extractors() -> None:
    """Make `AutoFeatureExtractor` and `AutoProcessor` give codax's extractor for DAC.

    Two steps, for the two ways in which a folder may call for it:

    - preprocessor_config.json names its class. transformers looks the name up in its table of
      built-in classes first and among registered ones only if it is not there, so the entry leaves
      the table. (The entry of xcodec has the same name, but its module holds no such class, so
      transformers passes on, and xcodec's files get this class too, with the same outputs.)
    - preprocessor_config.json names no class: the class of the model's config decides.
    """
    FEATURE_EXTRACTOR_MAPPING_NAMES.pop("dac", None)
    AutoFeatureExtractor.register(DacConfig, DacFeatureExtractor, exist_ok=True)
