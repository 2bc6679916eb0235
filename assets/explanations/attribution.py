"""What a model's predictions owe to each feature: arrays and booster in, shares and directions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]
BINS = 50
RAISES, LOWERS, UNCLEAR = 1, -1, 0


def contributions(booster: Booster, x: Floats) -> Floats:
    """SHAP values (rows, features) of some rows, in what the booster adds up (its link's scale), without the mean.

    LightGBM's own, by the exact algorithm for trees: Lundberg et al., "From local explanations to global understanding
    with explainable AI for trees", Nature Machine Intelligence 2, 2020. The booster must have its nodes' counts (see
    `packing.unpacked_whole`).
    """
    if not len(x):
        return np.empty((0, booster.num_feature()))
    found = np.asarray(booster.predict(x, pred_contrib=True, num_threads=1), dtype=np.float64)
    return found.reshape(len(x), -1)[:, :-1]


def shares(values: Floats) -> Floats:
    """Each feature's mean |SHAP value| as a share of their sum; zeros where no feature moves anything."""
    means = np.abs(values).mean(axis=0)
    total = means.sum()
    return means / total if total > 0 else np.zeros(len(means))


def direction(feature: Floats, value: Floats) -> int:
    """Whether a larger feature comes with a larger SHAP value: the sign of their correlation, 0 where it has none."""
    known = np.isfinite(feature)
    if known.sum() < 2 or np.ptp(feature[known]) == 0 or np.ptp(value[known]) == 0:
        return UNCLEAR
    x, y = feature[known] - feature[known].mean(), value[known] - value[known].mean()
    return int(np.sign(x @ y))


def histogram(share: float) -> int:
    """The place of a share among `BINS` equal bins of 0 to 1."""
    return min(int(share * BINS), BINS - 1)


def quantile(counts: NDArray[np.int64], at: float) -> float:
    """A quantile of shares of which only a histogram (see `BINS`) is known, within a bin by interpolation."""
    total = counts.sum()
    if not total:
        return 0.0
    summed = np.concatenate([[0], np.cumsum(counts)]) / total
    place = min(int(np.searchsorted(summed, at, side="left")), BINS)
    if place == 0:
        return 0.0
    before, after = summed[place - 1], summed[place]
    return float((place - 1 + (at - before) / (after - before)) / BINS)
