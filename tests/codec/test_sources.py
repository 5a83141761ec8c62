"""What `AudioCodec` takes: files, bytes, file objects, arrays; and what it says of the rest."""

import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from codax import Audio, AudioCodec, AudioError, FormatError
from codax.formats import dac_bytes

from .pass_through import PassThroughModel

ASSETS = Path(__file__).parents[1] / "assets"
NOISE = np.random.default_rng(0).normal(0, 0.1, (2, 1000)).astype(np.float32)


@pytest.fixture
def codec():
    return AudioCodec(PassThroughModel())


def wav(samples=NOISE, sampling_rate=8000, subtype="FLOAT"):
    file = io.BytesIO()
    soundfile.write(file, samples.T, sampling_rate, format="WAV", subtype=subtype)
    return file.getvalue()


# --- to encode -----------------------------------------------------------------------------------


def test_a_codec_loads_from_a_folder(tiny_folder):
    for name in (tiny_folder, str(tiny_folder)):
        codec = AudioCodec.from_pretrained(name)
        assert codec.sampling_rate == 8000
        assert codec.encode(NOISE, 8000).codes.shape == (2, 3, 101)


def test_path_text_bytes_file_object_audio_and_array_encode_the_same(codec, tmp_path):
    path = tmp_path / "noise.wav"
    path.write_bytes(wav())
    expected = codec.encode(NOISE, 8000)
    with path.open("rb") as file:
        sources = [path, str(path), wav(), file, io.BytesIO(wav()), Audio(NOISE, 8000)]
        for source in sources:
            assert codec.encode(source) == expected
            assert codec.encode(path, sampling_rate=8000) == expected


def test_a_mono_recording_encodes_and_comes_back(codec):
    audio = codec.decode(codec.encode(ASSETS / "speech.flac"))
    info = soundfile.info(ASSETS / "speech.flac")
    assert audio.samples.shape == (1, info.frames)
    assert audio.sampling_rate == 44100


def test_a_stereo_recording_keeps_its_balance(codec):
    original, _ = soundfile.read(ASSETS / "music.flac")
    left, right = codec.decode(codec.encode(ASSETS / "music.flac")).samples
    before = original[:, 0].std() / original[:, 1].std()
    # The model runs at 8 kHz, so what is above 4 kHz is gone: hi-hat, mostly on the right.
    assert left.std() / right.std() == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize("as_array", [np.asarray, np.float64, np.asfortranarray, jnp.asarray, list])
def test_arrays_of_any_kind_encode_the_same(codec, as_array):
    assert codec.encode(as_array(NOISE), 8000) == codec.encode(NOISE, 8000)


def test_one_channel_may_lack_its_axis(codec):
    assert codec.encode(NOISE[0], 8000) == codec.encode(NOISE[:1], 8000)


def test_sixteen_bit_arrays_encode_as_the_file_of_the_same_samples(codec):
    pcm = np.int16(NOISE * 2**15)
    expected = codec.encode(wav(pcm, subtype="PCM_16"))
    assert codec.encode(pcm, 8000) == expected
    assert codec.encode(Audio(pcm, 8000)) == expected


def test_numpy_integers_are_rates(codec):
    assert codec.encode(NOISE, np.int64(16000)) == codec.encode(NOISE, 16000)


def test_arrays_need_their_sampling_rate(codec):
    with pytest.raises(AudioError, match="sampling_rate"):
        codec.encode(NOISE)


@pytest.mark.parametrize(
    "sampling_rate", [0, -8000, 768_001, float("nan"), float("inf"), 16000.0, "8000", True]
)
def test_what_is_no_rate_is_refused_by_value_before_any_work(codec, sampling_rate):
    with pytest.raises(ValueError, match=f"{sampling_rate}"):
        codec.encode(NOISE, sampling_rate)
    with pytest.raises(ValueError, match=f"{sampling_rate}"):
        codec.encode(Audio(NOISE, sampling_rate))
    assert codec.model.frames_at_once == []


def test_a_rate_that_contradicts_the_file_is_refused(codec, tmp_path):
    path = tmp_path / "noise.wav"
    path.write_bytes(wav())
    with pytest.raises(AudioError, match=r"noise\.wav: is at 8000 Hz, but sampling_rate=44100"):
        codec.encode(path, sampling_rate=44100)
    with pytest.raises(AudioError, match="audio: is at 8000 Hz, but sampling_rate=44100"):
        codec.encode(Audio(NOISE, 8000), sampling_rate=44100)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 100), (1, 2, 100), (2, 100, 1)])
@pytest.mark.parametrize("as_audio", [True, False])
def test_wrong_shapes_and_no_samples_are_refused_by_shape(codec, shape, as_audio):
    samples = np.zeros(shape, np.float32)
    with pytest.raises(AudioError, match=r"audio: has shape \(.*\); expected channels"):
        codec.encode(Audio(samples, 8000) if as_audio else samples, None if as_audio else 8000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loudness_db", [-16.0, None])
def test_samples_that_are_not_finite_are_refused(codec, value, loudness_db):
    samples = NOISE.copy()
    samples[1, 17] = value
    for source in (samples, Audio(samples, 8000)):
        with pytest.raises(AudioError, match=rf"sample at \[1, 17\] is {value}"):
            codec.encode(source, 8000, loudness_db=loudness_db)
    with pytest.raises(AudioError, match=f"is {value}"):
        codec.encode(wav(samples), loudness_db=loudness_db)


@pytest.mark.parametrize("source", [None, 3.5j, object(), [[1.0], [1.0, 2.0]], ["a"]])
def test_what_is_no_audio_is_refused_in_one_line(codec, source):
    with pytest.raises(AudioError) as refusal:
        codec.encode(source, 8000)
    assert "\n" not in str(refusal.value)


def test_a_file_without_samples_is_refused_by_name(codec, tmp_path):
    path = tmp_path / "nothing.wav"
    path.write_bytes(wav(NOISE[:, :0]))
    with pytest.raises(AudioError, match=r"nothing\.wav: holds no samples"):
        codec.encode(path)


def test_a_file_that_is_not_audio_is_refused_by_name(codec, tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("not audio")
    with pytest.raises(AudioError, match=r"text\.wav: no audio format"):
        codec.encode(path)
    with pytest.raises(AudioError, match="opened as text"), path.open() as file:
        codec.encode(file)
    with pytest.raises(FileNotFoundError):
        codec.encode(tmp_path / "missing.wav")


def test_loudness_of_more_than_five_channels_is_refused_with_the_way_out(codec):
    six = np.repeat(NOISE[:1], 6, axis=0)
    with pytest.raises(AudioError, match="5 channels"):
        codec.encode(six, 8000)
    encoded = codec.encode(six, 8000, loudness_db=None)
    assert codec.decode(encoded).channels == 6


@pytest.mark.parametrize("loudness_db", [float("nan"), float("-inf"), 1e5])
def test_a_loudness_that_is_none_is_refused_by_value(codec, loudness_db):
    with pytest.raises(ValueError, match="loudness_db"):
        codec.encode(NOISE, 8000, loudness_db=loudness_db)


def test_the_original_array_is_left_as_it_was(codec):
    samples = NOISE.copy()
    codec.encode(samples, 8000)
    np.testing.assert_array_equal(samples, NOISE)


# --- to decode -----------------------------------------------------------------------------------


def test_path_bytes_file_object_and_encoded_audio_decode_the_same(odd_model, tmp_path):
    codec = AudioCodec(odd_model)
    encoded = codec.encode(NOISE, 8000)
    path = tmp_path / "noise.dac"
    encoded.save(path)
    expected = codec.decode(encoded).samples
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file, io.BytesIO(dac_bytes(encoded))):
            # The file keeps the loudness in float32.
            np.testing.assert_allclose(codec.decode(source).samples, expected, rtol=1e-6)


def test_damaged_files_are_refused_by_name(codec, tmp_path):
    path = tmp_path / "half.dac"
    path.write_bytes(dac_bytes(codec.encode(NOISE, 8000))[:300])
    with pytest.raises(FormatError, match=r"half\.dac: "):
        codec.decode(path)
    with pytest.raises(FormatError, match="<bytes>: "):
        codec.decode(path.read_bytes())


def test_files_of_another_suffix_are_refused_by_name(codec):
    with pytest.raises(FormatError, match=r"song\.wav: the suffix is '\.wav', allowed: \.dac"):
        codec.decode("song.wav")


@pytest.mark.parametrize("source", [None, 3, NOISE, io.StringIO("text"), Audio(NOISE, 8000)])
def test_what_holds_no_codes_is_refused_in_one_line(codec, source):
    with pytest.raises((FormatError, TypeError)) as refusal:
        codec.decode(source)
    assert type(source).__name__ in str(refusal.value)
