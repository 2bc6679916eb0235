"""What a raw table without time is: rows, kinds, the columns that split it; refused where nothing could be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def inspect_without_time(raw: DataFrame, settings: Settings, kinds: dict[str, Kind]) -> tuple[Profile, Recipe]:
    """Profile and recipe of raw rows without time.

    Raises:
        InputError: no rows, no labels, or no segment that could be trained.
    """
    from pyspark.sql import functions as F

    split_by = [*settings.segment, *kinds]
    rows = with_hash(parse_rows(raw, settings, kinds), split_by)
    usable = f"size({REASONS}) = 0 and size({NOTED}) >= 0 and {quoted(settings.label)} is not null"
    learnt, label = f"{usable} and {CLASS} < 2", quoted(settings.label)
    by_segment = rows.groupBy(KEY).agg(
        F.count("*").alias("rows"),
        F.expr(f"count_if({usable})").alias("labels"),
        F.expr(f"count_if({learnt})").alias("learnt"),
        F.expr(f"min({label}) filter (where {learnt})").alias("lowest"),
        F.expr(f"max({label}) filter (where {learnt})").alias("highest"),
    )
    profile = Profile(rows=0, kinds=kinds, split_by=split_by)
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
