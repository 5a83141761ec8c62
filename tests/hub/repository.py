"""What a repository holds: files, commits, branches and tags. Knows nothing of HTTP."""

import codecs
import hashlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath

LFS_SUFFIXES = (".safetensors", ".msgpack", ".bin", ".png")
LARGEST_REGULAR = 10_000_000
"""Bytes; larger files go to the LFS store."""


def is_lfs(path, size, sample):
    """Whether the Hub keeps a file outside of git; sample: its first bytes."""
    large = size > LARGEST_REGULAR
    return size > 0 and (path.endswith(LFS_SUFFIXES) or large or _is_binary(sample))


def _is_binary(sample):
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return True
    return b"\0" in sample


def sha256_of(content):
    return hashlib.sha256(content).hexdigest()


def _git_blob_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    """The content of a file, and where the Hub keeps it."""

    content: bytes
    is_lfs: bool

    @classmethod
    def of(cls, path, content):
        return cls(content, is_lfs(path, len(content), content[:512]))

    @property
    def etag(self):
        """What tells it from others: SHA-256 of an LFS file, git's SHA-1 of a regular one."""
        return sha256_of(self.content) if self.is_lfs else _git_blob_sha1(self.content)

    @property
    def pointer(self):
        """What git keeps of an LFS file."""
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{sha256_of(self.content)}\nsize {len(self.content)}\n"
        ).encode()

    @property
    def git_oid(self):
        return _git_blob_sha1(self.pointer if self.is_lfs else self.content)


@dataclass(frozen=True)
class Commit:
    """changed: paths written, in order; deleted: paths removed; parent: a sha, or None."""

    sha: str
    title: str
    description: str
    parent: str | None
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    tree: dict = field(default_factory=dict, repr=False)
    """{path: StoredFile} of all files after it."""


class Repository:
    """A model repository.

    branches, tags: {name: sha}
    commits: of all branches, in the order in which they were made
    readers: users who may download the files of a gated repository
    """

    def __init__(self, repo_id, private=False, gated=False):
        self.repo_id = repo_id
        self.private = private
        self.gated = gated
        self.readers = set()
        self.commits = []
        self.branches = {}
        self.tags = {}
        self.commit(title="initial commit")

    def commit(
        self, files=None, deleted=(), title="", description="", branch="main", parent=None
    ) -> Commit:
        """Write and delete files in one step.

        files: {path: bytes or StoredFile}; parent: that of the branch by default
        """
        files = {
            path: file if isinstance(file, StoredFile) else StoredFile.of(path, file)
            for path, file in (files or {}).items()
        }
        parent = parent or self.branches.get(branch)
        tree = {} if parent is None else self.at(parent).tree
        tree = {path: file for path, file in tree.items() if path not in set(deleted)} | files
        told = f"{self.repo_id} {len(self.commits)} {parent} {title} {sorted(tree)}"
        sha = hashlib.sha1(told.encode()).hexdigest()
        commit = Commit(sha, title, description, parent, tuple(files), tuple(deleted), tree)
        self.commits.append(commit)
        self.branches[branch] = sha
        return commit

    def at(self, revision) -> Commit:
        """The commit that a branch, a tag or a full sha names; KeyError for any other revision."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        sha = self.branches.get(name) or self.tags.get(name) or revision
        for commit in self.commits:
            if commit.sha == sha:
                return commit
        raise KeyError(revision)

    def files(self, revision="main") -> dict[str, bytes]:
        return {path: file.content for path, file in self.at(revision).tree.items()}

    def folders(self, revision="main"):
        """Paths of all folders that hold something, without the root."""
        parents = (PurePosixPath(path).parents for path in self.at(revision).tree)
        return sorted({str(folder) for folders in parents for folder in folders} - {"."})
