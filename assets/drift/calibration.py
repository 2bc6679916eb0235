"""The null of the fleet's own quiet weeks: p-values by this week's rank among past weeks, and by a tail beyond them.

The scores of past windows, pooled over the fleet, are the null distribution: an empirical null (Efron 2004,
"Large-scale simultaneous hypothesis testing: the choice of a null hypothesis", JASA 99), whose p-values are conformal
ranks. Beyond the pool the tail is a generalised Pareto distribution (Knijnenburg, Wessels, Reinders and Shmulevich
2009, "Fewer permutations, more accurate P-values", Bioinformatics 25(12)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEWEST_SCORES = 40
TAIL_SHARE, FEWEST_IN_TAIL = 0.05, 20
HEAVIEST, LIGHTEST = 0.5, 0.0
BEYOND = 7.0  # spreads of a week's largest score above its median: one in a hundred fleets has such a quiet week


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
