"""The language model of `.ecdc` files: the original's probabilities, and files coded with them.

Which of two frameworks' probabilities is right cannot be told from their last bits. Both are
compared with the original in float64, and ours may be about as far from it as the original is.
"""

import copy
import dataclasses
import os
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from codax.codec import ecdc_probabilities as codec
from codax.codec.ecdc_probabilities import ecdc_probabilities
from codax.configuration.configuration_encodec_lm import ENCODEC_LMS, EncodecLmArchitecture
from codax.conversion.encodec_lm import LM_SAFETENSORS, load_encodec_lm, save_encodec_lm
from codax.errors import CheckpointError, CodaxError, FormatError
from codax.formats import EncodedAudio, ecdc_bytes, read_ecdc, write_ecdc
from codax.formats.arithmetic_coding import quantized_cdf
from codax.modeling.modeling_flax_encodec_lm import (
    EncodecLm,
    FlaxEncodecLmModule,
    position_embedding,
)
from codax.modeling.torch_layout import params_from_torch, params_to_torch
from codax.modeling.weight_table import encodec_lm_weight_rules
from tests.reference import peers

if reason := peers.missing_encodec():
    pytest.skip(reason, allow_module_level=True)

import torch

from tests.reference import encodec_lm as original

TINY = EncodecLmArchitecture(
    num_codebooks=3,
    past_context=5,
    codebook_size=12,
    dim=16,
    num_layers=2,
    num_heads=4,
    feed_forward_dim=32,
)
OF_FILES = dataclasses.replace(TINY, codebook_size=1024, past_context=7)
FRAMES = 20  # far beyond the context of either layer
CODEBOOKS_IN_FULL_SIZE = 2  # in use: more of them cost time, and differ in nothing


def random_codes(num_codebooks, num_frames, entries=1024, seed=0):
    """-> int32 [K, F]."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, entries, (num_codebooks, num_frames), np.int32)


def ours(lm, architecture, model="encodec_24khz"):
    """The original's weights in our layout."""
    rules = encodec_lm_weight_rules(architecture)
    params = params_from_torch(rules, original.state_arrays(lm), "the original's")
    return EncodecLm(model, architecture, params)


def at_once(lm, codes):
    """-> float32 [K, F, N]."""
    return np.asarray(_at_once(FlaxEncodecLmModule(lm.architecture), lm.params, codes[None])[0])


@partial(jax.jit, static_argnames="module")
def _at_once(module, params, codes):
    return module.apply({"params": params}, codes)


def step_by_step(lm, codes):
    """As files are coded -> float32 [K, F, N]."""
    step = ecdc_probabilities(lm)(lm.model, len(codes))
    previous = [None, *codes.T[:-1]]
    return np.stack([step(frame) for frame in previous], axis=1)


def errors(probabilities, exact):
    """Of each frame, the root mean square of relative errors: float [K, F, N] -> float64 [F]."""
    relative = probabilities.astype(np.float64) / exact - 1
    return np.sqrt(np.mean(relative**2, axis=(0, 2)))


def assert_as_exact_as(theirs, probabilities, exact):
    largest = errors(theirs, exact).max()
    assert 1e-8 < largest < 1e-5
    assert errors(probabilities, exact).max() < 3 * largest


@pytest.fixture(scope="module", autouse=True)
def _one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny_lm():
    """The original's model."""
    return original.random_lm(TINY)


@pytest.fixture(scope="module", params=list(ENCODEC_LMS))
def full_size(request, tmp_path_factory):
    """A model of the original in full size, and the file it was saved in."""
    lm = original.random_lm(ENCODEC_LMS[request.param])
    path = tmp_path_factory.mktemp(request.param) / "language_model.th"
    torch.save(lm.state_dict(), path)
    return lm, path


# --- probabilities -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_codebooks", [1, 2, 3])
@pytest.mark.parametrize("form", [at_once, step_by_step])
def test_probabilities_are_the_originals_in_every_frame_and_for_any_codebooks_in_use(
    tiny_lm, form, num_codebooks
):
    codes = random_codes(num_codebooks, FRAMES, TINY.codebook_size)
    theirs = original.probabilities_step_by_step(tiny_lm, codes)
    exact = original.probabilities_step_by_step(copy.deepcopy(tiny_lm).double(), codes)
    assert_as_exact_as(theirs, form(ours(tiny_lm, TINY), codes), exact)


@pytest.mark.parametrize("past_context", [1, 2, FRAMES - 1, FRAMES, FRAMES + 1])
def test_probabilities_are_the_originals_for_any_context(past_context):
    architecture = dataclasses.replace(TINY, past_context=past_context)
    lm = original.random_lm(architecture)
    codes = random_codes(2, FRAMES, TINY.codebook_size)
    theirs = original.probabilities_step_by_step(lm, codes)
    exact = original.probabilities_step_by_step(copy.deepcopy(lm).double(), codes)
    assert_as_exact_as(theirs, step_by_step(ours(lm, architecture), codes), exact)


@pytest.mark.parametrize(
    "full_size",
    ["encodec_24khz", pytest.param("encodec_48khz", marks=pytest.mark.full)],
    indirect=True,
)
def test_probabilities_of_full_size_are_the_originals_beyond_the_context_too(full_size):
    lm, path = full_size
    loaded = load_encodec_lm(path)
    codes = random_codes(CODEBOOKS_IN_FULL_SIZE, loaded.architecture.past_context + 10)
    theirs = original.probabilities_at_once(lm, codes)
    exact = original.probabilities_at_once(copy.deepcopy(lm).double(), codes)
    assert_as_exact_as(theirs, step_by_step(loaded, codes), exact)
    assert_as_exact_as(theirs, at_once(loaded, codes), exact)


class AskedForError(Exception):
    """For a language model, before its weights are downloaded."""


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", list(ENCODEC_LMS))
def test_released_architectures_are_those_that_the_original_asks_for(monkeypatch, name):
    def ask(*sizes, **options):
        raise AskedForError(*sizes, options)

    peers.import_encodec()
    from encodec import model

    monkeypatch.setattr(model, "LMModel", ask)
    make_codec = getattr(model.EncodecModel, name.replace("encodec", "encodec_model"))
    with torch.random.fork_rng(), pytest.raises(AskedForError) as asked:
        make_codec(pretrained=False).get_lm_model()
    ours = ENCODEC_LMS[name]
    options = {
        "num_layers": ours.num_layers,
        "dim": ours.dim,
        "past_context": ours.past_context,
    }
    assert asked.value.args == (ours.num_codebooks, ours.codebook_size, options)


def test_a_frame_depends_on_as_many_frames_before_it_as_the_context_and_the_last_one():
    """A layer's input is the codes of the frame before, and it is compared with those before it."""
    architecture = dataclasses.replace(TINY, num_layers=1)
    lm = ours(original.random_lm(architecture), architecture)
    codes = random_codes(3, FRAMES, TINY.codebook_size)
    changed = codes.copy()
    changed[1, 4] = (changed[1, 4] + 1) % TINY.codebook_size
    for form in (at_once, step_by_step):
        is_same = (form(lm, codes) == form(lm, changed)).all(axis=(0, 2))
        last = 5 + TINY.past_context
        assert (is_same == [not 5 <= frame <= last for frame in range(FRAMES)]).all()


def test_every_frame_runs_the_same_program(tiny_lm):
    lm = ours(tiny_lm, dataclasses.replace(TINY, past_context=6))
    before = codec._step._cache_size()
    for seed in range(2):
        step_by_step(lm, random_codes(2, FRAMES, TINY.codebook_size, seed))
    assert codec._step._cache_size() == before + 1


def test_positions_late_in_a_stream_are_as_exact_as_their_angles():
    period = 10_000 ** (np.arange(4) / 3)
    angle = np.arange(99_990, 100_010)[:, None] / period
    expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(position_embedding(99_990, 20, 8), expected, atol=100_000 * 2**-24)


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [TINY, *ENCODEC_LMS.values()])
def test_rules_are_the_weights_of_the_original_and_of_the_module(architecture):
    rules = encodec_lm_weight_rules(architecture)
    state = original.random_lm(architecture).state_dict()
    assert {rule.torch_key: rule.torch_shape for rule in rules} == {
        key: tuple(value.shape) for key, value in state.items()
    }
    codes = jax.ShapeDtypeStruct((1, architecture.num_codebooks, 1), np.int32)
    params = jax.eval_shape(FlaxEncodecLmModule(architecture).init, jax.random.key(0), codes)
    assert {rule.flax_path: rule.flax_shape for rule in rules} == {
        path: leaf.shape for path, leaf in flatten_dict(params["params"]).items()
    }


def test_weights_come_back_bit_for_bit_through_either_kind_of_file(full_size, tmp_path):
    lm, path = full_size
    expected = original.state_arrays(lm)
    loaded = load_encodec_lm(path)
    assert ENCODEC_LMS[loaded.model] == loaded.architecture
    assert save_encodec_lm(loaded, tmp_path) == tmp_path / LM_SAFETENSORS
    for read in (loaded, load_encodec_lm(tmp_path), load_encodec_lm(tmp_path / LM_SAFETENSORS)):
        assert read.model == loaded.model
        state = params_to_torch(encodec_lm_weight_rules(read.architecture), read.params)
        assert state.keys() == expected.keys()
        for key, weight in expected.items():
            np.testing.assert_array_equal(state[key], weight)


def save(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("num_codebooks", [0, 3, 31])
def test_a_file_for_another_number_of_codebooks_is_refused(tmp_path, num_codebooks):
    state = {f"emb.{level}.weight": torch.zeros(1) for level in range(num_codebooks)}
    path = save(tmp_path / "lm.th", state)
    with pytest.raises(CheckpointError) as refusal:
        load_encodec_lm(path)
    assert str(refusal.value) == (
        f"{path}: not a language model of EnCodec: it has embeddings for {num_codebooks} "
        "codebooks, allowed: 32 (encodec_24khz), 16 (encodec_48khz)"
    )


def test_all_weights_that_do_not_fit_are_named(tmp_path):
    state = {f"emb.{level}.weight": torch.zeros(1) for level in range(16)}
    path = save(tmp_path / "lm.th", {**state, "surplus": torch.zeros(1)})
    with pytest.raises(CheckpointError) as refusal:
        load_encodec_lm(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: 111 weights do not fit the model: ")
    assert "shape (1,) instead of (1025, 200): emb.15.weight" in message
    assert "missing: transformer.layers.4.self_attn.in_proj_weight" in message
    assert message.endswith("unexpected: surplus")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"emb.0.weight": "text"}])
def test_a_torch_file_without_weights_is_refused(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"lm\.th: "):
        load_encodec_lm(save(tmp_path / "lm.th", content))


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    (tmp_path / LM_SAFETENSORS).write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_encodec_lm(tmp_path)


def test_a_missing_file_is_an_os_error(tmp_path):
    for path in (tmp_path, tmp_path / "lm.th", tmp_path / "lm.safetensors"):
        with pytest.raises(OSError, match=str(tmp_path)):
            load_encodec_lm(path)


@pytest.mark.parametrize(
    "fields",
    [{"dim": 18, "num_heads": 4}, {"dim": 15, "num_heads": 3}, {"dim": 2, "num_heads": 1}],
)
def test_a_width_that_heads_or_positions_do_not_divide_is_refused(fields):
    with pytest.raises(ValueError, match=f"dim={fields['dim']} must be even"):
        dataclasses.replace(TINY, **fields)


def test_a_context_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="past_context=0"):
        dataclasses.replace(TINY, past_context=0)


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["encodec_24khz", "encodec_48khz"])
def clip(request):
    """40 frames in one segment, or 149 frames and 1 in two."""
    if request.param == "encodec_24khz":
        return EncodedAudio(
            random_codes(2, 40)[None],
            sampling_rate=24000,
            num_samples=40 * 320,
            model=request.param,
        )
    return EncodedAudio(
        random_codes(2, 150)[None],
        sampling_rate=48000,
        num_samples=47521,
        channels_per_stream=2,
        segment_frames=(149, 1),
        scales=np.array([[0.25, 0.5]], np.float32),
        model=request.param,
    )


@pytest.fixture(scope="module")
def lm_of_files(clip):
    """The original's model, and its weights as ours."""
    lm = original.random_lm(OF_FILES)
    return lm, ours(lm, OF_FILES, clip.model)


def test_where_nothing_is_rounded_files_are_the_originals_byte_for_byte(clip):
    """So each side reads the other's: states, positions and segments are the same."""
    lm = original.coarse_lm(OF_FILES)
    probabilities = ecdc_probabilities(ours(lm, OF_FILES, clip.model))
    content = ecdc_bytes(clip, probabilities)
    assert content == original.ecdc_bytes(clip, lm)
    np.testing.assert_array_equal(read_ecdc(content, probabilities).codes, clip.codes)


def test_coarse_probabilities_depend_on_the_past():
    """Else the test above would say nothing."""
    lm = original.coarse_lm(OF_FILES)
    probabilities = original.probabilities_step_by_step(lm, random_codes(2, 40))
    assert set(np.unique(probabilities)) == {0, np.float32(1 / 128)}
    for of_one_codebook in probabilities.argmax(axis=-1):
        assert len(np.unique(of_one_codebook)) > original.DECIDING


def test_a_file_reads_back_with_the_language_model_it_was_written_with(clip, lm_of_files):
    _, lm = lm_of_files
    content = ecdc_bytes(clip, ecdc_probabilities(lm))
    read = read_ecdc(content, ecdc_probabilities(lm))
    np.testing.assert_array_equal(read.codes, clip.codes)
    assert read.num_samples == clip.num_samples


def test_tables_differ_nearly_always_from_the_originals_though_by_little(full_size):
    """All 100 tables of 100 here: counts are 2^-24, and so is the rounding of float32.

    The original's own two forms differ as often. So files of the original's take torch to read.
    """
    lm, path = full_size
    codes = random_codes(CODEBOOKS_IN_FULL_SIZE, 50)
    theirs = quantized_cdf(original.probabilities_step_by_step(lm, codes))
    for others in (
        step_by_step(load_encodec_lm(path), codes),
        original.probabilities_at_once(lm, codes),
    ):
        difference = np.abs(quantized_cdf(others) - theirs)
        assert difference.any(axis=-1).mean() > 0.9
        assert difference.max() < 2**8  # of 2^24


def test_a_file_of_the_originals_is_refused_where_rounding_matters(clip, lm_of_files):
    theirs, lm = lm_of_files
    content = original.ecdc_bytes(clip, theirs)
    assert abs(len(content) - len(ecdc_bytes(clip, ecdc_probabilities(lm)))) <= 2
    with pytest.raises(FormatError, match="did not repeat bit for bit"):
        read_ecdc(content, ecdc_probabilities(lm))


def test_a_file_from_where_a_last_bit_came_out_otherwise_is_refused(clip, lm_of_files):
    _, lm = lm_of_files
    params = dict(lm.params)
    scale = params["input_norm"]["scale"]
    params["input_norm"] = params["input_norm"] | {"scale": scale * np.float32(1 + 2**-23)}
    content = ecdc_bytes(clip, ecdc_probabilities(dataclasses.replace(lm, params=params)))
    with pytest.raises(FormatError, match="did not repeat bit for bit"):
        read_ecdc(content, ecdc_probabilities(lm))


def test_a_file_with_a_bit_flipped_is_refused(clip, lm_of_files):
    _, lm = lm_of_files
    probabilities = ecdc_probabilities(lm)
    content = ecdc_bytes(clip, probabilities)
    header = content.index(b"}") + 1 + (0 if clip.scales is None else 4)
    for position in np.linspace(header, len(content) - 1, 12).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        with pytest.raises(FormatError):
            read_ecdc(bytes(damaged), probabilities)


def test_streams_do_not_know_of_each_other(tiny_lm):
    start = ecdc_probabilities(ours(tiny_lm, TINY))
    first, second = start("encodec_24khz", 2), start("encodec_24khz", 2)
    codes = random_codes(2, 3, TINY.codebook_size)
    expected = [first(None), first(codes[:, 0]), first(codes[:, 1])]
    np.testing.assert_array_equal(second(None), expected[0])
    np.testing.assert_array_equal(start("encodec_24khz", 2)(None), expected[0])
    np.testing.assert_array_equal(second(codes[:, 0]), expected[1])
    np.testing.assert_array_equal(second(codes[:, 1]), expected[2])


READ_ON_ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from codax.codec.ecdc_probabilities import ecdc_probabilities
from codax.conversion.encodec_lm import load_encodec_lm
from codax.formats import read_ecdc
lm_folder, file, codes_file = sys.argv[1:]
np.save(codes_file, read_ecdc(file, ecdc_probabilities(load_encodec_lm(lm_folder))).codes)
"""


@pytest.mark.parametrize("full_size", ["encodec_24khz"], indirect=True)
@pytest.mark.parametrize("clip", ["encodec_24khz"], indirect=True)
def test_a_file_is_read_by_another_process_that_has_one_core(full_size, clip, tmp_path):
    """Another day, so to speak. On one core programs may add up in another order."""
    _, path = full_size
    lm = load_encodec_lm(path)
    save_encodec_lm(lm, tmp_path)
    write_ecdc(clip, tmp_path / "clip.ecdc", ecdc_probabilities(lm))
    arguments = (tmp_path, tmp_path / "clip.ecdc", tmp_path / "codes.npy")
    command = [sys.executable, "-c", READ_ON_ONE_CORE, *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | {"USE_TORCH": "0"})
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), clip.codes)


def test_a_file_of_another_model_is_refused(tiny_lm):
    with pytest.raises(FormatError) as refusal:
        ecdc_probabilities(ours(tiny_lm, TINY))("encodec_48khz", 2)
    assert str(refusal.value) == (
        "m is encodec_48khz, but the language model given is for encodec_24khz"
    )


def test_more_codebooks_than_there_are_are_refused(tiny_lm):
    with pytest.raises(FormatError, match="nc is 4, but the language model given knows 3"):
        ecdc_probabilities(ours(tiny_lm, TINY))("encodec_24khz", 4)


def test_where_jax_may_not_use_the_cpu_the_reason_is_given(tiny_lm, monkeypatch):
    def no_cpu(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", no_cpu)
    with pytest.raises(CodaxError, match="JAX_PLATFORMS must include cpu"):
        ecdc_probabilities(ours(tiny_lm, TINY))
