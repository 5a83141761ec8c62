"""EnCodec clips in `.ecdc` and `.codax` files: what is written is what comes back, and its size.

The narrow models have the rates, segments and codebooks of the released ones.
"""

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codax import Audio, AudioCodec, EncodedAudio, FormatError
from codax.configuration import ENCODEC_PRESETS, EncodecConfig
from codax.formats import codax_bytes, ecdc_bytes, read_clip
from codax.formats.ecdc_file import ECDC_MODELS
from tests.tiny_encodec import MONO, NARROW_24KHZ, NARROW_48KHZ, STEREO, noise, tiny_encodec

EIGHT_FRAMES = 8 * 320  # the length of nearly all clips, since every other costs a compilation
CODEBOOKS = {
    # Of the paper, table A.1: bandwidth in kbps -> codebooks of 10 bits at 75 or 150 frames a
    # second.
    "encodec_24khz": {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32},
    "encodec_48khz": {3.0: 2, 6.0: 4, 12.0: 8, 24.0: 16},
}
# Of the 48 kHz model the lowest: its compilations take longest.
BANDWIDTHS = [*(("encodec_24khz", kbps) for kbps in (1.5, 3.0, 24.0)), ("encodec_48khz", 3.0)]
# What a `.codax` file takes beyond its codes (docs/formats.md, "Size"), at 24 kHz.
CODAX_REST = 192


@pytest.fixture(scope="module")
def codecs():
    narrow = {"encodec_24khz": NARROW_24KHZ, "encodec_48khz": NARROW_48KHZ}
    return {name: AudioCodec(tiny_encodec(fields), name) for name, fields in narrow.items()}


@pytest.fixture(scope="module", params=list(CODEBOOKS))
def codec(request, codecs):
    return codecs[request.param]


def clip_for(codec, num_samples=EIGHT_FRAMES):
    return noise(codec.config.audio_channels, num_samples)


def encode(codec, num_samples=EIGHT_FRAMES, bandwidth=3.0):
    """Noise at the model's own rate."""
    return codec.encode(clip_for(codec, num_samples), codec.sampling_rate, bandwidth=bandwidth)


def payload_of(ecdc):
    """What follows the header of an `.ecdc` file, and the header's fields."""
    stop = 9 + int.from_bytes(ecdc[5:9], "big")
    return ecdc[stop:], json.loads(ecdc[9:stop])


# --- the table of models -------------------------------------------------------------------------


def test_ecdc_files_are_of_the_released_models_with_the_encodec_package():
    assert set(ECDC_MODELS) == set(ENCODEC_PRESETS) - {"encodec_32khz"} == set(CODEBOOKS)


@pytest.mark.parametrize("name", list(ECDC_MODELS))
def test_what_ecdc_files_take_for_granted_is_what_the_presets_say(name):
    facts, config = ECDC_MODELS[name], EncodecConfig.preset(name)
    assert facts.sampling_rate == config.sampling_rate
    assert facts.channels == config.audio_channels
    assert facts.frame_rate == config.frame_rate == config.sampling_rate / config.hop_length
    assert facts.codebook_size == config.codebook_size
    assert facts.max_codebooks == config.num_quantizers == max(CODEBOOKS[name].values())
    assert facts.normalised == config.normalize
    segmenting = config.segmenting or (None, None)
    assert (facts.segment_length, facts.segment_stride) == tuple(segmenting)


@pytest.mark.parametrize("name", list(ECDC_MODELS))
@given(num_samples=st.integers(1, 1_000_000))
def test_frames_of_a_files_segments_are_those_that_the_model_makes(name, num_samples):
    config = EncodecConfig.preset(name)
    expected = [config.encoded_length(length) for _, length in config.segments(num_samples)]
    assert list(ECDC_MODELS[name].segment_frames(num_samples)) == expected


# --- bandwidths and sizes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CODEBOOKS))
def test_bandwidths_take_the_codebooks_of_the_paper(name):
    config = EncodecConfig.preset(name)
    assert config.target_bandwidths == list(CODEBOOKS[name])
    for kbps, codebooks in CODEBOOKS[name].items():
        assert config.checked_quantizers(kbps) == codebooks


@pytest.mark.parametrize(("name", "kbps"), BANDWIDTHS)
def test_a_file_has_the_bitrate_that_the_model_advertises(codecs, name, kbps):
    codec = codecs[name]
    encoded = encode(codec, bandwidth=kbps)
    assert encoded.codes.shape == (1, CODEBOOKS[name][kbps], 8)
    assert codec.config.bitrate(kbps) == 1000 * kbps
    payload, header = payload_of(ecdc_bytes(encoded))
    num_bytes = kbps * 1000 * encoded.duration_s / 8
    scales = 0 if encoded.scales is None else 4 * encoded.scales.size
    assert len(payload) == num_bytes + scales
    assert header == {"m": name, "al": EIGHT_FRAMES, "nc": CODEBOOKS[name][kbps], "lm": False}
    if name == "encodec_24khz":
        assert len(codax_bytes(encoded)) <= num_bytes + CODAX_REST


def test_codes_of_small_codebooks_take_as_few_bits_as_they_need(encodec_mono):
    encoded = AudioCodec(encodec_mono).encode(noise(1, 4000), 8000, bandwidth=6.4)
    assert encoded.codes.max() == 15
    # 16 entries, 4 bits; 800 frames a second.
    assert len(codax_bytes(encoded)) == pytest.approx(6.4 * 1000 / 8 * 0.5, abs=CODAX_REST)


# --- written and read ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ecdc", ".codax"])
def test_a_file_reads_back_as_what_was_encoded_and_decodes_to_the_same_audio(
    codec, tmp_path, suffix
):
    encoded = encode(codec)
    path = tmp_path / f"song{suffix}"
    encoded.save(path)
    audio = codec.decode(encoded)
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes())]
        for source in sources:
            read = read_clip(source)
            if hasattr(source, "seek"):
                source.seek(0)
            np.testing.assert_array_equal(read.codes, encoded.codes)
            assert (read.num_samples, read.sampling_rate) == (EIGHT_FRAMES, codec.sampling_rate)
            assert (read.segment_frames, read.model) == (encoded.segment_frames, codec.model_name)
            if encoded.scales is None:
                assert read.scales is None
            else:
                np.testing.assert_array_equal(read.scales, encoded.scales)
            assert read == encoded == EncodedAudio.load(path)
            np.testing.assert_array_equal(codec.decode(source).samples, audio.samples)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("num_samples", [EIGHT_FRAMES - 319, EIGHT_FRAMES - 1])
def test_a_length_of_no_whole_frames_is_kept_by_either_file(codec, tmp_path, num_samples):
    lengths = {"num_samples": num_samples, "coded_samples": num_samples}
    encoded = dataclasses.replace(encode(codec), **lengths)
    for name in ("song.ecdc", "song.codax"):
        encoded.save(tmp_path / name)
        read = EncodedAudio.load(tmp_path / name)
        assert (read.num_samples, read.num_frames) == (num_samples, 8)
        assert codec.decode(tmp_path / name).num_samples == num_samples


def test_of_resampled_audio_ecdc_files_keep_the_resampled_length_and_codax_files_the_clip(
    codecs, tmp_path
):
    codec = codecs["encodec_24khz"]
    num_samples = EIGHT_FRAMES * 2 - 1  # 2560 samples after resampling
    encoded = codec.encode(noise(1, num_samples), 48000, bandwidth=3.0)
    encoded.save(tmp_path / "song.ecdc")
    encoded.save(tmp_path / "song.codax")
    for name, length, rate in (("song.ecdc", 2560, 24000), ("song.codax", num_samples, 48000)):
        read = EncodedAudio.load(tmp_path / name)
        np.testing.assert_array_equal(read.codes, encoded.codes)
        assert (read.num_samples, read.sampling_rate) == (length, rate)
        audio = codec.decode(tmp_path / name)
        assert (audio.samples.shape, audio.sampling_rate) == ((1, length), rate)


def test_a_resampled_clip_from_a_codax_file_is_not_of_known_length_for_an_ecdc_file(
    codecs, tmp_path
):
    encoded = codecs["encodec_24khz"].encode(noise(1, 2 * EIGHT_FRAMES), 48000, bandwidth=3.0)
    encoded.save(tmp_path / "song.codax")
    with pytest.raises(FormatError, match=r"sampling_rate is 48000, allowed .*: 24000"):
        EncodedAudio.load(tmp_path / "song.codax").save(tmp_path / "song.ecdc")
    assert [path.name for path in tmp_path.iterdir()] == ["song.codax"]


def test_a_codax_file_names_the_model_that_decodes_it(encodec_stereo_folder, tmp_path):
    codec = AudioCodec.from_pretrained(encodec_stereo_folder)
    encoded = codec.encode(noise(2, 1000), 8000, bandwidth=3.2)
    encoded.save(tmp_path / "song.codax")
    named = EncodedAudio.load(tmp_path / "song.codax").model
    audio = AudioCodec.from_pretrained(named).decode(tmp_path / "song.codax")
    np.testing.assert_array_equal(audio.samples, codec.decode(encoded).samples)


def test_all_streams_of_a_mono_model_go_into_one_codax_file(encodec_mono, tmp_path):
    codec = AudioCodec(encodec_mono, "tiny")
    both = codec.encode(noise(2, 99), 8000, bandwidth=3.2)
    both.save(tmp_path / "song.codax")
    assert EncodedAudio.load(tmp_path / "song.codax") == both
    assert codec.decode(tmp_path / "song.codax").channels == 2


def test_a_loudness_goes_into_codax_files_only(codecs, tmp_path):
    codec = codecs["encodec_24khz"]
    encoded = codec.encode(clip_for(codec), 24000, bandwidth=3.0, loudness_db=-16.0)
    encoded.save(tmp_path / "song.codax")
    assert EncodedAudio.load(tmp_path / "song.codax").input_db == encoded.input_db
    with pytest.raises(FormatError, match=r"input_db is .*, allowed in an .ecdc file .*: None"):
        encoded.save(tmp_path / "song.ecdc")


# --- which model an .ecdc file names -------------------------------------------------------------


def test_weights_of_a_released_architecture_are_named_as_the_released_model(monkeypatch):
    """Of a Hub id or a folder: `.ecdc` files know two names. `.codax` files keep the given one."""
    monkeypatch.setitem(ENCODEC_PRESETS, "encodec_24khz", NARROW_24KHZ)
    codec = AudioCodec(tiny_encodec(NARROW_24KHZ), "facebook/encodec_24khz")
    encoded = encode(codec)
    assert payload_of(ecdc_bytes(encoded))[1]["m"] == "encodec_24khz"
    assert read_clip(codax_bytes(encoded)).model == "facebook/encodec_24khz"


@pytest.mark.parametrize(
    ("fields", "channels", "name"),
    [(MONO, 1, None), (STEREO, 2, None), (MONO, 1, "encodec_32khz"), (MONO, 1, "some/folder")],
)
def test_a_clip_of_any_other_model_is_refused_by_the_format(fields, channels, name):
    codec = AudioCodec(tiny_encodec(fields), name)
    encoded = codec.encode(noise(channels, 400), 8000, bandwidth=3.2)
    with pytest.raises(FormatError, match=r"allowed in an .ecdc file: encodec_24khz, encodec_48k"):
        ecdc_bytes(encoded)


def test_segments_of_transformers_are_refused_by_the_format():
    """The file would be read as if the clip were cut in the authors' way."""
    config = EncodecConfig(**NARROW_48KHZ, segmentation="transformers")
    lengths = [length for _, length in config.segments(EIGHT_FRAMES)]
    assert lengths == [48000, 480]
    encoded = EncodedAudio(
        codes=np.zeros((1, 2, 152), int),
        sampling_rate=48000,
        num_samples=EIGHT_FRAMES,
        channels_per_stream=2,
        segment_frames=(150, 2),
        scales=[[1.0, 1.0]],
        model="encodec_48khz",
    )
    with pytest.raises(FormatError, match=r"num_frames is 152, allowed .* 2560 samples: 8"):
        ecdc_bytes(encoded)


# --- decoded audio -------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.5, 1.0, 20.0])
def test_rescaling_turns_down_what_would_clip_and_nothing_else(gain):
    """As the encodec command with -r: by min(0.99 / largest, 1), all channels alike."""
    samples = noise(2, 1000)
    audio = Audio(np.float32(gain) * samples / np.abs(samples).max(), 8000)
    rescaled = audio.without_clipping()
    factor = min(0.99 / gain, 1.0)
    np.testing.assert_allclose(rescaled.samples, factor * audio.samples, rtol=1e-6)
    assert (rescaled.sampling_rate, rescaled.samples.dtype) == (8000, np.float32)


def test_rescaling_silence_leaves_it_silent():
    silence = Audio(np.zeros((2, 10), np.float32), 8000)
    assert not silence.without_clipping().samples.any()


@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz"])
def test_a_damaged_file_is_refused_by_its_name(codecs, tmp_path, name):
    codec = codecs[name]
    for suffix in (".ecdc", ".codax"):
        path = tmp_path / f"half{suffix}"
        encode(codec).save(path)
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(FormatError) as refusal:
            codec.decode(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)


def test_a_damaged_file_that_is_open_is_refused_by_its_name(codecs, tmp_path):
    path = tmp_path / "half.ecdc"
    path.write_bytes(ecdc_bytes(encode(codecs["encodec_24khz"]))[:-3])
    with path.open("rb") as file, pytest.raises(FormatError) as refusal:
        codecs["encodec_24khz"].decode(file)
    assert str(refusal.value).startswith(f"{path}: ")


def test_a_file_of_another_model_is_refused(codecs):
    ecdc = {name: ecdc_bytes(encode(codec)) for name, codec in codecs.items()}
    with pytest.raises(FormatError, match="codes hold 2 channels each, allowed: 1"):
        codecs["encodec_24khz"].decode(ecdc["encodec_48khz"])
    with pytest.raises(FormatError, match="codes hold 1 channels each, allowed: 2"):
        codecs["encodec_48khz"].decode(ecdc["encodec_24khz"])
