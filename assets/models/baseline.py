"""The baseline: seasonal naive (of 0 and 1, how often 1 came), what a model must beat to be worth keeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def seasonal_naive(
    periods: Ints, labels: Floats, targets: Ints, origins: Ints, season: int, otherwise: float = 0.0
) -> Floats:
    """For each target period, the label of the last season known at the forecast's origin.

    `periods` (sorted, distinct) and `labels` (NaN: unknown) are the segment's history; a forecast for period t made at
    origin o takes the label at t - season x ceil((t - o) / season). Where that label is unknown: the mean of those
    known in the last season before the origin, else of all before it, else `otherwise`.
    Source: Hyndman & Athanasopoulos, "Forecasting: principles and practice", 3rd ed., 5.2.
    """
    known = ~np.isnan(labels)
    periods, labels = periods[known], labels[known]
    if not len(periods):
        return np.full(len(targets), otherwise)
    steps = targets - origins
    wanted = targets - season * -(-steps // season)
    found = np.searchsorted(periods, wanted)
    inside = np.minimum(found, len(periods) - 1)
    hit = (found < len(periods)) & (periods[inside] == wanted)
    forecast = np.where(hit, labels[inside], np.nan)
    for origin in np.unique(origins[~hit]):
        forecast[~hit & (origins == origin)] = last_known_mean(periods, labels, int(origin), season, otherwise)
    return forecast


def baseline_forecast(
    recipe: Recipe, periods: Ints, labels: Floats, targets: Ints, origins: Ints, otherwise: float = 0.0
) -> Floats:
    """What the baseline says for each target: `seasonal_naive`, or `known_rate` where labels are 0 and 1."""
    if recipe.model["objective"] == "binary":
        return known_rate(periods, labels, origins, otherwise)
    return seasonal_naive(periods, labels, targets, origins, recipe.season, otherwise)


def known_rate(periods: Ints, labels: Floats, origins: Ints, otherwise: float = 0.0) -> Floats:
    """For each origin, the probability of a 1 by the labels (0 or 1; NaN: unknown) known up to it.

    (ones + 1/2) / (rows + 1), which is never certain: one surprise after it costs no infinite log loss. Krichevsky &
    Trofimov, IEEE Transactions on Information Theory 27 (1981). Where nothing is known `otherwise`, if not certain.
    """
    known = ~np.isnan(labels)
    through = np.searchsorted(periods[known], origins, side="right")
    ones = np.concatenate([[0.0], np.cumsum(labels[known])])[through]
    return np.where(through > 0, (ones + 0.5) / (through + 1), otherwise if 0 < otherwise < 1 else 0.5)


def last_known_mean(periods: Ints, labels: Floats, origin: int, season: int, otherwise: float) -> float:
    """Mean of the labels known in the last season up to the origin, else of all up to it, else `otherwise`."""
    before = periods <= origin
    if not before.any():
        return otherwise
    recent = before & (periods > origin - season)
    return float(labels[recent if recent.any() else before].mean())


def origins_of(targets: Ints, cut_off: int, horizon: int) -> Ints:
    """The period each target is forecast from: the cut-off, moved on by a horizon whenever it is used up."""
    return cut_off + (targets - cut_off - 1) // horizon * horizon
