"""The contract: which rows are valid and which go to quarantine, with the reason; none is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.partitions import bucket_expression
from assets.raw.parse import KEY, PERIOD, REASONS, parse_rows, with_period
from assets.raw.profile import Profile, Timeline
from assets.raw.source import FILE, ROW
from assets.raw.split import CLASS, HASH, ROWS_A_CLASS, with_hash
from resources.settings import Settings
from resources.spark import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BUCKET = "fleet_bucket"
USABLE = f"size({REASONS}) = 0"
SEGMENTS_A_BUCKET = 100
ROWS_A_BUCKET = 500_000
FEWEST_BUCKETS, MOST_BUCKETS = 32, 1024


def bucket_count(segments: int, rows: int) -> int:
    """How many buckets hold a fleet: enough for parallel work, few enough to be worth a file each."""
    wanted = max(-(-segments // SEGMENTS_A_BUCKET), -(-rows // ROWS_A_BUCKET), min(segments, FEWEST_BUCKETS))
    return max(1, min(wanted, MOST_BUCKETS))


def judged_rows(raw: DataFrame, settings: Settings, profile: Profile, buckets: int) -> DataFrame:
    """Every raw row, typed and placed on the calendar, with the reasons why it is refused, if any.

    Gives the columns of `parse_rows`, `__period` and `fleet_bucket`. Of rows with the same segment and time the last
    read stays valid; the others are duplicates. Rows without time are placed by their hash, and none is a duplicate.
    """
    from pyspark.sql import functions as F

    parsed = parse_rows(raw, settings, profile.kinds)
    placed = _on_calendar(parsed, settings, profile.times) if profile.timeline else with_hash(parsed, profile.split_by)
    bucketed = placed.withColumn(BUCKET, F.expr(f"coalesce({bucket_expression(KEY, buckets)}, 0)"))
    together = bucketed.repartition(buckets, BUCKET)
    return _without_duplicates(together) if profile.timeline else _ranked(together)


def _on_calendar(parsed: DataFrame, settings: Settings, timeline: Timeline) -> DataFrame:
    from pyspark.sql import functions as F

    placed = with_period(parsed, timeline.calendar, timeline.first_time, timeline.last_time)
    label = quoted(settings.label)
    further = [
        f"if({USABLE} and {PERIOD} is null, 'off_calendar', null)",
        f"if({USABLE} and {PERIOD} > {timeline.last_period} and {label} is not null, 'label_after_end', null)",
    ]
    return placed.withColumn(REASONS, F.expr(f"array_compact(concat({REASONS}, array({', '.join(further)})))"))


def _without_duplicates(rows: DataFrame) -> DataFrame:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    same_key = Window.partitionBy(BUCKET, KEY, PERIOD, F.expr(USABLE)).orderBy(F.desc(FILE), F.desc(ROW))
    duplicate = f"if({USABLE} and __rank > 1, array('duplicate'), {REASONS})"
    ranked = rows.withColumn("__rank", F.row_number().over(same_key))
    return ranked.withColumn(REASONS, F.expr(duplicate)).drop("__rank")


def _ranked(rows: DataFrame) -> DataFrame:
    """Rows with the `__period` that stands for their class and their place in it."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    same_class = Window.partitionBy(BUCKET, KEY, F.expr(USABLE), F.expr(CLASS)).orderBy(HASH, FILE, ROW)
    place = F.expr(f"{CLASS} * {ROWS_A_CLASS}") + F.row_number().over(same_class) - 1
    return rows.withColumn(PERIOD, place.cast("int")).drop(HASH)


def valid_rows(judged: DataFrame) -> DataFrame:
    """The rows that nothing is held against, without their raw cells."""
    return judged.where(USABLE).drop("__source", REASONS)


def quarantined_rows(judged: DataFrame) -> DataFrame:
    """The refused rows as they came, with `__reason` (the first), `__reasons`, `__segment` and lineage."""
    refused = judged.where(f"size({REASONS}) > 0")
    return refused.selectExpr(f"{REASONS}[0] as __reason", REASONS, KEY, FILE, ROW, "__source.*")


def rows_by_reason(judged: DataFrame) -> dict[str, int]:
    """How many rows each first reason refused; the valid ones under an empty reason."""
    counted = judged.selectExpr(f"get({REASONS}, 0) as reason")
    return {row["reason"] or "": row["count"] for row in counted.groupBy("reason").count().collect()}
