"""Codes [K, F] as sequences of tokens, in the layouts of audio language models, and back.

delayed: one token of each codebook a step, the k-th codebook k steps late, so that a model which
    predicts all of a step at once has seen the coarser codes of a frame before its finer ones.
    Source: Copet et al. 2023 (MusicGen), arXiv:2306.05284, section 2.2, "delay".
flattened: all codebooks of a frame one after the other, each with tokens of its own, as AudioLM's
    and VALL-E's successors use them. Source: ibid., "flattening".
"""

import numpy as np
from numpy.typing import ArrayLike

from codax.errors import FormatError


def delayed(codes: ArrayLike, pad: int) -> np.ndarray:
    """Codes [K, F] -> [K, F + K - 1], in the type of `codes`; codebook k begins with k times `pad`.

    pad: what stands where there is no code: one more than the largest, usually the codebook's size
    """
    codes = _checked(codes, "codes")
    books, frames = codes.shape
    _require_free(pad, codes)
    steps = np.full((books, frames + books - 1), pad, codes.dtype)
    for book, row in enumerate(codes):
        steps[book, book : book + frames] = row
    return steps


def undelayed(steps: ArrayLike) -> np.ndarray:
    """[K, S] -> codes [K, S - K + 1]: what `delayed` was given. What a model put into the padding
    is dropped.

    Raises `FormatError` for fewer than K steps, which hold no whole frame.
    """
    steps = _checked(steps, "steps")
    books, count = steps.shape
    if count < books:
        raise FormatError(f"{count} steps hold no frame of {books} codebooks, allowed: {books} up")
    frames = count - books + 1
    return np.stack([row[book : book + frames] for book, row in enumerate(steps)])


def flattened(codes: ArrayLike, codebook_size: int) -> np.ndarray:
    """Codes [K, F] -> tokens int32 [F * K], frame by frame: code c of codebook k is c + k * size.

    The vocabulary has K * codebook_size tokens. Raises `FormatError` for codes beyond it.
    """
    codes = _checked(codes, "codes")
    if codes.size and not 0 <= codes.min() <= codes.max() < codebook_size:
        raise FormatError(
            f"codes reach from {codes.min()} to {codes.max()}, allowed: 0 to {codebook_size - 1}"
        )
    offsets = codebook_size * np.arange(len(codes), dtype=np.int32)
    return (codes.astype(np.int32) + offsets[:, None]).T.reshape(-1)


def unflattened(tokens: ArrayLike, num_codebooks: int, codebook_size: int) -> np.ndarray:
    """Tokens [F * K] -> codes int32 [K, F]: what `flattened` was given.

    Tokens after the last whole frame are dropped. Raises `FormatError` where a token stands in the
    place of another codebook, naming it.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise FormatError(f"tokens are {tokens.dtype} {tokens.shape}, allowed: integers [F * K]")
    frames = len(tokens) // num_codebooks
    codes = tokens[: frames * num_codebooks].astype(np.int64).reshape(frames, num_codebooks).T
    codes = codes - codebook_size * np.arange(num_codebooks)[:, None]
    wrong = np.flatnonzero(((codes < 0) | (codes >= codebook_size)).T.reshape(-1))
    if len(wrong):
        place = int(wrong[0])
        low = place % num_codebooks * codebook_size
        raise FormatError(
            f"token {place} is {tokens[place]}, allowed: {low} to {low + codebook_size - 1}, those "
            f"of codebook {place % num_codebooks}"
        )
    return codes.astype(np.int32)


def _checked(codes: ArrayLike, name: str) -> np.ndarray:
    """Integers [K, F], from arrays or the lists of a data set."""
    try:
        array = np.asarray(codes)
    except ValueError as error:
        raise FormatError(f"{name}: rows of different lengths, allowed: [K, F]") from error
    if array.ndim != 2 or not len(array) or array.dtype.kind not in "iu":
        raise FormatError(f"{name} are {array.dtype} {array.shape}, allowed: integers [K, F]")
    return array


def _require_free(pad: int, codes: np.ndarray) -> None:
    if not np.iinfo(codes.dtype).min <= pad <= np.iinfo(codes.dtype).max:
        raise FormatError(f"pad={pad} is no {codes.dtype}")
    if (codes == pad).any():
        raise FormatError(f"pad={pad} is a code, too; allowed: what is none")
