"""Labels that are mostly zero: which those are, and a baseline made for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOSTLY = 0.5  # share of zeros from which the median label is zero
SMOOTHING = 0.1  # of how often and of how much: the last ten labels weigh two thirds


def mostly_zero(labels: Floats) -> bool:
    """Whether the median of labels, none of them negative, is zero, and not all are."""
    known = labels[np.isfinite(labels)]
    return bool(len(known)) and bool((known == 0).mean() >= MOSTLY and known.min() >= 0 and known.max() > 0)


def smoothed_demand(periods: Ints, labels: Floats, origins: Ints, otherwise: float = 0.0) -> Floats:
    """For each origin, how often a label is not zero times how large it is then, both smoothed exponentially up to it.

    `periods` (sorted) and `labels` (NaN: unknown) are the history; where nothing is known `otherwise`. The same for
    every step ahead. Teunter, Syntetos & Babai, "Intermittent demand: linking forecasting to inventory obsolescence",
    European Journal of Operational Research 214 (2011).
    """
    known = ~np.isnan(labels)
    periods, labels = periods[known], labels[known]
    occurs = labels != 0
    how_often, how_much = _smoothed(occurs.astype(np.float64)), _smoothed(labels[occurs])
    through, came = np.searchsorted(periods, origins, side="right"), np.concatenate([[0], np.cumsum(occurs)])
    sizes = came[through]
    demand = np.concatenate([[0.0], how_often])[through] * np.concatenate([[0.0], how_much])[sizes]
    return np.where(through > 0, demand, otherwise)


def _smoothed(values: Floats) -> Floats:
    from scipy.signal import lfilter

    if not len(values):
        return values
    rest = 1 - SMOOTHING
    return np.asarray(lfilter([SMOOTHING], [1.0, -rest], values, zi=[rest * values[0]])[0])
