"""What a model is, before there is any array: fields, presets, and all that follows from them."""

from typing import Any

from codax.configuration.configuration_dac import DAC_PRESETS as DAC_PRESETS
from codax.configuration.configuration_dac import DacArchitecture as DacArchitecture
from codax.configuration.configuration_dac import DacConfig as DacConfig
from codax.configuration.configuration_encodec import ENCODEC_PRESETS as ENCODEC_PRESETS
from codax.configuration.configuration_encodec import EncodecArchitecture as EncodecArchitecture
from codax.configuration.configuration_encodec import EncodecConfig as EncodecConfig


def preset_config(name: str) -> Any:
    """The configuration of a released model of either family; `ValueError` listing them."""
    for config_class in (DacConfig, EncodecConfig):
        if name in config_class.presets:
            return config_class.preset(name)
    names = ", ".join((*DAC_PRESETS, *ENCODEC_PRESETS))
    raise ValueError(f"unknown preset {name!r}; the presets are {names}")
