"""How far a figure depends on what happened to be measured: the percentile bootstrap (Efron), for all our figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DRAWS = 1000
LEVEL = 0.95


def draws(items: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """[DRAWS, items]: how often each item is in a sample of `items` drawn with replacement; the same every time."""
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), DRAWS)


def interval(values: npt.NDArray[np.float64] | Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Where the figure of every draw lies with probability `level`."""
    low, high = np.quantile(np.asarray(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
