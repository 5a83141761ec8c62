"""The generated checkpoints: repeatable, useful, and the same model in every spelling."""

import numpy as np
import pytest

from . import inputs, peers
from .variants import TINY, TINY_NARROW, VARIANTS

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

import torch

from . import checkpoints
from .oracles import DescriptOracle, TransformersOracle
from .usefulness import assert_useful

needs_descript = pytest.mark.skipif(
    peers.missing_descript() is not None, reason=str(peers.missing_descript())
)


@pytest.fixture(scope="module", params=[TINY, TINY_NARROW], ids=lambda variant: variant.name)
def weights(request):
    return checkpoints.make_weights(request.param)


def audio_of(weights, name):
    variant = weights.variant
    audio = inputs.make_input(name, variant.sampling_rate, variant.hop_length)
    return inputs.pad_to_hop(audio, variant.hop_length)[None, None]


def test_seed_decides_the_weights(weights):
    again = checkpoints.descript_state(checkpoints.make_weights(weights.variant))
    other = checkpoints.descript_state(checkpoints.make_weights(weights.variant, seed=1))
    state = checkpoints.descript_state(weights)
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    # Channel 0 of every alpha is 0 by design; no tensor as a whole may repeat.
    assert not any(torch.equal(value, other[name]) for name, value in state.items())


def test_weights_are_useful(weights, tmp_path):
    folder = checkpoints.write_transformers_folder(weights, tmp_path)
    assert_useful(TransformersOracle(folder), weights.variant)


def test_default_initialisation_would_not_be_useful(tmp_path):
    checkpoints.DacModel(checkpoints.transformers_config(TINY)).save_pretrained(tmp_path)
    with pytest.raises(AssertionError, match="poor test"):
        assert_useful(TransformersOracle(tmp_path), TINY)


def test_activations_and_biases_are_uneven(weights):
    for name, value in weights.others.items():
        if name.endswith("alpha"):
            assert value[0, 0] == 0
            assert value[0, 1] < 0
            assert value.std() > 0.1
    assert all(bias.abs().max() > 1e-3 for _, _, bias in weights.convolutions.values())
    ratios = [g.flatten() / v.flatten(1).norm(dim=1) for g, v, _ in weights.convolutions.values()]
    assert torch.cat(ratios).log().std() > 0.3


@pytest.fixture(scope="module")
def both_oracles(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracles")
    return (
        TransformersOracle(checkpoints.write_transformers_folder(weights, folder / "transformers")),
        DescriptOracle(checkpoints.write_descript_file(weights, folder / "weights.pth")),
    )


@needs_descript
@pytest.mark.parametrize("name", [name for name in inputs.ALL if name != "ten_seconds"])
def test_both_references_compute_the_same_from_the_same_weights(weights, both_oracles, name):
    audio = audio_of(weights, name)
    a, b = (oracle.encode(audio) for oracle in both_oracles)
    np.testing.assert_array_equal(a.codes, b.codes)
    np.testing.assert_allclose(a.projected_latents, b.projected_latents, rtol=0, atol=1e-6)
    np.testing.assert_allclose(a.quantized, b.quantized, rtol=0, atol=1e-6)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    a_decoded, b_decoded = (oracle.decode_codes(a.codes) for oracle in both_oracles)
    np.testing.assert_allclose(a_decoded, b_decoded, rtol=0, atol=1e-6)


@needs_descript
def test_newer_key_spelling_holds_the_same_model(weights, tmp_path):
    older = torch.load(checkpoints.write_descript_file(weights, tmp_path / "a.pth"))
    newer = torch.load(
        checkpoints.write_descript_file(weights, tmp_path / "b.pth", parametrizations=True)
    )
    assert older["metadata"] == newer["metadata"]
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in newer["state_dict"].items()
    }
    assert "decoder.model.1.block.1.parametrizations.weight.original0" in newer["state_dict"]
    assert renamed.keys() == older["state_dict"].keys()
    assert all(torch.equal(value, renamed[name]) for name, value in older["state_dict"].items())


def test_unfolded_folder_holds_the_same_model(weights, tmp_path):
    from safetensors.torch import load_file

    audio = audio_of(weights, "speech")
    folded = TransformersOracle(checkpoints.write_transformers_folder(weights, tmp_path / "folded"))
    unfolded = checkpoints.write_transformers_folder(
        weights, tmp_path / "unfolded", fold_weight_norm=False
    )
    state = load_file(unfolded / "model.safetensors")
    assert "decoder.block.0.conv_t1.parametrizations.weight.original0" in state
    expected = folded.encode(audio)
    folded.model.apply_weight_norm()
    folded.model.load_state_dict(state)
    np.testing.assert_array_equal(folded.encode(audio).codes, expected.codes)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_config_has_the_hop_and_latent_width_of_the_release(variant):
    config = checkpoints.transformers_config(variant)
    hop, width = {"44khz": (512, 1024), "44khz_16kbps": (512, 128)}.get(variant.name, (320, 1024))
    assert config.hop_length == variant.hop_length == hop
    assert config.hidden_size == variant.hidden_size == width
