"""Features of another recipe than today's, for an incumbent that was trained on them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from assets.features.contract import BUCKET, judged_rows, valid_rows
from assets.features.handed import handed_over
from assets.features.publish import FEATURES, FeatureSet, features_digest
from assets.features.settled import Folders
from assets.raw.recipe import Recipe
from assets.raw.snapshot import RAW, read_snapshot, snapshot_rows
from resources.files import remove
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark
from resources.table import Staging

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BucketFiles = dict[int, tuple[str, ...]]


def committed_files(lake: Lake, features: FeatureSet) -> BucketFiles:
    """URIs of the feature files of each bucket: committed, or built for the time being."""
    if features.built is not None:
        return dict(features.built)
    return by_bucket(lake.table(FEATURES).files(features.version))


@contextmanager
def files_for(
    lake: Lake, spark: Spark, settings: Settings, features: FeatureSet, recipe: Recipe
) -> Iterator[BucketFiles]:
    """Feature files that fit a recipe: the committed ones, or some built for the time of the `with` block.

    Raises:
        InputError: the snapshot lacks a column that the recipe uses.
    """
    if recipe.features_digest == features.recipe.features_digest:
        yield committed_files(lake, features)
        return
    staging = Staging(lake.table(FEATURES).uri, f"rebuilt-{uuid.uuid4().hex}")
    as_trained = _as_trained(settings, recipe)
    rows = snapshot_rows(lake.table(RAW), as_trained, features.record["raw_version"])
    try:
        with handed_over(lake, spark, rows, as_trained, recipe, features.record) as handed:
            found = handed.settle(spark, recipe, Folders(staging.uri))
        yield by_bucket([f"{staging.uri}/{file}" for file in found.files["features"]])
    finally:
        remove(staging.uri)


@contextmanager
def features_of(
    lake: Lake, spark: Spark, settings: Settings, features: FeatureSet, recipe: Recipe
) -> Iterator[FeatureSet]:
    """The feature set that a recipe makes of the same snapshot, its files there for the time of the `with` block.

    Raises:
        InputError: the snapshot lacks a column that the recipe uses.
    """
    digest = features_digest(features.record["raw_digest"], recipe, settings)
    record = {**features.record, "recipe": recipe.model_dump(), "digest": digest}
    with files_for(lake, spark, settings, features, recipe) as files:
        yield replace(features, record=record, built=files)


def rows_as_trained(lake: Lake, spark: Spark, settings: Settings, features: FeatureSet, recipe: Recipe) -> DataFrame:
    """The valid rows behind a feature set, typed as a recipe has them.

    Raises:
        InputError: the snapshot lacks a column that the recipe uses.
    """
    as_trained = _as_trained(settings, recipe)
    profile = features.profile.model_copy(update={"kinds": recipe.kinds})
    raw = read_snapshot(spark, lake.table(RAW), as_trained, features.record["raw_version"])
    return valid_rows(judged_rows(raw, as_trained, profile, features.buckets))


def _as_trained(settings: Settings, recipe: Recipe) -> Settings:
    theirs = settings.features.model_copy(update={"known_ahead": recipe.known_ahead, "past_only": recipe.past_only})
    return settings.model_copy(update={"features": theirs})


def by_bucket(files: Iterable[str]) -> BucketFiles:
    """Files of Hive layout by the bucket they hold."""
    found: dict[int, tuple[str, ...]] = {}
    for file in files:
        bucket = int(file.rsplit(f"{BUCKET}=", 1)[1].split("/", 1)[0])
        found[bucket] = (*found.get(bucket, ()), file)
    return found
