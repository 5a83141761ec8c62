"""Nothing is for CPUs alone: what models run lowers for GPUs and TPUs, where neither is there."""

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from codax import DacConfig, EncodecConfig, FlaxDacModel, FlaxEncodecModel
from codax.modeling import pretrained_base
from codax.modeling.encodec_chunks import CarriedPart
from tests.tiny_encodec import MONO, STEREO, STRIDE, noise, tiny_encodec

from .tiny import tiny_model

PLATFORMS = ["cpu", "cuda", "tpu"]
SAMPLES = 2009
CHUNK_S = 0.05  # 40 frames of all the tiny models, and little more than a segment
MODES = ["exact", "overlap_average", "mean"]


def lowered(function, arguments, platform):
    """StableHLO of a jitted function, of arguments that may be abstract."""
    return jax.export.export(function, platforms=[platform])(*arguments).mlir_module()


def assert_of_plain_operations(stablehlo):
    """No calls of a platform's own library, or back into Python; "Sharding" is an annotation."""
    targets = set(re.findall(r"custom_call @(\w+)", stablehlo))
    assert targets <= {"Sharding"}


# --- what chunks run -----------------------------------------------------------------------------


def dac():
    return tiny_model(), noise(2, 1, SAMPLES)


def mono():
    return tiny_encodec(MONO), noise(2, 1, SAMPLES)


def stereo():
    return tiny_encodec(STEREO), noise(2, 2, 3 * STRIDE + 20)


def code_in_chunks(model, audio):
    """There and back in all modes, from the middle as well."""
    encoded = model.encode(audio, chunk_length_s=CHUNK_S)
    codes = np.asarray(encoded.audio_codes)
    scales = getattr(encoded, "audio_scales", None)
    how = {"audio_scales": scales} if isinstance(model, FlaxEncodecModel) else {}
    for mode in MODES:
        chunks = model.config.decode_chunks(CHUNK_S, mode=mode)
        for span in (None, (900, 1000)) if mode == "exact" else (None,):
            for _ in model.decode_pieces(codes, chunks, span=span, **how):
                pass


@pytest.fixture(scope="module", params=[dac, mono, stereo], ids=["dac", "mono", "stereo"])
def programs(request):
    """{(function, method): (function, arguments)}, of all that coding in chunks runs."""
    seen = {}

    def recording(original):
        def run(module, method, *arguments):
            seen[original.__name__, method] = (original, (module, method, *arguments))
            return original(module, method, *arguments)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_run", "_run_carrying"):
            patch.setattr(pretrained_base, name, recording(getattr(pretrained_base, name)))
        code_in_chunks(*request.param())
    methods = {
        dac: [("_run", "decode"), ("_run", "encode")],
        mono: [
            ("_run", "decode_segments"),
            ("_run_carrying", "decode_no_audio"),
            ("_run_carrying", "decode_segments"),
            ("_run_carrying", "encode_codes"),
        ],
        stereo: [("_run", "decode_segments"), ("_run", "encode_segments")],
    }
    assert sorted(seen) == methods[request.param]
    return seen


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_chunks_run_lowers_for_every_platform(programs, platform):
    for function, arguments in programs.values():
        assert_of_plain_operations(lowered(function, arguments, platform))


# --- a caller's jit ------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("make", [dac, mono, stereo])
def test_encoding_in_chunks_inside_a_callers_jit_lowers_for_every_platform(make, platform):
    model, audio = make()

    @jax.jit
    def encode(params, audio):
        return model.encode(audio, params=params, chunk_length_s=CHUNK_S).audio_codes

    stablehlo = lowered(encode, (model.params, audio), platform)
    assert make is stereo or "stablehlo.while" in stablehlo
    assert_of_plain_operations(stablehlo)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [dac, mono])
def test_decoding_in_chunks_inside_a_callers_jit_lowers_for_every_platform(make, mode, platform):
    model, _ = make()
    shape = (2, 2, 200) if make is dac else (1, 2, 2, 200)

    @jax.jit
    def decode(params, codes):
        settings = {"chunk_length_s": CHUNK_S, "chunk_mode": mode}
        return model.decode(audio_codes=codes, params=params, **settings).audio_values

    stablehlo = lowered(decode, (model.params, np.zeros(shape, np.int32)), platform)
    assert "stablehlo.while" in stablehlo
    assert_of_plain_operations(stablehlo)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_decoding_segments_inside_a_callers_jit_lowers_for_every_platform(platform):
    model, _ = stereo()

    @jax.jit
    def decode(params, codes, scales):
        return model.decode(codes, scales, params=params, chunk_length_s=CHUNK_S).audio_values

    codes, scales = np.zeros((4, 2, 2, 40), np.int32), np.ones((4, 2, 1), np.float32)
    assert_of_plain_operations(lowered(decode, (model.params, codes, scales), platform))


# --- released models -----------------------------------------------------------------------------


def abstract_params(model):
    rules = model.weight_rules(model.config)
    return unflatten_dict(
        {rule.flax_path: jax.ShapeDtypeStruct(rule.flax_shape, jnp.float32) for rule in rules}
    )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_ten_seconds_of_dac_at_44_khz_lower(platform):
    """Weights and audio are shapes alone."""
    config = DacConfig.preset("dac_44khz")
    model = FlaxDacModel(config, _do_init=False)
    frames = config.encode_chunk_frames(10.0)
    audio = jax.ShapeDtypeStruct((1, 1, frames * config.hop_length), jnp.float32)
    codes = jax.ShapeDtypeStruct((1, config.n_codebooks, frames), jnp.int32)
    for method, arrays in (("encode", (audio,)), ("decode", (None, codes))):
        variables = {"params": abstract_params(model)}
        arguments = (model.module, method, variables, arrays, ())
        assert_of_plain_operations(lowered(pretrained_base._run, arguments, platform))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_chunk_of_encodec_at_24_khz_lowers_with_the_state_it_hands_on(platform):
    config = EncodecConfig.preset("encodec_24khz")
    model = FlaxEncodecModel(config, _do_init=False)
    audio = jax.ShapeDtypeStruct((1, 1, 10 * config.sampling_rate), jnp.float32)
    codes = jax.ShapeDtypeStruct((1, 8, 750), jnp.int32)
    states = jax.ShapeDtypeStruct((2, 2, 1, 512), jnp.float32)
    length = jax.ShapeDtypeStruct((1,), jnp.int32)
    start = jax.ShapeDtypeStruct((), jnp.int32)

    @jax.jit
    def encode(params, states, start, audio, length):
        part = CarriedPart(model, is_encoder=True)
        return part.encode(states, start, start + 700, audio, length, 8, params)

    @jax.jit
    def decode(params, states, start, codes, num_frames):
        part = CarriedPart(model, is_encoder=False)
        return part.decode(states, start, start + 700, codes, num_frames, params)

    params = abstract_params(model)
    for function, array in ((encode, audio), (decode, codes)):
        stablehlo = lowered(function, (params, states, start, array, length), platform)
        assert_of_plain_operations(stablehlo)
