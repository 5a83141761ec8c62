"""Makes transformers' FlaxAutoModel know codax's models."""

from transformers import DacConfig as TransformersDacConfig
from transformers import FlaxAutoModel

from codax.configuration.configuration_dac import DacConfig

from .modeling_flax_dac import FlaxDacModel


def register_models() -> None:
    """Map the configurations, transformers' own among them, to their Flax models.

    Then `FlaxAutoModel.from_pretrained` reads the official repositories, whose config.json gives
    transformers' own configuration class, as they are.
    """
    for config_class in (TransformersDacConfig, DacConfig):
        FlaxAutoModel.register(config_class, FlaxDacModel, exist_ok=True)
