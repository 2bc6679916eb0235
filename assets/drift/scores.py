"""How far a window stands out of the same segment's past, what is usual taken off: comparable over the fleet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PRIOR_SCALE = 6.0  # windows that the fleet's spread counts as
CLIPPED = 3.0  # spreads from the median beyond which a past window says no more of its segment's own spread
LEAST_SCALE = 0.3
FEWEST_CARRIED, LEAST_CARRIED = 4, 0.2  # windows that tell what is carried on, and the least share that is heeded


def own_scores(statistics: Floats) -> Floats:
    """Each window's statistic against the same segment's other past windows, in their spreads: (segments, windows).

    `statistics` are roughly standard normal where nothing drifts; the last column is the current window, NaN unknown. A
    past window is measured against the others of the past, the current one against all of them. A segment's own spread
    is moderated by the fleet's (Smyth 2004, "Linear models and empirical Bayes methods", SAGMB 3(1)).
    """
    past = statistics[:, :-1]
    centre = _row_median(past)
    away = past - centre
    fleet = max(1.4826 * float(np.nanmedian(np.abs(away))) if np.isfinite(away).any() else 1.0, LEAST_SCALE)
    bound = CLIPPED * np.maximum(1.4826 * _row_median(np.abs(away)), fleet)
    known = np.isfinite(away)
    kept = np.where(known, np.clip(away, -bound, bound), 0.0)
    count, total, squares = (_of_others(each, known) for each in (known.astype(float), kept, np.square(kept)))
    mean = total / np.maximum(count, 1)
    freedom = np.maximum(count - 1, 0)
    spread = np.maximum(squares - count * np.square(mean), 0.0)  # freedom times the variance
    variance = (PRIOR_SCALE * fleet**2 + spread) / (PRIOR_SCALE + freedom)
    return (statistics - centre - mean) / np.sqrt(variance * (1 + 1 / np.maximum(count, 1)))


def _of_others(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """For each past window the sum over the others, and last that over all."""
    total = values.sum(axis=1, keepdims=True)
    return np.hstack([total - np.where(known, values, 0.0), total])


def innovations(statistics: Floats) -> Floats:
    """Statistics less the share of the window before that windows carry on to the next: (segments, windows).

    Windows of a stationary series are nearly independent, and stay as they are. Where a feature wanders off (a price
    index, an unemployment rate), each window is farther from the past than the last was, and only the step is news. The
    share is one for all segments: the within-segment autoregression of past windows, its bias for few windows taken off
    (Nickell 1981, Econometrica 49(6), "Biases in dynamic models with fixed effects").
    """
    past = statistics[:, :-1]
    centre = _row_median(past)
    away = past - centre
    reach = CLIPPED * np.maximum(1.4826 * _row_median(np.abs(away)), LEAST_SCALE)
    away = np.clip(away, -reach, reach)
    away = away - _row_mean(away)
    before, after = away[:, :-1], away[:, 1:]
    both = np.isfinite(before) & np.isfinite(after)
    squares = np.square(before[both]).sum()
    windows = both.sum(axis=1).max(initial=0)
    if windows < FEWEST_CARRIED or squares == 0:
        return statistics
    found = float((before[both] * after[both]).sum() / squares)
    share = float(np.clip((found + 1 / windows) / (1 - 1 / windows), 0.0, 1.0))
    if share < LEAST_CARRIED:
        return statistics
    return np.column_stack([np.full(len(statistics), np.nan), statistics[:, 1:] - share * statistics[:, :-1]])


def without_common(scores: Floats, level: float, fewest: int = 20) -> Floats:
    """Scores less what moved the whole fleet at that time, as far as quiet weeks let one expect it.

    `scores` (segments, windows) of segments whose windows lie at the same times. A holiday or the price of fuel moves
    every segment: however many they are, that is one series with as many values as there are weeks. So this week's
    movement is taken off up to the bound that a next value of such a series exceeds with a probability of `level`
    (Student's prediction interval); a change of the whole fleet beyond that stays.
    """
    if np.isfinite(scores[:, -1]).sum() < fewest:
        return scores
    known = np.isfinite(scores).sum(axis=0) >= fewest
    moved = np.zeros(scores.shape[1])
    moved[known] = np.nanmedian(scores[:, known], axis=0)
    bound = _prediction_bound(moved[:-1][known[:-1]], level)
    moved[-1] = min(moved[-1], bound)
    return scores - np.maximum(moved, 0.0)


def distinct_series(scores: Floats) -> float:
    """As how many unrelated series the segments' past scores (segments, windows) count.

    1 over the mean squared correlation of two segments, less what chance makes of it: a feature that a region's shops
    share is one series, however many shops there are.
    """
    away = np.nan_to_num(scores - np.nan_to_num(_row_mean(scores)))
    lengths = np.sqrt(np.square(away).sum(axis=1))
    some = lengths > 0
    count = int(some.sum())
    if count < 2:
        return float(count)
    units = away[some] / lengths[some, None]
    squared = float(np.square(units.T @ units).sum() - count) / (count * (count - 1))
    by_chance = 1 / max(scores.shape[1] - 1, 1)
    return 1 / max((squared - by_chance) / (1 - by_chance), 1 / count)


def _prediction_bound(past: Floats, level: float) -> float:
    """What the next of some exchangeable values exceeds with a probability of `level`; their largest at least."""
    from scipy.special import stdtrit

    if len(past) < 2:
        return 0.0
    reach = float(stdtrit(len(past) - 1, 1 - level)) * past.std(ddof=1) * np.sqrt(1 + 1 / len(past))
    return max(float(past.max()), float(past.mean()) + float(reach))


def _row_mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    found: Floats = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / known.sum(axis=1, keepdims=True).clip(1)
    return found


def _row_median(values: Floats) -> Floats:
    filled = np.where(np.isnan(values).all(axis=1, keepdims=True), 0.0, values)
    return np.nanmedian(filled, axis=1, keepdims=True)
