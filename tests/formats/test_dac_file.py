"""`.dac` files: byte-exact, read from every writer there is, and safe to open."""

import ast
import dataclasses
import errno
import importlib.util
import io
import itertools
import os
import pickle
import re
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codax.errors import FormatError
from codax.formats import EncodedAudio, dac_bytes, file_content, read_dac, write_dac
from tests.messages import assert_file_refused

CODES = (np.arange(24) * 45).reshape(2, 3, 4)
CODES_16_BITS = CODES.astype(np.uint16)
CLIP = EncodedAudio(
    codes=CODES,
    sampling_rate=48000,
    num_samples=2000,
    input_db=-20.5,
    chunk_frames=2,
    padding=False,
)
GOOD = dac_bytes(CLIP)
HEADER = GOOD[:128]  # an .npy header as numpy pads it
FRAME_LENGTH = range(131, 139)  # tells readers how much to buffer; nothing else depends on it


# --- files made by hand --------------------------------------------------------------------------


def artifacts(codes=CODES_16_BITS, drop=(), **changes):
    """The dict that descript's `DACFile.save` pickles for `CLIP`, in its order."""
    metadata = {
        "input_db": np.array([-20.5], np.float32),
        "original_length": 2000,
        "sample_rate": 48000,
        "chunk_length": 2,
        "channels": 2,
        "padding": False,
        "dac_version": "1.0.0",
    }
    metadata = {key: value for key, value in metadata.items() if key not in drop}
    return {"codes": codes, "metadata": metadata | changes}


def saved(content):
    """`content` as numpy's own `save` writes it."""
    file = io.BytesIO()
    np.save(file, content)
    return file.getvalue()


class OldReductions(pickle.Pickler):
    """Pickles arrays by `_reconstruct` in every protocol; numpy does so from 2 to 4."""

    def reducer_override(self, value):
        return value.__reduce_ex__(2) if isinstance(value, np.ndarray) else NotImplemented


def pickled(content, protocol):
    file = io.BytesIO()
    OldReductions(file, protocol).dump(np.array(content, dtype=object))
    return HEADER + file.getvalue()


def with_numpy_1_names(file):
    """The same file as numpy 1 writes it: `numpy.core.multiarray` for `numpy._core.multiarray`."""
    header, stream = file[:128], file[128:]
    if stream[1] >= 4:
        length = int.from_bytes(stream[3:11], "little") - 1  # of the only frame
        stream = stream[:3] + length.to_bytes(8, "little") + stream[11:]
        stream = stream.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    return header + stream.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@dataclasses.dataclass
class Forged:
    """Pickles like an array, with any shape, type and bytes."""

    shape: object = (2, 3, 4)
    dtype: object = np.dtype("<u2")
    content: object = CODES.astype("<u2").tobytes()
    fortran: object = False
    version: int = 1
    made_by: tuple = (np.ndarray, (0,), b"b")

    def __reduce__(self):
        reconstruct = np.array(0).__reduce__()[0]
        state = (self.version, self.shape, self.dtype, self.fortran, self.content)
        return reconstruct, self.made_by, state


@dataclasses.dataclass
class ForgedDtype:
    arguments: tuple = ("u2", False, True)
    state: tuple = (3, "<", None, None, None, -1, -1, 0)

    def __reduce__(self):
        return np.dtype, self.arguments, self.state


assert_refused = partial(assert_file_refused, read_dac)


# --- writing -------------------------------------------------------------------------------------


def test_our_bytes_are_those_of_numpys_save_of_descripts_dict():
    assert dac_bytes(CLIP) == saved(artifacts())


def test_codes_are_written_in_c_order_and_16_bits_however_they_were_laid_out():
    turned = dataclasses.replace(CLIP, codes=np.asfortranarray(CODES))
    assert dac_bytes(turned) == GOOD


def test_numpy_loads_our_fields_with_the_types_that_descript_stores():
    loaded = np.load(io.BytesIO(GOOD), allow_pickle=True)[()]
    codes, input_db = loaded["codes"], loaded["metadata"].pop("input_db")
    assert (codes.dtype, input_db.dtype) == (np.uint16, np.float32)
    np.testing.assert_array_equal(codes.astype(int), CODES)
    np.testing.assert_array_equal(input_db, [-20.5])
    assert loaded["metadata"] == artifacts(drop={"input_db"})["metadata"]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_clip_reads_back_as_it_was_written(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 32), st.integers(1, 600)))
    sampling_rate = data.draw(st.integers(1, 768_000))
    decibels = st.floats(-200, 200, width=32)
    codes = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 65536, shape)
    clip = EncodedAudio(
        codes=codes,
        sampling_rate=sampling_rate,
        num_samples=data.draw(st.integers(1, shape[2] * sampling_rate)),
        input_db=data.draw(st.none() | decibels),
        chunk_frames=data.draw(st.integers(1, shape[2])),
        padding=data.draw(st.booleans()),
    )
    assert read_dac(dac_bytes(clip)) == clip


def test_absent_loudness_and_loudness_per_channel_survive():
    for input_db in (None, (-20.5, -31.25)):
        clip = dataclasses.replace(CLIP, input_db=input_db)
        assert read_dac(dac_bytes(clip)) == clip


def test_a_code_over_16_bits_is_refused_and_nothing_written(tmp_path):
    clip = dataclasses.replace(CLIP, codes=CODES + 65536)
    with pytest.raises(FormatError, match="codes reach from 65536 to 66571, allowed: 0 to 65535"):
        write_dac(clip, tmp_path / "song.dac")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels_per_stream": 2}, "channels_per_stream is 2, allowed in a .dac file: 1"),
        ({"segment_frames": (3, 1)}, "segment_frames is a tuple, allowed in a .dac file: None"),
        ({"scales": np.ones((2, 1))}, "scales is a ndarray, allowed in a .dac file: None"),
    ],
)
def test_a_clip_of_encodec_that_the_fields_cannot_describe_is_refused(changes, message):
    with pytest.raises(FormatError, match=message):
        dac_bytes(dataclasses.replace(CLIP, **changes))


def test_another_suffix_than_dac_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"song.npy: the suffix is '.npy', allowed: .dac"):
        write_dac(CLIP, tmp_path / "song.npy")
    assert not any(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / "song.dac"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dac(CLIP, path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*song\.dac'") as error:
        write_dac(CLIP, tmp_path / "song.dac")
    assert error.value.errno == errno.ENOSPC
    assert not any(tmp_path.iterdir())


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*absent.song\.dac'"):
        write_dac(CLIP, tmp_path / "absent" / "song.dac")


# --- descript's own class ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def descript_dac_file():
    """`DACFile` from the installed descript-audio-codec, without what its package imports."""
    torch = pytest.importorskip("torch", reason="descript's DACFile holds torch tensors")
    spec = importlib.util.find_spec("dac")
    if spec is None or spec.origin is None:
        pytest.skip("descript-audio-codec is not installed")
    source = (Path(spec.origin).parent / "model" / "base.py").read_text()
    names = {"torch": torch, "np": np, "Path": Path, "dataclass": dataclasses.dataclass}
    for node in ast.parse(source).body:
        is_class = isinstance(node, ast.ClassDef) and node.name == "DACFile"
        if is_class or (isinstance(node, ast.Assign) and "SUPPORTED" in ast.unparse(node)):
            exec(compile(ast.Module([node], []), spec.origin, "exec"), names)
    return names["DACFile"]


def test_descripts_class_loads_our_file(tmp_path, descript_dac_file):
    write_dac(CLIP, tmp_path / "song.dac")
    loaded = descript_dac_file.load(tmp_path / "song.dac")
    np.testing.assert_array_equal(loaded.codes.numpy(), CODES)
    assert loaded.input_db.item() == -20.5
    assert (loaded.original_length, loaded.sample_rate) == (2000, 48000)
    assert (loaded.chunk_length, loaded.channels, loaded.padding) == (2, 2, False)


def test_a_file_written_by_descripts_class_reads_here_and_is_ours_byte_for_byte(
    tmp_path, descript_dac_file
):
    torch = pytest.importorskip("torch")
    path = descript_dac_file(
        codes=torch.tensor(CODES),
        chunk_length=2,
        original_length=2000,
        input_db=torch.tensor([-20.5]),
        channels=2,
        sample_rate=48000,
        padding=False,
        dac_version="1.0.0",
    ).save(tmp_path / "song")
    assert read_dac(path) == CLIP
    assert path.read_bytes() == GOOD


# --- reading -------------------------------------------------------------------------------------


def test_a_path_its_bytes_and_an_open_file_read_the_same(tmp_path):
    path = tmp_path / "song.dac"
    write_dac(CLIP, path)
    with path.open("rb") as file:
        clips = [read_dac(path), read_dac(str(path)), read_dac(GOOD), read_dac(file)]
    assert all(clip == CLIP for clip in clips)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("rename", [lambda file: file, with_numpy_1_names])
def test_files_of_numpy_1_and_2_in_every_pickle_protocol_read_the_same(protocol, rename):
    file = rename(pickled(artifacts(), protocol))
    assert np.load(io.BytesIO(file), allow_pickle=True)[()]["metadata"]["channels"] == 2
    assert read_dac(file) == CLIP


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", ">i4", "<i8", ">u8"])
@pytest.mark.parametrize("order", "CF")
def test_codes_of_any_integer_type_and_order_are_read(dtype, order):
    codes = np.array(CODES % 256, dtype=dtype, order=order)
    np.testing.assert_array_equal(read_dac(saved(artifacts(codes))).codes, CODES % 256)


@pytest.mark.parametrize("stored", [np.float32(-20.5), np.array([-20.5]), np.array([-20.5], ">f4")])
def test_loudness_is_read_from_any_float_array_of_one_number(stored):
    file = saved(artifacts(input_db=np.asarray(stored)))
    assert read_dac(file).input_db == -20.5


def test_loudness_is_read_from_a_python_float():
    assert read_dac(saved(artifacts(input_db=-20.5))).input_db == -20.5


@pytest.mark.parametrize("version", [b"\x02\x00", b"\x03\x00"])
def test_newer_npy_headers_are_read(version):
    text = HEADER[10:]
    header = b"\x93NUMPY" + version + len(text).to_bytes(4, "little") + text
    assert read_dac(header + GOOD[128:]) == CLIP


# --- DAC-JAX: no `padding` -----------------------------------------------------------------------


def dac_jax(codes, **changes):
    file = saved(artifacts(codes, drop={"padding"}, channels=len(codes), **changes))
    return read_dac(file)


def test_a_dac_jax_file_in_chunks_is_unpadded():
    clip = dac_jax(CODES, chunk_length=2)
    assert clip.padding is False
    np.testing.assert_array_equal(clip.codes, CODES)


@pytest.mark.parametrize(("rate", "hop"), [(44100, 512), (24000, 320), (16000, 320)])
@pytest.mark.parametrize("missing", [0, 1, 319])
def test_a_dac_jax_file_in_one_piece_of_its_models_frames_is_padded(rate, hop, missing):
    length = {"original_length": 4 * hop - missing, "sample_rate": rate}
    assert dac_jax(CODES, chunk_length=4, **length).padding is True


def test_a_dac_jax_file_in_one_chunk_longer_than_its_clip_is_unpadded():
    codes = np.zeros((1, 9, 72), np.uint16)  # one second at 44.1 kHz holds 28522 samples
    length = {"original_length": 28522, "sample_rate": 44100}
    assert dac_jax(codes, chunk_length=72, **length).padding is False


def test_a_dac_jax_file_with_frames_before_codebooks_is_turned():
    codes = np.arange(2 * 9 * 144).reshape(2, 9, 144)
    clip = dac_jax(codes.transpose(0, 2, 1), chunk_length=72, original_length=50000)
    np.testing.assert_array_equal(clip.codes, codes)
    assert clip.chunk_frames == 72


def test_a_dac_jax_file_that_lost_frames_is_refused():
    file = saved(artifacts(np.zeros((2, 5, 9), int), drop={"padding"}, chunk_length=72))
    assert_refused(file, r"chunk_length is 72, allowed .* shape \(2, 5, 9\).*a divisor")


def test_loudness_per_channel_is_read():
    clip = dac_jax(CODES, input_db=np.array([-20.5, -31.25], np.float32))
    assert clip.input_db == (-20.5, -31.25)


# --- wrong fields --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dac_version": "1.0.1"}, "dac_version is '1.0.1', allowed: '1.0.0'"),
        ({"dac_version": None}, "dac_version is None"),
        ({"dac_version": ["1.0.0"]}, "dac_version is a list"),
        ({"channels": 1}, r"shape \(2, 3, 4\) for channels 1.*a batch of several clips"),
        ({"channels": 0}, "channels is 0, allowed: a positive integer"),
        ({"channels": 2.0}, "channels is 2.0"),
        ({"channels": True}, "channels is True"),
        ({"sample_rate": -44100}, "sample_rate is -44100"),
        ({"sample_rate": 10**6}, "sampling_rate is 1000000, allowed: an integer from 1 to 768000"),
        ({"sample_rate": 10**600}, r"sample_rate is 1000*\.\.\., allowed"),
        ({"original_length": 0}, "original_length is 0"),
        ({"original_length": 1 << 62}, "num_samples is 4611686018427387904, allowed: .* to 192000"),
        ({"chunk_length": 0}, "chunk_length is 0"),
        ({"chunk_length": 5}, "chunk_frames is 5, allowed: an integer from 1 to 4"),
        ({"padding": 0}, "padding is 0, allowed: True or False"),
        ({"padding": None}, "padding is None, allowed: True or False"),
        ({"input_db": np.array([np.nan], np.float32)}, "input_db is nan"),
        ({"input_db": np.array([-np.inf], np.float32)}, "input_db is -inf"),
        ({"input_db": float("inf")}, "input_db is inf"),
        ({"input_db": 1e9}, "input_db is 1000000000.0, allowed: -200 to 200"),
        ({"input_db": np.array([-20])}, r"input_db is int64 with shape \(1,\), allowed: .* floats"),
        ({"input_db": np.zeros(3)}, r"input_db is float64 with shape \(3,\), allowed: .*\(2,\)"),
        ({"input_db": np.zeros((2, 1))}, r"shape \(2, 1\)"),
        ({"input_db": "loud"}, "input_db is 'loud', allowed: an array of numbers"),
        ({"mood": "sad"}, "metadata has the unknown key 'mood', allowed: channels"),
    ],
)
def test_a_wrong_metadata_field_is_refused_by_name_and_value(changes, message):
    assert_refused(saved(artifacts(**changes)), message)


@pytest.mark.parametrize("key", sorted(artifacts(drop={"padding"})["metadata"]))
def test_a_missing_metadata_field_is_refused_by_name(key):
    assert_refused(saved(artifacts(drop={key})), key)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (CODES.astype(np.float32), "codes are float32"),
        (CODES[0], r"codes are int64 with shape \(3, 4\)"),
        (CODES[None], r"codes has shape \(1, 2, 3, 4\), allowed: up to 3"),
        (CODES - 1, "codes reach from -1 to 1034, allowed: 0 to 65535"),
        (CODES + 65536, "codes reach from 65536"),
        (CODES > 3, "codes is an array of 'b1', allowed: plain numbers"),
        (CODES.astype("S4"), "codes is an array of 'S4'"),
        (CODES.astype("M8[s]"), "codes is an array of 'M8'"),
        (CODES.astype([("a", "u2")]), "codes is an array of 'V2'"),
        (CODES.astype(object), "codes is a RecordedCall, allowed: an array of numbers"),
        (CODES.tolist(), "codes is a list, allowed: an array of numbers"),
        (None, "codes is None"),
        ("x" * 1000, r"codes is 'x+\.\.\., allowed"),
    ],
)
def test_codes_that_are_not_an_array_of_16_bit_integers_are_refused(codes, message):
    assert_refused(saved(artifacts(codes)), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"codes": CODES}, "the file lacks 'metadata', needed: codes, metadata"),
        (
            artifacts() | {"more": 1},
            "the file has the unknown key 'more', allowed: codes, metadata",
        ),
        (artifacts() | {"metadata": 1}, "metadata holds 1, allowed: a dict"),
        (1, "an array of int64 with 0 dimensions"),
        (CODES, r"an array of int64 with 3 dimensions, allowed: one pickled object"),
        (np.array([{}, {}]), "an array of object with 1 dimensions"),
        ("codes", "an array of <U5 with 0 dimensions"),
        (np.array([1, None], dtype=object)[1:].reshape(()), "the file holds None, allowed: a dict"),
    ],
)
def test_an_npy_file_with_something_else_is_refused(content, message):
    assert_refused(saved(content), message)


def test_a_file_of_descript_before_1_0_is_refused_by_its_missing_version():
    old = {"codes": CODES, "metadata": {"original_db": -20.5, "is_overlap": False}}
    assert_refused(saved(old), "dac_version is None, allowed: '1.0.0'")


# --- damaged and hostile files -------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused():
    for length in range(len(GOOD)):
        assert_refused(GOOD[:length])


def test_bytes_after_the_end_are_refused():
    assert_refused(GOOD + b"more", "4 bytes follow the end of the pickle, allowed: none")


def is_refused_or_valid(content):
    """The only two outcomes; anything else that `read_dac` raises fails the test."""
    try:
        clip = read_dac(content)
    except FormatError:
        return None
    assert dataclasses.replace(clip) == clip  # validates once more
    assert clip.codes.size <= len(content)
    return clip


@settings(deadline=None, max_examples=600)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4))
def test_a_file_with_changed_bytes_is_refused_or_valid(changes):
    content = bytearray(GOOD)
    for position, value in changes:
        content[position] = value
    is_refused_or_valid(bytes(content))


def test_a_file_with_any_one_bit_flipped_is_refused_or_reads_as_numpy_reads_it():
    for position, bit in itertools.product(range(len(GOOD)), range(8)):
        content = bytearray(GOOD)
        content[position] ^= 1 << bit
        clip = is_refused_or_valid(bytes(content))
        if clip is not None and position not in FRAME_LENGTH:
            loaded = np.load(io.BytesIO(content), allow_pickle=True)[()]
            np.testing.assert_array_equal(loaded["codes"], clip.codes)
            assert loaded["metadata"]["original_length"] == clip.num_samples


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_pickle_is_refused(stream):
    assert_refused(HEADER + stream)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"just some text\n" * 20, b"RIFF\x00\x00\x00\x00WAVE"]
)
def test_a_file_of_another_kind_is_refused(content):
    assert_refused(content, "damaged or of another kind")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (), }", b"\x04\x00"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (" + b"9" * 400 + b",)}", b"\x01\x00"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': ()," + b" " * 600, b"\x01\x00"),
        (b"(" * 500, b"\x01\x00"),
        (b"-" * 500 + b"1", b"\x01\x00"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (0L,), }", b"\x01\x00"),
        (b"__import__('os').system('true')", b"\x01\x00"),
        (b"\\d", b"\x01\x00"),
    ],
)
def test_a_wrong_npy_header_is_refused(text, version):
    header = b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text
    assert_refused(header + GOOD[128:])


def test_a_folder_is_refused(tmp_path):
    assert_refused(tmp_path, "is not a regular file", name=tmp_path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.dac"):
        read_dac(tmp_path / "absent.dac")


def test_an_oversized_file_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "song.dac"
    write_dac(CLIP, path)
    monkeypatch.setattr(file_content, "MAX_FILE_BYTES", len(GOOD))
    assert read_dac(path) == CLIP
    monkeypatch.setattr(file_content, "MAX_FILE_BYTES", len(GOOD) - 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    assert_refused(path, f"has {len(GOOD)} bytes or more, allowed: up to", name=path)
    assert_refused(GOOD, f"has {len(GOOD)} bytes or more")


def test_an_endless_file_is_refused(monkeypatch):
    class Endless:
        name = "endless"

        def read(self, size):
            return bytes(size)

    monkeypatch.setattr(file_content, "MAX_FILE_BYTES", 10_000_000)
    assert_refused(Endless(), r"or more, allowed: up to 10000000", name="endless")


def test_a_dac_file_with_a_fourth_global_is_refused(tmp_path):
    class Gadget:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/run",)

    for protocol in (3, 4, 5):
        file = pickled(artifacts(Gadget()), protocol)
        assert_refused(file, rf"asks for '{os.system.__module__}\.system', allowed: numpy's")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("numpy", "load"),
        ("numpy", "dtype.__class__"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct.__self__"),
        ("numpy.core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
        ("line\nbreak" * 100, "x" * 1000),
    ],
)
def test_no_other_global_is_known(module, name):
    stream = b"\x80\x04"
    for text in (module, name):
        stream += b"X" + len(text).to_bytes(4, "little") + text.encode()
    assert_refused(HEADER + stream + b"\x93.", "asks for ")


def test_a_pickle_of_protocol_2_is_refused_since_its_bytes_need_a_fourth_global():
    assert_refused(pickled(artifacts(), 2), "asks for '_codecs.encode'")


def test_an_array_in_protocol_5_s_own_form_is_refused_since_it_needs_a_fourth_global():
    file = HEADER + pickle.dumps(np.array(artifacts(), dtype=object), 5)
    assert_refused(file, "asks for 'numpy._core.numeric._frombuffer'")


HUGE = 1 << 40


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        (Forged(shape=(HUGE,)), r"shape \(1099511627776\) and 48 bytes, allowed: 2199023255552"),
        (Forged(shape=(HUGE, HUGE, HUGE)), "and 48 bytes, allowed: "),
        (Forged(shape=(10**600, 1, 1)), r"shape \(1000*\.\.\., 1, 1\)"),
        (Forged(shape=(0, HUGE, HUGE)), r"shape \(0, .*allowed: up to 3 positive integers"),
        (Forged(shape=(2, 3, -4)), r"shape \(2, 3, -4\), allowed: up to 3 positive integers"),
        (Forged(shape=(-2, 3, -4)), r"shape \(-2, 3, -4\)"),
        (Forged(shape=(2, 3, 4.0)), r"shape \(2, 3, 4\.0\)"),
        (Forged(shape=(2, 3, 4, True)), r"shape \(2, 3, 4, True\)"),
        (Forged(shape=(1,) * 700), r"shape \(1, 1, 1, 1\), allowed: up to 3"),
        (Forged(shape=24), "codes is a RecordedCall"),
        (Forged(content=b""), "and 0 bytes, allowed: 48 bytes"),
        (Forged(content=[1, 2]), "codes is a RecordedCall"),
        (Forged(made_by=(np.ndarray, (HUGE,), b"b")), "codes is a RecordedCall"),
        (Forged(made_by=(np.dtype, (0,), b"b")), "codes is a RecordedCall"),
        (Forged(fortran=None), "codes is a RecordedCall"),
        (Forged(version=2), "codes is a RecordedCall"),
        (Forged(dtype="<u2"), "codes is a RecordedCall"),
        (Forged(dtype=ForgedDtype(("u2",))), None),
        (Forged(dtype=ForgedDtype(("u3", False, True))), "codes is an array of 'u3'"),
        (Forged(dtype=ForgedDtype(("V99999999999", False, True))), "codes is an array of 'V9"),
        (Forged(dtype=ForgedDtype((1,))), "codes is an array of an unknown type"),
        (Forged(dtype=ForgedDtype(("O8", False, True))), "codes is an array of 'O8'"),
        (Forged(dtype=ForgedDtype(state=(3, "?", None, None, None, -1, -1, 0))), "array of 'u2'"),
        (
            Forged(dtype=ForgedDtype(state=(3, "<", (HUGE,), None, None, -1, -1, 0))),
            "array of 'u2'",
        ),
        (Forged(dtype=ForgedDtype(state=(3, "<", None, None, None, HUGE, 1, 0))), "array of 'u2'"),
        (Forged(dtype=ForgedDtype(state=(3, "<", None, None, None, -1, -1, 63))), "array of 'u2'"),
    ],
)
def test_a_forged_array_is_checked_before_anything_is_built(forged, message):
    file = pickled(artifacts(forged), 4)
    tracemalloc.start()
    try:
        if message is None:
            assert read_dac(file) == CLIP
        else:
            assert_refused(file, message)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def doubled(start, end, levels=60):
    """A container that holds another one twice, which does the same, and so on: 2^60 leaves."""
    stream = start + end + b"\x94"
    for level in range(levels):
        below = b"h" + bytes([level])
        stream += start + below + below + end + b"\x94"
    return stream


def text(value):
    return b"\x8c" + bytes([len(value)]) + value


DOUBLED_TUPLE = doubled(b"(", b"t")
DOUBLED_LIST = doubled(b"](", b"e")
GLOBAL_NDARRAY = b"cnumpy\nndarray\n"


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999, "over 1000 opcodes"),
        (b"\x80\x04" + b"(" * 100_000, "over 1000 opcodes"),
        (b"\x80\x04" + b"]" * 490 + b"a" * 489, "allowed: one object in a numpy array"),
        (b"\x80\x04" + b"N" + b"\x85" * 900, "holds a tuple"),
        (b"\x80\x04" + DOUBLED_TUPLE + b"}h\x3cNs", "has a tuple in place of a str"),
        (b"\x80\x04" + DOUBLED_TUPLE, "damaged"),
        (b"\x80\x04" + DOUBLED_LIST + b"\x85R", "has a list in place of a NumpyName"),
        (b"\x80\x04]r\xff\xff\xff\x7f", "opcode LONG_BINPUT"),
        (b"\x80\x04B\xff\xff\xff\xffabc", "damaged"),
        (b"\x80\x04\x8e" + HUGE.to_bytes(8, "little") + b"abc", "damaged"),
        (b"\x80\x04\x96" + HUGE.to_bytes(8, "little") + b"abc", "damaged"),
        (b"\x80\x04\x8b\xff\xff\xff\x7fabc", "damaged"),
        (b"\x80\x04\x95" + HUGE.to_bytes(8, "little") + b"N", "holds None"),
        (b"\x80\x04I" + b"9" * 5000 + b"\n", "damaged"),
        (b"\x80\x04\x8f", "opcode EMPTY_SET"),
        (b"\x80\x04N2", "opcode DUP"),
        (b"\x80\x04Pid\n", "opcode PERSID"),
        (b"\x80\x04NQ", "opcode BINPERSID"),
        (b"\x80\x04\x82\x01", "opcode EXT1"),
        (b"\x80\x05\x97", "opcode NEXT_BUFFER"),
        (b"\x80\x04(ios\nsystem\n", "opcode INST"),
        (b"\x80\x04(" + GLOBAL_NDARRAY + b"o", "opcode OBJ"),
        (b"\x80\x04" + GLOBAL_NDARRAY + b")\x81", "opcode NEWOBJ"),
        (b"\x80\x04" + GLOBAL_NDARRAY + b"}b", "has a NumpyName in place of a RecordedCall"),
        (b"\x80\x04" + GLOBAL_NDARRAY + b"NR", "has None in place of a tuple"),
        (b"\x80\x04N)R", "has None in place of a NumpyName"),
        (b"\x80\x04" + GLOBAL_NDARRAY + b")R", "holds a RecordedCall"),
        (b"\x80\x04" + GLOBAL_NDARRAY, "holds a NumpyName"),
        (b"\x80\x04\x85", "takes more values than it has"),
        (b"\x80\x04NN", "damaged"),
        (b"\x80\x04t", "damaged"),
        (b"\x80\x04h\x07", "damaged"),
        (b"\x80\x04}(Nu", "damaged"),
        (b"\x80\x04cnumpy dtype\nx\n", "damaged"),
        (b"\x80\x04", "damaged"),
        (b"\x80\x06N", "protocol 6, allowed: 2 to 5"),
    ],
)
def test_a_hostile_pickle_is_refused_at_little_cost(stream, message):
    tracemalloc.start()
    try:
        assert_refused(HEADER + stream + b".", message)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_list_of_2_to_the_60_leaves_in_any_field_is_refused_at_once():
    leaves = []
    for _ in range(60):
        leaves = [leaves, leaves]
    assert_refused(saved(artifacts(leaves)), "codes is a list")
    for key in artifacts()["metadata"]:
        assert_refused(saved(artifacts(**{key: leaves})), rf"({key} is a list|array of numbers)")
    assert_refused(saved(artifacts(Forged(shape=(leaves, 1)))), "a list, 1")


def test_a_dict_that_holds_itself_is_refused():
    content = artifacts()
    content["metadata"]["input_db"] = content
    assert_refused(saved(content), "input_db is a dict")


def test_a_clean_file_still_reads_after_hostile_ones():
    attributes = b"}" + text(b"__setstate__") + b"Ns"
    slots = b"\x80\x04" + GLOBAL_NDARRAY + b"N" + attributes + b"\x86b."
    assert_refused(HEADER + slots, re.escape("a NumpyName in place of a RecordedCall"))
    assert read_dac(GOOD) == CLIP
