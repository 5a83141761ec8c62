"""How good a codec is: distances between audio, the use of codebooks, rate against quality."""

from .evaluating import METRICS, evaluate
from .report import Report, Step

__all__ = ["METRICS", "Report", "Step", "evaluate"]
