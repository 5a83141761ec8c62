"""The code of docs/corpora.md, run as it stands but for the name of the model."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codax import FlaxDacModel
from codax.codec.batches import SHORTEST_S, PartSizes
from codax.corpus import undelayed, unflattened
from tests.conftest import write_tiny_dac

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
HUB_ID = "descript/dac_44khz"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the blocks of the page leave, run one after the other."""
    folder = tmp_path_factory.mktemp("docs")
    model = write_tiny_dac(folder / "model", n_codebooks=9, codebook_size=1024)
    assets = ROOT / "tests" / "assets"
    shutil.copytree(assets, folder / "tests" / "assets")
    values = [{"bytes": path.read_bytes(), "path": path.name} for path in assets.glob("*.flac")]
    pq.write_table(pa.table({"audio": values}), folder / "recordings.parquet")
    names = {"model_folder": str(model)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        for block in re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL):
            if "ray" not in block:
                exec(block.replace(HUB_ID, str(model)), names)
    return names


def test_recordings_become_batches_of_both_layouts(ran):
    assert ran["steps"].shape == (4, 4, 64 + 4 - 1)
    assert ran["inputs"].shape == ran["targets"].shape == (4, 4, 66)
    assert ran["sequence"].shape == (4, 64 * 4)


def test_both_layouts_hold_the_same_codes_and_go_back_to_audio(ran):
    for steps, sequence in zip(ran["steps"], ran["sequence"], strict=True):
        assert np.array_equal(undelayed(steps), unflattened(sequence, 4, 1024))
    codes = undelayed(ran["steps"][0])
    audio = FlaxDacModel.from_pretrained(ran["model_folder"]).decode(audio_codes=codes[None])
    assert audio.audio_values.shape == (1, 64 * 10 - 2)


def test_pieces_are_those_of_the_clips(ran):
    tokens = ran["tokens"][0]["codes"]
    assert len(tokens) == 4
    piece = ran["pieces"][1]["tokens"]
    expected = [book[64:128] for book in tokens]
    assert np.array_equal(unflattened(piece, 4, 1024), expected)


def test_the_table_of_columns_is_complete(ran):
    table = DOCS[DOCS.index("| column | type |") :].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert names == {*ran["tokens"].column_names, "segment_frames", "scales"}


def test_audio_is_prepared_for_a_training_loop(ran):
    row = ran["prepared"].with_format("numpy")[0]
    assert row["input_values"].dtype == np.float32
    assert row["input_values"].shape[0] == 1


def test_the_number_of_lengths_that_the_page_tells_is_that_of_the_parts():
    frame_rate, longest = 75, 2250  # of EnCodec at 24 kHz, which codes up to 30 s whole
    sizes = PartSizes(round(SHORTEST_S * frame_rate), longest, batch=0)
    lengths = {sizes.size_of(frames) for frames in range(2 * frame_rate, longest + 1)}
    assert f"clips of 2 to 30 s have up to {len(lengths)} with EnCodec at 24 kHz" in DOCS
