"""Models fetched ahead, so that they load offline."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME

from codax.errors import CheckpointError
from codax.hub_files import came_from_hub, check_blob, is_offline, list_files, why_not
from codax.modeling.weight_files import (
    INDEX_SUFFIX,
    MSGPACK,
    SAFETENSORS,
    WEIGHT_FILES,
    tell_of_others,
    weight_paths,
)

from .checkpoints import LANGUAGE_MODELS, RELEASED, converted_folder
from .convert import convert_checkpoint
from .download import download_original
from .encodec_lm import released_encodec_lm
from .resolve import is_converted, resolve_model
from .torch_files import import_torch

CONFIGS = (CONFIG_NAME, FEATURE_EXTRACTOR_NAME)
SHARDS = {
    SAFETENSORS + INDEX_SUFFIX: ["model-*-of-*.safetensors"],
    MSGPACK + INDEX_SUFFIX: ["flax_model-*-of-*.msgpack"],
}
# What of `snapshot_download`'s options `HfApi` takes too.
API_OPTIONS = ("token", "endpoint", "library_name", "library_version", "user_agent", "headers")


def download_model(
    name_or_id: str | os.PathLike,
    *,
    force_download: bool = False,
    local_files_only: bool = False,
    **hub_options,
) -> str:
    """Fetch all that loading a model needs; afterwards `resolve_model`'s answer loads offline.

    From a Hub repository only configurations and the weights that codax prefers: safetensors, or
    `flax_model.msgpack` where there are none; others are named in a warning. Weights are compared
    with the SHA-256 that the Hub gives, fetched or found in the cache; damaged ones are removed
    from it. A download that broke off goes on where it did.

    A released model without Hub twin is downloaded from its authors and converted into codax's
    cache, which needs torch; so are EnCodec's language models ("encodec_lm_24khz",
    "encodec_lm_48khz"), which `.ecdc` files may need.

    name_or_id: as for `resolve_model`, or a language model
    hub_options: of `huggingface_hub.snapshot_download` (revision, token, cache_dir, ...); they do
        not matter to a model that does not come from the Hub.

    Returns the local folder. Raises `CheckpointError`, in one line that names the repository and
    what helps, for an unknown name, a repository without such files or access, damaged weights, and
    where neither cache nor network have the model; `OSError` where it cannot be stored.
    """
    name = str(name_or_id)
    if name in LANGUAGE_MODELS:
        released_encodec_lm(
            name.replace("_lm", ""),
            force_download=force_download,
            local_files_only=local_files_only,
        )
        return str(converted_folder(name))
    if name in RELEASED and RELEASED[name].hub_id is None and not os.path.isdir(name):
        return str(_download_and_convert(name, force_download, local_files_only))
    model = resolve_model(name)
    if os.path.isdir(model):
        return model
    return _download_snapshot(
        model, force_download=force_download, local_files_only=local_files_only, **hub_options
    )


def _download_and_convert(name: str, force: bool, local_files_only: bool) -> Path:
    folder = converted_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):
        if is_converted(folder) and not force:
            return folder
        import_torch()  # fail before hundreds of megabytes are downloaded
        download_original(name, force=force, local_files_only=local_files_only)
        return convert_checkpoint(name, folder, overwrite=True)


def _download_snapshot(
    hub_id: str, force_download: bool, local_files_only: bool, **hub_options: Any
) -> str:
    """The folder of a repository in the cache, whole and undamaged."""
    revision = hub_options.get("revision")
    patterns, unanswered = None, None  # None: what is wanted is not known, and the cache must do
    try:
        if not (local_files_only or is_offline()):
            patterns = _patterns(hub_id, hub_options)
    except requests.RequestException as error:
        if force_download or isinstance(error, RevisionNotFoundError):
            raise CheckpointError(why_not(hub_id, error, revision)) from error
        unanswered = error
    try:
        folder = snapshot_download(
            hub_id,
            allow_patterns=patterns,
            force_download=force_download,
            local_files_only=patterns is None,
            **hub_options,
        )
    except (OSError, ValueError) as error:
        if not came_from_hub(error):
            raise
        reason = unanswered if patterns is None else error
        raise CheckpointError(why_not(hub_id, reason, revision)) from error
    paths = _weights_of(folder, is_current=patterns is not None)
    if not paths or not os.path.exists(os.path.join(folder, CONFIG_NAME)):
        raise CheckpointError(why_not(hub_id, unanswered, revision)) from unanswered
    for path in paths:
        check_blob(path, hub_id)
    return folder


def _patterns(hub_id: str, hub_options: Mapping[str, Any]) -> list[str]:
    """Of the files to fetch: configurations, and the weights that codax prefers."""
    api_options = {name: hub_options[name] for name in API_OPTIONS if name in hub_options}
    names = list_files(hub_id, hub_options.get("revision"), **api_options)
    if CONFIG_NAME not in names:
        raise CheckpointError(f"{hub_id} has no {CONFIG_NAME}")
    for name in WEIGHT_FILES:
        if name in names:
            tell_of_others(hub_id, name, names)
            return [*CONFIGS, name, *SHARDS.get(name, [])]
    raise CheckpointError(f"{hub_id} has none of {', '.join(WEIGHT_FILES)}")


def _weights_of(folder: str, is_current: bool) -> list[str]:
    """The weight files of a snapshot; [] where an older one lacks a part that has not come."""
    try:
        return weight_paths(folder)
    except CheckpointError:
        if is_current:
            raise
        return []
