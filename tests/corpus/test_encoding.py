"""Audio columns to codes, and back: what each clip gets alone, in columns that stay the same."""

import numpy as np
import pytest
import soundfile
from datasets import Audio, Features, List, Value

from codax.codec.batches import Batches
from codax.corpus import PrepareAudio, clip_of
from codax.corpus import encode_audio as encode_audio_module

from .clips import dataset_of, file_of, mixed_clips

# Of decoded audio: sums in another order.
TOLERANCE = 2e-5
# Of files of 16 bits: their step besides.
FILE_TOLERANCE = 2**-15 + TOLERANCE
COLUMNS = {
    "codes": List(List(Value("int16"))),
    "sampling_rate": Value("int64"),
    "num_samples": Value("int64"),
    "num_channels": Value("int64"),
    "input_db": Value("float64"),
}
SEGMENT_COLUMNS = {"segment_frames": List(Value("int32")), "scales": List(List(Value("float32")))}


def columns_of(kind):
    return {**COLUMNS, **(SEGMENT_COLUMNS if kind == "encodec_48khz" else {})}


@pytest.fixture(scope="module")
def dataset(clips):
    """Its audio as files' bytes, as `Audio(decode=False)` gives them."""
    values = [{"bytes": file_of(*clip), "path": None} for clip in clips]
    return dataset_of(values, index=range(len(clips)))


@pytest.fixture(scope="module")
def mapped(dataset, encoder, kind):
    """In batches of three and of one."""
    return dataset.map(encoder(kind), batched=True, batch_size=3)


def clips_of(mapped, codec):
    return [clip_of(row, codec.config.audio_channels) for row in mapped]


def assert_same_clip(clip, expected):
    """Scales are sums in another order."""
    assert np.array_equal(clip.codes, expected.codes)
    for field in ("sampling_rate", "num_samples", "segment_frames", "input_db", "channels"):
        assert getattr(clip, field) == getattr(expected, field)
    assert (clip.scales is None) == (expected.scales is None)
    if clip.scales is not None:
        np.testing.assert_allclose(clip.scales, expected.scales, rtol=1e-5)


def test_every_clip_has_the_codes_that_it_has_alone(mapped, codec, alone):
    for clip, expected in zip(clips_of(mapped, codec), alone, strict=True):
        assert_same_clip(clip, expected)


def test_clips_that_share_batches_have_the_same_codes(clips, encoder, kind, codec, alone, batches):
    together = encoder(kind, chunk_length_s=0.1, batch_length_s=2.0)
    rows = together(one_batch(clips))
    assert max(batches) > 1
    columns = zip(*rows.values(), strict=True)
    for values, expected in zip(columns, alone, strict=True):
        row = dict(zip(rows, values, strict=True))
        assert_same_clip(clip_of(row, codec.config.audio_channels), expected)


@pytest.fixture
def batches(monkeypatch):
    """How many parts each batch has."""
    counts, start = [], Batches._started

    def started(self, rows):
        counts.append(len(rows))
        return start(self, rows)

    monkeypatch.setattr(Batches, "_started", started)
    return counts


def test_columns_are_compact_and_those_of_the_data_set_stay(mapped, dataset, kind):
    assert mapped.features == Features({**dataset.features, **columns_of(kind)})
    assert mapped["index"][:] == dataset["index"][:]


def test_columns_do_not_depend_on_the_batch_nor_on_batching(dataset, mapped, encoder, kind):
    marking = {**mapped.features, "error": Value("string")}
    one_by_one = dataset.select([1, 3]).map(encoder(kind, errors="mark"))
    assert one_by_one.features == Features(marking)
    for row, index in zip(one_by_one, (1, 3), strict=True):
        expected = mapped[index]
        if kind == "encodec_48khz":
            np.testing.assert_allclose(row.pop("scales")[0], expected.pop("scales")[0], rtol=1e-5)
        np.testing.assert_equal(row, {**expected, "error": ""})


def test_every_clip_is_decoded_as_it_is_alone(mapped, decoder, codec, alone, kind):
    back = mapped.remove_columns("audio").map(decoder(kind), batched=True, batch_size=3)
    assert back.features["audio"] == {
        "array": List(List(Value("float32"))),
        "sampling_rate": Value("int64"),
    }
    for row, clip in zip(back, alone, strict=True):
        expected = codec.decode(clip)
        assert row["audio"]["sampling_rate"] == expected.sampling_rate
        samples = np.array(row["audio"]["array"], np.float32)
        assert samples.shape == (clip.channels, clip.num_samples)
        np.testing.assert_allclose(samples, expected.samples, atol=TOLERANCE)


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_decoded_audio_may_be_files(mapped, decoder, codec, alone, kind, file_format, tmp_path):
    files = decoder(kind, file_format=file_format, column="decoded")
    back = mapped.map(files, batched=True).cast_column("decoded", Audio(decode=False))
    assert back.features["audio"] == mapped.features["audio"]
    for row, clip in zip(back, alone, strict=True):
        path = tmp_path / "decoded"
        path.write_bytes(row["decoded"]["bytes"])
        assert row["decoded"]["path"] is None
        info = soundfile.info(path)
        assert (info.format, info.subtype) == (file_format.upper(), "PCM_16")
        samples, rate = soundfile.read(path, always_2d=True)
        expected = codec.decode(clip)
        assert (rate, samples.T.shape) == (clip.sampling_rate, expected.samples.shape)
        np.testing.assert_allclose(samples.T, expected.samples.clip(-1, 1), atol=FILE_TOLERANCE)


def test_loudness_is_restored_unless_it_is_told_not_to(mapped, decoder, codec, alone, kind):
    as_coded = decoder(kind, restore_loudness=False)(mapped[:2])["audio"]
    for value, clip in zip(as_coded, alone, strict=False):
        expected = codec.decode(clip, restore_loudness=False).samples
        np.testing.assert_allclose(value["array"], expected, atol=TOLERANCE)


def test_one_row_is_decoded_without_batching(mapped, decoder, codec, alone, kind):
    value = decoder(kind)(mapped[2])["audio"]
    np.testing.assert_allclose(value["array"], codec.decode(alone[2]).samples, atol=TOLERANCE)


# --- options: of one model -----------------------------------------------------------------------


def one_batch(clips):
    return {"audio": [{"array": samples, "sampling_rate": rate} for samples, rate in clips]}


def test_fewer_codebooks_may_be_asked_for(encoder, named, clips_of_dac):
    rows = encoder(n_quantizers=2)(one_batch(clips_of_dac[:1]))
    expected = named["dac"].codec().encode(*clips_of_dac[0], n_quantizers=2).codes
    assert expected.shape[1] == 2
    assert np.array_equal(rows["codes"][0], expected[0])


def test_a_bandwidth_may_be_asked_for(encoder, named, clips_of_dac):
    rows = encoder("encodec_24khz", bandwidth=3.2)(one_batch(clips_of_dac[:1]))
    expected = named["encodec_24khz"].codec().encode(*clips_of_dac[0], bandwidth=3.2).codes
    assert expected.shape[1] == 1
    assert np.array_equal(rows["codes"][0], expected[0])


def test_channels_are_mixed_where_it_is_asked_for(encoder, named, clips_of_dac):
    rows = encoder(mix_channels=True)(one_batch(clips_of_dac[:2]))
    assert rows["num_channels"] == [1, 1]
    for codes, clip in zip(rows["codes"], clips_of_dac[:2], strict=True):
        expected = named["dac"].codec().encode(*clip, mix_channels=True).codes
        assert np.array_equal(codes, expected[0])


@pytest.mark.parametrize("loudness_db", [None, -30.0])
def test_clips_are_brought_to_the_loudness_that_is_asked_for(
    encoder, named, clips_of_dac, loudness_db
):
    rows = encoder(loudness_db=loudness_db)(one_batch(clips_of_dac[:2]))
    for index, clip in enumerate(clips_of_dac[:2]):
        expected = named["dac"].codec().encode(*clip, loudness_db=loudness_db)
        assert np.array_equal(rows["codes"][index].reshape(expected.codes.shape), expected.codes)
        is_known = not np.isnan(rows["input_db"][index])
        assert is_known == (loudness_db is not None)


def test_a_clip_too_long_for_memory_has_the_same_codes(encoder, clips_of_dac, monkeypatch):
    in_memory = encoder()(one_batch(clips_of_dac))
    monkeypatch.setattr(encode_audio_module, "HELD_S", 0.18)
    np.testing.assert_equal(encoder()(one_batch(clips_of_dac)), in_memory)


def test_another_column_may_hold_the_audio(encoder, clips_of_dac):
    batch = one_batch(clips_of_dac[:1])
    rows = encoder(column="speech")({"speech": batch["audio"], "audio": [None]})
    np.testing.assert_equal(rows, encoder()(batch))


@pytest.fixture(scope="session")
def clips_of_dac():
    return mixed_clips()


# --- audio as a model takes it -------------------------------------------------------------------


def test_prepared_audio_is_what_is_encoded(dataset, mapped, folders, codec, clips, kind):
    columns = {name: mapped[name][:] for name in ("sampling_rate", "num_samples", "input_db")}
    prepared = dataset.map(PrepareAudio(folders[kind]), batched=True, batch_size=3)
    assert prepared.features["input_values"] == List(List(Value("float32")))
    np.testing.assert_equal({name: prepared[name][:] for name in columns}, columns)
    how = codec.preparation()
    for values, clip in zip(prepared["input_values"], clips, strict=True):
        assert np.array_equal(np.array(values, np.float32), np.concatenate([*how.of(*clip)], 1))


def test_audio_is_prepared_without_the_weights(dac_folder, clips_of_dac, monkeypatch):
    monkeypatch.setattr("codax.corpus.loading.AudioCodec", None)
    prepared = PrepareAudio(dac_folder)(one_batch(clips_of_dac))
    assert [len(values) for values in prepared["input_values"]] == [1, 2, 2, 1]
