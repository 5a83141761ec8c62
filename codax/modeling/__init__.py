"""The codecs as Flax modules and as `FlaxPreTrainedModel`s."""

from codax.modeling.auto import CODEC_MODELS as CODEC_MODELS
from codax.modeling.auto import model_class_of as model_class_of
from codax.modeling.modeling_flax_dac import FlaxDacDecoderOutput as FlaxDacDecoderOutput
from codax.modeling.modeling_flax_dac import FlaxDacEncoderOutput as FlaxDacEncoderOutput
from codax.modeling.modeling_flax_dac import FlaxDacModel as FlaxDacModel
from codax.modeling.modeling_flax_dac import FlaxDacModule as FlaxDacModule
from codax.modeling.modeling_flax_dac import FlaxDacOutput as FlaxDacOutput
from codax.modeling.modeling_flax_encodec import (
    FlaxEncodecDecoderOutput as FlaxEncodecDecoderOutput,
)
from codax.modeling.modeling_flax_encodec import (
    FlaxEncodecEncoderOutput as FlaxEncodecEncoderOutput,
)
from codax.modeling.modeling_flax_encodec import FlaxEncodecModel as FlaxEncodecModel
from codax.modeling.modeling_flax_encodec import FlaxEncodecModule as FlaxEncodecModule
from codax.modeling.modeling_flax_encodec import FlaxEncodecOutput as FlaxEncodecOutput
