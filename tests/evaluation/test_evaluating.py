"""An evaluation says what measuring each clip by hand says."""

import functools
import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from codax import Audio, AudioCodec
from codax.errors import CodaxError
from codax.evaluation import distances
from codax.evaluation.codebooks import CodeCounts
from codax.evaluation.evaluating import METRICS, _levels, _size_for, evaluate

RATE = 8000
# Two lengths of as many frames, measured in one size: each other one costs a compilation.
LENGTHS = (2600, 2595)
KBPS_OF_CODEBOOK = 3.2  # of both tiny models: 800 frames of 4 bits a second


def noise(num_samples, channels=1, level=0.1):
    samples = np.random.default_rng(num_samples).normal(0, level, (channels, num_samples))
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    return [Audio(noise(length), RATE) for length in LENGTHS]


@pytest.fixture(scope="module")
def dac(odd_model):
    return AudioCodec(odd_model, "tiny")


@pytest.fixture(scope="module")
def report(dac, clips):
    return evaluate(dac, clips, opus_kbps=(24, 8))


BY_HAND = {
    "mel": functools.partial(distances.multi_scale_mel_distance, sampling_rate=RATE),
    "stft": distances.multi_scale_stft_distance,
    "waveform": distances.waveform_l1,
    "si_sdr": distances.si_sdr,
    "si_snr": functools.partial(distances.si_snr, sampling_rate=RATE),
}


def by_hand(codec, clip, level):
    """What `encode` and `decode` of the whole clip give: codes, and a pair float32 [1, 1, T]."""
    encoded = codec.encode(clip, n_quantizers=level)
    decoded = codec.decode(encoded, restore_loudness=False).samples
    prepared = np.concatenate([*codec.preparation().of(clip)], axis=1)
    return encoded.codes, (jnp.array(decoded)[None], jnp.array(prepared)[None])


@pytest.mark.parametrize(
    "name",
    [
        # Spectra of two lengths take a minute to compile; see also test_distances.py.
        pytest.param(name, marks=pytest.mark.full if name in ("mel", "stft") else ())
        for name in BY_HAND
    ],
)
def test_metrics_are_the_means_of_those_measured_by_hand(dac, clips, report, name):
    pairs = [by_hand(dac, clip, level=2)[1] for clip in clips]
    expected = np.mean([jax.jit(BY_HAND[name])(*pair) for pair in pairs])
    # Sums over padded clips round otherwise; a ratio of -43 dB is that of two small numbers.
    np.testing.assert_allclose(report.steps[1].metrics[name], expected, rtol=1e-3)


def test_use_is_that_of_the_codes_of_all_clips(dac, clips, report):
    measured = [by_hand(dac, clip, level=2) for clip in clips]
    step = report.steps[1]
    assert step.codebooks == 2
    counts = CodeCounts(2, 16)
    for codes, _ in measured:
        counts.add(codes)
    assert step.use == counts.use()
    frames_per_s = counts.use().frames / report.seconds
    entropy = sum(step.use.entropy_bits)
    assert step.entropy_kbps == pytest.approx(frames_per_s * entropy / 1000)
    assert step.left_out == {}


def test_steps_are_powers_of_two_and_all_codebooks_then_opus(report):
    assert [step.codebooks for step in report.steps] == [1, 2, 3, None, None]
    assert [step.codec for step in report.steps] == ["tiny"] * 3 + ["Opus"] * 2
    rates = [step.kbps for step in report.steps[:3]]
    # The last frame reaches beyond the clip.
    np.testing.assert_allclose(rates, KBPS_OF_CODEBOOK * np.arange(1, 4), rtol=0.01)
    assert report.steps[3].kbps < report.steps[4].kbps
    assert report.steps[3].metrics["mel"] > report.steps[4].metrics["mel"]
    assert (report.clips, report.sampling_rate) == (2, RATE)
    assert report.seconds == pytest.approx(sum(LENGTHS) / RATE)


def test_table_and_json_tell_every_step(report):
    table = report.to_markdown()
    header, _, *rows = table.split("\n\n")[0].splitlines()
    assert len(rows) == len(report.steps)
    assert {row.count("|") for row in (header, *rows)} == {header.count("|")}
    assert f"| {report.steps[0].metrics['mel']:.2f} |" in rows[0]
    assert "2 clips, 0.6 s, measured at 8000 Hz. Opus by" in table
    told = json.loads(report.to_json())
    assert told["steps"][2]["use"]["efficiency"] == report.steps[2].use.efficiency
    assert [step["metrics"] for step in told["steps"]] == [step.metrics for step in report.steps]


def test_every_metric_is_plotted(report, tmp_path):
    pytest.importorskip("matplotlib")
    paths = report.save_plots(tmp_path / "plots")
    assert [path.stem for path in paths] == list(METRICS)
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_steps_of_encodec_are_its_bandwidths(encodec_mono):
    codec = AudioCodec(encodec_mono)
    assert _levels(codec, None, None) == [1, 2, 4]
    assert _levels(codec, None, [12.8, 3.2]) == [1, 4]
    assert _levels(codec, [3, 1, 3], None) == [1, 3]


def test_scales_of_segments_count_as_bits(encodec_stereo):
    mono = Audio(noise(1224), RATE)  # is mixed to stereo; four segments
    codec = AudioCodec(encodec_stereo)
    (step,) = evaluate(codec, [mono], n_quantizers=[1], metrics=["waveform"]).steps
    bits = 4 * step.use.frames + 4 * 32
    assert step.kbps == pytest.approx(bits / 1224 * RATE / 1000)


def test_clips_that_cannot_be_measured_are_told_and_skipped(dac, clips, tmp_path):
    soundfile.write(tmp_path / "good.wav", clips[0].samples.T, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", np.zeros(1024), RATE)
    (tmp_path / "broken.flac").write_bytes(b"fLaC")
    (tmp_path / "other.m4a").write_bytes(bytes(100))
    (tmp_path / "notes.txt").write_text("no audio")
    heard = []
    report = evaluate(dac, tmp_path, n_quantizers=[3], metrics=["waveform"], progress=heard.append)
    assert report.clips == 1
    assert sorted(heard) == sorted(map(str, tmp_path.glob("*.[!t]*")))
    reasons = dict(report.skipped)
    assert [*reasons] == [
        str(tmp_path / name) for name in ("broken.flac", "other.m4a", "short.wav")
    ]
    assert (
        "1024 samples at 8000 Hz, at least 1025 (0.128 s)" in reasons[str(tmp_path / "short.wav")]
    )
    assert "3 clips were skipped" in report.to_markdown()
    with pytest.raises(CodaxError, match=r"more than 1 clips .*other\.m4a"):
        evaluate(dac, tmp_path, n_quantizers=[3], metrics=["waveform"], most_skipped=1)


def test_evaluations_of_nothing_are_refused_by_name(dac, tmp_path):
    with pytest.raises(CodaxError, match=f"{tmp_path}: holds no audio"):
        evaluate(dac, tmp_path)
    with pytest.raises(CodaxError, match="nowhere: no such file or folder"):
        evaluate(dac, tmp_path / "nowhere")
    with pytest.raises(CodaxError, match="no clip could be measured; 0 were skipped"):
        evaluate(dac, [])
    with pytest.raises(CodaxError, match="1 were skipped: clip 1: is too short"):
        evaluate(dac, [Audio(noise(100), RATE)])


def test_clips_without_a_value_are_left_out_and_told(dac, clips):
    report = evaluate(
        dac, clips, n_quantizers=[3], metrics=["waveform"], visqol="speech", stoi=True
    )
    (step,) = report.steps
    assert step.left_out == {"visqol": 2, "stoi": 2}  # which score no clip under half a second
    assert step.metrics["visqol"] is step.metrics["stoi"] is None
    assert step.metrics["waveform"] > 0
    assert "ViSQOL: without up to 2 clips that have no value." in report.to_markdown()


def test_silence_has_no_ratio_to_noise(dac, clips):
    arguments = {"n_quantizers": [3], "metrics": ["waveform", "si_sdr"], "loudness_db": None}
    silence = Audio(np.zeros((1, LENGTHS[0]), np.float32), RATE)
    [alone] = evaluate(dac, clips[:1], **arguments).steps
    [together] = evaluate(dac, [clips[0], silence], **arguments).steps
    assert together.metrics["si_sdr"] == alone.metrics["si_sdr"]
    assert together.left_out == {"si_sdr": 1}
    assert together.metrics["waveform"] < alone.metrics["waveform"]


def test_excerpts_are_the_beginnings_of_clips(dac, clips):
    arguments = {"n_quantizers": [3], "metrics": ["waveform"], "loudness_db": None}
    excerpts = evaluate(dac, clips[:1], **arguments, excerpt_s=LENGTHS[1] / RATE)
    beginning = Audio(clips[0].samples[:, : LENGTHS[1]], RATE)
    whole = evaluate(dac, [beginning], **arguments)
    assert excerpts.steps == whole.steps
    assert excerpts.seconds == pytest.approx(LENGTHS[1] / RATE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_quantizers": [4]}, "n_quantizers=4 must be an integer from 1 to 3"),
        ({"n_quantizers": []}, "at least one number of codebooks"),
        ({"bandwidths": [6]}, "DAC takes n_quantizers"),
        ({"bandwidths": [6], "n_quantizers": [1]}, "give one of them"),
        ({"metrics": ["mel", "fad"]}, "mel, stft, waveform, si_sdr, si_snr; got fad"),
        ({"visqol": "music"}, "audio, speech; got 'music'"),
        ({"opus_kbps": [5]}, "kbps=5 must be from 6 to 256"),
        ({"excerpt_s": math.nan}, "excerpt_s=nan must be positive"),
        ({"excerpt_s": -1.0}, "excerpt_s=-1.0 must be positive"),
        ({"most_skipped": -1}, "most_skipped=-1 must be 0 or more"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_any_clip(dac, arguments, message):
    def never():
        raise AssertionError("a clip was asked for")
        yield

    with pytest.raises(ValueError, match=message):
        evaluate(dac, never(), **arguments)


def test_the_page_about_it_runs_as_it_stands(tiny_folder, clips, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    page = Path(__file__).parents[2].joinpath("docs", "evaluation.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "recordings").mkdir()
    for number, clip in enumerate(clips):
        clip.save(tmp_path / "recordings" / f"{number}.wav")
    monkeypatch.chdir(tmp_path)
    exec(block.replace("descript/dac_44khz", str(tiny_folder)), {})
    assert capsys.readouterr().out.count(f"| {tiny_folder} |") == 3
    assert Path("plots", "mel.png").is_file()


def test_clips_of_all_lengths_are_measured_in_few_sizes():
    sizes = {length: _size_for(length) for length in range(1025, 2**17, 7)}
    assert all(length <= size for length, size in sizes.items())
    assert all(size <= 1.42 * length for length, size in sizes.items() if length > 4096)
    assert len(set(sizes.values())) == 11  # half octaves from 2**12 to 2**17
