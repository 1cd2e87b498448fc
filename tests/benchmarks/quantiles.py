"""Quantiles of raw samples."""

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values don't exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
