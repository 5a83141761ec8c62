"""Audio that is made once and read later, in little memory."""

import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType

import numpy as np

MOST_IN_MEMORY = 1 << 26  # bytes; beyond it, a temporary file


class Spool:
    """Blocks of samples, kept in a temporary file where they are many.

    peak: the largest magnitude of all samples
    """

    def __init__(self, channels: int):
        self.peak = 0.0
        self._channels = channels
        self._file = tempfile.SpooledTemporaryFile(max_size=MOST_IN_MEMORY)  # noqa: SIM115
        self._lengths: list[int] = []

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def fill(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Keep each block, float32 [C, n], and pass it on."""
        for block in blocks:
            self._file.write(np.ascontiguousarray(block, np.float32).tobytes())
            self._lengths.append(block.shape[1])
            self.peak = float(np.maximum(self.peak, np.abs(block).max(initial=0.0)))  # or NaN
            yield block

    def __iter__(self) -> Iterator[np.ndarray]:
        """The blocks that were kept, once."""
        self._file.seek(0)
        for length in self._lengths:
            content = self._file.read(4 * self._channels * length)
            yield np.frombuffer(content, np.float32).reshape(self._channels, length)
