"""The discriminators that DAC and EnCodec are trained against.

DAC's look at samples folded by prime periods and at bands of complex spectra (Kumar et al. 2023,
section 3.4; dac/model/discriminator.py), EnCodec's at whole complex spectra of several resolutions
(Defossez et al. 2022, section 3.4; encodec/msstftd.py). Kernels are plain; weight norm is applied
from outside (weight_norm.py). Inside, arrays are channel-last.

What descript's package also has and no released model was trained against, discriminators of
resampled audio (its `rates`), is left out.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from codax.evaluation.spectra import stft
from codax.modeling.convolution import convolve
from codax.modeling.layers import uniform_by_fan_in

FeatureMaps = list[list[jax.Array]]

DAC_BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


def _require_positive(name: str, sizes: tuple[int, ...]):
    if min(sizes, default=1) < 1:
        raise ValueError(f"{name} must be positive; got {sizes}")


def _require_windows(name: str, lengths: tuple[int, ...]):
    if any(length < 4 or length % 4 for length in lengths):
        raise ValueError(f"{name} must be positive multiples of 4; got {lengths}")


@dataclass(frozen=True)
class Conv2d:
    """A convolution over two axes, padded with zeros so that a stride of 1 keeps their lengths.

    weight_norm: whether it is trained with weight norm
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    weight_norm: bool = True

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Before and after, along each axis."""
        sides = [d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        return tuple((side, side) for side in sides)


@dataclass(frozen=True)
class DacDiscriminatorConfig:
    """DAC's discriminators; the defaults are those that the released models were trained with.

    periods: in samples, one discriminator each
    fft_sizes: windows in samples, multiples of 4, one discriminator each; the hop is a quarter
    bands: of the spectrum, each with its own convolutions, from and to a fraction of the bins
    period_channels: of each hidden layer over folded samples
    band_channels: of every hidden layer over a band

    Raises `ValueError` for sizes out of range and for a band without bins.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    fft_sizes: tuple[int, ...] = (2048, 1024, 512)
    bands: tuple[tuple[float, float], ...] = DAC_BANDS
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    band_channels: int = 32

    LEAKY_SLOPE: ClassVar = 0.1

    def __post_init__(self):
        _require_positive("periods", self.periods)
        _require_positive("period_channels", self.period_channels)
        _require_positive("band_channels", (self.band_channels,))
        _require_windows("fft_sizes", self.fft_sizes)
        for fft_size in self.fft_sizes:
            for band, (first, stop) in zip(self.bands, self.band_bins(fft_size), strict=True):
                if not 0 <= first < stop <= fft_size // 2 + 1:
                    raise ValueError(
                        f"a band must lie in 0 to 1 and have at least one bin; got {band}, "
                        f"which is bins {first} to {stop} at fft size {fft_size}"
                    )

    def band_bins(self, fft_size: int) -> list[tuple[int, int]]:
        """The first bin of every band, and the one behind its last."""
        num_bins = fft_size // 2 + 1
        return [(int(low * num_bins), int(high * num_bins)) for low, high in self.bands]

    @property
    def period_convs(self) -> tuple[Conv2d, ...]:
        """Of a discriminator over folded samples [B, L, period, 1]; the last gives the score."""
        channels = (1, *self.period_channels)
        last = len(self.period_channels) - 1
        hidden = [
            Conv2d(f"convs_{i}", *pair, kernel_size=(5, 1), stride=(1 if i == last else 3, 1))
            for i, pair in enumerate(pairwise(channels))
        ]
        return *hidden, Conv2d("conv_post", channels[-1], 1, kernel_size=(3, 1))

    @property
    def band_convs(self) -> tuple[Conv2d, ...]:
        """Of one band [B, F, bins, 2], which all give features."""
        width = self.band_channels
        return (
            Conv2d("convs_0", 2, width, (3, 9)),
            *(Conv2d(f"convs_{i}", width, width, (3, 9), stride=(1, 2)) for i in (1, 2, 3)),
            Conv2d("convs_4", width, width, (3, 3)),
        )

    @property
    def band_score_conv(self) -> Conv2d:
        """Of all bands together."""
        return Conv2d("conv_post", self.band_channels, 1, (3, 3))


@dataclass(frozen=True)
class MsStftDiscriminatorConfig:
    """EnCodec's multi-scale STFT discriminators; the defaults are those of the encodec package.

    audio_channels: that the first convolution takes together
    window_lengths: in samples, multiples of 4, one discriminator each; the hop is a quarter
    channels: of every hidden layer
    time_dilations: of the layers that halve the bins, one each

    Raises `ValueError` for sizes that are not positive.
    """

    audio_channels: int = 1
    window_lengths: tuple[int, ...] = (1024, 2048, 512)
    channels: int = 32
    time_dilations: tuple[int, ...] = (1, 2, 4)
    leaky_slope: float = 0.2

    def __post_init__(self):
        _require_positive("audio_channels", (self.audio_channels,))
        _require_positive("channels", (self.channels,))
        _require_positive("time_dilations", self.time_dilations)
        _require_windows("window_lengths", self.window_lengths)

    @property
    def scale_convs(self) -> tuple[Conv2d, ...]:
        """Of a spectrum [B, F, bins, 2 C]; the last gives the score.

        Named after a quirk of encodec/msstftd.py: the first has no weight norm, as its `norm` is
        not handed on.
        """
        width, dilations = self.channels, self.time_dilations
        return (
            Conv2d("convs_0", 2 * self.audio_channels, width, (3, 9), weight_norm=False),
            *(
                Conv2d(f"convs_{i}", width, width, (3, 9), stride=(1, 2), dilation=(dilation, 1))
                for i, dilation in enumerate(dilations, start=1)
            ),
            Conv2d(f"convs_{len(dilations) + 1}", width, width, (3, 3)),
            Conv2d("conv_post", width, 1, (3, 3)),
        )


class FlaxDacDiscriminator(nn.Module):
    """All discriminators of DAC: over periods first, then over resolutions.

    dtype: that convolutions compute in, and that feature maps have; spectra are float32
    """

    config: DacDiscriminatorConfig = DacDiscriminatorConfig()
    dtype: jnp.dtype = jnp.float32
    precision: lax.Precision = lax.Precision.DEFAULT

    @nn.compact
    def __call__(self, samples) -> FeatureMaps:
        """samples float32 [B, C, T] -> each discriminator's feature maps, its score the last.

        Maps over periods are [B * C * period, L, 1, channels], over resolutions [B * C, F, bins,
        channels], those of all bands one after the other. Channels are judged each alone: the
        reference takes one only. Their mean and volume are taken out first.

        Raises `ValueError` for another number of axes, and for audio that is too short for the
        largest period or window.
        """
        _require_three_axes(samples)
        config = self.config
        samples = _at_one_volume(samples).reshape(-1, samples.shape[-1])
        over_periods = [
            FlaxScoredConvs(
                config.period_convs,
                config.LEAKY_SLOPE,
                self.dtype,
                self.precision,
                name=f"periods_{i}",
            )(_in_periods(samples, period)[..., None, None])
            for i, period in enumerate(config.periods)
        ]
        over_resolutions = [
            FlaxBandDiscriminator(
                config, fft_size, self.dtype, self.precision, name=f"resolutions_{i}"
            )(samples)
            for i, fft_size in enumerate(config.fft_sizes)
        ]
        return over_periods + over_resolutions


class FlaxBandDiscriminator(nn.Module):
    """Convolutions of their own for every band of a complex spectrum, and one score of all."""

    config: DacDiscriminatorConfig
    fft_size: int
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, samples) -> list[jax.Array]:
        """float32 [B, T] -> [B, F, bins, channels] of every layer and band, and the score."""
        config = self.config
        spectrum = _real_and_imaginary(stft(samples[:, None], self.fft_size, match_stride=True))
        maps, ends = [], []
        for band, (first, stop) in enumerate(config.band_bins(self.fft_size)):
            hidden = spectrum[:, :, first:stop]
            for conv in config.band_convs:
                name = f"bands_{band}_{conv.name}"
                hidden = FlaxConv2d(conv, self.dtype, self.precision, name=name)(hidden)
                hidden = leaky_relu(hidden, config.LEAKY_SLOPE)
                maps.append(hidden)
            ends.append(hidden)
        conv = config.band_score_conv
        score = FlaxConv2d(conv, self.dtype, self.precision, name=conv.name)
        return [*maps, score(jnp.concatenate(ends, axis=2))]


class FlaxMsStftDiscriminator(nn.Module):
    """All discriminators of EnCodec. `dtype` as in `FlaxDacDiscriminator`."""

    config: MsStftDiscriminatorConfig = MsStftDiscriminatorConfig()
    dtype: jnp.dtype = jnp.float32
    precision: lax.Precision = lax.Precision.DEFAULT

    @nn.compact
    def __call__(self, samples) -> FeatureMaps:
        """samples float32 [B, C, T] -> each discriminator's feature maps, its score the last.

        Maps are [B, F, bins, channels]; windows are whole, none reaches over the ends.

        Raises `ValueError` for another number of axes or channels, and for audio that is shorter
        than the longest window.
        """
        _require_three_axes(samples)
        config = self.config
        if samples.shape[1] != config.audio_channels:
            raise ValueError(
                f"the discriminator takes {config.audio_channels} channels; got {samples.shape[1]}"
            )
        return [
            FlaxScoredConvs(
                config.scale_convs,
                config.leaky_slope,
                self.dtype,
                self.precision,
                name=f"scales_{i}",
            )(_real_and_imaginary(stft(samples, length, centred=False, normalized=True)))
            for i, length in enumerate(config.window_lengths)
        ]


class FlaxScoredConvs(nn.Module):
    """Convolutions with leaky ReLUs between them; the last gives the score."""

    convs: tuple[Conv2d, ...]
    leaky_slope: float
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, hidden) -> list[jax.Array]:
        """[B, H, W, C] -> what comes after every leaky ReLU, and the score [B, H', W', 1]."""
        *features, score = self.convs
        maps = []
        for conv in features:
            hidden = FlaxConv2d(conv, self.dtype, self.precision, name=conv.name)(hidden)
            hidden = leaky_relu(hidden, self.leaky_slope)
            maps.append(hidden)
        return [*maps, FlaxConv2d(score, self.dtype, self.precision, name=score.name)(hidden)]


class FlaxConv2d(nn.Module):
    """Parameters: kernel [H, W, C_in, C_out], bias [C_out], both from where torch's start.

    dtype: of products, and of what comes out.
    """

    conv: Conv2d
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, hidden):
        """[B, H, W, C_in] -> [B, H', W', C_out]."""
        conv = self.conv
        shape = (*conv.kernel_size, conv.in_channels, conv.out_channels)
        fan_in = shape[0] * shape[1] * shape[2]
        kernel = self.param("kernel", uniform_by_fan_in, shape, fan_in)
        bias = self.param("bias", uniform_by_fan_in, shape[-1:], fan_in)
        geometry = conv.stride, conv.padding, conv.dilation
        run = partial(convolve, precision=self.precision, dtype=self.dtype)
        if hidden.shape[2] == shape[1] == 1:  # twice as fast on CPUs over one axis
            strides, padding, dilations = geometry
            along = (strides[:1], padding[:1], dilations[:1])
            hidden = run(hidden[:, :, 0], kernel[:, 0], *along)[:, :, None]
        else:
            hidden = run(hidden, kernel, *geometry)
        return (hidden + bias).astype(self.dtype)


def leaky_relu(hidden, slope: float):
    """Negative values times `slope`; its derivative at 0 is `slope`, as torch's is."""
    return jnp.where(hidden > 0, hidden, slope * hidden)


def _at_one_volume(samples):
    """[B, C, T] without its mean, with a peak of 0.8 in each channel."""
    centred = samples - jnp.mean(samples, axis=-1, keepdims=True)
    return 0.8 * centred / (jnp.max(jnp.abs(centred), axis=-1, keepdims=True) + 1e-9)


def _in_periods(samples, period: int):
    """[B, T] -> [B * period, T // period + 1], filled up by reflection: every period-th sample.

    Where the period divides T a whole period is added, as in the reference.
    """
    missing = period - samples.shape[-1] % period
    if missing >= samples.shape[-1]:
        raise ValueError(
            f"audio of {samples.shape[-1]} samples is too short for a period of {period}: "
            f"{missing} samples are reflected"
        )
    samples = jnp.pad(samples, ((0, 0), (0, missing)), mode="reflect")
    folded = samples.reshape(samples.shape[0], -1, period).swapaxes(1, 2)
    return folded.reshape(-1, folded.shape[-1])


def _real_and_imaginary(spectrum):
    """complex [B, C, bins, F] -> float [B, F, bins, 2 C]: all real parts first."""
    parts = jnp.concatenate([spectrum.real, spectrum.imag], axis=1)
    return parts.transpose(0, 3, 2, 1)


def _require_three_axes(samples):
    if samples.ndim != 3:
        raise ValueError(f"samples must be [B, C, T]; got shape {samples.shape}")
