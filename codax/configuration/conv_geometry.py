"""A codec network as data, and what its convolutions alone decide.

A network is a tuple of layers. The Flax modules run that tuple, the weight table names its entries,
and the functions here read lengths, delay and receptive fields off its convolutions, so that the
architecture is written exactly once. No arrays here.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """One convolution over time, or a transposed one.

    padding: samples put on the left and on the right (of a transposed convolution: cropped from the
        left and the right of its full output).
    pad_mode: what is put there: "zeros", or "reflect", the signal mirrored at its ends.
    completes_stride: the right gets as many samples more as complete the last stride, so that n
        samples make ceil(n / stride) frames.
    time_group_norm: the output is normalised over time and channels together (before cropping).

    A transposed convolution has kernel_size == 2 * stride, as in every codec here: an output sample
    sees two frames, so it is one matrix product and an overlap-add.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (0, 0)
    transposed: bool = False
    pad_mode: str = "zeros"
    completes_stride: bool = False
    time_group_norm: bool = False

    def __post_init__(self):
        if self.transposed and self.kernel_size != 2 * self.stride:
            raise ValueError(
                f"transposed convolution {self.name}: kernel_size={self.kernel_size} must be twice "
                f"its stride of {self.stride}"
            )

    @property
    def span(self) -> int:
        """Distance between the first and the last tap, in samples: dilation * (kernel_size - 1)."""
        return self.dilation * (self.kernel_size - 1)

    @property
    def mirrored(self) -> int:
        """The most samples put on the right that are what comes before them, mirrored."""
        if self.pad_mode != "reflect" or self.transposed:
            return 0
        return self.padding[1] + (self.stride - 1 if self.completes_stride else 0)

    def output_length(self, length: int, padded: bool = True) -> int:
        """Samples out for `length` samples in; below 1 where the input is too short.

        Source of the formula: torch.nn.Conv1d and torch.nn.ConvTranspose1d, section "Shape".
        """
        padding = sum(self.padding) if padded else 0
        if self.transposed:
            return (length - 1) * self.stride + self.span + 1 - padding
        beyond_first = length + padding - self.span - 1
        if padded and self.completes_stride:
            beyond_first += self.stride - 1
        return beyond_first // self.stride + 1

    def determined_length(self, length: int) -> int:
        """Of the outputs for an input that goes on, how many `length` inputs determine."""
        left = self.padding[0]
        if self.transposed:
            return max(length * self.stride - left, 0)
        if self.pad_mode == "reflect" and length <= left:
            return 0  # the beginning is mirrored as far as there
        return max((length + left - self.span - 1) // self.stride + 1, 0)

    def input_span(self, start: int, stop: int) -> tuple[int, int]:
        """The half-open range of inputs that the outputs [start, stop) are computed from."""
        left = self.padding[0]
        if self.transposed:
            first = -((self.span - start - left) // self.stride)
            return first, (stop - 1 + left) // self.stride + 1
        return start * self.stride - left, (stop - 1) * self.stride - left + self.span + 1


@dataclass(frozen=True)
class Snake:
    """The activation x + sin(alpha x)^2 / alpha, one alpha a channel."""

    name: str
    channels: int


@dataclass(frozen=True)
class Tanh:
    """Hyperbolic tangent; it has no weights and so no name."""


@dataclass(frozen=True)
class Elu:
    """The activation x for x > 0, exp(x) - 1 otherwise; it has no weights and so no name."""


@dataclass(frozen=True)
class Lstm:
    """A stack of LSTM layers, each `size` wide, running forward in time."""

    name: str
    size: int
    num_layers: int


@dataclass(frozen=True)
class Group:
    """Layers in sequence under one name.

    residual: the group's input is added to its output, by way of `shortcut` where there is one.
    """

    name: str
    layers: tuple["Layer", ...]
    residual: bool = False
    shortcut: "Layer | None" = None


Layer = Conv | Snake | Tanh | Elu | Lstm | Group


def named_layers(layers: Iterable[Layer], path: tuple[str, ...] = ()) -> Iterator[tuple]:
    """Yield (path, layer) for every layer that has weights, in the order in which signal passes."""
    for layer in layers:
        if isinstance(layer, Group):
            yield from named_layers(layer.layers, (*path, layer.name))
            if layer.shortcut is not None:
                yield from named_layers((layer.shortcut,), (*path, layer.name))
        elif not isinstance(layer, Tanh | Elu):
            yield (*path, layer.name), layer


def convolutions(layers: Iterable[Layer]) -> tuple[Conv, ...]:
    """The convolutions of a network, in the order in which signal passes.

    Those of shortcuts are among them, though they lie beside the path: with one tap and a stride of
    1 they leave every length and span as it is.
    """
    return tuple(layer for _, layer in named_layers(layers) if isinstance(layer, Conv))


def total_stride(convs: Iterable[Conv]) -> int:
    """Input samples per output frame (or, of a decoder, output samples per input frame)."""
    return math.prod(conv.stride for conv in convs)


def output_length(convs: Iterable[Conv], length: int, padded: bool = True) -> int:
    """Length of the network's output for `length` inputs; 0 where the input is too short."""
    for conv in convs:
        if length < 1:
            break
        length = conv.output_length(length, padded)
    return max(length, 0)


def determined_length(convs: Iterable[Conv], length: int) -> int:
    """How many outputs of a network `length` inputs determine, whatever follows them."""
    for conv in convs:
        length = conv.determined_length(length)
    return length


def input_span(convs: tuple[Conv, ...], start: int, stop: int) -> tuple[int, int]:
    """The half-open range of the network's inputs that its outputs [start, stop) depend on.

    Indices below 0, or past the end of a given input, lie in the padding.
    """
    for conv in reversed(convs):
        start, stop = conv.input_span(start, stop)
    return start, stop


def reach(convs: Sequence[Conv], stop: int) -> tuple[int, int]:
    """The `input_span` of the outputs [0, stop), wherever among them a signal ends.

    Padding on its right may be what comes before, mirrored. The end of a signal with an output here
    lies after sample 0 in every layer, so it mirrors nothing before `-mirrored`.
    """
    start = 0
    for conv in reversed(convs):
        start, stop = conv.input_span(start, stop)
        start = min(start, -conv.mirrored)
    return start, stop


def receptive_field(convs: tuple[Conv, ...]) -> int:
    """The most inputs that any one output depends on."""
    phases = total_stride(conv for conv in convs if conv.transposed)
    spans = (input_span(convs, phase, phase + 1) for phase in range(phases))
    return max(stop - start for start, stop in spans)


def context_frames(convs: tuple[Conv, ...]) -> tuple[int, int]:
    """Frames needed on the left and on the right of a window for exact results inside it.

    A frame is the larger unit of the two: one output of an encoder (`total_stride` samples), one
    input of a decoder. Source: the dependency range of the outputs that belong to one frame.
    """
    hop_length = total_stride(convs)
    if any(conv.transposed for conv in convs):
        start, stop = reach(convs, hop_length)
        return -start, stop - 1
    start, stop = reach(convs, 1)
    return math.ceil(-start / hop_length), math.ceil((stop - hop_length) / hop_length)


def delay(convs: tuple[Conv, ...]) -> int:
    """Samples that the unpadded networks lose at each end, encoder and decoder together.

    Source: descript-audio-codec, `CodecMixin.get_delay`: the output length for zero input samples,
    traced back to the input length that would make it, halved.
    """
    length_out = 0
    for conv in convs:
        length_out = conv.output_length(length_out, padded=False)
    length_in = length_out
    for conv in reversed(convs):
        if conv.transposed:
            length_in = math.ceil((length_in - conv.span - 1) / conv.stride) + 1
        else:
            length_in = (length_in - 1) * conv.stride + conv.span + 1
    return (length_in - length_out) // 2
