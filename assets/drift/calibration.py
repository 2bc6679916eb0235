"""From statistics to alarms: a null learnt from the fleet's own quiet weeks, Simes, Benjamini-Hochberg.

Each statistic is first measured against the same segment's own past windows (its mean and spread there, moderated by
the fleet's as in Smyth 2004, "Linear models and empirical Bayes methods", SAGMB 3(1)), and each past window in the same
way against the others. The scores of past windows, pooled over the fleet, are the null distribution: an empirical null
(Efron 2004, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis", JASA 99) whose p-values are
conformal ranks: this week's place among past weeks. Beyond the pool the tail is a generalised Pareto distribution
(Knijnenburg, Wessels, Reinders and Shmulevich 2009, "Fewer permutations, more accurate P-values", Bioinformatics
25(12)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
PRIOR_LOCATION, PRIOR_SCALE = 3.0, 6.0  # windows that the fleet's mean and spread count as
CLIPPED = 3.0  # spreads from the median beyond which a past window says no more of its segment's own spread
FEWEST_SCORES = 40
TAIL_SHARE, FEWEST_IN_TAIL = 0.05, 20
LEAST_SCALE = 0.3
FEWEST_CARRIED, LEAST_CARRIED = 4, 0.2  # windows that tell what is carried on, and the least share that is heeded
BEYOND = 7.0  # spreads of a week's largest score above its median: one in a hundred fleets has such a quiet week
HEAVIEST, LIGHTEST = 0.5, 0.0


@dataclass(frozen=True)
class Null:
    """Past scores, sorted, and the generalised Pareto tail above `threshold`, a share `share` of them."""

    scores: Floats
    threshold: float
    share: float
    shape: float
    scale: float

    @classmethod
    def of(cls, scores: Floats) -> Null | None:
        """The null of some past scores; None of too few.

        The tail's shape and scale are those of probability-weighted moments (Hosking and Wallis 1987, Technometrics
        29(3)); the shape is not below that of an exponential, which is on the safe side.
        """
        ordered = np.sort(scores[np.isfinite(scores)])
        if len(ordered) < FEWEST_SCORES:
            return None
        count = max(min(FEWEST_IN_TAIL, len(ordered) // 2), int(TAIL_SHARE * len(ordered)))
        threshold, beyond = ordered[-count - 1], ordered[-count:] - ordered[-count - 1]
        first = float(beyond.mean())
        second = float((beyond * (count - 1 - np.arange(count)) / max(count - 1, 1)).mean())
        shape = 2 - first / (first - 2 * second) if first > 2 * second else HEAVIEST
        shape = float(np.clip(shape, LIGHTEST, HEAVIEST))
        return cls(ordered, float(threshold), count / len(ordered), shape, max(first * (1 - shape), 1e-9))

    def p_values(self, scores: Floats) -> Floats:
        """P(a quiet window scores at least so much): by rank up to the threshold, by the tail beyond; NaN stays."""
        above = len(self.scores) - np.searchsorted(self.scores, scores, side="left")
        by_rank = (above + 1) / (len(self.scores) + 1)
        beyond = np.maximum(scores - self.threshold, 0.0) / self.scale
        heavy = self.shape > 1e-6
        tail = np.power(1 + self.shape * beyond, -1 / self.shape) if heavy else np.exp(-beyond)
        found = np.where(scores > self.threshold, self.share * tail, by_rank)
        return np.where(np.isnan(scores), np.nan, np.clip(found, 1e-300, 1.0))


def own_scores(statistics: Floats) -> Floats:
    """Each window's statistic against the same segment's other past windows, in their spreads: (segments, windows).

    `statistics` are roughly standard normal where nothing drifts; the last column is the current window, NaN unknown. A
    past window is measured against the others of the past, the current one against all of them.
    """
    past = statistics[:, :-1]
    centre = np.nanmedian(np.where(np.isnan(past).all(axis=1, keepdims=True), 0.0, past), axis=1, keepdims=True)
    away = past - centre
    fleet = 1.4826 * float(np.nanmedian(np.abs(away))) if np.isfinite(away).any() else 1.0
    bound = CLIPPED * np.maximum(1.4826 * _row_median(np.abs(away)), max(fleet, LEAST_SCALE))
    away = np.clip(away, -bound, bound)
    known = np.isfinite(away)
    kept = np.where(known, away, 0.0)
    count, total, squares = known.sum(axis=1), kept.sum(axis=1), np.square(kept).sum(axis=1)
    alone = known.astype(float)
    left = np.column_stack([count[:, None] - alone, count])
    sums = np.column_stack([total[:, None] - kept, total])
    square_sums = np.column_stack([squares[:, None] - np.square(kept), squares])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / left
        spread = (square_sums - left * np.square(mean)) / np.maximum(left - 1, 1)
    prior = max(fleet, LEAST_SCALE) ** 2
    variance = (PRIOR_SCALE * prior + np.maximum(left - 1, 0) * np.nan_to_num(spread)) / (
        PRIOR_SCALE + np.maximum(left - 1, 0)
    )
    location = np.nan_to_num(mean)
    return (statistics - centre - location) / np.sqrt(variance * (1 + 1 / np.maximum(left, 1)))


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


def _row_mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    found: Floats = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / known.sum(axis=1, keepdims=True).clip(1)
    return found


def _row_median(values: Floats) -> Floats:
    filled = np.where(np.isnan(values).all(axis=1, keepdims=True), 0.0, values)
    return np.nanmedian(filled, axis=1, keepdims=True)


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


def _prediction_bound(past: Floats, level: float) -> float:
    """What the next of some exchangeable values exceeds with a probability of `level`; their largest at least."""
    from scipy.special import stdtrit

    if len(past) < 2:
        return 0.0
    reach = float(stdtrit(len(past) - 1, 1 - level)) * past.std(ddof=1) * np.sqrt(1 + 1 / len(past))
    return max(float(past.max()), float(past.mean()) + float(reach))


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


def at_least_students(p_values: Floats, scores: Floats, windows: int) -> Floats:
    """P-values that are not below those of Student's t: where too few unrelated series make a null's tail."""
    from scipy.special import stdtr

    found: Floats = np.maximum(p_values, stdtr(max(windows - 1, 1), -scores))
    return found


def quiet_only(scores: Floats) -> Floats:
    """Past scores (segments, weeks) without those that stand out of what weeks are like: of drift that came before.

    Every week has a largest score. Where those of most weeks are large, that is how the fleet is, and all stay. What
    lies far beyond the median of them goes: by so many spreads of a Gumbel distribution, the limit of such maxima, the
    spread taken from their lower half, or from the tail of all scores if that says more. Up to half of the weeks may
    so have had segments that drifted, and hide nothing that drifts today.
    """
    known = np.isfinite(scores)
    kept = scores[known]
    if len(kept) < FEWEST_SCORES:
        return kept
    largest = np.where(known, scores, -np.inf).max(axis=0)
    lower, middle = np.quantile(largest[np.isfinite(largest)], [0.25, 0.5])
    threshold = np.quantile(kept, 1 - TAIL_SHARE)
    tail = float(np.median(kept[kept >= threshold] - threshold)) / np.log(2)
    spread = max((middle - lower) / np.log(2), tail)
    return kept[kept <= middle + BEYOND * spread]


def simes(p_values: Floats) -> Floats:
    """Simes' p-value of each row of (segments, tests), of the tests that are known; NaN where none is.

    Simes 1986, Biometrika 73(3): the least of n p_(i) / i over the sorted p-values.
    """
    known = np.isfinite(p_values)
    count = known.sum(axis=1)
    ordered = np.sort(np.where(known, p_values, np.inf), axis=1)
    least = (ordered / np.arange(1, p_values.shape[1] + 1)).min(axis=1)
    return np.where(count > 0, np.minimum(count * least, 1.0), np.nan)


def benjamini_hochberg(p_values: Floats, rate: float) -> Flags:
    """Which p-values are discoveries at a false discovery rate (Benjamini and Hochberg 1995, JRSS B 57(1))."""
    known = np.isfinite(p_values)
    ordered = np.sort(p_values[known])
    passed = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / max(len(ordered), 1))
    if not len(passed):
        return np.zeros(p_values.shape, dtype=bool)
    return known & (np.nan_to_num(p_values, nan=np.inf) <= ordered[passed[-1]])
