"""Weight files of the encodec package: state dicts, which do not tell their architecture."""

from collections.abc import Mapping
from typing import Any

from codax.configuration import ENCODEC_PRESETS, EncodecConfig
from codax.errors import CheckpointError
from codax.modeling.torch_layout import params_from_torch

from .keys_encodec import original_encodec_rules
from .torch_files import as_arrays

CODEBOOKS = "quantizer.vq.layers."


def is_encodec(content: Any) -> bool:
    """Whether a torch file's content is an EnCodec's state dict."""
    return isinstance(content, Mapping) and any(
        isinstance(key, str) and key.startswith(CODEBOOKS) for key in content
    )


def load_encodec(content: Mapping, source: str) -> tuple[EncodecConfig, dict]:
    """The configuration and the Flax tree (float32), weight norm folded.

    The architecture is that of the released model whose weights have these names and shapes.
    Raises `CheckpointError` where there is none, with what is wrong for the one that comes closest.
    """
    arrays = as_arrays(content, source)
    shapes = {key: array.shape for key, array in arrays.items()}
    faults = {}
    for name in ENCODEC_PRESETS:
        config = EncodecConfig.preset(name)
        rules = original_encodec_rules(config.architecture)
        wrong = sum(
            shapes.get(rule.torch_key, rule.torch_shape) != rule.torch_shape for rule in rules
        )
        keys = {key for rule in rules for key in _keys(rule)}
        faults[name] = wrong + len(shapes.keys() - keys)
    closest = min(faults, key=lambda name: faults[name])
    config = EncodecConfig.preset(closest)
    try:
        return config, params_from_torch(
            original_encodec_rules(config.architecture), arrays, source
        )
    except CheckpointError as error:
        raise CheckpointError(f"{error} (compared with {closest}, which comes closest)") from error


def _keys(rule: Any) -> tuple[str, ...]:
    return (rule.torch_key, *(key for keys in rule.weight_norm_keys() for key in keys))
