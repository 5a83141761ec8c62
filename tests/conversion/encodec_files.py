"""Files of the encodec package and of audiocraft with tiny random weights, sound and hostile."""

import copy
import functools
import struct
import zipfile
from pathlib import Path

import torch
import yaml

from codax.configuration import EncodecConfig
from codax.conversion import load_original
from codax.errors import CheckpointError
from tests.messages import one_line_error
from tests.reference import encodec_checkpoints

CONFIG_FIELDS = (
    "target_bandwidths",
    "sampling_rate",
    "audio_channels",
    "normalize",
    "chunk_length_s",
    "overlap",
    "hidden_size",
    "num_filters",
    "num_residual_layers",
    "upsampling_ratios",
    "norm_type",
    "use_causal_conv",
    "pad_mode",
    "num_lstm_layers",
    "trim_right_ratio",
    "codebook_size",
    "use_conv_shortcut",
)


@functools.cache
def make_weights(variant):
    return encodec_checkpoints.make_weights(variant)


def fields_of(variant):
    """A variant as fields of an `EncodecConfig`."""
    config = encodec_checkpoints.transformers_config(variant)
    return {name: getattr(config, name) for name in CONFIG_FIELDS}


def original_state(variant):
    """What a `.th` file of the encodec package holds, free to be changed."""
    state = encodec_checkpoints.original_state(make_weights(variant))
    return {key: tensor.clone() for key, tensor in state.items()}


def in_newer_spelling(state):
    """Weight norm's parameters as torch >= 2.1 names them."""
    names = encodec_checkpoints.PARAMETRIZATIONS
    return {
        ".".join([*key.split(".")[:-1], names.get(leaf, leaf)]): tensor
        for key, tensor in state.items()
        for leaf in [key.rpartition(".")[2]]
    }


# --- audiocraft ----------------------------------------------------------------------------------


def expected_config(variant):
    """What audiocraft's model is: no segments, and no choice of bandwidths."""
    whole = {"chunk_length_s": None, "overlap": None}
    fields = {**fields_of(variant), **whole, "target_bandwidths": [variant.target_bandwidths[-1]]}
    return EncodecConfig(**fields)


def settings_of(variant, changes=None):
    """audiocraft's configuration of a model, with references, as its default.yaml has them.

    changes: by dotted name, {"seanet.norm": value}
    Source: audiocraft 1.3, config/model/encodec/default.yaml.
    """
    settings = {
        "sample_rate": variant.sampling_rate,
        "channels": variant.audio_channels,
        "dataset": {"batch_size": 64, "sample_rate": "${sample_rate}"},
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": "${sample_rate}",
            "channels": "${channels}",
            "causal": variant.causal,
            "renormalize": variant.normalize,
        },
        "seanet": {
            "dimension": variant.hidden_size,
            "channels": "${channels}",
            "causal": "${encodec.causal}",
            "n_filters": variant.num_filters,
            "n_residual_layers": variant.num_residual_layers,
            "ratios": list(variant.upsampling_ratios),
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": variant.norm_type,
            "norm_params": {},
            "kernel_size": 7,
            "residual_kernel_size": 3,
            "last_kernel_size": 7,
            "dilation_base": 2,
            "pad_mode": variant.pad_mode,
            "true_skip": not variant.use_conv_shortcut,
            "compress": 2,
            "lstm": variant.num_lstm_layers,
            "disable_norm_outer_blocks": 0,
            "decoder": {
                "trim_right_ratio": variant.trim_right_ratio,
                "final_activation": None,
                "final_activation_params": None,
            },
            "encoder": {},
        },
        "rvq": {
            "n_q": variant.n_codebooks,
            "q_dropout": False,
            "bins": variant.codebook_size,
            "decay": 0.99,
            "kmeans_init": True,
            "kmeans_iters": 50,
            "threshold_ema_dead_code": 2,
            "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
    }
    for path, value in (changes or {}).items():
        *sections, name = path.split(".")
        section = functools.reduce(dict.__getitem__, sections, settings)
        section[name] = value
    return settings


def export_of(variant, changes=None):
    """What audiocraft's `export_encodec` saves."""
    return {
        "best_state": original_state(variant),
        "xp.cfg": yaml.safe_dump(settings_of(variant, changes)),
        "version": "1.3.0",
        "exported": True,
    }


def checkpoint_of(variant, settings):
    """What audiocraft's training saves, for the greater part.

    settings: the configuration, as an omegaconf object
    """
    state = original_state(variant)
    return {
        "best_state": {"model": state},
        "model": copy.deepcopy(state),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 3e-4}]},
        "history": [{"train": {"loss": 1.5}, "valid": {}}],
        "xp.cfg": settings,
        "xp.sig": "0123abcd",
    }


def save(path, content, **options):
    torch.save(content, path, **options)
    return Path(path)


# --- hostile files -------------------------------------------------------------------------------


def refusal_of(path, load=load_original):
    """The message of the `CheckpointError`: one line that begins with the file's name, once."""
    message = one_line_error(CheckpointError, load, path)
    assert message.startswith(str(path))
    return message


def save_pickle(path, pickled):
    """A file of `torch.save` around any pickle, which torch itself would not write."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


# A pickle's instructions, protocol 2; each function gives those that put one object on the stack.


def pickle_of(instructions):
    return b"\x80\x02" + instructions + b"."


def plain(value):
    """Of str, bool, None, dict and list; bytes are instructions already."""
    match value:
        case bytes():
            return value
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case bool():
            return b"\x88" if value else b"\x89"
        case None:
            return b"N"
        case dict():
            entries = [plain(part) for entry in value.items() for part in entry]
            return b"}(" + b"".join(entries) + b"u"
        case list():
            return b"](" + b"".join(map(plain, value)) + b"e"
    raise TypeError(type(value))


def named(name):
    """The class or function at "module.name"; as protocol 2 spells it."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def called(name, *arguments):
    return named(name) + b"(" + b"".join(map(plain, arguments)) + b"tR"


def built(name, state):
    """An instance of a class, made without its constructor, with a state."""
    return named(name) + b")\x81" + plain(state) + b"b"
