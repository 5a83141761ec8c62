"""`Audio`: what is saved, in which format, and that nothing half-written takes its place."""

import numpy as np
import pytest
import soundfile

from codax import Audio, AudioError

NOISE = Audio(np.random.default_rng(0).uniform(-0.9, 0.9, (2, 8000)).astype(np.float32), 8000)
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def test_properties_follow_from_the_samples():
    audio = Audio(np.zeros((2, 12000), np.float32), 8000)
    assert (audio.channels, audio.num_samples, audio.duration_s) == (2, 12000, 1.5)


@pytest.mark.parametrize("suffix", [*FORMATS, ".WAV", ".Flac"])
def test_the_suffix_chooses_the_format(tmp_path, suffix):
    path = NOISE.save(tmp_path / f"noise{suffix}")
    info = soundfile.info(path)
    assert (info.format, info.subtype) == FORMATS[suffix.lower()]
    assert (info.samplerate, info.channels) == (8000, 2)
    assert [found.name for found in tmp_path.iterdir()] == [f"noise{suffix}"]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sixteen_bit_files_hold_the_samples_to_half_a_step(tmp_path, suffix):
    samples, _ = soundfile.read(NOISE.save(tmp_path / f"noise{suffix}"))
    # libsndfile scales by 2^15 - 1 when it writes and by 2^15 when it reads: half a step and one.
    np.testing.assert_allclose(samples.T, NOISE.samples, atol=1.5 * 2**-15)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_exceeds_full_scale_is_clipped_and_does_not_wrap_around(tmp_path, suffix):
    loud = Audio(np.float32([[1.5, -1.5, 1.0, -1.0, 100.0]]), 8000)
    samples, _ = soundfile.read(loud.save(tmp_path / f"loud{suffix}"))
    np.testing.assert_allclose(samples, [1, -1, 1, -1, 1], atol=2**-15)


def test_another_sample_format_may_be_asked_for(tmp_path):
    path = NOISE.save(tmp_path / "noise.wav", subtype="FLOAT")
    samples, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(samples.T, NOISE.samples)


@pytest.mark.parametrize(
    ("audio", "name", "subtype"),
    [
        (NOISE, "noise.dac", None),
        (NOISE, "noise", None),
        (NOISE, "noise.flac", "FLOAT"),
        (NOISE, "noise.wav", "NO_SUCH_SUBTYPE"),
        (Audio(np.zeros((2, 9), np.float32), 96000), "noise.mp3", None),
        (Audio(np.zeros((9, 9), np.float32), 8000), "noise.flac", None),
        (Audio(np.zeros((2000, 9), np.float32), 8000), "noise.wav", None),
    ],
)
def test_what_a_format_cannot_hold_is_refused_in_one_line_and_not_written(
    tmp_path, audio, name, subtype
):
    with pytest.raises(AudioError) as refusal:
        audio.save(tmp_path / name, subtype)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / name}: ")
    assert "\n" not in message
    assert not any(tmp_path.iterdir())


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match=r"/no/such/folder/noise\.wav"):
        NOISE.save("/no/such/folder/noise.wav")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("missing_bytes", [1, 1000, 100_000])
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(
    tmp_path, largest_file, suffix, missing_bytes
):
    """Encoders hold samples back until the file is closed, where libsndfile ignores errors."""
    path = NOISE.save(tmp_path / f"noise{suffix}")
    old_content = path.read_bytes()
    too_few = max(0, len(old_content) - missing_bytes)
    with largest_file(too_few), pytest.raises((OSError, AudioError)) as failure:
        NOISE.save(path)
    assert str(path) in str(failure.value)
    assert "/." not in str(failure.value), "the temporary file is nobody's business"
    assert path.read_bytes() == old_content
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_as_such(tmp_path, largest_file):
    with largest_file(1000), pytest.raises((OSError, AudioError), match="File too large"):
        NOISE.save(tmp_path / "noise.wav")


@pytest.mark.parametrize("suffix", FORMATS)
def test_long_audio_reaches_libsndfile_in_pieces(tmp_path, monkeypatch, suffix):
    """Its Vorbis encoder keeps all of one call on the stack: a minute in one call is a crash."""
    write = soundfile.SoundFile.write

    def write_piece(file, samples):
        assert len(samples) <= 2**16
        write(file, samples)

    monkeypatch.setattr(soundfile.SoundFile, "write", write_piece)
    silence = Audio(np.zeros((1, 60 * 8000), np.float32), 8000)
    path = silence.save(tmp_path / f"minute{suffix}")
    assert soundfile.info(path).frames == 60 * 8000
