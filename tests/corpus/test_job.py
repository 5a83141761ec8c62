"""`codax tokenize`: shards that are whole, and the same however often a run was broken off."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Dataset, load_dataset

from codax import AudioCodec, CodaxError
from codax.cli.main import main
from codax.corpus import EncodeAudio, clip_of
from codax.corpus.job import TokenizeJob
from codax.corpus.job_manifest import JobManifest
from codax.corpus.places import Place
from codax.corpus.sources import open_corpus
from tests.conftest import write_tiny_dac

RATE = 8000
CLIPS = 24
# One length, so that little is compiled; mono and stereo, and one that is no audio.
NUM_SAMPLES = 3000
BAD = 7
# About the time that a shard takes.
KILLED_WITHIN_S = 0.03


def write_clip(path, index):
    random = np.random.default_rng(index)
    samples = 0.1 * random.standard_normal((NUM_SAMPLES, 1 + index % 2))
    soundfile.write(path, samples.astype(np.float32), RATE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_tiny_dac(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Audio below two folders, and a file that is none."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "b").mkdir()
    for index in range(CLIPS):
        path = folder / ("b" if index % 3 else "") / f"{index:02}.wav"
        if index == BAD:
            path.write_text("no audio")
        else:
            write_clip(path, index)
    return folder


def tokenize(source, output, model, *options):
    arguments = ["tokenize", str(source), "--output", str(output), "--model", model]
    return main([*arguments, "--clips-per-shard", "5", *options])


@pytest.fixture(scope="module")
def table(folder, tmp_path_factory):
    """Four clips, in another order in another column."""
    paths = sorted((folder / "b").iterdir())[:4]
    values = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    path = tmp_path_factory.mktemp("table") / "two.parquet"
    pq.write_table(pa.table({"audio": values, "other": values[::-1]}), path)
    return path


@pytest.fixture(scope="module")
def tokens(folder, model, tmp_path_factory):
    output = tmp_path_factory.mktemp("tokens") / "tokens"
    assert tokenize(folder, output, model) == 0
    return output


def contents(folder):
    """SHA-256 by relative path, hidden files too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(output):
    paths = sorted((output / "data").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in paths]).to_pylist()


def test_every_clip_has_the_codes_that_it_has_alone(folder, model, tokens):
    codec = AudioCodec.from_pretrained(model)
    rows = rows_of(tokens)
    assert len(rows) == CLIPS - 1
    for row in rows:
        clip = codec.encode(folder / row["path"])
        assert np.array_equal(clip_of(row).codes, clip.codes), row["path"]
        assert clip_of(row).input_db == clip.input_db
        assert row["num_samples"] == NUM_SAMPLES


def test_datasets_opens_the_folder(tokens, hf_home):
    dataset = load_dataset(str(tokens), split="train")
    assert len(dataset) == CLIPS - 1
    assert str(dataset.features["codes"]) == "List(List(Value('int16')))"


def test_rows_are_in_the_order_of_the_files(folder, tokens):
    paths = [row["path"] for row in rows_of(tokens)]
    assert paths == sorted(paths, key=lambda path: str(folder / path))


def test_a_clip_that_is_skipped_is_listed_with_the_reason(tokens):
    (path,) = (tokens / "skipped").iterdir()
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    paths = [row["path"] for row in rows_of(tokens)]
    assert line["clip"] == paths.index("b/08.wav")  # which comes next
    assert f"{BAD:02}.wav: no audio format that can be read" in line["reason"]


def test_the_manifest_tells_the_model_and_the_options(model, folder, tokens):
    manifest = json.loads((tokens / "manifest.json").read_text())
    assert manifest["model"] == model
    assert len(manifest["revision"]) == 64
    assert manifest["source"] == str(folder)
    assert (manifest["clips"], manifest["shards"]) == (CLIPS, 5)
    assert (manifest["loudness_db"], manifest["codebook_size"]) == (-16.0, 16)
    assert (manifest["column"], manifest["split"]) == (None, "train")
    assert manifest["sampling_rate_of_arrays"] is None


def test_doing_it_again_changes_nothing(folder, model, tokens, capsys):
    times = {path: path.stat().st_mtime_ns for path in tokens.rglob("*")}
    assert tokenize(folder, tokens, model, "--json") == 0
    assert {path: path.stat().st_mtime_ns for path in tokens.rglob("*")} == times
    summary = json.loads(capsys.readouterr().out)
    assert (summary["clips"], summary["skipped"], summary["audio_s"]) == (CLIPS, 1, 0)


def test_a_lost_shard_is_made_again_with_the_same_bytes(folder, model, tokens):
    before = contents(tokens)
    (tokens / "data" / "train-00001-of-00005.parquet").unlink()
    assert tokenize(folder, tokens, model) == 0
    assert contents(tokens) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--n-quantizers", "2"], "n_quantizers None, now 2"),
        (["--mix"], "mix_channels False, now True"),
        (["--clips-per-shard", "6"], "clips_per_shard 5, now 6"),
        (["--split", "test"], "split 'train', now 'test'"),
    ],
)
def test_other_options_do_not_mix_with_what_is_there(folder, model, tokens, capsys, options, told):
    before = contents(tokens)
    assert tokenize(folder, tokens, model, *options) == 1
    assert told in capsys.readouterr().err
    assert contents(tokens) == before


def test_another_corpus_does_not_mix_with_what_is_there(folder, model, tokens, tmp_path, capsys):
    for index in range(2):
        write_clip(tmp_path / f"{index}.wav", index)
    assert tokenize(tmp_path, tokens, model) == 1
    assert f"source {str(folder)!r}, now {str(tmp_path)!r}" in capsys.readouterr().err


def test_clips_that_were_written_anew_do_not_mix_with_what_is_there(
    folder, model, tmp_path, capsys
):
    source = tmp_path / "rec"
    shutil.copytree(folder, source)
    assert tokenize(source, tmp_path / "out", model) == 0
    write_clip(source / "00.wav", 1)
    assert tokenize(source, tmp_path / "out", model) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.endswith(
        f"source {str(source)!r}: other clips, another order, or files written since"
    )


def test_another_column_does_not_mix_with_what_is_there(table, model, tmp_path, capsys):
    assert tokenize(table, tmp_path / "out", model, "--column", "audio") == 0
    assert tokenize(table, tmp_path / "out", model) == 0
    assert tokenize(table, tmp_path / "out", model, "--column", "other") == 1
    assert "column 'audio', now 'other'" in capsys.readouterr().err


def test_what_does_not_change_the_codes_may_differ(folder, model, tokens, monkeypatch):
    before = contents(tokens)
    monkeypatch.chdir(folder.parent)
    assert tokenize(folder.name, tokens, os.path.relpath(model), "--batch-length", "3") == 0
    assert contents(tokens) == before


def test_a_manifest_that_lacks_a_key_is_told_by_it(folder, model, tokens, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(tokens, output)
    manifest = json.loads((output / "manifest.json").read_text())
    del manifest["resample"]
    (output / "manifest.json").write_text(json.dumps(manifest))
    assert tokenize(folder, output, model) == 1
    assert "resample None, now True" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_manifest_of_others_is_told(folder, model, tmp_path, capsys, content):
    (tmp_path / "manifest.json").write_text(content)
    assert tokenize(folder, tmp_path, model) == 1
    assert "is no manifest of codax" in capsys.readouterr().err
    assert (tmp_path / "manifest.json").read_text() == content


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--n-quantizers", "99"], "99"),
        (["--batch-length", "-1"], "batch_length_s=-1.0"),
        (["--max-skipped", "-1"], "most_skipped=-1"),
        (["--split", "a/b"], "split='a/b'"),
        (["--split", "train+test"], "split='train+test'"),
        (["--clips-per-shard", "0"], "shard_clips=0"),
    ],
)
def test_a_refused_option_leaves_no_trace(folder, model, tmp_path, capsys, options, told):
    assert tokenize(folder, tmp_path / "out", model, *options) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_options_are_taken_as_long_as_there_is_no_shard(folder, model, tokens, tmp_path):
    facts = json.loads((tokens / "manifest.json").read_text())
    JobManifest(tmp_path, {**facts, "n_quantizers": 1}).settle()
    assert tokenize(folder, tmp_path, model) == 0
    assert contents(tmp_path) == contents(tokens)


def test_a_manifest_that_another_run_replaced_ends_this_one(folder, model, tmp_path):
    job = TokenizeJob(open_corpus(folder), EncodeAudio(model), tmp_path, shard_clips=5)

    def replace(_):
        (tmp_path / "manifest.json").write_text('{"codax": "0", "n_quantizers": 1}')

    with pytest.raises(CodaxError, match=r"made otherwise: .*n_quantizers 1, now None"):
        job.run(replace)
    assert not any((tmp_path / "data").iterdir())


def test_a_source_may_hold_the_output(folder, model, tokens, tmp_path):
    source = tmp_path / "rec"
    shutil.copytree(folder, source)
    for _ in range(2):
        assert tokenize(source, source / "tokens", model) == 0
    assert rows_of(source / "tokens") == rows_of(tokens)


def test_a_file_whose_name_is_no_utf8_is_encoded(model, tmp_path):
    (tmp_path / "rec").mkdir()
    write_clip(tmp_path / "rec" / "good.wav", 0)
    name = os.fsencode(tmp_path / "rec") + b"/\xff.wav"
    os.rename(shutil.copy(tmp_path / "rec" / "good.wav", tmp_path / "rec" / "copy.wav"), name)
    assert tokenize(tmp_path / "rec", tmp_path / "out", model) == 0
    good, odd = rows_of(tmp_path / "out")
    assert (good["path"], odd["path"]) == ("good.wav", r"\xff.wav")
    assert odd["codes"] == good["codes"]


def test_shards_are_named_by_the_split_that_is_sliced(folder, model, tmp_path, hf_home):
    assert tokenize(folder, tmp_path, model, "--split", "clean.100[:10%]", "--part", "0/5") == 0
    dataset = load_dataset(str(tmp_path), split="clean.100")
    assert len(dataset) == 5


@pytest.fixture(scope="module")
def some_bad(tmp_path_factory):
    """A first and a third shard of clips that are no audio, around one of good ones."""
    folder = tmp_path_factory.mktemp("some_bad")
    for index in range(15):
        if index // 5 == 1:
            write_clip(folder / f"{index:02}.wav", index)
        else:
            (folder / f"{index:02}.wav").write_text("no audio")
    return folder


def test_a_shard_without_codes_has_no_file_and_is_done(some_bad, model, tmp_path, hf_home, capsys):
    assert tokenize(some_bad, tmp_path, model) == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["train-00001-of-00003.parquet"]
    assert len(load_dataset(str(tmp_path), split="train")) == 5
    before = contents(tmp_path)
    capsys.readouterr()
    assert tokenize(some_bad, tmp_path, model, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["clips"], summary["skipped"], summary["elapsed_s"]) == (15, 10, 0)
    assert contents(tmp_path) == before


def test_the_limit_of_skipped_clips_holds_for_earlier_runs(some_bad, model, tmp_path, capsys):
    assert tokenize(some_bad, tmp_path, model) == 0
    assert tokenize(some_bad, tmp_path, model, "--max-skipped", "9") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "10 clips could not be encoded in earlier runs, allowed: 9" in message
    assert tokenize(some_bad, tmp_path, model, "--max-skipped", "10") == 0


def test_a_run_that_skipped_too_many_goes_on_with_a_higher_limit(some_bad, model, tmp_path):
    assert tokenize(some_bad, tmp_path / "out", model, "--max-skipped", "7") == 1
    assert tokenize(some_bad, tmp_path / "out", model) == 0
    assert tokenize(some_bad, tmp_path / "whole", model) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_clips_share_batches_and_keep_their_codes(model, tmp_path):
    """With parts of several lengths, each several times in a batch."""
    (tmp_path / "rec").mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        samples = 0.1 * random.standard_normal(2000 + 1500 * (index % 3))
        soundfile.write(tmp_path / "rec" / f"{index:02}.wav", samples.astype(np.float32), RATE)
    assert tokenize(tmp_path / "rec", tmp_path / "alone", model, "--batch-length", "0") == 0
    assert tokenize(tmp_path / "rec", tmp_path / "shared", model, "--batch-length", "4") == 0
    assert rows_of(tmp_path / "shared") == rows_of(tmp_path / "alone")


def test_several_processes_make_what_one_makes(folder, model, tokens, tmp_path):
    output = tmp_path / "shared"
    for rank in (1, 0, 2):
        job = TokenizeJob(
            open_corpus(folder),
            EncodeAudio(model),
            output,
            shard_clips=5,
            place=Place(rank, 3),
        )
        progress = job.run()
        assert progress.clips == progress.total < CLIPS
    assert contents(output) == contents(tokens)


def test_the_part_of_a_process_is_told_by_its_launcher(folder, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "4")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "5")
    assert tokenize(folder, tmp_path / "out", model) == 0
    names = [path.name for path in (tmp_path / "out" / "data").iterdir()]
    assert names == ["train-00004-of-00005.parquet"]


def test_too_many_bad_clips_end_the_run(folder, model, tmp_path, capsys):
    assert tokenize(folder, tmp_path / "out", model, "--max-skipped", "0") == 1
    message = capsys.readouterr().err
    assert "1 clips could not be encoded, allowed: 0" in message
    assert f"{BAD:02}.wav" in message
    assert list((tmp_path / "out" / "skipped").iterdir())


def killed_runs(kills, source, model, output, shard_clips):
    arguments = ["tokenize", str(source), "--output", str(output), "--model", model]
    within_s = str(KILLED_WITHIN_S * shard_clips)
    command = [sys.executable, "-m", "tests.corpus.killed_runs", within_s]
    done = subprocess.run(
        [*command, str(kills), "1", *arguments, "--clips-per-shard", str(shard_clips)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More shards than runs are killed, of one clip each."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(80):
        write_clip(folder / f"{index:02}.wav", index)
    (folder / "bad.wav").write_text("no audio")
    return folder


@pytest.mark.parametrize(
    ("kind", "shard_clips", "kills"),
    [
        ("folder", 1, 3),
        pytest.param("folder", 1, 20, marks=pytest.mark.full),
        # Killed in the middle of a shard, whose rows begin in the middle of a row group.
        pytest.param("parquet", 3, 8, marks=pytest.mark.full),
    ],
)
def test_runs_that_are_killed_end_with_the_same_bytes(
    many, model, tmp_path, hf_home, kind, shard_clips, kills
):
    source = sources_of(kind, many, tmp_path)
    options = ["--clips-per-shard", str(shard_clips)]
    assert tokenize(source, tmp_path / "unbroken", model, *options) == 0
    output = tmp_path / "tokens"
    output.mkdir()
    killed, status = killed_runs(kills, source, model, output, shard_clips)
    assert killed == kills
    assert status == 0
    assert contents(output) == contents(tmp_path / "unbroken")
    assert len(load_dataset(str(output), split="train")) == 80


def sources_of(kind, folder, path):
    """The corpus in another form, with a word for each clip."""
    paths = sorted(folder.rglob("*.wav"))
    words = [f"word {index}" for index in range(len(paths))]
    match kind:
        case "folder":
            path = folder
        case "manifest":
            lines = [
                json.dumps({"audio_filepath": str(one), "text": word})
                for one, word in zip(paths, words, strict=True)
            ]
            path = path / "corpus.jsonl"
            path.write_text("\n".join(lines))
        case "parquet":
            values = [{"bytes": one.read_bytes(), "path": one.name} for one in paths]
            path = path / "corpus.parquet"
            pq.write_table(pa.table({"audio": values, "text": words}), path, row_group_size=4)
        case "saved":
            values = [{"bytes": one.read_bytes(), "path": one.name} for one in paths]
            path = path / "saved"
            Dataset.from_dict({"audio": values, "text": words}).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("kind", ["manifest", "parquet", "saved"])
def test_other_sources_give_the_same_codes_and_keep_their_columns(
    kind, folder, model, tokens, tmp_path
):
    source = sources_of(kind, folder, tmp_path)
    assert tokenize(source, tmp_path / "out", model) == 0
    expected, rows = rows_of(tokens), rows_of(tmp_path / "out")
    assert [row["codes"] for row in rows] == [row["codes"] for row in expected]
    words = [f"word {index}" for index in range(CLIPS)]
    assert len({row["text"] for row in rows}) == CLIPS - 1
    assert [row["text"] for row in rows] == [word for word in words if word in _words(rows)]


def _words(rows):
    return {row["text"] for row in rows}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty", None, "holds no audio"),
        ("corpus.jsonl", "", "holds no clips"),
        ("corpus.jsonl", '{"audio": "a.wav"}\n{"audio', "line 2 is no JSON"),
        ("corpus.jsonl", "[1]", "line 1 is no object"),
        ("corpus.jsonl", '{"sound": "a.wav"}', "has no column"),
        ("corpus.jsonl", '{"audio": "a.wav"}\n{"audio": 1}', "line 2 has no path"),
        ("corpus.parquet", "PAR1", "Parquet"),
        ("corpus.txt", "a.wav", "a corpus is a folder"),
        ("nothing/here", None, "neither a file or folder, nor a data set"),
    ],
)
def test_what_is_no_corpus_is_told(model, tmp_path, monkeypatch, capsys, name, content, told):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    elif "/" not in name:
        path.mkdir()
    given = name if "/" in name else path
    assert tokenize(given, tmp_path / "out", model) == 1
    message = capsys.readouterr().err
    assert told in message
    assert len(message.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_output_with_other_files_is_left_as_it_is(folder, model, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "other.parquet").write_bytes(b"")
    before = contents(tmp_path)
    with pytest.raises(CodaxError, match=r"holds Parquet files, but no manifest\.json"):
        TokenizeJob(open_corpus(folder), EncodeAudio(model), tmp_path).run()
    assert contents(tmp_path) == before
