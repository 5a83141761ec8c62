"""`.ecdc` files with a language model, from audio to the file and back.

Codecs are narrow and language models tiny, but have the rates and codebooks of the released ones.
"""

import contextlib
import shutil
import sys

import numpy as np
import pytest

from codax import AudioCodec, EncodedAudio, FormatError
from codax.codec import language_model, language_models, read_compressed
from codax.conversion import load_encodec_lm, torch_probabilities
from codax.errors import CodaxError
from codax.formats import AstrayError, ecdc_bytes, write_ecdc
from tests.tiny_encodec import NARROW_24KHZ, NARROW_48KHZ, noise, tiny_encodec
from tests.tiny_encodec_lm import use_tiny_lms, write_tiny_lm

NARROW = {"encodec_24khz": NARROW_24KHZ, "encodec_48khz": NARROW_48KHZ}
NUM_SAMPLES = 8 * 320
NOT_REPEATED = "did not repeat bit for bit"


@pytest.fixture(scope="module", autouse=True)
def _tiny_architectures():
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_lms(patch)
        yield


@pytest.fixture(scope="module", params=list(NARROW))
def model(request):
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By codec: the folder of its language model."""
    return {model: write_tiny_lm(tmp_path_factory.mktemp(f"lm_{model}"), model) for model in NARROW}


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory, model):
    """Of a language model for the same codec with other weights."""
    return write_tiny_lm(tmp_path_factory.mktemp(f"other_lm_{model}"), model, seed=1)


@pytest.fixture(scope="module")
def codec(model):
    return AudioCodec(tiny_encodec(NARROW[model]), model)


@pytest.fixture(scope="module")
def encoded(codec):
    """8 frames of four codebooks, or of two with the scale of a segment."""
    clip = noise(codec.config.audio_channels, NUM_SAMPLES)
    return codec.encode(clip, codec.sampling_rate, bandwidth=3.0)


@pytest.fixture
def path(encoded, model, folders, tmp_path):
    """A file that was written with the language model of `folders`."""
    path = tmp_path / "song.ecdc"
    write_ecdc(encoded, path, language_model(folders[model]))
    return path


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """A cache with nothing in it; what was loaded from another one is forgotten."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    language_models._loaded.cache_clear()
    yield tmp_path / "home"
    language_models._loaded.cache_clear()


@contextlib.contextmanager
def one_thread():
    """torch's, whose number the `encodec` package leaves as it is."""
    torch = pytest.importorskip("torch", reason="files of the encodec package take torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# --- there and back ------------------------------------------------------------------------------


def test_a_file_reads_back_as_what_was_encoded(path, encoded, model, folders):
    assert b'"lm": true' in path.read_bytes()
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file):
            read = read_compressed(source, folders[model])
            np.testing.assert_array_equal(read.codes, encoded.codes)
            assert (read.num_samples, read.sampling_rate) == (NUM_SAMPLES, encoded.sampling_rate)
            assert read == encoded


def test_its_audio_is_that_of_the_file_without_a_language_model(path, codec, model, folders):
    read = read_compressed(path, folders[model])
    assert codec.decode(read).samples.shape == (codec.config.audio_channels, NUM_SAMPLES)
    plain = codec.decode(ecdc_bytes(read)).samples
    np.testing.assert_array_equal(codec.decode(read).samples, plain)


def test_weights_are_named_by_their_folder_or_their_file(path, encoded, model, folders):
    for name in (folders[model], str(folders[model]), folders[model] / "encodec_lm.safetensors"):
        assert read_compressed(path, name) == encoded


def test_a_codec_decodes_with_the_released_language_model_in_the_cache(
    path, codec, encoded, model, folders, empty_home
):
    cached = empty_home / "codax" / "models" / model.replace("encodec_", "encodec_lm_")
    shutil.copytree(folders[model], cached)
    np.testing.assert_array_equal(codec.decode(path).samples, codec.decode(encoded).samples)
    assert ecdc_bytes(encoded, language_model()) == path.read_bytes()


def test_weights_are_loaded_once_for_many_files(path, model, folders, monkeypatch, empty_home):
    loaded = []

    def load(path):
        loaded.append(path)
        return load_encodec_lm(path)

    monkeypatch.setattr(language_models, "load_encodec_lm", load)
    for _ in range(3):
        read_compressed(path, folders[model])
    assert loaded == [str(folders[model])]


def test_a_file_without_a_language_model_does_not_load_one(encoded, tmp_path, empty_home):
    path = tmp_path / "plain.ecdc"
    write_ecdc(encoded, path)
    assert read_compressed(path) == encoded
    assert read_compressed(path, tmp_path / "missing.th") == encoded


# --- probabilities that do not repeat ------------------------------------------------------------


def test_other_weights_are_found_out_and_the_file_is_named(path, other_folder):
    with pytest.raises(AstrayError, match=NOT_REPEATED) as refusal:
        read_compressed(path, other_folder)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_without_torch_the_reason_is_still_that_the_probabilities_did_not_repeat(
    path, other_folder, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(AstrayError, match=NOT_REPEATED):
        read_compressed(path, other_folder)


def test_a_damaged_file_is_refused_by_its_name(path, model, folders):
    content = bytearray(path.read_bytes())
    content[-6] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(FormatError) as refusal:
        read_compressed(path, folders[model])
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize("missing", [1, 4])
def test_a_file_that_breaks_off_is_refused_by_its_name(path, model, folders, missing):
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(FormatError) as refusal:
        read_compressed(path, folders[model])
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize("threads", [1, 2])
def test_files_of_the_encodec_package_are_read_by_torch(encoded, model, folders, tmp_path, threads):
    """Their bits are torch's, on as many threads as the writer had."""
    with one_thread():
        probabilities = torch_probabilities(load_encodec_lm(folders[model]), num_threads=threads)
        content = ecdc_bytes(encoded, probabilities)
        assert content != ecdc_bytes(encoded, language_model(folders[model]))
        assert read_compressed(content, folders[model]) == encoded


# --- what does not go together -------------------------------------------------------------------


def test_the_language_model_of_the_other_codec_is_refused(path, encoded, model, folders):
    (other,) = set(NARROW) - {model}
    message = f"m is {model}, but the language model given is for {other}"
    with pytest.raises(FormatError, match=message):
        read_compressed(path, folders[other])
    with pytest.raises(FormatError, match=message):
        ecdc_bytes(encoded, language_model(folders[other]))


def test_without_a_language_model_the_file_is_refused_with_the_reason(path):
    with pytest.raises(FormatError, match="was written with a language model"):
        EncodedAudio.load(path)


def test_weights_that_are_not_there_are_named_when_they_are_needed(path, encoded, tmp_path):
    for missing in (tmp_path / "missing.safetensors", tmp_path / "missing.th"):
        probabilities = language_model(missing)  # not yet
        with pytest.raises(OSError, match=missing.name):
            ecdc_bytes(encoded, probabilities)
        with pytest.raises(OSError, match=missing.name):
            read_compressed(path, missing)


def test_without_the_released_one_and_torch_the_way_to_get_it_is_told(
    path, codec, empty_home, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CodaxError, match=r"pip install .*codax\[convert\]"):
        codec.decode(path)
