"""`.dac` files between codax and descript's own package, both running the same weights."""

import dataclasses
import warnings

import numpy as np
import pytest

from codax import AudioCodec, EncodedAudio
from codax.feature_extraction import measure_loudness
from tests.reference import inputs, peers
from tests.reference.variants import TINY

if reason := peers.missing_transformers() or peers.missing_descript():
    pytest.skip(reason, allow_module_level=True)

from codax.conversion import convert_checkpoint
from tests.reference import checkpoints

RATE = TINY.sampling_rate
# 5624 samples, 140.6 frames: the 141 frames of descript and of codax decode to 5632. (Of a whole
# number of frames descript cannot decode its own file, see below.)
SHORT_S = 0.703
# Of full scale: float32 sums in another order, in the networks (5e-7 as measured) and in the two
# loudness meters.
TOLERANCE = 1e-5
# A random model makes noise in the whole band. descript resamples it with julius, codax with soxr,
# whose filters differ near the lower Nyquist frequency: compared below 0.8 of it, where the largest
# difference measured was 5e-4.
RESAMPLED_BAND = 0.8
RESAMPLED_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def original_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("descript") / "weights.pth"
    return checkpoints.write_descript_file(checkpoints.make_weights(TINY), path)


@pytest.fixture(scope="module")
def codec(original_file):
    return AudioCodec.from_pretrained(
        convert_checkpoint(original_file, original_file.parent / "converted")
    )


@pytest.fixture(scope="module")
def descript(original_file):
    return checkpoints.load_descript(original_file)


@pytest.fixture(autouse=True)
def _descripts_own_warnings():
    """torch deprecates some of what descript calls; that is not ours to hear."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def speech(duration_s, rate=RATE):
    num_samples = round(duration_s * rate)
    return inputs.make_content("speech", rate, num_samples).astype(np.float32)[None]


def stereo_music(duration_s):
    names = ("music_left", "music_right")
    channels = [inputs.make_content(name, RATE, round(duration_s * RATE)) for name in names]
    return np.stack(channels).astype(np.float32) * np.float32([[1.0], [0.1]])


def compress(descript, samples, path, sampling_rate=RATE, **options):
    """descript's `.dac` file of samples [C, T]."""
    signal = peers.import_audiotools().AudioSignal(samples[None].copy(), sampling_rate)
    return descript.compress(signal, **options).save(path)


def decompress(descript, path):
    """[C, T]"""
    return descript.decompress(path).audio_data[0].numpy()


def assert_same_below(fraction, actual, expected, atol):
    """Compare the spectrum's lower part, in the time domain."""
    spectrum = np.fft.rfft(actual - expected)
    spectrum[:, int(fraction * spectrum.shape[1]) :] = 0
    np.testing.assert_allclose(np.fft.irfft(spectrum), 0, atol=atol)


# --- the same files ------------------------------------------------------------------------------


@pytest.mark.parametrize(("window_s", "duration_s"), [(0.4, 1.0), (0.5, 1.37), (1.0, 0.9)])
def test_descripts_own_chunks_have_descripts_codes(codec, descript, tmp_path, window_s, duration_s):
    samples = speech(duration_s)
    compress(descript, samples, tmp_path / "theirs.dac", win_duration=window_s)
    theirs = EncodedAudio.load(tmp_path / "theirs.dac")
    ours = codec.encode(samples, RATE, descript_window_s=window_s)
    assert theirs.padding == (duration_s <= window_s)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    for field in ("chunk_frames", "padding", "num_samples", "sampling_rate"):
        assert getattr(ours, field) == getattr(theirs, field)
    assert ours.input_db == pytest.approx(theirs.input_db, abs=1e-3)


def test_a_window_that_the_network_loses_whole_is_refused(codec):
    with pytest.raises(ValueError, match=r"descript_window_s=0.001 must be seconds, more than"):
        codec.encode(speech(1.0), RATE, descript_window_s=0.001)
    with pytest.raises(ValueError, match="descript_window_s=nan"):
        codec.encode(speech(1.0), RATE, descript_window_s=float("nan"))


# --- written by descript -------------------------------------------------------------------------


def test_a_short_file_written_by_descript_in_one_pass_decodes_as_there(codec, descript, tmp_path):
    path = compress(descript, speech(SHORT_S), tmp_path / "short.dac", win_duration=1.0)
    assert EncodedAudio.load(path).padding is True
    audio = codec.decode(path)
    assert (audio.sampling_rate, audio.samples.shape) == (RATE, (1, 5624))
    np.testing.assert_allclose(audio.samples, decompress(descript, path), atol=TOLERANCE)


def test_a_file_written_by_descript_in_chunks_decodes_as_there(codec, descript, tmp_path):
    path = compress(descript, speech(2.0), tmp_path / "long.dac", win_duration=0.5)
    encoded = EncodedAudio.load(path)
    assert encoded.padding is False
    assert encoded.num_frames > 2 * encoded.chunk_frames
    audio = codec.decode(path)
    assert audio.samples.shape == (1, 16000)
    np.testing.assert_allclose(audio.samples, decompress(descript, path), atol=TOLERANCE)


def test_a_file_of_another_rate_decodes_as_there_but_for_the_resamplers(codec, descript, tmp_path):
    path = compress(descript, speech(SHORT_S, 11025), tmp_path / "rate.dac", sampling_rate=11025)
    audio = codec.decode(path)
    expected = decompress(descript, path)
    assert audio.sampling_rate == 11025
    assert audio.samples.shape == expected.shape == (1, round(SHORT_S * 11025))
    band = RESAMPLED_BAND * RATE / 11025
    assert_same_below(band, audio.samples, expected, RESAMPLED_TOLERANCE)


def test_one_second_at_an_odd_stride_decodes_here_where_descript_raises(codec, descript, tmp_path):
    """200 frames decode to 7992 samples, but 8000 are asked for: the last 8 are silent."""
    path = compress(descript, speech(1.0), tmp_path / "second.dac")
    with pytest.raises(RuntimeError, match="invalid for input of size 7992"):
        descript.decompress(path)
    descript.padding = True  # which the failed call left as it was while it ran
    samples = codec.decode(path).samples
    assert samples.shape == (1, 8000)
    np.testing.assert_array_equal(samples[0, -8:], 0)
    assert np.abs(samples[0, :-8]).max() > 0.01


def test_stereo_by_descript_decodes_with_one_gain_for_both_channels(codec, descript, tmp_path):
    """Documented in docs/formats.md: descript brings each channel to the joint loudness alone."""
    path = compress(descript, stereo_music(SHORT_S), tmp_path / "stereo.dac")
    encoded = EncodedAudio.load(path)
    ours, theirs = codec.decode(path).samples, decompress(descript, path)
    assert ours.shape == theirs.shape == (2, 5624)

    as_decoded = codec.decode(dataclasses.replace(encoded, input_db=None)).samples
    gains = [float(one @ raw / (raw @ raw)) for one, raw in zip(ours, as_decoded, strict=True)]
    assert gains[0] == pytest.approx(gains[1], rel=1e-5)
    # To a block of the loudness meter, since each measures the audio before it is cropped.
    assert measure_loudness(ours, RATE) == pytest.approx(encoded.input_db, abs=0.3)

    for mine, other in zip(ours, theirs, strict=True):
        same_up_to_gain = other * float(mine @ other / (other @ other))
        np.testing.assert_allclose(mine, same_up_to_gain, atol=TOLERANCE)
    assert measure_loudness(theirs[:1], RATE) == pytest.approx(encoded.input_db, abs=0.3)
    assert measure_loudness(theirs[1:], RATE) == pytest.approx(encoded.input_db, abs=0.3)


# --- written by codax ----------------------------------------------------------------------------


@pytest.mark.parametrize("duration_s", [SHORT_S, 1.0])
def test_a_file_written_here_decodes_in_descript_as_here(codec, descript, tmp_path, duration_s):
    """1.0 s at an odd stride too, of which descript cannot decode its own file."""
    path = tmp_path / "ours.dac"
    samples = speech(duration_s)
    encoded = codec.encode(samples, RATE)
    encoded.save(path)
    theirs = decompress(descript, path)
    assert theirs.shape == samples.shape
    np.testing.assert_allclose(theirs, codec.decode(path).samples, atol=TOLERANCE)


def test_a_file_of_another_rate_written_here_decodes_in_descript(codec, descript, tmp_path):
    path = tmp_path / "rate.dac"
    codec.encode(speech(SHORT_S, 11025), 11025).save(path)
    theirs, ours = decompress(descript, path), codec.decode(path).samples
    assert theirs.shape == ours.shape == (1, round(SHORT_S * 11025))
    assert_same_below(RESAMPLED_BAND * RATE / 11025, ours, theirs, RESAMPLED_TOLERANCE)


def test_the_fields_of_our_file_are_those_that_descripts_loader_expects(codec, tmp_path):
    path = tmp_path / "ours.dac"
    encoded = codec.encode(speech(SHORT_S), RATE)
    encoded.save(path)
    loaded = peers.import_dac().DACFile.load(path)
    np.testing.assert_array_equal(loaded.codes.numpy(), encoded.codes)
    assert loaded.input_db == pytest.approx(encoded.input_db)
    facts = (loaded.original_length, loaded.sample_rate, loaded.channels, loaded.padding)
    assert facts == (5624, RATE, 1, True)


def test_codes_of_a_short_clip_are_those_of_descript(codec, descript, tmp_path):
    theirs = EncodedAudio.load(compress(descript, speech(SHORT_S), tmp_path / "theirs.dac"))
    ours = codec.encode(speech(SHORT_S), RATE)
    assert ours.input_db == pytest.approx(theirs.input_db, abs=1e-3)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
