"""`.ecdc` files: encodec's bytes in both directions, and safe to open."""

import dataclasses
import importlib
import io
import json
import math
import struct
import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codax.errors import FormatError
from codax.formats import (
    EncodedAudio,
    ecdc_bytes,
    file_content,
    read_ecdc,
    read_ecdc_header,
    write_ecdc,
)
from codax.formats.ecdc_file import ECDC_MODELS
from tests.messages import assert_file_refused
from tests.reference import peers

from .predictors import CODEBOOK_SIZE, predictor

PREDICTOR = predictor()


def clip_24khz(num_samples=961, num_codebooks=2, seed=0):
    shape = (1, num_codebooks, -(-num_samples // 320))
    return EncodedAudio(
        codes=np.random.default_rng(seed).integers(0, CODEBOOK_SIZE, shape),
        sampling_rate=24000,
        num_samples=num_samples,
        model="encodec_24khz",
    )


def clip_48khz(num_samples=47521, num_codebooks=2, seed=0):
    """Segments begin every 47520 samples and are up to 48000 long."""
    starts = range(0, num_samples, 47520)
    lengths = [min(48000, num_samples - start) for start in starts]
    segment_frames = tuple(-(-length // 320) for length in lengths)
    generator = np.random.default_rng(seed)
    return EncodedAudio(
        codes=generator.integers(0, CODEBOOK_SIZE, (1, num_codebooks, sum(segment_frames))),
        sampling_rate=48000,
        num_samples=num_samples,
        channels_per_stream=2,
        segment_frames=segment_frames,
        scales=generator.uniform(1e-8, 0.5, (1, len(segment_frames))),
        model="encodec_48khz",
    )


def with_header(payload, **fields):
    """A file with the header of one frame of two codebooks at 24 kHz, but for `fields`."""
    fields = {"m": "encodec_24khz", "al": 320, "nc": 2, "lm": False} | fields
    return with_json(json.dumps(fields).encode(), payload)


def with_json(text, payload):
    return b"ECDC\0" + len(text).to_bytes(4, "big") + text + payload


assert_refused = partial(assert_file_refused, read_ecdc)


# --- bytes ---------------------------------------------------------------------------------------


def test_a_file_is_a_header_and_codes_of_10_bits():
    codes = np.array([1, 2, 1023]).reshape(1, 3, 1)
    clip = EncodedAudio(codes, sampling_rate=24000, num_samples=1, model="encodec_24khz")
    header = b'ECDC\0\0\0\0\x35{"m": "encodec_24khz", "al": 1, "nc": 3, "lm": false}'
    file = header + bytes.fromhex("0108f03f")
    assert ecdc_bytes(clip) == file
    assert read_ecdc(file) == clip


def test_codes_go_frame_by_frame():
    codes = np.array([[1, 1023], [2, 0]])[None]
    clip = EncodedAudio(codes, sampling_rate=24000, num_samples=321, model="encodec_24khz")
    packed = 1 | 2 << 10 | 1023 << 20 | 0 << 30
    assert ecdc_bytes(clip).endswith(b"}" + packed.to_bytes(5, "little"))


def test_each_segment_has_its_scale_and_ends_with_a_byte():
    clip = clip_48khz(48000, num_codebooks=1)
    assert clip.segment_frames == (150, 2)
    codes = np.zeros_like(clip.codes)
    codes[0, 0, -3:] = 3, 1, 2
    clip = dataclasses.replace(clip, codes=codes, scales=[[0.5, 0.25]])
    first = struct.pack(">f", 0.5) + bytes(186) + b"\x0c\x00"  # 1500 bits
    assert ecdc_bytes(clip).endswith(b"}" + first + struct.pack(">f", 0.25) + b"\x01\x08\x00")
    assert read_ecdc(ecdc_bytes(clip)) == clip


def test_codes_of_equal_probability_are_the_bytes_that_encodec_writes():
    codes = np.array([0, 1, 2, 1023, 512]).reshape(1, 5, 1)
    clip = EncodedAudio(codes, sampling_rate=24000, num_samples=1, model="encodec_24khz")

    def uniform(model, num_codebooks):
        return lambda _: np.full((num_codebooks, CODEBOOK_SIZE), 1 / 1024, np.float32)

    file = ecdc_bytes(clip, uniform)
    assert file.endswith(b'"lm": true}' + bytes.fromhex("000008d07915500001"))
    assert read_ecdc(file, uniform) == clip


@pytest.mark.parametrize(
    ("num_samples", "frames"),
    [
        (1, (1,)),
        (320, (1,)),
        (47520, (149,)),
        (47521, (149, 1)),
        (48000, (150, 2)),
        (48001, (150, 2)),
        (95040, (150, 149)),
        (95041, (150, 149, 1)),
        (95140, (150, 149, 1)),
        (95520, (150, 150, 2)),
        (47520 + 6720, (150, 21)),
    ],
)
def test_segments_have_the_frames_of_their_own_lengths(num_samples, frames):
    assert tuple(ECDC_MODELS["encodec_48khz"].segment_frames(num_samples)) == frames
    clip = clip_48khz(num_samples)
    assert clip.segment_frames == frames
    assert read_ecdc(ecdc_bytes(clip)) == clip


def test_frames_are_counted_in_whole_numbers():
    """By encodec 0.1.1's own formula its decoder looks for 169 frames here, and fails."""
    assert math.ceil(53760 / 24000 * 75) == 169
    assert tuple(ECDC_MODELS["encodec_24khz"].segment_frames(53760)) == (168,)


@st.composite
def clips(draw, most_samples=100_000):
    make = draw(st.sampled_from([clip_24khz, clip_48khz]))
    most_codebooks = 32 if make is clip_24khz else 16
    return make(
        draw(st.integers(1, most_samples)),
        draw(st.integers(1, most_codebooks)),
        draw(st.integers(0, 99)),
    )


@settings(deadline=None, max_examples=60)
@given(clips())
def test_any_clip_reads_back_as_it_was_written(clip):
    assert read_ecdc(ecdc_bytes(clip)) == clip


@settings(deadline=None, max_examples=20)
@given(clips(most_samples=5000), st.sampled_from([0.0, 2.0, 50.0]))
def test_any_clip_reads_back_with_the_language_model_it_was_written_with(clip, sharpness):
    probabilities = predictor(sharpness=sharpness)
    assert read_ecdc(ecdc_bytes(clip, probabilities), probabilities) == clip


def test_segments_of_a_language_model_follow_each_other():
    clip = clip_48khz(95041, num_codebooks=1)
    assert len(clip.segment_frames) == 3
    assert read_ecdc(ecdc_bytes(clip, PREDICTOR), PREDICTOR) == clip


def test_a_file_without_a_language_model_does_not_ask_for_one():
    clip = clip_24khz()
    assert read_ecdc(ecdc_bytes(clip), probabilities=None) == clip
    assert read_ecdc(ecdc_bytes(clip), lambda *_: pytest.fail("asked")) == clip


@pytest.mark.parametrize("probabilities", [None, PREDICTOR], ids=["plain", "language model"])
def test_the_header_is_read_without_the_language_model(probabilities):
    header = read_ecdc_header(ecdc_bytes(clip_48khz(48001, 3), probabilities))
    assert header.name == "encodec_48khz"
    assert header.model is ECDC_MODELS["encodec_48khz"]
    assert (header.num_samples, header.num_codebooks) == (48001, 3)
    assert header.segment_frames == (150, 2)
    assert header.with_lm == (probabilities is not None)


def test_a_header_that_claims_more_than_the_file_holds_is_refused():
    with pytest.raises(FormatError, match="al is 321"):
        read_ecdc_header(with_header(bytes(3), al=321))


def test_a_path_its_bytes_and_an_open_file_read_the_same(tmp_path):
    clip = clip_48khz()
    path = tmp_path / "song.ecdc"
    write_ecdc(clip, path)
    with path.open("rb") as file:
        read = [
            read_ecdc(path),
            read_ecdc(str(path)),
            read_ecdc(path.read_bytes()),
            read_ecdc(file),
        ]
    assert all(one == clip for one in read)
    write_ecdc(clip, path, PREDICTOR)
    assert read_ecdc(path, PREDICTOR) == clip


# --- encodec's own reader and writer -------------------------------------------------------------


@pytest.fixture(scope="module")
def compress():
    """The module of the `encodec` package that reads and writes files."""
    if reason := peers.missing_encodec():
        pytest.skip(reason)
    peers.import_encodec()
    return importlib.import_module("encodec.compress")


def model_of_encodec(name):
    """What `compress` asks of its model, but for the network: `frames` in place of `wav`."""
    facts = ECDC_MODELS[name]

    class Model(SimpleNamespace):
        def to(self, device):
            return self

        def encode(self, wav):
            return self.frames

        def decode(self, frames):
            import torch

            self.frames = frames
            return torch.zeros(1, facts.channels, 1)

        def get_lm_model(self):
            return language_model_of_encodec(name)

    return Model(
        name=name,
        bits_per_codebook=10,
        sample_rate=facts.sampling_rate,
        frame_rate=facts.frame_rate,
        normalize=facts.normalised,
        segment_length=facts.segment_length,
        segment_stride=facts.segment_stride,
    )


def language_model_of_encodec(name):
    """`PREDICTOR` as an `LMModel`: (1 + codes [1, K, 1], states, offset) -> [1, N, K, 1], ..."""
    import torch

    def forward(indices, states, offset):
        if states is None:
            assert not indices.any()
            states, previous = PREDICTOR(name, indices.shape[1]), None
        else:
            previous = indices[0, :, 0].numpy().astype(np.int32) - 1
        return torch.from_numpy(states(previous).T[None, :, :, None].copy()), states, offset + 1

    return forward


@pytest.fixture(params=[clip_24khz(3201, 4), clip_48khz(48000, 3)], ids=["24khz", "48khz"])
def clip(request):
    return request.param


@pytest.mark.parametrize("use_lm", [False, True])
def test_the_file_is_encodecs_byte_for_byte(compress, clip, use_lm):
    import torch

    model = model_of_encodec(clip.model)
    segments = clip.segment_frames or (clip.num_frames,)
    pieces = torch.from_numpy(clip.codes).long().split(segments, dim=-1)
    scales = [None] if clip.scales is None else torch.from_numpy(clip.scales[0]).view(-1, 1, 1)
    model.frames = list(zip(pieces, scales, strict=True))
    file = io.BytesIO()
    compress.compress_to_file(model, torch.zeros(clip.channels, clip.num_samples), file, use_lm)
    assert ecdc_bytes(clip, PREDICTOR if use_lm else None) == file.getvalue()


@pytest.mark.parametrize("use_lm", [False, True])
def test_encodec_reads_our_file_to_the_end(compress, clip, use_lm, monkeypatch):
    model = model_of_encodec(clip.model)
    monkeypatch.setitem(compress.MODELS, clip.model, lambda: model)
    file = io.BytesIO(ecdc_bytes(clip, PREDICTOR if use_lm else None))
    _, sampling_rate = compress.decompress_from_file(file)
    assert sampling_rate == clip.sampling_rate
    assert not file.read()
    codes = np.concatenate([codes.numpy() for codes, _ in model.frames], axis=-1)
    np.testing.assert_array_equal(codes, clip.codes)
    if clip.scales is not None:
        scales = [scale.item() for _, scale in model.frames]
        np.testing.assert_array_equal(np.float32(scales), clip.scales[0])


# --- clips that the format cannot hold -----------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (clip_24khz, {"model": None}, "model is None, allowed in an .ecdc file: encodec_24khz, en"),
        (clip_24khz, {"model": "dac_44khz"}, "model is 'dac_44khz'"),
        (clip_24khz, {"model": "encodec_48khz"}, "sampling_rate is 24000, .*: 48000"),
        (clip_24khz, {"sampling_rate": 44100}, "sampling_rate is 44100, .*: 24000"),
        (clip_24khz, {"num_samples": 960}, "num_frames is 4, .* with 960 samples: 3"),
        (clip_24khz, {"num_samples": 1281}, "num_frames is 4, .* with 1281 samples: 5"),
        (clip_24khz, {"input_db": -20.0}, "input_db is -20.0, .*: None"),
        (clip_24khz, {"channels_per_stream": 2}, "channels is 2, .*: 1"),
        (clip_24khz, {"codes": np.zeros((2, 2, 4), int)}, "channels is 2, .*: 1"),
        (
            clip_24khz,
            {"codes": np.zeros((1, 33, 4), int)},
            "codes use 33 codebooks, allowed: .* 32",
        ),
        (clip_24khz, {"codes": np.full((1, 2, 4), 1024)}, "codes reach 1024, allowed: 0 to 1023"),
        (clip_24khz, {"chunk_frames": 2}, "chunk_frames is 2, .*: 4"),
        (clip_24khz, {"padding": False}, "padding is False, .*: True"),
        (clip_24khz, {"segment_frames": (4,)}, r"segment_frames is 1 .*\(4,\), .*: None"),
        (clip_24khz, {"scales": [[1.0]]}, "scales are wrong .*, allowed: none"),
        (clip_48khz, {"scales": None}, "scales are wrong .*, allowed: one for each segment"),
        (clip_48khz, {"segment_frames": (150,), "scales": [[1]]}, "segment_frames is 1 entries"),
        (clip_48khz, {"segment_frames": (148, 2)}, r"segment_frames is .*\(148, 2\), .*\(149, 1\)"),
        (clip_48khz, {"codes": np.zeros((1, 17, 150), int)}, "codes use 17 codebooks"),
        (clip_48khz, {"channels_per_stream": 1}, "channels is 1, .*: 2"),
    ],
)
def test_a_clip_that_the_format_cannot_hold_is_refused(tmp_path, make, changes, message):
    with pytest.raises(FormatError, match=message):
        write_ecdc(dataclasses.replace(make(), **changes), tmp_path / "song.ecdc")
    assert not any(tmp_path.iterdir())


def test_two_mono_streams_are_not_one_stereo_stream():
    clip = clip_48khz()
    two = {"codes": np.repeat(clip.codes, 2, axis=0), "scales": np.repeat(clip.scales, 2, axis=0)}
    with pytest.raises(FormatError, match=r"channels_per_stream is 1, .*: 2"):
        ecdc_bytes(dataclasses.replace(clip, channels_per_stream=1, **two))


def test_a_revision_is_not_written():
    clip = clip_24khz()
    assert ecdc_bytes(dataclasses.replace(clip, revision="main")) == ecdc_bytes(clip)


def test_another_suffix_than_ecdc_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"song.dac: the suffix is '.dac', allowed: .ecdc"):
        write_ecdc(clip_24khz(), tmp_path / "song.dac")
    assert not any(tmp_path.iterdir())


# --- damaged and hostile files -------------------------------------------------------------------

PAYLOAD = bytes(3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"m": "encodec_32khz"}, "m is 'encodec_32khz', allowed: encodec_24khz, encodec_48khz"),
        ({"m": None}, "m is None"),
        ({"m": ["encodec_24khz"]}, "m is a list"),
        ({"m": "x" * 1000}, r"m is 'x+\.\.\., allowed"),
        ({"al": 0}, "al is 0, allowed: a positive integer"),
        ({"al": -320}, "al is -320"),
        ({"al": True}, "al is True"),
        ({"al": 320.0}, "al is 320.0"),
        ({"al": "320"}, "al is '320'"),
        ({"al": None}, "al is None"),
        ({"al": 321}, "al is 321, allowed: up to 320 samples for 3 bytes of 2 codebooks"),
        ({"al": 1 << 62}, "al is 4611686018427387904, allowed: up to 320"),
        ({"al": 10**4000}, r"al is 1000*\.\.\., allowed: up to 320"),
        ({"al": 1 << 62, "m": "encodec_48khz"}, "al is 4611686018427387904, allowed: up to 320"),
        ({"al": 1 << 62, "lm": True}, "al is 4611686018427387904, allowed: up to 21"),
        ({"nc": 0}, "nc is 0, allowed: 1 to 32"),
        ({"nc": -1}, "nc is -1"),
        ({"nc": 33}, "nc is 33, allowed: 1 to 32"),
        ({"nc": 17, "m": "encodec_48khz"}, "nc is 17, allowed: 1 to 16"),
        ({"nc": True}, "nc is True"),
        ({"nc": 2.0}, "nc is 2.0"),
        ({"nc": float("nan")}, "nc is nan"),
        ({"lm": 0}, "lm is 0, allowed: true or false"),
        ({"lm": None}, "lm is None"),
        ({"lm": "true"}, "lm is 'true'"),
        ({"mood": "sad"}, "the header has the unknown key 'mood', allowed: al, lm, m, nc"),
    ],
)
def test_a_wrong_field_is_refused_by_name_and_value(fields, message):
    assert read_ecdc(with_header(PAYLOAD)).num_samples == 320
    assert_refused(with_header(PAYLOAD, **fields), message)


@pytest.mark.parametrize("key", ["m", "al", "nc", "lm"])
def test_a_missing_field_is_refused_by_name(key):
    fields = {"m": "encodec_24khz", "al": 320, "nc": 2, "lm": False}
    del fields[key]
    message = f"the header lacks '{key}', needed: al, lm, m, nc"
    assert_refused(with_json(json.dumps(fields).encode(), PAYLOAD), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the header is no JSON"),
        (b"{", "the header is no JSON"),
        (b"[]", "the header is a list, allowed: a JSON object"),
        (b"7", "the header is 7"),
        (b'{"m": "encodec_24khz", "al": 320, "nc": 2, "lm": false, "al": 1}', "repeats a key"),
        (b'{"m": "\xff"}', "the header is no JSON"),
        (b"[" * 4000, "the header is no JSON"),
        (b'{"m":' * 800, "the header is no JSON"),
        (b"9" * 4096, "the header is [0-9]|the header is no JSON"),
    ],
)
def test_a_header_that_is_no_json_object_is_refused(text, message):
    assert_refused(with_json(text, PAYLOAD), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes, allowed: 9 and more"),
        (b"ECDC\0\0\0\0", "has 8 bytes"),
        (b"ECDX\0\0\0\0\2{}", "begins with b'ECDX', allowed: b'ECDC'"),
        (b"ECDC\1\0\0\0\2{}", "is version 1 of the format, allowed: 0"),
        (b"ECDC\0\0\0\0\3{}", "claims a header of 3 bytes, allowed: up to 4096, within the file"),
        (b"ECDC\0\xff\xff\xff\xff{}", "claims a header of 4294967295 bytes"),
        (b"ECDC\0\0\0\x10\1" + bytes(5000), "claims a header of 4097 bytes"),
        (b"RIFF\x00\x00\x00\x00WAVE", "begins with b'RIFF'"),
    ],
)
def test_a_wrong_beginning_is_refused(content, message):
    assert_refused(content, message)


def test_claims_of_any_size_cost_nothing():
    huge = {"al": 1 << 60, "nc": 16}
    header = with_header(bytes(5), **huge)
    tracemalloc.start()
    try:
        for model in ECDC_MODELS:
            for lm in (False, True):
                assert_refused(with_header(bytes(5), **huge, m=model, lm=lm), "al is 1152921504606")
        assert_refused(header[:5] + b"\xff\xff\xff\xff" + header[9:], "claims a header")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("probabilities", [None, PREDICTOR])
@pytest.mark.parametrize("make", [clip_24khz, clip_48khz])
def test_a_file_cut_anywhere_is_refused(make, probabilities):
    file = ecdc_bytes(make(), probabilities)
    for length in range(len(file)):
        assert_refused(file[:length], probabilities=probabilities)


@pytest.mark.parametrize("make", [clip_24khz, clip_48khz])
def test_bytes_after_the_end_are_refused(make):
    assert_refused(ecdc_bytes(make()) + b"\0", "1 bytes follow the file's last code, allowed: none")
    file = ecdc_bytes(make(), PREDICTOR) + b"\0"
    assert_refused(file, "1 bytes follow .*did not repeat bit for bit", probabilities=PREDICTOR)


def test_bits_behind_the_last_code_are_refused():
    assert_refused(with_header(b"\0\0\x10"), "the last byte of the codes is 0x10, allowed: 4 bits")


@pytest.mark.parametrize("scale", ["nan", "inf", "-0.5"])
def test_a_scale_that_is_no_level_is_refused(scale):
    payload = struct.pack(">f", float(scale)) + b"\0\0"
    file = with_header(payload, m="encodec_48khz", nc=1)
    assert_refused(file, "scales hold negative or non-finite values")


def test_a_missing_language_model_is_named_as_the_reason():
    file = ecdc_bytes(clip_24khz(), PREDICTOR)
    assert_refused(file, "was written with a language model, and cannot be read without the same")


@pytest.mark.parametrize("make", [clip_24khz, clip_48khz])
def test_a_language_model_that_does_not_repeat_is_found_out(make):
    file = ecdc_bytes(make(), PREDICTOR)
    for seed, error in ((0, 1e-5), (1, 0.0), (2, 1e-3)):
        other = predictor(seed, largest_error=error)
        assert_refused(file, "the language model's probabilities did not", probabilities=other)


def test_a_language_model_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"probabilities have shape \(2, 3\), allowed: \(2, 1024\)"
    ):
        ecdc_bytes(clip_24khz(), lambda *_: lambda _: np.zeros((2, 3), np.float32))


def is_refused_or_valid(content, probabilities=None):
    """The only two outcomes; anything else that `read_ecdc` raises fails the test."""
    try:
        clip = read_ecdc(content, probabilities)
    except FormatError:
        return
    header = json.loads(content[9 : content.index(b"}") + 1])
    with_lm = probabilities if header["lm"] else None
    rewritten = ecdc_bytes(clip, with_lm)
    assert rewritten.partition(b"}")[2] == content.partition(b"}")[2]


FILES = [
    (ecdc_bytes(make(), probabilities), probabilities)
    for make in (clip_24khz, clip_48khz)
    for probabilities in (None, PREDICTOR)
]


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(FILES), st.data())
def test_a_file_with_changed_bytes_is_refused_or_is_what_its_codes_are_written_as(file, data):
    content, probabilities = file
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1) | st.integers(0, 63))
        changed[place] = data.draw(st.integers(0, 255))
    is_refused_or_valid(bytes(changed), probabilities)


def test_a_file_with_any_one_bit_of_its_beginning_flipped_is_refused_or_valid():
    for content, probabilities in FILES:
        for place in range(8 * min(len(content), 90)):
            changed = bytearray(content)
            changed[place // 8] ^= 1 << place % 8
            is_refused_or_valid(bytes(changed), probabilities)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40), st.booleans(), st.sampled_from(sorted(ECDC_MODELS)))
def test_any_codes_are_refused_or_valid(payload, lm, model):
    for num_samples in (1, 321, 641):
        file = with_header(payload, lm=lm, m=model, al=num_samples)
        is_refused_or_valid(file, PREDICTOR)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=100))
def test_any_bytes_are_refused(content):
    assume(content[:5] != b"ECDC\0")
    assert_refused(content)
    assert_refused(b"ECDC\0" + content)
    assert_refused(with_json(content, bytes(9)))


def test_an_oversized_file_is_refused(monkeypatch):
    file = ecdc_bytes(clip_24khz())
    monkeypatch.setattr(file_content, "MAX_FILE_BYTES", len(file) - 1)
    assert_refused(file, f"has {len(file)} bytes or more, allowed: up to {len(file) - 1}")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.ecdc"):
        read_ecdc(tmp_path / "absent.ecdc")
