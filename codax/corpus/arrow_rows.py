"""The rows of `codax.corpus.rows` as Arrow tables, as `datasets` types them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from codax.corpus.rows import codes_dtype, empty_row

TYPES = {
    "sampling_rate": pa.int64(),
    "num_samples": pa.int64(),
    "num_channels": pa.int64(),
    "input_db": pa.float64(),
    "segment_frames": pa.list_(pa.int32()),
    "scales": pa.list_(pa.list_(pa.float32())),
    "error": pa.string(),
}
"""Of all columns but the codes, whose type depends on the model."""


def row_schema(config: Any, errors: str = "raise") -> pa.Schema:
    """The columns of rows that a model with this configuration makes.

    errors: "mark" for rows that have a column `error`, as `EncodeAudio` takes it
    """
    codes = pa.from_numpy_dtype(codes_dtype(config.codebook_size))
    types = {**TYPES, "codes": pa.list_(pa.list_(codes))}
    names = [*empty_row(config), *(["error"] if errors == "mark" else [])]
    return pa.schema([(name, types[name]) for name in names])


def row_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as `rows.row_of` and `rows.empty_row` make them; of no rows, an empty table."""
    rows = list(rows)
    columns = [
        pa.array([_lists(row[field.name]) for row in rows], type=field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def value_of(scalar: pa.Scalar) -> Any:
    """A value of a column, as Python has it, but for lists of numbers, which come as arrays."""
    if isinstance(scalar, pa.StructScalar):
        return {name: value_of(scalar[name]) for name in scalar} if scalar.is_valid else None
    if isinstance(scalar, pa.ListScalar) and scalar.is_valid:
        values = scalar.values
        if pa.types.is_primitive(values.type):
            return values.to_numpy(zero_copy_only=False)
        return [value_of(value) for value in values]
    return scalar.as_py()


def _lists(value: Any) -> Any:
    """An array of two dimensions as a list of arrays, which is what Arrow takes."""
    return list(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value
