"""Weights in any layout -> a folder that codax and torch's transformers both load."""

import os
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME

from codax.configuration import DacConfig
from codax.errors import CheckpointError
from codax.feature_extraction import DacFeatureExtractor
from codax.modeling import FlaxDacModel
from codax.modeling.torch_layout import params_from_torch
from codax.modeling.weight_files import PICKLED_FILE, WEIGHT_FILES

from .checkpoints import RELEASED
from .download import download_original
from .keys_dac import original_weight_rules
from .resolve import resolve_model
from .torch_files import as_arrays, import_torch, read_torch_file

# The original's constructor arguments, as its files carry them -> (field of DacConfig, type).
# Source: descript-audio-codec 1.0.0, `DAC.__init__`.
DESCRIPT_ARGUMENTS = {
    "encoder_dim": ("encoder_hidden_size", int),
    "encoder_rates": ("downsampling_ratios", list),
    "latent_dim": ("hidden_size", int),
    "decoder_dim": ("decoder_hidden_size", int),
    "decoder_rates": ("upsampling_ratios", list),
    "n_codebooks": ("n_codebooks", int),
    "codebook_size": ("codebook_size", int),
    "codebook_dim": ("codebook_dim", int),
    "quantizer_dropout": ("quantizer_dropout", float),
    "sample_rate": ("sampling_rate", int),
}


def convert_checkpoint(
    source: str | os.PathLike, output_dir: str | os.PathLike, *, overwrite: bool = False
) -> Path:
    """Write config.json, model.safetensors and preprocessor_config.json, in this order.

    source: an original `.pth` file; a folder or Hub repository that `FlaxDacModel.from_pretrained`
        reads; a folder that has only transformers' pytorch_model.bin; or the name of a released
        model, whose original is downloaded.
    overwrite: replace a model that is in `output_dir` already; each file in one step

    Returns the folder. Raises `CheckpointError` for weights or metadata that are damaged, hostile
    or do not fit, and for a folder that holds a model already; `CodaxError` where torch is needed
    and missing or too old; `OSError` where files are missing or cannot be written.
    """
    folder = Path(output_dir)
    _refuse_model(folder, overwrite)
    config, params = _load(str(source))
    FlaxDacModel(config, _do_init=False).save_pretrained(folder, params=params)
    DacFeatureExtractor.from_config(config).save_pretrained(folder)
    return folder


def load_original(path: str | os.PathLike) -> tuple[DacConfig, dict]:
    """Read an original `.pth` file: the configuration and the Flax tree (float32) of its weights.

    Weight norm is folded. Errors as for `convert_checkpoint`.
    """
    path = Path(path)
    arguments, state = read_original(path)
    config = _config_from(arguments, len(state), str(path))
    rules = original_weight_rules(config.architecture)
    return config, params_from_torch(rules, as_arrays(state, str(path)), str(path))


def read_original(path: Path) -> tuple[dict, dict]:
    """What an original `.pth` file holds: its model's constructor arguments, and its tensors."""
    match read_torch_file(path):
        case {"state_dict": dict() as state, "metadata": {"kwargs": dict() as arguments}}:
            return arguments, state
    raise CheckpointError(
        f"{path}: not an original DAC checkpoint, which holds a 'state_dict' and 'metadata' with "
        "'kwargs'; convert transformers' pytorch_model.bin by giving its folder"
    )


def _refuse_model(folder: Path, overwrite: bool) -> None:
    found = [name for name in (CONFIG_NAME, *WEIGHT_FILES) if (folder / name).exists()]
    if found and not overwrite:
        raise CheckpointError(
            f"{folder} holds a model already ({', '.join(found)}); overwrite=True (--overwrite) "
            "replaces it"
        )


def _load(source: str) -> tuple[DacConfig, dict]:
    path = Path(source)
    if path.is_file():
        return load_original(path)
    if (path / PICKLED_FILE).is_file() and not any((path / name).exists() for name in WEIGHT_FILES):
        return _load_pickled_folder(path)
    if source in RELEASED and not path.is_dir():
        return _load_released(source)
    model: Any = FlaxDacModel.from_pretrained(resolve_model(source))
    return model.config, model.params


def _load_pickled_folder(folder: Path) -> tuple[DacConfig, dict]:
    path = folder / PICKLED_FILE
    config = DacConfig.from_pretrained(folder)
    state = read_torch_file(path)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__} instead of a state dict")
    rules = FlaxDacModel.weight_rules(config)
    return config, params_from_torch(rules, as_arrays(state, str(path)), str(path))


def _load_released(name: str) -> tuple[DacConfig, dict]:
    import_torch()  # fail before hundreds of megabytes are downloaded
    path = download_original(name)
    config, params = load_original(path)
    expected = DacConfig.preset(name)
    if (config.architecture, config.sampling_rate) != (
        expected.architecture,
        expected.sampling_rate,
    ):
        raise CheckpointError(f"{path}: a DAC model, but not {name}")
    return config, params


def _config_from(arguments: dict[str, Any], num_weights: int, source: str) -> DacConfig:
    """The original's constructor arguments as a configuration.

    Older files lack `latent_dim`, which has a default. Others that are not in the table are left
    out, as descript's own loader does; a weight that they had added is an error later.
    """
    arguments = {"latent_dim": None, **arguments}
    missing = [name for name in DESCRIPT_ARGUMENTS if name not in arguments]
    if missing:
        raise CheckpointError(f"{source}: its metadata lack {', '.join(missing)}")
    fields = {
        field: _checked(name, arguments[name], kind, source)
        for name, (field, kind) in DESCRIPT_ARGUMENTS.items()
    }
    ratios, upsampling_ratios = fields["downsampling_ratios"], fields.pop("upsampling_ratios")
    if upsampling_ratios != ratios[::-1]:
        raise CheckpointError(
            f"{source}: metadata decoder_rates={upsampling_ratios} must be encoder_rates={ratios} "
            "reversed"
        )
    if len(ratios) + fields["n_codebooks"] > num_weights:
        raise CheckpointError(
            f"{source}: its metadata describe {len(ratios)} encoder blocks and "
            f"{fields['n_codebooks']} codebooks, but there are only {num_weights} weights"
        )
    try:
        return DacConfig(**fields)
    except ValueError as error:
        raise CheckpointError(f"{source}: its metadata are not those of a DAC: {error}") from error


def _checked(name: str, value: Any, kind: type, source: str) -> Any:
    """`value` as `kind`, in every form that the original takes."""
    if name == "latent_dim" and value is None:
        return None
    if kind is list and isinstance(value, list | tuple) and set(map(type, value)) == {int}:
        return list(value)
    if name == "codebook_dim" and isinstance(value, list):  # one width for each codebook
        if set(map(type, value)) == {int} and len(set(value)) == 1:
            return value[0]
        raise CheckpointError(
            f"{source}: metadata codebook_dim lists several widths; all codebooks must have one"
        )
    if kind is float and isinstance(value, int | float):
        return float(value)
    if type(value) is not kind or kind is list:
        expected = "a list of integers" if kind is list else f"of type {kind.__name__}"
        raise CheckpointError(
            f"{source}: metadata {name} must be {expected}, not {type(value).__name__}"
        )
    return value
