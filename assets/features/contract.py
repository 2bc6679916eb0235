"""The contract: which rows are valid and which go to quarantine, with the reason; none is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from assets.features.resolved import with_places, without_duplicates
from assets.partitions import bucket_expression
from assets.raw.parse import KEY, NOTED, PERIOD, REASONS, SOURCE, parse_rows, with_period
from assets.raw.profile import Profile, Timeline
from assets.raw.rules import WHERE, Rule
from assets.raw.source import ARRIVED, FILE, ROW
from assets.raw.split import HASH, with_hash
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import light_collections, partitions_for, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BUCKET = "fleet_bucket"
USABLE = f"size({REASONS}) = 0"
SEGMENTS_A_BUCKET = 100
ROWS_A_BUCKET = 500_000
FEWEST_BUCKETS, MOST_BUCKETS = 32, 1024
ROWS_BACK = 20_000
EXAMPLES, LONGEST_EXAMPLE = 3, 200


def bucket_count(segments: int, rows: int) -> int:
    """How many buckets hold a fleet: enough for parallel work, few enough to be worth a file each."""
    wanted = max(-(-segments // SEGMENTS_A_BUCKET), -(-rows // ROWS_A_BUCKET), min(segments, FEWEST_BUCKETS))
    return max(1, min(wanted, MOST_BUCKETS))


def judged_rows(raw: DataFrame, settings: Settings, profile: Profile, buckets: int) -> DataFrame:
    """Every raw row, typed and placed on the calendar, with the reasons why it is refused, if any.

    Gives the columns of `parse_rows`, `__period` and `fleet_bucket`; `__source` and `__file` are null
    where nothing is held against it. Of rows with the same segment and time the one that arrived last stays valid, of
    one snapshot the last read; the others are superseded, or duplicates. Rows without time are placed by their hash,
    and none is a duplicate.
    """
    partitions = min(buckets, partitions_for(raw.sparkSession, profile.rows))
    rows = placed_frame(raw, settings, profile, buckets).repartition(partitions, BUCKET)
    if profile.timeline is None:
        return _told_of(_of_whole_segments(rows, with_places))
    return _told_of(_of_whole_segments(rows, without_duplicates)) if profile.repeated else rows


def placed_frame(raw: DataFrame, settings: Settings, profile: Profile, buckets: int) -> DataFrame:
    """The same, each row looked at by itself: with `__hash` instead of `__period` where there is no time."""
    from pyspark.sql import functions as F

    parsed = parse_rows(raw, settings, profile.kinds)
    placed = _on_calendar(parsed, settings, profile.times) if profile.timeline else with_hash(parsed, profile.split_by)
    bucketed = placed.withColumn(BUCKET, F.expr(f"coalesce({bucket_expression(KEY, buckets)}, 0)"))
    return bucketed if profile.timeline is None or profile.repeated else _told_of(bucketed)


def _of_whole_segments(rows: DataFrame, work: Callable[[pa.Table], pa.Table]) -> DataFrame:
    """What workers make of rows of which those of a segment lie in one partition."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import IntegerType, StructField, StructType

    names = rows.columns
    made = [*(name for name in names if name != HASH), *([PERIOD] if PERIOD not in names else [])]
    types = {field.name: field.dataType for field in rows.schema} | {PERIOD: IntegerType()}
    schema = StructType([StructField(f"c{n}", types[name]) for n, name in enumerate(made)])

    def worked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        light_collections()
        if held := list(batches):
            found = work(pa.Table.from_batches(held).rename_columns(names)).select(made)
            yield from found.rename_columns([f"c{n}" for n in range(len(made))]).to_batches(ROWS_BACK)

    # Spark would take a dot in a name for a field of a struct
    plain = rows.select(*[F.col(quoted(name)).alias(f"c{n}") for n, name in enumerate(names)])
    return plain.mapInArrow(worked, schema).toDF(*made)


def _told_of(rows: DataFrame) -> DataFrame:
    """Rows that carry their raw cells and file, which are most of the bytes, only if somebody will ask for them."""
    from pyspark.sql import functions as F

    asked = f"size({REASONS}) > 0 or size({NOTED}) > 0"
    return rows.withColumns({c: F.expr(f"if({asked}, {c}, null)") for c in (SOURCE, FILE)})


def _on_calendar(parsed: DataFrame, settings: Settings, timeline: Timeline) -> DataFrame:
    from pyspark.sql import functions as F

    placed = with_period(parsed, timeline.calendar, timeline.first_time, timeline.last_time)
    label = quoted(settings.label)
    further = [
        f"if({USABLE} and {PERIOD} is null, 'off_calendar', '')",
        f"if({USABLE} and {PERIOD} > {timeline.last_period} and {label} is not null, 'label_after_end', '')",
    ]
    return placed.withColumn(REASONS, F.expr(f"array_remove(concat({REASONS}, array({', '.join(further)})), '')"))


def valid_rows(judged: DataFrame) -> DataFrame:
    """The rows that nothing is held against, without their raw cells."""
    return judged.where(USABLE).drop(SOURCE, REASONS, NOTED, ARRIVED)


class Counts(NamedTuple):
    """Rows by their first reason (the valid ones under an empty one), and rows by each rule that they break."""

    by_reason: dict[str, int]
    by_rule: dict[str, int]

    @property
    def rows(self) -> dict[str, Any]:
        """How many rows were `read`, are `valid`, and are `quarantined`, the latter also `by_reason`."""
        refused = {reason: rows for reason, rows in self.by_reason.items() if reason}
        read, quarantined = sum(self.by_reason.values()), sum(refused.values())
        return {"read": read, "valid": read - quarantined, "quarantined": quarantined, "by_reason": refused}

    def failed(self, rules: Iterable[Rule]) -> list[Rule]:
        """The rules that no more than a share of the rows may break, and more do."""
        rows = sum(self.by_reason.values())
        may_fail = (rule for rule in rules if rule.action == "fail")
        return [rule for rule in may_fail if self.by_rule.get(rule.name, 0) > (rule.tolerance or 0.0) * rows]


def refuse_failed(parsed: DataFrame, failed: Sequence[Rule], counts: Counts) -> None:
    """Tells of the rules that too many of some rows (see `parse_rows`) break.

    Raises:
        InputError: each is named with some of the rows.
    """
    rows, examples = sum(counts.by_reason.values()), examples_of(parsed, [rule.name for rule in failed])
    found = []
    for rule in failed:
        tolerated = f"{rule.tolerance or 0.0:.2%} are tolerated"
        what = f"{rule.name} is broken by {counts.by_rule[rule.name]:,} of {rows:,} rows, {tolerated}"
        such = "; ".join(f"{each.file}: {each.row}" for each in examples if each.rule == rule.name)
        found.append(Problem(f"{WHERE}.{rule.where}", what, f"mend the data, or the rule; such rows: {such}"))
    raise InputError(found)


class Example(NamedTuple):
    """A row that breaks a rule: the file that it came in, and its raw cells as JSON, cut if they are long."""

    rule: str
    file: str
    row: str


def examples_of(parsed: DataFrame, rules: Sequence[str]) -> list[Example]:
    """The first few rows that break each of some rules, in one pass however many rules there are."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    broken = parsed.select(FILE, ROW, SOURCE, F.explode(F.concat(REASONS, NOTED)).alias("rule"))
    place = F.row_number().over(Window.partitionBy("rule").orderBy(FILE, ROW))
    first = broken.where(F.col("rule").isin(list(rules))).withColumn("place", place).where(f"place <= {EXAMPLES}")
    found = first.select("rule", "place", FILE, F.to_json(SOURCE).alias("row")).orderBy("rule", "place").collect()
    return [Example(row["rule"], row[FILE].rpartition("/")[2], row["row"][:LONGEST_EXAMPLE]) for row in found]
