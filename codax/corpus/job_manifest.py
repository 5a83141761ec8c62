"""manifest.json: what the codes of a folder were made of and how, so that others do not join them.

A JSON object; `codax.corpus.job.TokenizeJob` tells its keys.
"""

import json
from pathlib import Path
from typing import Any

from codax.errors import CodaxError
from codax.files import created_first, replace_file

MANIFEST = "manifest.json"

NOT_COMPARED = ("codax", "batch_length_s", "source")
"""Keys that may differ between runs that make the same codes: source_digest tells the corpus."""

TRIES = 5
"""Of a process that others come in between of."""


class JobManifest:
    """The manifest of a job's folder.

    facts: what this run would do; "codax" is one of the keys, by which a manifest is known
    """

    def __init__(self, output: Path, facts: dict[str, Any]):
        self._output = output
        self._path = output / MANIFEST
        self._facts = facts

    def settle(self) -> None:
        """Write it, or find that the one that is there is the same. Many processes may do so.

        One that differs is replaced as long as nothing was made by it.

        Raises `CodaxError` where the folder holds what was made otherwise, or Parquet files of
        others; `OSError` where it cannot be written.
        """
        (self._output / "data").mkdir(parents=True, exist_ok=True)
        for tries_left in reversed(range(TRIES)):
            try:
                self._settle()
                break
            except FileNotFoundError:  # taken away between two steps, by a process that was faster
                if not tries_left:
                    raise

    def require_same(self) -> None:
        """Raises `CodaxError` unless the one in the folder says the same."""
        differing = self._differing()
        if differing:
            raise CodaxError(
                f"{self._output}: holds codes that were made otherwise: {'; '.join(differing)}"
            )

    def _settle(self) -> None:
        is_begun = self._is_begun()  # before the manifest is read: whoever began has written it
        if is_begun and not self._path.exists():
            raise CodaxError(f"{self._output}: holds Parquet files, but no {MANIFEST}")
        if created_first(self._path, self._content()):
            return
        if is_begun:
            self.require_same()
        elif self._differing():
            replace_file(self._path, self._content())

    def _is_begun(self) -> bool:
        files = (*self._output.glob("data/*.parquet"), *self._output.glob("skipped/*.jsonl"))
        return any(not path.name.startswith(".") for path in files)

    def _content(self) -> bytes:
        return (json.dumps(self._facts, indent=2) + "\n").encode()

    def _differing(self) -> list[str]:
        """What the one in the folder says otherwise, in words."""
        try:
            there = json.loads(self._path.read_bytes())
        except ValueError as error:
            raise CodaxError(f"{self._path}: is no manifest of codax") from error
        if not isinstance(there, dict) or "codax" not in there:
            raise CodaxError(f"{self._path}: is no manifest of codax")
        ours = self._facts
        names = [name for name in ours if ours[name] != there.get(name)]
        if ours["revision"] is not None and "revision" not in names:
            names = [name for name in names if name != "model"]  # the same one, spelled otherwise
        return [_told(name, there, ours) for name in names if name not in NOT_COMPARED]


def _told(name: str, there: dict[str, Any], ours: dict[str, Any]) -> str:
    if name != "source_digest":
        return f"{name} {there.get(name)!r}, now {ours[name]!r}"
    sources = [repr(there.get("source")), repr(ours["source"])]
    spelled = ", now ".join(dict.fromkeys(sources))
    return f"source {spelled}: other clips, another order, or files written since"
