"""What the quantiles of an evaluation are worth, in tables and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.presentation import GREY, VIOLET, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def quantile_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a level: how many of the holdout's labels were below, and the quantile's loss as a share of the labels."""
    said = record["quantiles"]
    return pd.DataFrame(
        {
            "quantile": said["levels"],
            "labels below": said["measured"],
            "weighted quantile loss": said["weighted_loss"] or [None] * len(said["levels"]),
        }
    )


def interval_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row an interval, and one for each of its stretches of the horizon and classes of segments."""
    rows = []
    for each in record["quantiles"]["intervals"]:
        name = f"{each['interval']:.0%}"
        rows.append({"interval": name, "of": "all", "coverage": each["coverage"], "mean width": each["width"]})
        parts = [("steps", part["steps"], part) for part in each["by steps"]]
        parts += [("segments with rows", part["rows"], part) for part in each["by rows"]]
        rows += [{"interval": name, "of": f"{what} {which}", "coverage": p["coverage"]} for what, which, p in parts]
    known = [row for row in rows if row["coverage"] is not None]
    return pd.DataFrame(known, columns=["interval", "of", "coverage", "mean width"])


def coverage_plot(record: dict[str, Any]) -> Figure:
    """How many of the labels lie within each interval, beside how many should."""
    rows = interval_table(record)[::-1]
    figure, axes = new_figure("Labels within the interval, by stretch and segments (line: as it should be)", 6.2, 3.0)
    names = [f"{row.interval} {row.of}" for row in rows.itertuples()]
    axes.barh(names, rows["coverage"], color=VIOLET)
    for each in record["quantiles"]["intervals"]:
        axes.axvline(each["interval"], color=GREY, lw=1.2)
    axes.set_xlim(0, 1)
    return figure
