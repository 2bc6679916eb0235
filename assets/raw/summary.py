"""The raw table in a plot and a table: the label (over time), and the segments with the most empty labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from assets.presentation import BLUE, GREY, new_figure
from assets.raw.parse import KEY, REASONS, TIME, parse_rows
from assets.raw.profile import Profile
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame

WORST = 10
SHOWN_SNAPSHOTS = 20
QUANTILES = (0.1, 0.5, 0.9)
MOST_POINTS = 400
BINS = 40


def snapshots(lake: Lake) -> pd.DataFrame:
    """The newest snapshots of the raw table: `snapshot`, `rows`, `files`, `new files`, `brought back from`."""
    records = list(lake.table(RAW).records().items())[:SHOWN_SNAPSHOTS]
    rows = [
        (version, record.get("rows"), record.get("files"), record.get("new_files"), record.get("restored"))
        for version, record in records
    ]
    return pd.DataFrame(rows, columns=["snapshot", "rows", "files", "new files", "brought back from"], dtype=object)


def label_quantiles(raw: DataFrame, settings: Settings, profile: Profile) -> pd.DataFrame:
    """Quantiles of the label over segments (columns `time`, `low`, `median`, `high`), in at most 400 spans of time."""
    from pyspark.sql import functions as F

    parsed, timeline = parse_rows(raw, settings, profile.kinds), profile.times
    span = max((timeline.last_label - timeline.first_time).total_seconds() / MOST_POINTS, 1.0)
    start = timeline.first_time.timestamp()
    slot = f"floor((unix_micros(cast({TIME} as timestamp)) / 1e6 - {start}) / {span})"
    known = parsed.where(f"{quoted(settings.label)} is not null and {TIME} <= timestamp_ntz'{timeline.last_label}'")
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


def label_counts(raw: DataFrame, settings: Settings, profile: Profile) -> pd.DataFrame:
    """How many rows have a label in each of 40 equal spans: `label` (where the span begins), `width`, `rows`.

    The spans cover the labels between the 0.1% and 99.9% quantiles; what lies outside counts in the first or last.
    """
    from pyspark.sql import functions as F

    parsed, label = parse_rows(raw, settings, profile.kinds), quoted(settings.label)
    labels = parsed.where(f"{label} is not null and size({REASONS}) = 0").selectExpr(f"{label} as label")
    edges = labels.agg(F.expr("percentile_approx(label, array(0.001, 0.999))")).first()
    low, high = edges[0] if edges else (0.0, 0.0)
    width = (high - low) / BINS or 1.0
    place = f"greatest(0, least({BINS - 1}, floor((label - double('{low}')) / double('{width}'))))"
    found = labels.selectExpr(f"{place} as place").groupBy("place").agg(F.count("*").alias("rows")).toPandas()
    return pd.DataFrame({"label": low + found["place"] * width, "width": width, "rows": found["rows"]})


def label_histogram(counts: pd.DataFrame, label: str) -> Figure:
    """How many rows have which label."""
    figure, axes = new_figure(f"{label}: rows by value")
    axes.bar(counts["label"], counts["rows"], width=counts["width"], align="edge", color=BLUE)
    return figure


def segment_count(raw: DataFrame, settings: Settings, profile: Profile) -> int:
    """How many distinct segments the rows name."""
    return parse_rows(raw, settings, profile.kinds).where(f"{KEY} is not null").select(KEY).distinct().count()


def emptiest_segments(raw: DataFrame, settings: Settings, profile: Profile) -> pd.DataFrame:
    """The ten segments with the most empty labels: segment, rows, empty labels and, with time, the first and last."""
    from pyspark.sql import functions as F

    parsed = parse_rows(raw, settings, profile.kinds).where(f"{KEY} is not null")
    span = {"first": f"cast(min({TIME}) as string)", "last": f"cast(max({TIME}) as string)"} if settings.time else {}
    grouped = parsed.groupBy(KEY).agg(
        F.count("*").alias("rows"),
        F.expr(f"count_if({quoted(settings.label)} is null)").alias("empty labels"),
        *[F.expr(expression).alias(name) for name, expression in span.items()],
    )
    order = [F.desc("empty labels"), F.asc("rows"), F.asc(KEY)]
    return grouped.orderBy(*order).limit(WORST).toPandas().rename(columns={KEY: "segment"})
