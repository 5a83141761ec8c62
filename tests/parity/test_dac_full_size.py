"""The four published DAC models, full size, random weights, against both references.

The default run takes the QUICK inputs for the 44 kHz model, and one for each of the others, whose
layers differ in their numbers alone; `-m full` takes all the rest, the 24 kHz model among it, which
is the 16 kHz model with more codebooks.
"""

import numpy as np
import pytest

from tests.reference import inputs
from tests.reference.variants import VARIANTS

from .agreement import assert_codes_agree
from .conftest import encode
from .stages import assert_audio_agrees, assert_encodings_agree, assert_losses_agree

QUICK_OF_OTHERS = ("speech",)


def on_variants(*quick):
    """All models, those that are not `quick` with the marker `full`."""
    return pytest.mark.parametrize(
        "variant",
        [
            pytest.param(variant, marks=[] if name in quick else [pytest.mark.full], id=name)
            for name, variant in VARIANTS.items()
        ],
        indirect=True,
        scope="module",
    )


QUICK_VARIANTS = tuple(name for name in VARIANTS if name != "24khz")

on_all_variants = on_variants(*QUICK_VARIANTS)


def on_inputs(quick, others=QUICK_VARIANTS):
    """All inputs of all models, with the marker `full` but for a few.

    quick: inputs of the 44 kHz model; others: models that take `QUICK_OF_OTHERS`
    """
    cases = []
    for model_name, variant in VARIANTS.items():
        few = QUICK_OF_OTHERS if model_name in others else ()
        for name in inputs.ALL:
            is_quick = name in (quick if model_name == "44khz" else few)
            marks = [] if is_quick else [pytest.mark.full]
            cases.append(pytest.param(variant, name, marks=marks, id=f"{name}-{model_name}"))
    return pytest.mark.parametrize(("variant", "name"), cases, indirect=["variant"], scope="module")


def against(reference):
    return pytest.mark.parametrize("reference", [reference], indirect=True, scope="module")


UNEVEN = "three_hops_plus_7"

# Millions, weight norm's g and v counted: table in the reference's README and release files.
PARAMETERS = {"44khz": 76.65, "24khz": 74.71, "16khz": 74.18, "44khz_16kbps": 64.21}


@on_all_variants
def test_checkpoint_has_the_published_number_of_parameters(variant, checkpoint):
    import torch

    state = torch.load(checkpoint["descript"], weights_only=True, mmap=True)["state_dict"]
    parameters = sum(value.numel() for value in state.values())
    assert parameters / 1e6 == pytest.approx(PARAMETERS[variant.name], abs=0.005)


@on_variants("44khz")
def test_checkpoint_makes_a_useful_test(variant, oracles):
    from tests.reference.usefulness import assert_useful

    assert_useful(oracles("transformers"), variant)


@on_inputs(inputs.QUICK)
def test_references_agree_with_each_other(results_of, name, tell_near_ties):
    transformers, descript = results_of("transformers"), results_of("descript")
    tell_near_ties(
        assert_encodings_agree(
            transformers.encoding(name),
            descript.encoding(name),
            transformers.distances(name),
            f"descript against transformers, {transformers.variant.name}, {name}",
        )
    )


@on_all_variants
def test_converted_file_holds_the_weights_that_transformers_saves(checkpoint, converted):
    from safetensors.numpy import load_file

    expected = load_file(checkpoint["transformers"] / "model.safetensors")
    actual = load_file(converted / "model.safetensors")
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        # Weight norm is folded in float32 by torch: a norm and a quotient, each rounded.
        np.testing.assert_allclose(actual[key], value, rtol=1e-6, atol=1e-12, err_msg=key)


@on_inputs(inputs.QUICK)
def test_encoding_agrees_stage_by_stage(model, results, name, tell_near_ties):
    tell_near_ties(
        assert_encodings_agree(
            results.encoding(name),
            encode(model, results.audio(name)),
            results.distances(name),
            where(results, name),
        )
    )


@against("transformers")
@on_inputs(inputs.QUICK)
def test_decoding_the_codes_of_transformers_gives_the_same_audio(model, results, name):
    assert_decoding_agrees(model, results, name)


@against("descript")
@on_inputs(["speech"], others=["44khz_16kbps"])
def test_decoding_the_codes_of_descript_gives_the_same_audio(model, results, name):
    """Fewer by default: decoding is most of the time, and both references' arithmetic is one."""
    assert_decoding_agrees(model, results, name)


def assert_decoding_agrees(model, results, name):
    codes = results.encoding(name).codes
    decoded = np.asarray(model.decode(audio_codes=codes).audio_values)
    missing = {512: 0, 320: 8}[results.variant.hop_length]
    assert decoded.shape == (1, results.variant.hop_length * codes.shape[-1] - missing)
    assert_audio_agrees(results.decoded(name), decoded, where(results, name))


@against("transformers")
@on_variants("44khz", "44khz_16kbps")
def test_decoding_the_same_quantized_representation_gives_the_same_audio(model, results):
    quantized = results.encoding("speech").quantized
    decoded = model.decode(quantized_representation=quantized).audio_values
    expected = results.oracle.decode_quantized(quantized)
    assert_audio_agrees(expected, decoded, where(results, "speech"))


@on_variants("44khz")
def test_fewer_quantizers_agree_and_give_a_prefix_of_the_codes(model, results, tell_near_ties):
    n_quantizers = results.variant.n_codebooks // 2
    audio = results.audio(UNEVEN)
    expected = results.oracle.encode(audio, n_quantizers)
    actual = encode(model, audio, n_quantizers=n_quantizers)
    distances = results.oracle.distances(audio, expected.codes)
    tell_near_ties(
        assert_encodings_agree(expected, actual, distances, where(results, "n_quantizers"))
    )
    whole = encode(model, audio)
    np.testing.assert_array_equal(actual.codes, whole.codes[:, :n_quantizers])


@on_variants("44khz")
def test_unpadded_audio_encodes_and_reconstructs_as_in_transformers(
    checkpoint, results_of, tell_near_ties
):
    """transformers' `encode` and `forward` pad nothing; descript's `forward` does."""
    import codax

    results = results_of("transformers")
    model = codax.FlaxDacModel.from_pretrained(checkpoint["transformers"])
    audio = results.unpadded_audio(UNEVEN)
    expected = results.oracle.forward(audio)
    actual = model(audio)
    assert actual.keys() == expected.keys()
    agreement = tell_near_ties(
        assert_codes_agree(
            expected.audio_codes,
            actual.audio_codes,
            results.oracle.distances(audio, expected.audio_codes),
            where(results, "unpadded"),
        )
    )
    if not agreement.excused:
        assert_audio_agrees(expected.audio_values, actual.audio_values, where(results, "unpadded"))
        assert_losses_agree(expected.loss, actual.loss, where(results, "unpadded"))
    np.testing.assert_array_equal(encode(model, audio).codes, actual.audio_codes)


def where(results, name):
    return f"{results.variant.name} against {results.oracle.name}, {name}"
