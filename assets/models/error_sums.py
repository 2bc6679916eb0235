"""Sums of errors: enough to give any metric of any group of rows, without keeping the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SUMS = ("absolute", "squared", "signed")


def error_sums(labels: Floats, forecast: Floats, prefix: str) -> dict[str, float]:
    """Sums over the rows of |error|, error squared and error (forecast - label), keyed by `prefix_sum`."""
    error = forecast - labels
    sums = (np.abs(error).sum(), np.square(error).sum(), error.sum())
    return {f"{prefix}_{name}": float(value) for name, value in zip(SUMS, sums, strict=True)}


def metric_of(metric: str, sums: dict[str, Any], candidate: str) -> float | None:
    """The metric from summed columns `count`, `label_absolute` and `{candidate}_...`; None where it has no value.

    wape: sum |error| / sum |label|; mae: sum |error| / rows; rmse: root of sum error^2 / rows; bias: sum error / sum
    |label|.
    """
    count, scale = sums["count"], sums["label_absolute"]
    absolute, squared, signed = (sums[f"{candidate}_{name}"] for name in SUMS)
    if not count or absolute is None:
        return None
    values = {
        "wape": absolute / scale if scale else None,
        "bias": signed / scale if scale else None,
        "mae": absolute / count,
        "rmse": (squared / count) ** 0.5,
    }
    return values[metric]


def totals(table: pa.Table) -> dict[str, float | None]:
    """Column sums of a table of per-segment sums."""
    return {name: pc.sum(table[name]).as_py() for name in table.column_names if _is_sum(name)}


def _is_sum(name: str) -> bool:
    return name in ("count", "label_absolute") or name.endswith(tuple(f"_{s}" for s in SUMS))
