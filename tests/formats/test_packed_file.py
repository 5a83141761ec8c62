"""`.codax` files: any clip in safetensors, as small as its bitrate promises, and safe to open."""

import dataclasses
import json
import tracemalloc
from functools import partial

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from codax.errors import FormatError
from codax.formats import EncodedAudio, codax_bytes, file_content, read_codax, write_codax
from codax.formats.bit_packing import unpack_codes
from tests.messages import assert_file_refused

CODES = np.arange(24).reshape(2, 3, 4) * 44
CLIP = EncodedAudio(
    codes=CODES,
    sampling_rate=44100,
    num_samples=2000,
    input_db=-20.5,
    chunk_frames=2,
    padding=False,
    channels_per_stream=2,
    segment_frames=(1, 1, 2),
    scales=np.arange(6).reshape(2, 3) / 4,
    model="encodec_48khz",
    revision="main",
)
GOOD = codax_bytes(CLIP)
HEADER_STOP = 8 + int.from_bytes(GOOD[:8], "little")
HEADER = json.loads(GOOD[8:HEADER_STOP])
TENSORS = GOOD[HEADER_STOP:]


def forged(tensors=TENSORS, drop=(), tensor_changes=(), **metadata):
    """`GOOD` with other metadata, other descriptions of its tensors, or without some of either."""
    header = json.loads(json.dumps(HEADER))
    header["__metadata__"] |= metadata
    for name, changes in dict(tensor_changes).items():
        header[name] |= changes
    for name in drop:
        (header if name in header else header["__metadata__"]).pop(name)
    return with_json(json.dumps(header).encode(), tensors)


def with_json(text, tensors=TENSORS):
    return len(text).to_bytes(8, "little") + text + tensors


assert_refused = partial(assert_file_refused, read_codax)


# --- bytes ---------------------------------------------------------------------------------------


def test_a_mono_clip_is_a_header_without_defaults_and_its_codes():
    clip = EncodedAudio(
        codes=np.array([1, 2, 1023]).reshape(1, 3, 1),
        sampling_rate=24000,
        num_samples=320,
        model="encodec_24khz",
    )
    text = (
        b'{"__metadata__":{"codax":"1","model":"encodec_24khz","hz":"24000","samples":"320",'
        b'"shape":"1,3,1","bits":"10"},"codes":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    )
    length = b"\xa8\0\0\0\0\0\0\0"  # 168
    assert codax_bytes(clip) == length + text + b" " + b"\x01\x08\xf0\x3f"
    assert read_codax(codax_bytes(clip)) == clip


def test_everything_that_is_not_the_default_is_named():
    assert HEADER["__metadata__"] == {
        "codax": "1",
        "model": "encodec_48khz",
        "revision": "main",
        "hz": "44100",
        "samples": "2000",
        "shape": "2,3,4",
        "bits": "10",
        "channels": "2",
        "segments": "1x2,2",
        "db": "-20.5",
        "chunk": "2",
        "padding": "no",
    }


def test_scales_come_first_and_codes_go_frame_by_frame_stream_by_stream():
    assert HEADER["scales"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    np.testing.assert_array_equal(np.frombuffer(TENSORS[:24], "<f4"), np.arange(6) / 4)
    codes = unpack_codes(TENSORS[24:], 24, 10).reshape(4, 2, 3)
    np.testing.assert_array_equal(codes, CODES.transpose(2, 0, 1))


def test_the_header_is_filled_up_with_spaces_to_8_bytes():
    lengths = set()
    for digits in range(1, 9):
        content = codax_bytes(dataclasses.replace(CLIP, model="m" * digits))
        length = int.from_bytes(content[:8], "little")
        assert length % 8 == 0
        assert content[8 : 8 + length].rstrip(b" ").endswith(b"}}")
        lengths.add(length)
    assert len(lengths) == 2


def test_safetensors_reads_the_file(tmp_path):
    path = tmp_path / "song.codax"
    write_codax(CLIP, path)
    for tensors in (safetensors.numpy.load_file(path), safetensors.numpy.load(GOOD)):
        assert tensors.keys() == {"codes", "scales"}
        assert (tensors["codes"].dtype, tensors["codes"].shape) == (np.uint8, (30,))
        np.testing.assert_array_equal(tensors["scales"], CLIP.scales)
    with safe_open(path, "np") as file:
        assert file.metadata() == HEADER["__metadata__"]


def test_a_file_that_safetensors_has_written_again_reads_the_same(tmp_path):
    tensors = safetensors.numpy.load(GOOD)
    assert read_codax(safetensors.numpy.save(tensors, HEADER["__metadata__"])) == CLIP


@pytest.mark.parametrize(("largest", "bits"), [(0, 1), (1, 1), (2, 2), (1023, 10), (2047, 11)])
def test_a_code_takes_as_many_bits_as_the_largest_needs(largest, bits):
    clip = dataclasses.replace(CLIP, codes=np.minimum(CODES, largest) * 0 + largest)
    content = codax_bytes(clip)
    assert f'"bits":"{bits}"'.encode() in content
    assert read_codax(content) == clip


MINUTE = {
    # model: sampling rate, frames, codebooks, the most that a minute may take beyond its codes
    "encodec_24khz at 1.5 kbps": (24000, 4500, 2, 0.018),
    "encodec_24khz at 6 kbps": (24000, 4500, 8, 0.005),
    "dac_44khz at 7.75 kbps": (44100, 5168, 9, 0.005),
}


@pytest.mark.parametrize("which", MINUTE)
def test_a_minute_takes_little_more_than_its_codes(which):
    sampling_rate, num_frames, num_codebooks, most = MINUTE[which]
    codes = np.random.default_rng(0).integers(0, 1024, (1, num_codebooks, num_frames))
    clip = EncodedAudio(
        codes=codes,
        sampling_rate=sampling_rate,
        num_samples=60 * sampling_rate,
        input_db=-23.456789012345678 if which.startswith("dac") else None,
        model=which.split()[0],
    )
    code_bytes = codes.size * 10 / 8
    overhead = len(codax_bytes(clip)) / code_bytes - 1
    print(f"{which}: {len(codax_bytes(clip)) - code_bytes:.0f} bytes, {100 * overhead:.2f} %")
    assert overhead < most


def test_a_minute_in_segments_takes_little_more_than_its_codes_and_scales():
    segments = (150,) * 60 + (113,)
    generator = np.random.default_rng(0)
    clip = EncodedAudio(
        codes=generator.integers(0, 1024, (1, 4, sum(segments))),
        sampling_rate=48000,
        num_samples=60 * 48000,
        channels_per_stream=2,
        segment_frames=segments,
        scales=generator.uniform(0, 1, (1, len(segments))),
        model="encodec_48khz",
    )
    assert len(codax_bytes(clip)) < 1.007 * (clip.codes.size * 10 / 8 + 4 * len(segments))


# --- round trips ---------------------------------------------------------------------------------


@st.composite
def clips(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 50)))
    streams, _, num_frames = shape
    bits = draw(st.integers(1, 31))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    decibels = st.floats(-200, 200)
    cuts = sorted(draw(st.sets(st.integers(1, num_frames - 1)))) if num_frames > 1 else []
    segments = tuple(np.diff([0, *cuts, num_frames]).tolist())
    segment_frames = draw(st.none() | st.just(segments))
    scales_shape = (streams, len(segment_frames or "1"))
    sampling_rate = draw(st.integers(1, 768_000))
    name = st.none() | st.sampled_from(["encodec_24khz", "./my model", 'a"b\\c', "modèle 🙂"])
    return EncodedAudio(
        codes=generator.integers(0, 2**bits, shape),
        sampling_rate=sampling_rate,
        num_samples=draw(st.integers(1, num_frames * sampling_rate)),
        input_db=draw(st.none() | decibels | st.tuples(*[decibels] * streams)),
        chunk_frames=draw(st.integers(1, num_frames)),
        padding=draw(st.booleans()),
        channels_per_stream=draw(st.integers(1, 256)),
        segment_frames=segment_frames,
        scales=draw(st.none() | st.just(generator.uniform(0, 1, scales_shape))),
        model=draw(name),
        revision=draw(name),
    )


@settings(deadline=None, max_examples=200)
@given(clips())
def test_any_clip_reads_back_as_it_was_written_and_is_safetensors(clip):
    content = codax_bytes(clip)
    assert read_codax(content) == clip
    assert "codes" in safetensors.numpy.load(content)


def test_a_path_its_bytes_and_an_open_file_read_the_same(tmp_path):
    path = tmp_path / "song.codax"
    write_codax(CLIP, path)
    assert path.read_bytes() == GOOD
    with path.open("rb") as file:
        read = [read_codax(path), read_codax(str(path)), read_codax(GOOD), read_codax(file)]
    assert all(clip == CLIP for clip in read)


def test_a_loudness_of_one_stream_alone_stays_what_it_is():
    clip = dataclasses.replace(CLIP, codes=CODES[:1], scales=None, input_db=(-20.5,))
    assert read_codax(codax_bytes(clip)).input_db == (-20.5,)


# --- clips that the format does not hold ---------------------------------------------------------


@pytest.mark.parametrize("field", ["model", "revision"])
@pytest.mark.parametrize("name", ["two\nlines", "\ud800", "x" * 1025])
def test_a_name_that_no_line_can_show_is_refused(tmp_path, field, name):
    with pytest.raises(FormatError, match=f"{field} is .*allowed: up to 1024 printable characters"):
        write_codax(dataclasses.replace(CLIP, **{field: name}), tmp_path / "song.codax")
    assert not any(tmp_path.iterdir())


def test_segments_that_no_header_holds_are_refused():
    frames = tuple(1 + place % 2 for place in range(40_000))
    codes = np.zeros((1, 1, sum(frames)), int)
    clip = EncodedAudio(codes, sampling_rate=48000, num_samples=1, segment_frames=frames)
    with pytest.raises(FormatError, match=r"needs a header of \d+ bytes, allowed: 65536"):
        codax_bytes(clip)


def test_another_suffix_than_codax_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"song.dac: the suffix is '.dac', allowed: .codax"):
        write_codax(CLIP, tmp_path / "song.dac")
    assert not any(tmp_path.iterdir())


# --- damaged and hostile files -------------------------------------------------------------------

HUGE = str(10**17)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codax": "2"}, "with codax version '2' in its metadata, allowed: '1'"),
        ({"codax": 1}, "with codax version 1 in its metadata"),
        ({"drop": ["codax"]}, "with codax version None in its metadata"),
        ({"drop": ["__metadata__"]}, "with codax version None"),
        ({"drop": ["codes"]}, "the header lacks 'codes', needed: __metadata__, codes"),
        ({"drop": ["hz"]}, "the metadata lacks 'hz', needed: bits, codax, hz, samples, shape"),
        ({"drop": ["samples"]}, "the metadata lacks 'samples'"),
        ({"drop": ["shape"]}, "the metadata lacks 'shape'"),
        ({"drop": ["bits"]}, "the metadata lacks 'bits'"),
        ({"drop": ["scales"]}, "codes is not described as"),
        ({"mood": "sad"}, "the metadata has the unknown key 'mood', allowed: bits"),
        ({"hz": 44100}, "hz is 44100, allowed: a string"),
        ({"model": None}, "model is None, allowed: a string"),
        ({"model": ""}, "model is '', allowed: a name"),
        ({"model": "two\nlines"}, r"model is 'two\\nlines', allowed: up to 1024 printable"),
        ({"revision": "x" * 2000}, r"revision is 'x+\.\.\., allowed: up to 1024 printable"),
        ({"hz": "0"}, "hz is '0', allowed: a positive integer"),
        ({"hz": "-5"}, "hz is '-5'"),
        ({"hz": "44_100"}, "hz is '44_100'"),
        ({"hz": " 44100"}, "hz is ' 44100'"),
        ({"hz": "4.41e4"}, "hz is '4.41e4'"),
        ({"hz": "٤٤"}, "hz is '٤٤'"),
        ({"hz": "768001"}, "sampling_rate is 768001, allowed: an integer from 1 to 768000"),
        ({"hz": "9" * 5000}, r"hz is '9+\.\.\., allowed"),
        ({"samples": HUGE}, "num_samples is 100000000000000000, allowed: .* to 176400"),
        ({"shape": "2,3"}, "shape is '2,3', allowed: streams,codebooks,frames"),
        ({"shape": "2,3,0"}, "shape is '2,3,0'"),
        ({"shape": "2,3,-4"}, "shape is '2,3,-4'"),
        ({"shape": "2,3,5", "segments": "5"}, r"is not described as"),
        ({"shape": f"{HUGE},{HUGE},{HUGE}"}, "holds 10+ codes, allowed: up to 536870912"),
        ({"shape": f"1,1,{2**29}"}, r"segments are 3 with 4 frames, allowed: .* 536870912"),
        ({"bits": "0"}, "bits is '0', allowed: a positive integer"),
        ({"bits": "32"}, "bits is 32, allowed: up to 31"),
        ({"bits": "9"}, "codes is not described as .*27"),
        ({"channels": "257"}, "channels_per_stream is 257, allowed: an integer from 1 to 256"),
        ({"segments": ""}, "segments is '', allowed"),
        ({"segments": "1x2"}, "segments are 2 with 2 frames, allowed: .* with 4"),
        ({"segments": "1x0,4"}, "segments is '1x0,4', allowed"),
        ({"segments": "1x2x2"}, "segments is '1x2x2'"),
        ({"segments": f"1x{HUGE}"}, f"segments are {HUGE} with {HUGE} frames"),
        ({"segments": "4"}, "codes is not described as|scales is not described as"),
        ({"db": "nan"}, "db has 'nan', allowed: numbers"),
        ({"db": "inf"}, "db has 'inf'"),
        ({"db": "1e3"}, "input_db is 1000.0, allowed: -200 to 200"),
        ({"db": "1e999"}, "input_db is inf"),
        ({"db": "-1_0"}, "db has '-1_0'"),
        ({"db": ""}, "db has ''"),
        ({"stream_db": "-20,-30"}, "has both db and stream_db, allowed: one of them"),
        ({"drop": ["db"], "stream_db": "-20"}, "input_db has 1 values"),
        ({"drop": ["db"], "stream_db": "-20,"}, "stream_db has '', allowed: numbers"),
        ({"chunk": "5"}, "chunk_frames is 5, allowed: an integer from 1 to 4"),
        ({"padding": "yes"}, "padding is 'yes', allowed: 'no', or no padding"),
    ],
)
def test_wrong_metadata_are_refused_by_name_and_value(changes, message):
    assert read_codax(forged()) == CLIP
    assert_refused(forged(**changes), message)


@pytest.mark.parametrize("name", ["codes", "scales"])
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "I8"},
        {"shape": []},
        {"shape": [31]},
        {"shape": [True]},
        {"shape": 30},
        {"shape": [1 << 60]},
        {"data_offsets": [0, 1 << 60]},
        {"data_offsets": [0.0, 24.0]},
        {"data_offsets": [24, 54, 60]},
        {"data_offsets": None},
        {"more": 1},
    ],
)
def test_a_tensor_that_is_not_as_the_metadata_say_is_refused(name, changes):
    assert_refused(forged(tensor_changes={name: changes}), f"{name} is not described as")


def test_integers_that_are_floats_or_bools_in_json_are_refused():
    clip = EncodedAudio(np.ones((1, 1, 1), int), sampling_rate=24000, num_samples=1, scales=[[1]])
    content = codax_bytes(clip)
    for old, new in ((b"[1]", b"[true]"), (b"[1,1]", b"[1,1.0]"), (b"[4,5]", b"[4,5.0]")):
        text = content[8:-5].rstrip(b" ").replace(old, new)
        assert new in text
        assert_refused(with_json(text, content[-5:]), "is not described as")


def test_a_tensor_that_is_no_object_is_refused():
    for name in ("codes", "scales"):
        for value in (None, 7, "U8", ["U8"], [], True):
            text = json.dumps(HEADER | {name: value}).encode()
            assert_refused(with_json(text), f"{name} is not described as")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "the header is no JSON"),
        (b"{}", "with codax version None in its metadata"),
        (b'{"__metadata__": []}', "with codax version None in its metadata"),
        (b'{"__metadata__": {"codax": "1"}, "__metadata__": 1}', "repeats a key"),
        (b'{"__metadata__": {"codax": "1", "codax": "2"}}', "repeats a key"),
        (b'{"a": "\xff"}', "the header is no JSON"),
        (b'{"a":' * 10_000, "the header is no JSON"),
        (b'{"a":' + b"[" * 60_000, "the header is no JSON"),
        (b"[]", "is no safetensors file"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(text, message):
    assert_refused(with_json(text), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no safetensors file"),
        (bytes(8), "is no safetensors file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "is no safetensors file"),
        (
            b"\xff\xff\xff\xff\0\0\0\0{}",
            "claims a header of 4294967295 bytes, allowed: up to 65536",
        ),
        (b"\3\0\0\0\0\0\0\0{}", "claims a header of 3 bytes, allowed: .* within the file"),
        (b"\1\0\1\0\0\0\0\0{" + bytes(70_000), "claims a header of 65537 bytes"),
    ],
)
def test_a_wrong_beginning_is_refused(content, message):
    assert_refused(content, message)


def test_weights_in_safetensors_are_refused():
    weights = safetensors.numpy.save({"weight": np.zeros(3)}, {"format": "pt"})
    assert_refused(weights, "is a safetensors file with codax version None in its metadata")


def test_scales_that_are_no_levels_are_refused():
    for value in (np.nan, np.inf, -1):
        scales = np.full(6, value, "<f4").tobytes()
        assert_refused(forged(scales + TENSORS[24:]), "scales hold negative or non-finite values")


def test_bits_behind_the_last_code_are_refused():
    clip = EncodedAudio(CODES[:1, :, :1], sampling_rate=24000, num_samples=1)
    content = codax_bytes(clip)
    assert read_codax(content) == clip
    assert_refused(content[:-1] + b"\xff", "the last byte of the codes is 0xff, allowed: ")


def test_a_file_cut_anywhere_is_refused():
    for length in range(len(GOOD)):
        assert_refused(GOOD[:length])


def test_bytes_after_the_end_are_refused():
    message = f"has {len(GOOD) + 1} bytes, allowed: {len(GOOD)}"
    assert_refused(GOOD + b"\0", message)


def test_claims_of_any_size_cost_nothing():
    content = forged(shape=f"1,1,{2**29}", segments=f"1x{2**29}", bits="1", drop=["scales"])
    tracemalloc.start()
    try:
        assert_refused(
            content, "segments are 536870912 with 536870912 frames, allowed: up to 1048576"
        )
        assert_refused(forged(shape=f"1,1,{2**29}", segments=f"{2**29}"), "is not described as")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def is_refused_or_valid(content):
    """The only two outcomes; anything else that `read_codax` raises fails the test."""
    try:
        clip = read_codax(content)
    except FormatError:
        return
    assert read_codax(codax_bytes(clip)) == clip


@settings(deadline=None, max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4))
def test_a_file_with_changed_bytes_is_refused_or_valid(changes):
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    is_refused_or_valid(bytes(content))


def test_a_file_with_any_one_bit_flipped_is_refused_or_valid():
    for place in range(8 * len(GOOD)):
        content = bytearray(GOOD)
        content[place // 8] ^= 1 << place % 8
        is_refused_or_valid(bytes(content))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "a"]), children)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([*HEADER["__metadata__"], "stream_db"]), st.text(max_size=12) | json_values)
def test_any_value_of_a_metadata_field_is_refused_or_valid(key, value):
    is_refused_or_valid(forged(**{key: value}))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["__metadata__", "codes", "scales", "more"]), json_values)
def test_any_value_in_the_header_is_refused_or_valid(key, value):
    is_refused_or_valid(with_json(json.dumps(HEADER | {key: value}).encode()))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=100))
def test_any_bytes_are_refused(content):
    assert_refused(content)
    assert_refused(with_json(content))
    assert_refused(with_json(b"{" + content))


def test_an_oversized_file_is_refused(monkeypatch):
    monkeypatch.setattr(file_content, "MAX_FILE_BYTES", len(GOOD) - 1)
    assert_refused(GOOD, f"has {len(GOOD)} bytes or more, allowed: up to {len(GOOD) - 1}")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.codax"):
        read_codax(tmp_path / "absent.codax")
