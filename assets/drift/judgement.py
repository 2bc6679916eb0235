"""Which segments have drifted: the tests of all segments against the null of the fleet's own quiet weeks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assets.drift.calibration import Null, at_least_students, quiet_only
from assets.drift.multiplicity import benjamini_hochberg, simes
from assets.drift.scores import distinct_series, innovations, own_scores, without_common

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
FEWEST_TOGETHER = 8  # segments looked at over the same periods, whose common movement is taken off
FEWEST_DISTINCT = 20.0  # unrelated series, below which a pool of their windows is none of many
SMALLEST = 1e-37  # p-value that four bytes hold


@dataclass(frozen=True)
class Judgement:
    """`p_values` (segments) and (segments, tests), NaN where nothing is known; `drifted` and which tests say so.

    `calibrated` says whether the quiet windows were enough for a null.
    """

    p_values: Floats
    by_test: Floats
    drifted: Flags
    telling: Flags
    calibrated: bool


def judge(statistics: NDArray[np.floating], effects: Floats, cohorts: Ints, rate: float, least: float) -> Judgement:
    """Alarms of the current window (the last of `statistics`: segments, tests, windows) at a false discovery rate.

    Per test a null of past windows; Simes over a segment's tests; the same over its past windows as a null of Simes'
    p-values; Benjamini-Hochberg over segments; and last, one of the tests that say so must have an effect of at least
    `least`. `cohorts` numbers segments whose windows lie at the same times.
    """
    by_window = _p_values(statistics, cohorts, rate)
    segments, tests, windows = statistics.shape
    together = np.column_stack([simes(by_window[:, :, window].astype(np.float64)) for window in range(windows)])
    evidence = -np.log10(together)
    null = Null.of(quiet_only(evidence[:, :-1]))
    # a null of few windows may make Simes' p-value larger, never smaller
    p_values = np.maximum(null.p_values(evidence[:, -1]), together[:, -1]) if null else np.full(segments, np.nan)
    selected = benjamini_hochberg(p_values, rate)
    current = by_window[:, :, -1].astype(np.float64)
    # within a selected segment: tests at the level at which segments were selected (Benjamini and Bogomolov 2014,
    # JRSS B 76(1), "Selective inference on multiple families of hypotheses"), and at least the first of them
    level = rate * selected.sum() / max(np.isfinite(p_values).sum(), 1)
    filled = np.where(np.isfinite(current), current, np.inf)
    first = filled <= filled.min(axis=1, keepdims=True, initial=np.inf)
    telling = selected[:, None] & np.isfinite(current) & (first | (current <= level / max(tests, 1)))
    matters = (telling & (np.nan_to_num(effects) >= least)).any(axis=1)
    return Judgement(p_values, current, selected & matters, telling, null is not None)


def quiet_share(statistics: NDArray[np.floating], effects: Floats, cohorts: Ints, rate: float, least: float) -> float:
    """Share of the segments that would have been alarmed in the last window of the past, by the windows before it."""
    before = judge(statistics[:, :, :-1], effects, cohorts, rate, 0.0)
    known = np.isfinite(before.p_values).sum()
    return float(before.drifted.sum() / known) if known else 0.0


def _p_values(statistics: NDArray[np.floating], cohorts: Ints, rate: float) -> NDArray[np.float32]:
    """P-values of each test and window; one test at a time, so that little is in memory."""
    found = np.full(statistics.shape, np.nan, dtype=np.float32)
    level = rate / statistics.shape[1]  # of a movement of the whole fleet: one more test for each
    groups = [np.flatnonzero(cohorts == cohort) for cohort in np.unique(cohorts)]
    for test in range(statistics.shape[1]):
        scores = own_scores(innovations(statistics[:, test].astype(np.float64)))
        for group in groups:
            scores[group] = without_common(scores[group], level, FEWEST_TOGETHER)
        null = Null.of(quiet_only(scores[:, :-1]))
        if null is None:
            continue
        p_values = null.p_values(scores)
        if distinct_series(scores[:, :-1]) < FEWEST_DISTINCT:
            windows = int(np.isfinite(scores[:, :-1]).sum(axis=1).max(initial=0))
            p_values = at_least_students(p_values, scores, windows)
        found[:, test] = np.maximum(p_values, SMALLEST)
    return found
