"""The codecs as Flax modules and as `FlaxPreTrainedModel`s."""

from codax.modeling.modeling_flax_dac import FlaxDacDecoderOutput as FlaxDacDecoderOutput
from codax.modeling.modeling_flax_dac import FlaxDacEncoderOutput as FlaxDacEncoderOutput
from codax.modeling.modeling_flax_dac import FlaxDacModel as FlaxDacModel
from codax.modeling.modeling_flax_dac import FlaxDacModule as FlaxDacModule
from codax.modeling.modeling_flax_dac import FlaxDacOutput as FlaxDacOutput
