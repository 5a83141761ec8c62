"""torch's pickled files, read as data: nothing in them is run."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from packaging.version import Version

from codax.errors import CheckpointError, CodaxError
from codax.modeling.torch_layout import raise_faults

OLDEST_SAFE_TORCH = "2.10"
ZIP_MAGIC = b"PK\x03\x04"
INSTALL = 'pip install "codax[convert]"'


def import_torch() -> Any:
    """The torch package. Raises `CodaxError` where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise CodaxError(f"this needs torch: {INSTALL}") from error
    return torch


def read_torch_file(path: Path, stand_ins: Mapping[str, type] | None = None) -> Any:
    """What `torch.save` wrote: tensors (mapped from the file where possible) and plain values.

    stand_ins: full names of further classes that may occur -> our own, inert classes, which take
        their place; the classes themselves are never imported

    Raises `CheckpointError` for a file that is damaged, is none of torch's, or asks for anything
    that could run code, naming it; `CodaxError` where torch is missing or too old; `OSError` where
    there is no such file.
    """
    torch = import_torch()
    if Version(torch.__version__) < Version(OLDEST_SAFE_TORCH):
        raise CodaxError(
            f"torch {torch.__version__} is too old to read {path}: below {OLDEST_SAFE_TORCH} a "
            f"crafted file could run code in spite of weights_only=True; {INSTALL} --upgrade"
        )
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    allowed = [(stand_in, name) for name, stand_in in (stand_ins or {}).items()]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # what torch raises for damaged files is not bounded by any list
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line. torch's own advice, to load it with weights_only=False, is left out."""
    asked_for = re.search(r"GLOBAL (\S+)", str(error))
    if asked_for:
        return f"refused: it asks for {asked_for[1]}, and codax reads tensors and plain values only"
    # torch's own words may recommend `weights_only=False`.
    is_unfit = isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error)
    detail = "" if is_unfit else f": {error}".split("\n")[0]
    return f"damaged, or not a file of torch.save ({type(error).__name__}{detail})"


def as_arrays(state: Any, source: str) -> dict[str, np.ndarray]:
    """A torch state dict as NumPy arrays, views of the tensors.

    Raises `CheckpointError` for anything else, listing all entries that are not dense tensors
    under a name.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{source}: holds a {type(state).__name__} instead of a state dict")
    arrays, faults = {}, []
    for key, tensor in state.items():
        array = _as_array(tensor)
        if isinstance(key, str) and array is not None:
            arrays[key] = array
        else:
            faults.append(f"not a dense tensor under a name: {key!r}")
    raise_faults(faults, source)
    return arrays


def _as_array(tensor: Any) -> np.ndarray | None:
    torch = import_torch()
    try:
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            return None  # a stride of 0: a small file could ask for any amount of memory
        if tensor.dtype == torch.bfloat16:  # unknown to NumPy itself
            return tensor.detach().view(torch.int16).numpy().view(jnp.bfloat16)
        return tensor.detach().numpy()
    except (AttributeError, TypeError, RuntimeError):
        return None
