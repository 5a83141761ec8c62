"""EnCodec against both references: small models on every input, full-size models on a few.

`-m full` takes everything else. Segments are cut as in the encodec package ("original") when
compared with that, and as in transformers ("transformers") when compared with that.
"""

import functools
import itertools
import shutil

import numpy as np
import pytest

from tests.reference import encodec_inputs, peers
from tests.reference.encodec_variants import (
    ENCODEC_VARIANTS,
    TINY_CAUSAL,
    TINY_IDENTITY,
    TINY_SEGMENTED,
    TINY_VARIANTS,
    TINY_ZEROS,
)

from .conftest import missing
from .encodec_stages import (
    assert_audio_agrees,
    assert_encodings_agree,
    assert_layers_agree,
    missing_in_last_frame,
    stacked,
)

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

LONGEST_IN_BATCH_S = 0.25  # longer than all inputs that are named for a segment's boundary
FULL_SIZE_BATCH = ("three_hops_plus_7", "one_sample", "hop_minus_1")
LONGER_BATCH = ("six_hops_plus_1", "half_second", "one_second")
SEGMENTED_BATCH = ("hop_minus_1", "stride_plus_1", "two_strides_losing_overlap", "chunk")
LAYER_FRAMES = 9.3  # of the audio whose layers are compared


@pytest.fixture(scope="module", params=["encodec", "transformers"])
def reference(request):
    """Which reference to compare with; skipped where it is not installed."""
    if reason := missing(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="module")
def checkpoint(variant, tmp_path_factory):
    """One set of random weights in both references' layouts; deleted with the module's variant."""
    from tests.reference import encodec_checkpoints

    folder = tmp_path_factory.mktemp(variant.name)
    weights = encodec_checkpoints.make_weights(variant)
    yield {
        "encodec": encodec_checkpoints.write_original_file(weights, folder / "weights.th"),
        "transformers": encodec_checkpoints.write_transformers_folder(weights, folder / "folder"),
    }
    shutil.rmtree(folder)


class ReferenceResults:
    """What a reference makes of the named inputs, each computed once, in batches of one."""

    def __init__(self, oracle):
        self.oracle = oracle
        self.variant = oracle.variant
        self.encoding = functools.cache(self._encoding)
        self.decoded = functools.cache(self._decoded)

    def audio(self, name):
        """float32 [1, C, T]."""
        return encodec_inputs.make_input(name, self.variant)[None]

    def _encoding(self, name, bandwidth):
        return self.oracle.encode(self.audio(name), bandwidth)

    def _decoded(self, name, bandwidth):
        """float32 [1, C, T'], T' at least the length of the input."""
        segments = self.encoding(name, bandwidth)
        if self.oracle.segmentation == "original" and self.variant.loses_overlap(self.length(name)):
            return self.oracle.decode_cut_off(segments)
        return self.oracle.decode(segments)

    def distances(self, name, bandwidth):
        """Along the reference's codes for this input, computed when first needed."""
        return self.oracle.distances(self.audio(name), self.encoding(name, bandwidth))

    def length(self, name):
        """Samples of the input."""
        return self.audio(name).shape[-1]

    def coded_length(self, name):
        """Samples that the segments hold: those of the input, or what transformers makes of it."""
        return self.oracle.coded_length(self.length(name))

    def where(self, name, bandwidth):
        return f"{self.variant.name} against {self.oracle.name}, {name} at {bandwidth:g} kbps"


@pytest.fixture(scope="module")
def results_of(checkpoint, variant):
    """`results_of(reference)`: its ReferenceResults, shared by all tests of the variant."""
    import torch

    from tests.reference.encodec_oracles import OriginalOracle, TransformersOracle

    torch.set_num_threads(1 if variant.is_small else 2)
    classes = {"encodec": OriginalOracle, "transformers": TransformersOracle}

    @functools.cache
    def load(reference):
        if reason := missing(reference):
            pytest.skip(reason)
        return ReferenceResults(classes[reference](checkpoint[reference], variant))

    return load


@pytest.fixture(scope="module")
def results(results_of, reference):
    """ReferenceResults of the parametrized reference."""
    return results_of(reference)


@pytest.fixture(scope="module")
def model_of(checkpoint, variant):
    """`model_of(segmentation)`: codax's model of the same weights."""
    import codax

    @functools.cache
    def load(segmentation):
        return codax.FlaxEncodecModel.from_pretrained(
            checkpoint["transformers"], segmentation=segmentation
        )

    # Models that code clips as a whole are the same either way: compiled once.
    return lambda segmentation: load(
        segmentation if segmentation in variant.segmentations else "original"
    )


@pytest.fixture(scope="module")
def model(model_of, results):
    """codax's model that cuts segments as the parametrized reference does."""
    return model_of(results.oracle.segmentation)


def encode(model, results, clips, bandwidth):
    """codax's output for clips [C, T], with the padding mask where they differ in length."""
    if len(clips) == 1 and results.oracle.segmentation not in results.variant.segmentations:
        return model.encode(clips[0][None], bandwidth=bandwidth)
    if results.oracle.segmentation == "transformers":
        input_values, padding_mask = results.oracle.extract(clips)
        return model.encode(input_values, padding_mask, bandwidth)
    longest = max(clip.shape[-1] for clip in clips)
    input_values = np.stack(
        [np.pad(clip, ((0, 0), (0, longest - clip.shape[-1]))) for clip in clips]
    )
    padding_mask = np.arange(longest) < np.array([[clip.shape[-1]] for clip in clips])
    return model.encode(input_values, padding_mask if len(clips) > 1 else None, bandwidth)


def scales_of(output):
    return None if output.audio_scales is None else np.asarray(output.audio_scales)


def name_of(value):
    return getattr(value, "name", value)


def on(*variants):
    return pytest.mark.parametrize("variant", variants, ids=name_of, indirect=True, scope="module")


def on_inputs(quick, variants):
    """All inputs of the variants, with the marker `full` unless `quick(variant, name)`."""
    cases = [
        pytest.param(
            variant,
            name,
            marks=[] if quick(variant, name) else [pytest.mark.full],
            id=f"{variant.name}-{name}",
        )
        for variant in variants
        for name in encodec_inputs.names(variant)
    ]
    return pytest.mark.parametrize(("variant", "name"), cases, indirect=["variant"], scope="module")


def of_small(*variants):
    """Quick are the inputs of standard length: one compilation for all of them."""

    def quick(variant, name):
        num_samples = encodec_inputs.num_samples(name, variant)
        return variant in variants and num_samples == encodec_inputs.standard_length(variant)

    return quick


def on_variants(variants, quick=()):
    """With the marker `full` those that are not `quick`."""
    return pytest.mark.parametrize(
        "variant",
        [
            pytest.param(variant, marks=[] if variant in quick else [pytest.mark.full])
            for variant in variants
        ],
        ids=name_of,
        indirect=True,
        scope="module",
    )


RELEASED = tuple(ENCODEC_VARIANTS.values())
ALL_VARIANTS = (*TINY_VARIANTS.values(), *RELEASED)
LIKE_RELEASED = (TINY_CAUSAL, TINY_SEGMENTED, TINY_IDENTITY)
WITH_LOWER_BANDWIDTHS = tuple(one for one in ALL_VARIANTS if len(one.target_bandwidths) > 1)

# Millions: 24 and 48 kHz as in the encodec package, 32 kHz as on the Hub; codebooks not counted.
PARAMETERS = {"encodec_24khz": 14.851810, "encodec_48khz": 14.856294, "encodec_32khz": 56.884674}


@on(*RELEASED)
def test_checkpoint_has_the_published_number_of_parameters(variant, checkpoint):
    from safetensors.numpy import load_file

    state = load_file(checkpoint["transformers"] / "model.safetensors")
    count = sum(value.size for name, value in state.items() if "codebook" not in name)
    assert count / 1e6 == pytest.approx(PARAMETERS[variant.name], abs=1e-6)


@pytest.mark.full
@on(*RELEASED)
def test_checkpoint_makes_a_useful_test(variant, results_of):
    from tests.reference.usefulness import assert_useful_encodec

    assert_useful_encodec(results_of("transformers").oracle, variant)


@on_inputs(of_small(TINY_CAUSAL, TINY_ZEROS), ALL_VARIANTS)
def test_codes_agree(variant, results, model, name, tell_near_ties):
    tell_near_ties(assert_codes_agree(results, model, name, variant.target_bandwidths[-1]))


@on_inputs(of_small(TINY_CAUSAL), WITH_LOWER_BANDWIDTHS)
def test_codes_agree_at_lower_bandwidths(variant, results, model, name, tell_near_ties):
    for bandwidth in variant.target_bandwidths[:-1]:
        tell_near_ties(assert_codes_agree(results, model, name, bandwidth))


def assert_codes_agree(results, model, name, bandwidth):
    expected = results.encoding(name, bandwidth)
    output = encode(model, results, [results.audio(name)[0]], bandwidth)
    codes = np.asarray(output.audio_codes)
    assert codes.shape == stacked([expected])[0].shape
    assert np.asarray(output.last_frame_pad_length).tolist() == missing_in_last_frame(expected)
    assert np.asarray(output.num_samples).tolist() == [results.coded_length(name)]
    return assert_encodings_agree(
        expected,
        codes,
        scales_of(output),
        results.distances(name, bandwidth),
        results.where(name, bandwidth),
    )


@on_inputs(of_small(TINY_CAUSAL, TINY_ZEROS), ALL_VARIANTS)
def test_decoding_the_same_codes_gives_the_same_audio(variant, results, model, name):
    assert_decoding_agrees(results, model, name, variant.target_bandwidths[-1])


@on_variants(WITH_LOWER_BANDWIDTHS)
def test_decoding_agrees_at_lower_bandwidths(variant, results, model):
    for bandwidth in variant.target_bandwidths[:-1]:
        assert_decoding_agrees(results, model, "speech", bandwidth)


def assert_decoding_agrees(results, model, name, bandwidth):
    """All samples that the segments make, where torch's own argument says how many those are."""
    segments = results.encoding(name, bandwidth)
    codes, scales = stacked([segments])
    expected = results.decoded(name, bandwidth)
    if results.oracle.name == "transformers":
        length = {"last_frame_pad_length": missing_in_last_frame(segments)}
    else:
        length = {"num_samples": results.length(name)}
        expected = expected[..., : results.length(name)]
    decoded = model.decode(codes, scales, **length).audio_values
    assert_audio_agrees(expected, decoded, results.where(name, bandwidth))


def batch_of_small(variant):
    """All inputs but the longest: one compilation for all of them."""
    longest = max(
        encodec_inputs.standard_length(variant), LONGEST_IN_BATCH_S * variant.sampling_rate
    )
    return tuple(
        name
        for name in encodec_inputs.names(variant)
        if encodec_inputs.num_samples(name, variant) <= longest
    )


def on_batches(quick_released):
    """All variants against both references. Quick: small ones, and one of `quick_released`."""
    cases = []
    for variant, reference in itertools.product(ALL_VARIANTS, ("encodec", "transformers")):
        if variant.is_small:
            batches = {"small": batch_of_small(variant)}
        else:
            longer = LONGER_BATCH if variant.chunk_length is None else SEGMENTED_BATCH
            batches = {"short": FULL_SIZE_BATCH, "longer": longer}
        for batch, names in batches.items():
            is_quick = variant in LIKE_RELEASED or (
                variant in quick_released and reference == "encodec" and batch == "short"
            )
            marks = [] if is_quick else [pytest.mark.full]
            label = f"{variant.name}-{reference}-{batch}"
            cases.append(pytest.param(variant, reference, names, marks=marks, id=label))
    return pytest.mark.parametrize(
        ("variant", "reference", "names"),
        cases,
        indirect=["variant", "reference"],
        scope="module",
    )


@on_batches(quick_released=RELEASED)
def test_clips_of_a_batch_have_the_codes_of_each_alone(
    variant, results, model, names, tell_near_ties
):
    bandwidth = variant.target_bandwidths[-1]
    output = encode(model, results, [results.audio(name)[0] for name in names], bandwidth)
    codes, scales = np.asarray(output.audio_codes), scales_of(output)
    coded_lengths = [results.coded_length(name) for name in names]
    assert np.asarray(output.num_samples).tolist() == coded_lengths
    for item, name in enumerate(names):
        tell_near_ties(
            assert_encodings_agree(
                results.encoding(name, bandwidth),
                codes[:, item : item + 1],
                None if scales is None else scales[:, item : item + 1],
                results.distances(name, bandwidth),
                f"{results.where(name, bandwidth)} in a batch",
            )
        )


@on_batches(quick_released=[ENCODEC_VARIANTS["encodec_24khz"], ENCODEC_VARIANTS["encodec_48khz"]])
def test_clips_of_a_batch_have_the_audio_of_each_alone(variant, results, model, names):
    bandwidth = variant.target_bandwidths[-1]
    decoded, num_samples = decode_batch(results, model, names, bandwidth)
    assert decoded.shape == (len(names), variant.audio_channels, max(num_samples))
    for item, (name, length) in enumerate(zip(names, num_samples, strict=True)):
        assert_audio_agrees(
            results.decoded(name, bandwidth)[..., :length],
            decoded[item : item + 1, :, :length],
            f"{results.where(name, bandwidth)} in a batch",
        )


@on(*LIKE_RELEASED)
def test_audio_after_the_end_of_a_clip_is_zero(variant, results, model):
    names = batch_of_small(variant)
    decoded = decode_batch(results, model, names, variant.target_bandwidths[-1])
    for name, audio, length in zip(names, *decoded, strict=True):
        assert not audio[:, length:].any(), f"{name}, {length} samples"


def decode_batch(results, model, names, bandwidth):
    """Audio [B, C, T] that codax makes of the reference's codes, and the length of each clip."""
    codes, scales = stacked([results.encoding(name, bandwidth) for name in names])
    num_samples = np.array([results.coded_length(name) for name in names], np.int32)
    return np.asarray(
        model.decode(codes, scales, num_samples=num_samples).audio_values
    ), num_samples


@on_variants(ALL_VARIANTS, quick=[TINY_CAUSAL, TINY_SEGMENTED])
def test_layers_agree_one_by_one(variant, results_of, model_of):
    import torch

    from tests.reference.encodec_oracles import normalized

    torch_model = results_of("transformers").oracle.model
    audio = encodec_inputs.make_music(variant, int(LAYER_FRAMES * variant.hop_length))[None]
    codes, layers = codax_layers(model_of("original"), audio)
    audio = torch.from_numpy(audio)
    with torch.no_grad():
        encoded = torch_layers(
            torch_model.encoder, normalized(audio) if variant.normalize else audio
        )
        # Its codes are compared elsewhere: a near-tie is no fault of the decoder's.
        codes = torch.from_numpy(codes[0]).long().transpose(0, 1)
        decoded = torch_layers(torch_model.decoder, torch_model.quantizer.decode(codes))
    assert_layers_agree(encoded, layers["encoder"], f"{variant.name}: encoder")
    assert_layers_agree(decoded, layers["decoder"], f"{variant.name}: decoder")


def codax_layers(model, audio):
    """Codes [S, B, K, F], and outputs [B, T, C] by network and layer number."""
    import jax

    def apply(params, audio):
        return model.module.apply(
            {"params": params}, audio, capture_intermediates=True, mutable=["intermediates"]
        )

    (encoded, _), state = jax.jit(apply)(model.params, audio)
    layers = {
        network: {
            int(number): np.asarray(outputs["__call__"][0])
            for number, outputs in state["intermediates"][network]["layers"].items()
            if number.isdigit()
        }
        for network in ("encoder", "decoder")
    }
    return np.array(encoded.codes), layers


def torch_layers(network, hidden_states):
    """Outputs [B, T, C] by layer number; activations have no parameters and no output here."""
    outputs = {}
    for number, layer in enumerate(network.layers):
        hidden_states = layer(hidden_states)
        if list(layer.parameters()):
            outputs[number] = hidden_states.numpy().swapaxes(1, 2)
    return outputs


on_one_reference = pytest.mark.parametrize(
    "reference", ["transformers"], indirect=True, scope="module"
)


@on(TINY_CAUSAL, TINY_SEGMENTED)
def test_codes_of_a_clip_are_bit_for_bit_the_same_beside_other_clips(variant, results, model):
    """Every other clip of the batch replaced: shorter, and with other content."""
    bandwidth = variant.target_bandwidths[-1]
    clips = [results.audio(name)[0] for name in batch_of_small(variant)]
    item = max(range(len(clips)), key=lambda index: clips[index].shape[-1])
    others = [clip[..., : 1 + clip.shape[-1] // 2] * -0.3 for clip in clips]
    first = encode(model, results, clips, bandwidth)
    second = encode(model, results, [*others[:item], clips[item], *others[item + 1 :]], bandwidth)
    for one, other in (
        (first.audio_codes, second.audio_codes),
        (scales_of(first), scales_of(second)),
    ):
        if one is not None:
            np.testing.assert_array_equal(one[:, item], other[:, item])


@on_one_reference
@on_variants([TINY_CAUSAL, TINY_SEGMENTED], quick=[TINY_CAUSAL])
def test_calling_the_model_gives_what_transformers_gives(variant, results, model, tell_near_ties):
    import torch

    input_values, padding_mask = results.oracle.extract([results.audio("music")[0]])
    bandwidth = variant.target_bandwidths[0]
    with torch.no_grad():
        expected = results.oracle.model(
            torch.from_numpy(input_values), torch.from_numpy(padding_mask), bandwidth
        )
    actual = model(input_values, padding_mask, bandwidth)
    assert np.array_equal(actual.audio_codes, expected.audio_codes)
    audio = expected.audio_values.numpy() * padding_mask[:, None]  # ours is zero after a clip's end
    assert_audio_agrees(audio, actual.audio_values, results.where("music", bandwidth))


@on_one_reference
@on(TINY_CAUSAL)
def test_lowest_bandwidth_is_the_default_as_in_transformers(variant, results, model):
    output = model.encode(results.audio("speech"))
    assert output.audio_codes.shape[2] == 1
    expected = results.encoding("speech", variant.target_bandwidths[0])
    np.testing.assert_array_equal(output.audio_codes[0], expected[0].codes)


@on(TINY_CAUSAL, TINY_SEGMENTED)
def test_folder_of_older_torch_holds_the_same_weights(variant, checkpoint, model_of, tmp_path):
    import codax
    from tests.reference import encodec_checkpoints

    weights = encodec_checkpoints.make_weights(variant)
    encodec_checkpoints.write_transformers_folder(weights, tmp_path, parametrizations=False)
    model = codax.FlaxEncodecModel.from_pretrained(tmp_path)
    assert_same_tree(model.params, model_of("original").params)


@on(TINY_SEGMENTED)
def test_auto_model_loads_the_folder_that_transformers_wrote(checkpoint, model_of):
    from transformers import FlaxAutoModel

    import codax

    model = FlaxAutoModel.from_pretrained(checkpoint["transformers"])
    assert type(model) is codax.FlaxEncodecModel
    assert model.config.segmentation == "original"
    assert_same_tree(model.params, model_of("original").params)


def assert_same_tree(actual, expected):
    import jax

    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@on(TINY_CAUSAL)
def test_first_of_equally_near_codewords_wins(variant, results_of, tmp_path):
    """Every codeword twice: the even ones come first."""
    import codax
    from tests.reference import encodec_checkpoints
    from tests.reference.encodec_oracles import TransformersOracle

    weights = encodec_checkpoints.make_weights(variant)
    for name, value in weights.state.items():
        if name.endswith("codebook.embed"):
            value[1::2] = value[::2]
    folder = encodec_checkpoints.write_transformers_folder(weights, tmp_path)
    oracle = TransformersOracle(folder, variant)
    audio = results_of("transformers").audio("white_noise")
    bandwidth = variant.target_bandwidths[-1]
    expected = oracle.encode(audio, bandwidth)[0].codes
    assert not (expected % 2).any()
    model = codax.FlaxEncodecModel.from_pretrained(folder)
    np.testing.assert_array_equal(model.encode(audio, bandwidth=bandwidth).audio_codes[0], expected)
