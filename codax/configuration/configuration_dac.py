"""The configuration of a DAC model, and the architecture that follows from it."""

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

from transformers import DacConfig as TransformersDacConfig
from transformers.utils import logging

from .config_fields import (
    MOST_CODEBOOKS,
    CodecConfig,
    is_int,
    require_number,
    require_positive_int,
    require_power_of_two,
    require_ratios,
)
from .conv_geometry import (
    Conv,
    Group,
    Layer,
    Snake,
    Tanh,
    context_frames,
    convolutions,
    delay,
    output_length,
    receptive_field,
    total_stride,
)

logger = logging.get_logger(__name__)

RESIDUAL_DILATIONS = (1, 3, 9)

DAC_PRESETS = {
    # The released models. Source: the `metadata.kwargs` inside the original weight files of
    # descript-audio-codec (releases 0.0.1, 1.0.0, 0.0.4 and 0.0.5).
    "dac_44khz": {
        "sampling_rate": 44100,
        "downsampling_ratios": [2, 4, 8, 8],
        "n_codebooks": 9,
    },
    "dac_44khz_16kbps": {
        "sampling_rate": 44100,
        "downsampling_ratios": [2, 4, 8, 8],
        "n_codebooks": 18,
        "hidden_size": 128,
    },
    "dac_24khz": {
        "sampling_rate": 24000,
        "downsampling_ratios": [2, 4, 5, 8],
        "n_codebooks": 32,
    },
    "dac_16khz": {
        "sampling_rate": 16000,
        "downsampling_ratios": [2, 4, 5, 8],
        "n_codebooks": 12,
    },
}


class DacConfig(CodecConfig, TransformersDacConfig):
    """transformers' `DacConfig`, validated, with the latent width and all derived facts.

    Fields are transformers' own (same names, same config.json), read by its torch `DacModel` too.
    `hidden_size` is the latent width D. transformers derives it and takes no argument for it
    (`encoder_hidden_size * 2 ** len(downsampling_ratios)`); here it is one, because the 16 kbps
    model has 128. Written to config.json it reaches both.

    Raises `ValueError` naming the field, its value and what is allowed.
    """

    presets = DAC_PRESETS
    derived_fields: ClassVar = ("hop_length", "upsampling_ratios")
    ratios_field = "downsampling_ratios"
    audio_channels: ClassVar[int] = 1  # of one stream of codes: a field of EnCodec's configuration

    def __init__(
        self,
        encoder_hidden_size: int = 64,
        downsampling_ratios: list[int] | tuple[int, ...] = (2, 4, 8, 8),
        decoder_hidden_size: int = 1536,
        n_codebooks: int = 9,
        codebook_size: int = 1024,
        codebook_dim: int = 8,
        quantizer_dropout: float = 0.0,
        commitment_loss_weight: float = 0.25,
        codebook_loss_weight: float = 1.0,
        sampling_rate: int = 16000,
        hidden_size: int | None = None,
        **kwargs,
    ):
        require_ratios("downsampling_ratios", downsampling_ratios)
        require_positive_int("encoder_hidden_size", encoder_hidden_size)
        stated = {name: kwargs.pop(name, None) for name in self.derived_fields}
        super().__init__(
            encoder_hidden_size=encoder_hidden_size,
            downsampling_ratios=list(downsampling_ratios),
            decoder_hidden_size=decoder_hidden_size,
            n_codebooks=n_codebooks,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
            quantizer_dropout=quantizer_dropout,  # pyright: ignore[reportArgumentType]
            commitment_loss_weight=commitment_loss_weight,
            codebook_loss_weight=codebook_loss_weight,
            sampling_rate=sampling_rate,
            **kwargs,
        )
        if hidden_size is not None:
            self.hidden_size = hidden_size
        self._ignore_if_stated_otherwise(stated)
        self.validate()

    def validate(self) -> None:
        """Raise `ValueError` for the first field whose value no DAC model can have."""
        for field in (
            "encoder_hidden_size",
            "decoder_hidden_size",
            "hidden_size",
            "n_codebooks",
            "codebook_size",
            "codebook_dim",
            "sampling_rate",
        ):
            require_positive_int(field, getattr(self, field))
        require_ratios("downsampling_ratios", self.downsampling_ratios)
        require_positive_int("n_codebooks", self.n_codebooks, MOST_CODEBOOKS)
        require_power_of_two("codebook_size", self.codebook_size)
        halvings = len(self.downsampling_ratios)
        if self.decoder_hidden_size % 2**halvings:
            raise ValueError(
                f"decoder_hidden_size={self.decoder_hidden_size} must be divisible by "
                f"{2**halvings}: each of the {halvings} downsampling_ratios halves it"
            )
        for field, largest in (
            ("quantizer_dropout", 1.0),
            ("commitment_loss_weight", sys.float_info.max),
            ("codebook_loss_weight", sys.float_info.max),
        ):
            require_number(field, getattr(self, field), largest)
        super().validate()

    def _ignore_if_stated_otherwise(self, stated: dict) -> None:
        """Derived facts may be stated in a config.json; the ratios decide, and a conflict is told.

        One revision of an official repository states a wrong hop (transformers issue 39313).
        """
        for name, value in stated.items():
            if value is not None and value != getattr(self, name):
                logger.warning(
                    f"{name}={value} contradicts downsampling_ratios={self.downsampling_ratios}; "
                    f"using {name}={getattr(self, name)}"
                )

    @property
    def architecture(self) -> "DacArchitecture":
        """The networks as hashable data, from which modules, weight names and lengths are read."""
        return DacArchitecture(
            encoder=_encoder_layers(self),
            decoder=_decoder_layers(self),
            hidden_size=self.hidden_size,
            n_codebooks=self.n_codebooks,
            codebook_size=self.codebook_size,
            codebook_dim=self.codebook_dim,
            commitment_loss_weight=float(self.commitment_loss_weight),
            codebook_loss_weight=float(self.codebook_loss_weight),
        )

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz), exact: 86.13 at 44.1 kHz, where transformers rounds up to 87."""
        return self.sampling_rate / self.hop_length

    def bitrate(self, n_quantizers: int | None = None) -> float:
        """Bits per second of the codes of `n_quantizers` codebooks (default: all of them)."""
        levels = self.checked_quantizers(n_quantizers)
        return self.frame_rate * math.log2(self.codebook_size) * levels

    def checked_quantizers(self, n_quantizers: int | None) -> int:
        """`n_quantizers`, or all for None. Raises `ValueError` outside 1 to `n_codebooks`."""
        if n_quantizers is None:
            return self.n_codebooks
        if not is_int(n_quantizers) or not 1 <= n_quantizers <= self.n_codebooks:
            raise ValueError(
                f"n_quantizers={n_quantizers!r} must be an integer from 1 to {self.n_codebooks}"
            )
        return int(n_quantizers)

    def encoded_length(self, num_samples: int, padded: bool = True) -> int:
        """Frames that the encoder gives for `num_samples` samples, as they are (not yet padded)."""
        return output_length(self.architecture.encoder_convs, num_samples, padded)

    def decoded_length(self, num_frames: int, padded: bool = True) -> int:
        """Samples that the decoder gives for `num_frames` frames.

        num_frames * hop_length for even strides; each odd stride s gives s*L - 1 instead of s*L, so
        the 16 and 24 kHz models give num_frames * 320 - 8. Source: the reference's transposed
        convolutions, which crop ceil(s/2) on both sides and have no output padding.
        """
        return output_length(self.architecture.decoder_convs, num_frames, padded)

    def frames_to_cover(self, num_samples: int) -> int:
        """The fewest frames whose decoded audio is at least `num_samples` long (at least one)."""
        many = 1000  # frames: what the odd strides leave off the end is the same for any number
        shortfall = many * self.hop_length - self.decoded_length(many)
        return max(1, math.ceil((num_samples + shortfall) / self.hop_length))

    @property
    def delay(self) -> int:
        """Samples lost at each end when encoder and decoder run without padding."""
        architecture = self.architecture
        return delay(architecture.encoder_convs + architecture.decoder_convs)

    @property
    def receptive_field(self) -> int:
        """Samples of input that one frame of codes depends on."""
        return receptive_field(self.architecture.encoder_convs)

    @property
    def encoder_context_frames(self) -> tuple[int, int]:
        """Frames of audio that a window needs on its left and right for exact codes inside it."""
        return context_frames(self.architecture.encoder_convs)

    @property
    def decoder_context_frames(self) -> tuple[int, int]:
        """Frames of codes that a window needs on its left and right for exact audio inside it."""
        return context_frames(self.architecture.decoder_convs)


@dataclass(frozen=True)
class DacArchitecture:
    """The networks of one DAC configuration, as data."""

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    hidden_size: int
    n_codebooks: int
    codebook_size: int
    codebook_dim: int
    commitment_loss_weight: float
    codebook_loss_weight: float

    @property
    def encoder_convs(self) -> tuple[Conv, ...]:
        return convolutions(self.encoder)

    @property
    def decoder_convs(self) -> tuple[Conv, ...]:
        return convolutions(self.decoder)

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return total_stride(self.encoder_convs)

    def decoded_length(self, num_frames):
        """See `DacConfig.decoded_length`; of an array of counts, too, which may be traced."""
        for conv in self.decoder_convs:
            num_frames = conv.output_length(num_frames)
        return num_frames


def _encoder_layers(config: DacConfig) -> tuple[Layer, ...]:
    """[B, T, 1] -> [B, F, D]. Names are those of transformers' torch modules."""
    blocks = []
    channels = config.encoder_hidden_size
    for index, stride in enumerate(config.downsampling_ratios):
        downsampling = Conv(
            "conv1",
            channels,
            2 * channels,
            kernel_size=2 * stride,
            stride=stride,
            padding=(math.ceil(stride / 2),) * 2,
        )
        blocks.append(
            Group(str(index), (*_residual_units(channels), Snake("snake1", channels), downsampling))
        )
        channels *= 2
    return (
        Conv("conv1", 1, config.encoder_hidden_size, kernel_size=7, padding=(3, 3)),
        Group("block", tuple(blocks)),
        Snake("snake1", channels),
        Conv("conv2", channels, config.hidden_size, kernel_size=3, padding=(1, 1)),
    )


def _decoder_layers(config: DacConfig) -> tuple[Layer, ...]:
    """[B, F, D] -> [B, T, 1]. Names are those of transformers' torch modules."""
    blocks = []
    channels = config.decoder_hidden_size
    for index, stride in enumerate(config.upsampling_ratios):
        upsampling = Conv(
            "conv_t1",
            channels,
            channels // 2,
            kernel_size=2 * stride,
            stride=stride,
            padding=(math.ceil(stride / 2),) * 2,
            transposed=True,
        )
        snake = Snake("snake1", channels)
        channels //= 2
        blocks.append(Group(str(index), (snake, upsampling, *_residual_units(channels))))
    return (
        Conv(
            "conv1", config.hidden_size, config.decoder_hidden_size, kernel_size=7, padding=(3, 3)
        ),
        Group("block", tuple(blocks)),
        Snake("snake1", channels),
        Conv("conv2", channels, 1, kernel_size=7, padding=(3, 3)),
        Tanh(),
    )


def _residual_units(channels: int) -> tuple[Group, ...]:
    return tuple(
        Group(
            f"res_unit{index}",
            (
                Snake("snake1", channels),
                Conv(
                    "conv1",
                    channels,
                    channels,
                    kernel_size=7,
                    dilation=dilation,
                    padding=(3 * dilation, 3 * dilation),
                ),
                Snake("snake2", channels),
                Conv("conv2", channels, channels, kernel_size=1),
            ),
            residual=True,
        )
        for index, dilation in enumerate(RESIDUAL_DILATIONS, start=1)
    )
