"""The generated EnCodec checkpoints: repeatable, useful, and the same model in every spelling."""

import numpy as np
import pytest

from . import encodec_inputs, peers
from .encodec_variants import ENCODEC_VARIANTS, TINY_CAUSAL, TINY_SEGMENTED, TINY_VARIANTS

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

import torch

from . import encodec_checkpoints
from .encodec_oracles import OriginalOracle, SegmentDistances, TransformersOracle
from .usefulness import assert_useful_encodec

needs_encodec = pytest.mark.skipif(
    peers.missing_encodec() is not None, reason=str(peers.missing_encodec())
)
ONE_SEGMENT = ("speech", "white_noise_1e-4", "silence", "one_sample", "hop_plus_1")


@pytest.fixture(scope="module", params=TINY_VARIANTS.values(), ids=lambda variant: variant.name)
def weights(request):
    return encodec_checkpoints.make_weights(request.param)


@pytest.fixture(scope="module")
def transformers_oracle(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers")
    encodec_checkpoints.write_transformers_folder(weights, folder)
    return TransformersOracle(folder, weights.variant)


@pytest.fixture(scope="module")
def original_oracle(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "weights.th"
    encodec_checkpoints.write_original_file(weights, path)
    return OriginalOracle(path, weights.variant)


def test_seed_decides_the_weights(weights):
    again = encodec_checkpoints.make_weights(weights.variant).state
    other = encodec_checkpoints.make_weights(weights.variant, seed=1).state
    assert all(torch.equal(value, again[name]) for name, value in weights.state.items())
    drawn = [name for name in weights.state if not name.endswith("inited")]
    assert not any(torch.equal(weights.state[name], other[name]) for name in drawn)


def test_weights_are_useful(weights, transformers_oracle):
    assert_useful_encodec(transformers_oracle, weights.variant)


def test_default_initialisation_would_not_be_useful(tmp_path):
    config = encodec_checkpoints.transformers_config(TINY_CAUSAL)
    encodec_checkpoints.EncodecModel(config).save_pretrained(tmp_path)
    with pytest.raises(AssertionError, match="poor test"):
        assert_useful_encodec(TransformersOracle(tmp_path, TINY_CAUSAL), TINY_CAUSAL)


def test_norms_and_biases_are_uneven(weights):
    state = weights.state
    biases = [value for name, value in state.items() if name.endswith(".bias")]
    assert all(bias.abs().max() > 1e-3 for bias in biases if len(bias) > 1)
    gains = [name for name in state if name.endswith("weight_g")]
    if weights.variant.norm_type == "weight_norm":
        ratios = [
            state[name].flatten() / state[f"{name[:-1]}v"].flatten(1).norm(dim=1) for name in gains
        ]
    else:
        ratios = [value for name, value in state.items() if name.endswith("norm.weight")]
    assert torch.cat(ratios).log().std() > 0.25


@needs_encodec
@pytest.mark.parametrize("name", ONE_SEGMENT)
def test_both_references_compute_the_same_from_the_same_weights(
    weights, original_oracle, transformers_oracle, name
):
    """The first segment of a clip which is as long as that: they cut others differently."""
    variant = weights.variant
    audio = encodec_inputs.make_input(name, variant)[None]
    if variant.chunk_length is not None:
        missing = max(0, variant.chunk_length - audio.shape[-1])
        audio = np.pad(audio, ((0, 0), (0, 0), (0, missing)))[..., : variant.chunk_length]
    oracles = original_oracle, transformers_oracle
    a, b = (oracle.encode(audio, variant.target_bandwidths[-1])[0] for oracle in oracles)
    np.testing.assert_array_equal(a.codes, b.codes)
    if variant.normalize:
        np.testing.assert_allclose(a.scale, b.scale, rtol=1e-6)
    a_decoded, b_decoded = (oracle.decode([a]) for oracle in oracles)
    np.testing.assert_allclose(a_decoded, b_decoded, rtol=0, atol=1e-6)


@needs_encodec
def test_file_holds_the_keys_of_the_releases(tmp_path):
    weights = encodec_checkpoints.make_weights(TINY_CAUSAL)
    path = encodec_checkpoints.write_original_file(weights, tmp_path / "weights.th")
    keys = torch.load(path, weights_only=True).keys()
    assert {
        "encoder.model.0.conv.conv.weight_g",
        "encoder.model.1.block.3.conv.conv.weight_v",
        "encoder.model.1.shortcut.conv.conv.bias",
        "encoder.model.7.lstm.weight_hh_l1",
        "decoder.model.1.lstm.bias_ih_l0",
        "decoder.model.3.convtr.convtr.weight_g",
        "quantizer.vq.layers.3._codebook.inited",
        "quantizer.vq.layers.3._codebook.embed_avg",
    } <= keys
    weights = encodec_checkpoints.make_weights(TINY_SEGMENTED)
    path = encodec_checkpoints.write_original_file(weights, tmp_path / "normed.th")
    assert {
        "encoder.model.0.conv.conv.weight",
        "encoder.model.0.conv.norm.weight",
        "decoder.model.3.convtr.norm.bias",
    } <= torch.load(path, weights_only=True).keys()


@needs_encodec
@pytest.mark.parametrize("name", ["24khz", "48khz"])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.nn.utils.weight_norm
def test_released_shapes_are_those_of_the_package(name):
    """Its own constructors take these state dicts and no other."""
    variant = ENCODEC_VARIANTS[f"encodec_{name}"]
    package = peers.import_encodec().EncodecModel
    with torch.device("meta"):
        expected = getattr(package, f"encodec_model_{name}")(pretrained=False)
        model = encodec_checkpoints.EncodecModel(encodec_checkpoints.transformers_config(variant))
    shapes = {
        encodec_checkpoints.original_name(_older(key), variant): value.shape
        for key, value in model.state_dict().items()
    }
    assert shapes == {key: value.shape for key, value in expected.state_dict().items()}


def _older(key):
    for older, newer in encodec_checkpoints.PARAMETRIZATIONS.items():
        key = key.replace(newer, older)
    return key


@pytest.mark.parametrize("variant", ENCODEC_VARIANTS.values(), ids=lambda variant: variant.name)
def test_config_has_the_derived_facts_of_the_release(variant):
    config = encodec_checkpoints.transformers_config(variant)
    hop, frame_rate, codebooks, segments = {
        "encodec_24khz": (320, 75, 32, (None, None)),
        "encodec_48khz": (320, 150, 16, (48000, 47520)),
        "encodec_32khz": (640, 50, 4, (None, None)),
    }[variant.name]
    assert config.hop_length == variant.hop_length == hop
    assert config.frame_rate == variant.frame_rate == frame_rate
    assert config.num_quantizers == variant.n_codebooks == codebooks
    assert (config.chunk_length, config.chunk_stride) == segments
    assert (variant.chunk_length, variant.chunk_stride) == segments


def test_older_spelling_holds_the_same_model(weights, transformers_oracle, tmp_path):
    from safetensors.torch import load_file

    variant = weights.variant
    encodec_checkpoints.write_transformers_folder(weights, tmp_path, parametrizations=False)
    keys = load_file(tmp_path / "model.safetensors").keys()
    assert not any("parametrizations" in key for key in keys)
    assert any(key.endswith("weight_g") for key in keys) == (variant.norm_type == "weight_norm")
    audio = encodec_inputs.make_input("speech", variant)[None]
    older, newer = (
        oracle.encode(audio, variant.target_bandwidths[-1])
        for oracle in (TransformersOracle(tmp_path, variant), transformers_oracle)
    )
    for one, other in zip(older, newer, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)


@needs_encodec
@pytest.mark.parametrize("num_samples", range(300, 1100, 3))
def test_original_decoder_fails_exactly_where_overlap_is_lost(num_samples, segmented_oracle):
    segments = segmented_oracle.encode(
        encodec_inputs.make_music(TINY_SEGMENTED, num_samples)[None],
        TINY_SEGMENTED.target_bandwidths[0],
    )
    cut_off = segmented_oracle.decode_cut_off(segments)
    assert cut_off.shape[-1] >= num_samples
    if TINY_SEGMENTED.loses_overlap(num_samples):
        with pytest.raises(RuntimeError, match="must match the size"):
            segmented_oracle.decode(segments)
    else:
        np.testing.assert_array_equal(cut_off, segmented_oracle.decode(segments))


@pytest.fixture(scope="module")
def segmented_oracle(tmp_path_factory):
    weights = encodec_checkpoints.make_weights(TINY_SEGMENTED)
    path = tmp_path_factory.mktemp("segmented") / "weights.th"
    return OriginalOracle(encodec_checkpoints.write_original_file(weights, path), TINY_SEGMENTED)


def test_released_model_loses_overlap_at_the_known_lengths():
    variant = ENCODEC_VARIANTS["encodec_48khz"]
    lost = [length for length in range(47000, 48100) if variant.loses_overlap(length)]
    assert lost == list(range(47520 + 161, 47520 + 321))
    assert variant.loses_overlap(5 * 47520 + 161)
    assert not variant.loses_overlap(161)


@needs_encodec
def test_nearest_codeword_by_the_distances_is_the_code(weights, original_oracle):
    variant = weights.variant
    audio = encodec_inputs.make_input("music", variant)[None]
    segments = original_oracle.encode(audio, variant.target_bandwidths[-1])
    for distances, segment in zip(
        original_oracle.distances(audio, segments), segments, strict=True
    ):
        assert isinstance(distances, SegmentDistances)
        for level, frame in np.ndindex(segment.codes.shape[1:]):
            exact, rounded = distances.at(0, level, frame)
            assert exact.dtype == np.float64
            assert rounded.dtype == np.float32
            assert rounded.argmin() == segment.codes[0, level, frame]
            np.testing.assert_allclose(rounded, exact, rtol=0, atol=1e-4 * exact.max())
