"""From the raw snapshot to committed features, quarantine and list of segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.features.build import write_features
from assets.features.contract import (
    BUCKET,
    bucket_count,
    counts_of,
    judged_rows,
    quarantined_rows,
    refuse_failed,
    segments_in,
    valid_rows,
)
from assets.raw.inspect import snapshot_profile
from assets.raw.parse import KEY
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe, recipe_of
from assets.raw.rules import Rule, failed_at_work, rules_of
from assets.raw.snapshot import RAW, read_snapshot
from assets.raw.tuned import with_tuned
from resources.frames import save_frame
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import Spark, quoted, spark_errors
from resources.table import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FEATURES, QUARANTINE, SEGMENTS = "features", "quarantine", "segments"
MOST_CATEGORIES = 1000
CODE_VERSION = code_version(
    "assets.raw.cells",
    "assets.raw.parse",
    "assets.raw.rules",
    "assets.raw.calendar",
    "assets.raw.split",
    "assets.raw.recipe",
    "assets.features.contract",
    "assets.features.build",
    "assets.features.grid",
    "assets.features.point_in_time",
    "assets.features.windows",
)


ABSURD, USUAL = 1_000.0, 0.5  # so many times the usual label, a quantile of those that are not 0, is a slip


@dataclass(frozen=True)
class FeatureSet:
    """A committed feature table with what belongs to it: recipe, counts, quarantine, segments."""

    version: int
    record: dict[str, Any]
    is_new: bool
    built: Mapping[int, tuple[str, ...]] | None = None  # files of buckets that are there for a while, not committed

    @property
    def digest(self) -> str:
        """Data version: equal for equal rows, recipe and code."""
        return self.record["digest"]

    @property
    def recipe(self) -> Recipe:
        """The recipe that shaped the columns."""
        return Recipe.model_validate(self.record["recipe"])

    @property
    def profile(self) -> Profile:
        """What the snapshot behind it is like."""
        return Profile.from_json(self.record["profile"])

    @property
    def buckets(self) -> int:
        """How many buckets the segments are spread over."""
        return self.record["buckets"]


def current_features(lake: Lake) -> FeatureSet:
    """The committed feature set.

    Raises:
        FileNotFoundError: none was committed yet.
    """
    table = lake.table(FEATURES)
    version = table.version()
    if version is None:
        raise FileNotFoundError("no features were built yet: run the weekly cycle first")
    return FeatureSet(version, table.record(), False)


def current_recipe(lake: Lake, spark: Spark, settings: Settings) -> Recipe:
    """Today's recipe: the settings completed by the last snapshot, with the categories of the features.

    With the parameters that a search has chosen for the fleet, where there was one.
    """
    recipe = recipe_of(settings, _profile(lake, spark, settings))
    categories = current_features(lake).recipe.categories if lake.table(FEATURES).exists() else {}
    return with_tuned(recipe.model_copy(update={"categories": categories}), lake, settings)


def recipe_of_committed(lake: Lake, spark: Spark, settings: Settings, features: FeatureSet) -> Recipe:
    """Today's recipe, for work on features as they are committed.

    Raises:
        InputError: it asks for other features.
    """
    recipe = current_recipe(lake, spark, settings)
    if not recipe.shapes_like(features.recipe):
        what = "asks for other features than are committed"
        raise InputError([Problem("fleet.yaml", what, "materialize features first: fleet run")])
    return recipe


def open_segments(lake: Lake, features: FeatureSet) -> int:
    """How many segments are to be forecast."""
    listed = lake.table(SEGMENTS).arrow(["__open"], version=features.record["segments_version"])
    return pc.sum(listed["__open"]).as_py() or 0


def mean_label(lake: Lake, features: FeatureSet) -> float:
    """Mean of all known labels of the fleet, 0 without any: the forecast where nothing is known of a segment.

    Segments whose own mean is `ABSURD` times the usual one are left out: one slip of the hand would be all there is.
    """
    known = lake.table(SEGMENTS).arrow([KEY, "__labelled", "__label"], version=features.record["segments_version"])
    known = known.filter(pc.greater(known["__labelled"], 0)).sort_by(KEY)  # sums depend on the order
    sizes = pc.abs(known["__label"])
    usual = pc.quantile(sizes.filter(pc.greater(sizes, 0)), q=USUAL)[0].as_py()
    if usual:
        known = known.filter(pc.less_equal(sizes, ABSURD * usual))
    count = pc.sum(known["__labelled"]).as_py() or 0
    return pc.sum(pc.multiply(known["__label"], known["__labelled"])).as_py() / count if count else 0.0


def publish_features(lake: Lake, spark: Spark, settings: Settings) -> FeatureSet:
    """Commits quarantine, segments and, last, features of the current snapshot, unless they exist."""
    from pyspark import StorageLevel

    raw = lake.table(RAW)
    profile = _profile(lake, spark, settings)
    recipe = recipe_of(settings, profile)
    digest = features_digest(raw.record()["digest"], recipe, settings)
    table = lake.table(FEATURES)
    if table.record().get("digest") == digest:
        return FeatureSet(table.version() or 0, table.record(), False)
    record = {
        "digest": digest,
        "code_version": CODE_VERSION,
        "profile": profile.to_json(),
        "raw_version": raw.version(),
        "raw_digest": raw.record()["digest"],
    }
    read = read_snapshot(spark, raw, settings)
    record["buckets"] = table.record().get("buckets") or bucket_count(profile.segments, profile.rows)
    judged = judged_rows(read, settings, profile, record["buckets"]).persist(StorageLevel.DISK_ONLY)
    try:
        return _commit(lake, judged, rules_of(settings), recipe, profile, record)
    except spark_errors() as error:
        raise failed_at_work(error, rules_of(settings)) or error from None
    finally:
        judged.unpersist()


def features_digest(raw_digest: str, recipe: Recipe, settings: Settings) -> str:
    """Data version of the features that a recipe makes of a snapshot."""
    return version_of(raw_digest, recipe.features_digest, settings.contract.model_dump_json(), CODE_VERSION)


def _profile(lake: Lake, spark: Spark, settings: Settings) -> Profile:
    """The snapshot's profile; rows without time go on being split by the columns that split them before.

    Otherwise a new feature would deal all rows anew, and fleets with it and without it could not be compared.
    """
    profile, features = snapshot_profile(lake, spark, settings), lake.table(FEATURES)
    before = Profile.from_json(features.record()["profile"]).split_by if features.exists() else []
    if profile.timeline or not before or not set(before) <= set(lake.table(RAW).schema().names):
        return profile
    return profile.model_copy(update={"split_by": before})


def _commit(
    lake: Lake, judged: DataFrame, rules: list[Rule], recipe: Recipe, profile: Profile, record: dict[str, Any]
) -> FeatureSet:
    counts = counts_of(judged)
    refuse_failed(judged, rules, counts)
    by_reason, valid = counts.by_reason, valid_rows(judged)
    rows = {
        "read": sum(by_reason.values()),
        "valid": by_reason.pop("", 0),
        "quarantined": sum(by_reason.values()),
        "by_reason": by_reason,
    }
    recipe = recipe.model_copy(update={"categories": _categories(valid, recipe)})
    record |= {"recipe": recipe.model_dump(), "rows": rows, "by_rule": counts.by_rule}
    record["quarantine_version"] = _write(lake.table(QUARANTINE), quarantined_rows(judged).coalesce(4), record)
    record["segments_version"], record["segments"] = _write_segments(lake, valid, recipe, profile, record)
    table = lake.table(FEATURES)
    with table.staging() as staging:
        columns, files = write_features(valid, recipe, profile, staging.uri)
        version = table.commit(staging, columns, record, partition_by=[BUCKET], files=files)
    return FeatureSet(version, table.record(), True)


def _categories(valid: DataFrame, recipe: Recipe) -> dict[str, list[str]]:
    """The most frequent values of each text column, sorted; models see a value as its place in the list."""
    text = [c for c in [*recipe.known_ahead, *recipe.past_only] if recipe.kinds[c] == "text"]
    found = {}
    for column in text:
        counted = valid.where(f"{quoted(column)} is not null").groupBy(quoted(column)).count()
        most = counted.orderBy("count", quoted(column), ascending=[False, True]).limit(MOST_CATEGORIES)
        found[column] = sorted(row[0] for row in most.collect())
    return found


def _write_segments(
    lake: Lake, valid: DataFrame, recipe: Recipe, profile: Profile, record: dict[str, Any]
) -> tuple[int, int]:
    segments = segments_in(valid, recipe, profile)
    version = _write(lake.table(SEGMENTS), segments.coalesce(1), record)
    return version, lake.table(SEGMENTS).arrow(columns=[KEY], version=version).num_rows


def _write(table: Table, frame: DataFrame, record: dict[str, Any]) -> int:
    from pyspark.sql.pandas.types import to_arrow_schema

    with table.staging() as staging:
        save_frame(frame, staging.uri)
        return table.commit(staging, to_arrow_schema(frame.schema, timezone="UTC"), record)
