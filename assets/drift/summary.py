"""Drift as people look at it: the worst segments and features, features by segment group, the share over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.drift.plan import NEVER
from assets.drift.verdict import DRIFT
from assets.drift.windows import TESTS
from assets.partitions import segment_values
from assets.presentation import BLUE, GREY, ORANGE, new_figure
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
WORST, MOST_GROUPS, MOST_COLUMNS, LOOKS_SHOWN = 20, 25, 30, 104
LIGHTEST, TICKS = 1e-12, 10
SHOWN = [
    "segment",
    "alarmed",
    "new",
    "why",
    "column",
    "test",
    "effect",
    "p_value",
    "e_value",
    "live_ratio",
    "rows",
    "state",
]


def worst_segments(rows: pa.Table, most: int = WORST) -> pd.DataFrame:
    """The alarmed segments of largest evidence first, then those nearest to an alarm."""
    known = rows.filter(pc.or_(pc.is_valid(rows["p_value"]), pc.is_valid(rows["e_value"])))
    by = [("alarmed", "descending"), ("p_value", "ascending"), ("effect", "descending"), ("segment", "ascending")]
    frame: pd.DataFrame = known.select(SHOWN).sort_by(by).slice(0, most).to_pandas()
    return frame


def worst_features(rows: pa.Table, columns: list[str]) -> pd.DataFrame:
    """A row a feature: in how many of the alarmed segments it is the one that says so, and its effects there."""
    alarmed = rows.filter(rows["drifted"]).select(["column", "test", "effect"]).to_pandas()
    grouped = alarmed.groupby(["column", "test"])["effect"].agg(["count", "median", "max"]).reset_index()
    named = grouped.rename(columns={"count": "segments", "median": "median effect", "max": "largest effect"})
    order = {column: place for place, column in enumerate(columns)}
    ranked = named.assign(place=named["column"].map(order)).sort_values(["segments", "place"], ascending=[False, True])
    return ranked.drop(columns="place").head(WORST)


def drift_history(lake: Lake) -> pd.DataFrame:
    """A row a look, the newest first: through when, segments judged, drifted, new, and their share."""
    names = ["through", "judged", "judged_now", "drifted", "new", "share", "champion"]
    said = [{"look": look, **{name: r[name] for name in names}} for look, r in lake.table(DRIFT).records().items() if r]
    return pd.DataFrame(said, columns=["look", *names]).sort_values("look", ascending=False).head(LOOKS_SHOWN)


def history_plot(history: pd.DataFrame, limit: float) -> Figure:
    """The share of segments that drifted, look by look, and that of new ones."""
    figure, axes = new_figure("Share of the judged segments that drifted")
    shown = history.sort_values("look")
    times, looks = shown["through"].str.slice(0, 16).str.removesuffix("T00:00").tolist(), np.arange(len(shown))
    axes.plot(looks, shown["share"], color=BLUE, marker=".", label="drifted")
    axes.plot(looks, shown["new"] / shown["judged"].clip(lower=1), color=ORANGE, marker=".", lw=1, label="newly")
    axes.axhline(limit, color=GREY, ls="--", lw=1, label="above: all are retrained")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    some = looks[:: max(1, len(looks) // TICKS)]
    axes.set_xticks(some, [times[place] for place in some])
    figure.autofmt_xdate()
    return figure


def heat_map(rows: pa.Table, columns: list[str]) -> Figure:
    """Evidence by feature and group of segments: the mean of -log10 p of the segments of a group."""
    known = rows.filter(pc.is_valid(rows["p_values"]))
    names = columns[:MOST_COLUMNS]
    figure, axes = new_figure("Evidence of drift, -log10 p, by feature and group", 9, 1.6 + 0.28 * MOST_GROUPS)
    axes.grid(visible=False)
    if not len(known):
        return figure
    groups = _groups(known["segment"].to_pylist())
    # of a feature's tests the one that says most
    flat = known["p_values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    by_test = flat.astype(np.float64).reshape(len(known), len(columns), len(TESTS))
    p_values = np.where(np.isnan(by_test), 1.0, by_test).min(axis=2)[:, : len(names)]
    evidence = pd.DataFrame(-np.log10(np.clip(p_values, LIGHTEST, 1.0)), columns=names)
    cells = evidence.groupby(groups).mean()
    image = axes.imshow(cells.to_numpy(), aspect="auto", cmap="OrRd", vmin=0, vmax=max(3.0, float(cells.max().max())))
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(cells)), [str(group) for group in cells.index], fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.03)
    return figure


def segment_drift(row: dict[str, Any]) -> dict[str, Any]:
    """What a segment's own partition shows of a look."""
    names = ("state", "why", "column", "test", "effect", "p_value", "e_value", "live_ratio", "error_state")
    shown = {f"drift {name.replace('_', ' ')}": row[name] for name in names if row[name] not in (None, "")}
    return {"drifted": row["alarmed"], **shown}


def observed(rows: pa.Table, before: pa.Table | None, most: int) -> pa.Table:
    """The rows that are told on their segments' partitions: alarmed now or at the look before, and the next worst."""
    was = before.filter(before["alarmed"])["segment"] if before is not None else pa.chunked_array([[]], pa.string())
    known = rows.filter(pc.greater(rows["judged_through"], NEVER))
    nearest = known.sort_by([("p_value", "ascending")]).slice(0, most)["segment"]
    told = pc.or_(rows["alarmed"], pc.is_in(rows["segment"], pa.chunked_array([*was.chunks, *nearest.chunks])))
    return rows.filter(told)


def _groups(keys: list[str]) -> list[str]:
    """A group for each of some sorted segments: by their first column if it has few values, else by neighbourhood."""
    first = [segment_values(key)[0] for key in keys]
    if len(set(first)) <= MOST_GROUPS:
        return first
    size = -(-len(keys) // MOST_GROUPS)
    names = [f"{keys[n]} to {keys[min(n + size, len(keys)) - 1]}" for n in range(0, len(keys), size)]
    return [names[place // size] for place in range(len(keys))]
