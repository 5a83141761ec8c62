"""Published, and loaded again: in Flax, in torch, offline, and where codax is not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import snapshot_download
from transformers import AutoFeatureExtractor, AutoModel, FlaxAutoModel

import codax
from codax.hub_cards import publish
from tests.reference import peers

from .conftest import NUM_SAMPLES, ON_EACH_FAMILY, ORIGIN, coded

SCRIPT = Path(__file__).with_name("without_codax.py")
AUDIO_TOLERANCE = 1e-5  # of float32, in another order of summation
AS_IN_TORCH = {"dac": {}, "encodec": {"segmentation": "transformers"}}


@pytest.fixture
def on_hub(published, hub):
    """`published`, in a repository."""
    publish(published.model, ORIGIN, published.repo_id, measure=False)
    return published


def load(name, **options):
    extractor = AutoFeatureExtractor.from_pretrained(name, **options)
    return FlaxAutoModel.from_pretrained(name, **options), extractor


def assert_same(published, model, extractor):
    inputs = extractor(published.clip, sampling_rate=published.rate, return_tensors="np")
    codes, audio = coded(model, inputs)
    np.testing.assert_array_equal(codes, published.codes)
    np.testing.assert_array_equal(audio, published.audio)


def test_all_comes_in_one_commit(on_hub, hub):
    repository = hub.repositories[on_hub.repo_id]
    (commit,) = [each for each in repository.commits if "config.json" in each.changed]
    assert set(commit.changed) == set(on_hub.files)
    assert repository.files()["model.safetensors"] == on_hub.files["model.safetensors"]


def test_flax_loads_what_was_published(on_hub):
    model, extractor = load(on_hub.repo_id)
    assert type(model).__module__.startswith("codax.")
    assert_same(on_hub, model, extractor)


def test_a_snapshot_loads_offline(on_hub, hub, monkeypatch):
    folder = snapshot_download(on_hub.repo_id)
    assert {path.name for path in Path(folder).iterdir()} >= set(on_hub.files)
    hub.log.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    for name in (folder, on_hub.repo_id):
        assert_same(on_hub, *load(name))
    assert hub.log == []


def test_torch_loads_the_same_weights_and_gives_the_same_codes(on_hub):
    if reason := peers.missing_transformers():
        pytest.skip(reason)
    import torch

    extractor = AutoFeatureExtractor.from_pretrained(on_hub.repo_id)
    theirs, report = AutoModel.from_pretrained(on_hub.repo_id, output_loading_info=True)
    assert {kind: keys for kind, keys in report.items() if keys} == {}
    assert type(theirs).__module__.startswith("transformers.models.")
    inputs = extractor(on_hub.clip, sampling_rate=on_hub.rate, return_tensors="pt")
    with torch.no_grad():
        if theirs.config.model_type == "dac":
            codes = theirs.encode(inputs["input_values"]).audio_codes
            audio = theirs.decode(audio_codes=codes).audio_values
        else:
            mask, bandwidth = inputs["padding_mask"], theirs.config.target_bandwidths[-1]
            encoded = theirs.encode(inputs["input_values"], mask, bandwidth=bandwidth)
            codes = encoded.audio_codes
            audio = theirs.decode(codes, encoded.audio_scales, mask).audio_values
    ours, _ = load(on_hub.repo_id, **AS_IN_TORCH[on_hub.model.config.model_type])
    expected_codes, expected_audio = coded(ours, {**inputs.convert_to_tensors("np")})
    np.testing.assert_array_equal(codes.numpy(), expected_codes)
    audio = audio.numpy()[..., :NUM_SAMPLES]  # beyond the clip, torch's is not silent
    expected_audio = expected_audio[..., :NUM_SAMPLES]
    np.testing.assert_allclose(audio, expected_audio, atol=AUDIO_TOLERANCE)


# --- without codax -------------------------------------------------------------------------------


def run_without_codax(published, sources, tmp_path, **more):
    """Load each of the sources; all give the codes and the audio that codax gives."""
    given, orders = tmp_path / "given.npz", tmp_path / "orders.json"
    np.savez(given, clip=published.clip, rate=published.rate)
    results = [str(tmp_path / f"result{index}.npz") for index in range(len(sources))]
    told = {"given": given, "sources": sources, "results": results, **more}
    orders.write_text(json.dumps(told, default=str))
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), str(orders)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    for result in results:
        with np.load(result) as file:
            np.testing.assert_array_equal(file["codes"], published.codes)
            np.testing.assert_array_equal(file["audio"], published.audio)


@ON_EACH_FAMILY
def test_published_bundle_loads_without_codax_and_gives_the_same_numbers(on_hub, tmp_path):
    run_without_codax(on_hub, [on_hub.repo_id, on_hub.folder], tmp_path)


@pytest.mark.parametrize("name", ["dac", pytest.param("encodec-48khz", marks=pytest.mark.full)])
def test_what_is_saved_and_pushed_without_codax_loads_without_it(name, published_as, hub, tmp_path):
    published, saved, pushed = published_as(name), tmp_path / "saved", "owner/again"
    run_without_codax(published, [published.folder], tmp_path, save=saved, push=pushed)
    run_without_codax(published, [saved, pushed], tmp_path)
    needed = {name for name in published.files if name.endswith((".py", ".json", ".safetensors"))}
    assert set(hub.repositories[pushed].files()) == needed


def test_without_trust_nothing_runs(dac, hf_home, tmp_path):
    """Python files beside the weights are neither copied nor imported."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name, content in dac.files.items():
        hostile = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
        (folder / name).write_bytes(hostile + content if name.endswith(".py") else content)
    script = f"""
from transformers import AutoFeatureExtractor, FlaxAutoModel

for trust in (False, None):
    AutoFeatureExtractor.from_pretrained({str(folder)!r}, trust_remote_code=trust)
    try:
        FlaxAutoModel.from_pretrained({str(folder)!r}, trust_remote_code=trust)
    except ValueError as error:
        print("refused:", error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"USE_TORCH": "0"},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert finished.stdout.count("refused:") == 2, finished
    assert "trust_remote_code=True" in finished.stdout
    assert not (tmp_path / "ran").exists()
    assert not list(hf_home.rglob("modeling_flax_dac.py"))


def test_with_codax_installed_the_code_of_the_repository_is_not_asked_for(on_hub, hub):
    load(on_hub.repo_id, trust_remote_code=False)
    assert not hub.requests("* /*.py")


def test_what_codax_saves_of_it_speaks_of_no_code(on_hub, tmp_path):
    for part in load(on_hub.repo_id):
        part.save_pretrained(tmp_path)
    assert_same(on_hub, *load(tmp_path))
    for name in ("config.json", "preprocessor_config.json"):
        assert "auto_map" not in json.loads((tmp_path / name).read_text())


def test_codax_codes_files_with_it(on_hub, tmp_path):
    codec = codax.AudioCodec.from_pretrained(on_hub.repo_id)
    encoded = codec.encode(on_hub.clip, sampling_rate=on_hub.rate)
    assert encoded.num_samples == on_hub.clip.shape[1]
    assert codec.decode(encoded).samples.shape == on_hub.clip.shape
