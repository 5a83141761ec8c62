"""Model folders as repositories of the loopback Hub, and what is left of them in the cache."""

from pathlib import Path

from huggingface_hub import constants

ID = "owner/model"


def files_of(folder):
    """{name: content}."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def cached(repo_id, cache_dir=None):
    """Names of the files of all snapshots that stand in the cache, whole or not."""
    folder = Path(cache_dir or constants.HF_HUB_CACHE, f"models--{repo_id.replace('/', '--')}")
    return sorted(path.name for path in folder.glob("snapshots/*/**/*") if path.is_file())


def blobs(repo_id):
    """{name: content} of all blobs, those that have not come whole too."""
    folder = Path(constants.HF_HUB_CACHE, f"models--{repo_id.replace('/', '--')}", "blobs")
    return files_of(folder) if folder.is_dir() else {}
