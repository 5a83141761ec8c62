"""EnCodec's language models: the original's files, and the same weights without torch."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock
from safetensors.numpy import save

from codax.configuration.configuration_encodec_lm import ENCODEC_LMS
from codax.errors import CheckpointError
from codax.files import atomic_path
from codax.modeling.modeling_flax_encodec_lm import EncodecLm
from codax.modeling.torch_layout import params_from_torch, params_to_torch
from codax.modeling.weight_files import SafetensorsState
from codax.modeling.weight_table import encodec_lm_weight_rules

from .checkpoints import converted_folder
from .download import download_original, require_checksum
from .torch_files import as_arrays, import_torch, read_torch_file

LM_SAFETENSORS = "encodec_lm.safetensors"
"""Beside a codec's own weights, which are another file of the folder."""


def load_encodec_lm(path: str | os.PathLike) -> EncodecLm:
    """Read the language model of the 24 or 48 kHz model, whichever the weights are of.

    path: an original `.th` file, which takes torch to read; a `.safetensors` file with the same
        names of weights; or a folder that `save_encodec_lm` wrote to.

    Raises `CheckpointError` for a file that is damaged, hostile or another model's, listing all
    weights that do not fit; `CodaxError` where torch is needed and missing or too old; `OSError`
    where there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        path /= LM_SAFETENSORS
    source = str(path)
    state = SafetensorsState([source]) if path.suffix == ".safetensors" else _read_original(path)
    model = _model_with(state, source)
    architecture = ENCODEC_LMS[model]
    rules = encodec_lm_weight_rules(architecture)
    return EncodecLm(model, architecture, params_from_torch(rules, state, source))


def released_encodec_lm(
    model: str, *, force_download: bool = False, local_files_only: bool = False
) -> EncodecLm:
    """The language model that was released with a codec, by the codec's preset name.

    From codax's cache; the first time its original is downloaded and converted, which needs torch.
    Raises as `download_original` and `load_encodec_lm` do.
    """
    if model not in ENCODEC_LMS:
        raise CheckpointError(
            f"{model!r} has no language model; those that have are {', '.join(ENCODEC_LMS)}"
        )
    name = model.replace("encodec_", "encodec_lm_")
    folder = converted_folder(name)
    if (folder / LM_SAFETENSORS).is_file() and not force_download:
        return load_encodec_lm(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):
        if force_download or not (folder / LM_SAFETENSORS).is_file():
            import_torch()  # fail before anything is downloaded
            path = download_original(name, force=force_download, local_files_only=local_files_only)
            save_encodec_lm(load_encodec_lm(path), folder)
    return load_encodec_lm(folder)


def save_encodec_lm(lm: EncodecLm, folder: str | os.PathLike) -> Path:
    """Write the weights as `LM_SAFETENSORS`, under the original's names.

    Returns the path of the file, which is whole or absent. Raises `CheckpointError` for weights
    that are not the model's, `OSError` where the file cannot be written.
    """
    state = params_to_torch(encodec_lm_weight_rules(lm.architecture), lm.params)
    path = Path(folder, LM_SAFETENSORS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, metadata={"format": "pt"}))
    return path


def _read_original(path: Path) -> dict[str, np.ndarray]:
    require_checksum(path)
    return as_arrays(read_torch_file(path), str(path))


def _model_with(state: Mapping, source: str) -> str:
    """The name of the codec's model, by how many codebooks there are embeddings for."""
    num_codebooks = sum(key.startswith("emb.") for key in state)
    for model, architecture in ENCODEC_LMS.items():
        if architecture.num_codebooks == num_codebooks:
            return model
    allowed = ", ".join(f"{each.num_codebooks} ({name})" for name, each in ENCODEC_LMS.items())
    raise CheckpointError(
        f"{source}: not a language model of EnCodec: it has embeddings for {num_codebooks} "
        f"codebooks, allowed: {allowed}"
    )
