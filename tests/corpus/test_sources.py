"""What a corpus is opened by: clips, the columns beside them, and what tells that it changed."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Array2D, Audio, Dataset, Features, Image, Value
from datasets.exceptions import DatasetGenerationError

from codax import CodaxError
from codax.corpus.corpora import ROWS_AT_ONCE
from codax.corpus.sources import open_corpus

FILE = {"bytes": Value("binary"), "path": Value("string")}


@pytest.fixture
def folder(tmp_path):
    """Files whose content nobody reads here."""
    (tmp_path / "rec" / "b").mkdir(parents=True)
    for name in ("a.wav", "b/c.flac"):
        (tmp_path / "rec" / name).write_text(name)
    return tmp_path / "rec"


def all_of(corpus):
    return [*corpus.clips(0, len(corpus))]


def paths_in(folder, **options):
    return [row["path"] for _, row in all_of(open_corpus(folder, **options))]


def write_manifest(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_table(path, row_group_size=None, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def clips_named(*names):
    return [{"bytes": name.encode(), "path": f"{name}.wav"} for name in names]


def test_links_to_folders_are_followed_but_not_in_circles(folder, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.wav").write_text("d")
    (folder / "linked").symlink_to(tmp_path / "more")
    (folder / "b" / "back").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    assert paths_in(folder) == ["a.wav", "b/c.flac", "linked/d.wav"]


def test_hidden_folders_are_left_out_for_audio_as_for_parquet(folder):
    for name in (".cache/hidden.wav", ".cache/hidden.parquet", "._a.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert paths_in(folder) == ["a.wav", "b/c.flac"]


def test_the_output_below_a_source_is_no_part_of_it(folder):
    write_table(folder / "tokens" / "data" / "train-0.parquet", codes=[1])
    (folder / "tokens" / "e.wav").write_text("e")
    assert paths_in(folder, leave_out=folder / "b" / ".." / "tokens") == ["a.wav", "b/c.flac"]


def test_a_source_that_is_the_output_is_refused(folder):
    with pytest.raises(CodaxError, match="cannot be the output as well"):
        open_corpus(folder, leave_out=folder)


def test_a_folder_of_audio_and_parquet_is_refused_and_names_both(folder):
    write_table(folder / "metadata.parquet", file_name=["a.wav"])
    with pytest.raises(CodaxError, match=r"rec/a\.wav, as well as Parquet, .*metadata\.parquet"):
        open_corpus(folder)


@pytest.mark.parametrize("as_files", [False, True])
def test_paths_in_a_table_are_beside_it(folder, as_files):
    names = ["a.wav", "b/c.flac"]
    values = [{"bytes": None, "path": name} for name in names] if as_files else names
    corpus = open_corpus(write_table(folder / "metadata.parquet", file_name=values))
    found = [value["path"] if as_files else value for value, _ in all_of(corpus)]
    assert found == [str(folder / name) for name in names]


def test_the_name_of_a_clip_that_comes_as_bytes_stays(tmp_path):
    corpus = open_corpus(write_table(tmp_path / "a.parquet", audio=clips_named("x")))
    assert all_of(corpus) == [({"bytes": b"x", "path": "x.wav"}, {})]


def test_a_name_that_is_no_utf8_is_told_in_escapes(folder):
    with open(os.fsencode(folder) + b"/\xff.wav", "wb"):
        pass
    assert paths_in(folder) == ["a.wav", "b/c.flac", r"\xff.wav"]


def test_a_manifest_has_the_columns_of_all_of_its_lines(tmp_path):
    rows = [{"audio": "a.wav"}, {"text": "b", "audio": "b.wav"}, {"audio": "c.wav", "id": 3}]
    corpus = open_corpus(write_manifest(tmp_path / "corpus.jsonl", *rows))
    assert corpus.schema.names == ["audio", "text", "id"]
    assert [row["text"] for _, row in all_of(corpus)] == [None, "b", None]
    assert [row["id"] for _, row in all_of(corpus)] == [None, None, 3]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"audio": "b.wav", "text": "caf\xe9"}', "line 3 is no UTF-8"),
        (b'{"audio": "b.wav", "text": "a\\ud800"}', "line 3: 'text'"),
        (b'{"audio": "b.wav", "text": %d}' % 2**70, "line 3: 'text'"),
        (b'{"audio": "b.wav", "text": 5}', "things of different types in 'text'"),
        (b'{"text": "no audio"}', "line 3 has no path in 'audio'"),
        (b'{"audio": "b.wav", "\\ud800": 1}', "the name"),
        (b"[" * 100_000, "line 3 is no JSON"),
    ],
)
def test_an_odd_line_of_a_manifest_is_named(tmp_path, line, told):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"audio": "a.wav", "text": "one"}\n\n' + line + b"\n")
    with pytest.raises(CodaxError) as error:
        open_corpus(path)
    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def saved(folder, values, **features):
    column = next(iter(features))
    rows = {"audio": clips_named(*"ab"), column: values}
    dataset = Dataset.from_dict(rows, Features({"audio": FILE, column: FILE}))
    dataset.cast_column(column, features[column]).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize("feature", [Audio(decode=True), Image()], ids=["audio", "image"])
def test_no_other_column_of_a_data_set_is_decoded(tmp_path, feature):
    corpus = open_corpus(saved(tmp_path / "saved", clips_named(*"cd"), other=feature))
    values, rows = zip(*all_of(corpus), strict=True)
    assert list(values) == clips_named(*"ab")
    assert [row["other"] for row in rows] == clips_named(*"cd")
    assert pa.array([row["other"] for row in rows], corpus.schema.field("other").type)


def test_arrays_of_a_data_set_go_along_as_lists(tmp_path):
    features = Features({"audio": FILE, "grid": Array2D((2, 2), "float32")})
    grids = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    dataset = Dataset.from_dict({"audio": clips_named(*"ab"), "grid": grids}, features)
    dataset.save_to_disk(str(tmp_path / "saved"))
    corpus = open_corpus(tmp_path / "saved")
    assert [row["grid"] for _, row in all_of(corpus)] == grids
    assert str(corpus.schema.field("grid").type) == "list<item: list<item: float>>"


def test_a_folder_that_only_looks_like_a_saved_data_set_is_told(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(CodaxError, match="is no data set that can be loaded"):
        open_corpus(tmp_path)


def test_a_data_set_that_cannot_be_generated_is_told_with_the_cause(monkeypatch):
    def load_dataset(*_, **__):
        raise DatasetGenerationError("while generating") from ValueError("line 3 is bad")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(CodaxError, match=r"some/corpus: .*while generating: line 3 is bad"):
        open_corpus("some/corpus")


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = write_table(tmp_path / "a.parquet", audio=clips_named(*"abcd" * 100))
    corpus = open_corpus(path)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(CodaxError, match=r"a\.parquet: "):
        all_of(corpus)


@pytest.fixture
def counted(monkeypatch):
    """The rows of batches that were read of Parquet files."""
    counts = []
    iterate = pq.ParquetFile.iter_batches

    def iter_batches(self, *arguments, **options):
        for batch in iterate(self, *arguments, **options):
            counts.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    return counts


NAMES = [f"clip {index}" for index in range(100)]


@pytest.fixture
def table(tmp_path):
    values = [{"bytes": None, "path": f"/{name}"} for name in NAMES]
    return write_table(tmp_path / "a.parquet", row_group_size=60, audio=values, text=NAMES)


@pytest.mark.parametrize("every", [1, 3])
def test_shards_of_a_process_read_a_row_group_once(table, counted, every):
    corpus = open_corpus(table)
    spans = [(start, min(start + 7, 100)) for start in range(0, 100, 7)][::every]
    found = [row["text"] for span in spans for _, row in corpus.clips(*span)]
    assert found == [name for start, stop in spans for name in NAMES[start:stop]]
    assert sum(counted) <= 100
    assert max(counted) <= ROWS_AT_ONCE


def test_a_row_group_is_not_held_in_memory(tmp_path):
    random = np.random.default_rng(0)
    values = [{"bytes": random.bytes(50_000), "path": name} for name in NAMES * 4]
    pq.write_table(pa.table({"audio": values}), tmp_path / "a.parquet", write_batch_size=4)
    corpus, before = open_corpus(tmp_path / "a.parquet"), pa.total_allocated_bytes()
    del values
    held = [pa.total_allocated_bytes() - before for _ in corpus.clips(0, 400)]
    assert max(held) < 10_000_000  # of 20 MB; 16 rows and a page, each more than once, are 5


def test_clips_of_a_table_can_be_had_in_any_order(table):
    corpus = open_corpus(table)
    for start, stop in [(90, 100), (3, 5), (4, 62), (0, 1), (59, 60), (60, 61)]:
        assert [row["text"] for _, row in corpus.clips(start, stop)] == NAMES[start:stop]


def test_arrays_in_a_table_come_as_arrays(tmp_path):
    samples = [{"array": [0.5, -0.5], "sampling_rate": 8000}]
    ((value, _),) = all_of(open_corpus(write_table(tmp_path / "a.parquet", audio=samples)))
    assert isinstance(value["array"], np.ndarray)
    assert value["array"].tolist() == [0.5, -0.5]


def test_the_digest_is_that_of_the_clips_not_of_how_the_source_is_spelled(
    folder, table, monkeypatch
):
    before = open_corpus(folder).digest(), open_corpus(table).digest()
    monkeypatch.chdir(folder.parent)
    assert (open_corpus("rec").digest(), open_corpus("a.parquet").digest()) == before


def test_the_digest_of_a_folder_tells_that_a_file_was_written(folder):
    before = open_corpus(folder).digest()
    (folder / "a.wav").write_text("longer than before")
    assert open_corpus(folder).digest() != before


def test_the_digest_of_a_table_tells_that_rows_have_changed_places(tmp_path):
    path = tmp_path / "a.parquet"
    before = open_corpus(write_table(path, audio=clips_named(*"ab"))).digest()
    written = path.stat()
    write_table(path, audio=clips_named(*"ba"))
    # A clock may be coarser than the time between the two.
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns + 1_000_000))
    assert open_corpus(path).digest() != before


def test_the_digest_of_a_manifest_tells_of_every_word(tmp_path):
    path = tmp_path / "corpus.jsonl"
    first = open_corpus(write_manifest(path, {"audio": "a.wav", "text": "old"})).digest()
    assert open_corpus(write_manifest(path, {"audio": "a.wav", "text": "new"})).digest() != first
    assert open_corpus(write_manifest(path, {"audio": "a.wav", "text": "old"})).digest() == first
