"""The code on a card. Tests run it as it stands."""

from typing import Any

_LOAD = """\
from transformers import AutoFeatureExtractor, FlaxAutoModel

repo = "{repo_id}"
model = FlaxAutoModel.from_pretrained(repo, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(repo, trust_remote_code=True)
"""

_CODE = {
    "dac": """\
inputs = extractor(waveform, sampling_rate={rate}, return_tensors="jax")
codes = model.encode(inputs.input_values).audio_codes  # int32 [batch, {levels}, frames]
audio = model.decode(audio_codes=codes).audio_values  # float32 [batch, samples]
""",
    "encodec": """\
inputs = extractor(waveform, sampling_rate={rate}, return_tensors="jax")
encoded = model.encode(inputs.input_values, inputs.padding_mask, bandwidth={bandwidth:g})
codes = encoded.audio_codes  # int32 [segments, batch, codebooks, frames]
decoded = model.decode(codes, encoded.audio_scales, inputs.padding_mask)
audio = decoded.audio_values  # float32 [batch, channels, samples]
""",
}

_CHUNKS = """\
model = FlaxAutoModel.from_pretrained(
    repo,
    trust_remote_code=True,
    encode_chunk_length_s=5.0,
    decode_chunk_length_s=5.0,
    decode_chunk_mode="exact",
)
"""

_DATASETS = """\
from glob import glob

import numpy as np
import soundfile
from datasets import Dataset

clips = Dataset.from_dict({{"path": sorted(glob("clips/*.wav"))}})


def encode(example):
    samples, rate = soundfile.read(example["path"], dtype="float32", always_2d=True)
    inputs = extractor({clip}, sampling_rate=rate, resample=True, return_tensors="np")
    encoded = model.encode({arguments})
    return {{{columns}}}


coded = clips.map(encode)
"""

_TORCH = {
    "dac": """\
import torch
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("{repo_id}")
extractor = AutoFeatureExtractor.from_pretrained("{repo_id}")
inputs = extractor(waveform, sampling_rate={rate}, return_tensors="pt")
with torch.no_grad():
    codes = model.encode(inputs["input_values"]).audio_codes
    audio = model.decode(audio_codes=codes).audio_values
""",
    "encodec": """\
import torch
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("{repo_id}")
extractor = AutoFeatureExtractor.from_pretrained("{repo_id}")
inputs = extractor(waveform, sampling_rate={rate}, return_tensors="pt")
with torch.no_grad():
    encoded = model.encode(**inputs, bandwidth={bandwidth:g})
    audio = model.decode(
        encoded.audio_codes,
        encoded.audio_scales,
        inputs["padding_mask"],
        last_frame_pad_length=encoded.last_frame_pad_length,
    ).audio_values
""",
}

_CODAX = """\
import codax

codec = codax.AudioCodec.from_pretrained("{repo_id}")
codec.encode("song.flac").save("song.codax")
codec.decode("song.codax").save("song.wav")
"""


def load(repo_id: str) -> str:
    """Loading in Flax, with the repository's own code."""
    return _LOAD.format(repo_id=repo_id)


def encode_and_decode(config: Any) -> str:
    """What comes after `load`."""
    return _CODE[config.model_type].format(**_facts(config))


def chunks() -> str:
    """Loading for long audio, after `load`."""
    return _CHUNKS


def dataset_map(config: Any) -> str:
    """Codes of a folder of clips, after `load`."""
    is_stereo = config.audio_channels > 1
    facts = _facts(config)
    arguments = 'inputs["input_values"]'
    columns = '"codes": np.asarray(encoded.audio_codes)'
    if facts.get("scaled"):
        columns += ', "scales": np.asarray(encoded.audio_scales)'
    if config.model_type == "encodec":
        arguments += ', inputs["padding_mask"], bandwidth={bandwidth:g}'.format(**facts)
    return _DATASETS.format(
        clip="samples.T, mix_channels=True" if is_stereo else "samples.mean(axis=1)",
        arguments=arguments,
        columns=columns,
    )


def in_torch(repo_id: str, config: Any) -> str:
    """The same model in torch."""
    return _TORCH[config.model_type].format(repo_id=repo_id, **_facts(config))


def with_codax(repo_id: str) -> str:
    """From file to file."""
    return _CODAX.format(repo_id=repo_id)


def _facts(config: Any) -> dict[str, Any]:
    facts = {"rate": config.sampling_rate}
    if config.model_type == "dac":
        return {**facts, "levels": config.n_codebooks}
    return {**facts, "bandwidth": config.target_bandwidths[-1], "scaled": config.normalize}
