"""Makes transformers' FlaxAutoModel know codax's models."""

from transformers import DacConfig as TransformersDacConfig
from transformers import EncodecConfig as TransformersEncodecConfig
from transformers import FlaxAutoModel

from codax.configuration.configuration_dac import DacConfig
from codax.configuration.configuration_encodec import EncodecConfig

from .modeling_flax_dac import FlaxDacModel
from .modeling_flax_encodec import FlaxEncodecModel

MODELS = {
    FlaxDacModel: (TransformersDacConfig, DacConfig),
    FlaxEncodecModel: (TransformersEncodecConfig, EncodecConfig),
}


def register_models() -> None:
    """Map the configurations, transformers' own among them, to their Flax models.

    Then `FlaxAutoModel.from_pretrained` reads the official repositories, whose config.json gives
    transformers' own configuration class, as they are.
    """
    for model_class, config_classes in MODELS.items():
        for config_class in config_classes:
            FlaxAutoModel.register(config_class, model_class, exist_ok=True)
