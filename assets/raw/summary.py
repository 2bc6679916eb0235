"""The raw table in a plot and a table: the label (over time), and the segments with the most empty labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.presentation import BLUE, GREY, new_figure
from assets.raw.snapshot import RAW
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_SNAPSHOTS = 20


def snapshots(lake: Lake) -> pd.DataFrame:
    """The newest snapshots of the raw table: `snapshot`, `rows`, `files`, `new files`, `brought back from`."""
    records = list(lake.table(RAW).records().items())[:SHOWN_SNAPSHOTS]
    rows = [
        (version, record.get("rows"), record.get("files"), record.get("new_files"), record.get("restored"))
        for version, record in records
    ]
    return pd.DataFrame(rows, columns=["snapshot", "rows", "files", "new files", "brought back from"], dtype=object)


def label_figure(columns: dict[str, list[Any]], label: str) -> Figure:
    """What is known of a snapshot's label (see `Description`), drawn."""
    table = pd.DataFrame(columns)
    if "time" not in table:
        return label_histogram(table, label)
    return label_plot(table.assign(time=pd.to_datetime(table["time"])), label)


def label_plot(quantiles: pd.DataFrame, label: str) -> Figure:
    """The label's median over segments, and the band between its 10% and 90% quantiles, over time."""
    figure, axes = new_figure(f"{label} over time: median and 10% to 90% over segments")
    axes.fill_between(quantiles["time"], quantiles["low"], quantiles["high"], color=GREY, alpha=0.35, lw=0)
    axes.plot(quantiles["time"], quantiles["median"], color=BLUE, lw=1.2)
    return figure


def label_histogram(counts: pd.DataFrame, label: str) -> Figure:
    """How many rows have which label."""
    figure, axes = new_figure(f"{label}: rows by value")
    axes.bar(counts["label"], counts["rows"], width=counts["width"], align="edge", color=BLUE)
    return figure
