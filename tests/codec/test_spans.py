"""Seeking: a span of a clip is that part of the whole, and no more is decoded than it takes."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codax import AudioCodec, EncodedAudio
from codax.cli.main import main
from tests.tiny_encodec import MONO, SEGMENT, STRIDE, tiny_encodec

from .pass_through import PassThroughModel

RATE = 8000  # of all tiny models
# Float32 sums in another order, as XLA chooses for another shape, and the resampler's reach, cut.
TOLERANCE = 1e-5
# Chunks far shorter than the clips: 40 new frames (50 with even strides), or two segments.
CHUNK_S = {"stereo": 2 * STRIDE / RATE}
USUAL_CHUNK_S = 0.05

SEGMENTS = (40,) * 9 + (25,)
KINDS = {
    # Frames, and samples at the model's rate: a few less, as most clips have.
    "odd": {"frames": 400, "num_samples": 3991},
    "even": {"frames": 500, "num_samples": 3995},
    "odd, two channels": {"frames": 400, "num_samples": 3998, "streams": 2},
    # Its LSTM runs 512 frames at a time up to a span.
    "mono": {"frames": 700, "num_samples": 6995},
    "stereo": {"frames": sum(SEGMENTS), "num_samples": 9 * STRIDE + 245, "segments": SEGMENTS},
    # As transformers codes them: the last one reaches beyond a stride.
    "stereo, last segment full": {
        "frames": 240,
        "num_samples": 5 * STRIDE + SEGMENT,
        "segments": (40,) * 6,
    },
    "whole": {"frames": 300, "num_samples": 2999},
    "descript's chunks": {"frames": 195, "num_samples": None, "chunk_frames": 50, "padding": False},
    "padded chunks": {"frames": 110, "num_samples": None, "chunk_frames": 40},
}
MODELS = {
    "odd": "odd_model",
    "even": "even_model",
    "mono": "encodec_mono",
    "stereo": "encodec_stereo",
    "whole": "encodec_whole",
}
SEGMENTED = [kind for kind in KINDS if kind.startswith("stereo")]


@pytest.fixture(scope="session")
def encodec_whole():
    """A tiny EnCodec model that cannot code chunks: its norms average over the whole clip."""
    return tiny_encodec(MONO, norm_type="time_group_norm", use_causal_conv=False)


def model_name(kind):
    return MODELS.get(kind.split(",")[0], "odd_model")


def with_chunks(model, **changes):
    """The codec of the same model with another configuration."""
    changed = copy.copy(model)
    changed._config = copy.deepcopy(model.config)
    vars(changed._config).update(changes)
    return AudioCodec(changed)


@dataclasses.dataclass
class Case:
    """A clip, and the codecs that decode it in one piece and in short chunks."""

    clip: EncodedAudio
    whole_codec: AudioCodec
    codec: AudioCodec

    def whole(self, clip):
        """[C, T], decoded once."""
        key = clip.sampling_rate, clip.input_db
        if key not in self._decoded:
            self._decoded[key] = self.whole_codec.decode(clip).samples
        return self._decoded[key]

    def __post_init__(self):
        self._decoded = {}

    def at(self, sampling_rate, input_db=None):
        """The same codes, as a clip of that rate."""
        num_samples = self.clip.num_samples * sampling_rate // RATE
        return dataclasses.replace(
            self.clip, sampling_rate=sampling_rate, num_samples=num_samples, input_db=input_db
        )


def case_of(kind, model):
    facts = KINDS[kind]
    generator = np.random.default_rng(0)
    streams, segments = facts.get("streams", 1), facts.get("segments")
    codes = generator.integers(0, 16, (streams, 3, facts["frames"]))
    clip = EncodedAudio(
        codes,
        RATE,
        facts["num_samples"] or 1,
        chunk_frames=facts.get("chunk_frames"),
        padding=facts.get("padding", True),
        channels_per_stream=2 if segments else 1,
        segment_frames=segments,
        scales=generator.uniform(0.2, 1, (1, len(segments))) if segments else None,
    )
    codec = AudioCodec(model)
    if facts["num_samples"] is None:
        num_samples = codec._coder.decoded_length(clip)
        clip = dataclasses.replace(clip, num_samples=num_samples)
    length_s = CHUNK_S.get(kind.split(",")[0], USUAL_CHUNK_S)
    settings = {"decode_chunk_length_s": length_s, "decode_chunk_mode": "exact"}
    return Case(clip, codec, with_chunks(model, **settings))


@pytest.fixture(scope="module")
def cases(request):
    """`cases(kind)`"""
    made = {}

    def case(kind):
        if kind not in made:
            made[kind] = case_of(kind, request.getfixturevalue(model_name(kind)))
        return made[kind]

    return case


@pytest.fixture(params=KINDS)
def case(request, cases):
    return cases(request.param)


def assert_is_part(case, clip, start, stop):
    """Samples [start, stop) of the clip are those of the whole."""
    expected = case.whole(clip)[:, start:stop]
    audio = case.codec.decode(clip, start / clip.sampling_rate, stop / clip.sampling_rate)
    assert audio.sampling_rate == clip.sampling_rate
    assert audio.samples.shape == (clip.channels, stop - start)
    assert audio.samples.dtype == np.float32
    np.testing.assert_allclose(audio.samples, expected, atol=TOLERANCE)


def spans_of(length):
    """Pairs (start, stop) with 0 <= start < stop <= length."""
    return (
        st.tuples(st.integers(0, length), st.integers(0, length))
        .filter(lambda span: span[0] != span[1])
        .map(sorted)
    )


def check_spans(case, clip, max_examples, examples):
    """`assert_is_part` for the examples, and for random spans."""

    @settings(deadline=None, max_examples=max_examples, database=None)
    @given(spans_of(clip.num_samples))
    def check(span):
        assert_is_part(case, clip, *span)

    for span in examples:
        check = example(span)(check)
    check()


def usual_spans(length):
    """Its ends, single samples, a bit of the middle, all but one sample."""
    middle = length // 2
    return [
        (0, 1),
        (length - 1, length),
        (0, length),
        (1, length),
        (0, length - 1),
        (middle, middle + 1),
        (middle - 7, middle + 90),
        (length - 15, length - 2),
    ]


def test_the_clips_are_sound(case):
    """Else the tests below would say little."""
    samples = case.whole(case.clip)
    assert 0.01 < samples.std() < 3
    for part in np.array_split(samples, 20, axis=1):
        assert part.std() > 0.005


def test_a_span_is_that_part_of_the_whole(case):
    clip = case.clip
    check_spans(case, clip, 25, usual_spans(clip.num_samples))


@pytest.mark.parametrize("sampling_rate", [5512, 16000, 44100])
def test_a_resampled_span_is_that_part_of_the_whole(case, sampling_rate):
    clip = case.at(sampling_rate)
    check_spans(case, clip, 8, usual_spans(clip.num_samples))


@pytest.mark.parametrize("kind", SEGMENTED)
def test_spans_that_begin_or_end_about_a_border_of_segments_are_parts_of_the_whole(cases, kind):
    case = cases(kind)
    length, overlap = case.clip.num_samples, SEGMENT - STRIDE
    for border in (STRIDE, 4 * STRIDE, (len(case.clip.segment_frames) - 1) * STRIDE):
        for offset in (-1, 0, 1, overlap - 1, overlap, overlap + 1):
            position = border + offset
            assert_is_part(case, case.clip, position, position + 1)
            assert_is_part(case, case.clip, position - 50, position)
            assert_is_part(case, case.clip, position, min(position + 50, length))


def test_a_span_inside_the_overlap_with_a_full_last_segment_is_part_of_the_whole(cases):
    """Samples that only the last segment holds, behind where a next one would begin."""
    case = cases("stereo, last segment full")
    behind = len(case.clip.segment_frames) * STRIDE
    assert behind < case.clip.num_samples
    assert_is_part(case, case.clip, behind, case.clip.num_samples)
    assert_is_part(case, case.clip, behind + 3, behind + 9)


@pytest.mark.parametrize("sampling_rate", [RATE, 11025])
@pytest.mark.parametrize("kind", ["odd", "odd, two channels", "descript's chunks"])
def test_with_loudness_too_a_span_is_that_part_of_the_whole(cases, kind, sampling_rate):
    case = cases(kind)
    loudness = (-20.0, -35.0) if case.clip.channels == 2 else -26.0
    clip = case.at(sampling_rate, loudness)
    for span in usual_spans(clip.num_samples):
        assert_is_part(case, clip, *span)


def test_parts_one_after_the_other_make_up_the_whole(case):
    clip = case.at(11025)
    borders = np.linspace(0, clip.num_samples, 6).round().astype(int)
    parts = [
        case.codec.decode(clip, start / 11025, stop / 11025).samples
        for start, stop in itertools.pairwise(borders)
    ]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), case.whole(clip), atol=TOLERANCE)


def test_a_span_that_is_open_at_one_end_goes_on_to_the_end_of_the_clip(case):
    clip, whole = case.clip, case.whole(case.clip)
    border = clip.num_samples // 3
    from_there = case.codec.decode(clip, start_s=border / RATE).samples
    np.testing.assert_allclose(from_there, whole[:, border:], atol=TOLERANCE)
    up_to_there = case.codec.decode(clip, end_s=border / RATE).samples
    np.testing.assert_allclose(up_to_there, whole[:, :border], atol=TOLERANCE)


def test_a_span_without_chunks_in_the_configuration_is_part_of_the_whole(cases):
    case = cases("odd")
    audio = case.whole_codec.decode(case.clip, 0.2, 0.3)
    np.testing.assert_allclose(audio.samples, case.whole(case.clip)[:, 1600:2400], atol=TOLERANCE)


def test_a_span_is_exact_where_the_configuration_asks_for_approximate_chunks(cases):
    case = cases("odd")
    settings = {"decode_chunk_length_s": 0.05, "decode_chunk_mode": "mean"}
    audio = with_chunks(case.codec.model, **settings).decode(case.clip, 0.2, 0.3)
    np.testing.assert_allclose(audio.samples, case.whole(case.clip)[:, 1600:2400], atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["odd", "even", "mono", "descript's chunks", "stereo"])
@pytest.mark.parametrize("beyond", [1, 5])
def test_a_span_behind_the_last_frame_is_silence_as_it_is_in_the_whole(cases, kind, beyond):
    """Some files claim some samples more than their frames decode to, up to a frame's."""
    case = cases(kind)
    decoded_length = case.codec._coder.decoded_length(case.clip)
    longer = dataclasses.replace(case.clip, num_samples=decoded_length + 6)
    whole = case.whole_codec.decode(longer).samples
    np.testing.assert_array_equal(whole[:, -6:], 0)
    start_s, end_s = (decoded_length + beyond) / RATE, (decoded_length + 6) / RATE
    audio = case.codec.decode(longer, start_s, end_s)
    np.testing.assert_array_equal(audio.samples, np.zeros((longer.channels, 6 - beyond)))
    across = case.codec.decode(longer, (decoded_length - 20) / RATE, end_s)
    np.testing.assert_allclose(across.samples, whole[:, -26:], atol=TOLERANCE)


# --- no more than it takes -----------------------------------------------------------------------


MINUTE = 60 * 8000


@pytest.fixture
def minute():
    """(pass-through model in chunks of a second, a minute of it, its samples [2, T])"""
    model = PassThroughModel(
        decode_chunk_length_s=1.0, decode_chunk_mode="exact", encode_chunk_length_s=1.0
    )
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, (2, MINUTE)).astype(np.float32)
    return model, AudioCodec(model).encode(samples, 8000, loudness_db=None), samples


@pytest.mark.parametrize("start_s", [0, 30.0, 59.5])
def test_a_short_span_of_a_long_clip_takes_one_chunk(minute, start_s):
    model, clip, samples = minute
    model.frames_at_once.clear()
    audio = AudioCodec(model).decode(clip, start_s, start_s + 0.5)
    assert sum(model.frames_at_once) <= 2 * (200 + 5)
    start = round(start_s * 8000)
    # The model's own codes: to half a step of 16 bits.
    np.testing.assert_allclose(audio.samples, samples[:, start : start + 4000], atol=2e-5)


def test_a_resampled_span_takes_little_more(minute):
    model, clip, _ = minute
    clip = dataclasses.replace(clip, sampling_rate=44100, num_samples=60 * 44100)
    model.frames_at_once.clear()
    AudioCodec(model).decode(clip, 30.0, 30.5)
    assert sum(model.frames_at_once) <= 2 * 2 * (200 + 5)


def test_a_span_of_several_chunks_takes_as_many(minute):
    model, clip, _ = minute
    model.frames_at_once.clear()
    AudioCodec(model).decode(clip, 10.0, 20.0)
    assert sum(model.frames_at_once) <= 2 * 11 * (200 + 5)


def test_where_loudness_is_restored_all_of_the_clip_is_decoded(minute):
    """As the docstring of `decode` says: that of the whole has to be measured."""
    model, clip, _ = minute
    model.frames_at_once.clear()
    AudioCodec(model).decode(dataclasses.replace(clip, input_db=-20.0), 30.0, 30.5)
    assert sum(model.frames_at_once) >= clip.codes.shape[0] * clip.num_frames


def test_of_chunks_coded_by_themselves_only_those_that_hold_the_span_are_decoded(
    cases, monkeypatch
):
    case = cases("descript's chunks")
    decoded = []
    decode = type(case.codec.model).decode

    def counting(model, *arguments, audio_codes, **options):
        decoded.append(audio_codes.shape[-1])
        return decode(model, *arguments, audio_codes=audio_codes, **options)

    monkeypatch.setattr(type(case.codec.model), "decode", counting)
    case.codec.decode(case.clip, 0.0, 0.01)
    assert decoded == [50]


def calls_of(monkeypatch, model, name, codes_index):
    """A list that gets (method, shape of the codes) of every call that follows."""
    calls = []
    call = getattr(type(model), name)

    def counting(model, method, params, *arrays, **options):
        calls.append((method, np.shape(arrays[codes_index])))
        return call(model, method, params, *arrays, **options)

    monkeypatch.setattr(type(model), name, counting)
    return calls


def test_of_segments_only_those_that_reach_into_the_span_are_decoded(cases, monkeypatch):
    case = cases("stereo")
    calls = calls_of(monkeypatch, case.codec.model, "_apply", 0)
    start = 5 * STRIDE + 100
    case.codec.decode(case.clip, start / RATE, (start + 100) / RATE)
    assert [shape[0] for _, shape in calls] == [2]


def test_an_lstm_runs_from_the_beginning_but_only_the_span_is_decoded(cases, monkeypatch):
    case = cases("mono")
    calls = calls_of(monkeypatch, case.codec.model, "_apply_carrying", 1)
    case.codec.decode(case.clip, 6000 / RATE, 6100 / RATE)
    methods = [method for method, _ in calls]
    assert methods.count("decode_segments") == 1
    assert 1 <= methods.count("decode_no_audio") <= 3
    assert len(methods) == methods.count("decode_segments") + methods.count("decode_no_audio")


# --- what is no span -----------------------------------------------------------------------------


NO_SECONDS = [
    *(-0.1, 0.6, 1e300, float("nan"), float("inf"), -float("inf")),
    *("0.1", "", b"1", [0.1], True, 1j),
]


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    list(itertools.product(("start_s", "end_s"), NO_SECONDS)),
)
def test_a_value_that_is_no_second_of_the_clip_is_refused_by_name(cases, name, value, lazily):
    case = cases("odd")
    decode = case.codec.decode_lazily if lazily else case.codec.decode
    with pytest.raises(ValueError) as refusal:
        decode(case.clip, **{name: value})
    message = str(refusal.value)
    assert f"{name}={value!r}" in message
    assert "from 0 to 0.498875" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [(0.2, 0.2), (0.3, 0.2), (0.2, 0.2000001), (0.498875, None), (None, 0), (None, 0.0), (0, 0)],
)
def test_a_span_that_ends_no_later_than_it_begins_is_refused(cases, start_s, end_s):
    case = cases("odd")
    with pytest.raises(ValueError) as refusal:
        case.codec.decode(case.clip, start_s, end_s)
    message = str(refusal.value)
    assert f"start_s={start_s!r}" in message
    assert f"end_s={end_s!r}" in message
    assert "from 0 to 0.498875" in message


def test_seconds_may_be_integers_and_numpys_floats(minute):
    model, clip, _ = minute
    codec = AudioCodec(model)
    one = codec.decode(clip, 1, 2).samples
    assert one.shape == (2, 8000)
    for kind in (float, np.float64):
        np.testing.assert_array_equal(codec.decode(clip, kind(1), kind(2)).samples, one)


@pytest.mark.parametrize("sampling_rate", [8000, 11025])
def test_the_whole_clip_is_a_span_too(cases, sampling_rate):
    case = cases("odd")
    clip = case.at(sampling_rate)
    audio = case.codec.decode(clip, 0, clip.duration_s)
    np.testing.assert_array_equal(audio.samples, case.codec.decode(clip).samples)


# --- on the command line -------------------------------------------------------------------------


@pytest.fixture
def song(cases, tmp_path, monkeypatch):
    """A file of the tiny DAC model, and its samples [1, T]."""
    monkeypatch.chdir(tmp_path)
    case = cases("odd")
    clip = case.at(RATE, -20.0)
    clip.save("song.dac")
    return "song.dac", case.whole(clip)


@pytest.mark.parametrize(
    ("options", "span"),
    [
        (("--start", "0.1"), slice(800, None)),
        (("--end", "0.3"), slice(None, 2400)),
        (("--start", "0.1", "--end", "0.3"), slice(800, 2400)),
        (("--start", "0"), slice(None)),
    ],
)
def test_start_and_end_write_that_part(song, tiny_folder, options, span):
    path, samples = song
    assert main(["decode", "--model", str(tiny_folder), path, *options]) == 0
    written, rate = soundfile.read("song.wav", dtype="float32")
    assert (rate, len(written)) == (RATE, samples[:, span].shape[1])
    # 16 bits, and libsndfile's two full scales.
    np.testing.assert_allclose(written, samples[0, span].clip(-1, 1), atol=2**-15)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--start", "0.5"), ("start_s=0.5",)),
        (("--end", "0.5"), ("end_s=0.5",)),
        (("--start", "-1"), ("start_s=-1",)),
        (("--start", "nan"), ("start_s=nan",)),
        (("--start", "0.3", "--end", "0.2"), ("start_s=0.3", "end_s=0.2")),
    ],
)
def test_a_wrong_start_or_end_is_one_line_and_no_file(
    song, tiny_folder, tmp_path, capsys, options, words
):
    path, _ = song
    assert main(["decode", "--model", str(tiny_folder), path, *options]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    for word in ("codax: song.dac: ", *words, "from 0 to 0.498875"):
        assert word in err
    assert [found.name for found in tmp_path.iterdir()] == ["song.dac"]


def test_a_start_that_is_no_number_is_a_wrong_argument(song, tiny_folder, capsys):
    path, _ = song
    with pytest.raises(SystemExit) as left:
        main(["decode", "--model", str(tiny_folder), path, "--start", "soon"])
    assert left.value.code == 2
    assert "--start" in capsys.readouterr().err


def test_a_long_unpadded_chunk_is_decoded_some_frames_at_a_time(odd_model, even_model):
    """A file says how long its chunks are; memory is not its to decide on."""
    generator = np.random.default_rng(0)
    for model in (odd_model, even_model):
        shape = (1, model.config.n_codebooks, 700)
        codes = generator.integers(0, model.config.codebook_size, shape)
        clip = EncodedAudio(codes, 8000, 5000, chunk_frames=350, padding=False)
        expected = AudioCodec(model).decode(clip).samples
        chunking = copy.copy(model)
        chunking._config = copy.copy(model.config)
        chunking.config.decode_chunk_length_s = 0.05
        codec = AudioCodec(chunking)
        np.testing.assert_allclose(codec.decode(clip).samples, expected, atol=1e-5)
        part = codec.decode(clip, start_s=0.1, end_s=0.5).samples
        np.testing.assert_allclose(part, expected[:, 800:4000], atol=1e-5)
