"""Two-sample statistics: what Evidently computes, and the same for many windows of one series at once.

Two-sample Kolmogorov-Smirnov and chi-square as `scipy.stats` has them, the Wasserstein distance over the reference's
standard deviation, and the population stability index, each by the formula that Evidently uses under these names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEAST_SPREAD = 1e-3  # Evidently's: a reference of one value has a spread all the same
NARROWEST = 0.25  # of the usual spread, which is added to every window's
TAMED_FROM = 5.0  # robust spreads
LEAST_SHARE = 1e-4  # Evidently's: share of a category that a sample lacks


@dataclass(frozen=True)
class Windows:
    """Each window of a series against all that came before it.

    `statistic` is the distance or chi-square, `effect` its size, `rows` counts those of the window, `before` those
    before it. `tamed` is the effect of tamed numbers, `freedom` the degrees of freedom of categories.
    """

    statistic: Floats
    effect: Floats
    rows: Ints
    before: Ints
    tamed: Floats | None = None
    freedom: Ints | None = None


def ks_windows(values: Floats, groups: Ints, count: int, order: Ints | None = None) -> Windows:
    """The two-sample Kolmogorov-Smirnov distance of each window from the values before it.

    `values` have no NaN; `groups` says where each belongs: 0 is the oldest part, which is compared with nothing, then
    windows 1 to `count` - 1, of which the last is the current one. One sort (`order`) serves all windows. `effect` is
    the Wasserstein distance, over the standard deviation of all that came before the last window.
    """
    order = np.argsort(values) if order is None else order
    ordered, placed = values[order], groups[order]
    member = np.zeros((count, len(values)), dtype=np.int32)
    member[placed, np.arange(len(values))] = 1
    held = np.cumsum(member, axis=1, dtype=np.int32)
    tame = tamed(ordered, ordered[placed < count - 1])
    last_of_ties = np.append(ordered[1:] != ordered[:-1], True)
    if not last_of_ties.all():
        held, ordered, tame = held[:, last_of_ties], ordered[last_of_ties], tame[last_of_ties]
    rows = held[:, -1].astype(np.int64) if len(ordered) else np.zeros(count, dtype=np.int64)
    earlier, before = np.cumsum(held[:-1], axis=0, dtype=np.int32), np.cumsum(rows[:-1])
    apart = np.abs(held[1:] / np.maximum(rows[1:], 1)[:, None] - earlier / np.maximum(before, 1)[:, None])
    known = (rows[1:] > 0) & (before > 0)
    statistic = np.where(known, apart.max(axis=1, initial=0.0), np.nan)
    moved = apart[:, :-1] @ np.diff(ordered) / spread_of(values[groups < count - 1])
    told = apart[:, :-1] @ np.diff(tame)
    return Windows(statistic, np.where(known, moved, np.nan), rows[1:], before, np.where(known, told, np.nan))


def chi_square_windows(codes: Ints, groups: Ints, count: int, categories: int) -> Windows:
    """The chi-square statistic of homogeneity of each window with the rows before it; `effect` is the PSI.

    `codes` are numbers of categories from 0, `groups` as for `ks_windows`. The statistic is that of the table of two
    rows (window, before), which is finite also where a category is new.
    """
    held = np.bincount(groups * categories + codes, minlength=count * categories).reshape(count, categories)
    earlier, window = np.cumsum(held[:-1], axis=0), held[1:]
    rows, before = window.sum(axis=1), earlier.sum(axis=1)
    both = window + earlier
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(before / rows)[:, None]
        terms = np.square(window * ratio - earlier / ratio) / both
    statistic = np.where((rows > 0) & (before > 0), np.where(both > 0, terms, 0.0).sum(axis=1), np.nan)
    effect = np.where((rows > 0) & (before > 0), stability_index(earlier, window), np.nan)
    return Windows(statistic, effect, rows, before, freedom=np.maximum((both > 0).sum(axis=1) - 1, 0))


def tamed(values: Floats, reference: Floats) -> Floats:
    """Values in robust spreads of a sorted reference about its median, from the fifth on by their logarithm only.

    One sale of a thousand is no news of a fleet that has such; the order of the values stays.
    """
    if not len(reference):
        return values
    away = (values - reference[len(reference) // 2]) / _robust_spread(reference)
    found: Floats = np.sign(away) * _damped(np.abs(away))
    return found


def spread_windows(values: Floats, groups: Ints, count: int) -> Floats:
    """How much wider or narrower each window is than the past ones are: |log| of the ratio of mean absolute deviations.

    Deviations, tamed, are from the window's own mean, so that one that moved is not called wide; `groups` as for
    `ks_windows`.
    """
    held = np.bincount(groups, minlength=count)
    rows, mean = held[1:], np.bincount(groups, weights=values, minlength=count) / np.maximum(held, 1)
    scale = _robust_spread(np.sort(values[groups < count - 1]))
    distances = _damped(np.abs(values - mean[groups]) / scale)
    away = np.bincount(groups, weights=distances, minlength=count)[1:] / np.maximum(rows, 1)
    known = rows > 1
    is_past = known & (np.arange(count - 1) < count - 2)
    # a window that were part of what is usual would lie nearer to it than the current one, which is not
    others = is_past.sum() - is_past
    usual = (away[is_past].sum() - np.where(is_past, away, 0.0)) / np.maximum(others, 1)
    if not away[is_past].any():
        return np.full(count - 1, np.nan)
    # a window of one value is narrow, but not infinitely so: steps and rates that stay for a while have such
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.abs(np.log((away + NARROWEST * usual) / (usual + NARROWEST * usual)))
    return np.where(known & (others > 0) & (usual > 0), found, np.nan)


def _robust_spread(ordered: Floats) -> float:
    """The interquartile range of sorted values as a normal distribution's standard deviation; else their own."""
    if not len(ordered):
        return LEAST_SPREAD
    low, high = ordered[[len(ordered) // 4, 3 * len(ordered) // 4]]
    return float(high - low) / 1.349 if high > low else spread_of(ordered)


def _damped(distances: Floats) -> Floats:
    beyond = np.maximum(distances - TAMED_FROM, 0.0)
    found: Floats = np.minimum(distances, TAMED_FROM) + np.log1p(beyond)
    return found


def chi_square_of_fit(before: Ints, window: Ints) -> float:
    """Pearson's statistic of a window's counts against the shares before it, which Evidently uses.

    Infinite where a category is new: unlike that of homogeneity, it takes the reference for the truth.
    """
    expected = before * (window.sum() / before.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.square(window - expected) / expected
    return float(np.where(expected > 0, terms, np.where(window > 0, np.inf, 0.0)).sum())


def spread_of(reference: Floats) -> float:
    """The reference's standard deviation, at least Evidently's floor."""
    return max(float(np.std(reference)) if len(reference) else 0.0, LEAST_SPREAD)


def stability_index(before: Ints, window: Ints) -> Floats:
    """The population stability index of counts of the same categories, which are the last axis; NaN of no rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        expected, found = (_filled(counts / counts.sum(axis=-1, keepdims=True)) for counts in (before, window))
    terms = (expected - found) * np.log(expected / found)
    return np.where((before > 0) | (window > 0), terms, 0.0).sum(axis=-1)


def _filled(shares: Floats) -> Floats:
    """Shares of which none is zero, as Evidently fills them: logarithms are taken."""
    least = np.where(shares > 0, shares, 1.0).min(axis=-1, keepdims=True)
    return np.where(shares == 0, np.where(least <= LEAST_SHARE, least / 1e6, LEAST_SHARE), shares)
