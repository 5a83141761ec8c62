"""Folders with a tiny model's weights in every form, whole and damaged."""

import json

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from codax.modeling.torch_layout import params_to_torch

WEIGHT_G_V = ("weight_g", "weight_v")
PARAMETRIZATIONS = ("parametrizations.weight.original0", "parametrizations.weight.original1")
BFLOAT16 = ml_dtypes.bfloat16


def torch_state(model):
    """The weights by torch key."""
    return params_to_torch(model.weight_rules(model.config), model.params)


def flax_state(model):
    """The weights by Flax path, joined by dots."""
    return {".".join(path): np.asarray(w) for path, w in flatten_dict(model.params).items()}


def write_folder(folder, model, tensors=None, layout="pt", **files):
    """config.json, tensors in model.safetensors, and files of other names ("__" for a dot)."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    if tensors is not None:
        metadata = None if layout is None else {"format": layout}
        save_file(tensors, folder / "model.safetensors", metadata=metadata)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def write_shards(folder, model, tensors, layout="pt", weight_map=None):
    """The tensors in two files, and their index; `weight_map` changes it."""
    write_folder(folder, model)
    keys, places = list(tensors), {}
    for part in range(2):
        name = f"model-{part + 1:05d}-of-00002.safetensors"
        shard = {key: tensors[key] for key in keys[part::2]}
        save_file(shard, folder / name, metadata={"format": layout})
        places |= dict.fromkeys(shard, name)
    index = {"metadata": {}, "weight_map": weight_map(places) if weight_map else places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def unfold(state, suffixes, change=None):
    """Convolution weights as gain and direction; `change(key, gain, direction)` gives others."""
    unfolded = {}
    for key, weight in state.items():
        if not key.endswith(".weight") or weight.ndim != 3:
            unfolded[key] = weight
            continue
        gain = np.sqrt(np.sum(weight.astype(np.float64) ** 2, axis=(1, 2), keepdims=True))
        pair = gain.astype(np.float32), (1.7 * weight / gain).astype(np.float32)
        pair = change(key, *pair) if change else pair
        root = key.removesuffix("weight")
        unfolded |= {
            root + suffix: part
            for suffix, part in zip(suffixes, pair, strict=True)
            if part is not None
        }
    return unfolded


def assert_same_weights(params, expected, tolerance=0.0):
    expected, params = flatten_dict(expected), flatten_dict(params)
    assert params.keys() == expected.keys()
    for path, weight in params.items():
        assert isinstance(weight, jax.Array), path
        assert weight.dtype == np.float32, path
        np.testing.assert_allclose(
            weight, expected[path], rtol=tolerance, atol=tolerance, err_msg=".".join(path)
        )
