"""Who serves a segment, and with which share: weights of its own model, the fleet-wide one and the baseline.

They are chosen on the fold before the holdout, so that the holdout judges them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.models.blend import CANDIDATES, Weights, unpacked_losses, weight_columns, weight_grid
from assets.models.line import FOLD_BLENDS, SEGMENT_MODEL, TRAINED, WEIGHTED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# measured, as all three: docs/accuracy.md
SHRINKAGE = 4.0  # how many folds of its own a segment's error is worth less than the fleet's
EQUALITY, MOST_EQUALITY = 2.0, 1.0  # by how much to equal weights: over the root of forecasts judged, at most
ONLY_BASELINE = 0  # the point of the grid that every segment with a fold has a loss of


def with_choice(lines: pa.Table, blend: bool = True, horizons: int = 1) -> pa.Table:
    """Lines with who serves each segment, and each candidate's weight; without `blend` one candidate has it all."""
    for name, values in weight_columns(chosen_points(lines, blend, horizons)).items():
        lines = lines.set_column(lines.column_names.index(name), lines.field(name), values)
    return lines


def chosen_points(lines: pa.Table, blend: bool = True, horizons: int = 1, without: str | None = None) -> Ints:
    """For each line the point of `weight_grid` that serves the segment; `without` a candidate, had it not been there.

    A fold is so many `horizons` long.

    One fold of one segment is noisy, so each blend's error there is shrunk towards what the blend's error is, as a
    share of the baseline's, over all segments of its kind (those with a model judged on the fold, and the rest):
    `error + SHRINKAGE x baseline's error x share`. The smallest wins. Linear shrinkage towards the pooled mean, as in
    Efron & Morris, "Data analysis using Stein's estimator", JASA 70 (1975), of stacked forecasts whose weights are not
    negative and sum to 1, as in Breiman, "Stacked regressions", Machine Learning 24 (1996).

    What few forecasts (one a segment and horizon) say in total is noise too, and equal weights are hard to beat: that
    share grows with a blend's squared distance from equal weights, the more, the fewer they are. Diebold & Pauly, "The
    use of prior information in forecast combination", International Journal of Forecasting 6 (1990).
    """
    losses, grid = unpacked_losses(lines[FOLD_BLENDS]), weight_grid()
    by_own = grid[:, CANDIDATES.index(SEGMENT_MODEL)] > 0
    allowed = _allowed(blend)
    if without is not None:
        allowed = allowed & (grid[:, CANDIDATES.index(without)] == 0)
    trained = lines["status"].to_numpy(zero_copy_only=False) == TRAINED
    own = trained & np.isfinite(losses[:, by_own]).any(axis=1)
    points = np.zeros(len(lines), dtype=np.int64)
    for group in (own, ~own):
        among = group if _has_errors(losses, group) else np.ones(len(lines), dtype=bool)
        can = allowed if own[group].any() else allowed & ~by_own
        points[group] = _smallest(losses[group], _shares(losses, among, can, horizons))
    return points


def unproven_weights(lines: pa.Table, blend: bool = True, horizons: int = 1) -> Weights:
    """Weights for a segment that no line is about: the fleet's best blend without models of a segment's own."""
    losses, grid = unpacked_losses(lines[FOLD_BLENDS]), weight_grid()
    others = _allowed(blend) & (grid[:, CANDIDATES.index(SEGMENT_MODEL)] == 0)
    point = grid[int(np.argmin(_shares(losses, np.ones(len(lines), dtype=bool), others, horizons)))]
    return {name: float(point[CANDIDATES.index(name)]) for name in WEIGHTED if point[CANDIDATES.index(name)] > 0}


def _allowed(blend: bool) -> NDArray[np.bool_]:
    return np.ones(len(weight_grid()), dtype=bool) if blend else weight_grid().max(axis=1) == 1


def _smallest(losses: Floats, shares: Floats) -> Ints:
    unjudged = ~np.isfinite(losses[:, ONLY_BASELINE])
    scale = np.where(unjudged, 1.0, losses[:, ONLY_BASELINE])
    possible = np.isfinite(shares)
    scores = np.full(losses.shape, np.inf)
    scores[:, possible] = np.where(unjudged[:, None], 0.0, losses[:, possible])
    scores[:, possible] += SHRINKAGE * scale[:, None] * shares[possible]
    return np.argmin(np.where(np.isfinite(scores), scores, np.inf), axis=1)


def _shares(losses: Floats, group: NDArray[np.bool_], allowed: NDArray[np.bool_], horizons: int) -> Floats:
    """Each blend's total loss as a share of the baseline's on the same segments, and more where it is far from equal.

    Infinite where it has none, or is not allowed.
    """
    mine, grid = losses[group], weight_grid()
    baseline = mine[:, ONLY_BASELINE]
    both = np.isfinite(mine) & np.isfinite(baseline)[:, None]
    totals = np.where(both, baseline[:, None], 0.0).sum(axis=0)
    sums = np.where(both, mine, 0.0).sum(axis=0)
    shares = np.divide(sums, totals, out=np.full(len(totals), np.inf), where=(totals > 0) & allowed)
    if not np.isfinite(shares[ONLY_BASELINE]):
        shares[ONLY_BASELINE] = 1.0
    possible, judged = np.isfinite(shares), max(1, int(both[:, ONLY_BASELINE].sum())) * horizons
    equal = grid[possible].max(axis=0) > 0
    distance = np.square(grid - equal / equal.sum()).sum(axis=1)
    return shares + min(MOST_EQUALITY, EQUALITY / judged**0.5) * distance * shares[possible].min()


def _has_errors(losses: Floats, group: NDArray[np.bool_]) -> bool:
    return bool((group & (np.nan_to_num(losses[:, ONLY_BASELINE]) > 0)).any())
