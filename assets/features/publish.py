"""From the raw snapshot to committed features, quarantine and list of segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.features.build import feature_schema
from assets.features.contract import BUCKET, bucket_count, refuse_failed
from assets.features.handed import Handed, handed_over
from assets.features.settled import Folders, Settled, quarantine_schema, segments_schema
from assets.raw.inspect import snapshot_profile
from assets.raw.parse import KEY, parse_rows
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe, recipe_of
from assets.raw.rules import rules_of
from assets.raw.snapshot import RAW, RawRows, snapshot_rows
from assets.raw.tuned import with_tuned
from resources.frames import frame_of
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say

FEATURES, QUARANTINE, SEGMENTS = "features", "quarantine", "segments"
MOST_CATEGORIES = 1000
CODE_VERSION = code_version(
    "assets.raw.cells",
    "assets.raw.arrow_cells",
    "assets.raw.parse",
    "assets.raw.typed",
    "assets.raw.rules",
    "assets.raw.calendar",
    "assets.raw.split",
    "assets.raw.recipe",
    "assets.features.contract",
    "assets.features.placed",
    "assets.features.resolved",
    "assets.features.settled",
    "assets.features.ordered",
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


def publish_features(lake: Lake, spark: Spark, settings: Settings, say: Say | None = None) -> FeatureSet:
    """Commits quarantine, segments and, last, features of the current snapshot, unless they exist."""
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
        "buckets": table.record().get("buckets") or bucket_count(profile.segments, profile.rows),
    }
    rows = snapshot_rows(raw, settings)
    with handed_over(lake, spark, rows, settings, recipe, record, say) as handed:
        return _commit(lake, spark, handed, rows, settings, recipe, record, say)


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
    lake: Lake,
    spark: Spark,
    handed: Handed,
    rows: RawRows,
    settings: Settings,
    recipe: Recipe,
    record: dict[str, Any],
    say: Say | None,
) -> FeatureSet:
    features, segments, quarantine = (lake.table(name) for name in (FEATURES, SEGMENTS, QUARANTINE))
    source = handed.placed.source
    with features.staging() as staged, segments.staging() as listed, quarantine.staging() as refused:
        found = handed.settle(spark, recipe, Folders(staged.uri, listed.uri, refused.uri), say)
        if found.counts.rows["read"] != rows.rows:  # what was handed over is ours to count, not Spark's
            raise RuntimeError(f"of {rows.rows:,} rows {found.counts.rows['read']:,} arrived; nothing is committed")
        if failed := found.counts.failed(rules_of(settings)):
            kinds = handed.placing.profile.kinds
            refuse_failed(parse_rows(rows.frame(spark, settings), settings, kinds), failed, found.counts)
        recipe = recipe.model_copy(update={"categories": _categories(spark, handed, found, recipe)})
        record |= {"recipe": recipe.model_dump(), "rows": found.counts.rows, "by_rule": found.counts.by_rule}
        record["quarantine_version"] = quarantine.commit(
            refused, quarantine_schema(source), record, files=found.files["quarantine"]
        )
        record["segments_version"] = segments.commit(
            listed, segments_schema(source, recipe), record, files=found.files["segments"]
        )
        record["segments"] = found.segments
        version = features.commit(
            staged, feature_schema(recipe, source), record, partition_by=[BUCKET], files=found.files["features"]
        )
    return FeatureSet(version, features.record(), True)


def _categories(spark: Spark, handed: Handed, found: Settled, recipe: Recipe) -> dict[str, list[str]]:
    """The most frequent values of each text column, sorted; models see a value as its place in the list."""
    text = [c for c in dict.fromkeys([*recipe.known_ahead, *recipe.past_only]) if recipe.kinds[c] == "text"]
    if not text or not found.files["values"]:
        return {column: [] for column in text}
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    counted = frame_of(spark.session(), [f"{handed.given.folder}/{file}" for file in found.files["values"]])
    summed = counted.groupBy("column", "value").agg(F.sum("rows").alias("rows"))
    place = F.row_number().over(Window.partitionBy("column").orderBy(F.desc("rows"), "value"))
    most = summed.withColumn("place", place).where(f"place <= {MOST_CATEGORIES}").select("column", "value").collect()
    return {column: sorted(row["value"] for row in most if row["column"] == column) for column in text}
