"""Point-in-time features: what was known a horizon before each period, by Spark, without looking ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from assets.features.contract import BUCKET
from assets.raw.calendar import nanoseconds
from assets.raw.parse import KEY, PERIOD, TIME
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe
from resources.spark import quoted

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, WindowSpec

ASSUMED = "__assumed"


def build_features(valid: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """A row for each valid row up to the last label and, for open segments, for each period of the horizon.

    Gives: the segment columns, `__segment`, `fleet_bucket`, `__period`, `__time`, the label (null in the
    future), `__assumed` (a future row whose `known_ahead` values were carried on) and the columns of
    `recipe.features`; sorted by bucket, segment and period. Lags and windows count calendar periods, not rows,
    and every one of them ends at least a horizon before its row. Rows without time have no future, no `__time` and
    nothing assumed.
    """
    if recipe.time is None:
        return _arranged(valid.repartition(_partitions(valid), BUCKET), [], recipe)
    rows = _with_future(valid, recipe, profile)
    return _arranged(point_in_time(rows, recipe, profile), [TIME, ASSUMED], recipe)


def point_in_time(rows: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """Rows of the history and of the future, one a segment and period, with the columns of `recipe.features`.

    Adds `__time` and `__assumed` (see `build_features`); what a future row lacks of `known_ahead` is carried on.
    """
    from pyspark.sql import Window

    segment = Window.partitionBy(BUCKET, KEY).orderBy(PERIOD)
    filled = _carry_on(rows, recipe, profile, segment)
    lagged = filled.select("*", *_lags(recipe, segment), *_rolling(recipe, segment))
    return _with_calendar(lagged, recipe, profile)


def _arranged(rows: DataFrame, of_time: list[str], recipe: Recipe) -> DataFrame:
    wanted = [*recipe.segment, KEY, PERIOD, *of_time, recipe.label, *recipe.features, BUCKET]
    return rows.select(*[quoted(column) for column in wanted]).sortWithinPartitions(BUCKET, KEY, PERIOD)


def _with_future(valid: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """History plus exactly `horizon` future rows for each open segment, empty where the table has none."""
    from pyspark.sql import functions as F

    last = profile.last_period
    segments = valid.groupBy(BUCKET, KEY, *[quoted(c) for c in recipe.segment]).agg(F.max(PERIOD).alias("__last"))
    still_open = segments.where(f"__last > {last - recipe.closed_after}").drop("__last")
    ahead = valid.sparkSession.range(last + 1, last + 1 + recipe.horizon).selectExpr(f"cast(id as int) as {PERIOD}")
    wanted = still_open.crossJoin(F.broadcast(ahead))
    given = valid.where(f"{PERIOD} > {last} and {PERIOD} <= {last + recipe.horizon}")
    columns = [c for c in valid.columns if c not in (BUCKET, KEY, PERIOD, *recipe.segment)]
    future = wanted.join(
        given.select(BUCKET, KEY, PERIOD, *[quoted(c) for c in columns]), [BUCKET, KEY, PERIOD], "left"
    )
    return valid.where(f"{PERIOD} <= {last}").unionByName(future)


def _carry_on(rows: DataFrame, recipe: Recipe, profile: Profile, segment: WindowSpec) -> DataFrame:
    """Missing `known_ahead` values of the future replaced by the last known one, and such rows marked."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    future = F.col(PERIOD) > profile.last_period
    missing = F.lit(False)
    columns: dict[str, Column] = {}
    past = segment.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    for column in recipe.known_ahead:
        value = F.col(quoted(column))
        missing = missing | value.isNull()
        columns[column] = F.when(future, F.last(value, ignorenulls=True).over(past)).otherwise(value)
    spread = rows.repartition(_partitions(rows), BUCKET).withColumn(ASSUMED, future & missing)
    return spread.withColumns(columns) if columns else spread


def _partitions(rows: DataFrame) -> int:
    return int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions", "16") or 16)


def _lags(recipe: Recipe, segment: WindowSpec) -> list[Column]:
    from pyspark.sql import functions as F

    return [
        F.max(quoted(column)).over(segment.rangeBetween(-lag, -lag)).alias(name) for name, column, lag in recipe.lagged
    ]


def _rolling(recipe: Recipe, segment: WindowSpec) -> list[Column]:
    from pyspark.sql import functions as F

    functions = {"mean": F.avg, "std": F.stddev_samp, "min": F.min, "max": F.max, "sum": F.sum}
    return [
        functions[statistic](quoted(recipe.label))
        .over(segment.rangeBetween(-(recipe.horizon + window - 1), -recipe.horizon))
        .alias(name)
        for name, statistic, window in recipe.rolled
    ]


def _with_calendar(rows: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    import pyarrow as pa
    from pyspark.sql import functions as F

    beyond = max(0, recipe.horizon)
    times = recipe.calendar.times(profile.times.first_time, profile.times.last_label, beyond)
    start = recipe.calendar.period_of(times[0])
    columns = {
        PERIOD: pa.array(range(start, start + len(times)), pa.int32()),
        "__micros": nanoseconds(times) // 1000,
    }
    columns |= {f"calendar@{name}": calendar_feature(name, times, start) for name in recipe.calendar_features}
    lookup = rows.sparkSession.createDataFrame(pa.table(columns))
    placed = rows.drop(TIME).join(F.broadcast(lookup), PERIOD, "left")
    return placed.withColumn(TIME, F.expr("cast(timestamp_micros(__micros) as timestamp_ntz)")).drop("__micros")


def calendar_feature(name: str, times: pd.DatetimeIndex, first_period: int) -> pd.Series:
    """A calendar feature (double) of grid times; `trend` is the period's number."""
    if name == "trend":
        return pd.Series(range(first_period, first_period + len(times)), dtype="float64")
    values = {
        "minute": times.minute,
        "hour": times.hour,
        "day_of_week": times.dayofweek,
        "day_of_month": times.day,
        "day_of_year": times.dayofyear,
        "week_of_year": times.isocalendar().week,
        "month": times.month,
        "quarter": times.quarter,
        "year": times.year,
    }[name]
    return pd.Series(values.to_numpy() if hasattr(values, "to_numpy") else values).astype("float64")
