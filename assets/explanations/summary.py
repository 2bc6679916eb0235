"""Explanations as people look at them: one segment's, the fleet's, and what changed since the champion before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from assets.explanations.publish import EXPLANATIONS, Explanations
from assets.presentation import BLUE, new_figure
from resources.lake import Lake
from resources.problems import InputError, Problem, nearest_segments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SHOWN, MOST_MOVED = 15, 10
DIRECTIONS = {1: "raises", -1: "lowers", 0: "", None: ""}


def segment_explanation(lake: Lake, fleet: str, segment: str) -> dict[str, Any]:
    """What the model that serves a segment goes by: its features with share, rank and direction, or why there are none.

    `direction`: whether a larger value of the feature raises or lowers the forecast; empty where that is neither.

    Raises:
        InputError: nothing was explained yet, or the explained champion does not know the segment.
    """
    table = lake.table(EXPLANATIONS)
    if not table.exists():
        raise InputError([Problem(f"fleet {fleet}", "has no explanations yet", "run the weekly cycle: fleet run")])
    rows = table.arrow()
    mine = rows.filter(pc.equal(rows["segment"], segment)).sort_by("rank").to_pylist()
    if not mine:
        remedy = nearest_segments(segment, pc.unique(rows["segment"]).to_pylist())
        raise InputError([Problem(segment, f"is no segment of champion {table.record()['version']}", remedy)])
    shown = ("rank", "feature", "share")
    return {
        **{name: mine[0][name] for name in ("segment", "version", "source", "weight", "rows", "reason")},
        "features": [
            {**{name: row[name] for name in shown}, "direction": DIRECTIONS[row["direction"]]}
            for row in mine
            if row["feature"] is not None
        ],
    }


def feature_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a feature: mean share, quantiles over segments, and of how many segments it is the first."""
    names = {"q10": "10%", "q50": "median", "q90": "90%", "mean": "mean share", "first": "first of segments"}
    columns = ["feature", "mean", "q10", "q50", "q90", "first"]
    return pd.DataFrame(record["features"], columns=columns).head(MOST_SHOWN).rename(columns=names)


def unexplained(lake: Lake, version: int) -> pd.DataFrame:
    """Why segments have no explanation, and how many for each reason."""
    reasons = lake.table(EXPLANATIONS).arrow(["reason"], version=version)["reason"].drop_null()
    counted = pc.value_counts(reasons).to_pylist()
    frame = pd.DataFrame([(row["values"], row["counts"]) for row in counted], columns=["reason", "segments"])
    return frame.sort_values("segments", ascending=False, ignore_index=True).head(MOST_SHOWN)


def shares_plot(record: dict[str, Any]) -> Figure:
    """Each feature's share over the fleet's segments: median, half of them in the box, eight in ten on the line."""
    shown = record["features"][:MOST_SHOWN][::-1]
    figure, axes = new_figure("What models go by: share of mean |SHAP|, over segments", 9, 0.8 + 0.3 * len(shown))
    boxes = [
        {"label": f["feature"], "whislo": f["q10"], "q1": f["q25"], "med": f["q50"], "q3": f["q75"], "whishi": f["q90"]}
        for f in shown
    ]
    if boxes:
        drawn = axes.bxp(boxes, vert=False, showfliers=False, patch_artist=True)
        for patch in drawn["boxes"]:
            patch.set(facecolor=BLUE, alpha=0.5)
        axes.set_yticklabels([str(f["feature"])[:40] for f in shown], parse_math=False)
    axes.set_xlim(0, None)
    return figure


@dataclass(frozen=True)
class Changes:
    """What changed since the champion before: features by how far their mean share moved, and first features."""

    since: int
    moved: pd.DataFrame
    compared: int
    first_changed: int


def changes_of(lake: Lake, now: Explanations) -> Changes | None:
    """What changed since the last champion that was explained; None where there was none before.

    Segments that were explained then and now are compared; none are if the rows of then were pruned.
    """
    table, published = lake.table(EXPLANATIONS), now.record["published"]
    others = (
        (version, record)
        for version, record in table.records().items()
        if version < now.version and record.get("published") not in (None, published)
    )
    before = next(others, None)
    if before is None:
        return None
    version, record = before
    was, is_ = ({each["feature"]: each["mean"] for each in r["features"]} for r in (record, now.record))
    moved = pd.DataFrame(
        [(name, was.get(name, 0.0), is_.get(name, 0.0)) for name in {**is_, **was}],
        columns=["feature", "mean share before", "now"],
    )
    moved["change"] = moved["now"] - moved["mean share before"]
    moved = moved.sort_values("change", key=lambda change: -change.abs(), kind="stable", ignore_index=True)
    compared, changed = _first_features(lake, version, now.version)
    return Changes(record["version"], moved.head(MOST_MOVED), compared, changed)


def _first_features(lake: Lake, before: int, now: int) -> tuple[int, int]:
    """Segments explained at both versions, and how many of them have another first feature."""
    try:
        then, later = (_first_of(lake, version) for version in (before, now))
    except (OSError, pa.ArrowException):  # pruned
        return 0, 0
    both = then.join(later, "segment", join_type="inner", right_suffix="_now")
    return len(both), pc.sum(pc.not_equal(both["feature"], both["feature_now"])).as_py() or 0


def _first_of(lake: Lake, version: int) -> pa.Table:
    rows = lake.table(EXPLANATIONS).arrow(["segment", "rank", "feature"], version=version)
    return rows.filter(pc.equal(rows["rank"], 1)).drop_columns(["rank"])
