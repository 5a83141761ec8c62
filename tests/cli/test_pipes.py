"""`-`: `codax encode` and `codax decode` from standard input and to standard output.

Three processes of their own stand for what only real pipes show; else the streams of this process
are replaced by ones that, as a pipe, cannot be rewound.
"""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codax import AudioError, EncodedAudio
from codax.cli import pipes
from codax.cli.jobs import FAILURES
from codax.cli.main import main
from codax.codec import LazyAudio

from .running import NUM_SAMPLES, RATE, REPOSITORY, files_below, write_audio, write_codes

TIMEOUT_S = 100
LONG_S = 25  # three chunks of the decoder, and far more than a pipe holds


class Pipe(io.BytesIO):
    """Bytes that come once, as through a pipe."""

    def seekable(self):
        return False

    def tell(self):
        raise OSError(29, "Illegal seek")

    def seek(self, *_):
        raise OSError(29, "Illegal seek")


@dataclass
class Finished:
    """Exit status, the bytes of standard output, and what standard error says."""

    status: int
    out: bytes
    err: str

    def assert_succeeded(self):
        assert (self.status, self.err) == (0, ""), self
        return self

    def assert_failed(self, *words):
        """With one line that says all `words`, and nothing on standard output."""
        assert (self.status, self.out) == (1, b""), self
        assert self.err.startswith("codax: "), self
        assert self.err.endswith("\n"), self
        assert len(self.err.splitlines()) == 1, self
        for word in words:
            assert str(word) in self.err, self
        return self


@pytest.fixture
def piped(tmp_path, monkeypatch):
    """`piped("decode", "-", given=b"...")`, in an empty folder -> `Finished`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, given=b""):
        out, err = Pipe(), io.StringIO()
        with monkeypatch.context() as replaced:
            replaced.setattr(sys, "stdin", io.TextIOWrapper(Pipe(given)))
            replaced.setattr(sys, "stdout", io.TextIOWrapper(out))
            replaced.setattr(sys, "stderr", err)
            try:
                status = main([str(argument) for argument in arguments])
            except SystemExit as left:
                status = left.code
            sys.stdout.flush()
            content = out.getvalue()
            sys.stdout.detach()
        return Finished(status, content, err.getvalue())

    return run


@pytest.fixture
def coding(piped, tiny_folder):
    """As `piped`, with the tiny model for `--model`."""
    return lambda command, *rest, **given: piped(command, "--model", tiny_folder, *rest, **given)


def audio_bytes(name="song.wav", **options):
    return write_audio(name, **options).read_bytes()


def codes_bytes(name="song.dac", *arguments, **changes):
    return write_codes(name, *arguments, **changes).read_bytes()


def samples_of(content):
    """[T, C] as they are stored, in 16 bits, and the rate."""
    return soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)


# --- encode --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("output", [(), ("-o", "-")])
def test_audio_from_standard_input_gives_the_codes_of_the_file(coding, suffix, output):
    given = audio_bytes(f"song.{suffix}", channels=2)
    coding("encode", f"song.{suffix}", "-o", "file.dac")
    finished = coding("encode", "-", *output, given=given).assert_succeeded()
    assert finished.out == Path("file.dac").read_bytes()
    assert files_below() == ["file.dac", f"song.{suffix}"]


def test_a_file_is_encoded_to_standard_output(coding):
    write_audio("song.wav")
    coding("encode", "song.wav")
    finished = coding("encode", "song.wav", "-o", "-").assert_succeeded()
    assert finished.out == Path("song.dac").read_bytes()
    assert files_below() == ["song.dac", "song.wav"]


def test_standard_input_is_encoded_to_a_file(coding):
    given = audio_bytes()
    coding("encode", "song.wav", "-o", "file.dac")
    finished = coding("encode", "-", "-o", "codes.dac", given=given).assert_succeeded()
    assert finished.out == b"standard input -> codes.dac\n"
    assert Path("codes.dac").read_bytes() == Path("file.dac").read_bytes()


def test_the_format_of_codes_on_standard_output_may_be_chosen(coding, tiny_folder):
    finished = coding("encode", "-", "--format", "packed", given=audio_bytes()).assert_succeeded()
    Path("song.codax").write_bytes(finished.out)
    encoded = EncodedAudio.load("song.codax")
    assert (encoded.model, encoded.num_samples) == (str(tiny_folder), NUM_SAMPLES)


def test_more_than_memory_is_spared_for_comes_from_standard_input_all_the_same(coding, monkeypatch):
    given = audio_bytes()
    in_memory = coding("encode", "-", given=given).assert_succeeded()
    monkeypatch.setattr(pipes, "MOST_IN_MEMORY", 10)
    on_disk = coding("encode", "-", given=given).assert_succeeded()
    assert on_disk.out == in_memory.out


# --- decode --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"input_db": None}, {"sampling_rate": 48000, "num_samples": 599}]
)
@pytest.mark.parametrize("output", [(), ("-o", "-")])
def test_codes_from_standard_input_give_the_audio_of_the_file(coding, changes, output):
    given = codes_bytes(codes=np.arange(66).reshape(2, 3, 11) % 16, **changes)
    coding("decode", "song.dac")
    finished = coding("decode", "-", *output, given=given).assert_succeeded()
    samples, rate = samples_of(finished.out)
    expected, expected_rate = samples_of(Path("song.wav").read_bytes())
    assert rate == expected_rate == changes.get("sampling_rate", RATE)
    np.testing.assert_array_equal(samples, expected)
    assert np.abs(expected).max() > 100


def test_a_wav_on_standard_output_is_16_bits_and_says_its_length(coding):
    given = codes_bytes(codes=np.zeros((2, 3, 11), int))
    content = coding("decode", "-", given=given).assert_succeeded().out
    info = soundfile.info(io.BytesIO(content))
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    assert (info.channels, info.frames) == (2, NUM_SAMPLES)
    assert len(content) == 44 + 2 * 2 * NUM_SAMPLES
    assert int.from_bytes(content[4:8], "little") == len(content) - 8
    assert int.from_bytes(content[40:44], "little") == len(content) - 44


def test_a_file_is_decoded_to_standard_output(coding):
    write_codes("song.dac")
    coding("decode", "song.dac")
    finished = coding("decode", "song.dac", "-o", "-").assert_succeeded()
    np.testing.assert_array_equal(
        samples_of(finished.out)[0], samples_of(Path("song.wav").read_bytes())[0]
    )
    assert files_below() == ["song.dac", "song.wav"]


@pytest.mark.parametrize("name", ["back.wav", "back.flac"])
def test_standard_input_is_decoded_to_a_file(coding, name):
    given = codes_bytes()
    coding("decode", "song.dac", "-o", f"file of {name}")
    finished = coding("decode", "-", "-o", name, given=given).assert_succeeded()
    assert finished.out == f"standard input -> {name}\n".encode()
    assert Path(name).read_bytes() == Path(f"file of {name}").read_bytes()


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
def test_other_formats_go_to_standard_output_too(coding, suffix):
    given = codes_bytes()
    coding("decode", "song.dac", "--format", suffix)
    finished = coding("decode", "-", "--format", suffix, given=given).assert_succeeded()
    assert soundfile.info(io.BytesIO(finished.out)).format == suffix.upper()
    if suffix == "ogg":  # a stream's number is chosen at random
        expected = samples_of(Path("song.ogg").read_bytes())[0]
        np.testing.assert_array_equal(samples_of(finished.out)[0], expected)
    else:
        assert finished.out == Path(f"song.{suffix}").read_bytes()
    assert files_below() == ["song.dac", f"song.{suffix}"]


@pytest.mark.parametrize("option", [("--rescale",), ("--start", 0.005, "--end", 0.01)])
def test_options_of_decode_hold_for_standard_output(coding, option):
    given = codes_bytes(input_db=60.0)
    coding("decode", "song.dac", *option)
    finished = coding("decode", "-", *option, given=given).assert_succeeded()
    expected, _ = samples_of(Path("song.wav").read_bytes())
    np.testing.assert_array_equal(samples_of(finished.out)[0], expected)
    assert len(expected) == (NUM_SAMPLES if option == ("--rescale",) else 40)


def test_a_codax_file_from_standard_input_names_its_model(piped, tiny_folder):
    given = codes_bytes("song.codax", model=str(tiny_folder))
    piped("decode", "song.codax")
    finished = piped("decode", "-", given=given).assert_succeeded()
    np.testing.assert_array_equal(
        samples_of(finished.out)[0], samples_of(Path("song.wav").read_bytes())[0]
    )


def test_encodec_codes_go_through_standard_streams(piped, encodec_mono_folder):
    given = audio_bytes()
    options = ("--model", encodec_mono_folder, "--bandwidth", 3.2)
    piped("encode", "song.wav", *options)
    coded = piped("encode", "-", *options, given=given).assert_succeeded()
    assert coded.out == Path("song.codax").read_bytes()
    piped("decode", "song.codax", "-o", "back.wav")
    decoded = piped("decode", "-", given=coded.out).assert_succeeded()
    np.testing.assert_array_equal(
        samples_of(decoded.out)[0], samples_of(Path("back.wav").read_bytes())[0]
    )


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "-", "song.wav"),
        ("encode", "-", "-"),
        ("encode", "song.wav", "song.wav", "-o", "-"),
        ("encode", ".", "-o", "-"),
        ("decode", "song.dac", "-"),
        ("decode", "song.dac", "song.dac", "-o", "-"),
        ("decode", ".", "-o", "-"),
    ],
)
def test_standard_streams_go_with_one_input_that_is_no_folder(coding, arguments):
    write_audio("song.wav")
    write_codes("song.dac")
    coding(*arguments, given=b"not read").assert_failed("one INPUT")
    assert files_below() == ["song.dac", "song.wav"]


@pytest.mark.parametrize("output", [(), ("-o", "-")])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_summary_as_json_is_refused_where_standard_output_is_taken(coding, command, output):
    given = audio_bytes() if command == "encode" else codes_bytes()
    coding(command, "-", "--json", *output, given=given).assert_failed("--json", "standard output")


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_summary_as_json_goes_with_standard_input_and_an_output_file(coding, command):
    given = audio_bytes() if command == "encode" else codes_bytes()
    name = "out.dac" if command == "encode" else "out.wav"
    finished = coding(command, "-", "--json", "-o", name, given=given).assert_succeeded()
    assert b'"input": "standard input"' in finished.out
    assert f'"output": "{name}"'.encode() in finished.out


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_terminal_is_spared_what_is_no_text(coding, monkeypatch, command):
    monkeypatch.setattr(io, "TextIOWrapper", Terminal)
    given = audio_bytes() if command == "encode" else codes_bytes()
    coding(command, "-", given=given).assert_failed("terminal", "--output")


@pytest.mark.parametrize("content", [b"", b"garbage", b"RIFF\x24\0\0\0WAVEfmt ", bytes(1000)])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_garbage_on_standard_input_is_one_line_that_says_where_it_was(coding, command, content):
    finished = coding(command, "-", given=content).assert_failed("codax: standard input: ")
    for name in ("None", "object", "SpooledTemporaryFile", "BytesIO"):
        assert name not in finished.err, "standard input is called standard input"


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_garbage_that_is_kept_on_disk_is_told_of_alike(coding, monkeypatch, command):
    before = coding(command, "-", given=b"garbage").assert_failed("standard input")
    monkeypatch.setattr(pipes, "MOST_IN_MEMORY", 1)
    assert coding(command, "-", given=b"garbage") == before


def test_garbage_leaves_no_file_behind(coding):
    names = {"encode": "out.dac", "decode": "out.wav"}
    for command, name in names.items():
        coding(command, "-", "-o", name, given=b"garbage").assert_failed("standard input")
    assert files_below() == []


def test_a_missing_file_is_named_where_the_output_is_standard_output(coding):
    coding("encode", "missing.wav", "-o", "-").assert_failed("missing.wav")
    coding("decode", "missing.dac", "-o", "-").assert_failed("missing.dac")


def test_codes_cut_short_on_standard_input_write_nothing(coding):
    coding("decode", "-", given=codes_bytes()[:-10]).assert_failed("standard input")


@pytest.mark.parametrize("output", ["song.mp3", "song.dac"])
def test_formats_that_contradict_each_other_are_refused_as_they_are_for_files(coding, output):
    """`--format flac -o song.mp3`: see the test of the same in `test_encode_and_decode.py`."""
    if output == "song.dac":
        arguments, given = ("encode", "-", "--format", "packed"), audio_bytes("given.wav")
    else:
        arguments, given = ("decode", "-", "--format", "flac"), codes_bytes("given.dac")
    before = files_below()
    coding(*arguments, "-o", output, given=given).assert_failed(output)
    assert files_below() == before


def test_samples_that_are_no_numbers_fail_on_standard_output_as_in_a_file(
    piped, encodec_stereo_folder
):
    fields = {"channels_per_stream": 2, "segment_frames": (40, 40, 25)}
    scales = np.full((1, 3), 3e38, np.float32)
    codes = np.random.default_rng(0).integers(0, 16, (1, 1, 105))
    name = str(encodec_stereo_folder)
    write_codes("song.codax", codes, input_db=None, model=name, scales=scales, **fields)
    piped("decode", "song.codax", "-o", "song.wav").assert_failed("no finite numbers")
    finished = piped("decode", "song.codax", "-o", "-")
    assert finished.status == 1
    assert "no finite numbers" in finished.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), AudioError("why"), OSError(5, "why")])
def test_what_ends_the_audio_too_early_is_told_and_not_what_follows_from_it(monkeypatch, error):
    """A header that is wrong then cannot be corrected in a pipe."""

    def blocks():
        yield np.zeros((1, 10), np.float32)
        raise error

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Pipe()))
    with pytest.raises(type(error)) as told:
        pipes.play(LazyAudio(blocks(), RATE, 1, 100))
    assert told.value is error


def test_audio_longer_than_a_wav_header_can_say_is_no_crash(piped, monkeypatch):
    """2**32 bytes: 13 hours in mono at 44.1 kHz."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Pipe()))
    with contextlib.suppress(*FAILURES):
        blocks = iter([np.zeros((1, 10), np.float32)] * 2)
        pipes.play(LazyAudio(blocks, RATE, 1, 2**31))


# --- where the output goes -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_an_existing_output_is_skipped_unless_it_may_be_replaced(coding, command):
    given = audio_bytes() if command == "encode" else codes_bytes()
    name = "out.dac" if command == "encode" else "out.wav"
    Path(name).write_text("mine")
    finished = coding(command, "-", "-o", name, given=given)
    assert (finished.status, finished.out) == (0, b"")
    assert "1 skipped (output exists; --overwrite replaces it)" in finished.err
    assert Path(name).read_text() == "mine"
    coding(command, "-", "-o", name, "--overwrite", given=given).assert_succeeded()
    assert Path(name).read_bytes() != b"mine"


def test_a_file_of_that_name_is_not_standard_output(coding):
    Path("standard output").write_text("mine")
    coding("encode", "-", given=audio_bytes()).assert_succeeded()
    coding("decode", "-", given=codes_bytes()).assert_succeeded()


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_the_folder_of_an_output_file_is_made_as_it_is_for_files(coding, command):
    given = audio_bytes() if command == "encode" else codes_bytes()
    name = "new/out.dac" if command == "encode" else "new/out.wav"
    coding(command, "-", "-o", name, given=given).assert_succeeded()
    assert Path(name).is_file()


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_folder_as_output_is_refused_since_standard_input_has_no_name(coding, command, overwrite):
    given = audio_bytes() if command == "encode" else codes_bytes()
    Path("folder").mkdir()
    coding(command, "-", "-o", "folder", *overwrite, given=given).assert_failed("folder")
    assert files_below("folder") == []


def test_a_file_called_dash_is_meant_where_its_folder_is_named(coding):
    Path("sub").mkdir()
    write_audio("sub/-", format="WAV")
    coding("encode", "sub/-").assert_succeeded()
    assert files_below("sub") == ["-", "-.dac"]


# --- real pipes ----------------------------------------------------------------------------------


def start(*arguments, **streams):
    """`python -m codax`, whose standard streams are pipes unless told otherwise."""
    streams = {name: streams.get(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
    arguments = [sys.executable, "-m", "codax", *map(str, arguments)]
    environment = os.environ | {"USE_TORCH": "0"}  # transformers would take seconds to import it
    return subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, **streams)


def test_encode_and_decode_make_a_pipeline(coding, tiny_folder):
    given = audio_bytes()
    coding("encode", "song.wav")
    coding("decode", "song.dac", "-o", "back.wav")
    encoding = start("encode", "--model", tiny_folder, "-")
    decoding = start("decode", "--model", tiny_folder, "-", stdin=encoding.stdout)
    encoding.stdout.close()
    with encoding.stderr:
        encoding.stdin.write(given)
        encoding.stdin.close()
        out, err = decoding.communicate(timeout=TIMEOUT_S)
        assert (decoding.returncode, err) == (0, b"")
        assert (encoding.wait(TIMEOUT_S), encoding.stderr.read()) == (0, b"")
    samples, rate = samples_of(out)
    assert rate == RATE
    np.testing.assert_array_equal(samples, samples_of(Path("back.wav").read_bytes())[0])


@pytest.mark.usefixtures("piped")
def test_a_reader_that_leaves_early_ends_the_command_without_a_traceback(tiny_folder):
    """As `codax decode song.dac -o - | head -c 10` does."""
    codes = np.random.default_rng(0).integers(0, 16, (1, 3, LONG_S * RATE // 10 + 1))
    path = write_codes("song.dac", codes, num_samples=LONG_S * RATE, input_db=None).absolute()
    process = start("decode", "--model", tiny_folder, path, "-o", "-")
    with process.stdin, process.stderr:
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        err = process.stderr.read().decode()
        status = process.wait(TIMEOUT_S)
    assert status in (0, 1), err
    assert len(err.splitlines()) <= 1, err
    for word in ("Traceback", "Exception", "seek"):
        assert word not in err
