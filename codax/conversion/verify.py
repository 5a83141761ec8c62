"""A converted model beside torch's models, on the same signal."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from codax.configuration import DacConfig
from codax.modeling import FlaxDacModel

from .convert import DESCRIPT_ARGUMENTS, read_original
from .torch_files import import_torch

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
    max_margin: where codes differ, how much farther (squared distance of unit vectors) the worse
        choice is than the other, at most; 0.0 where all are equal. Two correct float32
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

    The reference is transformers' torch `DacModel`; with `original`, a `.pth` file, descript's
    package `dac` runs that file as well, if it can be imported (a warning tells if not).
    `seconds` are rounded to whole frames.

    Raises `CodaxError` where torch is missing; otherwise what loading raises.
    """
    import_torch()
    model: Any = FlaxDacModel.from_pretrained(folder)
    audio = _test_signal(model.config, seconds, seed)
    compared = None
    if original is not None and (descript := _descript_reference(Path(original))):
        compared = _compare(model, audio, "descript-audio-codec", *descript)
    return _compare(
        model, audio, "transformers.DacModel", *_transformers_reference(folder), original=compared
    )


def _compare(
    model: FlaxDacModel,
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
    expected = reference_codes.numpy()
    encoded: Any = model.encode(audio)
    codes, latents = np.asarray(encoded.audio_codes), np.asarray(encoded.projected_latents)
    decoded = np.asarray(model.decode(audio_codes=expected).audio_values)
    return Agreement(
        reference=reference,
        frames=codes.shape[-1],
        codes_total=codes.size,
        codes_equal=int(np.sum(codes == expected)),
        max_margin=_max_margin(model, codes[0], expected[0], latents[0]),
        max_audio_error=float(np.max(np.abs(decoded - expected_audio))),
        **others,
    )


def _max_margin(
    model: FlaxDacModel, codes: np.ndarray, expected: np.ndarray, latents: np.ndarray
) -> float:
    """See `Agreement.max_margin`. codes, expected: int [K, F]; latents: float [K * d, F]."""
    latents = latents.reshape(len(codes), -1, codes.shape[-1])
    differs = codes != expected
    margin = 0.0
    for frame in np.flatnonzero(differs.any(axis=0)):
        level = differs[:, frame].argmax()
        quantizer = model.params["quantizer"][f"quantizers_{level}"]
        choices = codes[level, frame], expected[level, frame]
        codewords = _unit_length(np.asarray(quantizer["codebook"]["embedding"])[list(choices)])
        chosen, other = codewords @ _unit_length(latents[level, :, frame])
        margin = max(margin, 2 * abs(float(chosen - other)))
    return margin


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _test_signal(config: DacConfig, seconds: float, seed: int) -> np.ndarray:
    """A sweep from 20 Hz to almost half the sampling rate, with noise: float32 [1, 1, T]."""
    num_frames = max(1, round(seconds * config.frame_rate))
    num_samples = num_frames * config.hop_length
    frequencies = np.geomspace(20, 0.45 * config.sampling_rate, num_samples)
    sweep = np.sin(2 * np.pi * np.cumsum(frequencies / config.sampling_rate))
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    return (0.3 * sweep + 0.05 * noise).astype(np.float32)[np.newaxis, np.newaxis]


def _transformers_reference(folder: str | os.PathLike) -> tuple[Callable, Callable]:
    """Functions audio [B, 1, T] -> codes [B, K, F] and codes -> audio [B, T], of tensors."""
    from transformers import DacModel

    model: Any = DacModel.from_pretrained(folder).eval()
    return (
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(audio_codes=codes).audio_values,
    )


def _descript_reference(path: Path) -> tuple[Callable, Callable] | None:
    """As `_transformers_reference`, for descript's package; None where it cannot be imported.

    The model is put together here: the package's own loader unpickles whatever a file holds.
    """
    try:
        import dac  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        logger.warning(f"{path} is not compared with descript-audio-codec: {error}")
        return None
    arguments, state = read_original(path)
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
