"""`.ecdc` files between codax and the encodec package, both running the same weights."""

import dataclasses
import importlib
import io

import numpy as np
import pytest

from codax import AudioCodec, FlaxEncodecModel
from codax.formats import ecdc_bytes, read_ecdc
from tests.reference import peers
from tests.reference.encodec_variants import ENCODEC_VARIANTS

if reason := peers.missing_transformers() or peers.missing_encodec():
    pytest.skip(reason, allow_module_level=True)

import torch

from tests.reference import encodec_checkpoints, encodec_inputs

# The lengths, rates and codebooks of the released models, with few weights. Of a fiftieth of a
# second, and of a second: two segments of the 48 kHz model.
NUM_SAMPLES = {"encodec_24khz": 481, "encodec_48khz": 48000}
VARIANTS = {
    name: dataclasses.replace(ENCODEC_VARIANTS[name], num_filters=4, hidden_size=16)
    for name in NUM_SAMPLES
}
BANDWIDTH = 3.0  # kbps
# float32 sums in another order, in the volume and in the networks. Measured: 1.2e-7 and 3.4e-6.
SCALE_TOLERANCE = 1e-6
AUDIO_TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=list(VARIANTS))
def variant(request):
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def weights(variant):
    return encodec_checkpoints.make_weights(variant)


@pytest.fixture(scope="module")
def codec(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp(weights.variant.name)
    encodec_checkpoints.write_transformers_folder(weights, folder)
    return AudioCodec(FlaxEncodecModel.from_pretrained(folder), weights.variant.name)


@pytest.fixture(scope="module")
def theirs(weights, tmp_path_factory):
    """The package's model."""
    path = tmp_path_factory.mktemp("original") / "weights.th"
    encodec_checkpoints.write_original_file(weights, path)
    model = encodec_checkpoints.load_original(path, weights.variant)
    model.set_target_bandwidth(BANDWIDTH)
    return model


@pytest.fixture
def compress(monkeypatch, theirs):
    """The module of the package that reads and writes files, with `theirs` as released model."""
    peers.import_encodec()
    module = importlib.import_module("encodec.compress")
    monkeypatch.setitem(module.MODELS, theirs.name, lambda: theirs)
    return module


@pytest.fixture(scope="module")
def clip(variant):
    """float32 [C, T]."""
    music = encodec_inputs.make_input("music", variant).astype(np.float32)
    num_samples = NUM_SAMPLES[variant.name]
    return np.resize(music, (variant.audio_channels, num_samples))


@pytest.fixture(scope="module")
def encoded(codec, clip):
    return codec.encode(clip, codec.sampling_rate, bandwidth=BANDWIDTH)


def test_a_file_is_the_packages_but_for_the_last_bits_of_scales(compress, theirs, clip, encoded):
    content = compress.compress(theirs, torch.from_numpy(clip))
    if encoded.scales is None:
        assert ecdc_bytes(encoded) == content
        return
    read = read_ecdc(content)
    np.testing.assert_array_equal(encoded.codes, read.codes)
    np.testing.assert_allclose(encoded.scales, read.scales, rtol=SCALE_TOLERANCE)
    assert ecdc_bytes(dataclasses.replace(encoded, scales=read.scales)) == content


def test_the_package_decodes_our_file_to_the_audio_that_we_do(compress, codec, clip, encoded):
    file = io.BytesIO(ecdc_bytes(encoded))
    audio, sampling_rate = compress.decompress_from_file(file)
    ours = codec.decode(encoded)
    assert sampling_rate == ours.sampling_rate
    assert audio.shape == ours.samples.shape == clip.shape
    assert ours.samples.std() > 0.01
    np.testing.assert_allclose(ours.samples, audio.numpy(), atol=AUDIO_TOLERANCE)


def test_we_decode_the_packages_file_to_the_audio_that_it_does(compress, codec, theirs, clip):
    content = compress.compress(theirs, torch.from_numpy(clip))
    audio, _ = compress.decompress(content)
    np.testing.assert_allclose(codec.decode(content).samples, audio.numpy(), atol=AUDIO_TOLERANCE)
