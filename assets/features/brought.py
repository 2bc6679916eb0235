"""Rows that a user brings to be scored: read, placed, and given the features that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from assets.features.build import features_at
from assets.features.contract import BUCKET
from assets.features.publish import FeatureSet
from assets.partitions import bucket_expression
from assets.raw.fetch import within_reach
from assets.raw.parse import KEY, PERIOD, REASONS, SOURCE, TIME, Kind, parse_rows, with_period
from assets.raw.read import read_source, under_own_names, unreadable
from assets.raw.recipe import Recipe
from assets.raw.source import FILE, LINEAGE, PARSED_BY_US, ROW, find_files, format_of
from assets.raw.text_files import refuse_unreadable_text
from resources.contract import Contract
from resources.files import files_under
from resources.frames import frame_of, save_frame
from resources.problems import InputError, Problem
from resources.settings import Settings, Source
from resources.spark import Spark, quoted, spark_errors

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

AT, REFUSED = "__at", "__reason"
OUTSIDE = "outside_history_and_horizon"


def stage_brought(
    spark: Spark,
    settings: Settings,
    table: str,
    features: FeatureSet,
    recipe: Recipe,
    kinds: Mapping[str, Kind],
    folder: str,
) -> DataFrame:
    """The rows of a table that a user brought, none lost, now as Parquet in a folder of ours.

    Gives `__source` (the row as it came), `__segment`, `fleet_bucket`, `__period` (the row's number in its segment),
    `__at` (the period that it is about), `__reason` (why it can have no forecast, or null), `__file` and `__row` (its
    place in the table), and the columns of `kinds`, typed. Without time a row is about the period a horizon after all.

    Raises:
        InputError: no such table, one that cannot be read, or that lacks a column that the models look at.
    """
    aliases_only = Contract(aliases=settings.contract.aliases)  # rows are brought to be scored, not to be refused
    theirs = settings.model_copy(update={"source": _source(settings, table), "contract": aliases_only})
    needed = [*recipe.segment, *recipe.time_columns, *kinds]
    try:
        with within_reach(spark.session(), find_files(theirs)) as files:
            refuse_unreadable_text(files, theirs)
            raw = under_own_names(read_source(spark.session(), files, theirs, needed), aliases_only)
            placed = _placed(parse_rows(raw, theirs, dict(kinds)), features, recipe)
            save_frame(_numbered(placed, features, kinds), folder)
    except spark_errors() as error:
        raise unreadable(theirs, error) from None
    except InputError as error:
        raise InputError([Problem(f"--input {table}", found.what, found.remedy) for found in error.problems]) from None
    return frame_of(spark.session(), [file.uri for file in files_under(folder) if file.uri.endswith(".parquet")])


def _numbered(placed: DataFrame, features: FeatureSet, kinds: Iterable[str]) -> DataFrame:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    bucketed = placed.withColumn(BUCKET, F.expr(f"coalesce({bucket_expression(KEY, features.buckets)}, 0)"))
    in_segment = Window.partitionBy(BUCKET, KEY).orderBy(FILE, ROW)
    numbered = bucketed.withColumn(PERIOD, F.row_number().over(in_segment))
    return numbered.select(SOURCE, KEY, BUCKET, PERIOD, AT, REFUSED, FILE, ROW, *[quoted(column) for column in kinds])


def _source(settings: Settings, table: str) -> Source:
    """The brought table as a source; reader options are those of `fleet.yaml` if it is in the same format."""
    usual = settings.source
    same = format_of(table) == (usual.format or format_of(usual.path))
    options = usual.options if same else {key: usual.options[key] for key in PARSED_BY_US if key in usual.options}
    return Source(path=table, options=options)


def _placed(parsed: DataFrame, features: FeatureSet, recipe: Recipe) -> DataFrame:
    """Parsed rows with the period that they are about and the reason why they are refused."""
    from pyspark.sql import functions as F

    last = features.profile.last_period
    if recipe.time is None:
        return parsed.selectExpr("*", f"{last + recipe.horizon} as {AT}", f"get({REASONS}, 0) as {REFUSED}")
    timeline = features.profile.times
    first, reach = timeline.first_time, timeline.ahead(recipe.horizon)[-1]
    beyond = f"{TIME} < timestamp_ntz'{first}' or {TIME} > timestamp_ntz'{reach}'"
    escaped = recipe.time.replace("\\", "\\\\").replace("'", "\\'")
    reasons = [
        f"get({REASONS}, 0)",
        f"if({beyond}, '{OUTSIDE}:{escaped}', null)",
        f"if({AT} is null, 'off_calendar', null)",
    ]
    placed = with_period(parsed, timeline.calendar, first, reach).withColumnRenamed(PERIOD, AT)
    return placed.withColumn(REFUSED, F.expr(f"coalesce({', '.join(reasons)})"))


def brought_features(
    rows: DataFrame, history: DataFrame | None, features: FeatureSet, recipe: Recipe, types: Mapping[str, str]
) -> DataFrame:
    """Features of a recipe for the rows (see `stage_brought`) that nothing is held against and that it reaches.

    Gives a feature table: the segment columns, `__segment`, `__period` (the row's number), the label (unknown), the
    columns of `recipe.features`, and `__at`, by bucket. `history` are the valid rows behind the committed features; a
    brought row stands in for the one of its segment and time, and keeps the values that it came with. `types` are those
    that the segment columns have in the committed features.
    """
    from pyspark.sql import functions as F

    good = rows.where(f"{REFUSED} is null and {AT} <= {features.profile.last_period + recipe.horizon}")
    found = good if history is None else _with_history(good, history, features, recipe)
    columns = [
        *[F.expr(f"try_cast({SOURCE}.{quoted(name)} as {types[name]})").alias(name) for name in recipe.segment],
        *[KEY, PERIOD, AT, BUCKET],
        F.lit(None).cast("double").alias(recipe.label),
        *[F.col(quoted(name)) for name in recipe.features],
    ]
    return found.repartition(BUCKET).select(*columns).sortWithinPartitions(BUCKET, KEY, PERIOD)


def _with_history(good: DataFrame, history: DataFrame, features: FeatureSet, recipe: Recipe) -> DataFrame:
    from pyspark.sql import functions as F

    last, known = features.profile.last_period, recipe.known_ahead
    united = _united(good, history, last + recipe.horizon, recipe)
    built = features_at(united, recipe, features.profile).withColumnRenamed(PERIOD, AT)
    lagged = built.select(
        BUCKET,
        KEY,
        AT,
        *[F.col(quoted(name)) for name in recipe.features if name not in known],
        F.struct(F.lit(True).alias("__there"), *[F.col(quoted(name)) for name in known]).alias("__built"),
    )
    own = {name: F.expr(_own_or_carried(name, last)) for name in known}
    return good.join(lagged, [BUCKET, KEY, AT]).withColumns(own) if own else good.join(lagged, [BUCKET, KEY, AT])


def _own_or_carried(column: str, last: int) -> str:
    return f"if({AT} > {last}, coalesce({quoted(column)}, __built.{quoted(column)}), {quoted(column)})"


def _united(good: DataFrame, history: DataFrame, through: int, recipe: Recipe) -> DataFrame:
    """The history of the brought segments with the brought rows in it; of several at one time, the last read."""
    from pyspark.sql import functions as F

    brought = F.struct(F.lit(True).alias("__there"), *[F.col(quoted(name)) for name in recipe.known_ahead])
    by_time = good.groupBy(BUCKET, KEY, F.col(AT).alias(PERIOD)).agg(
        F.max_by(brought, F.struct(FILE, ROW)).alias("__brought")
    )
    named = by_time.select(BUCKET, KEY).distinct()
    past = history.where(f"{PERIOD} <= {through}").join(named, [BUCKET, KEY], "left_semi")
    return past.join(by_time, [BUCKET, KEY, PERIOD], "full").select(
        BUCKET, KEY, PERIOD, *_columns([recipe.label, *recipe.past_only]), *_replaced(recipe.known_ahead)
    )


def _columns(names: Sequence[str]) -> list[Column]:
    from pyspark.sql import functions as F

    return [F.col(quoted(name)) for name in names]


def _replaced(names: Sequence[str]) -> list[Column]:
    from pyspark.sql import functions as F

    value = "if(__brought is null, {0}, __brought.{0})"
    return [F.expr(value.format(quoted(name))).alias(name) for name in names]


def original_columns(rows: DataFrame) -> list[str]:
    """The columns that brought rows came with, in their order."""
    return [field.name for field in rows.schema[SOURCE].dataType if field.name not in LINEAGE]
