"""Weights that are damaged, hostile or of another model: one error with the file and all faults."""

import json
import re

import flax
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from codax.errors import CheckpointError
from codax.modeling import FlaxDacModel
from tests.messages import one_line_error

from .tiny import tiny_config, tiny_model
from .weight_folders import (
    PARAMETRIZATIONS,
    WEIGHT_G_V,
    flax_state,
    torch_state,
    unfold,
    write_folder,
    write_shards,
)

load = FlaxDacModel.from_pretrained
CONV = "encoder.conv1"


def faults_of(folder, file="model.safetensors"):
    """The message of the error that loading raises; it names the file."""
    message = one_line_error(CheckpointError, load, folder)
    assert str(folder / file) in message
    return message


def refusal(folder):
    """The message of the error that loading raises, or None."""
    try:
        load(folder)
    except CheckpointError as error:
        return str(error)
    return None


def test_all_faults_come_in_one_error(model, tmp_path):
    state = torch_state(model)
    changes = {
        "encoder.conv1.weight": ("missing", None),
        "encoder.conv2.bias": ("NaN or infinite", np.full(16, np.nan, np.float32)),
        "decoder.conv1.bias": ("NaN or infinite", np.float32([np.inf] + 15 * [0])),
        "decoder.conv2.bias": ("shape (2,) instead of (1,)", np.zeros(2, np.float32)),
        "quantizer.quantizers.1.codebook.weight": ("dtype int32", np.zeros((16, 4), np.int32)),
        "quantizer.quantizers.9.codebook.weight": ("unexpected", np.zeros((16, 4), np.float32)),
        "something.else": ("unexpected", np.zeros(1, np.float32)),
    }
    state |= {key: weight for key, (_, weight) in changes.items()}
    state = {key: weight for key, weight in state.items() if weight is not None}
    message = faults_of(write_folder(tmp_path, model, state))
    assert f"{len(changes)} weights" in message
    for key, (fault, _) in changes.items():
        assert re.search(rf"{re.escape(fault)}[^;]*: {re.escape(key)}(;|$)", message)


def test_faults_of_flax_weights_are_named_by_their_path(model, tmp_path):
    state = flax_state(model)
    del state["encoder.conv1.kernel"]
    state["encoder.conv1.weight"] = np.zeros((4, 1, 7), np.float32)
    state["decoder.conv2.bias"] = np.float32([np.nan])
    message = faults_of(write_folder(tmp_path, model, state, layout="flax"))
    assert "missing: encoder.conv1.kernel" in message
    assert "unexpected: encoder.conv1.weight" in message
    assert "decoder.conv2.bias" in message


@pytest.mark.parametrize(
    "values", [[np.inf, -np.inf], [np.nan, np.inf], [-np.inf, 0], [0, np.nan]], ids=str
)
def test_weights_that_are_not_finite_are_refused_without_a_warning(model, tmp_path, values):
    state = torch_state(model)
    state["decoder.conv1.bias"][:2] = values
    assert "decoder.conv1.bias" in faults_of(write_folder(tmp_path, model, state))


def test_double_that_float32_cannot_hold_is_refused_without_a_warning(model, tmp_path):
    state = torch_state(model)
    state["decoder.conv1.bias"] = np.full(16, 1e300)
    assert "decoder.conv1.bias" in faults_of(write_folder(tmp_path, model, state))


def test_weights_of_another_configuration_are_refused(model, tmp_path):
    other = tiny_model(tiny_config(n_codebooks=2, decoder_hidden_size=8))
    message = faults_of(write_folder(tmp_path, model, torch_state(other)))
    assert "missing: quantizer.quantizers.2.in_proj.weight" in message
    assert "shape (8, 16, 7) instead of (16, 16, 7): decoder.conv1.weight" in message


GAIN_AND_DIRECTION_FAULTS = {
    "gain missing": lambda _, direction: (None, direction),
    "direction missing": lambda gain, _: (gain, None),
    "gain too short": lambda gain, direction: (gain[:3], direction),
    "gain along the taps": lambda _, direction: (np.ones(7, np.float32), direction),
    "gain of one for all": lambda _, direction: (np.ones((1, 1, 1), np.float32), direction),
    "gain a scalar": lambda _, direction: (np.float32(1.0), direction),
    "gain for each weight": lambda _, direction: (np.ones_like(direction), direction),
    "direction too short": lambda gain, direction: (gain, direction[..., :3]),
    "direction a scalar": lambda gain, _: (gain, np.float32(1.0)),
    "direction zero": lambda gain, direction: (gain, 0 * direction),
    "gain not finite": lambda gain, direction: (np.inf * gain, direction),
    "direction not finite": lambda gain, direction: (gain, np.nan * direction),
    "integers": lambda gain, direction: (gain.astype(int), np.ones_like(direction, dtype=int)),
}


@pytest.mark.parametrize("suffixes", [WEIGHT_G_V, PARAMETRIZATIONS], ids=["g_v", "parametrized"])
@pytest.mark.parametrize("fault", GAIN_AND_DIRECTION_FAULTS)
def test_unfolded_weight_norm_that_does_not_fit_is_refused(model, tmp_path, fault, suffixes):
    def change(key, gain, direction):
        if key != f"{CONV}.weight":
            return gain, direction
        return GAIN_AND_DIRECTION_FAULTS[fault](gain, direction)

    state = unfold(torch_state(model), suffixes, change)
    state = {key: np.asarray(weight) for key, weight in state.items()}
    assert CONV in faults_of(write_folder(tmp_path, model, state))


def test_weight_given_both_folded_and_unfolded_is_refused(model, tmp_path):
    state = unfold(torch_state(model), WEIGHT_G_V)
    state[f"{CONV}.weight"] = torch_state(model)[f"{CONV}.weight"]
    message = faults_of(write_folder(tmp_path, model, state))
    assert f"unexpected: {CONV}.weight_g" in message


SAFETENSORS_DAMAGES = {
    "empty": lambda _: b"",
    "garbage": lambda _: b"garbage" * 99,
    "no header": lambda whole: whole[:7],
    "half a header": lambda whole: whole[:200],
    "a byte short": lambda whole: whole[:-1],
    "a byte long": lambda whole: whole + b"\0",
    "a huge header": lambda whole: b"\xff" * 8 + whole[8:],
}


@pytest.mark.parametrize("damage", SAFETENSORS_DAMAGES)
def test_damaged_safetensors_are_refused(model, tmp_path, damage):
    whole = save(torch_state(model), {"format": "pt"})
    damaged = SAFETENSORS_DAMAGES[damage](whole)
    faults_of(write_folder(tmp_path, model, model__safetensors=damaged))


@pytest.mark.parametrize("layout", ["tf", "mlx", ""])
def test_safetensors_of_another_layout_are_refused_by_its_name(model, tmp_path, layout):
    folder = write_folder(tmp_path, model, torch_state(model), layout=layout)
    assert f"format {layout}" in faults_of(folder)


def test_flax_safetensors_with_a_weight_inside_a_weight_are_refused(model, tmp_path):
    state = flax_state(model) | {"encoder": np.zeros(1, np.float32)}
    faults_of(write_folder(tmp_path, model, state, layout="flax"))


MSGPACK_FAULTS = {
    "empty": b"",
    "garbage": b"garbage" * 99,
    "a number": msgpack.packb(7),
    "a list": msgpack.packb([1, 2]),
    "an empty tree": msgpack.packb({}),
    "a number for a key": msgpack.packb({"encoder": {3: 1.0}}),
    "bytes for a key": msgpack.packb({b"encoder": 1.0}),
    "text for a weight": msgpack.packb({"encoder": {"conv1": {"bias": "loud"}}}),
    "uneven lists for a weight": msgpack.packb({"encoder": {"conv1": {"bias": [[1.0], [1.0, 2]]}}}),
    "an extension of nonsense": msgpack.packb({"a": msgpack.ExtType(1, b"zz")}),
    "an unknown dtype": msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[1], "x", b""]))}),
    "a shape of -1": msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[-2], "<f4", b""]))}),
    "chunks without a shape": msgpack.packb({"a": {"__msgpack_chunked_array__": 1}}),
    "very deep": b"\x81\xa1a" * 5000 + b"\x01",
}


@pytest.mark.parametrize("fault", MSGPACK_FAULTS)
def test_hostile_msgpack_is_refused(model, tmp_path, fault):
    folder = write_folder(tmp_path, model, flax_model__msgpack=MSGPACK_FAULTS[fault])
    faults_of(folder, "flax_model.msgpack")


def test_truncated_msgpack_is_refused(model, tmp_path):
    whole = flax.serialization.to_bytes(model.params)
    for length in (1, 100, len(whole) // 2, len(whole) - 1):
        folder = write_folder(tmp_path, model, flax_model__msgpack=whole[:length])
        faults_of(folder, "flax_model.msgpack")


@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack"])
def test_any_changed_bytes_are_refused_or_load(model, tmp_path_factory, name):
    packed = {
        "model.safetensors": save(torch_state(model), {"format": "pt"}),
        "flax_model.msgpack": flax.serialization.to_bytes(model.params),
    }[name]
    folder = write_folder(tmp_path_factory.mktemp("fuzzed"), model)
    # Headers and names are where damage tells; most of the rest is weights.
    positions = st.one_of(st.integers(0, 2000), st.integers(0, len(packed) - 1))
    damages = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=4)

    @given(damages)
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def load_damaged(damages):
        content = bytearray(packed)
        for position, byte in damages:
            content[position] = byte
        (folder / name).write_bytes(content)
        message = refusal(folder)
        assert message is None or str(folder / name) in message

    load_damaged()


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("place", ["../outside.safetensors", "{outside}", "..", ".", "", "a/../b"])
def test_index_that_points_outside_its_folder_is_refused(model, tmp_path, place):
    outside = tmp_path / "outside.safetensors"
    save_file(torch_state(model), outside, metadata={"format": "pt"})
    place = place.format(outside=outside)
    folder = tmp_path / "inside"
    write_shards(folder, model, torch_state(model), weight_map=lambda w: dict.fromkeys(w, place))
    faults_of(folder, INDEX)


def test_shard_that_is_missing_is_named(model, tmp_path):
    folder = write_shards(tmp_path, model, torch_state(model))
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in faults_of(folder, INDEX)


def test_damaged_shard_is_named(model, tmp_path):
    folder = write_shards(tmp_path, model, torch_state(model))
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"garbage" * 9)
    faults_of(folder, "model-00002-of-00002.safetensors")


def index_of(weight_map):
    return json.dumps({"weight_map": weight_map}).encode()


INDEX_FAULTS = {
    "empty": b"",
    "not text": b"\xff{",
    "a list": b"[]",
    "without a map": b"{}",
    "a list for a map": index_of([]),
    "an empty map": index_of({}),
    "a number for a file": index_of({"a": 5}),
    "null for a file": index_of({"a": None}),
    "a list for a file": index_of({"a": ["b"]}),
    "very deep": b"[" * 100_000,
}


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_index_that_is_none_is_refused(model, tmp_path, fault):
    folder = write_shards(tmp_path, model, torch_state(model))
    (folder / INDEX).write_bytes(INDEX_FAULTS[fault])
    faults_of(folder, INDEX)
