"""How transformers' Auto classes come to give codax's feature extractors."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PretrainedConfig
from transformers.models.auto.feature_extraction_auto import (
    FEATURE_EXTRACTOR_MAPPING_NAMES,
    AutoFeatureExtractor,
)
from transformers.models.dac.configuration_dac import DacConfig
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME

from .feature_extraction_dac import DacFeatureExtractor


@functools.cache  # so that a second call changes nothing
def register_feature_extractors() -> None:
    """Make `AutoFeatureExtractor` and `AutoProcessor` give codax's extractor for DAC.

    Three steps, for the three ways in which a folder may call for it:

    - preprocessor_config.json names its class. transformers looks the name up in its table of
      built-in classes first and among registered ones only if it is not there, so the entry leaves
      the table. (The entry of xcodec has the same name, but its module holds no such class, so
      transformers passes on, and xcodec's files get this class too, with the same outputs.)
    - preprocessor_config.json names no class: the class of the model's config decides.
    - there is only config.json. transformers 4.57 raises without looking at it, for any model, so
      this case has to be caught before, and only for a local folder of a DAC model.
    """
    FEATURE_EXTRACTOR_MAPPING_NAMES.pop("dac", None)
    AutoFeatureExtractor.register(DacConfig, DacFeatureExtractor, exist_ok=True)
    load = AutoFeatureExtractor.from_pretrained.__func__
    AutoFeatureExtractor.from_pretrained = classmethod(  # pyright: ignore[reportAttributeAccessIssue]
        _or_from_model_config(load)
    )


def _or_from_model_config(load: Callable) -> Callable:
    @functools.wraps(load)
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs: Any):
        folder = Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        if _has_only_model_config(folder):
            fields, options = PretrainedConfig.get_config_dict(
                pretrained_model_name_or_path, **kwargs
            )
            if fields.get("model_type") == "dac":
                fields.pop("hop_length", None)  # the config computes it from its ratios
                return DacFeatureExtractor.from_config(DacConfig.from_dict(fields), **options)
        return load(cls, pretrained_model_name_or_path, **kwargs)

    return from_pretrained


def _has_only_model_config(folder: Path) -> bool:
    others = (FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME)
    return (folder / CONFIG_NAME).is_file() and not any((folder / name).exists() for name in others)
