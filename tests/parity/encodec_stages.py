"""Compares EnCodec's segments, layers and audio, so that a failure names the first that is wrong.

A clip is a list of `reference.encodec_oracles.Segment`; codax holds the clips of a batch in arrays,
codes [S, B, K, F] and scales [S, B, 1], with zeros where a clip has no such segment or frame.
"""

import numpy as np

from .agreement import Agreement, assert_close, assert_no_faults, compare_codes

# Largest differences allowed, with the reason: how far the reference's own float32 results are from
# its float64 results on these checkpoints. Two float32 implementations may differ by the sum of
# both their errors; the rest is room for other processors.
SCALE_TOLERANCE = 1e-6  # of the value. Reference: 2e-7, a mean of up to 48000 squares
LAYER_TOLERANCE = 2e-5  # of the largest value. Reference: 8e-6, where the LSTM has run for 2 s
AUDIO_TOLERANCE = 1e-5  # of full scale, or of the peak above. Reference: 1e-6


def assert_encodings_agree(expected, codes, scales, distances, where):
    """Scales, then codes, of one clip. -> Agreement of all its codes, first_difference [B, F].

    expected: list of Segment
    codes, scales: codax's for this clip, [S, B, K, F] and [S, B, 1] or None; S and F may be larger
    distances: a `reference.encodec_oracles.SegmentDistances` for each segment
    """
    assert codes.dtype == np.int32, f"{where}: codes are {codes.dtype}"
    if len(codes) < len(expected):
        raise AssertionError(f"{where}: {len(codes)} segments instead of {len(expected)}")
    _assert_scales_agree(expected, scales, where)
    _assert_zero_elsewhere(expected, codes, where)
    agreements = [
        compare_codes(
            segment.codes,
            codes[index][..., : segment.codes.shape[-1]],
            distances[index],
            f"{where}, segment {index}",
        )
        for index, segment in enumerate(expected)
    ]
    agreement = Agreement(
        np.concatenate([one.first_difference for one in agreements], axis=-1),
        sum(one.num_codes for one in agreements),
        [found for one in agreements for found in one.disagreements],
    )
    assert_no_faults(agreement)
    return agreement


def _assert_scales_agree(expected, scales, where):
    if expected[0].scale is None:
        assert scales is None, f"{where}: scales of a model that does not normalise"
        return
    assert np.isfinite(scales).all()
    for index, segment in enumerate(expected):
        assert_close(
            np.ones_like(segment.scale),
            scales[index] / segment.scale,
            SCALE_TOLERANCE,
            f"{where}: scale of segment {index}, over the reference's",
        )


def _assert_zero_elsewhere(expected, codes, where):
    rest = codes.copy()
    for index, segment in enumerate(expected):
        rest[index][..., : segment.codes.shape[-1]] = 0
    if rest.any():
        segment, _, _, frame = np.argwhere(rest)[0]
        raise AssertionError(f"{where}: code after the end, segment {segment}, frame {frame}")


def stacked(clips):
    """Clips as codax takes them: codes int32 [S, B, K, F], scales float32 [S, B, 1] or None.

    clips: lists of Segment with a batch of one
    """
    num_segments = max(map(len, clips))
    num_frames = max(segment.codes.shape[-1] for clip in clips for segment in clip)
    num_codebooks = clips[0][0].codes.shape[1]
    codes = np.zeros((num_segments, len(clips), num_codebooks, num_frames), np.int32)
    scales = np.zeros((num_segments, len(clips), 1), np.float32)
    for item, clip in enumerate(clips):
        for index, segment in enumerate(clip):
            codes[index, item, :, : segment.codes.shape[-1]] = segment.codes[0]
            if segment.scale is not None:
                scales[index, item] = segment.scale[0]
    return codes, None if clips[0][0].scale is None else scales


def missing_in_last_frame(segments):
    """What torch calls `last_frame_pad_length`: by how many frames the last segment is shorter."""
    return segments[0].codes.shape[-1] - segments[-1].codes.shape[-1]


def assert_layers_agree(expected, actual, where):
    """Outputs of a network's layers in order, both dicts of [B, T, C] by layer number."""
    assert actual.keys() == expected.keys(), f"{where}: layers {sorted(actual)}"
    for number in sorted(expected):
        tolerance = LAYER_TOLERANCE * max(1.0, np.abs(expected[number]).max())
        assert_close(expected[number], actual[number], tolerance, f"{where}: layer {number}")


def assert_audio_agrees(expected, actual, where):
    """Decoder output, float32 [B, C, T]."""
    assert np.asarray(actual).dtype == np.float32
    peak = max(1.0, np.abs(expected).max())
    assert_close(expected, actual, AUDIO_TOLERANCE * peak, f"{where}: decoded audio")
