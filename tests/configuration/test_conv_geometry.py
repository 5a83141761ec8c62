"""Lengths and spans against a simulation of which outputs depend on which inputs."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from codax.configuration import DacConfig
from codax.configuration.conv_geometry import (
    Conv,
    Group,
    Snake,
    Tanh,
    context_frames,
    convolutions,
    input_span,
    named_layers,
    output_length,
    receptive_field,
    total_stride,
)


def dependencies(convs, length, padded=True):
    """bool [outputs, inputs]: which inputs each output of the chain is computed from.

    Nothing is computed from no input: once a layer's output is empty, so is the chain's.
    """
    rows = np.eye(length, dtype=bool)
    for conv in convs:
        padding = conv.padding[0] if padded else 0
        if len(rows) == 0:
            return rows
        rows = (_through_transposed if conv.transposed else _through)(conv, rows, padding)
    return rows


def _through(conv, rows, padding):
    rows = np.pad(rows, ((padding, padding), (0, 0)))
    reach = conv.dilation * (conv.kernel_size - 1) + 1
    outputs = [
        rows[start : start + reach : conv.dilation].any(axis=0)
        for start in range(0, len(rows) - reach + 1, conv.stride)
    ]
    return np.array(outputs, bool).reshape(len(outputs), rows.shape[1])


def _through_transposed(conv, rows, padding):
    full = np.zeros(((len(rows) - 1) * conv.stride + conv.kernel_size, rows.shape[1]), bool)
    for index, row in enumerate(rows):
        full[index * conv.stride : index * conv.stride + conv.kernel_size] |= row
    return full[padding : max(len(full) - padding, padding)]


def hull(rows):
    """The half-open range from the first to the last input that any of the rows depends on."""
    inputs = np.flatnonzero(rows.any(axis=0))
    return int(inputs[0]), int(inputs[-1]) + 1


@st.composite
def conv(draw, padded=True, transposed=None):
    stride = draw(st.integers(1, 5))
    is_transposed = draw(st.booleans()) if transposed is None else transposed
    kernel_size = 2 * stride if is_transposed else draw(st.integers(1, 8))
    dilation = 1 if is_transposed else draw(st.integers(1, 4))
    padding = draw(st.integers(0, 4)) if padded else 0
    return Conv("", 1, 1, kernel_size, stride, dilation, (padding, padding), is_transposed)


def chains(**options):
    return st.lists(conv(**options), min_size=1, max_size=4).map(tuple)


def small_enough(convs):
    return math.prod(conv.stride for conv in convs if conv.transposed) <= 25


@given(chains(), st.integers(0, 60), st.booleans())
@settings(deadline=None)
def test_output_length_is_the_number_of_outputs(convs, length, padded):
    assume(small_enough(convs))
    assert output_length(convs, length, padded) == len(dependencies(convs, length, padded))


@given(chains(padded=False), st.integers(1, 60), st.data())
@settings(deadline=None)
def test_without_padding_input_span_is_exactly_what_the_outputs_depend_on(convs, length, data):
    assume(small_enough(convs))
    rows = dependencies(convs, length)
    assume(len(rows) > 0)
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    first, last = input_span(convs, start, stop)
    # The outermost strides of a transposed convolution also name frames that are not there.
    assume(first >= 0)
    assume(last <= length)
    assert hull(rows[start:stop]) == (first, last)


@given(chains(), st.integers(1, 60), st.data())
@settings(deadline=None)
def test_with_padding_no_output_depends_on_inputs_outside_its_span(convs, length, data):
    assume(small_enough(convs))
    rows = dependencies(convs, length)
    assume(len(rows) > 0)
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    first, last = input_span(convs, start, stop)
    outside = np.ones(length, bool)
    outside[max(first, 0) : max(last, 0)] = False
    assert not rows[start:stop, outside].any()


@given(chains(), st.integers(0, 5))
@settings(deadline=None)
def test_spans_move_with_the_outputs_by_whole_frames(convs, frames):
    """Strided layers divide the shift, transposed ones multiply it: shift by what both divide."""
    ups = math.prod(conv.stride for conv in convs if conv.transposed)
    downs = math.prod(conv.stride for conv in convs if not conv.transposed)
    start, stop = input_span(convs, 0, 3)
    moved = input_span(convs, frames * ups, frames * ups + 3)
    assert moved == (start + frames * downs, stop + frames * downs)


@given(chains(padded=False))
@settings(max_examples=60, deadline=None)
def test_receptive_field_is_the_widest_dependency_of_any_output(convs):
    assume(small_enough(convs))
    length = receptive_field(convs) + 3 * total_stride(convs)
    assume(length <= 400)
    rows = dependencies(convs, length)
    widths = [stop - start for start, stop in (hull(row[None]) for row in rows)]
    assert max(widths) == receptive_field(convs)


ratios = st.lists(st.integers(1, 5), min_size=1, max_size=2)


@given(ratios)
@example([5, 1])
@settings(max_examples=12, deadline=None)
def test_encoder_context_is_what_one_frame_needs_and_no_less(downsampling_ratios):
    config = DacConfig(downsampling_ratios=downsampling_ratios)
    convs, hop_length = config.architecture.encoder_convs, config.hop_length
    left, right = context_frames(convs)
    frame = left + 1
    rows = dependencies(convs, (left + right + 3) * hop_length)
    start, stop = hull(rows[frame : frame + 1])
    assert math.floor(start / hop_length) == frame - left
    assert math.ceil(stop / hop_length) == frame + 1 + right
    assert config.encoder_context_frames == (left, right)


@given(ratios)
@example([1, 5])
@settings(max_examples=12, deadline=None)
def test_decoder_context_is_what_one_frame_needs_and_no_less(downsampling_ratios):
    config = DacConfig(downsampling_ratios=downsampling_ratios)
    convs, hop_length = config.architecture.decoder_convs, config.hop_length
    left, right = context_frames(convs)
    frame = left + 1
    rows = dependencies(convs, left + right + 3)
    start, stop = hull(rows[frame * hop_length : (frame + 1) * hop_length])
    assert (start, stop) == (frame - left, frame + 1 + right)
    assert config.decoder_context_frames == (left, right)


def test_transposed_convolution_of_another_kernel_size_is_refused():
    with pytest.raises(ValueError, match=r"conv_t1: kernel_size=5 .*stride of 2"):
        Conv("conv_t1", 1, 1, kernel_size=5, stride=2, transposed=True)


def test_layers_are_named_by_path_in_signal_order_and_tanh_has_no_name():
    inner = Conv("conv1", 1, 2, kernel_size=3)
    last = Conv("conv2", 2, 1, kernel_size=1)
    layers = (Group("block", (Group("0", (inner, Snake("snake1", 2))),)), last, Tanh())
    assert list(named_layers(layers)) == [
        (("block", "0", "conv1"), inner),
        (("block", "0", "snake1"), Snake("snake1", 2)),
        (("conv2",), last),
    ]
    assert convolutions(layers) == (inner, last)
