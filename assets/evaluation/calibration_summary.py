"""Calibration as people look at it: a table of bins, and the reliability curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from assets.evaluation.calibration import BINS
from assets.presentation import BLUE, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def calibration_table(bins: list[dict[str, float]]) -> pd.DataFrame:
    """A row a bin."""
    frame = pd.DataFrame(bins, columns=["from", "rows", "predicted", "observed"])
    return frame.assign(rows=frame["rows"].astype(int))


def calibration_plot(bins: list[dict[str, float]]) -> Figure:
    """Observed share of ones against mean probability; on the line it is calibrated. Bars: the bin's share of rows."""
    figure, axes = new_figure("Calibration on the holdout: how often a 1 came, by the probability served", 6.2, 4.2)
    rows = sum(each["rows"] for each in bins) or 1
    axes.bar(
        [each["from"] + 0.5 / BINS for each in bins],
        [each["rows"] / rows for each in bins],
        width=0.9 / BINS,
        color=GREY,
        alpha=0.4,
        label="share of rows",
    )
    axes.plot([0, 1], [0, 1], color="black", lw=0.8)
    said, came = ([each[name] for each in bins] for name in ("predicted", "observed"))
    axes.plot(said, came, marker="o", color=BLUE, label="observed")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability served", ylabel="share of ones")
    axes.legend(frameon=False, loc="upper left")
    return figure
