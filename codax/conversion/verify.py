"""A converted model beside torch's models, on the same signal."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from transformers.utils import logging

from codax.modeling import FlaxDacModel, FlaxEncodecModel, model_class_of

from .original_dac import DESCRIPT_ARGUMENTS
from .torch_files import import_torch, read_torch_file

logger = logging.get_logger(__name__)

# Largest differences of a conversion that holds. Audio: one step of 16 bits; rounding of float32
# gives 1e-5 or less. Margin: rounding gives up to 1e-4 in deep codebooks, whose residual is small;
# a wrong weight gives 0.1 and more.
AUDIO_TOLERANCE = 2.0**-15
MARGIN_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How far codax and one reference agree on one signal.

    reference: the reference's name
    frames: frames of the signal
    codes_total, codes_equal: over all codebooks
    max_margin: where codes differ, how much farther (squared distance; of unit vectors in DAC,
        relative to their lengths in EnCodec) the worse choice is than the other, at most; 0.0 where
        all are equal. Two correct float32
        implementations may choose differently between codewords that are almost equally near. Only
        the first differing codebook of each frame counts: those after it code another residual.
    max_audio_error: largest absolute difference between the two decodings of the reference's codes
    original: the same for descript's own package, where that was asked for and possible
    """

    reference: str
    frames: int
    codes_total: int
    codes_equal: int
    max_margin: float
    max_audio_error: float
    original: "Agreement | None" = None

    @property
    def holds(self) -> bool:
        """Whether rounding explains all differences, from every reference."""
        return (
            self.max_margin <= MARGIN_TOLERANCE
            and self.max_audio_error <= AUDIO_TOLERANCE
            and (self.original is None or self.original.holds)
        )

    def __str__(self) -> str:
        lines = [
            f"reference: {self.reference}",
            f"frames: {self.frames}",
            f"equal codes: {self.codes_equal} of {self.codes_total}",
            f"largest margin between differing codes: {self.max_margin:.1e}",
            f"largest difference of decoded audio: {self.max_audio_error:.1e}",
        ]
        if self.original is not None:
            lines.append(str(self.original))
        return "\n".join(lines)


def verify_against_torch(
    folder: str | os.PathLike,
    *,
    original: str | os.PathLike | None = None,
    seconds: float = 1.0,
    seed: int = 0,
) -> Agreement:
    """Encode and decode a sweep with noise in codax and in torch, both loaded from `folder`.

    The reference is transformers' torch model; with `original`, a `.pth` file of DAC, descript's
    package `dac` runs that file as well, if it can be imported (a warning tells if not).
    `seconds` are rounded to whole frames; a model that codes segments is given one at most.

    Raises `CodaxError` where torch is missing; otherwise what loading raises.
    """
    import_torch()
    model: Any = model_class_of(folder).from_pretrained(folder)
    if isinstance(model, FlaxEncodecModel):
        audio = _test_signal(model.config, seconds, seed)
        reference = _transformers_encodec(folder, model.config.target_bandwidths[-1])
        return _compare(_EncodecSide(model, audio), audio, "transformers.EncodecModel", *reference)
    audio = _test_signal(model.config, seconds, seed)
    ours, compared = _DacSide(model, audio), None
    if original is not None and (descript := _descript_reference(Path(original))):
        compared = _compare(ours, audio, "descript-audio-codec", *descript)
    reference = _transformers_dac(folder)
    return _compare(ours, audio, "transformers.DacModel", *reference, original=compared)


class _DacSide:
    """codax's DAC on one signal: codes int [K, F], and what else the comparison asks for."""

    def __init__(self, model: FlaxDacModel, audio: np.ndarray):
        encoded: Any = model.encode(audio)
        self.model = model
        self.codes = np.asarray(encoded.audio_codes)[0]
        latents = np.asarray(encoded.projected_latents)[0]
        self._latents = latents.reshape(len(self.codes), -1, self.codes.shape[-1])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.decode(audio_codes=codes[None]).audio_values)

    def margin(self, level: int, frame: int, choices: list[int]) -> float:
        """See `Agreement.max_margin`, between two codewords."""
        codebook = self.model.params["quantizer"][f"quantizers_{level}"]["codebook"]["embedding"]
        codewords = _unit_length(np.asarray(codebook)[choices])
        chosen, other = codewords @ _unit_length(self._latents[level, :, frame])
        return 2 * abs(float(chosen - other))


class _EncodecSide:
    """codax's EnCodec on one signal, likewise, at its highest bandwidth."""

    def __init__(self, model: FlaxEncodecModel, audio: np.ndarray):
        encoded: Any = model.encode(audio, bandwidth=model.config.target_bandwidths[-1])
        self.model = model
        self.codes = np.asarray(encoded.audio_codes)[0, 0]
        self._scales = encoded.audio_scales
        scale = 1 if self._scales is None else np.asarray(self._scales)[0, 0]
        self._samples = np.swapaxes(audio / scale, 1, 2)

    @cached_property
    def _latents(self) -> np.ndarray:
        """[F, D], for the margins of codes that differ."""
        module = self.model.module

        @jax.jit
        def encode(params, samples):
            return module.bind({"params": params}).encoder(samples)

        return np.asarray(encode(self.model.params, self._samples), np.float64)[0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.decode(codes[None, None], self._scales).audio_values)

    def margin(self, level: int, frame: int, choices: list[int]) -> float:
        books = self.model.params["quantizer"]
        books = [np.asarray(books[f"codebooks_{index}"]["embedding"]) for index in range(level + 1)]
        taken = sum(
            book[code] for book, code in zip(books, self.codes[:level, frame], strict=False)
        )
        residual = self._latents[frame] - taken
        squares = np.sum((books[level][choices] - residual) ** 2, axis=1)
        return abs(float(squares[0] - squares[1])) / float(np.sum(residual**2) + squares.max())


def _compare(
    ours: _DacSide | _EncodecSide,
    audio: np.ndarray,
    reference: str,
    encode: Callable,
    decode: Callable,
    **others: Any,
) -> Agreement:
    torch = import_torch()
    with torch.no_grad():
        reference_codes = encode(torch.from_numpy(audio))
        expected_audio = decode(reference_codes).numpy()
    expected = reference_codes.numpy()[0]
    differs = ours.codes != expected
    margins = []
    for frame in np.flatnonzero(differs.any(axis=0)):
        level = int(differs[:, frame].argmax())
        choices = [int(codes[level, frame]) for codes in (ours.codes, expected)]
        margins.append(ours.margin(level, int(frame), choices))
    return Agreement(
        reference=reference,
        frames=ours.codes.shape[-1],
        codes_total=ours.codes.size,
        codes_equal=int(np.sum(~differs)),
        max_margin=max(margins, default=0.0),
        max_audio_error=float(np.max(np.abs(ours.decode(expected) - expected_audio))),
        **others,
    )


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _test_signal(config: Any, seconds: float, seed: int) -> np.ndarray:
    """A sweep from 20 Hz to almost half the sampling rate, with noise: float32 [1, C, T]."""
    num_frames = max(1, round(seconds * config.sampling_rate / config.hop_length))
    segmenting = getattr(config, "segmenting", None)
    if segmenting is not None:
        num_frames = max(1, min(num_frames, segmenting.stride // config.hop_length))
    num_samples = num_frames * config.hop_length
    channels = config.audio_channels
    frequencies = np.geomspace(20, 0.45 * config.sampling_rate, num_samples)
    sweep = np.sin(2 * np.pi * np.cumsum(frequencies / config.sampling_rate))
    noise = np.random.default_rng(seed).standard_normal((1, channels, num_samples))
    return (0.3 * sweep + 0.05 * noise).astype(np.float32)


def _transformers_dac(folder: str | os.PathLike) -> tuple[Callable, Callable]:
    """Functions audio [1, C, T] -> codes [1, K, F] and codes -> audio [1, ..., T], of tensors."""
    from transformers import DacModel

    model: Any = DacModel.from_pretrained(folder).eval()
    return (
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(audio_codes=codes).audio_values,
    )


def _transformers_encodec(folder: str | os.PathLike, bandwidth: float) -> tuple[Callable, Callable]:
    """As `_transformers_dac`; decoding takes the scales of what was encoded last."""
    from transformers import EncodecModel

    model: Any = EncodecModel.from_pretrained(folder).eval()
    scales: list = []

    def encode(audio: Any) -> Any:
        encoded = model.encode(audio, bandwidth=bandwidth)
        scales[:] = encoded.audio_scales
        return encoded.audio_codes[0]

    return encode, lambda codes: model.decode(codes[None], scales).audio_values


def _descript_reference(path: Path) -> tuple[Callable, Callable] | None:
    """As `_transformers_dac`, for descript's package; None where it cannot be imported.

    The model is put together here: the package's own loader unpickles whatever a file holds.
    """
    try:
        import dac  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        logger.warning(f"{path} is not compared with descript-audio-codec: {error}")
        return None
    content = read_torch_file(path)
    arguments, state = content["metadata"]["kwargs"], content["state_dict"]
    known = {name: arguments[name] for name in DESCRIPT_ARGUMENTS if name in arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses what torch deprecates
        model: Any = dac.DAC(**known)
    model.load_state_dict(state)
    model.eval()
    return (
        lambda audio: model.encode(audio)[1],
        lambda codes: model.decode(model.quantizer.from_codes(codes)[0])[:, 0],
    )
