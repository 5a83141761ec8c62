"""Excerpts: where they lie, how loud they are, what is read of a clip."""

import numpy as np
import pytest
import soundfile

from codax import Audio, AudioError
from codax.feature_extraction import measure_loudness, resample
from codax.training.excerpts import ExcerptShape, excerpt_at, open_clip, salient_excerpt
from tests.reference.peers import import_audiotools, missing_descript

from .clips import noise, write

RATE = 8000
SHAPE = ExcerptShape(RATE, 1, 0.1)

# soxr computes in float32: 8 times its spacing at 1, which noise of 0.1 does not exceed.
RESAMPLING_TOLERANCE = 1e-6


class Places:
    """In place of a generator: excerpts that begin at given samples."""

    def __init__(self, *starts):
        self._starts = iter(starts)

    def integers(self, last, endpoint):
        return next(self._starts)


class Recorder:
    """A clip that counts what is read of it."""

    def __init__(self, clip):
        self._clip = clip
        self.reads = []

    def __getattr__(self, name):
        return getattr(self._clip, name)

    def read(self, start, stop):
        self.reads.append(stop - start)
        return self._clip.read(start, stop)


@pytest.fixture
def audio():
    return Audio(noise(1, RATE), RATE)


# --- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [48000, 6000, 22051], ids="from {} Hz".format)
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_an_excerpt_equals_that_part_of_the_clip_resampled_whole(tmp_path, rate, suffix):
    samples = noise(1, 2 * rate + 7)
    path = write(tmp_path / f"clip{suffix}", samples, rate)
    whole = resample(soundfile.read(path, dtype="float32", always_2d=True)[0].T, rate, RATE)
    last = whole.shape[1] - SHAPE.num_samples
    with open_clip(path) as clip:
        assert SHAPE.samples_in(clip) == whole.shape[1]
        for start in (0, 1, 1234, last - 1, last):
            excerpt = excerpt_at(clip, start, SHAPE)
            expected = whole[:, start : start + SHAPE.num_samples]
            np.testing.assert_allclose(excerpt, expected, rtol=0, atol=RESAMPLING_TOLERANCE)


def test_an_excerpt_at_the_rate_of_the_clip_is_a_copy_of_its_samples(audio):
    with open_clip(audio) as clip:
        excerpt = excerpt_at(clip, 123, SHAPE)
    np.testing.assert_array_equal(excerpt, audio.samples[:, 123:923])
    assert not np.shares_memory(excerpt, audio.samples)


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_files_give_what_the_same_audio_in_memory_gives(tmp_path, audio, kind):
    path = write(tmp_path / "clip.wav", audio.samples, RATE)
    with open_clip(path if kind == "path" else path.read_bytes()) as clip, open_clip(audio) as same:
        np.testing.assert_array_equal(excerpt_at(clip, 5, SHAPE), excerpt_at(same, 5, SHAPE))


def test_no_more_is_read_than_an_excerpt_and_its_context(tmp_path):
    path = write(tmp_path / "clip.wav", noise(1, 10 * 48000), 48000)
    with open_clip(path) as clip:
        recorder = Recorder(clip)
        excerpt_at(recorder, 5 * RATE, SHAPE)
    # The excerpt has 4800 samples at 48 kHz, its context 256 at 8 kHz on both sides.
    [read] = recorder.reads
    assert 4800 <= read <= 4800 + 2 * (256 * 6 + 6)


def test_all_places_are_drawn_and_none_beyond_the_end(audio):
    generator = np.random.default_rng(0)
    short = ExcerptShape(RATE, 1, 3 / RATE)
    ramp = Audio(np.arange(1, 7, dtype=np.float32)[None] / 8, RATE)
    with open_clip(ramp) as clip:
        first = {float(salient_excerpt(clip, short, generator, None)[0, 0]) for _ in range(100)}
    assert first == {1 / 8, 2 / 8, 3 / 8, 4 / 8}


@pytest.mark.parametrize("rate", [RATE, 6000])
def test_what_a_short_clip_lacks_is_silence_at_its_end(rate):
    samples = noise(1, 300)
    with open_clip(Audio(samples, rate)) as clip:
        excerpt = salient_excerpt(clip, SHAPE, np.random.default_rng(0))
    inside = resample(samples, rate, RATE)
    np.testing.assert_allclose(excerpt[:, : inside.shape[1]], inside, atol=RESAMPLING_TOLERANCE)
    assert excerpt.shape == (1, 800)
    assert not excerpt[:, inside.shape[1] :].any()


# --- channels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 6])
def test_many_channels_are_mixed_to_mono_by_their_mean(channels):
    samples = noise(channels, RATE)
    with open_clip(Audio(samples, RATE)) as clip:
        excerpt = salient_excerpt(clip, SHAPE, Places(7, 7, 7, 7, 7, 7, 7, 7))
    expected = samples[:, 7:807].mean(axis=0, keepdims=True)
    np.testing.assert_allclose(excerpt, expected, atol=1e-7)  # one rounding of float32


def test_mono_is_repeated_for_a_stereo_model(audio):
    with open_clip(audio) as clip:
        left, right = excerpt_at(clip, 7, ExcerptShape(RATE, 2, 0.1))
    np.testing.assert_array_equal(left, audio.samples[0, 7:807])
    np.testing.assert_array_equal(right, left)


def test_channels_that_cannot_be_mixed_are_refused_with_the_name_of_the_clip():
    three = Audio(noise(3, RATE), RATE)
    with (
        open_clip(three, "three.wav") as clip,
        pytest.raises(AudioError, match=r"three\.wav: 3 chan.* cannot be mixed to 2"),
    ):
        excerpt_at(clip, 0, ExcerptShape(RATE, 2, 0.1))


# --- loudness ------------------------------------------------------------------------------------


@pytest.mark.skipif(missing_descript() is not None, reason=str(missing_descript()))
@pytest.mark.parametrize(("rate", "channels"), [(22050, 1), (16000, 2)])
def test_the_excerpt_taken_is_the_one_that_audiotools_takes(tmp_path, monkeypatch, rate, channels):
    """Of passages each 0.25 dB louder than the one before, around -40 LUFS."""
    audiotools = import_audiotools()
    # In place of torchaudio's: of a file's duration.
    monkeypatch.setattr(audiotools.core.util, "info", soundfile.info)
    samples = noise(channels, 8 * rate)
    loudness = measure_loudness(samples, rate)
    steps = np.repeat(np.arange(-4, 4) * 0.25, rate)
    samples *= (10 ** ((steps - 40 - loudness) / 20)).astype(np.float32)
    path = write(tmp_path / "clip.wav", samples, rate)

    class Drawn(np.random.RandomState):
        offsets = iter(range(8))

        def uniform(self, low, high):
            return float(next(self.offsets))

    expected = audiotools.AudioSignal.salient_excerpt(
        path, loudness_cutoff=-40, state=Drawn(0), duration=0.5
    )
    shape = ExcerptShape(rate, 1, 0.5)
    with open_clip(path) as clip:
        recorder = Recorder(clip)
        excerpt = salient_excerpt(recorder, shape, Places(*range(0, 8 * rate, rate)))
    assert 1 < len(recorder.reads) < 8
    assert expected.metadata["offset"] == len(recorder.reads) - 1
    expected = expected.to_mono().audio_data[0].numpy()
    np.testing.assert_allclose(excerpt, expected, rtol=0, atol=1e-8)  # one rounding at 0.01


def test_quiet_passages_are_drawn_again(audio):
    samples = np.concatenate([np.zeros((1, RATE)), audio.samples], axis=1, dtype=np.float32)
    with open_clip(Audio(samples, RATE)) as clip:
        excerpt = salient_excerpt(clip, SHAPE, Places(0, 100, RATE))
        np.testing.assert_array_equal(excerpt, audio.samples[:, :800])
        first = salient_excerpt(clip, SHAPE, Places(0), loudness_cutoff_db=None)
    assert not first.any()


def test_the_eighth_passage_is_taken_however_quiet():
    ramp = np.linspace(0, 1e-5, RATE, dtype=np.float32)[None]
    with open_clip(Audio(ramp, RATE)) as clip:
        excerpt = salient_excerpt(clip, SHAPE, Places(*range(100)))
    np.testing.assert_array_equal(excerpt, ramp[:, 7:807])


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 1.0), "sampling_rate=0 must be"),
        ((8000.0, 1, 1.0), r"sampling_rate=8000\.0 must be"),
        ((RATE, 0, 1.0), "channels=0 must be"),
        ((RATE, 1, 0.0), r"duration_s=0\.0 must be"),
        ((RATE, 1, -1.0), r"duration_s=-1\.0 must be"),
        ((RATE, 1, float("nan")), "duration_s=nan must be"),
        ((RATE, 1, "1"), "duration_s='1' must be"),
    ],
)
def test_shapes_that_no_excerpt_has_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ExcerptShape(*values)


def test_what_is_no_audio_is_refused_with_its_name(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "bare.raw").write_bytes(bytes(100))
    write(tmp_path / "empty.wav", np.zeros((1, 0), np.float32), RATE)
    for name, message in (
        ("text.wav", "cannot be read as audio"),
        ("bare.raw", "cannot be read as audio"),
        ("empty.wav", "holds no samples"),
    ):
        with pytest.raises(AudioError, match=f"{name}: {message}"), open_clip(tmp_path / name):
            pass
    with pytest.raises(FileNotFoundError), open_clip(tmp_path / "none.wav"):
        pass


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    samples = noise(1, RATE)
    samples[0, 500] = np.nan
    path = write(tmp_path / "nan.wav", samples, RATE)
    with open_clip(path) as clip, pytest.raises(AudioError, match=r"nan\.wav: .*is nan"):
        excerpt_at(clip, 100, SHAPE)


@pytest.mark.parametrize("rate", [0, -1, 8000.5])
def test_arrays_of_impossible_rates_are_refused(rate):
    with (
        pytest.raises(AudioError, match=f"a.wav: sampling_rate={rate} must be"),
        open_clip(Audio(noise(1, 100), rate), "a.wav"),
    ):
        pass


def test_a_file_that_promises_more_than_it_has_is_refused(tmp_path):
    path = write(tmp_path / "cut.flac", noise(1, 2 * RATE), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_clip(path) as clip:
        assert clip.num_samples == 2 * RATE
        assert excerpt_at(clip, 0, SHAPE).any()
        with pytest.raises(AudioError, match=r"cut\.flac: "):
            excerpt_at(clip, 2 * RATE - 800, SHAPE)
