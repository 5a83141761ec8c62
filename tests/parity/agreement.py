"""When two implementations' codes agree, and what may excuse a difference.

A code is the index of the nearest codeword. Two correct float32 implementations add in different
orders, so where two codewords are almost equally near they may choose differently. Such a
difference is excused if it is no more than that: at the FIRST differing level of a frame, both
choices lie within rounding error of the nearest codeword. Distance and rounding error are the
reference's own, see `reference.oracles.FrameDistances`. What follows at deeper levels of that
frame quantises another residual and is not compared. Everything else is a fault.
"""

from dataclasses import dataclass, field

import numpy as np

# A choice compares two distances: the errors of both count (2). The reference's float32 error is
# measured, the other implementation's is not; it sums in another order and may err as much again
# (2).
ROUNDING_FACTOR = 4.0
# Distances are sums of terms of order one: they are never better than a few float32 steps.
ROUNDING_FLOOR = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Disagreement:
    """One frame's first differing code."""

    where: str
    batch: int
    frame: int
    level: int
    expected: int
    actual: int
    margin: float  # how much farther than the nearest codeword the worse of both choices is
    bound: float  # the margin that rounding can explain

    @property
    def excusable(self):
        return self.margin <= self.bound

    def __str__(self):
        verdict = "near-tie" if self.excusable else "FAULT"
        return (
            f"{verdict}: {self.where}, batch {self.batch}, frame {self.frame}, level {self.level}: "
            f"code {self.actual} instead of {self.expected}, "
            f"margin {self.margin:.2e}, rounding explains {self.bound:.2e}"
        )


@dataclass
class Agreement:
    """first_difference: int [B, F], the level; K where a frame's codes are all equal."""

    first_difference: np.ndarray
    num_codes: int
    disagreements: list[Disagreement] = field(default_factory=list)

    @property
    def faults(self):
        return [found for found in self.disagreements if not found.excusable]

    @property
    def excused(self):
        return [found for found in self.disagreements if found.excusable]

    def frames_equal_before(self, level):
        """bool [B, F]: frames whose codes are equal at all levels before `level`."""
        return self.first_difference >= level


def compare_codes(expected, actual, distances, where):
    """Compare codes [B, K, F].

    distances: object with `at(batch, level, frame)` -> the reference's distances to every
      codeword in float64 and in float32, both [codebook_size]; called for differing frames only
    where: names the comparison in messages
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        raise AssertionError(f"{where}: codes have shape {actual.shape}, not {expected.shape}")
    differs = expected != actual
    num_levels = expected.shape[1]
    first_difference = np.where(differs.any(axis=1), differs.argmax(axis=1), num_levels)
    agreement = Agreement(first_difference, expected.size)
    for batch, frame in np.argwhere(first_difference < num_levels):
        level = first_difference[batch, frame]
        agreement.disagreements.append(
            _disagreement(expected, actual, distances, where, int(batch), int(level), int(frame))
        )
    return agreement


def _disagreement(expected, actual, distances, where, batch, level, frame):
    choices = expected[batch, level, frame], actual[batch, level, frame]
    exact, rounded = distances.at(batch, level, frame)
    if not all(0 <= choice < len(exact) for choice in choices):
        raise AssertionError(
            f"{where}, batch {batch}, frame {frame}, level {level}: codes {choices} "
            f"outside [0, {len(exact)})"
        )
    margin = max(exact[choice] for choice in choices) - exact.min()
    rounding_error = np.abs(rounded.astype(np.float64) - exact).max()
    bound = ROUNDING_FACTOR * max(rounding_error, ROUNDING_FLOOR)
    return Disagreement(
        where, batch, frame, level, int(choices[0]), int(choices[1]), float(margin), float(bound)
    )


def assert_codes_agree(expected, actual, distances, where):
    """As compare_codes, raising AssertionError for faults and printing what was excused."""
    agreement = compare_codes(expected, actual, distances, where)
    assert_no_faults(agreement)
    return agreement


def assert_no_faults(agreement):
    """Print excused disagreements; raise AssertionError if there are others."""
    for disagreement in agreement.excused:
        print(disagreement)
    if agreement.faults:
        lines = "\n".join(map(str, agreement.faults[:20]))
        raise AssertionError(
            f"{len(agreement.faults)} of {agreement.num_codes} codes differ by more than rounding "
            f"({len(agreement.excused)} near-ties apart):\n{lines}"
        )


def assert_close(expected, actual, tolerance, stage):
    """Largest absolute difference at most `tolerance`; `stage` names it in the message."""
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        raise AssertionError(f"{stage}: shape {actual.shape}, not {expected.shape}")
    if expected.size == 0:
        return
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    if not difference.max() <= tolerance:  # also where it is NaN
        worst = np.unravel_index(difference.argmax(), difference.shape)
        raise AssertionError(
            f"{stage}: off by {difference.max():.2e} at {tuple(map(int, worst))} "
            f"({actual[worst]} instead of {expected[worst]}), tolerance {tolerance:.0e}"
        )
