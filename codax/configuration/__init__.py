"""What a model is, before there is any array: fields, presets, and all that follows from them."""

from codax.configuration.configuration_dac import DAC_PRESETS as DAC_PRESETS
from codax.configuration.configuration_dac import DacArchitecture as DacArchitecture
from codax.configuration.configuration_dac import DacConfig as DacConfig
from codax.configuration.configuration_encodec import ENCODEC_PRESETS as ENCODEC_PRESETS
from codax.configuration.configuration_encodec import EncodecArchitecture as EncodecArchitecture
from codax.configuration.configuration_encodec import EncodecConfig as EncodecConfig
