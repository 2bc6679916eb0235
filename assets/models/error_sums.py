"""Sums of errors: enough to give any metric of any group of rows, without keeping the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# of one candidate; what an objective does not ask for is null: pinball without a quantile, the last two without 0 and 1
SUMS = ("absolute", "squared", "signed", "percent", "pinball", "log", "discordant")
# of the labels alone, the same for all candidates
SCALES = ("count", "label_absolute", "label_nonzero", "label_pairs")
# the sum that ranks candidates on the same rows as the metric does (the smallest is best); its root is the metric
LOSSES = {
    "wape": "absolute", "mae": "absolute", "rmse": "squared", "rmspe": "percent",
    "pinball": "pinball", "log_loss": "log", "auc": "discordant",
}  # fmt: skip
ROOTS = {"rmse": 2, "rmspe": 2}
LARGEST_IS_BEST = ("auc",)
DEFAULT_LEVEL = 0.9  # LightGBM's own `alpha`
NEVER_CERTAIN = 1e-15  # a probability is kept so far from 0 and 1, or one wrong row would be an infinite log loss


@dataclass(frozen=True)
class Asked:
    """What an objective asks of a forecast beside nearness: a quantile's level, or the probability of a 1."""

    level: float | None = None
    binary: bool = False

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Asked:
        """What a recipe's model is asked for."""
        level = float(model["params"].get("alpha", DEFAULT_LEVEL)) if model["objective"] == "quantile" else None
        return cls(level, model["objective"] == "binary")


NEARNESS = Asked()


def error_sums(labels: Floats, forecast: Floats, prefix: str, asked: Asked = NEARNESS) -> dict[str, float | None]:
    """Sums over the rows (see `SUMS`), keyed by `prefix_sum`; error is forecast - label.

    absolute, squared, signed: of the error; percent: squared error as a share of the label, where that is not 0;
    pinball: at the quantile's level (Koenker & Bassett, Econometrica 46, 1978); log: -log of the probability given to
    what came; discordant: pairs of a 1 and a 0 of which the 0 got the higher probability, ties half.
    """
    sums = {name: float(row_losses(labels, forecast, name, asked).sum()) for name in SUMS[:4]}
    rest: dict[str, float | None] = dict.fromkeys(SUMS[4:])
    if asked.level is not None:
        rest["pinball"] = float(row_losses(labels, forecast, "pinball", asked).sum())
    if asked.binary:
        rest["log"] = float(row_losses(labels, forecast, "log", asked).sum())
        rest["discordant"] = discordant_pairs(labels, forecast)
    return {f"{prefix}_{name}": value for name, value in {**sums, **rest}.items()}


def row_losses(labels: Floats, forecast: Floats, name: str, asked: Asked = NEARNESS) -> Floats:
    """What each row adds to one of the `SUMS`; of `discordant`, which is of pairs, there is no such thing."""
    error = forecast - labels
    if name == "absolute":
        return np.abs(error)
    if name == "squared":
        return np.square(error)
    if name == "signed":
        return error
    if name == "percent":
        known = labels != 0
        return np.square(np.divide(error, labels, out=np.zeros_like(error), where=known))
    if name == "pinball":
        level = DEFAULT_LEVEL if asked.level is None else asked.level
        return np.where(error < 0, -level * error, (1 - level) * error)
    if name == "log":
        certain = np.clip(forecast, NEVER_CERTAIN, 1 - NEVER_CERTAIN)
        return -np.where(labels > 0.5, np.log(certain), np.log1p(-certain))
    raise ValueError(f"{name} is no sum over rows")


def discordant_pairs(labels: Floats, forecast: Floats) -> float | None:
    """Pairs of a 1 and a 0 that the forecast puts in the wrong order, ties half; None without a pair.

    1 - discordant / pairs is the area under the ROC curve (Hanley & McNeil, Radiology 143, 1982).
    """
    ones, zeros = forecast[labels > 0.5], np.sort(forecast[labels <= 0.5])
    if not len(ones) or not len(zeros):
        return None
    if not np.isfinite(forecast).all():
        return float("nan")
    above, below = np.searchsorted(zeros, ones, "right"), np.searchsorted(zeros, ones, "left")
    return float((len(zeros) - above + (above - below) / 2).sum())


def label_scales(labels: Floats, asked: Asked = NEARNESS) -> dict[str, float | None]:
    """What the sums are shares of (see `SCALES`); `label_pairs` counts pairs of a 1 and a 0."""
    ones = int((labels > 0.5).sum())
    return {
        "count": len(labels),
        "label_absolute": float(np.abs(labels).sum()),
        "label_nonzero": float((labels != 0).sum()),
        "label_pairs": float(ones * (len(labels) - ones)) if asked.binary else None,
    }


def metric_of(metric: str, sums: Mapping[str, Any], candidate: str) -> float | None:
    """The metric from summed columns `SCALES` and `{candidate}_...`; None where it has no value.

    wape: sum |error| / sum |label|; mae: sum |error| / rows; rmse: root of sum error^2 / rows; rmspe: root of the mean
    of (error / label)^2 where the label is not 0; bias: sum error / sum |label|; pinball, log_loss: means; auc: of
    pairs within a segment, all segments' pairs together (stratified: pairs across segments count for nothing).
    """
    loss = "signed" if metric == "bias" else LOSSES[metric]
    total = sums.get(f"{candidate}_{loss}")
    kind = {"wape": "label_absolute", "bias": "label_absolute", "rmspe": "label_nonzero", "auc": "label_pairs"}
    scale = sums.get(kind.get(metric, "count"))
    if not sums["count"] or total is None or not scale:
        return None
    share = total / scale
    return 1 - share if metric in LARGEST_IS_BEST else share ** (1 / ROOTS.get(metric, 1))


METRICS = ("bias", *LOSSES)


def totals(table: pa.Table) -> dict[str, float | None]:
    """Column sums of a table of per-segment sums, without the segments that have an `undefined` error."""
    defined = table.filter(pc.invert(undefined(table)))
    return {name: pc.sum(defined[name]).as_py() for name in table.column_names if _is_sum(name)}


def undefined(table: pa.Table) -> pa.Array:
    """Which segments have some candidate's error that is no number: of an infinite label or forecast, for example."""
    found = np.zeros(len(table), dtype=bool)
    for name in table.column_names:
        if name.endswith(("_absolute", "_log")) and _is_sum(name):
            values = table[name].to_numpy(zero_copy_only=False).astype(np.float64)
            found |= ~np.isfinite(values) & table[name].is_valid().to_numpy(zero_copy_only=False)
    return pa.array(found)


def _is_sum(name: str) -> bool:
    return name in SCALES or (not name.startswith("fold_") and name.endswith(tuple(f"_{s}" for s in SUMS)))
