"""Discriminators beside which codecs were trained, as the references and codax keep them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codax.modeling.weight_files import SafetensorsState

from .audiocraft import OMEGACONF_STAND_INS
from .torch_files import as_arrays, read_torch_file

AUDIOCRAFT_PREFIX = "adversary."


def read_discriminator(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """The weights of discriminators, under their names in descript's or encodec's torch code.

    path: codax's own `.safetensors`; descript's `discriminator/weights.pth`; audiocraft's training
        checkpoint, of which the MS-STFT discriminator is taken; or a state dict of torch

    Raises `CheckpointError` for a file that is none of these, `CodaxError` where torch is needed
    and missing, `OSError` where there is no such file.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return SafetensorsState([str(path)])
    return as_arrays(_state(read_torch_file(path, OMEGACONF_STAND_INS)), str(path))


def _state(content: Any) -> Any:
    """The state dict in what a file holds, where it is one of these."""
    match content:
        case {"adv_losses": {"msstftd": dict(state)}}:
            return {
                key.removeprefix(AUDIOCRAFT_PREFIX): tensor
                for key, tensor in state.items()
                if str(key).startswith(AUDIOCRAFT_PREFIX)
            }
        case {"state_dict": state}:
            return state
    return content
