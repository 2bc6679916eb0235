"""Live errors as people look at them: by version and issue, the worst segments, over time beside what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from assets.evaluation.judge import EVALUATION
from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS, scored_issues
from assets.evaluation.live_score import SERVED, SUMS
from assets.presentation import BLUE, GREEN, GREY, ORANGE, new_figure
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST, PERIODS_SHOWN, ISSUES_SHOWN = 10, 400, 50
NOBODY = "none"  # no version: the baseline served
COLOURS = (BLUE, ORANGE, GREEN, "#7d5fa8", "#b8473f", "#5b8f9e")


def live_metric(metric: str, sums: pd.DataFrame) -> pd.Series[float]:
    """The metric from columns of sums (see `live_score.SUMS`); NaN where it has no value.

    wape: sum |error| / sum |label|; mae: sum |error| / rows; rmse: root of sum error^2 / rows; bias: sum error / sum
    |label|.
    """
    count = sums["count"].where(sums["count"] > 0)
    scale = sums["label_absolute"].where(sums["label_absolute"] > 0)
    values: dict[str, pd.Series[float]] = {
        "wape": sums["absolute"] / scale,
        "bias": sums["signed"] / scale,
        "mae": sums["absolute"] / count,
        "rmse": (sums["squared"] / count) ** 0.5,
    }
    return values[metric].astype(float)


def live_totals(lake: Lake) -> pd.DataFrame:
    """A row an issue, role, version, whether in force and whether sampled, with its sums; from records alone."""
    rows = [
        {"issue": issue, "start": said["start"], **total}
        for issue, said in scored_issues(lake).items()
        for total in said["totals"]
    ]
    columns = ["issue", "start", "role", "version", "in_force", "sampled", *SUMS]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(version=frame["version"].astype("Int64"), in_force=frame["in_force"].astype(bool))


def live_by_version(lake: Lake, metric: str) -> pd.DataFrame:
    """A row a version that served: its live error and bias while in force, its error at promotion, rows, issues."""
    totals = live_totals(lake)
    served = totals[(totals["role"] == SERVED) & totals["in_force"]]
    summed = served.groupby("version", dropna=False)[list(SUMS)].sum()
    summed["issues"] = served.groupby("version", dropna=False)["issue"].nunique()
    promised = promised_errors(lake, metric)
    found = summed.reset_index()
    found[f"live {metric}"], found["live bias"] = live_metric(metric, found), live_metric("bias", found)
    found[f"{metric} at promotion"] = [promised.get(_whole(version) or 0) for version in found["version"]]
    found[f"{metric} at promotion"] = found[f"{metric} at promotion"].astype(float)
    columns = ["version", f"live {metric}", f"{metric} at promotion", "live bias", "issues", "count", "missing"]
    return _said(found[columns].rename(columns={"count": "rows"}))


def live_by_issue(lake: Lake, metric: str) -> pd.DataFrame:
    """A row a version and issue that was served, the newest first: error in force and over all periods that came."""
    totals = live_totals(lake)
    keys = ["issue", "start", "version"]
    served = totals[totals["role"] == SERVED]
    every = served.groupby(keys, dropna=False)[list(SUMS)].sum()
    in_force = served[served["in_force"]].groupby(keys, dropna=False)[list(SUMS)].sum().reindex(every.index)
    awaited = {issue: said["awaited"] for issue, said in scored_issues(lake).items()}
    found = pd.DataFrame({
        f"live {metric}": live_metric(metric, in_force),
        f"{metric} of all that came": live_metric(metric, every),
        "bias": live_metric("bias", every),
        "rows": every["count"],
        "missing": every["missing"],
    }).reset_index()  # fmt: skip
    found["awaited, whole issue"] = found["issue"].map(awaited)
    return _said(found.sort_values(["issue", "version"], ascending=[False, True]).head(ISSUES_SHOWN))


def promised_errors(lake: Lake, metric: str) -> dict[int, float]:
    """Each version's error on the holdout that it was promoted for, where that was of the same metric and is known."""
    wanted = {
        int(version): digest for said in scored_issues(lake).values() for version, digest in said["evaluations"].items()
    }
    judged = {record.get("digest"): record for record in lake.table(EVALUATION).records().values()}
    found = {version: judged[digest] for version, digest in wanted.items() if digest in judged}
    known = {version: r["errors"]["served"] for version, r in found.items() if r["metric"] == metric}
    return {version: error for version, error in known.items() if error is not None}


def worst_live_segments(lake: Lake, metric: str) -> pd.DataFrame:
    """The ten segments of largest absolute error in the newest issue that was in force for some period that came."""
    newest = max((n for n, said in scored_issues(lake).items() if _was_in_force(said)), default=None)
    columns = ["segment", "version", "model", *SUMS]
    if newest is None:
        return pd.DataFrame({name: [] for name in ("segment", "version", "model", metric, "bias", "rows", "missing")})
    table = lake.table(LIVE_ERRORS).arrow([*columns, "role", "in_force"], where=[("issue", "=", str(newest))])
    served = table.filter(pc.and_(pc.equal(table["role"], SERVED), table["in_force"])).select(columns)
    worst = served.sort_by([("absolute", "descending"), ("segment", "ascending")]).slice(0, WORST).to_pandas()
    worst["version"] = worst["version"].astype("Int64")
    worst[metric], worst["bias"] = live_metric(metric, worst), live_metric("bias", worst)
    shown = worst.rename(columns={"count": "rows", "absolute": "absolute error"})
    return _said(shown[["segment", "version", "model", metric, "bias", "absolute error", "rows", "missing"]])


def live_status(lake: Lake, metric: str) -> dict[str, Any]:
    """The live error of the newest forecasts that were in force for some period that came; None before."""
    scored = scored_issues(lake)
    newest = max((issue for issue, said in scored.items() if _was_in_force(said)), default=None)
    counted = {name: sum(said[name] for said in scored.values()) for name in ("scored", "missing", "awaited")}
    totals = live_totals(lake)
    mine = totals[(totals["issue"] == newest) & (totals["role"] == SERVED) & totals["in_force"]]
    error = live_metric(metric, mine[list(SUMS)].sum().to_frame().T).iloc[0] if newest is not None else None
    return {"metric": metric if newest is not None else None, "error": error, "issue": newest, **counted}


def live_plot(lake: Lake, metric: str) -> Figure:
    """Live error over time by version, in force, and as a dashed line the version's error at promotion."""
    figure, axes = new_figure(f"Live {metric} of what was served, by version (dashed: on its holdout)")
    if not lake.table(LIVE_PERIODS).exists():
        return figure
    rows = lake.table(LIVE_PERIODS).arrow(["time", "role", "version", "in_force", *SUMS]).to_pandas()
    rows = rows[(rows["role"] == SERVED) & rows["in_force"] & (rows["count"] > 0)]
    shown = rows[rows["time"].isin(np.sort(rows["time"].unique())[-PERIODS_SHOWN:])]
    summed = shown.groupby(["version", "time"], dropna=False)[list(SUMS)].sum().reset_index()
    summed["error"], promised = live_metric(metric, summed), promised_errors(lake, metric)
    for number, (version, part) in enumerate(summed.groupby("version", dropna=False)):
        known, colour = _whole(version), COLOURS[number % len(COLOURS)] if pd.notna(version) else GREY
        label = f"version {known}" if known is not None else "the baseline, without a version"
        axes.plot(part["time"], part["error"], color=colour, marker=".", lw=1.2, label=label)
        if known in promised:
            axes.plot(part["time"].iloc[[0, -1]], [promised[known]] * 2, color=colour, lw=1, ls="--", marker="_")
    if len(summed):
        axes.legend(frameon=False)
        axes.set_ylim(bottom=0)
    figure.autofmt_xdate()
    return figure


def _was_in_force(said: Mapping[str, Any]) -> bool:
    return any(total["in_force"] and total["role"] == SERVED and total["count"] for total in said["totals"])


def _whole(version: Any) -> int | None:
    return None if pd.isna(version) else int(version)


def _said(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(version=[NOBODY if pd.isna(each) else str(each) for each in frame["version"]])
