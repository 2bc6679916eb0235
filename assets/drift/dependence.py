"""How much a row of an autocorrelated series is worth: effective sample sizes.

A sample of n rows is worth n / (1 + 2 sum_k (1 - k/n) r_k), where r_k is the autocorrelation (Bayley and Hammersley
1946, Supplement to the JRSS 8(2), "The 'effective' number of independent observations"); the sum ends where pairs of
neighbouring autocorrelations are positive no longer (Geyer 1992, Statistical Science 7(4), "Practical Markov chain
Monte Carlo": the initial positive sequence).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_LAGS = 400


def autocorrelations(series: Floats, most: int = MOST_LAGS) -> Floats:
    """Autocorrelations of each row of `series` (tests, rows) at lags 1 to `most`, zero from the first pair that is not
    positive; cells that are NaN count as the row's mean. Found by the fast Fourier transform.
    """
    lags = min(most, series.shape[1] // 4)
    if lags < 1:
        return np.zeros((len(series), 0))
    known = ~np.isnan(series)
    mean = np.where(known, series, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    centred = np.where(known, series - mean[:, None], 0.0)
    length = 1 << int(np.ceil(np.log2(series.shape[1] + lags)))
    spectrum = np.fft.rfft(centred, length)
    products = np.fft.irfft(np.square(spectrum.real) + np.square(spectrum.imag), length)[:, : lags + 1]
    found = products[:, 1:] / np.maximum(products[:, :1], np.finfo(float).tiny)
    return np.where(_initial_positive(found), found, 0.0)


def _initial_positive(found: Floats) -> NDArray[np.bool_]:
    """Which lags lie before the first pair (of lags 1 and 2, 3 and 4 ...) whose sum is not positive."""
    lags = found.shape[1]
    padded = np.pad(found, ((0, 0), (0, lags % 2)))
    positive = padded[:, ::2] + padded[:, 1::2] > 0
    return np.repeat(np.logical_and.accumulate(positive, axis=1), 2, axis=1)[:, :lags]


@dataclass(frozen=True)
class Inflation:
    """Running sums of some series' autocorrelations r_k and of k r_k: (series, lags + 1), from lag 0."""

    plain: Floats
    weighted: Floats

    @classmethod
    def of(cls, correlations: Floats) -> Inflation:
        """Of autocorrelations (series, lags) from lag 1."""
        running = np.zeros((2, len(correlations), correlations.shape[1] + 1))
        np.cumsum(correlations, axis=1, out=running[0, :, 1:])
        np.cumsum(correlations * np.arange(1, correlations.shape[1] + 1), axis=1, out=running[1, :, 1:])
        return cls(*running)

    def variance(self, series: int, rows: Ints) -> Floats:
        """By how much autocorrelation inflates the variance of a series' mean of so many rows, at least 1."""
        counts = np.maximum(rows, 1)
        last = np.minimum(counts - 1, self.plain.shape[1] - 1)
        found: Floats = np.maximum(1 + 2 * (self.plain[series][last] - self.weighted[series][last] / counts), 1.0)
        return found

    def effective(self, series: int, rows: Ints, before: Ints) -> Floats:
        """The effective size n m / (n + m) of pairs of samples, each counted by what its rows are worth."""
        n, m = (np.maximum(counts, 1) / self.variance(series, counts) for counts in (rows, before))
        found: Floats = n * m / (n + m)
        return found
