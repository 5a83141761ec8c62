"""What the tests of this room say about messages, and about features beside transformers'."""

from functools import partial

import numpy as np

from codax.errors import AudioError
from tests.messages import one_line_error

audio_error = partial(one_line_error, AudioError)


def refusal(extractor, *arguments, **options):
    """`audio_error` of a feature extractor, by default for audio at its sampling rate."""
    return audio_error(
        extractor, *arguments, **({"sampling_rate": extractor.sampling_rate} | options)
    )


def assert_mentions(message, *words):
    for word in words:
        assert word in message


def assert_same_features(features, expected):
    """The order of the keys aside."""
    assert sorted(features) == sorted(expected)
    for key in expected:
        assert type(features[key]) is type(expected[key])
        for row, expected_row in zip(features[key], expected[key], strict=True):
            assert row.dtype == expected_row.dtype
            np.testing.assert_array_equal(row, expected_row)
