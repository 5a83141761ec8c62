"""Whose weights a repository holds, and under which licence."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from codax.configuration import is_preset, preset_config
from codax.conversion import RELEASED
from codax.errors import CodaxError

# Who holds the copyright of released weights. Source: the files LICENSE of descript-audio-codec
# 1.0.0 and of encodec since its commit 349b729, "Releasing under the MIT license".
HOLDERS = {"dac": "2023-present, Descript", "encodec": "Meta Platforms, Inc. and affiliates."}
OWN_HOLDER = "2026 The codax authors"

OTHER = "other"


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    license: the Hub's identifier, such as "mit" or "cc-by-nc-4.0"
    license_text: in full, for the file LICENSE; None where it is not at hand. "other" needs it.
    license_name: what the Hub is to call the licence "other", such as "my-license-1.0"
    preset: the released model whose weights they are, unchanged; None for others
    base_model: the Hub repository of the model that these weights are, or began as

    Raises `CodaxError` for a licence or a repository that the Hub does not know the like of.
    """

    license: str
    license_text: str | None = None
    license_name: str | None = None
    preset: str | None = None
    base_model: str | None = None

    def __post_init__(self):
        if self.license not in known_licenses():
            raise CodaxError(
                f"licence {self.license!r}: the Hub knows mit, apache-2.0, cc-by-4.0, "
                "cc-by-nc-4.0 and so on (https://huggingface.co/docs/hub/repositories-licenses); "
                f"{OTHER!r} takes a name and a text"
            )
        if (self.license == OTHER) != (self.license_name is not None):
            raise CodaxError(f"the licence {OTHER!r}, and no other, takes a name")
        if self.license == OTHER and not self.license_text:
            raise CodaxError(f"the licence {OTHER!r} needs its text")
        if self.base_model is not None:
            require_repo_id(self.base_model)

    @property
    def is_finetuned(self) -> bool:
        """Whether they were trained further, from those of another model."""
        return self.base_model is not None and self.preset is None


def released_origin(preset: str) -> Origin:
    """The origin of a released model; `CodaxError` listing them for another name."""
    if preset not in RELEASED:
        raise CodaxError(f"{preset!r} is no released model; these are: {', '.join(RELEASED)}")
    released = RELEASED[preset]
    return Origin(
        license=released.license.lower(),
        license_text=license_text(released.license, HOLDERS[preset_config(preset).model_type]),
        preset=preset,
        base_model=released.hub_id,
    )


def built_in_origin() -> Origin:
    """The origin of the model that comes with codax."""
    return Origin(license="mit", license_text=license_text("MIT", OWN_HOLDER))


def preset_of(name: str) -> str | None:
    """The released model that goes by this preset name or Hub id."""
    if name in RELEASED:
        return name
    return next((preset for preset, one in RELEASED.items() if one.hub_id == name), None)


def require_preset(config: Any, preset: str) -> None:
    """Raise `CodaxError` unless a configuration is that of a released model."""
    if not is_preset(config, preset):
        raise CodaxError(f"the model is not {preset}: its configuration differs")


def require_repo_id(repo_id: str) -> None:
    """Raise `CodaxError` unless it is an "owner/name" that the Hub allows."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise CodaxError(f"repository {repo_id!r}: {error}") from error
    if "/" not in repo_id:
        raise CodaxError(f"repository {repo_id!r}: must be 'owner/name'")


@cache
def known_licenses() -> frozenset[str]:
    """What the Hub takes for a licence. Source: hub-docs, docs/hub/repositories-licenses.md."""
    return frozenset(_read("identifiers").split())


def license_text(spdx_id: str, holder: str) -> str:
    """The text of a licence that comes with codax: "MIT" or "CC-BY-NC-4.0"."""
    return _read(spdx_id).replace("{holder}", holder)


def _read(name: str) -> str:
    return (resources.files("codax") / "hub_cards" / "licenses" / f"{name}.txt").read_text("utf-8")
