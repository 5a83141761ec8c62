"""Weights in any layout -> a folder that codax and torch's transformers both load."""

import io
import os
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME

from codax.configuration import is_preset
from codax.errors import CheckpointError
from codax.feature_extraction import EXTRACTORS
from codax.files import atomic_path
from codax.modeling import CODEC_MODELS, model_class_of
from codax.modeling.torch_layout import params_from_torch
from codax.modeling.weight_files import PICKLED_FILE, WEIGHT_FILES

from .audiocraft import OMEGACONF_STAND_INS, audiocraft_package, is_audiocraft, load_audiocraft
from .checkpoints import RELEASED
from .download import download_original, require_checksum
from .original_dac import is_descript, load_descript
from .original_encodec import is_encodec, load_encodec
from .resolve import resolve_model
from .torch_files import as_arrays, import_torch, read_torch_file

# What a torch file may hold: a test of its content, and what reads it.
ORIGINALS = (
    (is_descript, load_descript),
    (is_audiocraft, load_audiocraft),
    (is_encodec, load_encodec),
)


def convert_checkpoint(
    source: str | os.PathLike, output_dir: str | os.PathLike, *, overwrite: bool = False
) -> Path:
    """Write config.json, model.safetensors and preprocessor_config.json, in this order.

    source: an original file, as for `load_original`; a folder or Hub repository that
        `from_pretrained` reads; a folder that has only transformers' pytorch_model.bin; or the name
        of a released model, whose original is downloaded.
    overwrite: replace a model that is in `output_dir` already; each file in one step

    Returns the folder. Raises `CheckpointError` for weights or metadata that are damaged, hostile
    or do not fit, and for a folder that holds a model already; `CodaxError` where torch is needed
    and missing or too old; `OSError` where files are missing or cannot be written.
    """
    folder = Path(output_dir)
    _refuse_model(folder, overwrite)
    config, params = _load(str(source))
    CODEC_MODELS[config.model_type](config, _do_init=False).save_pretrained(folder, params=params)
    EXTRACTORS[config.model_type].from_config(config).save_pretrained(folder)
    return folder


def convert_to_audiocraft(
    source: str | os.PathLike, output: str | os.PathLike, *, overwrite: bool = False
) -> Path:
    """Write an EnCodec model as the file that audiocraft's `CompressionModel.get_pretrained` loads.

    source: as for `convert_checkpoint`; output: the file, `.th` or `.bin`, whole or not at all
    overwrite: replace a file that is there already

    Returns the path. Raises as `convert_checkpoint` does, and `CheckpointError` for a model that
    audiocraft does not have: DAC, or one that codes segments.
    """
    path = Path(output)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already; overwrite=True (--overwrite) replaces it")
    torch = import_torch()
    config, params = _load(str(source))
    package = audiocraft_package(config, params)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(package, content)  # to a full disk it would raise RuntimeError
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return path


def load_original(path: str | os.PathLike) -> tuple[Any, dict]:
    """Read an original weight file: the configuration and the Flax tree (float32) of its weights.

    path: descript-audio-codec's `.pth`; encodec's `.th`, whose name ends in the first digits of its
        SHA-256, which are checked; audiocraft's exports and training checkpoints

    Weight norm is folded. Errors as for `convert_checkpoint`.
    """
    path = Path(path)
    require_checksum(path)
    content = read_torch_file(path, OMEGACONF_STAND_INS)
    for is_such, load in ORIGINALS:
        if is_such(content):
            return load(content, str(path))
    raise CheckpointError(
        f"{path}: not an original DAC checkpoint, nor one of encodec or audiocraft; convert "
        "transformers' pytorch_model.bin by giving its folder"
    )


def _refuse_model(folder: Path, overwrite: bool) -> None:
    found = [name for name in (CONFIG_NAME, *WEIGHT_FILES) if (folder / name).exists()]
    if found and not overwrite:
        raise CheckpointError(
            f"{folder} holds a model already ({', '.join(found)}); overwrite=True (--overwrite) "
            "replaces it"
        )


def _load(source: str) -> tuple[Any, dict]:
    path = Path(source)
    if path.is_file():
        return load_original(path)
    if (path / PICKLED_FILE).is_file() and not any((path / name).exists() for name in WEIGHT_FILES):
        return _load_pickled_folder(path)
    if source in RELEASED and not path.is_dir():
        return _load_released(source)
    resolved = resolve_model(source)
    model = model_class_of(resolved).from_pretrained(resolved)
    return model.config, model.params


def _load_pickled_folder(folder: Path) -> tuple[Any, dict]:
    path = folder / PICKLED_FILE
    model_class = model_class_of(folder)
    config = model_class.config_class.from_pretrained(folder)
    state = as_arrays(read_torch_file(path), str(path))
    model_class._correct_config(config, state, str(path))
    return config, params_from_torch(model_class.weight_rules(config), state, str(path))


def _load_released(name: str) -> tuple[Any, dict]:
    import_torch()  # fail before hundreds of megabytes are downloaded
    path = download_original(name)
    config, params = load_original(path)
    if not is_preset(config, name):
        raise CheckpointError(f"{path}: a {config.model_type} model, but not {name}")
    return config, params
