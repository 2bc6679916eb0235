"""Many tests at once: Simes within a segment, false discovery rates over segments, by p-values and by e-values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def simes(p_values: Floats) -> Floats:
    """Simes' p-value of each row of (segments, tests), of the tests that are known; NaN where none is.

    Simes 1986, Biometrika 73(3): the least of n p_(i) / i over the sorted p-values.
    """
    known = np.isfinite(p_values)
    count = known.sum(axis=1)
    ordered = np.sort(np.where(known, p_values, np.inf), axis=1)
    least = (ordered / np.arange(1, p_values.shape[1] + 1)).min(axis=1)
    return np.where(count > 0, np.minimum(np.maximum(count, 1) * least, 1.0), np.nan)


def benjamini_hochberg(p_values: Floats, rate: float) -> Flags:
    """Which p-values are discoveries at a false discovery rate (Benjamini and Hochberg 1995, JRSS B 57(1))."""
    known = np.isfinite(p_values)
    ordered = np.sort(p_values[known])
    passed = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / max(len(ordered), 1))
    if not len(passed):
        return np.zeros(p_values.shape, dtype=bool)
    return known & (np.nan_to_num(p_values, nan=np.inf) <= ordered[passed[-1]])


def e_benjamini_hochberg(e_values: Floats, rate: float) -> Flags:
    """Which e-values are discoveries at a false discovery rate: the k largest, if the k-th is at least n / (k rate).

    Wang and Ramdas 2022, JRSS B 84(3), "False discovery rate control with e-values".
    """
    known = np.isfinite(e_values)
    ordered = np.sort(e_values[known])[::-1]
    passed = np.flatnonzero(ordered >= len(ordered) / (rate * np.arange(1, len(ordered) + 1)))
    if not len(passed):
        return np.zeros(e_values.shape, dtype=bool)
    return known & (np.nan_to_num(e_values, nan=-np.inf) >= ordered[passed[-1]])
