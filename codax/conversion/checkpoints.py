"""The released models: where their weights are, and under which licence."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from codax.errors import CheckpointError

_DESCRIPT = "https://github.com/descriptinc/descript-audio-codec/releases/download"
_ENCODEC = "https://dl.fbaipublicfiles.com/encodec/v0"
_MUSICGEN = "https://huggingface.co/facebook/musicgen-small/resolve/main"


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """Where one released model is.

    url: the original torch file
    file_name: its name in codax's cache (the URL's own does not always tell the model)
    hub_id: the Hub repository with the same weights in transformers' layout
    license: of the weights, as an SPDX identifier
    sha256_prefix: first hexadecimal digits of the file's SHA-256, where its publisher gives them
    size_mb: about how large it is, in 10^6 bytes: what the authors' packages write of such a model
    """

    url: str
    file_name: str
    hub_id: str | None
    license: str
    sha256_prefix: str | None = None
    size_mb: int | None = None


# By preset name. Addresses and file names: descript-audio-codec 1.0.0, dac/utils/__init__.py, which
# gives no checksums; a conversion checks their structure against the preset instead. encodec 0.1.1,
# model.py, whose file names end in the first digits of their SHA-256. audiocraft 1.3, MusicGen.
RELEASED = {
    "dac_44khz": ReleasedCheckpoint(
        url=f"{_DESCRIPT}/0.0.1/weights.pth",
        file_name="weights_44khz_8kbps_0.0.1.pth",
        hub_id="descript/dac_44khz",
        license="MIT",
        size_mb=307,
    ),
    "dac_44khz_16kbps": ReleasedCheckpoint(
        url=f"{_DESCRIPT}/1.0.0/weights_44khz_16kbps.pth",
        file_name="weights_44khz_16kbps_1.0.0.pth",
        hub_id=None,
        license="MIT",
        size_mb=257,
    ),
    "dac_24khz": ReleasedCheckpoint(
        url=f"{_DESCRIPT}/0.0.4/weights_24khz.pth",
        file_name="weights_24khz_8kbps_0.0.4.pth",
        hub_id="descript/dac_24khz",
        license="MIT",
        size_mb=299,
    ),
    "dac_16khz": ReleasedCheckpoint(
        url=f"{_DESCRIPT}/0.0.5/weights_16khz.pth",
        file_name="weights_16khz_8kbps_0.0.5.pth",
        hub_id="descript/dac_16khz",
        license="MIT",
        size_mb=297,
    ),
    "encodec_24khz": ReleasedCheckpoint(
        url=f"{_ENCODEC}/encodec_24khz-d7cc33bc.th",
        file_name="encodec_24khz-d7cc33bc.th",
        hub_id="facebook/encodec_24khz",
        license="MIT",
        sha256_prefix="d7cc33bc",
        size_mb=93,
    ),
    "encodec_48khz": ReleasedCheckpoint(
        url=f"{_ENCODEC}/encodec_48khz-7e698e3e.th",
        file_name="encodec_48khz-7e698e3e.th",
        hub_id="facebook/encodec_48khz",
        license="MIT",
        sha256_prefix="7e698e3e",
        size_mb=76,
    ),
    "encodec_32khz": ReleasedCheckpoint(
        url=f"{_MUSICGEN}/compression_state_dict.bin",
        file_name="compression_state_dict.bin",
        hub_id="facebook/encodec_32khz",
        license="CC-BY-NC-4.0",
        size_mb=236,
    ),
}


# The language models of `.ecdc` files, which are no codecs. Source: encodec 0.1.1, model.py.
LANGUAGE_MODELS = {
    "encodec_lm_24khz": ReleasedCheckpoint(
        url=f"{_ENCODEC}/encodec_lm_24khz-1608e3c0.th",
        file_name="encodec_lm_24khz-1608e3c0.th",
        hub_id=None,
        license="MIT",
        sha256_prefix="1608e3c0",
        size_mb=62,
    ),
    "encodec_lm_48khz": ReleasedCheckpoint(
        url=f"{_ENCODEC}/encodec_lm_48khz-7add9fc3.th",
        file_name="encodec_lm_48khz-7add9fc3.th",
        hub_id=None,
        license="MIT",
        sha256_prefix="7add9fc3",
        size_mb=36,
    ),
}


def released_checkpoint(name: str) -> ReleasedCheckpoint:
    """The entry of `RELEASED` or `LANGUAGE_MODELS`; `CheckpointError` for a name that has none."""
    everything = {**RELEASED, **LANGUAGE_MODELS}
    if name not in everything:
        raise CheckpointError(
            f"{name!r} is not a released model; these are: {', '.join(everything)}"
        )
    return everything[name]


def originals_folder() -> Path:
    """Where downloaded originals are kept: `<HF_HOME>/codax/originals`."""
    return Path(constants.HF_HOME, "codax", "originals")


def converted_folder(name: str) -> Path:
    """Where the converted model of a preset is kept: `<HF_HOME>/codax/models/<name>`."""
    return Path(constants.HF_HOME, "codax", "models", name)
