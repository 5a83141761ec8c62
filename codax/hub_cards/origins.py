"""Whose weights a repository holds, and under which licence."""

from dataclasses import dataclass
from importlib import resources
from typing import Any

from codax.configuration import preset_config
from codax.conversion import RELEASED
from codax.errors import CodaxError

# Who holds the copyright of released weights. Source: the files LICENSE of descript-audio-codec
# 1.0.0 and of encodec since its commit 349b729, "Releasing under the MIT license".
HOLDERS = {"dac": "2023-present, Descript", "encodec": "Meta Platforms, Inc. and affiliates."}
OWN_HOLDER = "2026 The codax authors"


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    license: the Hub's identifier, such as "mit" or "cc-by-nc-4.0"
    license_text: in full, for the file LICENSE; None where it is not at hand
    preset: the released model whose weights they are, unchanged; None for others
    base_model: the Hub repository of the model that these weights are, or began as
    """

    license: str
    license_text: str | None = None
    preset: str | None = None
    base_model: str | None = None

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


def preset_of(name: str) -> str | None:
    """The released model that goes by this preset name or Hub id."""
    if name in RELEASED:
        return name
    return next((preset for preset, one in RELEASED.items() if one.hub_id == name), None)


def require_preset(config: Any, preset: str) -> None:
    """Raise `CodaxError` unless a configuration is that of a released model."""
    expected = preset_config(preset)
    same_family = config.model_type == expected.model_type
    if same_family and config.model_type == "encodec":
        expected.pad_mode = config.pad_mode  # of the 32 kHz model there are files with either
    if not same_family or (config.architecture, config.sampling_rate) != (
        expected.architecture,
        expected.sampling_rate,
    ):
        raise CodaxError(f"the model is not {preset}: its configuration differs")


def license_text(spdx_id: str, holder: str) -> str:
    """The text of a licence that comes with codax: "MIT" or "CC-BY-NC-4.0"."""
    path = resources.files("codax") / "hub_cards" / "licenses" / f"{spdx_id}.txt"
    return path.read_text("utf-8").replace("{holder}", holder)
