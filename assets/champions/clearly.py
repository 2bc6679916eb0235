"""Clearly better, clearly worse: what the losses of two fleets by segment and origin block allow to say.

Forecasts from one origin share its surprises, across segments too: blocks are the unit that is resampled, the same ones
for all segments. A segment's few blocks say little of it alone: its improvement is shrunk towards the fleet's mean, its
variance towards the other segments', and many segments tested at once are held to a false discovery rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
RESAMPLES = 1_000
NO_EVIDENCE = 1.0


@dataclass(frozen=True)
class Improvement:
    """By which share the challenger's total error is below the incumbent's, and its bounds (NaN: nothing to tell from).

    `units` counts what was resampled: origin blocks, or segments.
    """

    share: float
    low: float
    high: float
    units: int


def fleet_improvement(challenger: Floats, incumbent: Floats, root: int = 1, chance: float = 0.05) -> Improvement:
    """The improvement in total error, of losses by origin block, with bounds from a block bootstrap.

    Each bound is missed with the probability `chance`. The standard error is that of resampled blocks, times
    sqrt(B / (B - 1)), and the bounds are Student's with B - 1 degrees of freedom: percentiles of a bootstrap of four
    blocks would be too narrow. Kuensch, "The jackknife and the bootstrap for general stationary observations", Annals
    of Statistics 17 (1989); Davison & Hinkley, "Bootstrap methods and their application" (1997), 2.4 and 8.2.

    Of one origin, whose blocks nothing can be told from, `challenger` and `incumbent` may be the losses by segment:
    then segments are what is resampled, as if they were independent.
    """
    used = (challenger != 0) | (incumbent != 0)
    new, old = challenger[used], incumbent[used]
    share, count = float(_share(new.sum(), old.sum(), root)), len(new)
    if count < 2 or not np.isfinite(share):
        return Improvement(share, np.nan, np.nan, count)
    spread = _resampled(new, old, root) * np.sqrt(count / (count - 1))
    margin = float(_student(count - 1).ppf(1 - chance) * spread)
    return Improvement(share, share - margin, share + margin, count)


def _resampled(new: Floats, old: Floats, root: int) -> float:
    """Standard deviation of the improvement over resamples, as many at once as fit well into memory."""
    draw, count, found = np.random.default_rng(0), len(new), []
    at_once = max(1, 4_000_000 // count)
    for first in range(0, RESAMPLES, at_once):
        taken = draw.integers(0, count, (min(at_once, RESAMPLES - first), count))
        found.append(_share(new[taken].sum(axis=1), old[taken].sum(axis=1), root))
    return float(np.nanstd(np.concatenate(found), ddof=1))


def _share(new: Floats, old: Floats, root: int) -> Floats:
    """1 - error of the new / error of the old; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 - (np.asarray(new) / np.asarray(old)) ** (1 / root)
    return np.where((np.asarray(new) == 0) & (np.asarray(old) == 0), 0.0, share)[()]


def chances_of_worse(challenger: Floats, incumbent: Floats, rows: NDArray[np.int64], fewest: int = 4) -> Floats:
    """For each segment (losses and rows: segments by blocks) the probability that its challenger is no better.

    A segment's improvement x is its losses' difference as a share of the incumbent's; its variance comes from the same
    over blocks, moderated by the other segments' (Smyth, Statistical Applications in Genetics and Molecular Biology 3,
    2004). True improvements are taken as normal around the fleet's mean with a variance of their own, estimated by
    moments (Hedges & Olkin, 1985), which shrinks x towards that mean: empirical Bayes (Efron & Morris, JASA 70, 1975).
    The mean's own error is that of whole blocks, so that what all segments share in a block is not taken for many
    observations. The probability is the tail of Student's t below 0. `NO_EVIDENCE` where a segment has rows in fewer
    than `fewest` blocks.
    """
    total, blocks = incumbent.sum(axis=1), (rows > 0).sum(axis=1)
    usable = (blocks >= fewest) & (total > 0) & np.isfinite(challenger).all(axis=1) & np.isfinite(total)
    chance = np.full(len(total), NO_EVIDENCE)
    if usable.sum() < 2:
        return chance
    shares, residuals = _shares_of(challenger[usable], incumbent[usable], total[usable])
    variances, freedom = _moderated(residuals, rows[usable] > 0)
    known = np.isfinite(variances) & (variances > 0)
    if known.sum() < 2:
        return chance
    mean, mean_variance = _mean_of(shares[known], residuals[known], variances[known])
    between = _between(shares[known], variances[known], mean)
    own = between / (between + variances)
    centre = own * shares + (1 - own) * mean
    parts = own * variances, (1 - own) ** 2 * mean_variance
    with np.errstate(divide="ignore", invalid="ignore"):
        # the mean is known from the blocks alone: freedom of a sum of two variances (Welch, Biometrika 34, 1947)
        spread, few = np.sqrt(sum(parts)), challenger.shape[1] - 1
        together = np.square(sum(parts)) / (np.square(parts[0]) / freedom + np.square(parts[1]) / few)
        tail = _student(together).cdf(-centre / spread)
    chance[np.flatnonzero(usable)] = np.where(known & np.isfinite(tail), tail, NO_EVIDENCE)
    return chance


def _shares_of(challenger: Floats, incumbent: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Each segment's improvement, and what each block adds to it beyond its part: the ratio's influence values."""
    gains = incumbent - challenger
    shares = gains.sum(axis=1) / total
    return shares, (gains - shares[:, None] * incumbent) / total[:, None]


def _moderated(residuals: Floats, there: Bools) -> tuple[Floats, Floats]:
    """Variances of the shares, drawn towards their common size, and their degrees of freedom. Smyth (2004), 6.2."""
    from scipy.special import digamma, polygamma

    blocks = there.sum(axis=1)
    freedom = blocks - 1.0
    variances = np.square(residuals).sum(axis=1) * blocks / freedom
    known = variances > 0
    if known.sum() < 3:
        return np.where(known, variances, np.nan), freedom
    logs = np.log(variances[known]) - digamma(freedom[known] / 2) + np.log(freedom[known] / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom[known] / 2).mean())
    prior = _trigamma_inverse(excess) * 2 if excess > 0 else 1e6
    size = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    return np.where(known, (prior * size + freedom * variances) / (prior + freedom), np.nan), prior + freedom


def _trigamma_inverse(value: float) -> float:
    """The x at which trigamma is `value`, by Newton's method. Smyth (2004), appendix."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        step = polygamma(1, x) * (1 - polygamma(1, x) / value) / polygamma(2, x)
        x += float(step)
        if -step / x < 1e-8:
            break
    return x


def _mean_of(shares: Floats, residuals: Floats, variances: Floats) -> tuple[float, float]:
    """The segments' mean improvement, weighted by how well each is known, and its variance over whole blocks."""
    weights = 1 / (variances + np.median(variances))
    weights /= weights.sum()
    blocks = residuals.shape[1]
    return float(weights @ shares), float(np.square(weights @ residuals).sum() * blocks / (blocks - 1))


def _between(shares: Floats, variances: Floats, mean: float) -> float:
    """Variance of the true improvements: that of those seen, less what their errors explain; not below 0."""
    weights = 1 / (variances + np.median(variances))
    weights /= weights.sum()
    return max(0.0, float(weights @ (np.square(shares - mean) - variances)))


def discoveries(chances: Floats, rate: float) -> Bools:
    """Which of many are taken so that a share `rate` of them is wrong. Benjamini & Hochberg, JRSS B 57 (1995)."""
    ranked = np.sort(chances)
    held = ranked <= rate * np.arange(1, len(ranked) + 1) / max(len(ranked), 1)
    if not held.any():
        return np.zeros(len(chances), dtype=bool)
    return chances <= ranked[np.flatnonzero(held)[-1]]


def _student(freedom: float | Floats) -> Any:
    from scipy.stats import t

    return t(freedom)
