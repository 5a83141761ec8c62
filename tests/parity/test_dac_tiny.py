"""Small models against both references: every input, every option, in seconds."""

import numpy as np
import pytest

from tests.reference import inputs, peers
from tests.reference.variants import TINY, TINY_NARROW

from .agreement import assert_close, assert_codes_agree, compare_codes
from .conftest import encode
from .stages import (
    PROJECTED_TOLERANCE,
    QUANTIZED_TOLERANCE,
    assert_audio_agrees,
    assert_encodings_agree,
    assert_losses_agree,
)

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

QUANTIZERS_LEFT = 2  # fewer than either variant has
# Every new shape costs a compilation of seconds, whatever the model's size.
UNEVEN_LENGTHS = ("hop_plus_1", "three_hops_plus_7")
LONG = ("two_seconds", "ten_seconds")


def name_of(value):
    return getattr(value, "name", value)


def on(*variants):
    return pytest.mark.parametrize("variant", variants, ids=name_of, indirect=True, scope="module")


on_both_variants = on(TINY, TINY_NARROW)
on_all_inputs = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] if name in LONG else []) for name in inputs.ALL],
)
on_quick_inputs = pytest.mark.parametrize("name", inputs.QUICK)


def where(results, name):
    return f"{results.variant.name} against {results.oracle.name}, {name}"


@pytest.fixture(scope="module")
def transformers_pair(checkpoint, results_of):
    """codax's model and transformers' results of the same folder."""
    import codax

    return codax.FlaxDacModel.from_pretrained(checkpoint["transformers"]), results_of(
        "transformers"
    )


@on(TINY)
@on_all_inputs
def test_encoding_agrees_stage_by_stage(model, results, name, tell_near_ties):
    tell_near_ties(assert_encoding_agrees(model, results, name))


@on(TINY_NARROW)
@on_quick_inputs
def test_narrow_encoding_agrees_stage_by_stage(model, results, name, tell_near_ties):
    tell_near_ties(assert_encoding_agrees(model, results, name))


def assert_encoding_agrees(model, results, name):
    return assert_encodings_agree(
        results.encoding(name),
        encode(model, results.audio(name)),
        results.distances(name),
        where(results, name),
    )


@on(TINY)
@on_all_inputs
def test_decoding_the_same_codes_gives_the_same_audio(model, results, name):
    assert_decoding_agrees(model, results, name)


@on(TINY_NARROW)
@on_quick_inputs
def test_narrow_decoding_of_the_same_codes_gives_the_same_audio(model, results, name):
    assert_decoding_agrees(model, results, name)


def assert_decoding_agrees(model, results, name):
    decoded = model.decode(audio_codes=results.encoding(name).codes).audio_values
    assert_audio_agrees(results.decoded(name), decoded, where(results, name))


@on_both_variants
def test_decoding_the_same_quantized_representation_gives_the_same_audio(model, results):
    quantized = results.encoding("speech").quantized
    decoded = model.decode(quantized_representation=quantized).audio_values
    expected = results.oracle.decode_quantized(quantized)
    assert_audio_agrees(expected, decoded, where(results, "speech"))


@on_both_variants
def test_fewer_quantizers_agree(model, results, tell_near_ties):
    audio = results.audio("three_hops_plus_7")
    expected = results.oracle.encode(audio, QUANTIZERS_LEFT)
    actual = encode(model, audio, n_quantizers=QUANTIZERS_LEFT)
    distances = results.oracle.distances(audio, expected.codes)
    tell_near_ties(
        assert_encodings_agree(expected, actual, distances, where(results, "n_quantizers"))
    )
    decoded = model.decode(audio_codes=expected.codes).audio_values
    assert_audio_agrees(
        results.oracle.decode_codes(expected.codes), decoded, where(results, "n_quantizers")
    )


@on(TINY)
def test_batch_agrees_item_by_item(model, results, tell_near_ties):
    audio = np.concatenate([results.audio(name) for name in ("speech", "silence", "music_left")])
    expected = results.oracle.encode(audio)
    tell_near_ties(
        assert_encodings_agree(
            expected,
            encode(model, audio),
            results.oracle.distances(audio, expected.codes),
            where(results, "batch"),
        )
    )
    decoded = model.decode(audio_codes=expected.codes).audio_values
    assert_audio_agrees(results.oracle.decode_codes(expected.codes), decoded, "batch")


@on(TINY)
@pytest.mark.parametrize("name", UNEVEN_LENGTHS)
def test_unpadded_audio_encodes_as_in_transformers(transformers_pair, name, tell_near_ties):
    model, results = transformers_pair
    audio = results.unpadded_audio(name)
    expected = results.oracle.encode(audio)
    tell_near_ties(
        assert_encodings_agree(
            expected,
            encode(model, audio),
            results.oracle.distances(audio, expected.codes),
            where(results, f"unpadded {name}"),
        )
    )


@on(TINY)
@pytest.mark.parametrize("n_quantizers", [None, QUANTIZERS_LEFT])
@pytest.mark.parametrize("name", ["three_hops_plus_7", "speech"])
def test_call_equals_transformers_forward_field_by_field(transformers_pair, name, n_quantizers):
    model, results = transformers_pair
    audio = results.unpadded_audio(name)
    expected = results.oracle.forward(audio, n_quantizers)
    actual = model(audio) if n_quantizers is None else model(audio, n_quantizers=n_quantizers)
    label = where(results, name)
    assert actual.keys() == expected.keys()
    distances = results.oracle.distances(audio, expected.audio_codes)
    assert_codes_agree(expected.audio_codes, actual.audio_codes, distances, label)
    np.testing.assert_array_equal(actual.audio_codes, expected.audio_codes)
    assert_losses_agree(expected.loss, actual.loss, label)
    assert_audio_agrees(expected.audio_values, actual.audio_values, label)
    assert_close(
        expected.quantized_representation,
        actual.quantized_representation,
        QUANTIZED_TOLERANCE,
        label,
    )
    largest = np.abs(expected.projected_latents).max()
    assert_close(
        expected.projected_latents,
        actual.projected_latents,
        PROJECTED_TOLERANCE * max(1.0, largest),
        label,
    )


@on_both_variants
def test_shapes_and_types_are_those_of_the_public_interface(transformers_pair):
    model, results = transformers_pair
    audio = results.audio("speech")
    variant = results.variant
    num_frames = variant.num_frames(audio.shape[-1])
    output = model.encode(audio)
    assert output.audio_codes.shape == (1, variant.n_codebooks, num_frames)
    assert output.audio_codes.dtype == np.int32
    assert output.quantized_representation.shape == (1, variant.hidden_size, num_frames)
    projected_width = variant.n_codebooks * variant.codebook_dim
    assert output.projected_latents.shape == (1, projected_width, num_frames)
    assert output.quantized_representation.dtype == np.float32
    assert output.projected_latents.dtype == np.float32
    decoded = model.decode(audio_codes=output.audio_codes).audio_values
    assert decoded.dtype == np.float32
    assert decoded.ndim == 2


@on(TINY)
def test_auto_model_loads_the_folder_that_transformers_wrote(checkpoint, transformers_pair):
    from transformers import FlaxAutoModel

    import codax

    expected, results = transformers_pair
    model = FlaxAutoModel.from_pretrained(checkpoint["transformers"])
    assert type(model) is codax.FlaxDacModel
    codes = model.encode(results.audio("speech")).audio_codes
    np.testing.assert_array_equal(codes, expected.encode(results.audio("speech")).audio_codes)


@on_both_variants
def test_converted_folder_is_read_by_transformers_too(converted, results_of):
    from tests.reference.oracles import TransformersOracle

    results = results_of("transformers")
    codes = TransformersOracle(converted).encode(results.audio("speech")).codes
    np.testing.assert_array_equal(codes, results.encoding("speech").codes)


@on(TINY)
def test_file_in_newer_key_spelling_converts_to_the_same_weights(variant, converted, tmp_path):
    import codax
    from tests.reference import checkpoints

    weights = checkpoints.make_weights(variant)
    path = checkpoints.write_descript_file(weights, tmp_path / "new.pth", parametrizations=True)
    codax.conversion.convert_checkpoint(path, tmp_path / "new")
    assert_same_weights(tmp_path / "new", converted)


@on(TINY)
def test_folder_with_weight_norm_not_folded_gives_the_same_codes(
    variant, transformers_pair, tmp_path, tell_near_ties
):
    import codax
    from tests.reference import checkpoints

    checkpoints.write_transformers_folder(
        checkpoints.make_weights(variant), tmp_path, fold_weight_norm=False
    )
    model = codax.FlaxDacModel.from_pretrained(tmp_path)
    _, results = transformers_pair
    tell_near_ties(
        assert_encodings_agree(
            results.encoding("speech"),
            encode(model, results.audio("speech")),
            results.distances("speech"),
            where(results, "unfolded"),
        )
    )


@on_both_variants
def test_saved_folder_is_read_by_transformers_with_the_same_weights(
    checkpoint, transformers_pair, tmp_path
):
    model, _ = transformers_pair
    model.save_pretrained(tmp_path)
    assert_same_weights(tmp_path, checkpoint["transformers"], rtol=0)

    from tests.reference import checkpoints

    checkpoints.load_transformers(tmp_path)


def assert_same_weights(folder, expected_folder, rtol=1e-6):
    from safetensors.numpy import load_file

    actual, expected = (load_file(f / "model.safetensors") for f in (folder, expected_folder))
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, rtol=rtol, atol=0, err_msg=key)


@pytest.fixture(scope="module")
def write_doubled(variant, tmp_path_factory):
    """Writes a folder whose codebooks hold every direction twice: codeword 2n + 1 is twice 2n."""
    import torch

    from tests.reference import checkpoints

    def write(change):
        weights = checkpoints.make_weights(variant)
        for name, value in weights.others.items():
            if name.endswith("codebook.weight"):
                value[1::2] = 2 * value[::2] * torch.as_tensor(change)
        folder = tmp_path_factory.mktemp("doubled")
        return checkpoints.write_transformers_folder(weights, folder)

    return write


@on(TINY)
def test_first_of_equally_near_codewords_wins(write_doubled, transformers_pair):
    """Doubling changes no bit of a normalised vector, so that every choice is a tie."""
    import codax
    from tests.reference.oracles import TransformersOracle

    folder = write_doubled(change=1.0)
    audio = transformers_pair[1].audio("white_noise")
    expected = TransformersOracle(folder).encode(audio).codes
    actual = encode(codax.FlaxDacModel.from_pretrained(folder), audio).codes
    assert not (expected % 2).any()
    np.testing.assert_array_equal(actual, expected)


@on(TINY)
def test_choices_between_codewords_that_rounding_cannot_tell_apart_are_excused(
    write_doubled, transformers_pair
):
    """Every choice is between two codewords whose directions differ by half a float32 step."""
    import codax
    from tests.reference.oracles import TransformersOracle

    change = 1 + np.float32(2.0**-23) * (np.arange(TINY.codebook_dim, dtype=np.float32) % 2)
    oracle = TransformersOracle(write_doubled(change))
    model = codax.FlaxDacModel.from_pretrained(oracle.folder)
    audio = transformers_pair[1].audio("white_noise")
    expected = oracle.encode(audio).codes
    actual = encode(model, audio).codes
    agreement = compare_codes(expected, actual, oracle.distances(audio, expected), "half a step")
    assert not agreement.faults
    print(f"{len(agreement.excused)} of {agreement.num_codes} excused")
