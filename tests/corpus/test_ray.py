"""Ray Data: rows that workers encode are those of one process."""

import importlib
import os
import re
import sys

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from codax import AudioError
from codax.corpus import EncodeAudio

ray = pytest.importorskip("ray", reason='Ray Data needs pip install "codax[ray]"')
ray_data = importlib.import_module("codax.corpus.ray_data")

# Ray warns of what it sets itself. It forks to start programs of its own, in which no JAX runs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning"),
]

RATE = 8000
LENGTHS = (4000, 1500, 3999)
CLIPS = 12
BAD = 5
STARTED_WITHIN_S = 60
JOBS = ("reader", "encoder")


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, which asks nobody and leaves nothing in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        # What Ray itself warns of, in its workers, is not for these tests.
        patch.delenv("PYTHONWARNINGS", raising=False)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=2**28,
        )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        yield context
        ray.shutdown()


@pytest.fixture(scope="module")
def audio_folder(tmp_path_factory):
    """Files at two rates, mono and stereo; one is no audio."""
    folder = tmp_path_factory.mktemp("audio")
    for index in range(CLIPS):
        random = np.random.default_rng(index)
        samples = 0.1 * random.standard_normal((LENGTHS[index % 3], 1 + index % 2))
        rate = RATE if index % 4 else 11025
        soundfile.write(folder / f"{index:02}.wav", samples.astype(np.float32), rate)
    (folder / f"{BAD:02}.wav").write_bytes(b"no audio")
    return folder


@pytest.fixture(scope="module")
def corpus(audio_folder):
    """Half of the clips are paths, half bytes."""
    paths = sorted(audio_folder.iterdir())
    audio = [
        {"path": str(path), "bytes": path.read_bytes() if index % 2 else None}
        for index, path in enumerate(paths)
    ]
    return datasets.Dataset.from_dict({"id": range(CLIPS), "audio": audio})


def by_id(table):
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def same_rows(rows, expected):
    return repr(rows) == repr(expected)  # NaN included


def test_two_workers_write_the_rows_of_one_process(
    cluster, corpus, tiny_folder, tmp_path, monkeypatch
):
    # No worker is so fast that it leaves nothing to the other.
    monkeypatch.setattr(cluster, "wait_for_min_actors_s", STARTED_WITHIN_S)
    alone = EncodeAudio(tiny_folder, errors="mark")
    expected = corpus.map(alone, batched=True, remove_columns=["audio"])

    class Witnessed(EncodeAudio):
        def prepared(self, items, how=None):
            (tmp_path / f"{os.getpid()}.reader").touch()
            return super().prepared(items, how)

        def encoded_clips(self, clips):
            (tmp_path / f"{os.getpid()}.encoder").touch()
            return super().encoded_clips(clips)

    encode = Witnessed(tiny_folder, errors="mark")
    dataset = ray_data.encode_dataset(
        ray.data.from_huggingface(corpus).repartition(3), encode, concurrency=2, batch_size=2
    )
    dataset.write_parquet(str(tmp_path / "codes"))
    readers, encoders = ({one.stem for one in tmp_path.glob(f"*.{job}")} for job in JOBS)
    assert len(encoders) == 2
    assert readers
    assert not readers & encoders

    written = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "codes"), split="train", cache_dir=str(tmp_path)
    )
    assert written.features == expected.features
    rows = by_id(written.data.table)
    assert same_rows(rows, by_id(expected.data.table))
    assert [row["id"] for row in rows if row["error"]] == [BAD]
    assert {row["num_channels"] for row in rows if not row["error"]} == {1, 2}


def test_a_bad_clip_ends_the_job_with_its_name(cluster, corpus, tiny_folder):
    dataset = ray_data.encode_dataset(
        ray.data.from_huggingface(corpus.select([BAD + 1, BAD])), EncodeAudio(tiny_folder)
    )
    with pytest.raises(Exception, match=f"{BAD:02}.wav: .*errors='mark' goes on without it"):
        dataset.materialize()


def coded(table, encode, keep_audio=False):
    """What the task and the actor make of a table, in this process."""
    how = encode.preparation()
    schema = ray_data.row_schema(encode.named.config(), encode.errors)
    actor = ray_data._Encode(encode, how, schema, keep_audio)
    return actor(ray_data._prepare(table, encode, how, keep_audio))


@pytest.fixture(scope="module")
def encode(tiny_folder):
    return EncodeAudio(tiny_folder, errors="mark", sampling_rate=RATE)


@pytest.fixture
def table(corpus):
    return corpus.data.table.combine_chunks()


def test_long_clips_are_left_to_the_actor(table, encode, monkeypatch):
    table = table.take([4, 9])
    expected = by_id(coded(table, encode))
    monkeypatch.setattr("codax.corpus.encode_audio.HELD_S", 0.4)
    prepared = ray_data._prepare(table, encode, encode.preparation(), keep_audio=False)
    unread = [row["id"] for row in prepared.to_pylist() if row["audio"] is not None]
    assert unread == [9]
    assert same_rows(by_id(coded(table, encode)), expected)


def test_a_long_clip_that_the_actor_cannot_read_is_marked(tmp_path, encode, monkeypatch):
    monkeypatch.setattr("codax.corpus.encode_audio.HELD_S", 0.2)
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    how = encode.preparation()
    schema = ray_data.row_schema(encode.named.config(), encode.errors)
    prepared = ray_data._prepare(pa.table({"audio": [str(path)]}), encode, how, False)
    path.unlink()
    (row,) = ray_data._Encode(encode, how, schema, False)(prepared).to_pylist()
    assert row["codes"] == []
    assert "long.wav" in row["error"]


def test_a_long_clip_that_is_bad_late_is_marked_by_its_name(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr("codax.corpus.encode_audio.HELD_S", 0.2)
    monkeypatch.setattr("codax.feature_extraction.audio_input._BLOCK_SIZE", 2000)
    samples = np.zeros(RATE)
    samples[-1] = np.nan
    soundfile.write(tmp_path / "late.wav", samples, RATE, "FLOAT")
    content = {"bytes": (tmp_path / "late.wav").read_bytes(), "path": "late.wav"}
    encode = EncodeAudio(tiny_folder, errors="mark", loudness_db=None)
    (row,) = coded(pa.table({"audio": [content]}), encode).to_pylist()
    assert row["error"].startswith("late.wav: ")
    assert "the sample at [0, 7999] is nan" in row["error"]


def test_an_actor_codes_parts_of_several_clips_at_once(table, tiny_folder):
    table = table.take([1, 2, 3, 4])
    alone = coded(table, EncodeAudio(tiny_folder))
    together = coded(table, EncodeAudio(tiny_folder, chunk_length_s=0.1, batch_length_s=2.0))
    assert same_rows(by_id(together), by_id(alone))


@pytest.mark.parametrize("channels", [1, 2])
def test_arrays_of_a_table_are_audio(encode, channels):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, 4000)).astype(np.float32)
    audio = pa.array([[*samples]], pa.list_(pa.list_(pa.float32())))
    row = coded(pa.table({"audio": audio}), encode).to_pylist()[0]
    assert row["codes"] == encode({"audio": [samples]})["codes"][0].tolist()


def test_segments_keep_their_scales(encodec_stereo_folder):
    encode = EncodeAudio(encodec_stereo_folder)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4000)).astype(np.float32)
    kind = pa.struct([("array", pa.list_(pa.list_(pa.float32()))), ("sampling_rate", pa.int64())])
    audio = pa.array([{"array": [*samples], "sampling_rate": RATE}], kind)
    (row,) = coded(pa.table({"audio": audio}), encode).to_pylist()
    expected = encode({"audio": {"array": samples, "sampling_rate": RATE}})
    for name in ("codes", "segment_frames", "scales"):
        assert row[name] == expected[name].tolist()


def test_other_columns_stay_and_those_of_the_same_name_are_replaced(table, encode):
    table = table.slice(0, 2).append_column("codes", pa.array(["old", "older"]))
    kept = coded(table, encode, keep_audio=True)
    assert kept.column_names[:3] == ["id", "audio", "codes"]
    assert kept["audio"].equals(table["audio"])
    assert kept["codes"].type == pa.list_(pa.list_(pa.int16()))
    assert coded(table, encode).column_names == [n for n in kept.column_names if n != "audio"]


def test_a_table_of_no_rows_gives_one_of_the_same_columns(table, encode):
    assert coded(table.slice(0, 0), encode).schema == coded(table.slice(0, 2), encode).schema


def test_a_column_that_is_missing_is_named(table, encode):
    with pytest.raises(KeyError, match="no column 'audio', but id"):
        coded(table.select(["id"]), encode)


def test_a_bad_clip_is_raised_by_the_task(table, tiny_folder):
    encode = EncodeAudio(tiny_folder)
    with pytest.raises(AudioError, match=f"{BAD:02}.wav: .*errors='mark' goes on without it"):
        ray_data._prepare(table, encode, encode.preparation(), False)


def test_without_ray_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "codax.corpus.ray_data")
    with pytest.raises(ImportError, match=re.escape('pip install "codax[ray]"')):
        importlib.import_module("codax.corpus.ray_data")
