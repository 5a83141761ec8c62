"""Audio that is made while it is saved: the same file, in memory that does not grow with it."""

import dataclasses
import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from codax import AudioCodec, AudioError, EncodedAudio
from codax.codec import Audio, spool
from codax.feature_extraction import AudioBlocks, audio_input

from .pass_through import HOP_LENGTH, QUANTISATION_STEP, PassThroughModel

RATE = 8000
CHUNKS = {
    "encode_chunk_length_s": 0.25,
    "decode_chunk_length_s": 0.25,
    "decode_chunk_mode": "exact",
}
SUFFIXES = [".wav", ".flac", ".ogg", ".mp3"]
LOUDNESS = [None, -26.0, (-20.0, -35.0)]


@pytest.fixture(scope="module")
def codec():
    """It decodes in chunks of a quarter of a second."""
    return AudioCodec(PassThroughModel(**CHUNKS))


@pytest.fixture(scope="module")
def clip(codec):
    """Of 2.5 s in stereo, its right channel softer."""
    tones = np.sin(np.arange(20_000) * np.array([[0.05], [0.3]])) * [[0.5], [0.1]]
    noise = np.random.default_rng(0).normal(0, 0.05, tones.shape)
    return codec.encode(np.float32(tones + noise), RATE, loudness_db=None)


@pytest.fixture
def on_disk(monkeypatch):
    """What is kept for later goes into a file from its first block on."""
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 100)


def numbered_alike(content):
    """An Ogg stream without its number, which is chosen at random, and the sums that count it."""
    content, position = bytearray(content), 0
    while position < len(content):
        assert content[position : position + 4] == b"OggS"
        content[position + 14 : position + 18] = bytes(4)
        content[position + 22 : position + 26] = bytes(4)
        lengths = content[position + 27 :][: content[position + 26]]
        position += 27 + len(lengths) + sum(lengths)
    return bytes(content)


def assert_same_files(one, other):
    one, other = one.read_bytes(), other.read_bytes()
    assert len(one) > 1000
    if one.startswith(b"OggS"):
        one, other = numbered_alike(one), numbered_alike(other)
    assert one == other


# --- the same audio ------------------------------------------------------------------------------


@pytest.mark.parametrize("input_db", LOUDNESS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_is_that_of_the_audio_in_memory(codec, clip, tmp_path, suffix, input_db):
    clip = dataclasses.replace(clip, input_db=input_db)
    at_once = codec.decode(clip).save(tmp_path / f"at once{suffix}")
    lazily = codec.decode_lazily(clip).save(tmp_path / f"lazily{suffix}")
    assert_same_files(lazily, at_once)
    assert sorted(path.name for path in tmp_path.iterdir()) == [at_once.name, lazily.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_of_a_resampled_clip_is_the_same_too(codec, clip, tmp_path, suffix):
    clip = dataclasses.replace(clip, sampling_rate=11025, num_samples=27_000)
    at_once = codec.decode(clip).save(tmp_path / f"at once{suffix}")
    assert_same_files(codec.decode_lazily(clip).save(tmp_path / f"lazily{suffix}"), at_once)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24", "DOUBLE"])
def test_another_sample_format_may_be_asked_for(codec, clip, tmp_path, subtype):
    path = codec.decode_lazily(clip).save(tmp_path / "song.wav", subtype)
    assert soundfile.info(path).subtype == subtype
    samples, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(samples.T, codec.decode(clip).samples, atol=2**-23)


def test_a_real_model_writes_the_same_file_as_well(odd_model, tmp_path):
    codec = AudioCodec(odd_model)
    codes = np.random.default_rng(0).integers(0, 16, (1, 3, 200))
    clip = EncodedAudio(codes, RATE, 1995, input_db=-23.0)
    at_once = codec.decode(clip).save(tmp_path / "at once.wav")
    assert_same_files(codec.decode_lazily(clip).save(tmp_path / "lazily.wav"), at_once)


def test_a_real_model_writes_a_span_lazily(odd_model, tmp_path):
    codec = AudioCodec(odd_model)
    codes = np.random.default_rng(0).integers(0, 16, (1, 3, 200))
    clip = EncodedAudio(codes, RATE, 1995)
    at_once = codec.decode(clip, 0.05, 0.15).save(tmp_path / "at once.wav")
    assert_same_files(codec.decode_lazily(clip, 0.05, 0.15).save(tmp_path / "lazily.wav"), at_once)


def test_blocks_one_after_the_other_are_the_audio(codec, clip):
    audio = codec.decode_lazily(clip)
    blocks = list(audio)
    assert len(blocks) >= 10, "of a quarter of a second each"
    for block in blocks:
        assert (block.dtype, block.shape[0]) == (np.float32, 2)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), codec.decode(clip).samples)


def test_what_it_is_is_known_before_it_is_made(clip):
    model = PassThroughModel(**CHUNKS)
    audio = AudioCodec(model).decode_lazily(clip)
    assert (audio.sampling_rate, audio.channels, audio.num_samples) == (RATE, 2, 20_000)
    assert audio.duration_s == 2.5
    assert model.frames_at_once == []
    next(iter(audio))
    assert 0 < sum(model.frames_at_once) < 2 * clip.num_frames / 2


def test_read_gives_what_decode_gives(codec, clip):
    read, decoded = codec.decode_lazily(clip).read(), codec.decode(clip)
    assert read.sampling_rate == decoded.sampling_rate
    np.testing.assert_array_equal(read.samples, decoded.samples)


def test_codes_that_do_not_fit_are_refused_at_once(codec, clip):
    with pytest.raises(ValueError, match="allowed: up to the"):
        codec.decode_lazily(dataclasses.replace(clip, num_samples=30_000))


# --- what has to be heard before it can be written -----------------------------------------------


def loud(clip):
    """Far beyond full scale."""
    return dataclasses.replace(clip, input_db=0.0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rescaled_it_is_the_audio_without_clipping(codec, clip, tmp_path, suffix):
    audio = codec.decode(loud(clip))
    assert np.abs(audio.samples).max() > 1.2
    at_once = audio.without_clipping().save(tmp_path / f"at once{suffix}")
    lazily = codec.decode_lazily(loud(clip), rescale=True).save(tmp_path / f"lazily{suffix}")
    assert_same_files(lazily, at_once)


def test_of_a_span_the_loudest_sample_of_the_span_counts(codec, clip):
    samples = np.zeros((1, 20_000), np.float32)
    samples[0, 1000], samples[0, 15_000] = 1.0, 0.5
    clip = dataclasses.replace(codec.encode(samples, RATE, loudness_db=None), input_db=-15.0)
    whole, part = codec.decode(clip), codec.decode(clip, 1.5)
    assert np.abs(part.samples).max() > 1, "both are too loud"
    lazily = codec.decode_lazily(clip, 1.5, rescale=True).read()
    np.testing.assert_array_equal(lazily.samples, part.without_clipping().samples)
    assert np.abs(lazily.samples).max() == pytest.approx(0.99)
    np.testing.assert_array_equal(
        codec.decode_lazily(clip, rescale=True).read().samples, whole.without_clipping().samples
    )


def test_audio_that_does_not_clip_is_not_rescaled(codec, clip):
    rescaled = codec.decode_lazily(clip, rescale=True).read().samples
    np.testing.assert_array_equal(rescaled, codec.decode(clip).samples)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("input_db", LOUDNESS)
def test_what_memory_does_not_hold_goes_through_a_file_unchanged(
    codec, clip, monkeypatch, input_db, rescale
):
    clip = dataclasses.replace(clip, input_db=input_db)
    in_memory = codec.decode_lazily(clip, rescale=rescale).read().samples
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 100)
    on_disk = codec.decode_lazily(clip, rescale=rescale).read().samples
    np.testing.assert_array_equal(on_disk, in_memory)


@pytest.mark.usefixtures("on_disk")
def test_iteration_that_is_given_up_leaves_no_file_open(codec, clip):
    """Warnings are errors here, those of unclosed files too."""
    audio = codec.decode_lazily(loud(clip), rescale=True)
    blocks = iter(audio)
    next(blocks)
    blocks.close()


# --- samples that are no numbers -----------------------------------------------------------------


class BrokenModel(PassThroughModel):
    """One sample of each chunk is not finite."""

    value = np.nan

    def _decode(self, audio_codes):
        output = super()._decode(audio_codes)
        output.audio_values[:, 777] = self.value
        return output


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("input_db", [None, -26.0])
@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_samples_that_are_not_finite_are_refused_and_nothing_is_written(
    clip, tmp_path, value, rescale, input_db, suffix
):
    model = BrokenModel(**CHUNKS)
    model.value = value
    path = tmp_path / f"song{suffix}"
    path.write_text("mine")
    clip = dataclasses.replace(clip, input_db=input_db)
    with pytest.raises(AudioError, match="no finite numbers") as refusal:
        AudioCodec(model).decode_lazily(clip, rescale=rescale).save(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


# --- memory --------------------------------------------------------------------------------------

SHORT_S, LONG_S = 10, 200
# Of what a longer clip adds, float32 in one channel, this much may be held at a time at most.
FLOATS = 4 * RATE * (LONG_S - SHORT_S)
FRACTION = 0.1


class ThriftyModel(PassThroughModel):
    """Codes are a 40th of the samples: the first of each frame, which all of it repeats."""

    def _encode(self, input_values):
        output = super()._encode(input_values)
        return output.replace(audio_codes=output.audio_codes[:, :1])

    def _decode(self, audio_codes):
        return super()._decode(np.repeat(audio_codes, HOP_LENGTH, axis=1))


@pytest.fixture
def thrifty(monkeypatch):
    """Its codec, with blocks and files of what is kept that are small beside `SHORT_S`."""
    monkeypatch.setattr(audio_input, "_BLOCK_SIZE", 1 << 14)
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 1 << 16)
    return AudioCodec(ThriftyModel(**CHUNKS))


def write_noise(path, duration_s, sampling_rate=RATE, **options):
    samples = np.random.default_rng(0).normal(0, 0.1, round(duration_s * sampling_rate))
    soundfile.write(path, samples, sampling_rate, **options)
    return path


def peak_of(work):
    """(what `work` gives, the most bytes that were allocated meanwhile)"""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sampling_rate", [RATE, 11025])
@pytest.mark.parametrize("loudness_db", [None, -16.0])
def test_encoding_a_file_takes_no_more_memory_for_a_long_one(
    thrifty, tmp_path, loudness_db, sampling_rate
):
    def peak(duration_s):
        path = write_noise(tmp_path / f"{duration_s}.wav", duration_s, sampling_rate)
        clip, most = peak_of(lambda: thrifty.encode(path, n_quantizers=1, loudness_db=loudness_db))
        assert clip.duration_s == duration_s
        return most - 3 * clip.codes.nbytes  # in pieces, together, and checked

    peak(1)  # what is imported and made once
    short, long = peak(SHORT_S), peak(LONG_S)
    assert long - short < FRACTION * FLOATS


@pytest.mark.parametrize(
    ("sampling_rate", "suffix"),
    [
        (RATE, ".wav"),
        (11025, ".flac"),
        pytest.param(RATE, ".flac", marks=pytest.mark.full),
        pytest.param(11025, ".wav", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize(
    ("input_db", "rescale"), [(None, False), (None, True), (-16.0, False), (3.0, True)]
)
def test_decoding_to_a_file_takes_no_more_memory_for_a_long_one(
    thrifty, tmp_path, input_db, rescale, sampling_rate, suffix
):
    def peak(duration_s):
        frames = duration_s * RATE // HOP_LENGTH + 1
        codes = np.random.default_rng(0).integers(20_000, 45_000, (1, 1, frames))
        length = duration_s * sampling_rate
        clip = EncodedAudio(codes.astype(np.int32), sampling_rate, length, input_db)
        del codes
        path, most = peak_of(
            lambda: thrifty.decode_lazily(clip, rescale=rescale).save(tmp_path / f"song{suffix}")
        )
        assert soundfile.info(path).frames == length
        return most - 3 * clip.codes.nbytes

    peak(1)
    short, long = peak(SHORT_S), peak(LONG_S)
    assert long - short < FRACTION * FLOATS


def test_a_long_span_takes_no_more_memory_than_a_short_one(thrifty, tmp_path):
    codes = np.full((1, 1, LONG_S * RATE // HOP_LENGTH + 1), 40_000, np.int32)
    clip = EncodedAudio(codes, RATE, LONG_S * RATE)

    def peak(end_s):
        audio = thrifty.decode_lazily(clip, 1, end_s)
        _, most = peak_of(lambda: audio.save(tmp_path / "song.wav"))
        return most

    peak(2)
    short, long = peak(SHORT_S), peak(LONG_S)
    assert long - short < FRACTION * FLOATS


def test_what_is_measured_here_does_grow_where_audio_is_held(thrifty):
    """Else the tests above would say little."""

    def peak(duration_s):
        codes = np.full((1, 1, duration_s * RATE // HOP_LENGTH + 1), 40_000, np.int32)
        return peak_of(lambda: thrifty.decode(EncodedAudio(codes, RATE, duration_s * RATE)))[1]

    assert peak(LONG_S) - peak(SHORT_S) > 0.9 * FLOATS


# --- files in blocks -----------------------------------------------------------------------------

MORE_THAN_A_BLOCK = (1 << 20) + 1234


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_is_read_in_blocks(tmp_path, suffix, channels):
    path = tmp_path / f"song{suffix}"
    noise = np.random.default_rng(0).integers(-9999, 9999, (MORE_THAN_A_BLOCK, channels))
    soundfile.write(path, noise.astype(np.int16), RATE)
    blocks = AudioBlocks(path)
    lengths = [block.shape[1] for block in blocks]
    assert len(lengths) == channels + 1
    assert max(lengths) <= (1 << 20) // channels
    for _ in range(2):  # as often as one likes
        samples = np.concatenate([*blocks], axis=1)
        np.testing.assert_array_equal(samples, np.float32(noise.T / 2**15))


@pytest.mark.parametrize("loudness_db", [None, -16.0])
def test_codes_of_a_file_of_several_blocks_are_those_of_its_samples(tmp_path, loudness_db):
    codec = AudioCodec(PassThroughModel(encode_chunk_length_s=10.0))
    path = write_noise(tmp_path / "song.wav", MORE_THAN_A_BLOCK / RATE)
    samples, _ = soundfile.read(path, dtype="float32")
    expected = codec.encode(samples, RATE, loudness_db=loudness_db)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        encoded = codec.encode(source, loudness_db=loudness_db)
        assert encoded.num_samples == MORE_THAN_A_BLOCK
        if loudness_db is None:
            np.testing.assert_array_equal(encoded.codes, expected.codes)
            continue
        # Sums of a loudness in another order may move a sample by a step of 16 bits.
        assert encoded.input_db == pytest.approx(expected.input_db, abs=1e-6)
        assert np.abs(encoded.codes - expected.codes).max() <= 1


@pytest.mark.parametrize("sampling_rate", [RATE, 11025])
def test_small_blocks_change_nothing(tmp_path, monkeypatch, sampling_rate):
    codec = AudioCodec(PassThroughModel(**CHUNKS))
    path = write_noise(tmp_path / "song.flac", 2.0, sampling_rate)
    whole = codec.encode(path)
    monkeypatch.setattr(audio_input, "_BLOCK_SIZE", 1000)
    encoded = codec.encode(path)
    assert encoded.num_samples == whole.num_samples == 2 * sampling_rate
    # Sums of a loudness in another order may move a sample by a step of 16 bits.
    assert encoded.input_db == pytest.approx(whole.input_db, abs=1e-6)
    assert np.abs(encoded.codes - whole.codes).max() <= 1


def test_a_file_read_in_small_blocks_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_input, "_BLOCK_SIZE", 1000)
    codec = AudioCodec(PassThroughModel(**CHUNKS))
    path = write_noise(tmp_path / "song.flac", 2.0)
    restored = codec.decode(codec.encode(path, loudness_db=None)).samples
    original, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(restored[0], original, atol=QUANTISATION_STEP)


def test_no_number_in_a_later_block_is_told_with_its_place_in_the_file(tmp_path):
    samples = np.zeros((MORE_THAN_A_BLOCK, 2), np.float32)
    samples[(1 << 20) + 5, 1] = np.nan
    path = tmp_path / "song.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    codec = AudioCodec(PassThroughModel(encode_chunk_length_s=10.0))
    with pytest.raises(AudioError) as refusal:
        codec.encode(path)
    assert str(refusal.value).startswith(f"{path}: the sample at [1, {(1 << 20) + 5}] is nan")


def test_audio_that_has_been_read_is_not_read_again_as_nothing(tmp_path):
    codec = AudioCodec(PassThroughModel())
    lazy = codec.decode_lazily(codec.encode(np.zeros((1, 500), np.float32), 8000))
    lazy.save(tmp_path / "once.wav")
    with pytest.raises(ValueError, match="has been read"):
        lazy.save(tmp_path / "twice.wav")
    assert not (tmp_path / "twice.wav").exists()


def test_a_long_wav_file_has_sizes_of_64_bits(tmp_path, monkeypatch):
    samples = np.zeros((1, 5000), np.float32)
    monkeypatch.setattr("codax.codec.audio.MOST_WAV_BYTES", 70_000)
    Audio(samples, 8000).save(tmp_path / "long.wav")
    assert soundfile.info(tmp_path / "long.wav").format == "RF64"
    assert soundfile.info(tmp_path / "long.wav").frames == 5000
