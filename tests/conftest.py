"""Fixtures that several rooms share: tiny models with random weights, made without torch."""

# Before all that reads HF_ENDPOINT on import, so that no test can reach the real Hub.
from .hub.endpoint import HUB  # isort: split

import gc
import math
import os
import resource
import tempfile
from contextlib import contextmanager

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from codax import DacConfig, DacFeatureExtractor, FlaxDacModel
from codax.modeling.weight_table import dac_weight_rules

from .hub.server import TOKEN
from .tiny_encodec import MONO, STEREO, tiny_encodec, write_tiny_encodec

# One odd stride, as in the 16 and 24 kHz models: F frames decode to 10 F - 2 samples.
TINY_DAC = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 5],
    "decoder_hidden_size": 16,
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "sampling_rate": 8000,
}
# Before the final tanh: output of a sound level, neither silent nor saturated.
OUTPUT_GAIN = 0.05


def write_tiny_dac(folder, **changes):
    """A model folder with random weights; `changes` are fields of its configuration."""
    config = DacConfig(**{**TINY_DAC, **changes})
    FlaxDacModel(config, _do_init=False).save_pretrained(folder, params=_random_params(config))
    DacFeatureExtractor.from_config(config).save_pretrained(folder)
    return folder


def _random_params(config):
    """Each layer keeps the level of its input; alphas and codewords are uneven, biases not zero."""
    generator = np.random.default_rng(0)
    spreads = {"alpha": 0.5, "bias": 0.05, "embedding": 1.0}
    params = {}
    for rule in dac_weight_rules(config.architecture):
        leaf = rule.flax_path[-1]
        spread = spreads.get(leaf) or math.prod(rule.flax_shape[:2]) ** -0.5
        if rule.flax_path[:2] == ("decoder", "conv2"):
            spread *= OUTPUT_GAIN
        weights = generator.normal(0, spread, rule.flax_shape).astype(np.float32)
        params[rule.flax_path] = np.exp(weights) if leaf == "alpha" else weights
    return unflatten_dict(params)


def pytest_configure(config):
    """Share what is compiled with the other workers, and with the processes that tests start.

    Compiling takes most of the time. `JAX_COMPILATION_CACHE_DIR` keeps it for later runs too.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="codax-programs-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    # A program that another process is still writing is compiled here, without a word on stderr.
    silent = "ignore:Error reading persistent compilation cache"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.getenv("PYTHONWARNINGS"), silent]))
    if "full" not in config.option.markexpr:
        # Nor does LLVM optimise programs, which takes longer than it saves where they run once.
        # Other processes do the same, so that theirs give the same bits.
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_collection_finish():
    """Look for garbage less often, and not among what is imported: tracing makes many objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def pytest_collection_modifyitems(config, items):
    """Leave long tests out unless the command line speaks of them: `-m full`."""
    if "full" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


@pytest.fixture
def hf_home(tmp_path, monkeypatch):
    """HF_HOME, empty, of this process and its children; nothing is offline, nothing waits."""
    home = tmp_path / "hf_home"
    folders = {"HF_HOME": home, "HF_HUB_CACHE": home / "hub", "HF_TOKEN_PATH": home / "token"}
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(folder))
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(folder))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(home / "hub"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", False)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return home


@pytest.fixture
def hub(hf_home, monkeypatch):
    """The Hub of HF_ENDPOINT, empty, for a user who has logged in, and with a cache of its own."""
    HUB.reset()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield HUB
    HUB.reset()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model with an odd stride, as `from_pretrained` loads it."""
    return write_tiny_dac(tmp_path_factory.mktemp("tiny_dac"))


@pytest.fixture(scope="session")
def odd_model(tiny_folder):
    """The model of `tiny_folder`."""
    return FlaxDacModel.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def even_model(tmp_path_factory):
    """A model with even strides only, as at 44.1 kHz."""
    folder = write_tiny_dac(tmp_path_factory.mktemp("even_dac"), downsampling_ratios=[2, 4])
    return FlaxDacModel.from_pretrained(folder)


@pytest.fixture
def largest_file():
    """`with largest_file(num_bytes)`: writing beyond it fails, as it does on a full disk."""

    @contextmanager
    def limited(num_bytes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def encodec_mono():
    """A tiny EnCodec model like the one at 24 kHz."""
    return tiny_encodec(MONO)


@pytest.fixture(scope="session")
def encodec_stereo():
    """A tiny EnCodec model like the one at 48 kHz, which codes segments."""
    return tiny_encodec(STEREO)


@pytest.fixture(scope="session")
def encodec_mono_folder(tmp_path_factory):
    """The model of `encodec_mono`, as `from_pretrained` loads it."""
    return write_tiny_encodec(tmp_path_factory.mktemp("encodec_mono"), MONO)


@pytest.fixture(scope="session")
def encodec_stereo_folder(tmp_path_factory):
    """The model of `encodec_stereo`, as `from_pretrained` loads it."""
    return write_tiny_encodec(tmp_path_factory.mktemp("encodec_stereo"), STEREO)
