"""Made-up series for the tests of drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BURNT_IN = 60


def autoregressive(series: int, rows: int, rho: float, draw: np.random.Generator) -> Floats:
    """Standard normal AR(1) series (series, rows)."""
    noise = draw.standard_normal((series, rows + BURNT_IN)) * np.sqrt(1 - rho**2)
    found = np.empty_like(noise)
    found[:, 0] = noise[:, 0]
    for place in range(1, rows + BURNT_IN):
        found[:, place] = rho * found[:, place - 1] + noise[:, place]
    return found[:, BURNT_IN:]
