"""Baselines: seasonal naive (of 0 and 1, how often 1 came), what a model must beat to be worth keeping; and the median
of the last seasons, which one odd week does not move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assets.models.intermittent import mostly_zero, smoothed_demand
from assets.models.line import BASELINE, MEDIAN

if TYPE_CHECKING:
    from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SEASONS = 4
ABSURD, FEWEST_TO_TAME = 1_000.0, 10


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


def seasonal_median(
    periods: Ints, labels: Floats, targets: Ints, origins: Ints, season: int, otherwise: float = 0.0
) -> Floats:
    """For each target period, the median of the labels at its place in the last `SEASONS` seasons before the origin.

    Arguments are those of `seasonal_naive`. Where no such label is known: the median of those known in the last season
    before the origin, else of all before it, else `otherwise`.
    """
    known = ~np.isnan(labels)
    periods, labels = periods[known], labels[known]
    if not len(periods):
        return np.full(len(targets), otherwise)
    newest = targets - season * -(-(targets - origins) // season)
    wanted = newest - season * np.arange(SEASONS)[:, None]
    inside = np.minimum(np.searchsorted(periods, wanted), len(periods) - 1)
    found = np.where(periods[inside] == wanted, labels[inside], np.nan)
    hit = np.isfinite(found).any(axis=0)
    forecast = np.full(len(targets), np.nan)
    forecast[hit] = np.nanmedian(found[:, hit], axis=0)
    for origin in np.unique(origins[~hit]):
        before = _last_known(periods, int(origin), season)
        forecast[~hit & (origins == origin)] = np.median(labels[before]) if before.any() else otherwise
    return forecast


def baseline_forecasts(
    recipe: Recipe, periods: Ints, labels: Floats, targets: Ints, origins: Ints, otherwise: float = 0.0
) -> dict[str, Floats]:
    """What each baseline says of each target: `seasonal_naive` and `seasonal_median`, or `known_rate` of 0 and 1.

    Of labels that were mostly zero the second is `smoothed_demand`: their median is nothing.
    """
    if recipe.model["objective"] == "binary":
        return {BASELINE: known_rate(periods, labels, origins, otherwise)}
    if not len(targets):
        return {BASELINE: np.empty(0), MEDIAN: np.empty(0)}
    first = int(origins.min())
    labels = tamed(periods, labels, first)
    given = periods, labels, targets, origins, recipe.season, otherwise
    if recipe.time and mostly_zero(labels[periods <= first]):
        second = smoothed_demand(periods, labels, origins, otherwise)
    else:
        second = seasonal_median(*given)
    return {BASELINE: seasonal_naive(*given), MEDIAN: second}


def tamed(periods: Ints, labels: Floats, through: int) -> Floats:
    """Labels of which none is more than `ABSURD` times the second largest up to a period: such a one is taken for it.

    A slip of that size, repeated a season later by a baseline with a part in a blend, would spoil the whole forecast.
    """
    known = np.abs(labels[(periods <= through) & np.isfinite(labels)])
    if len(known) < FEWEST_TO_TAME:
        return labels
    second = np.partition(known, -2)[-2]
    absurd = (np.abs(labels) > ABSURD * second) & (second > 0)
    return np.where(absurd, np.sign(labels) * second, labels)


def naive_scales(periods: Ints, labels: Floats, season: int) -> tuple[float, float]:
    """By how much labels differ from those a season before, in the mean: absolutely and squared; 0 if they never do.

    `periods` are sorted; labels of NaN are unknown. Where none has one a season before, or all are as they were then,
    the difference is that from the median. Hyndman & Koehler, "Another look at measures of forecast accuracy",
    International Journal of Forecasting 22 (2006).
    """
    known = np.isfinite(labels)
    if not known.any():
        return 0.0, 0.0
    periods, labels = periods[known], tamed(periods[known], labels[known], int(periods[known][-1]))
    before = np.searchsorted(periods, periods - season)
    paired = periods[before] == periods - season
    differences = labels[paired] - labels[before[paired]]
    if not differences.any():
        differences = labels - np.median(labels)
    return float(np.abs(differences).mean()), float(np.square(differences).mean())


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
    before = _last_known(periods, origin, season)
    return float(labels[before].mean()) if before.any() else otherwise


def _last_known(periods: Ints, origin: int, season: int) -> NDArray[np.bool_]:
    before = periods <= origin
    recent = before & (periods > origin - season)
    return recent if recent.any() else before


def origins_of(targets: Ints, cut_off: int, horizon: int) -> Ints:
    """The period each target is forecast from: the cut-off, moved on by a horizon whenever it is used up."""
    return cut_off + (targets - cut_off - 1) // horizon * horizon
