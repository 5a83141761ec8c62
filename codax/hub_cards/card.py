"""Model cards: what a repository's README.md says, from what the model is and what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from codax import __version__
from codax.conversion import RELEASED, Agreement

from . import snippets
from .measuring import Speed
from .origins import Origin
from .results import TASK

PICTURE = "spectrograms.png"

FAMILIES = {"dac": "DAC", "encodec": "EnCodec"}


class Paper(NamedTuple):
    """What to cite: the words of a link, the number at arXiv, and an entry for BibTeX."""

    title: str
    arxiv: str
    bibtex: str


PAPERS = {
    "dac": Paper(
        "Kumar et al., *High-Fidelity Audio Compression with Improved RVQGAN*, 2023",
        "2306.06546",
        """\
@misc{kumar2023highfidelity,
  title = {High-Fidelity Audio Compression with Improved {RVQGAN}},
  author = {Kumar, Rithesh and Seetharaman, Prem and Luebs, Alejandro and Kumar, Ishaan and
            Kumar, Kundan},
  year = {2023},
  eprint = {2306.06546},
  archivePrefix = {arXiv},
}""",
    ),
    "encodec": Paper(
        "Défossez et al., *High Fidelity Neural Audio Compression*, 2022",
        "2210.13438",
        """\
@misc{defossez2022high,
  title = {High Fidelity Neural Audio Compression},
  author = {D{\\'e}fossez, Alexandre and Copet, Jade and Synnaeve, Gabriel and Adi, Yossi},
  year = {2022},
  eprint = {2210.13438},
  archivePrefix = {arXiv},
}""",
    ),
}
# Of released models that were trained for another work than that of their family.
ALSO = {
    "encodec_32khz": Paper(
        "Copet et al., *Simple and Controllable Music Generation* (MusicGen), 2023",
        "2306.05284",
        """\
@misc{copet2023simple,
  title = {Simple and Controllable Music Generation},
  author = {Copet, Jade and Kreuk, Felix and Gat, Itai and Remez, Tal and Kant, David and
            Synnaeve, Gabriel and Adi, Yossi and D{\\'e}fossez, Alexandre},
  year = {2023},
  eprint = {2306.05284},
  archivePrefix = {arXiv},
}""",
    ),
}


@dataclass(frozen=True)
class CardContent:
    """All that a card is made of. What is None or empty, was not measured and is left out.

    repo_id: "owner/name", where the model will be
    config: the model's
    results: of an evaluation; they become the metadata's model-index as well
    picture: whether the file `PICTURE` lies beside the card
    notes: more paragraphs about the model, such as how it was trained, in Markdown
    built_in: whether the model comes with codax, instead of lying at `repo_id`
    """

    repo_id: str
    config: Any
    origin: Origin
    agreement: Agreement | None = None
    speed: Speed | None = None
    results: Sequence[EvalResult] = ()
    picture: bool = False
    notes: str = ""
    built_in: bool = False


def model_card(content: CardContent) -> ModelCard:
    """The card of a model: released, fine-tuned or new."""
    sections = (
        _introduction(content),
        content.notes.strip(),
        _usage_built_in(content) if content.built_in else _usage(content),
        _bitrates(content.config),
        _parity(content),
        _quality(content),
        _speed(content),
        _limits(content),
        _license(content),
        _citation(content),
    )
    body = "\n\n".join(section.strip() for section in sections if section)
    return ModelCard(f"---\n{metadata(content).to_yaml()}\n---\n\n{body}\n")


def metadata(content: CardContent) -> ModelCardData:
    """The card's YAML header, in the Hub's terms."""
    config, origin = content.config, content.origin
    more: dict[str, Any] = {}
    if origin.license_name:
        more |= {"license_name": origin.license_name, "license_link": "LICENSE"}
    if origin.is_finetuned:
        more["base_model_relation"] = "finetune"
    if content.results:
        more["model_name"] = content.repo_id.split("/")[-1]
        more["eval_results"] = list(content.results)
    return ModelCardData(
        license=origin.license,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["jax", "flax", "audio", "audio-codec", "neural-audio-codec", config.model_type],
        base_model=origin.base_model,
        **more,
    )


def _introduction(content: CardContent) -> str:
    config = content.config
    channels = {1: "mono", 2: "stereo"}
    layout = channels.get(config.audio_channels, f"{config.audio_channels}-channel")
    links = " and ".join(
        f"[{paper.title}](https://arxiv.org/abs/{paper.arxiv})" for paper in _papers(content)
    )
    what = (
        f"A neural audio codec, {FAMILIES[config.model_type]} ({links}): it turns {layout} audio "
        f"at {config.sampling_rate:,} Hz into {config.frame_rate:.6g} frames of discrete codes per "
        "second, and codes back into audio."
    )
    title = content.repo_id.split("/")[-1]
    return f"# {title}\n\n{what} {_whose(content.origin)}"


def _whose(origin: Origin) -> str:
    if origin.base_model:
        link = f"[{origin.base_model}](https://huggingface.co/{origin.base_model})"
    elif origin.preset:
        link = f"[{origin.preset}]({RELEASED[origin.preset].url})"
    else:
        return "It runs in JAX, with codax or without, and in torch's transformers."
    whose = "are those of {}, unchanged" if origin.preset else "were fine-tuned from those of {}"
    return (
        f"The weights {whose.format(link)}. They were put here by codax, which runs the model in "
        "JAX; torch's transformers loads the same file."
    )


def _papers(content: CardContent) -> list[Paper]:
    papers = [PAPERS[content.config.model_type], ALSO.get(content.origin.preset or "")]
    return [paper for paper in papers if paper]


def _usage(content: CardContent) -> str:
    repo_id, config = content.repo_id, content.config
    what = "mono" if config.audio_channels == 1 else f"[{config.audio_channels}, samples]"
    parts = (
        "## Use",
        "In Flax, without installing anything but transformers (4.57), jax and flax. "
        "`trust_remote_code=True` runs the Python files of this repository: read them first, or "
        "pin a `revision`. Where codax is installed and imported, leave it out.",
        _block(snippets.load(repo_id)),
        f"`waveform` is a {what} array at {config.sampling_rate} Hz. For another rate give that, "
        "and `resample=True` (which needs soxr).",
        _block(snippets.encode_and_decode(config)),
        "Long audio goes through in chunks, in the memory of one; codes and audio are those of "
        'the whole. (`decode_chunk_mode="overlap_average"` with `decode_overlap=0.1` lets '
        "neighbouring chunks fade into each other instead.)",
        _block(snippets.chunks()),
        "The codes of a folder of clips, with datasets, soundfile and soxr:",
        _block(snippets.dataset_map(config)),
        "In torch:",
        _block(snippets.in_torch(repo_id, config)),
        "With codax, from file to file (`codax encode song.flac --model "
        f"{repo_id}` on the command line):",
        _block(snippets.with_codax(repo_id)),
    )
    return "\n\n".join(parts)


def _usage_built_in(content: CardContent) -> str:
    name = content.repo_id.split("/")[-1]
    return (
        f"## Use\n\nIt comes with codax, where `{name}` is its name:\n\n"
        f"{_block(snippets.with_codax(name))}\n\n"
        f"On the command line: `codax encode song.flac --model {name}`. As a repository of your "
        f"own, with the code that loads it without codax: `codax publish {name} --repo-id "
        "OWNER/NAME`."
    )


def _block(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def _bitrates(config: Any) -> str:
    if config.model_type == "dac":
        levels = sorted({2**power for power in range(10) if 2**power < config.n_codebooks})
        rows = [(f"n_quantizers={n}", n, config.bitrate(n)) for n in (*levels, config.n_codebooks)]
    else:
        rows = [
            (f"bandwidth={kbps:g}", config.checked_quantizers(kbps), config.bitrate(kbps))
            for kbps in config.target_bandwidths
        ]
    lines = [f"| `{option}` | {n} | {bits / 1000:.4g} kbps |" for option, n, bits in rows]
    table = "\n".join(("| `encode(...)` | codebooks | bitrate |", "|---|---|---|", *lines))
    return (
        f"## Bitrates\n\nCodebooks have {config.codebook_size} entries each; there are "
        f"{config.frame_rate:.6g} frames per second, one every {config.hop_length} samples.\n\n"
        f"{table}"
    )


def _parity(content: CardContent) -> str:
    agreement = content.agreement
    if agreement is None:
        return ""
    rows = [agreement] if agreement.original is None else [agreement, agreement.original]
    lines = [
        f"| {one.reference} | {one.codes_equal} of {one.codes_total} | "
        f"{one.max_margin:.1e} | {one.max_audio_error:.1e} |"
        for one in rows
    ]
    return "\n".join(
        (
            f"## Agreement with {'the original' if content.origin.preset else 'torch'}",
            "",
            f"Measured on a sweep with noise, {agreement.frames} frames, when this repository was "
            "made: how many codes are equal; by how much the nearer of two codewords wins where "
            "they are not (rounding decides below 1e-3); the largest difference of decoded "
            "samples.",
            "",
            "| reference | equal codes | largest margin | largest difference of audio |",
            "|---|---|---|---|",
            *lines,
        )
    )


def _quality(content: CardContent) -> str:
    parts = []
    if content.results:
        cells = [
            (
                one.dataset_name,
                one.metric_config or "",
                one.metric_name or one.metric_type,
                f"{one.metric_value:g}",
            )
            for one in content.results
        ]
        lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in cells]
        header = ("| data | setting | metric | value |", "|---|---|---|---|")
        parts.append("\n".join((*header, *lines)))
    if content.picture:
        parts.append(f"![Waveforms and spectrograms of a clip, original and decoded]({PICTURE})")
    return "\n\n".join(("## Quality", *parts)) if parts else ""


def _speed(content: CardContent) -> str:
    speed = content.speed
    if speed is None:
        return ""
    segmented = getattr(content.config, "segmenting", None) is not None
    how = "all segments at once" if segmented else "in one piece"
    return (
        "## Speed\n\n"
        f"{speed.clip_s:g} s of audio with all codebooks, {how}, compiled before, decoding in "
        f"{speed.dtype}, on {speed.machine}: encoded in {speed.encode_s:.3g} s "
        f"({speed.clip_s / speed.encode_s:.3g} times as fast as it plays), decoded in "
        f"{speed.decode_s:.3g} s ({speed.clip_s / speed.decode_s:.3g} times)."
    )


def _limits(content: CardContent) -> str:
    config = content.config
    lines = [
        "The codec is lossy. What it does to sounds unlike those that it was trained on is not "
        "known; listen before you rely on it.",
    ]
    if not content.results:
        lines.append("No quality metrics were measured for this card.")
    if config.model_type == "dac":
        lines.append("The channels of stereo audio are coded one by one, at twice the bitrate.")
        lines.append(
            "Encoding takes whole frames: the feature extractor fills the last one up with zeros."
        )
    elif config.segmenting is not None:
        lines.append(
            f"Audio is coded in segments of {config.segmenting.length} samples, each scaled by "
            "its loudness; the scales belong to the codes."
        )
    lines.append(
        "Codes are those of float32 at the highest precision. On other hardware a few may differ, "
        "where two codewords are almost equally near."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _license(content: CardContent) -> str:
    origin = content.origin
    name = origin.license_name or origin.license
    text = f"The weights: {name}" + (
        ", in full in [LICENSE](LICENSE)." if origin.license_text else "."
    )
    if "-nc" in origin.license:
        text += " They are not for commercial use."
    if content.built_in:
        return f"## Licence\n\n{text}"
    return (
        f"## Licence\n\n{text} The Python files are codax {__version__}'s, under the MIT licence, "
        "which stands at the top of the file that holds the model."
    )


def _citation(content: CardContent) -> str:
    entries = "\n\n".join(paper.bibtex for paper in _papers(content))
    return f"## Citation\n\n```bibtex\n{entries}\n```"
