"""What a user calls a model -> what `from_pretrained` loads."""

import os
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # pyright: ignore[reportPrivateImportUsage]
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME

from codax import builtin
from codax.configuration import preset_config
from codax.errors import CheckpointError
from codax.modeling import model_class_of
from codax.modeling.weight_files import SAFETENSORS

from .checkpoints import RELEASED, converted_folder
from .torch_files import INSTALL


def resolve_model(name_or_path: str | os.PathLike) -> str:
    """A folder or Hub id that `from_pretrained` loads. Looks nothing up in the network.

    name_or_path: a folder, the name of a released model (`RELEASED`), a Hub id 'owner/name', or
        "builtin". A released model is its converted folder in codax's cache, if there is one, or
        its Hub twin.

    Raises `CheckpointError` for anything else, and for a released model that has no Hub twin and is
    not in the cache.
    """
    name = str(name_or_path)
    if os.path.isdir(name):
        return name
    if name == builtin.NAME:
        return str(builtin.MODEL)
    if name in RELEASED:
        return _resolve_released(name)
    if _is_hub_id(name):
        return name
    raise CheckpointError(
        f"{name!r} is neither a folder, nor a Hub id 'owner/name', nor {builtin.NAME}, nor one of "
        f"the released models: {', '.join(RELEASED)}"
    )


def config_of(name_or_path: str | os.PathLike, **hub_options: Any) -> Any:
    """The configuration of a model that `resolve_model` knows. A released one's needs no file.

    hub_options: as `PretrainedConfig.from_pretrained` takes them

    Raises as `resolve_model` does, and `OSError` where nothing can be fetched.
    """
    if name_or_path in RELEASED and not os.path.isdir(name_or_path):
        return preset_config(str(name_or_path))
    resolved = resolve_model(name_or_path)
    config_class = model_class_of(resolved, **hub_options).config_class
    return config_class.from_pretrained(resolved, **hub_options)


def is_converted(folder: Path) -> bool:
    """Whether a folder has all that a conversion writes."""
    names = (CONFIG_NAME, SAFETENSORS, FEATURE_EXTRACTOR_NAME)
    return all((folder / name).is_file() for name in names)


def _resolve_released(name: str) -> str:
    folder, hub_id = converted_folder(name), RELEASED[name].hub_id
    if is_converted(folder):
        return str(folder)
    if hub_id is None:
        raise CheckpointError(
            f"{name} is not on the Hub, nor in {folder} yet: run `codax download {name}` (which "
            f"needs {INSTALL})"
        )
    return hub_id


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
