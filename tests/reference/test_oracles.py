"""The oracles' small interface, and the distances that decide whether codes may differ."""

import numpy as np
import pytest

from . import inputs, peers
from .variants import TINY

if reason := peers.missing_transformers() or peers.missing_descript():
    pytest.skip(reason, allow_module_level=True)

from . import checkpoints
from .oracles import DescriptOracle, TransformersOracle

FRAMES = range(0, 100, 7)


@pytest.fixture(scope="module", params=["transformers", "descript"])
def oracle(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle")
    weights = checkpoints.make_weights(TINY)
    if request.param == "transformers":
        return TransformersOracle(checkpoints.write_transformers_folder(weights, folder))
    return DescriptOracle(checkpoints.write_descript_file(weights, folder / "weights.pth"))


@pytest.fixture(scope="module")
def audio():
    return inputs.make_input("speech", TINY.sampling_rate, TINY.hop_length)[None, None]


def test_nothing_runs_in_float64_before_it_is_asked_for(oracle, audio):
    oracle.distances(audio, oracle.encode(audio).codes)
    assert "model64" not in vars(oracle)


def test_nearest_codeword_is_the_code(oracle, audio):
    codes = oracle.encode(audio).codes
    distances = oracle.distances(audio, codes)
    for frame in FRAMES:
        for level in range(TINY.n_codebooks):
            exact, rounded = distances.at(0, level, frame)
            assert exact.shape == rounded.shape == (TINY.codebook_size,)
            assert exact.dtype == np.float64
            assert rounded.dtype == np.float32
            assert exact.argmin() == rounded.argmin() == codes[0, level, frame]


def test_rounding_error_is_that_of_float32(oracle, audio):
    distances = oracle.distances(audio, oracle.encode(audio).codes)
    errors = [np.abs(np.subtract(*distances.at(0, 2, frame))).max() for frame in FRAMES]
    assert 0 < max(errors) < 1e-4


def test_distances_follow_the_given_codes_not_their_own(oracle, audio):
    codes = oracle.encode(audio).codes
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % TINY.codebook_size
    own, along = (oracle.distances(audio, given) for given in (codes, other))
    np.testing.assert_array_equal(own.at(0, 0, 5)[0], along.at(0, 0, 5)[0])
    assert np.abs(own.at(0, 1, 5)[0] - along.at(0, 1, 5)[0]).max() > 0.01


def test_decoding_codes_equals_decoding_their_quantized_representation(oracle, audio):
    encoding = oracle.encode(audio)
    from_codes = oracle.decode_codes(encoding.codes)
    from_quantized = oracle.decode_quantized(encoding.quantized)
    num_frames = encoding.codes.shape[-1]
    # Ratio 5 is the first step up: 5F - 1 samples, then times 4 and 2.
    assert from_codes.shape == (1, TINY.hop_length * num_frames - 8)
    np.testing.assert_allclose(from_codes, from_quantized, rtol=0, atol=1e-5)
