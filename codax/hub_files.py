"""Files of a Hub repository: found in the cache or fetched, checked, and why they do not come."""

import dataclasses
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import CONFIG_NAME
from transformers.utils import hub as transformers_hub

from codax.errors import CheckpointError

# A plain OSError of huggingface_hub, where other than the announced number of bytes came.
INCONSISTENT = "Consistency check failed"
SHA256_NAME = re.compile(r"[0-9a-f]{64}")


class HubError(OSError):
    """A file that neither the cache nor the Hub gives; the message says why, and what helps."""


@dataclass(frozen=True)
class HubFiles:
    """The files of a repository at one revision, in one of its folders.

    commit_hash: of a file of the repository that was loaded before, so that all come from one
        commit; one of another repository is not heeded
    other fields: as for transformers' `cached_file`
    """

    repo_id: str
    revision: str = "main"
    subfolder: str = ""
    commit_hash: str | None = None
    cache_dir: str | os.PathLike | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = None
    proxies: dict | None = None
    user_agent: dict | None = None

    def locate(self, name: str) -> str | None:
        """The path of a file in the cache, or None where the repository has no such file.

        Offline, None says that the cache has none. A file is checked, as by `check_blob`, when it
        is fetched, and not again when it comes from the cache.

        Raises `HubError` where it may exist but does not come, `CheckpointError` where it is
        damaged.
        """
        commit = self._own_commit()
        known = self._cached(name, commit or self.revision)
        if commit and known is not None and not self.force_download:
            return known if isinstance(known, str) else None
        path = self._fetch(name, commit or self.revision)
        if path is not None and (path != known or self.force_download):
            check_blob(path, self.repo_id)
        return path

    def offline(self) -> "HubFiles":
        """The same, of the cache alone."""
        return dataclasses.replace(self, local_files_only=True, force_download=False)

    def names(self, path: str) -> set[str]:
        """Names of the files beside one that `locate` gave, as far as that can be learnt."""
        try:
            return self._listed(Path(path).parents[len(Path(self.subfolder).parts)].name)
        except OSError:  # requests' exceptions are; nobody need hear of it
            return names_beside(path)

    def holds(self, name: str) -> bool:
        """Whether the cache has a file, so that no request is needed for it."""
        return isinstance(self._cached(name, self._own_commit() or self.revision), str)

    @property
    def is_offline(self) -> bool:
        return self.local_files_only or is_offline()

    @property
    def _cache_dir(self) -> str:
        return str(self.cache_dir or transformers_hub.TRANSFORMERS_CACHE)

    def _cached(self, name: str, revision: str) -> Any:
        """A path; None where nothing is known; another object where it is known not to exist."""
        path = f"{self.subfolder}/{name}" if self.subfolder else name
        return try_to_load_from_cache(self.repo_id, path, self._cache_dir, revision)

    def _own_commit(self) -> str | None:
        """`commit_hash`, if this repository has config.json in the cache at that commit."""
        if self.commit_hash and isinstance(self._cached(CONFIG_NAME, self.commit_hash), str):
            return self.commit_hash
        return None

    def _fetch(self, name: str, revision: str) -> str | None:
        try:
            return hf_hub_download(
                self.repo_id,
                name,
                subfolder=self.subfolder or None,
                revision=revision,
                cache_dir=self._cache_dir,
                force_download=self.force_download,
                local_files_only=self.is_offline,
                token=self.token,
                proxies=self.proxies,
                user_agent=transformers_hub.http_user_agent(self.user_agent),
            )
        except LocalEntryNotFoundError as error:
            if self.is_offline:
                return None
            raise self._failure(error) from error
        except EntryNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if not came_from_hub(error):
                raise
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> HubError:
        return HubError(why_not(self.repo_id, error, self.revision))

    def _listed(self, revision: str) -> set[str]:
        if self.is_offline or self.proxies:  # a listing would not go through those
            raise FileNotFoundError
        listed = list_files(self.repo_id, revision, token=self.token)
        prefix = f"{self.subfolder}/" if self.subfolder else ""
        return {name.removeprefix(prefix) for name in listed if name.startswith(prefix)}


def names_beside(path: str) -> set[str]:
    """Names of the files in the folder of one of them."""
    return set(os.listdir(os.path.dirname(path) or os.curdir))


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids all requests."""
    return constants.HF_HUB_OFFLINE or transformers_hub.is_offline_mode()


def list_files(repo_id: str, revision: str | None = None, **api_options: Any) -> set[str]:
    """Paths of all files of a repository, by one request.

    api_options: of `HfApi` (token, endpoint, ...)
    Raises what huggingface_hub raises, all of which are `OSError`s.
    """
    info = HfApi(**api_options).model_info(
        repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    return {sibling.rfilename for sibling in info.siblings or ()}


def check_blob(path: str, repo_id: str) -> None:
    """Compare a large file of the cache with the SHA-256 that the Hub gives, which is its name.

    huggingface_hub checks the size of what comes, no more. A damaged file leaves the cache, so that
    the next try fetches it again. Files that the Hub keeps in git have other names and pass, as do
    those of a cache without symbolic links.
    Raises `CheckpointError` for a damaged file.
    """
    blob = Path(os.path.realpath(path))
    if not SHA256_NAME.fullmatch(blob.name):
        return
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != blob.name:
        blob.unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)
        raise CheckpointError(
            f"{repo_id}: {os.path.basename(path)} came damaged: its SHA-256 begins with "
            f"{digest[:16]}, not with {blob.name[:16]}. It has left the cache: run `codax download "
            f"{repo_id}` to fetch it again"
        )


def came_from_hub(error: BaseException) -> bool:
    """Whether the Hub or the way to it is to blame, not the disk or a wrong argument."""
    cause = _root(error)
    return isinstance(cause, (requests.RequestException, FileMetadataError)) or (
        isinstance(cause, OSError) and INCONSISTENT in str(cause)
    )


def why_not(repo_id: str, error: BaseException | None = None, revision: str | None = None) -> str:
    """Why a repository does not come, and what helps, in one line.

    error: from huggingface_hub, or from transformers, which hands the former on as its cause; None
        where nothing was asked for, being offline
    """
    again = f"run `codax download {repo_id}`"
    cause = None if error is None else _root(error)
    if isinstance(cause, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo_id}"
        return f"{repo_id} is gated: ask for access at {page}; `hf auth login` says who you are"
    if isinstance(cause, RevisionNotFoundError):
        return f"{repo_id} has no revision {revision!r}"
    if isinstance(cause, RepositoryNotFoundError):
        return f"{repo_id} is not on the Hub, or private: `hf auth login` gives access"
    if isinstance(cause, requests.HTTPError) and cause.response is not None:
        status = f"{cause.response.status_code} {cause.response.reason}"
        if cause.response.status_code in (401, 403):
            return f"{repo_id}: the Hub answers {status}: `hf auth login` renews the token"
        return f"{repo_id}: the Hub answers {status}: {again} later"
    if isinstance(cause, requests.exceptions.ChunkedEncodingError):
        return f"{repo_id}: the download broke off: {again} to go on where it did"
    if isinstance(cause, OSError) and INCONSISTENT in str(cause):
        return f"{repo_id}: a file came with another length than the Hub tells: {again} again"
    known = cause is not None and not isinstance(cause, LocalEntryNotFoundError)
    reason = f" ({type(cause).__name__})" if known else ""
    return (
        f"{repo_id} is not in the cache and the Hub cannot be reached{reason}: "
        f"{again} with network access and without HF_HUB_OFFLINE"
    )


def _root(error: BaseException) -> BaseException:
    """The Hub's answer or the network's failure, below what libraries have made of it."""
    while error.__cause__ is not None and getattr(error, "response", None) is None:
        error = error.__cause__
    return error
