"""The model class for what a config.json says, from a table of two."""

import os
from typing import Any

from codax.configuration.config_fields import CodecConfig
from codax.errors import CheckpointError

from .modeling_flax_dac import FlaxDacModel
from .modeling_flax_encodec import FlaxEncodecModel

CODEC_MODELS = {model.config_class.model_type: model for model in (FlaxDacModel, FlaxEncodecModel)}


def model_class_of(name_or_path: str | os.PathLike, **hub_options: Any) -> Any:
    """`FlaxDacModel` or `FlaxEncodecModel`, by the `model_type` in config.json.

    name_or_path, hub_options: as for `from_pretrained`; others are not heeded
    Raises `CheckpointError` for another type, `OSError` where there is no config.json.
    """
    fields, _ = CodecConfig.get_config_dict(name_or_path, **hub_options)
    model_type = fields.get("model_type")
    if model_type not in CODEC_MODELS:
        raise CheckpointError(
            f"{name_or_path}: its config.json has the model_type {model_type!r}; codax has "
            f"{', '.join(CODEC_MODELS)}"
        )
    return CODEC_MODELS[model_type]
