"""Saving to a folder and pushing to the Hub, the same for models and feature extractors."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.errors import EntryNotFoundError
from transformers.utils import logging

from .files import atomic_path

logger = logging.get_logger(__name__)

AUTO_MAP = "auto_map"


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
        **save_options: Any,
    ) -> Any:
        """Put what `save_pretrained` writes into a Hub repository, in one commit.

        The repository, and a branch `revision`, are made if they are not there. What else it holds
        stays: its card, which only `tags` are added to, and the code that it is loaded with where
        codax is not installed. (transformers puts up a card that says nothing where there is none;
        `codax publish` writes one that does.) use_temp_dir and max_shard_size are not heeded:
        nothing is left behind, and weights are one file.

        repo_id: "owner/name", or a name among the user's own
        save_options: more arguments of `save_pretrained`

        Returns huggingface_hub's `CommitInfo`; raises its errors.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, safe_serialization=safe_serialization, **save_options)  # pyright: ignore[reportAttributeAccessIssue]
            api = HfApi(token=token)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None and not revision.startswith("refs/pr"):
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            if self._auto_class is None:
                _keep_code(Path(folder, self.config_file), api, repo_id, revision)
            if tags:
                _tag_card(Path(folder), tags, api, repo_id, revision)
            logger.info(f"Uploading {', '.join(sorted(os.listdir(folder)))} to {repo_id}")
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
            )


def write_auto_map(config_path: Path, references: dict[str, str]) -> None:
    """Let a configuration name the code beside it: by Auto class, "file.Class"."""
    fields = json.loads(config_path.read_text(encoding="utf-8"))
    text = json.dumps({**fields, AUTO_MAP: references}, indent=2, sort_keys=True)
    with atomic_path(config_path) as path:
        path.write_text(text + "\n", encoding="utf-8")


def _keep_code(config_path: Path, api: HfApi, repo_id: str, revision: str | None) -> None:
    """Put into a configuration what that in the repository says of code beside it."""
    there = _download(api, repo_id, config_path.name, revision)
    if there is None:
        return
    try:
        references = json.loads(there.read_text(encoding="utf-8")).get(AUTO_MAP) or {}
        kept = {name: value for name, value in references.items() if "--" not in value}
    except (ValueError, AttributeError, TypeError):
        logger.warning(f"{repo_id}: its {config_path.name} is damaged, and is replaced")
        return
    if kept:
        write_auto_map(config_path, kept)


def _tag_card(
    folder: Path, tags: list[str], api: HfApi, repo_id: str, revision: str | None
) -> None:
    """Write the repository's card with more tags; where it has none, one of metadata alone."""
    there = _download(api, repo_id, constants.REPOCARD_NAME, revision)
    card = ModelCard.load(there) if there else ModelCard("---\nlibrary_name: transformers\n---\n")
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.tags or []), *tags]))
    card.save(folder / constants.REPOCARD_NAME)


def _download(api: HfApi, repo_id: str, name: str, revision: str | None) -> Path | None:
    try:
        return Path(api.hf_hub_download(repo_id, name, revision=revision))
    except EntryNotFoundError:
        return None
