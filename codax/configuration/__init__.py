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


def is_preset(config: Any, name: str) -> bool:
    """Whether a configuration is that of a released model.

    Of the 32 kHz model there are files with either padding, so that EnCodec's does not matter.
    """
    expected = preset_config(name)
    if config.model_type == expected.model_type == "encodec":
        expected.pad_mode = config.pad_mode
    return (config.architecture, config.sampling_rate) == (
        expected.architecture,
        expected.sampling_rate,
    )


def preset_name_of(config: Any) -> str | None:
    """The released model of this architecture and sampling rate; None where there is none."""
    for name in type(config).presets:
        preset = type(config).preset(name)
        if (preset.architecture, preset.sampling_rate) == (
            config.architecture,
            config.sampling_rate,
        ):
            return name
    return None
