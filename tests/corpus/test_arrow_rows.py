"""Rows as Arrow tables have the types that `datasets.map` gives them."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features

from codax import EncodecConfig, EncodedAudio
from codax.configuration import DacConfig
from codax.corpus.arrow_rows import row_schema, row_table, value_of
from codax.corpus.rows import SMALL_CODEBOOK, empty_row, row_of
from tests.tiny_encodec import MONO, STEREO

CONFIGS = {
    "dac": DacConfig(codebook_size=16),
    "large codebooks": DacConfig(codebook_size=2 * SMALL_CODEBOOK),
    "encodec_24khz": EncodecConfig(**MONO),
    "encodec_48khz": EncodecConfig(**STEREO),
}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def row(config):
    segmented = getattr(config, "normalize", False)
    clip = EncodedAudio(
        codes=np.arange(12).reshape(1, 3, 4) % 16,
        sampling_rate=8000,
        num_samples=40,
        channels_per_stream=config.audio_channels,
        segment_frames=(2, 2) if segmented else None,
        scales=np.full((1, 2), 0.5, np.float32) if segmented else None,
    )
    return row_of(clip, config.codebook_size)


def mapped(*rows):
    """What `datasets` makes of rows."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    dataset = Dataset.from_dict({"id": range(len(rows))})
    return dataset.map(lambda _: columns, batched=True, remove_columns=["id"]).data.table


@pytest.mark.parametrize("errors", ["raise", "mark"])
def test_tables_of_rows_are_those_of_datasets(config, row, errors):
    rows = [row, row]
    if errors == "mark":
        rows = [{**row, "error": ""}, {**empty_row(config), "error": "bad"}]
    schema = row_schema(config, errors)
    table, expected = row_table(rows, schema), mapped(*rows)
    assert table.schema.equals(expected.schema.remove_metadata())
    for name in schema.names:
        assert repr(table[name].to_pylist()) == repr(expected[name].to_pylist()), name  # of NaN


def test_a_table_of_no_rows_has_the_same_types(config, row):
    schema = row_schema(config)
    table = row_table([], schema)
    assert (table.num_rows, table.schema) == (0, row_table([row], schema).schema)
    assert Features.from_arrow_schema(schema).keys() == row.keys()


def test_lists_of_numbers_come_from_tables_as_arrays_of_their_type():
    value = {"array": [[1.5, 2.0], [0.25, 0.0]], "path": None}
    kinds = pa.struct([("array", pa.list_(pa.list_(pa.float32()))), ("path", pa.string())])
    one, nothing = (value_of(scalar) for scalar in pa.array([value, None], kinds))
    assert [channel.dtype for channel in one["array"]] == [np.float32, np.float32]
    assert np.array_equal(one["array"], value["array"])
    assert (one["path"], nothing) == (None, None)
    assert value_of(pa.scalar([1, 2], pa.list_(pa.int16()))).dtype == np.int16
    assert value_of(pa.scalar([1, 2], pa.list_(pa.int16(), 2))).dtype == np.int16
    assert value_of(pa.scalar([1, 2], pa.large_list(pa.int16()))).dtype == np.int16
