"""Discriminators in files, as a run leaves them and another begins with them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from codax.conversion import read_discriminator
from codax.files import atomic_path
from codax.modeling.torch_layout import params_from_torch, params_to_torch
from codax.training.steps import Training
from codax.training.weight_norm import merge_kernels, split_kernels


def load_discriminator(training: Training, path: str | os.PathLike) -> dict[str, Any]:
    """The weights of a file, as `TrainState.discriminator` has them.

    path: what `read_discriminator` reads

    Raises as that does, and `CheckpointError` that lists what does not fit the recipe's
    discriminators.
    """
    rules = training.discriminator_rules
    return split_kernels(params_from_torch(rules, read_discriminator(path), str(path)), rules)


def save_discriminator(training: Training, params: Mapping[str, Any], path: Path) -> None:
    """Write weights as `TrainState.discriminator` has them, whole or not at all.

    Their names are those of descript's or encodec's torch code, which loads them too.
    """
    plain = merge_kernels(jax.tree.map(np.asarray, params))
    state = params_to_torch(training.discriminator_rules, plain, old_spelling=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, metadata={"format": "pt"}))
