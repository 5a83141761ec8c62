"""Saving to a folder and pushing to the Hub, the same for models and feature extractors."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from huggingface_hub import HfApi, ModelCard, constants, metadata_load
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers.utils import (
    FLAX_WEIGHTS_INDEX_NAME,
    FLAX_WEIGHTS_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    logging,
)

from .files import atomic_path

logger = logging.get_logger(__name__)

AUTO_MAP = "auto_map"
# Left over from an earlier save, transformers and others read them rather than what is written now.
OTHER_WEIGHTS = (SAFE_WEIGHTS_INDEX_NAME, FLAX_WEIGHTS_NAME, FLAX_WEIGHTS_INDEX_NAME)
TYPE_FIELDS = ("model_type", "feature_extractor_type")


class HubSaving:
    """Mixed into classes that transformers' `PushToHubMixin` is part of, before them.

    `auto_map` names the code with which a repository is loaded where codax is not installed. It is
    saved together with that code, by classes that were loaded as such, or not at all.
    """

    config_file: ClassVar[str]
    """The file of those saved that may hold an `auto_map`."""

    _auto_class: ClassVar[Any]
    """Set by transformers on classes that came as code of a repository; None on codax's own."""

    def push_to_hub(
        self,
        repo_id: str,
        use_temp_dir: bool | None = None,  # noqa: ARG002
        commit_message: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        max_shard_size: int | str | None = None,  # noqa: ARG002
        create_pr: bool = False,
        safe_serialization: bool = True,
        revision: str | None = None,
        commit_description: str | None = None,
        tags: list[str] | None = None,
        use_auth_token: bool | str | None = None,
        **save_options: Any,
    ) -> Any:
        """Put what `save_pretrained` writes into a Hub repository, in one commit.

        The repository, and a branch `revision`, are made if they are not there. What else it holds
        stays: its card, which only `tags` are added to, and the code that it is loaded with where
        codax is not installed. (transformers puts up a card that says nothing where there is none;
        `codax publish` writes one that does.) use_temp_dir and max_shard_size are not heeded:
        nothing is left behind, and weights are one file. Other weight files of the repository,
        which transformers may prefer, are named in a warning.

        repo_id: "owner/name", or a name among the user's own
        save_options: more arguments of `save_pretrained`

        Returns huggingface_hub's `CommitInfo`. Raises its errors, also where somebody else has
        changed the repository in between.
        """
        if not safe_serialization:
            save_options["safe_serialization"] = False
        api = HfApi(token=use_auth_token if token is None else token)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, **save_options)  # pyright: ignore[reportAttributeAccessIssue]
            repo_id = made_repository(api, repo_id, private, revision)
            there = _Repository(api, repo_id, revision)
            if self._auto_class is None:
                _keep_code(Path(folder, self.config_file), there)
            if tags:
                _tag_card(Path(folder, constants.REPOCARD_NAME), tags, there)
            if Path(folder, SAFE_WEIGHTS_NAME).exists():
                tell_of_other_weights(there.names, repo_id)
            logger.info(f"Uploading {', '.join(sorted(os.listdir(folder)))} to {repo_id}")
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
                parent_commit=there.commit,
            )


def require_pushing(push_to_hub: bool, push_options: Collection[str]) -> None:
    """Raise `TypeError` where `save_pretrained` is to push nothing, but was told how to push."""
    if push_options and not push_to_hub:
        raise TypeError(f"save_pretrained() does not take {', '.join(push_options)}")


def made_repository(api: HfApi, repo_id: str, private: bool | None, revision: str | None) -> str:
    """Make a repository, and a branch of it, unless they are there; -> "owner/name"."""
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    return repo_id


def tell_of_other_weights(names: Collection[str], repo_id: str) -> None:
    """Warn of weight files of a repository, of whose files these are the names, beside ours."""
    others = [name for name in OTHER_WEIGHTS if name in names]
    if others:
        logger.warning(
            f"{repo_id}: holds {', '.join(others)} beside {SAFE_WEIGHTS_NAME}, which other "
            "programs may prefer; delete what is out of date"
        )


class _Repository:
    """Files of a repository at the commit that is its newest now."""

    def __init__(self, api: HfApi, repo_id: str, revision: str | None):
        self.api = api
        self.repo_id = repo_id
        info = api.model_info(repo_id, revision=revision)
        self.commit = info.sha
        self.names = {sibling.rfilename for sibling in info.siblings or ()}

    def file(self, name: str) -> Path | None:
        """The path of a file; None where there is none. Raises where it does not come."""
        try:
            return Path(self.api.hf_hub_download(self.repo_id, name, revision=self.commit))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None


def write_auto_map(config_path: Path, references: dict[str, str]) -> None:
    """Let a configuration name the code beside it: by Auto class, "file.Class"."""
    fields = json.loads(config_path.read_text(encoding="utf-8"))
    text = json.dumps({**fields, AUTO_MAP: references}, indent=2, sort_keys=True)
    with atomic_path(config_path) as path:
        path.write_text(text + "\n", encoding="utf-8")


def _keep_code(config_path: Path, there: _Repository) -> None:
    """Put into a configuration what that in the repository says of code beside it.

    Code is kept for what it was made for: a model or feature extractor of the same type.
    """
    path = there.file(config_path.name)
    if path is None:
        return
    fields = json.loads(config_path.read_text(encoding="utf-8"))
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        references = old.get(AUTO_MAP) or {}
        kept = {name: value for name, value in references.items() if "--" not in value}
    except (ValueError, AttributeError, TypeError):
        logger.warning(f"{there.repo_id}: its {config_path.name} is damaged, and is replaced")
        return
    if kept and all(old.get(name) == fields.get(name) for name in TYPE_FIELDS):
        write_auto_map(config_path, kept)


def _tag_card(card_path: Path, tags: list[str], there: _Repository) -> None:
    """Write the repository's card with more tags; where it has none, one of metadata alone."""
    path = there.file(constants.REPOCARD_NAME)
    card = ModelCard.load(path) if path else ModelCard("---\nlibrary_name: transformers\n---\n")
    old = (metadata_load(path) or {}).get("tags") or [] if path else []
    data: Any = card.data
    data.tags = list(dict.fromkeys([*([old] if isinstance(old, str) else old), *tags]))
    card.save(card_path)
