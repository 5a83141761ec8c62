"""The configuration of an EnCodec model, and the architecture that follows from it."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import EncodecConfig as TransformersEncodecConfig

from .config_fields import (
    MOST_CODEBOOKS,
    CodecConfig,
    require_choice,
    require_number,
    require_positive_int,
    require_power_of_two,
    require_ratios,
)
from .conv_geometry import (
    Conv,
    Elu,
    Group,
    Layer,
    Lstm,
    context_frames,
    convolutions,
    input_span,
    named_layers,
    receptive_field,
    total_stride,
)

MOST_RESIDUAL_LAYERS = 16
MOST_LSTM_LAYERS = 16
MOST_HZ = 10**9
MOST_SECONDS = 10**6
MOST_KBPS = 10**6

PAD_MODES = {"reflect": "reflect", "constant": "zeros"}
"""What torch calls them, and what `conv_geometry.Conv` does."""

SEGMENTATIONS = ("original", "transformers")

ENCODEC_PRESETS = {
    # The released models. Sources: facebookresearch/encodec, `EncodecModel.encodec_model_24khz` and
    # `…_48khz`; config.json of the Hub's facebook/encodec_32khz (the codec of MusicGen).
    "encodec_24khz": {},
    "encodec_48khz": {
        "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
        "sampling_rate": 48000,
        "audio_channels": 2,
        "normalize": True,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "norm_type": "time_group_norm",
        "use_causal_conv": False,
    },
    "encodec_32khz": {
        "target_bandwidths": [2.2],
        "sampling_rate": 32000,
        "num_filters": 64,
        "upsampling_ratios": [8, 5, 4, 4],
        "codebook_size": 2048,
        "use_causal_conv": False,
        "use_conv_shortcut": False,
    },
}


class Segmenting(NamedTuple):
    """Segments of `length` samples, one every `stride` samples."""

    length: int
    stride: int


class EncodecConfig(CodecConfig, TransformersEncodecConfig):
    """transformers' `EncodecConfig`, validated, with all derived facts.

    Fields are transformers' own (same names, same config.json), read by its torch `EncodecModel`
    too, and one more:

    segmentation: how audio is cut where the model codes it in segments (`chunk_length_s`, 48 kHz).
        "original", the default, as in the authors' package: a segment begins every `chunk_stride`
        samples of the clip, and the last is as short as what is left. "transformers": as torch's
        transformers codes what its feature extractor pads, where the clip is filled up with silence
        to whole segments and an extra segment of the overlap's length follows. The codes of the
        last segment differ, and so does the audio. The first is the default because it is what
        `.ecdc` files hold and what the model was released with, and because it codes no silence.

    Raises `ValueError` naming the field, its value and what is allowed.
    """

    presets = ENCODEC_PRESETS
    ratios_field = "upsampling_ratios"

    def __init__(self, segmentation: str = "original", **fields):
        super().__init__(**fields)
        for name in ("target_bandwidths", "upsampling_ratios"):
            if isinstance(getattr(self, name), list | tuple):
                setattr(self, name, list(getattr(self, name)))  # the defaults are shared lists
        self.segmentation = segmentation
        self.validate()

    def validate(self) -> None:
        """Raise `ValueError` for the first field whose value no EnCodec model can have."""
        for field, largest in {
            "sampling_rate": MOST_HZ,
            "audio_channels": None,
            "hidden_size": None,
            "num_filters": None,
            "num_residual_layers": MOST_RESIDUAL_LAYERS,
            "kernel_size": None,
            "last_kernel_size": None,
            "residual_kernel_size": None,
            "dilation_growth_rate": None,
            "compress": None,
            "num_lstm_layers": MOST_LSTM_LAYERS,
            "codebook_size": None,
            "codebook_dim": None,
        }.items():
            require_positive_int(field, getattr(self, field), largest)
        require_ratios("upsampling_ratios", self.upsampling_ratios)
        require_power_of_two("codebook_size", self.codebook_size)
        if self.codebook_size == 1:
            raise ValueError("codebook_size=1 must be at least 2: the only entry takes no bits")
        for field in ("normalize", "use_causal_conv", "use_conv_shortcut"):
            require_choice(field, getattr(self, field), (True, False))
        require_choice("norm_type", self.norm_type, ("weight_norm", "time_group_norm"))
        require_choice("pad_mode", self.pad_mode, tuple(PAD_MODES))
        require_choice("segmentation", self.segmentation, SEGMENTATIONS)
        require_number("trim_right_ratio", self.trim_right_ratio, 1.0)
        if self.trim_right_ratio != 1.0 and not self.use_causal_conv:
            raise ValueError(
                f"trim_right_ratio={self.trim_right_ratio} must be 1 where use_causal_conv is False"
            )
        if self.codebook_dim != self.hidden_size:
            raise ValueError(
                f"codebook_dim={self.codebook_dim} must be hidden_size, {self.hidden_size}: "
                "EnCodec looks latents up as they are"
            )
        if self.compress > self.num_filters:
            raise ValueError(f"compress={self.compress} must be at most num_filters")
        self._validate_bandwidths()
        self._validate_segments()
        super().validate()

    def _validate_bandwidths(self) -> None:
        bandwidths = self.target_bandwidths
        if not isinstance(bandwidths, list) or not bandwidths:
            raise ValueError(f"target_bandwidths={bandwidths!r} must be a list of kbps")
        for bandwidth in bandwidths:
            require_number("target_bandwidths: an entry", bandwidth, MOST_KBPS)
        require_positive_int(
            "the number of codebooks that the last of target_bandwidths makes up",
            self.num_quantizers,
            MOST_CODEBOOKS,
        )
        for bandwidth in bandwidths:
            if self._quantizers_for(bandwidth) > self.num_quantizers:
                raise ValueError(
                    f"target_bandwidths={bandwidths} must be in ascending order: the last one "
                    "decides how many codebooks there are"
                )

    def _validate_segments(self) -> None:
        if self.chunk_length_s is None:
            return
        require_number("chunk_length_s", self.chunk_length_s, MOST_SECONDS)
        require_number("overlap", self.overlap, 1.0)
        if self.overlap == 1.0 or not self.hop_length <= int(self.chunk_length or 0):
            raise ValueError(
                f"chunk_length_s={self.chunk_length_s}, overlap={self.overlap}: segments must be "
                "at least a frame long and overlap by less than all of it"
            )

    @property
    def architecture(self) -> "EncodecArchitecture":
        """The networks as hashable data, from which modules, weight names and lengths are read."""
        return EncodecArchitecture(
            encoder=_encoder_layers(self),
            decoder=_decoder_layers(self),
            hidden_size=self.hidden_size,
            num_quantizers=self.num_quantizers,
            codebook_size=self.codebook_size,
            audio_channels=self.audio_channels,
            normalize=self.normalize,
            hop_length=self.hop_length,
            segmenting=self.segmenting,
        )

    @property
    def segmenting(self) -> Segmenting | None:
        """How clips are cut into segments; None for models that code them in one."""
        if self.chunk_length is None or self.chunk_stride is None:
            return None
        return Segmenting(self.chunk_length, self.chunk_stride)

    @property
    def bandwidth_per_quantizer(self) -> float:
        """kbps of one codebook."""
        return math.log2(self.codebook_size) * self.frame_rate / 1000

    def bitrate(self, bandwidth: float | None = None) -> float:
        """Bits per second of the codes at a bandwidth in kbps (default: the lowest)."""
        return 1000 * self.bandwidth_per_quantizer * self.checked_quantizers(bandwidth)

    def checked_quantizers(self, bandwidth: float | None) -> int:
        """How many codebooks a bandwidth in kbps takes; None takes the lowest, as transformers.

        (The authors' package takes all codebooks until a bandwidth is set.) Raises `ValueError` for
        any but the `target_bandwidths`, which it lists.
        """
        chosen = self.target_bandwidths[0] if bandwidth is None else bandwidth
        if isinstance(chosen, bool) or chosen not in self.target_bandwidths:
            supported = ", ".join(f"{one:g}" for one in self.target_bandwidths)
            raise ValueError(f"bandwidth={bandwidth!r} kbps must be one of {supported}")
        return self._quantizers_for(chosen)

    def _quantizers_for(self, bandwidth: float) -> int:
        """In transformers' order of operations: 9.6 / 3.2 is less than 3."""
        bits_per_second = math.log2(self.codebook_size) * self.frame_rate
        return max(1, math.floor(bandwidth * 1000 / bits_per_second))

    def encoded_length(self, num_samples: int) -> int:
        """Frames that the encoder gives for `num_samples` samples of one segment: none are lost."""
        return -(-num_samples // self.hop_length)

    def decoded_length(self, num_frames: int) -> int:
        """Samples that the decoder gives for `num_frames` frames of one segment."""
        return num_frames * self.hop_length

    def segments(self, num_samples: int) -> tuple[tuple[int, int], ...]:
        """(start, length) in samples of every segment of a clip of `num_samples` samples.

        One segment, the clip, for models without `chunk_length_s`.
        """
        if self.segmenting is None:
            return ((0, num_samples),)
        length, stride = self.segmenting
        covered = self.segmented_length(num_samples)
        return tuple(
            (start, min(length, covered - start)) for start in range(0, max(covered, 1), stride)
        )

    def segmented_length(self, num_samples: Any) -> Any:
        """Samples that are cut into segments: all, or what transformers' extractor pads them to.

        num_samples: an int, or an array of them
        """
        if self.segmenting is None or self.segmentation == "original":
            return num_samples
        length, stride = self.segmenting
        steps = -(-num_samples // stride)
        return (steps > 0) * ((steps - 1) * stride + length)

    @property
    def codes_whole_clips(self) -> bool:
        """Whether every frame depends on all of a clip: no chunk of it can be coded by itself."""
        normalises = self.normalize or self.norm_type == "time_group_norm"
        return self.segmenting is None and normalises

    @property
    def encoder_context(self) -> "ContextFrames":
        """What a chunk of audio needs beside it for exact codes inside it."""
        return _context(self.architecture.encoder)

    @property
    def decoder_context(self) -> "ContextFrames":
        """What a chunk of codes needs beside it for exact audio inside it."""
        return _context(self.architecture.decoder)

    @property
    def receptive_field(self) -> int:
        """Samples of input that the convolutions see for one frame; the LSTM sees all before."""
        return receptive_field(self.architecture.encoder_convs)


class ContextFrames(NamedTuple):
    """Frames beside a chunk that the convolutions see; of the LSTM a state must be carried.

    before, after: on the left and on the right
    before_lstm: of those on the left, what the convolutions before the LSTM see where no clip ends:
        from there on its inputs are right
    """

    before: int
    after: int
    before_lstm: int


def _context(layers: tuple[Layer, ...]) -> ContextFrames:
    names = [layer for _, layer in named_layers(layers)]
    lstm = next(index for index, layer in enumerate(names) if isinstance(layer, Lstm))
    before, after = context_frames(convolutions(layers))
    entering = tuple(layer for layer in names[:lstm] if isinstance(layer, Conv))
    before_lstm = -(input_span(entering, 0, 1)[0] // total_stride(entering))
    return ContextFrames(before, after, before_lstm)


@dataclass(frozen=True)
class EncodecArchitecture:
    """The networks of one EnCodec configuration, as data."""

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    hidden_size: int
    num_quantizers: int
    codebook_size: int
    audio_channels: int
    normalize: bool
    hop_length: int
    segmenting: Segmenting | None

    @property
    def encoder_convs(self) -> tuple[Conv, ...]:
        return convolutions(self.encoder)

    @property
    def decoder_convs(self) -> tuple[Conv, ...]:
        return convolutions(self.decoder)


def _encoder_layers(config: EncodecConfig) -> tuple[Layer, ...]:
    """[B, T, C] -> [B, F, D]. Names are those of transformers' torch modules."""
    channels = config.num_filters
    layers: list[Layer] = [_conv(config, config.audio_channels, channels, config.kernel_size)]
    for stride in reversed(config.upsampling_ratios):
        layers += _residual_blocks(config, channels)
        layers += [Elu(), _conv(config, channels, 2 * channels, 2 * stride, stride)]
        channels *= 2
    layers += [
        _lstm(config, channels),
        Elu(),
        _conv(config, channels, config.hidden_size, config.last_kernel_size),
    ]
    return _numbered(layers)


def _decoder_layers(config: EncodecConfig) -> tuple[Layer, ...]:
    """[B, F, D] -> [B, T, C]. Names are those of transformers' torch modules."""
    channels = config.num_filters * 2 ** len(config.upsampling_ratios)
    layers: list[Layer] = [
        _conv(config, config.hidden_size, channels, config.kernel_size),
        _lstm(config, channels),
    ]
    for stride in config.upsampling_ratios:
        layers += [Elu(), _conv_transpose(config, channels, channels // 2, stride)]
        channels //= 2
        layers += _residual_blocks(config, channels)
    layers += [Elu(), _conv(config, channels, config.audio_channels, config.last_kernel_size)]
    return _numbered(layers)


def _numbered(layers: list[Layer], name: str = "layers") -> tuple[Layer, ...]:
    """Torch names the entries of a sequence by their position; those without weights count."""
    return (
        Group(
            name,
            tuple(
                layer if isinstance(layer, Elu) else _renamed(layer, str(index))
                for index, layer in enumerate(layers)
            ),
        ),
    )


def _renamed(layer: Layer, name: str) -> Group:
    if isinstance(layer, Group):
        return Group(name, layer.layers, layer.residual, layer.shortcut)
    return Group(name, (layer,))


def _residual_blocks(config: EncodecConfig, channels: int) -> list[Layer]:
    narrow = channels // config.compress
    shortcut = None
    if config.use_conv_shortcut:
        shortcut = Group("shortcut", (_conv(config, channels, channels, 1),))
    return [
        Group(
            "",
            _numbered(
                [
                    Elu(),
                    _conv(
                        config,
                        channels,
                        narrow,
                        config.residual_kernel_size,
                        dilation=config.dilation_growth_rate**index,
                    ),
                    Elu(),
                    _conv(config, narrow, channels, 1),
                ],
                "block",
            ),
            residual=True,
            shortcut=shortcut,
        )
        for index in range(config.num_residual_layers)
    ]


def _lstm(config: EncodecConfig, channels: int) -> Group:
    return Group("", (Lstm("lstm", channels, config.num_lstm_layers),), residual=True)


def _conv(
    config: EncodecConfig,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
) -> Conv:
    """A convolution that makes ceil(n / stride) frames of n samples."""
    total = dilation * (kernel_size - 1) + 1 - stride
    right = 0 if config.use_causal_conv else total // 2
    return Conv(
        "conv",
        in_channels,
        out_channels,
        kernel_size,
        stride,
        dilation,
        padding=(total - right, right),
        pad_mode=PAD_MODES[config.pad_mode],
        completes_stride=True,
        time_group_norm=config.norm_type == "time_group_norm",
    )


def _conv_transpose(
    config: EncodecConfig, in_channels: int, out_channels: int, stride: int
) -> Conv:
    """A transposed convolution that makes stride * n samples of n frames."""
    right = math.ceil(stride * config.trim_right_ratio) if config.use_causal_conv else stride // 2
    return Conv(
        "conv",
        in_channels,
        out_channels,
        kernel_size=2 * stride,
        stride=stride,
        padding=(stride - right, right),
        transposed=True,
        time_group_norm=config.norm_type == "time_group_norm",
    )
