"""What an evaluation measured, from a file to a card."""

import json
import math
import os
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from codax.errors import CodaxError

TASK = "audio-to-audio"
REQUIRED = ("dataset_type", "dataset_name", "metric_type", "metric_value")
OPTIONAL = ("metric_name", "metric_config", "dataset_config", "dataset_split", "dataset_revision")


def read_results(path: str | os.PathLike) -> list[EvalResult]:
    """Read the results of an evaluation: a JSON list of objects with fields of `EvalResult`.

    `dataset_type` (a Hub id), `dataset_name`, `metric_type` and `metric_value` (a finite number)
    are required; `metric_name`, `metric_config` (the setting, such as "6 kbps"), `dataset_config`,
    `dataset_split` and `dataset_revision` may be there. Raises `CodaxError`, naming the file, for
    anything else.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CodaxError(f"{path}: is no JSON ({error})") from error
    if not isinstance(entries, list):
        raise CodaxError(f"{path}: must be a list of results")
    return [_result(entry, f"{path}: result {index}") for index, entry in enumerate(entries)]


def _result(entry: Any, name: str) -> EvalResult:
    if not isinstance(entry, dict) or not set(REQUIRED) <= set(entry):
        raise CodaxError(f"{name}: must have {', '.join(REQUIRED)}")
    if unknown := sorted(set(entry) - {*REQUIRED, *OPTIONAL}):
        raise CodaxError(f"{name}: does not take {', '.join(map(repr, unknown))}")
    for field in set(entry) - {"metric_value"}:
        text = entry[field]
        if not isinstance(text, str) or not text.isprintable():
            raise CodaxError(f"{name}: {field} {text!r} must be a line of text")
    value = entry["metric_value"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value if isinstance(value, float) else 0.0):
        raise CodaxError(f"{name}: metric_value {value!r} must be a finite number")
    try:
        return EvalResult(task_type=TASK, **{**entry, "metric_value": float(value)})
    except OverflowError as error:
        raise CodaxError(f"{name}: metric_value is too large a number") from error
