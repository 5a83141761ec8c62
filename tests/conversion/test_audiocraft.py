"""audiocraft's checkpoints, both ways: read with the configuration inside, and never run."""

import dataclasses
import functools
import os
import pickle
import sys

import numpy as np
import pytest
import yaml
from flax.traverse_util import flatten_dict

from codax.configuration import ENCODEC_PRESETS, EncodecConfig
from codax.conversion import (
    RELEASED,
    checkpoints,
    convert_checkpoint,
    convert_to_audiocraft,
    load_original,
)
from codax.conversion.audiocraft import MOST_YAML
from codax.errors import CheckpointError, CodaxError
from codax.modeling import FlaxEncodecModel
from tests.conftest import write_tiny_dac
from tests.reference import peers
from tests.reference.encodec_variants import (
    TINY_CAUSAL,
    TINY_IDENTITY,
    TINY_SEGMENTED,
    TINY_VARIANTS,
    TINY_ZEROS,
)
from tests.tiny_encodec import MONO, STEREO, noise, write_tiny_encodec

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

import torch

from tests.reference import encodec_checkpoints

from .encodec_files import (
    built,
    called,
    checkpoint_of,
    expected_config,
    export_of,
    fields_of,
    make_weights,
    named,
    pickle_of,
    plain,
    refusal_of,
    save,
    save_pickle,
    settings_of,
)

WHOLE = [TINY_CAUSAL, TINY_IDENTITY, TINY_ZEROS]  # that code clips in one piece
DICT_CONFIG = "omegaconf.dictconfig.DictConfig"

needs_encodec = pytest.mark.skipif(
    peers.missing_encodec() is not None, reason=str(peers.missing_encodec())
)


@pytest.fixture(params=TINY_VARIANTS.values(), ids=lambda variant: variant.name)
def variant(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.th"


@pytest.fixture
def trace(tmp_path):
    """A file that hostile files would make."""
    return tmp_path / "trace"


def params_of_transformers(variant, folder):
    """As codax loads the folder that torch's transformers writes of the same weights."""
    encodec_checkpoints.write_transformers_folder(make_weights(variant), folder)
    return FlaxEncodecModel.from_pretrained(folder).params


def assert_same_weights(params, expected):
    params, expected = flatten_dict(params), flatten_dict(expected)
    assert params.keys() == expected.keys()
    for key, weight in expected.items():
        np.testing.assert_array_equal(params[key], weight, err_msg=".".join(key))


def assert_same_model(loaded, expected):
    """Of (config, params)."""
    assert loaded[0].to_dict() == expected[0].to_dict()
    assert_same_weights(loaded[1], expected[1])


def save_with(path, changes=None, variant=TINY_CAUSAL):
    """An export whose configuration is changed: {"seanet.norm": value}."""
    return save(path, export_of(variant, changes))


def save_with_text(path, text):
    return save(path, {**export_of(TINY_CAUSAL), "xp.cfg": text})


# Exports


def test_export_has_the_architecture_of_its_yaml(variant, path):
    config, _ = load_original(save(path, export_of(variant)))
    expected = expected_config(variant)
    assert config.architecture == expected.architecture
    assert config.sampling_rate == variant.sampling_rate
    assert config.frame_rate == variant.frame_rate
    assert config.segmenting is None
    assert config.pad_mode == variant.pad_mode


def test_only_bandwidth_of_an_export_is_that_of_all_its_codebooks(variant, path):
    config, _ = load_original(save(path, export_of(variant)))
    assert len(config.target_bandwidths) == 1
    assert config.checked_quantizers(None) == variant.n_codebooks
    assert config.bitrate() == pytest.approx(1000 * config.target_bandwidths[0], rel=1e-9)


@pytest.mark.parametrize("n_q", [1, 3, 7, 9, 31, 32])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 44100])
def test_bandwidth_stands_for_any_number_of_codebooks_at_any_rate(n_q, sample_rate, path):
    """Where kbps are divided again: 9.6 / 3.2 is less than 3."""
    changes = {"rvq.n_q": n_q, "sample_rate": sample_rate}
    export = export_of(TINY_CAUSAL, changes)
    state = export["best_state"]
    for level in range(TINY_CAUSAL.n_codebooks):
        for leaf in ("inited", "cluster_size", "embed", "embed_avg"):
            taken = state.pop(f"quantizer.vq.layers.{level}._codebook.{leaf}")
            first = f"quantizer.vq.layers.{{}}._codebook.{leaf}"
            state.update({first.format(each): taken for each in range(level, n_q, 4)})
    config, _ = load_original(save(path, export))
    assert config.num_quantizers == config.checked_quantizers(None) == n_q


def test_export_has_the_weights_of_its_file(variant, path, tmp_path):
    _, params = load_original(save(path, export_of(variant)))
    assert_same_weights(params, params_of_transformers(variant, tmp_path / "expected"))


def test_yaml_of_omegaconf_is_read_with_its_references(path):
    omegaconf = pytest.importorskip("omegaconf", reason="omegaconf is in the extra `test`")
    text = omegaconf.OmegaConf.to_yaml(omegaconf.OmegaConf.create(settings_of(TINY_ZEROS)))
    assert "${encodec.causal}" in text
    config, _ = load_original(save(path, {**export_of(TINY_ZEROS), "xp.cfg": text}))
    assert config.to_dict() == expected_config(TINY_ZEROS).to_dict()


def test_references_may_lead_to_references(path):
    changes = {"channels": "${dataset.channels}", "dataset": {"channels": "${other}"}, "other": 1}
    config, _ = load_original(save_with(path, changes))
    assert config.audio_channels == 1


def test_overrides_of_one_network_that_override_nothing_are_taken(path):
    changes = {"seanet.encoder": None, "seanet.decoder": {"final_activation_params": {"a": 1}}}
    config, _ = load_original(save_with(path, changes))
    assert config.architecture == expected_config(TINY_CAUSAL).architecture


def test_converted_export_is_a_folder_that_torch_loads(path, tmp_path):
    folder = convert_checkpoint(save(path, export_of(TINY_ZEROS)), tmp_path / "model")
    model = encodec_checkpoints.load_transformers(folder)
    assert (model.config.pad_mode, model.config.trim_right_ratio) == ("constant", 0.4)


def test_file_that_only_names_a_model_is_refused_with_the_name(path):
    content = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    assert "'facebook/encodec_32khz'" in refusal_of(save(path, content))


@pytest.mark.parametrize("state", [None, {}, [1], {"model": {}}, {"model": 3}], ids=str)
def test_file_without_weights_is_refused(path, state):
    content = {**export_of(TINY_CAUSAL), "best_state": state}
    assert "no weights under 'best_state'" in refusal_of(save(path, content))


def test_all_weights_that_do_not_fit_are_told_at_once_by_their_original_names(path):
    export = export_of(TINY_CAUSAL)
    state = export["best_state"]
    del state["encoder.model.1.shortcut.conv.conv.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["decoder.model.9.conv.conv.bias"] = torch.zeros(2)
    state["decoder.model.0.conv.conv.bias"][0] = float("inf")
    message = refusal_of(save(path, export))
    for fault in (
        "missing: encoder.model.1.shortcut.conv.conv.bias",
        "unexpected: extra.weight",
        "shape (2,) instead of (1,): decoder.model.9.conv.conv.bias",
        "NaN or infinite values: decoder.model.0.conv.conv.bias",
        "4 weights",
    ):
        assert fault in message


def test_weights_of_another_size_than_the_yaml_says_are_refused(path):
    assert "encoder.model.0.conv.conv.bias" in refusal_of(save_with(path, {"seanet.n_filters": 5}))


# Training checkpoints


@pytest.fixture
def omegaconf_settings():
    """A variant's configuration as training holds it: with flags, and references unresolved."""
    omegaconf = pytest.importorskip("omegaconf", reason="omegaconf is in the extra `test`")

    def create(variant):
        settings = omegaconf.OmegaConf.create(settings_of(variant))
        omegaconf.OmegaConf.set_struct(settings, True)
        assert settings.seanet.causal == variant.causal  # resolved once, as in training
        return settings

    return create


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_training_checkpoint_gives_what_its_export_gives(
    variant, path, tmp_path, omegaconf_settings, is_zip
):
    checkpoint = checkpoint_of(variant, omegaconf_settings(variant))
    save(path, checkpoint, _use_new_zipfile_serialization=is_zip)
    expected = load_original(save(tmp_path / "export.bin", export_of(variant)))
    assert_same_model(load_original(path), expected)


def test_training_checkpoint_is_read_without_omegaconf(path, omegaconf_settings, monkeypatch):
    save(path, checkpoint_of(TINY_CAUSAL, omegaconf_settings(TINY_CAUSAL)))
    for name in [name for name in sys.modules if name.partition(".")[0] == "omegaconf"]:
        monkeypatch.setitem(sys.modules, name, None)
    config, _ = load_original(path)
    assert config.to_dict() == expected_config(TINY_CAUSAL).to_dict()


def test_best_weights_are_taken_and_not_the_last(path, omegaconf_settings):
    checkpoint = checkpoint_of(TINY_CAUSAL, omegaconf_settings(TINY_CAUSAL))
    for tensor in checkpoint["model"].values():
        tensor.zero_()
    _, params = load_original(save(path, checkpoint))
    assert params["encoder"]["layers"]["0"]["conv"]["bias"].any()


def test_unsupported_training_checkpoint_is_refused_by_the_option(path, omegaconf_settings):
    settings = omegaconf_settings(TINY_CAUSAL)
    settings.seanet.activation = "ReLU"
    assert "seanet.activation='ReLU'" in refusal_of(
        save(path, checkpoint_of(TINY_CAUSAL, settings))
    )


def test_classes_of_omegaconf_stay_unknown_to_torch_afterwards(path, omegaconf_settings):
    save(path, checkpoint_of(TINY_CAUSAL, omegaconf_settings(TINY_CAUSAL)))
    before = torch.serialization.get_safe_globals()
    load_original(path)
    refusal_of(save_with(path.with_name("bad.th"), {"compression_model": "dac"}))
    assert torch.serialization.get_safe_globals() == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


# What codax does not have


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compression_model": "dac"}, "compression_model='dac'"),
        ({"compression_model": "interleave_stereo"}, "compression_model='interleave_stereo'"),
        ({"encodec.autoencoder": "conformer"}, "encodec.autoencoder='conformer'"),
        ({"encodec.quantizer": "no_quant"}, "encodec.quantizer='no_quant'"),
        ({"seanet.activation": "ReLU"}, "seanet.activation='ReLU'"),
        ({"seanet.activation": "Snake"}, "seanet.activation='Snake'"),
        ({"seanet.activation_params": {"alpha": 0.5}}, "seanet.activation_params.alpha=0.5"),
        ({"seanet.disable_norm_outer_blocks": 2}, "seanet.disable_norm_outer_blocks=2"),
        ({"seanet.decoder.final_activation": "Tanh"}, "seanet.decoder.final_activation='Tanh'"),
        ({"seanet.decoder.n_filters": 64}, "decoder alone 'n_filters'"),
        ({"seanet.encoder.ratios": [2, 2]}, "encoder alone 'ratios'"),
        ({"seanet.encoder.trim_right_ratio": 0.5}, "encoder alone 'trim_right_ratio'"),
        ({"seanet.norm": "none"}, "none"),
        ({"seanet.norm": "spectral_norm"}, "spectral_norm"),
        ({"seanet.norm": "layer_norm"}, "layer_norm"),
        ({"seanet.pad_mode": "replicate"}, "pad_mode='replicate'"),
        ({"seanet.lstm": 0}, "lstm"),
        ({"seanet.compress": 99}, "compress=99"),
        ({"seanet.kernel_size": 0}, "kernel_size=0"),
        ({"seanet.ratios": []}, "ratios"),
        ({"seanet.ratios": [5, "4"]}, "seanet.ratios"),
        ({"seanet.ratios": [5, 0]}, "xp.cfg"),
        ({"seanet.ratios": [True, 4]}, "ratios"),
        ({"seanet.ratios": 20}, "seanet.ratios=20"),
        ({"seanet.causal": "yes"}, "seanet.causal='yes'"),
        ({"seanet.true_skip": 1}, "seanet.true_skip=1"),
        ({"seanet.n_filters": 4.0}, "seanet.n_filters=4.0"),
        ({"seanet.dimension": True}, "seanet.dimension=True"),
        ({"encodec.renormalize": "no"}, "encodec.renormalize='no'"),
        ({"rvq.bins": 31}, "codebook_size=31"),
        ({"rvq.bins": 1}, "xp.cfg"),
        ({"rvq.bins": 0}, "xp.cfg"),
        ({"rvq.n_q": 0}, "codebooks"),
        ({"rvq.n_q": 2.5}, "rvq.n_q=2.5"),
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"sample_rate": "8k"}, "sample_rate='8k'"),
        ({"sample_rate": "${channels}", "channels": "${sample_rate}"}, "refers to itself"),
        ({"seanet.pad_mode": "${oc.env:HOME}"}, "pad_mode='${oc.env:HOME}'"),
    ],
    ids=str,
)
def test_what_codax_does_not_have_is_named_with_its_value(path, changes, told):
    assert told in refusal_of(save_with(path, changes))


def test_settings_of_the_norm_that_change_it_are_refused(path):
    """audiocraft gives them to the norm of `time_group_norm`; weight norm has none."""
    changes = {"seanet.norm_params": {"eps": 0.1}}
    assert "norm_params" in refusal_of(save_with(path, changes, TINY_SEGMENTED))


@pytest.mark.parametrize("section", ["encodec", "seanet", "rvq", "seanet.activation_params"])
def test_section_that_is_none_is_refused_by_its_name(path, section):
    """Taken for an empty one, it would give defaults in place of what a model was trained with."""
    assert f"{section}=5" in refusal_of(save_with(path, {section: 5}))


@pytest.mark.parametrize("entry", ["seanet.pad_mode", "seanet.causal", "encodec.renormalize"])
def test_reference_to_nothing_is_refused_by_its_name(path, entry):
    """Weights do not tell what these entries would: a guess would not show."""
    assert "nowhere" in refusal_of(save_with(path, {entry: "${nowhere}"}))


def test_reason_is_told_with_the_files_name_once(path):
    message = refusal_of(save_with(path, {"seanet.true_skip": "yes"}))
    assert message.count(str(path)) == 1


# Hostile text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "[1, 2]",
        "a: [",
        "a: b: c",
        '"',
        "a: \x00",
        "? {a: b}\n: c",
        "a: 2020-13-45",
        'a: !!binary "a"',
        'a: !!int ""',
        'a: !!float ""',
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!python/name:os.system",
        "a: !!python/tuple [1]",
        "--- a\n--- b",
    ],
    ids=repr,
)
def test_text_that_is_no_configuration_is_refused(path, text):
    assert "xp.cfg" in refusal_of(save_with_text(path, text))


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.system", "python/object/new:os.system", "python/module:this"]
)
def test_text_that_would_run_a_command_is_refused_and_runs_nothing(path, trace, tag):
    text = f"compression_model: !!{tag} ['touch {trace}']"
    assert "xp.cfg" in refusal_of(save_with_text(path, text))
    assert not trace.exists()


def test_text_that_repeats_itself_exponentially_is_refused_at_once(path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    assert "aliases" in refusal_of(save_with_text(path, "\n".join(lines)))


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000])
def test_text_nested_too_deeply_is_refused(path, text):
    assert "xp.cfg" in refusal_of(save_with_text(path, text))


def test_text_that_is_too_long_is_refused_unread(path):
    assert "too long" in refusal_of(save_with_text(path, "#" * (MOST_YAML + 1)))


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("entry", ["compression_model", "sample_rate", "seanet.lstm", "rvq.n_q"])
def test_numbers_of_any_length_are_refused_in_one_line(path, entry, sign):
    """More digits than Python writes out."""
    text = yaml.safe_dump(settings_of(TINY_CAUSAL, {entry: "NUMBER"}))
    number = f"{sign}0x{'f' * 5000}"
    refusal_of(save_with_text(path, text.replace("NUMBER", number)))


@pytest.mark.parametrize(
    "changes",
    [
        {"seanet.n_filters": 10**12},
        {"seanet.n_residual_layers": 10**12},
        {"seanet.lstm": 10**12},
        {"seanet.ratios": [2] * 1000},
        {"seanet.ratios": [2**40, 2**40]},
        {"rvq.n_q": 10**12},
        {"rvq.n_q": 10**300},
        {"rvq.bins": 2**60},
        {"sample_rate": 10**300},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_models_beyond_any_size_are_refused_at_once(path, changes):
    refusal_of(save_with(path, changes))


def test_weights_larger_than_their_file_are_refused(path):
    """One row of a codebook in the file, repeated by its strides: any number of rows would do."""
    num_rows = 2**15
    export = export_of(TINY_CAUSAL, {"rvq.bins": num_rows})
    state = export["best_state"]
    for level in range(4):
        root = f"quantizer.vq.layers.{level}._codebook"
        for leaf in ("cluster_size", "embed", "embed_avg"):
            row = torch.ones(1, *state[f"{root}.{leaf}"].shape[1:])
            state[f"{root}.{leaf}"] = row.expand(num_rows, *row.shape[1:])
    save(path, export)
    assert path.stat().st_size < 2**18
    refusal_of(path)


# Hostile pickles


def content_with(settings):
    """A training checkpoint as a pickle, with other instructions for its configuration."""
    return plain({"best_state": plain({"model": plain({"w": None})}), "xp.cfg": settings})


def commands(trace):
    """Instructions that make a file, each by another function."""
    touch, opening = f"touch {trace}", f"open({str(trace)!r}, 'w').close()"
    return {
        "os.system": called("os.system", touch),
        "posix.system": called("posix.system", touch),
        "subprocess.getoutput": called("subprocess.getoutput", touch),
        "builtins.eval": called("builtins.eval", opening),
        "builtins.exec": called("builtins.exec", opening),
        "__builtin__.eval": called("__builtin__.eval", opening),
        "pathlib.Path.touch": called(
            "pathlib.PosixPath.touch", called("pathlib.PosixPath", str(trace))
        ),
    }


PLACES = {
    "as the configuration": lambda command: command,
    "in a dict": lambda command: plain({"seanet": command}),
    "in a stand-in's state": lambda command: built(DICT_CONFIG, {"_content": command}),
    "as a stand-in's state": lambda command: built(DICT_CONFIG, command),
    "in a stand-in's argument": lambda command: called(DICT_CONFIG, command),
    "in a stand-in in a stand-in": lambda command: built(
        DICT_CONFIG,
        {"_content": plain({"a": built("omegaconf.nodes.AnyNode", {"_val": command})})},
    ),
    "in a stand-in for a type": lambda command: called("collections.defaultdict", command),
    "in a stand-in's slots": lambda command: (
        named(DICT_CONFIG) + b")\x81(N" + plain({"_content": command}) + b"tb"
    ),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
@pytest.mark.parametrize("function", ["os.system", "builtins.eval"])
def test_command_anywhere_in_the_configuration_is_refused_and_not_run(path, trace, place, function):
    pickled = pickle_of(content_with(place(commands(trace)[function])))
    message = refusal_of(save_pickle(path, pickled))
    assert function.rpartition(".")[2] in message
    assert not trace.exists()


@pytest.mark.parametrize("function", commands("trace"))
def test_command_by_any_function_is_refused_and_not_run(path, trace, function):
    instructions = commands(trace)[function]
    refusal_of(save_pickle(path, pickle_of(content_with(instructions))))
    assert not trace.exists()
    if "pathlib" not in function:  # two names of protocol 4
        pickle.loads(pickle_of(instructions))
        assert trace.exists()  # so it would have been


@pytest.mark.parametrize("function", ["os.system", "builtins.eval"])
def test_command_beside_the_configuration_is_refused_and_not_run(path, trace, function):
    export = export_of(TINY_CAUSAL)
    save(path, {**export, "history": _Reduced(trace, function)})
    refusal_of(path)
    assert not trace.exists()


class _Reduced:
    def __init__(self, trace, function):
        self.trace, self.function = trace, function

    def __reduce__(self):
        if self.function == "os.system":
            return os.system, (f"touch {self.trace}",)
        return eval, (f"open({str(self.trace)!r}, 'w').close()",)


@pytest.mark.parametrize(
    "name",
    [
        "builtins.open",
        "builtins.getattr",
        "builtins.setattr",
        "builtins.__import__",
        "builtins.type",
        "builtins.object",
        "builtins.compile",
        "functools.partial",
        "operator.attrgetter",
        "importlib.import_module",
        "torch.serialization.load",
        "torch.hub.load",
        "codecs.decode",
        "numpy.load",
        "yaml.unsafe_load",
        "omegaconf.omegaconf.OmegaConf",
        "omegaconf.omegaconf.OmegaConf.register_new_resolver",
        "omegaconf.dictconfig.DictConfig.__init__",
        "omegaconf.dictconfig.DictConfig.__init__.__globals__",
        "omegaconf.dictconfig.os",
        "omegaconf.base.Container",
        "codax.conversion.audiocraft.StandIn",
        "codax.conversion.convert_checkpoint",
        "tests.conversion.test_audiocraft.save",
    ],
)
def test_global_of_any_other_module_is_refused_by_its_name(path, name):
    pickled = pickle_of(content_with(built(DICT_CONFIG, {"_content": named(name)})))
    message = refusal_of(save_pickle(path, pickled))
    assert name.removeprefix("builtins.") in message


@pytest.mark.parametrize(
    "trick",
    [
        built(DICT_CONFIG, {"__class__": named("collections.OrderedDict")}),
        built(DICT_CONFIG, {"__setstate__": named("torch.Tensor")}) + plain({"a": "b"}) + b"b",
        built(DICT_CONFIG, {"__reduce__": "os.system", "__getitem__": "eval"}),
        named(DICT_CONFIG) + b")\x81(N" + plain({"__class__": named("torch.Tensor")}) + b"tb",
        named(DICT_CONFIG) + b")\x81(N" + plain({"__dict__": plain({"_content": None})}) + b"tb",
        named(DICT_CONFIG) + b")\x81" + plain("no dict") + b"b",
        named(DICT_CONFIG) + plain({"_content": None}) + b"b",  # the class itself
        built(DICT_CONFIG, {}) + b"(" + plain("key") + plain("value") + b"u",
        built(DICT_CONFIG, {}) + plain("key") + plain("value") + b"s",
        built(DICT_CONFIG, {}) + b"(" + plain("item") + b"e",
        built(DICT_CONFIG, {}) + plain("item") + b"a",
        built(DICT_CONFIG, {}) + b")R",  # an instance, called
        named(DICT_CONFIG),
        called(DICT_CONFIG),
        built(DICT_CONFIG, {"_content": named(DICT_CONFIG)}),
        built(DICT_CONFIG, {"_content": "???"}),
        built("omegaconf.listconfig.ListConfig", {"_content": ["a"]}),
        built("omegaconf.base.ContainerMetadata", {"_content": {}}),
    ],
)
def test_stand_in_bent_by_its_pickle_is_no_configuration(path, trick):
    refusal_of(save_pickle(path, pickle_of(content_with(trick))))


@pytest.mark.parametrize(
    "instructions",
    [
        b"(S'touch {trace}'\nios\nsystem\n",  # INST
        b"(cos\nsystem\nS'touch {trace}'\no",  # OBJ
        b"\x8c\x02os\x8c\x06system\x93",  # STACK_GLOBAL
        b"\x82\x01",  # EXT1
        b"P0\n",  # PERSID
        b"X\x02\x00\x00\x00idQ",  # BINPERSID
        b"h\x09",  # a memo that is not there
        b"0" * 3,  # POP
        b"t",  # no MARK
    ],
    ids=repr,
)
def test_instructions_that_torch_files_do_not_have_are_refused(path, trace, instructions):
    instructions = instructions.replace(b"{trace}", str(trace).encode())
    refusal_of(save_pickle(path, pickle_of(content_with(instructions))))
    assert not trace.exists()


def test_configuration_that_holds_itself_is_refused(path):
    # The memo keeps the instance before its state is made: BINPUT 1, BINGET 1.
    itself = named(DICT_CONFIG) + b")\x81q\x01" + plain({"_content": b"h\x01"}) + b"b"
    assert "nested" in refusal_of(save_pickle(path, pickle_of(content_with(itself))))


def test_entries_that_hold_each_other_twice_are_refused_at_once(path):
    """As many paths as 2 to the power of 20 lead to the last entry."""
    entries = plain("last") + b"q\x00"
    for level in range(20):
        entries = b"](" + entries + b"h" + bytes([level]) + b"eq" + bytes([level + 1])
    message = refusal_of(save_pickle(path, pickle_of(content_with({"compression_model": entries}))))
    assert "compression_model=a list" in message


# Damaged files


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.999])
def test_truncated_file_is_refused_by_its_name(path, is_zip, kept):
    save(path, export_of(TINY_CAUSAL), _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refusal_of(path)


@pytest.mark.parametrize(
    "content",
    [
        {"xp.cfg": None},
        {"xp.cfg": "a: b"},
        {"best_state": {}},
        {"xp.cfg": 3, "best_state": {"w": 1}},
        {"xp.cfg": torch.zeros(2), "best_state": {"w": 1}},
        {"xp.cfg": ["a"], "best_state": {"w": 1}},
        {"xp.cfg": {}, "best_state": {"w": 1}},
        {"pretrained": torch.zeros(2)},
        {"pretrained": ["name"] * 10**4},
    ],
    ids=lambda content: ", ".join(
        f"{key}: {type(value).__name__}" for key, value in content.items()
    ),
)
def test_incomplete_checkpoint_is_refused_by_its_name(path, content):
    assert len(refusal_of(save(path, content))) < 1000


# Writing


@pytest.fixture(params=WHOLE, ids=lambda variant: variant.name)
def folder(request, tmp_path):
    """A model that audiocraft has, with one bandwidth."""
    return convert_checkpoint(
        save(tmp_path / "first.th", export_of(request.param)), tmp_path / "model"
    )


def loaded(folder):
    model = FlaxEncodecModel.from_pretrained(folder)
    return model.config, model.params


def test_model_written_for_audiocraft_is_the_same_when_read_back(folder, tmp_path):
    path = convert_to_audiocraft(folder, tmp_path / "sub" / "model.bin")
    assert path == tmp_path / "sub" / "model.bin"
    config, params = loaded(folder)
    config_back, params_back = load_original(path)
    # Which class a folder was written by, and in which type, are no facts of the model.
    about_folder = {"architectures": ["EncodecModel"], "dtype": "float32"}
    assert config.to_dict() == config_back.to_dict() | about_folder
    assert_same_weights(params_back, params)
    again = convert_checkpoint(path, tmp_path / "again")
    assert (again / "config.json").read_text() == (folder / "config.json").read_text()


def test_export_of_audiocraft_is_the_same_when_written_and_read_back(variant, path, tmp_path):
    expected = load_original(save(path, export_of(variant)))
    written = convert_to_audiocraft(path, tmp_path / "model.bin")
    assert_same_model(load_original(written), expected)


def test_released_32_khz_model_has_its_own_configuration_when_read_back(tmp_path):
    narrow = {**ENCODEC_PRESETS["encodec_32khz"], "num_filters": 2, "hidden_size": 4}
    folder = write_tiny_encodec(tmp_path / "model", narrow)
    config, _ = load_original(convert_to_audiocraft(folder, tmp_path / "model.bin"))
    assert config.target_bandwidths == [2.2]
    assert config.to_dict() == EncodecConfig(**narrow).to_dict()


def test_models_of_several_bandwidths_keep_all_codebooks(tmp_path):
    folder = write_tiny_encodec(tmp_path / "model", MONO)
    config, _ = load_original(convert_to_audiocraft(folder, tmp_path / "model.bin"))
    assert config.architecture == EncodecConfig(**MONO).architecture
    assert config.target_bandwidths == [MONO["target_bandwidths"][-1]]


@pytest.fixture
def package(folder, tmp_path):
    """The content of the file that is written for audiocraft."""
    return torch.load(convert_to_audiocraft(folder, tmp_path / "model.bin"), weights_only=True)


def test_written_file_has_the_entries_of_an_export(package):
    expected = export_of(TINY_CAUSAL)
    assert package.keys() == expected.keys()
    assert package["exported"] is True
    assert isinstance(package["version"], str)
    settings, default = (yaml.safe_load(one["xp.cfg"]) for one in (package, expected))
    for section in ("encodec", "seanet", "rvq"):
        assert settings[section].keys() == default[section].keys()
    assert default.keys() - settings.keys() == {"dataset"}


def test_written_weights_have_the_names_types_and_shapes_of_audiocrafts(request, package):
    variant = request.node.callspec.params["folder"]
    expected = export_of(variant)["best_state"]
    assert package["best_state"].keys() == expected.keys()
    for key, tensor in package["best_state"].items():
        assert (tensor.dtype, tensor.shape) == (torch.float32, expected[key].shape)


@needs_encodec
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_written_weights_load_into_networks_made_of_the_written_settings(package):
    """As audiocraft makes them; those of the encodec package take the same arguments but one."""
    encodec = peers.import_encodec()
    settings = yaml.safe_load(package["xp.cfg"])
    arguments = dict(settings["seanet"])
    assert arguments.pop("disable_norm_outer_blocks") == 0
    own = {"encoder": arguments.pop("encoder"), "decoder": arguments.pop("decoder")}
    networks = torch.nn.ModuleDict(
        {
            "encoder": encodec.modules.SEANetEncoder(**arguments, **own["encoder"]),
            "decoder": encodec.modules.SEANetDecoder(**arguments, **own["decoder"]),
            "quantizer": encodec.quantization.ResidualVectorQuantizer(
                dimension=arguments["dimension"],
                n_q=settings["rvq"]["n_q"],
                bins=settings["rvq"]["bins"],
            ),
        }
    )
    networks.load_state_dict(package["best_state"])


@needs_encodec
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_written_model_codes_and_decodes_in_the_original_as_here(tmp_path):
    source = save(tmp_path / "first.th", export_of(TINY_ZEROS))
    state = torch.load(convert_to_audiocraft(source, tmp_path / "model.bin"))["best_state"]
    original = encodec_checkpoints.load_original(save(tmp_path / "state.th", state), TINY_ZEROS)
    original.set_target_bandwidth(4.0)
    audio = noise(1, 1, 150)
    with torch.no_grad():
        (codes, _), *others = original.encode(torch.from_numpy(audio))
        expected = original.decode([(codes, None)]).numpy()
    assert not others
    config, params = load_original(tmp_path / "model.bin")
    model = FlaxEncodecModel(config, _do_init=False)
    encoded = model.encode(audio, params=params)
    np.testing.assert_array_equal(encoded.audio_codes[0], codes)
    decoded = model.decode(encoded.audio_codes, params=params).audio_values
    # The two frameworks sum in other orders.
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


def test_models_that_audiocraft_does_not_have_are_refused(tmp_path):
    output = tmp_path / "model.bin"
    segmented = write_tiny_encodec(tmp_path / "segmented", STEREO)
    with pytest.raises(CheckpointError, match=r"segments.*chunk_length_s=0\.05"):
        convert_to_audiocraft(segmented, output)
    with pytest.raises(CheckpointError, match="EnCodec models, not dac"):
        convert_to_audiocraft(write_tiny_dac(tmp_path / "dac"), output)
    assert not output.exists()


def test_file_that_is_there_is_replaced_only_when_told_to(tmp_path):
    source = save(tmp_path / "first.th", export_of(TINY_ZEROS))
    path = tmp_path / "model.bin"
    path.write_bytes(b"precious")
    with pytest.raises(CheckpointError, match=r"model\.bin exists already.*overwrite"):
        convert_to_audiocraft(source, path)
    assert path.read_bytes() == b"precious"
    convert_to_audiocraft(source, path, overwrite=True)
    assert load_original(path)[0].pad_mode == "constant"


def test_failed_conversion_leaves_the_existing_file_as_it_is(tmp_path):
    source = save_with(tmp_path / "first.th", {"seanet.activation": "ReLU"})
    path = tmp_path / "model.bin"
    path.write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="ReLU"):
        convert_to_audiocraft(source, path, overwrite=True)
    assert sorted(tmp_path.iterdir()) == [source, path]
    assert path.read_bytes() == b"precious"


def test_full_disk_leaves_the_existing_file_as_it_is(tmp_path, largest_file):
    source = save(tmp_path / "first.th", export_of(TINY_ZEROS))
    path = tmp_path / "model.bin"
    path.write_bytes(b"precious")
    with largest_file(1000), pytest.raises(OSError, match="too large"):
        convert_to_audiocraft(source, path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [source, path]


def test_without_torch_the_way_to_install_it_is_told(tmp_path, monkeypatch):
    folder = write_tiny_encodec(tmp_path / "model", MONO)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CodaxError, match=r'pip install "codax\[convert\]"'):
        convert_to_audiocraft(folder, tmp_path / "model.bin")
    assert not (tmp_path / "model.bin").exists()


# The released model


@pytest.fixture
def released(monkeypatch):
    """`released(export)`: as encodec_32khz, tiny and in the cache already."""
    entry = dataclasses.replace(RELEASED["encodec_32khz"], file_name="tiny.bin")
    monkeypatch.setitem(RELEASED, "encodec_32khz", entry)
    fields = fields_of(TINY_IDENTITY) | {"target_bandwidths": [6.0]}
    monkeypatch.setitem(ENCODEC_PRESETS, "encodec_32khz", fields)
    path = checkpoints.originals_folder() / entry.file_name
    path.parent.mkdir(parents=True)
    return functools.partial(save, path)


def test_released_model_is_converted_by_its_name(released, tmp_path):
    released(export_of(TINY_IDENTITY))
    folder = convert_checkpoint("encodec_32khz", tmp_path / "model")
    assert loaded(folder)[0].architecture == expected_config(TINY_IDENTITY).architecture


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_padding_of_the_released_model_is_what_its_file_says(released, tmp_path, pad_mode):
    """Other sources differ: audiocraft's default, and the configuration on the Hub."""
    released(export_of(TINY_IDENTITY, {"seanet.pad_mode": pad_mode}))
    folder = convert_checkpoint("encodec_32khz", tmp_path / "model")
    assert loaded(folder)[0].pad_mode == pad_mode


def test_file_of_another_model_than_released_is_refused(released, tmp_path):
    released(export_of(TINY_CAUSAL))
    with pytest.raises(CheckpointError, match="but not encodec_32khz"):
        convert_checkpoint("encodec_32khz", tmp_path / "model")
