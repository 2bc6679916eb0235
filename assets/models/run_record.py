"""The record of a training as people look at it: worst, slowest and untrained segments, work by worker, plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from assets.models.error_sums import SUMS
from assets.models.line import TRAINED
from assets.presentation import BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 10
MOST_WORKERS_DRAWN = 8
POINTS = 60


def worst_on_fold(listing: pd.DataFrame) -> pd.DataFrame:
    """The segments whose own model erred most on the fold before the holdout (WAPE), beside the baseline."""
    judged = listing[listing["fold_model_absolute"].notna()].copy()
    scale = judged["fold_label_absolute"].where(judged["fold_label_absolute"] > 0)
    judged["model wape"] = judged[f"fold_model_{SUMS[0]}"] / scale
    judged["baseline wape"] = judged[f"fold_baseline_{SUMS[0]}"] / scale
    columns = ["segment", "model wape", "baseline wape", "chosen", "rows", "trees", "seconds"]
    return judged.sort_values("model wape", ascending=False)[columns].head(SHOWN)


def not_trained(listing: pd.DataFrame) -> pd.DataFrame:
    """Segments without a model, and why: those that failed first."""
    without = listing[listing["status"] != TRAINED].sort_values(["status", "segment"])
    return without[["segment", "status", "reason", "chosen", "rows"]].head(SHOWN)


def slowest_segments(listing: pd.DataFrame) -> pd.DataFrame:
    """The segments whose fits took longest in this run."""
    slowest = _fitted(listing).sort_values("seconds", ascending=False)
    return slowest[["segment", "seconds", "rows", "trees", "threads", "host"]].head(SHOWN)


def work_by_worker(listing: pd.DataFrame) -> pd.DataFrame:
    """What each worker process did in this run: segments, rows, seconds of fitting, bytes of models."""
    grouped = _fitted(listing).groupby(["host", "worker"], as_index=False)
    return grouped.agg(
        segments=("segment", "count"), rows=("rows", "sum"), seconds=("seconds", "sum"), bytes=("bytes", "sum")
    ).head(50)


def fold_plot(listing: pd.DataFrame) -> Figure:
    """How many segments have which error of their own model, as a share of the baseline's, on the fold."""
    figure, axes = new_figure("Fold before the holdout: model's error as a share of the baseline's, by segment")
    judged = listing[listing["fold_model_absolute"].notna() & (listing["fold_baseline_absolute"] > 0)]
    ratio = (judged["fold_model_absolute"] / judged["fold_baseline_absolute"]).clip(upper=3)
    axes.hist(ratio, bins=40, color=BLUE)
    axes.axvline(1, color="black", lw=1)
    axes.set_xlabel("below 1: the model wins")
    return figure


def rate_plot(listing: pd.DataFrame) -> Figure:
    """Models a second over the time of the run, for each worker process."""
    figure, axes = new_figure("Models a second over the run, by worker")
    fitted = _fitted(listing)
    if len(fitted) < 2:
        return figure
    began = fitted["finished_at"].min()
    at = (fitted["finished_at"] - began).dt.total_seconds()
    width = max(1.0, float(at.max()) / POINTS)
    for (host, worker), own in fitted.groupby(["host", "worker"], sort=True):
        if len(axes.lines) < MOST_WORKERS_DRAWN:
            rate = (at[own.index] // width).value_counts().sort_index() / width
            axes.plot(rate.index * width, rate.to_numpy(), lw=1.2, label=f"{host} {worker}")
    axes.set_xlabel("seconds since the first model")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _fitted(listing: pd.DataFrame) -> pd.DataFrame:
    return listing[(listing["status"] == TRAINED) & ~listing["reused"].fillna(False).astype(bool)]
