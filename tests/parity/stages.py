"""Compares encodings stage by stage in signal order, so that a failure names the first one."""

import numpy as np

from .agreement import assert_close, assert_no_faults, compare_codes

# Largest differences allowed, with the reason: how far the reference's own float32 results are from
# its float64 results on these checkpoints (the largest over variants and QUICK inputs). Two float32
# implementations may differ by the sum of both their errors; the rest is room for other processors.
PROJECTED_TOLERANCE = 1e-5  # of the largest value. Reference: 2e-6, after 33 convolutions
QUANTIZED_TOLERANCE = 1e-5  # Reference: 2e-6, in a sum of up to 32 codewords of order one
AUDIO_TOLERANCE = 1e-5  # Reference: 3e-6, after 30 convolutions
LOSS_TOLERANCE = 1e-5  # of the value. A mean of squares whose terms are off by 4e-6 each


def assert_encodings_agree(expected, actual, distances, where):
    """Every level's projected latents, then codes, quantized representation and loss.

    expected, actual: reference.encoding.Encoding
    distances: see agreement.compare_codes
    Frames take part up to and including their first differing level.
    """
    codes = compare_codes(expected.codes, actual.codes, distances, where)
    _assert_projections_agree(expected, actual, codes, where)
    assert_no_faults(codes)
    num_levels = expected.codes.shape[1]
    equal = codes.frames_equal_before(num_levels)
    assert_close(
        _frames(expected.quantized, equal),
        _frames(actual.quantized, equal),
        QUANTIZED_TOLERANCE,
        f"{where}: quantized representation",
    )
    if equal.all():
        assert_losses_agree(expected.loss, actual.loss, where)
    return codes


def _assert_projections_agree(expected, actual, codes, where):
    num_levels = expected.codes.shape[1]
    if expected.projected_latents.shape != actual.projected_latents.shape:
        raise AssertionError(
            f"{where}: projected latents have shape {actual.projected_latents.shape}, "
            f"not {expected.projected_latents.shape}"
        )
    tolerance = PROJECTED_TOLERANCE * max(1.0, np.abs(expected.projected_latents).max())
    levels = zip(
        np.split(expected.projected_latents, num_levels, axis=1),
        np.split(np.asarray(actual.projected_latents), num_levels, axis=1),
        strict=True,
    )
    for level, (expected_level, actual_level) in enumerate(levels):
        compared = codes.frames_equal_before(level)
        came_from = "encoder" if level == 0 else f"residual after level {level - 1}"
        assert_close(
            _frames(expected_level, compared),
            _frames(actual_level, compared),
            tolerance,
            f"{where}: projected latents of level {level} (from the {came_from})",
        )


def assert_losses_agree(expected, actual, where):
    """transformers repeats the loss for each item of the batch, descript gives one number."""
    expected, actual = np.broadcast_arrays(expected, actual)
    tolerance = LOSS_TOLERANCE * np.abs(expected).max()
    assert_close(expected, actual, tolerance, f"{where}: loss")


def assert_audio_agrees(expected, actual, where):
    """Decoder output, float32 [B, T]."""
    assert_close(expected, actual, AUDIO_TOLERANCE, f"{where}: decoded audio")


def _frames(values, frames):
    """values [B, C, F], frames bool [B, F] -> [N, C]."""
    return np.asarray(values).swapaxes(1, 2)[frames]
