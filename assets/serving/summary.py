"""What was served as people look at it: by version, over time, and the values that came and went."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from assets.champions.serving.watch import SERVING
from assets.drift.served import RECENT, committed_values, recent_sample
from assets.features.publish import FEATURES, current_features
from assets.forecasts.publish import FORECASTS
from assets.presentation import BLUE, ORANGE, RED, new_figure
from assets.serving.log import COUNTED, quantile
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
BINS, LEAST = 10, 1e-4


def recent_hours(lake: Lake) -> pd.DataFrame:
    """The hours of the last week of the log, by hour and version; empty where nothing was served."""
    table = lake.table(SERVING)
    if not table.exists():
        return pd.DataFrame(columns=["hour", "version", *COUNTED, "latency"])
    rows = table.arrow().to_pandas()
    return rows[rows["hour"] > rows["hour"].max() - RECENT].sort_values("hour", ignore_index=True)


def totals(hours: pd.DataFrame) -> dict[str, Any]:
    """Sums over some hours, and p50, p99 (at most 5% too high) and the slowest of their latencies, in seconds."""
    latency: Counter[int] = Counter()
    for counts in hours["latency"]:
        latency.update(dict(counts))
    found: dict[str, Any] = {name: int(hours[name].sum()) for name in COUNTED}
    return {**found, "p50": quantile(latency, 0.5), "p99": quantile(latency, 0.99)}


def by_version(hours: pd.DataFrame) -> pd.DataFrame:
    """A row a version that answered, with its totals."""
    rows = [{"version": version, **totals(part)} for version, part in hours.groupby("version", dropna=False)]
    return pd.DataFrame(rows, columns=["version", *COUNTED, "p50", "p99"])


def latency_plot(hours: pd.DataFrame) -> Figure:
    """p50 and p99 by hour, in milliseconds."""
    figure, axes = new_figure("Latency of the REST service, by hour, in milliseconds")
    for name, colour in (("p50", BLUE), ("p99", ORANGE)):
        worst = hours.groupby("hour")[name].max() * 1e3 if len(hours) else pd.Series(dtype=float)
        axes.plot(worst.index, worst, color=colour, marker=".", lw=1, label=name)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def refusals_plot(hours: pd.DataFrame) -> Figure:
    """Requests an hour, and those that got no answer."""
    figure, axes = new_figure("Requests an hour: all, refused (4xx), failed (5xx)")
    summed = hours.groupby("hour")[["requests", "refused", "failed"]].sum() if len(hours) else pd.DataFrame()
    for name, colour in (("requests", BLUE), ("refused", ORANGE), ("failed", RED)):
        if len(summed):
            axes.plot(summed.index, summed[name], color=colour, marker=".", lw=1, label=name)
    axes.set_yscale("symlog")
    if len(summed):
        axes.legend(frameon=False)
    return figure


def values_served(lake: Lake) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How forecasts and inputs of the sample are distributed, beside the batch forecasts and the committed features."""
    sample = recent_sample(lake)
    batch = lake.table(FORECASTS)
    committed = batch.arrow(["forecast", "model"]).to_pandas() if batch.exists() else sample[["forecast", "model"]][:0]
    forecasts = [
        _compared(str(model), part["forecast"], committed.loc[committed["model"] == model, "forecast"])
        for model, part in sample.groupby("model")
    ]
    inputs = pd.DataFrame([json.loads(text) for text in sample["inputs"]])
    brought = sorted(map(str, inputs.columns))
    reference, nothing = _committed_inputs(lake, brought), pd.Series(dtype=float)
    columns = [_compared(name, _numbers(inputs[name]), reference.get(name, nothing)) for name in brought]
    names = ["of", "rows", *QUANTILES, *(f"{name}, committed" for name in QUANTILES), "population stability index"]
    return pd.DataFrame(forecasts, columns=names), pd.DataFrame(columns, columns=names)


def stability_index(reference: np.ndarray, current: np.ndarray) -> float | None:
    """Population stability index over the deciles of the reference; None where there is nothing to compare.

    Sum of (q - p) ln(q / p) over bins, p and q the shares of reference and current (Siddiqi 2006, Credit Risk
    Scorecards).
    """
    if not len(reference) or not len(current):
        return None
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    p, q = (np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x) for x in (reference, current))
    p, q = np.maximum(p, LEAST), np.maximum(q, LEAST)
    return float(((q - p) * np.log(q / p)).sum())


def _committed_inputs(lake: Lake, names: list[str]) -> dict[str, pd.Series[float]]:
    if not lake.table(FEATURES).exists():
        return {}
    found = committed_values(lake, current_features(lake), names)
    return {name: _numbers(found[name]) for name in names if name in found}


def _numbers(values: pd.Series[Any]) -> pd.Series[float]:
    return pd.to_numeric(values, errors="coerce").astype(float).dropna()


def _compared(name: str, current: pd.Series[float], reference: pd.Series[float]) -> dict[str, Any]:
    ours, theirs = current.astype(float).dropna(), reference.astype(float).dropna()
    said: dict[str, Any] = {"of": name, "rows": len(ours)}
    for of, values in (("", ours), (", committed", theirs)):
        said |= {f"{q}{of}": float(values.quantile(at)) if len(values) else None for q, at in QUANTILES.items()}
    return {**said, "population stability index": stability_index(theirs.to_numpy(), ours.to_numpy())}
