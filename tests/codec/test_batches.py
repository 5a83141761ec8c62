"""Many clips at once: each gets the codes, and the audio, that it gets alone."""

import dataclasses
import weakref

import numpy as np
import pytest

from codax import AudioCodec, AudioError, EncodedAudio, FormatError
from codax.codec import encodec_parts
from codax.codec.audio_codec import PARTS
from codax.codec.batches import Batches, PartSizes
from codax.codec.preparing import LoadedClip
from tests.modeling.tiny import noise, tiny_model
from tests.tiny_encodec import MONO, MUSIC, STEREO, tiny_encodec

MODELS = {
    "dac": tiny_model,
    "mono": lambda: tiny_encodec(**MONO),
    "music": lambda: tiny_encodec(**MUSIC),
    "stereo": lambda: tiny_encodec(**STEREO),
}
# (channels in those of a stream, samples, Hz): less than a hop, whole hops and not, longer than the
# longest part. Three lengths at 8 kHz, since each costs a compilation.
CLIPS = ((1, 7, 8000), (2, 3997, 8000), (1, 1500, 8000), (2, 5508, 11025))
LONG = 1
# Seconds: several parts a clip, and a batch. One part at a time, as by default on a CPU, is what
# tests/corpus has.
TOGETHER = {"chunk_length_s": 0.2, "batch_length_s": 1.0}
# Audio float32: sums in another order; at a loudness, times a gain.
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=MODELS)
def codec(request):
    return AudioCodec(MODELS[request.param]())


@pytest.fixture(scope="module")
def clips(codec):
    """Mono and stereo, or stereo and four channels, at two rates."""
    each = codec.config.audio_channels
    return [(noise(count * each, length, seed=length), rate) for count, length, rate in CLIPS]


class InPieces(AudioCodec):
    """Codes every clip as a long one, piece by piece, each piece of the length that it has."""

    def _encode_at_once(self, samples, levels):
        return None

    def _decode_at_once(self, clip):
        return None


@pytest.fixture(scope="module")
def in_pieces(codec):
    return InPieces(codec.model)


@pytest.fixture(scope="module")
def alone(in_pieces, clips):
    return [in_pieces.encode(*clip) for clip in clips]


def encoded(codec, clips, **options):
    how = codec.preparation()
    loaded = ((index, how.of(*clip).loaded(10**6)) for index, clip in enumerate(clips))
    return dict(codec.encode_clips(loaded, **options))


def test_clips_are_encoded_as_they_are_alone(codec, clips, alone):
    together = encoded(codec, clips, **TOGETHER)
    assert sorted(together) == [*range(len(clips))]
    for index, expected in enumerate(alone):
        same_scales = expected.scales is None or np.allclose(
            together[index].scales, expected.scales, rtol=1e-5
        )
        assert same_scales, CLIPS[index]
        assert np.array_equal(together[index].codes, expected.codes), CLIPS[index]
        for field in ("segment_frames", "sampling_rate", "num_samples", "input_db"):
            assert getattr(together[index], field) == getattr(expected, field)


def test_clips_are_decoded_as_they_are_alone(codec, in_pieces, alone):
    together = dict(codec.decode_clips(enumerate(alone), **TOGETHER))
    for index, clip in enumerate(alone):
        expected = in_pieces.decode(clip)
        assert together[index].sampling_rate == expected.sampling_rate
        np.testing.assert_allclose(
            together[index].samples, expected.samples, atol=TOLERANCE, err_msg=str(CLIPS[index])
        )


def test_a_short_clip_is_coded_as_a_long_one_is(codec, in_pieces, clips, alone):
    for clip, expected in zip(clips, alone, strict=True):
        encoded = codec.encode(*clip)
        assert np.array_equal(encoded.codes, expected.codes)
        assert encoded.segment_frames == expected.segment_frames
        wanted = in_pieces.decode(expected).samples
        np.testing.assert_allclose(codec.decode(expected).samples, wanted, atol=TOLERANCE)
        half_s = expected.duration_s / 2
        part = codec.decode(expected, half_s).samples
        wanted = in_pieces.decode(expected, half_s).samples
        np.testing.assert_allclose(part, wanted, atol=TOLERANCE)


def test_clips_of_many_lengths_come_in_few(codec, monkeypatch):
    """Each of which is a program to compile: a quarter of an octave apart."""
    shapes, begin = set(), Batches.__init__

    def begin_noting(batches, network, sizes, units):
        def noted(array, *others):
            shapes.add(array.shape)
            return network(array, *others)

        begin(batches, noted, sizes, units)

    monkeypatch.setattr(Batches, "__init__", begin_noting)
    for length in np.linspace(0.5, 0.8, 30) * codec.sampling_rate:
        clip = noise(codec.config.audio_channels, int(length))
        codec.decode(codec.encode(clip, codec.sampling_rate))
    assert 2 <= len(shapes) <= 8  # of 30 lengths, in both directions


def test_a_long_clip_that_cannot_be_cut_is_coded_by_itself(monkeypatch, clips, alone, codec):
    monkeypatch.setattr(encodec_parts, "WHOLE_S", 0.2)
    together = encoded(codec, clips, **TOGETHER)
    for index, clip in enumerate(alone):
        assert np.array_equal(together[index].codes, clip.codes), CLIPS[index]
    decoded = dict(codec.decode_clips(enumerate(alone), **TOGETHER))
    for index, clip in enumerate(alone):
        expected = codec.decode(clip).samples
        np.testing.assert_allclose(decoded[index].samples, expected, atol=TOLERANCE)


def test_fewer_codebooks_and_more_share_no_batch(codec, clips, alone):
    fewer = encoded(codec, [clips[LONG]], n_quantizers=1, **TOGETHER)
    mixed = [(0, alone[LONG]), (1, fewer[0]), (2, alone[0])]
    together = dict(codec.decode_clips(mixed, **TOGETHER))
    for index, clip in mixed:
        np.testing.assert_allclose(
            together[index].samples, codec.decode(clip).samples, atol=TOLERANCE
        )


def test_a_clip_that_is_not_in_memory_is_encoded_too(codec, clips, alone):
    how = codec.preparation()
    assert how.of(*clips[LONG]).loaded(100) is None
    both = [(0, how.of(*clips[LONG])), (1, how.of(*clips[LONG]).loaded(10**6))]
    for clip in dict(codec.encode_clips(both, **TOGETHER)).values():
        assert np.array_equal(clip.codes, alone[LONG].codes)


def test_a_clip_that_fails_on_the_way_leaves_the_others_alone(codec, clips, alone):
    how = codec.preparation()
    lazy = how.of(*clips[LONG], name="late.wav")
    lazy._source = dataclasses.replace(lazy._source, blocks=Unreadable(clips[LONG][0]))
    both = [("late", lazy), ("good", how.of(*clips[LONG]).loaded(10**6))]
    results = dict(codec.encode_clips(both, **TOGETHER))
    assert isinstance(results["late"], AudioError)
    assert str(results["late"]) == "late.wav: the rest cannot be read"
    assert np.array_equal(results["good"].codes, alone[LONG].codes)


class Unreadable:
    """The end of a file that cannot be read."""

    def __init__(self, samples):
        self._samples = samples

    def __iter__(self):
        yield self._samples[:, :500]
        raise RuntimeError("the rest cannot be read")


def test_codes_of_another_model_are_told_and_leave_the_others_alone(codec, alone):
    size, books = codec.config.codebook_size, alone[0].num_codebooks
    foreign = EncodedAudio(np.full((1, books, 4), size), 8000, 30)
    results = dict(codec.decode_clips([("foreign", foreign), ("good", alone[0])], **TOGETHER))
    assert isinstance(results["foreign"], FormatError)
    assert results["good"].num_samples == alone[0].num_samples


@pytest.mark.parametrize("longest", [100, 873, 2250])
def test_parts_have_few_lengths_and_little_to_fill_up(longest):
    sizes = PartSizes(shortest=40, longest=longest, batch=0)
    by_frames = {frames: sizes.size_of(frames) for frames in range(1, 2 * longest)}
    assert by_frames[longest] == longest
    assert all(frames <= size for frames, size in by_frames.items())
    assert all(size <= 1.21 * frames for frames, size in by_frames.items() if frames > 40)
    assert len(set(by_frames.values())) <= 4 * (np.log2(longest / 40) + 1) + 3


@pytest.mark.parametrize("devices", [1, 8])
def test_a_batch_has_as_many_parts_as_fit_and_divide_among_devices(devices):
    sizes = PartSizes(shortest=10, longest=100, batch=400, devices=devices)
    for size in (10, 50, 100, 150, 1000):
        rows = sizes.rows_of(size)
        assert rows >= 1
        assert rows % devices == 0
        assert rows * size <= 400 or rows == devices


# Outputs for each part of a network that computes nothing.
@pytest.mark.parametrize(("kind", "num_outputs"), [("dac", 1), ("mono", 2), ("stereo", 2)])
def test_a_part_that_waits_keeps_nothing_of_its_clip_but_itself(kind, num_outputs, monkeypatch):
    codec = AudioCodec(MODELS[kind]())
    channels, length = 2 * codec.config.audio_channels, 16_500
    living = []

    def network(samples, *_):
        frames = samples.shape[-1] // codec.config.hop_length
        codes = np.zeros((len(samples), 1, frames), np.int32)
        return (codes, np.ones((len(samples), 1)))[:num_outputs]

    def clips():
        for index in range(40):
            samples = np.zeros((channels, length + index), np.float32)
            living.append(weakref.ref(samples))
            yield index, LoadedClip(samples, 8000, length, None)
            del samples
            assert sum(one() is not None for one in living) <= 2

    monkeypatch.setattr(PARTS[codec.config.model_type], "encoder", lambda *_: network)
    coded = dict(codec.encode_clips(clips(), chunk_length_s=1.0, batch_length_s=30.0))
    assert sorted(coded) == [*range(40)]
    assert {type(clip) for clip in coded.values()} == {EncodedAudio}
