"""What a raw table without time is: rows, kinds, the columns that split it; refused where nothing could be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assets.raw.description import WORST, Description
from assets.raw.parse import KEY, NOTED, REASONS, Kind, parse_rows
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe, recipe_of
from assets.raw.segment_facts import untrainable
from assets.raw.split import CLASS, with_hash
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BINS = 40


def inspect_without_time(
    raw: DataFrame, settings: Settings, kinds: dict[str, Kind]
) -> tuple[Profile, Recipe, Description]:
    """Profile and recipe of raw rows without time, and what people are shown of them.

    Raises:
        InputError: no rows, no labels, or no segment that could be trained.
    """
    rows = with_hash(parse_rows(raw, settings, kinds), [*settings.segment, *kinds])
    by_segment = _by_segment(rows, settings).persist()
    try:
        profile, recipe = _inspected(by_segment, settings, kinds)
        return profile, recipe, _described(rows, by_segment, settings)
    finally:
        by_segment.unpersist()


def _by_segment(rows: DataFrame, settings: Settings) -> DataFrame:
    """A row a segment: its rows, usable labels, and those that are learnt: how many, the lowest, the highest."""
    from pyspark.sql import functions as F

    label = quoted(settings.label)
    usable = f"size({REASONS}) = 0 and size({NOTED}) >= 0 and {label} is not null"
    learnt = f"{usable} and {CLASS} < 2"
    return rows.groupBy(KEY).agg(
        F.count("*").alias("rows"),
        F.expr(f"count_if({usable})").alias("labels"),
        F.expr(f"count_if({learnt})").alias("learnt"),
        F.expr(f"min({label}) filter (where {learnt})").alias("lowest"),
        F.expr(f"max({label}) filter (where {learnt})").alias("highest"),
    )


def _inspected(by_segment: DataFrame, settings: Settings, kinds: dict[str, Kind]) -> tuple[Profile, Recipe]:
    from pyspark.sql import functions as F

    profile = Profile(rows=0, kinds=kinds, split_by=[*settings.segment, *kinds])
    recipe = recipe_of(settings, profile)
    found = by_segment.agg(
        F.expr("coalesce(sum(rows), 0)").alias("rows"),
        F.expr("coalesce(sum(labels), 0)").alias("labels"),
        F.expr("count_if(labels > 0)").alias("segments"),
        F.expr(f"count_if(learnt >= {recipe.minimum_history} and lowest < highest)").alias("trainable"),
    ).first()
    assert found is not None, "an aggregate without groups gives one row"
    if not found["rows"]:
        raise InputError([Problem(settings.source.path, "holds no rows", "give a table with rows")])
    if not found["labels"]:
        what = f"no row has a usable value in {settings.label!r}"
        raise InputError([Problem("fleet.yaml label", what, "name a column that holds numbers")])
    if problems := untrainable(found["segments"], found["trainable"], recipe):
        raise InputError(problems)
    return profile.model_copy(update={"rows": found["rows"], "segments": found["segments"]}), recipe


def _described(rows: DataFrame, by_segment: DataFrame, settings: Settings) -> Description:
    from pyspark.sql import functions as F

    named = by_segment.select(F.col(KEY).alias("segment"), "rows", F.expr("rows - labels").alias("empty labels"))
    worst = named.orderBy(F.desc("empty labels"), "rows", "segment").limit(WORST).collect()
    usable = rows.where(f"{quoted(settings.label)} is not null and size({REASONS}) = 0")
    label = label_spans(usable.select(F.col(quoted(settings.label)).alias("label")))
    return Description(segments=by_segment.count(), emptiest=[row.asDict() for row in worst], label=label)


def label_spans(labels: DataFrame) -> dict[str, list[Any]]:
    """How many rows have a `label` in each of 40 equal spans: where the span begins, its `width`, `rows`.

    The spans cover the labels between the 0.1% and 99.9% quantiles; what lies outside counts in the first or last.
    """
    from pyspark.sql import functions as F

    edges = labels.agg(F.expr("percentile_approx(label, array(0.001, 0.999))")).first()
    low, high = edges[0] if edges else (0.0, 0.0)
    width = (high - low) / BINS or 1.0
    place = f"greatest(0, least({BINS - 1}, floor((label - double('{low}')) / double('{width}'))))"
    found = sorted(labels.selectExpr(f"{place} as place").groupBy("place").count().collect())
    begins = [low + row["place"] * width for row in found]
    return {"label": begins, "width": [width] * len(found), "rows": [row["count"] for row in found]}
