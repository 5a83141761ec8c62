"""Laws of reading audio: what comes in as float32 [C, T], and what is refused with which words."""

import contextlib
import io
import os
import threading

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from codax.errors import AudioError
from codax.feature_extraction import AUDIO_SUFFIXES, as_float_audio, read_audio

from .assertions import assert_mentions, audio_error

SAMPLING_RATE_HZ = 16000


def stereo_noise(num_samples=4000):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, num_samples)).astype(np.float32)


def audio_bytes(samples, audio_format="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples.T, SAMPLING_RATE_HZ, format=audio_format, subtype=subtype)
    return file.getvalue()


def test_path_text_path_bytes_and_file_object_read_the_same(tmp_path):
    path = tmp_path / "noise.wav"
    path.write_bytes(audio_bytes(stereo_noise(), subtype="FLOAT"))
    with path.open("rb") as file:
        readings = [read_audio(source) for source in (path, str(path), path.read_bytes(), file)]
    for samples, sampling_rate in readings:
        assert sampling_rate == SAMPLING_RATE_HZ
        assert samples.dtype == np.float32
        assert samples.flags.c_contiguous
        np.testing.assert_array_equal(samples, stereo_noise())


def test_file_object_that_cannot_seek_is_read():
    class Pipe:
        def read(self):
            return audio_bytes(stereo_noise())

    assert read_audio(Pipe())[0].shape == (2, 4000)


@pytest.mark.parametrize("audio_format", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "W64"])
def test_formats_are_recognised_by_content(audio_format):
    samples, sampling_rate = read_audio(audio_bytes(stereo_noise(), audio_format))
    assert samples.shape == (2, 4000)
    assert sampling_rate == SAMPLING_RATE_HZ


def test_sixteen_bit_file_is_scaled_by_full_scale():
    pcm = np.array([[-(2**15), -1, 0, 1, 2**15 - 1]], np.int16)
    samples, _ = read_audio(audio_bytes(pcm))
    np.testing.assert_array_equal(samples, pcm / 2.0**15)


def test_float_file_keeps_samples_beyond_full_scale():
    samples, _ = read_audio(audio_bytes(np.array([[1.5, -2.0]]), subtype="FLOAT"))
    np.testing.assert_array_equal(samples, [[1.5, -2.0]])


def test_file_longer_than_one_block_is_read_whole(monkeypatch):
    monkeypatch.setattr("codax.feature_extraction.audio_input._BLOCK_SIZE", 1000)
    samples, _ = read_audio(audio_bytes(stereo_noise(), subtype="FLOAT"))
    np.testing.assert_array_equal(samples, stereo_noise())


def test_file_without_samples_keeps_its_channels():
    samples, _ = read_audio(audio_bytes(np.zeros((2, 0))))
    assert samples.shape == (2, 0)


def test_text_named_wav_is_refused_with_the_readable_formats(tmp_path):
    path = tmp_path / "lyrics.wav"
    path.write_text("la la la\n" * 100)
    message = audio_error(read_audio, path)
    assert_mentions(message, "lyrics.wav", ".flac")


def test_m4a_is_refused_with_the_advice_to_convert(tmp_path):
    path = tmp_path / "song.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(200))
    message = audio_error(read_audio, path)
    assert_mentions(message, "song.m4a", "convert .m4a", ".wav")
    assert ".m4a" not in AUDIO_SUFFIXES


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "nothing.wav"
    path.touch()
    assert "nothing.wav" in audio_error(read_audio, path)


@pytest.mark.parametrize("num_bytes", [4, 12, 20, 40])
def test_truncated_wav_header_is_refused(tmp_path, num_bytes):
    path = tmp_path / "cut.wav"
    path.write_bytes(audio_bytes(stereo_noise())[:num_bytes])
    assert "cut.wav" in audio_error(read_audio, path)


def test_flac_cut_in_the_middle_is_refused():
    flac = audio_bytes(stereo_noise(40000), "FLAC")
    assert "audio bytes" in audio_error(read_audio, flac[: len(flac) // 2])


def test_flac_that_promises_billions_of_samples_does_not_ask_for_their_memory():
    flac = bytearray(audio_bytes(stereo_noise(), "FLAC"))
    flac[21] |= 0x0F  # the 36-bit number of samples in STREAMINFO
    flac[22:26] = b"\xff" * 4
    with contextlib.suppress(AudioError):
        assert read_audio(bytes(flac))[0].shape == (2, 4000)


def test_wav_with_zero_channels_is_refused(tmp_path):
    wav = bytearray(audio_bytes(stereo_noise()))
    wav[22:24] = b"\0\0"
    path = tmp_path / "none.wav"
    path.write_bytes(wav)
    message = audio_error(read_audio, path)
    assert_mentions(message, "none.wav", "Channel count is zero")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_sample_in_a_float_file_is_named_by_channel_and_index(tmp_path, value):
    samples = stereo_noise()
    samples[1, 17:20] = value
    path = tmp_path / "broken.wav"
    path.write_bytes(audio_bytes(samples, subtype="FLOAT"))
    message = audio_error(read_audio, path)
    assert_mentions(message, "broken.wav", "[1, 17]", str(value))


def test_paths_that_cannot_be_opened_give_os_errors_that_name_them(tmp_path):
    for path in (tmp_path, tmp_path / "absent.wav"):
        with pytest.raises(OSError, match=path.name):
            read_audio(path)


def test_file_opened_as_text_is_refused(tmp_path):
    path = tmp_path / "noise.wav"
    path.write_text("text")
    with path.open() as file:
        assert "'rb'" in audio_error(read_audio, file)


@settings(deadline=None)  # a busy machine is no fault
@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM"]))
def test_any_bytes_give_samples_or_an_audio_error(content, magic):
    with contextlib.suppress(AudioError):
        samples, sampling_rate = read_audio(magic + content)
        assert samples.ndim == 2
        assert sampling_rate > 0


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_signed_pcm_is_divided_by_full_scale(dtype):
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    samples = as_float_audio(np.array([lowest, 0, lowest // 2, highest], dtype))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples[:3], [-1.0, 0.0, -0.5])
    assert samples[3] == np.float32(highest / -lowest)


def test_unsigned_bytes_are_silent_at_128():
    samples = as_float_audio(np.array([0, 128, 192, 255], np.uint8))
    np.testing.assert_array_equal(samples, [-1.0, 0.0, 0.5, 127 / 128])


def test_big_endian_pcm_is_pcm():
    np.testing.assert_array_equal(as_float_audio(np.array([2**14], ">i2")), [0.5])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_any_width_become_float32_of_the_same_shape(dtype):
    samples = as_float_audio(np.full((2, 3, 4), 0.25, dtype))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, np.full((2, 3, 4), 0.25))


@pytest.mark.parametrize(
    "array",
    [[True, False], [1j], [None, 0.5], ["0.5"], [0, 1], np.zeros(3, np.uint16), {"array": [0.0]}],
    ids=str,
)
def test_types_without_a_meaning_as_samples_are_refused_by_name(array):
    assert str(np.asarray(array).dtype) in audio_error(as_float_audio, array)


def test_ragged_lists_are_refused():
    assert "clip 3" in audio_error(as_float_audio, [[0.0, 0.5], [0.0]], "clip 3")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_float32_cannot_hold_are_refused_with_their_position(value):
    array = np.zeros(10)
    array[[4, 7]] = value
    message = audio_error(as_float_audio, array, "raw_audio[2]")
    assert message.startswith("raw_audio[2]: ")
    assert "[4]" in message


def test_a_named_pipe_is_read_once_and_whole(tmp_path):
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    content = audio_bytes(stereo_noise(), subtype="FLOAT")
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    samples, _ = read_audio(path)
    writer.join()
    np.testing.assert_array_equal(samples, stereo_noise())
