"""How well codebooks are used: share of codewords, entropy, perplexity, bitrate efficiency."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodebookUse:
    """What the codes of many clips tell of K codebooks of N codewords.

    used: share of the codewords that occur at all, from 0 to 1, of each codebook
    entropy_bits: bits, of each codebook: -sum p log2 p over its codewords, p their share of the
        frames; at most log2 N. Too small where there are few frames for every codeword.
    perplexity: 2 ** entropy, of each codebook: as many codewords, used evenly, would say as much
    efficiency: the sum of the entropies over K log2 N: "bitrate efficiency" of the DAC paper (Kumar
        et al. 2023, section 4.5)
    frames: counted
    """

    used: tuple[float, ...]
    entropy_bits: tuple[float, ...]
    perplexity: tuple[float, ...]
    efficiency: float
    frames: int


class CodeCounts:
    """How often each codeword occurs, counted over any number of clips.

    counts: int64 [K, N]
    """

    def __init__(self, num_codebooks: int, codebook_size: int):
        if num_codebooks < 1 or codebook_size < 2:
            raise ValueError(
                "num_codebooks must be at least 1 and codebook_size at least 2; "
                f"got {num_codebooks} and {codebook_size}"
            )
        self.counts = np.zeros((num_codebooks, codebook_size), np.int64)

    def add(self, codes: np.ndarray) -> None:
        """Count integer codes [..., K, F]. Raises `ValueError` for codes of other codebooks."""
        codes = np.asarray(codes)
        num_codebooks, size = self.counts.shape
        if codes.ndim < 2 or codes.shape[-2] != num_codebooks:
            raise ValueError(f"codes must be [..., {num_codebooks}, F]; got shape {codes.shape}")
        if codes.size and not (codes.min() >= 0 and codes.max() < size):
            raise ValueError(
                f"codes must be from 0 to {size - 1}; got {codes.min()}..{codes.max()}"
            )
        for level in range(num_codebooks):
            self.counts[level] += np.bincount(codes[..., level, :].ravel(), minlength=size)

    def use(self, num_codebooks: int | None = None) -> CodebookUse:
        """What they tell of the first `num_codebooks`, or of all.

        Raises `ValueError` where nothing was counted, or for codebooks that there are not.
        """
        if num_codebooks is not None and not 1 <= num_codebooks <= len(self.counts):
            raise ValueError(f"num_codebooks={num_codebooks} must be from 1 to {len(self.counts)}")
        counts = self.counts[:num_codebooks]
        frames = int(counts[0].sum())
        if not frames:
            raise ValueError("no codes were counted: there is no use to tell of")
        entropies = _entropy_bits(counts / frames)
        return CodebookUse(
            used=tuple(np.mean(counts > 0, axis=1).tolist()),
            entropy_bits=tuple(entropies.tolist()),
            perplexity=tuple((2**entropies).tolist()),
            efficiency=float(entropies.mean() / np.log2(counts.shape[1])),
            frames=frames,
        )


def _entropy_bits(shares: np.ndarray) -> np.ndarray:
    """Shares [K, N], which sum to 1 each -> bits [K]; what does not occur adds nothing."""
    logarithms = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.abs(np.sum(shares * logarithms, axis=1))
