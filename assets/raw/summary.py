"""The raw table in a plot and a table: the label over time, and the segments with the most empty labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from assets.presentation import BLUE, GREY, new_figure
from assets.raw.parse import KEY, TIME, parse_rows
from assets.raw.profile import Profile
from resources.settings import Settings
from resources.spark import quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame

WORST = 10
QUANTILES = (0.1, 0.5, 0.9)
MOST_POINTS = 400


def label_quantiles(raw: DataFrame, settings: Settings, profile: Profile) -> pd.DataFrame:
    """Quantiles of the label over segments (columns `time`, `low`, `median`, `high`), in at most 400 spans of time."""
    from pyspark.sql import functions as F

    parsed = parse_rows(raw, settings, profile.kinds)
    span = max((profile.last_label - profile.first_time).total_seconds() / MOST_POINTS, 1.0)
    start = profile.first_time.timestamp()
    slot = f"floor((unix_micros(cast({TIME} as timestamp)) / 1e6 - {start}) / {span})"
    known = parsed.where(f"{quoted(settings.label)} is not null and {TIME} <= timestamp_ntz'{profile.last_label}'")
    points = ", ".join(map(str, QUANTILES))
    slots = known.selectExpr(f"{slot} as slot", f"{quoted(settings.label)} as label").groupBy("slot")
    found = slots.agg(F.expr(f"percentile_approx(label, array({points}))").alias("q")).orderBy("slot").toPandas()
    time = pd.to_datetime((found["slot"].astype(float) * span + start) * 1e9)
    low, median, high = (found["q"].str[position] for position in range(3))
    return pd.DataFrame({"time": time, "low": low, "median": median, "high": high})


def label_plot(quantiles: pd.DataFrame, label: str) -> Figure:
    """The label's median over segments, and the band between its 10% and 90% quantiles, over time."""
    figure, axes = new_figure(f"{label} over time: median and 10% to 90% over segments")
    axes.fill_between(quantiles["time"], quantiles["low"], quantiles["high"], color=GREY, alpha=0.35, lw=0)
    axes.plot(quantiles["time"], quantiles["median"], color=BLUE, lw=1.2)
    return figure


def segment_count(raw: DataFrame, settings: Settings, profile: Profile) -> int:
    """How many distinct segments the rows name."""
    return parse_rows(raw, settings, profile.kinds).where(f"{KEY} is not null").select(KEY).distinct().count()


def emptiest_segments(raw: DataFrame, settings: Settings, profile: Profile) -> pd.DataFrame:
    """The ten segments with the most empty labels: segment, rows, empty labels, first and last time."""
    from pyspark.sql import functions as F

    parsed = parse_rows(raw, settings, profile.kinds).where(f"{KEY} is not null")
    grouped = parsed.groupBy(KEY).agg(
        F.count("*").alias("rows"),
        F.expr(f"count_if({quoted(settings.label)} is null)").alias("empty labels"),
        F.expr(f"cast(min({TIME}) as string)").alias("first"),
        F.expr(f"cast(max({TIME}) as string)").alias("last"),
    )
    order = [F.desc("empty labels"), F.asc("rows"), F.asc(KEY)]
    return grouped.orderBy(*order).limit(WORST).toPandas().rename(columns={KEY: "segment"})
