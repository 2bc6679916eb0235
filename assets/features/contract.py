"""The contract: which rows are valid and which go to quarantine, with the reason; none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from assets.partitions import bucket_expression
from assets.raw.parse import KEY, NOTED, PERIOD, REASONS, SOURCE, parse_rows, with_period
from assets.raw.profile import Profile, Timeline
from assets.raw.recipe import Recipe
from assets.raw.rules import WHERE, Rule
from assets.raw.source import ARRIVED, FILE, ROW
from assets.raw.split import CLASS, HASH, ROWS_A_CLASS, with_hash
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import partitions_for, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BUCKET = "fleet_bucket"
USABLE = f"size({REASONS}) = 0"
SEGMENTS_A_BUCKET = 100
ROWS_A_BUCKET = 500_000
FEWEST_BUCKETS, MOST_BUCKETS = 32, 1024
SUPERSEDED = "superseded"
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
    from pyspark.sql import functions as F

    parsed = parse_rows(raw, settings, profile.kinds)
    placed = _on_calendar(parsed, settings, profile.times) if profile.timeline else with_hash(parsed, profile.split_by)
    bucketed = placed.withColumn(BUCKET, F.expr(f"coalesce({bucket_expression(KEY, buckets)}, 0)"))
    partitions = min(buckets, partitions_for(raw.sparkSession, profile.rows))
    if profile.timeline is None:
        return _told_of(_ranked(bucketed.repartition(partitions, BUCKET)))
    if profile.repeated:
        return _told_of(_without_duplicates(bucketed.repartition(partitions, BUCKET)))
    return _told_of(bucketed).repartition(partitions, BUCKET)


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


def _without_duplicates(rows: DataFrame) -> DataFrame:
    """Marks rows that arrived before a good one of their segment and time, and those that a later row repeats."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    same_key = Window.partitionBy(BUCKET, KEY, PERIOD)
    alike = Window.partitionBy(BUCKET, KEY, PERIOD, F.expr(USABLE)).orderBy(F.desc(ARRIVED), F.desc(FILE), F.desc(ROW))
    newest = F.max(F.expr(f"if({USABLE}, {ARRIVED}, null)")).over(same_key)
    ranked = rows.withColumns({"__rank": F.row_number().over(alike), "__newest": newest})
    superseded = f"{KEY} is not null and {PERIOD} is not null and {ARRIVED} < __newest"
    why = f"case when {superseded} then array('{SUPERSEDED}') when {USABLE} and __rank > 1 then array('duplicate') end"
    told = ranked.withColumn("__why", F.expr(why))
    return told.withColumns(
        {
            REASONS: F.expr(f"coalesce(__why, {REASONS})"),
            NOTED: F.expr(f"if(__why is null, {NOTED}, cast(array() as array<string>))"),
        }
    ).drop("__rank", "__newest", "__why")


def _ranked(rows: DataFrame) -> DataFrame:
    """Rows with the `__period` that stands for their class and their place in it."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    same_class = Window.partitionBy(BUCKET, KEY, F.expr(USABLE), F.expr(CLASS)).orderBy(HASH, FILE, ROW)
    place = F.expr(f"{CLASS} * {ROWS_A_CLASS}") + F.row_number().over(same_class) - 1
    return rows.withColumn(PERIOD, place.cast("int")).drop(HASH)


def valid_rows(judged: DataFrame) -> DataFrame:
    """The rows that nothing is held against, without their raw cells."""
    return judged.where(USABLE).drop(SOURCE, REASONS, NOTED, ARRIVED)


def segments_in(valid: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """A row a segment: its bucket and key, rows, known labels and their mean, first and last period, whether open."""
    from pyspark.sql import functions as F

    label, last = quoted(recipe.label), profile.last_period
    return valid.groupBy(BUCKET, KEY, *[quoted(column) for column in recipe.segment]).agg(
        F.count("*").alias("__rows"),
        F.count(label).alias("__labelled"),
        F.expr(f"avg({label})").alias("__label"),
        F.expr(f"min({PERIOD})").alias("__first"),
        F.expr(f"max({PERIOD})").alias("__last"),
        F.expr(f"max({PERIOD}) > {last - recipe.closed_after}").alias("__open"),
    )


def quarantined_rows(judged: DataFrame) -> DataFrame:
    """The refused rows as they came, with `__reason` (the first), `__reasons`, `__segment`, `__file`, `__row` and
    `__arrived`, the snapshot that they came with.
    """
    refused = judged.where(f"size({REASONS}) > 0")
    return refused.selectExpr(f"{REASONS}[0] as __reason", REASONS, KEY, FILE, ROW, ARRIVED, f"{SOURCE}.*")


class Counts(NamedTuple):
    """Rows by their first reason (the valid ones under an empty one), and rows by each rule that they break."""

    by_reason: dict[str, int]
    by_rule: dict[str, int]


def counts_of(judged: DataFrame) -> Counts:
    """Counts over all rows, in one pass however many rules there are."""
    first = f"array(named_struct('rule', false, 'name', coalesce(get({REASONS}, 0), '')))"
    each = f"transform(concat({REASONS}, {NOTED}), name -> named_struct('rule', true, 'name', name))"
    told = judged.where(f"{SOURCE} is not null").selectExpr(f"inline(concat({first}, {each}))")
    fine = judged.where(f"{SOURCE} is null").selectExpr("false as rule", "'' as name")
    said = told.unionAll(fine).groupBy("rule", "name").count().collect()
    by_reason = {row["name"]: row["count"] for row in said if not row["rule"]}
    return Counts(by_reason, {row["name"]: row["count"] for row in said if row["rule"]})


def refuse_failed(judged: DataFrame, rules: Sequence[Rule], counts: Counts) -> None:
    """Looks at the rules that no more than a share of the rows may break.

    Raises:
        InputError: more rows break one; each is named with some of the rows.
    """
    rows, by_rule = sum(counts.by_reason.values()), counts.by_rule
    failed = [
        rule for rule in rules if rule.action == "fail" and by_rule.get(rule.name, 0) > (rule.tolerance or 0.0) * rows
    ]
    if not failed:
        return
    examples, found = examples_of(judged, [rule.name for rule in failed]), []
    for rule in failed:
        tolerated = f"{rule.tolerance or 0.0:.2%} are tolerated"
        what = f"{rule.name} is broken by {by_rule[rule.name]:,} of {rows:,} rows, {tolerated}"
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
