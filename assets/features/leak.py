"""The leak test: would a feature change if the future had been different?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from assets.features.build import build_features
from assets.features.contract import judged_rows, valid_rows
from assets.features.publish import SEGMENTS, FeatureSet
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe
from assets.raw.snapshot import RAW, read_snapshot
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SAMPLED_SEGMENTS = 20


class Leaks(NamedTuple):
    """Rows that differ by feature (empty: no leak), the rows compared and the segments sampled."""

    rows_by_feature: dict[str, int]
    compared: int
    segments: int


def find_leaks(lake: Lake, spark: Spark, settings: Settings, features: FeatureSet) -> Leaks:
    """Features of 20 segments as they are, against those built with every later label and past value made noise.

    Every feature of a row up to a horizon after the cut-off must be the same; the cut-off is the holdout's.
    """
    from pyspark.sql import functions as F

    recipe, profile = features.recipe, features.profile
    keys = _sampled(lake, features)
    raw = read_snapshot(spark, lake.table(RAW), settings, features.record["raw_version"])
    rows = valid_rows(judged_rows(raw, settings, profile, features.buckets)).where(F.col(KEY).isin(keys)).cache()
    cut_off = profile.last_period - recipe.holdout
    try:
        real, altered = (build_features(frame, recipe, profile) for frame in (rows, with_noise(rows, recipe, cut_off)))
        through = min(cut_off + recipe.horizon, profile.last_period)  # later rows have a later origin
        return _compared(real, altered, recipe, through, len(keys))
    finally:
        rows.unpersist()


def with_noise(rows: DataFrame, recipe: Recipe, cut_off: int) -> DataFrame:
    """The rows with every label and `past_only` value after the cut-off replaced by noise."""
    from pyspark.sql import functions as F

    later = F.col(PERIOD) > cut_off
    noise = {
        column: F.when(later, F.lit("noise") if recipe.kinds[column] == "text" else 1e6 * F.rand(7)).otherwise(
            F.col(quoted(column))
        )
        for column in (recipe.label, *recipe.past_only)
    }
    return rows.withColumns(noise)


def _sampled(lake: Lake, features: FeatureSet) -> list[str]:
    keys = lake.table(SEGMENTS).arrow(columns=[KEY], version=features.record["segments_version"])[KEY].to_pylist()
    step = max(1, len(keys) // SAMPLED_SEGMENTS)
    return sorted(keys)[::step][:SAMPLED_SEGMENTS]


def _compared(real: DataFrame, altered: DataFrame, recipe: Recipe, through: int, segments: int) -> Leaks:
    names = recipe.features
    left = real.where(f"{PERIOD} <= {through}").selectExpr(
        KEY, PERIOD, *[f"{quoted(name)} as f{i}" for i, name in enumerate(names)]
    )
    right = altered.selectExpr(KEY, PERIOD, *[f"{quoted(name)} as g{i}" for i, name in enumerate(names)])
    differs = [f"count_if(not (f{i} <=> g{i})) as d{i}" for i in range(len(names))]
    row = left.join(right, [KEY, PERIOD], "left").selectExpr("count(*) as compared", *differs).first()
    assert row is not None, "an aggregate without groups gives one row"
    found = {name: row[f"d{i}"] for i, name in enumerate(names) if row[f"d{i}"]}
    return Leaks(found, row["compared"], segments)
