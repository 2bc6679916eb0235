"""Features and quarantine in tables and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from assets.features.facts import feature_facts
from assets.features.publish import QUARANTINE, FeatureSet
from assets.presentation import BLUE, ORANGE, new_figure
from assets.raw.parse import KEY
from resources.frames import frame_of
from resources.lake import Lake
from resources.spark import Spark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST, SHOWN_ROWS, LONGEST_CELL = 10, 20, 200


def null_shares(lake: Lake, spark: Spark, features: FeatureSet) -> pd.DataFrame:
    """Share of nulls in each feature over the history: `feature`, `share of nulls`, most first."""
    shares = feature_facts(lake, spark, features)["nulls"].items()
    return pd.DataFrame(shares, columns=["feature", "share of nulls"]).sort_values("share of nulls", ascending=False)


def null_plot(shares: pd.DataFrame) -> Figure:
    """Share of nulls of the features that have most."""
    figure, axes = new_figure("Share of nulls by feature", height=4)
    most = shares.head(15).iloc[::-1]
    axes.barh(most["feature"].str.slice(0, 40), most["share of nulls"].astype(float), color=BLUE)
    axes.set_xlim(0, 1)
    return figure


def shortest_segments(segments: pd.DataFrame) -> pd.DataFrame:
    """The ten segments with the fewest labelled rows."""
    worst = segments.sort_values(["__labelled", "__rows", KEY]).head(WORST)
    named = {KEY: "segment", "__rows": "rows", "__labelled": "labelled", "__open": "open"}
    return worst[list(named)].rename(columns=named)


def quarantine_rows(lake: Lake, version: int) -> pd.DataFrame:
    """The first refused rows, as they came, with the reason; long cells are cut."""
    rows = lake.table(QUARANTINE).head(SHOWN_ROWS, version).to_pandas()
    return rows.astype(str).apply(lambda column: column.str.slice(0, LONGEST_CELL)) if len(rows) else rows


def quarantine_by_segment(lake: Lake, spark: Spark, version: int) -> pd.DataFrame:
    """How many rows of each segment were refused, most first: `segment` (null: no key), `rows`."""
    table = lake.table(QUARANTINE)
    rows = frame_of(spark.session(), table.files(version), table.schema(version), columns=[KEY])
    counted = rows.groupBy(KEY).count().toPandas()
    return counted.set_axis(["segment", "rows"], axis=1).sort_values(["rows", "segment"], ascending=[False, True])


def reasons_plot(by_reason: dict[str, int]) -> Figure:
    """Refused rows by reason."""
    figure, axes = new_figure("Rows in quarantine by reason", height=max(1.6, 0.45 * len(by_reason) + 1))
    ordered = sorted(by_reason.items(), key=lambda item: item[1])
    axes.barh([name[:40] for name, _ in ordered], [count for _, count in ordered], color=ORANGE)
    return figure
