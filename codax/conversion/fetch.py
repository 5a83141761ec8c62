"""Models fetched ahead, so that they load offline."""

import os
from pathlib import Path

import requests
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME

from codax.errors import CheckpointError
from codax.modeling.weight_files import INDEX_SUFFIX, MSGPACK, SAFETENSORS, WEIGHT_FILES

from .checkpoints import LANGUAGE_MODELS, RELEASED, converted_folder
from .convert import convert_checkpoint
from .download import download_original
from .encodec_lm import released_encodec_lm
from .resolve import is_converted, resolve_model
from .torch_files import import_torch

CONFIGS = (CONFIG_NAME, FEATURE_EXTRACTOR_NAME)
SAFETENSORS_FILES = (SAFETENSORS, SAFETENSORS + INDEX_SUFFIX, "model-*-of-*.safetensors")
MSGPACK_FILES = (MSGPACK, MSGPACK + INDEX_SUFFIX, "flax_model-*-of-*.msgpack")


def download_model(
    name_or_id: str | os.PathLike,
    *,
    force_download: bool = False,
    local_files_only: bool = False,
    **hub_options,
) -> str:
    """Fetch all that loading a model needs; afterwards `resolve_model`'s answer loads offline.

    From a Hub repository only configurations and weights that codax reads: safetensors, or
    `flax_model.msgpack` where there are none. A released model without Hub twin is downloaded from
    its authors and converted into codax's cache, which needs torch; so are EnCodec's language
    models ("encodec_lm_24khz", "encodec_lm_48khz"), which `.ecdc` files may need.

    name_or_id: as for `resolve_model`, or a language model
    hub_options: of `huggingface_hub.snapshot_download` (revision, token, cache_dir, ...); they do
        not matter to a model that does not come from the Hub.

    Returns the local folder. Raises `CheckpointError`, in one line, for an unknown name, a
    repository without such files, and where neither cache nor network have the model.
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


def _download_snapshot(hub_id: str, **hub_options) -> str:
    try:
        folder = snapshot_download(
            hub_id, allow_patterns=[*CONFIGS, *SAFETENSORS_FILES], **hub_options
        )
        if not _has_weights(folder):
            folder = snapshot_download(hub_id, allow_patterns=[*MSGPACK_FILES], **hub_options)
    except RevisionNotFoundError as error:
        revision = hub_options.get("revision")
        raise CheckpointError(f"{hub_id} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{hub_id} is not on the Hub, or private: `hf auth login` gives access"
        ) from error
    except requests.RequestException as error:
        raise CheckpointError(
            f"{hub_id} is not in the cache and the Hub cannot be reached ({type(error).__name__}): "
            f"run `codax download {hub_id}` with network access and without HF_HUB_OFFLINE"
        ) from error
    if not _has_weights(folder):
        raise CheckpointError(f"{folder}: {hub_id} has none of {', '.join(WEIGHT_FILES)}")
    return folder


def _has_weights(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in WEIGHT_FILES)
