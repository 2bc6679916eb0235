"""Features of whole tables: Spark brings the rows of a bucket together, a worker turns them into features."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.features.contract import BUCKET
from assets.features.grid import known_grid
from assets.features.point_in_time import ASSUMED, in_order, point_in_time, with_future
from assets.raw.parse import KEY, PERIOD, TIME
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe
from resources.files import write_parquet
from resources.spark import light_collections, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OfBucket = Callable[[pa.Table], pa.Table]


def build_features(valid: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """A row for each valid row up to the last label and, for open segments, for each period of the horizon.

    Gives: the segment columns, `__segment`, `__period`, `__time`, `__assumed` (a future row whose `known_ahead` values
    were carried on), the label (null in the future), the columns of `recipe.features` and `fleet_bucket`; a bucket's
    rows lie together, sorted by segment and period. Rows without time have no future, no `__time` and nothing assumed.
    """
    work, columns = _of_bucket(recipe, profile), _columns(valid, recipe, _names(recipe))
    return _by_bucket(_looked_at(valid, recipe), work, columns)


def features_at(rows: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """For each row of some histories, one a segment and period: segment, period, bucket, and the recipe's features.

    `rows` have those of `build_features` without the segment columns; no future is added to them.
    """
    last, wanted = profile.last_period, [KEY, PERIOD, BUCKET, *recipe.features]
    known = recipe.model_dump_json(), profile.to_json()

    def features(some: pa.Table) -> pa.Table:
        return point_in_time(in_order(some), recipe, known_grid(*known), last).select(wanted)

    return _by_bucket(rows, features, _columns(rows, recipe, wanted))


def write_features(valid: DataFrame, recipe: Recipe, profile: Profile, folder: str) -> tuple[pa.Schema, list[str]]:
    """Writes `build_features`, a Parquet file a bucket, under a folder's URI; gives the columns and the files' paths.

    Workers write themselves, each attempt of a task files of its own: only those named here are whole.
    """
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StringType, StructField, StructType

    build, columns = _of_bucket(recipe, profile), _columns(valid, recipe, _names(recipe))

    def written(rows: pa.Table) -> pa.Table:
        return pa.table({"file": pa.array(_written(build(rows), folder), pa.string())})

    files = _by_bucket(_looked_at(valid, recipe), written, StructType([StructField("file", StringType())]))
    return to_arrow_schema(columns, timezone="UTC"), sorted(row["file"] for row in files.collect())


def _by_bucket(rows: DataFrame, work: OfBucket, columns: Any) -> DataFrame:
    from pyspark.sql import functions as F

    names = rows.columns
    # Spark would take a dot in a name for a field of a struct
    plain = [F.col(quoted(name)).alias(name if name == BUCKET else f"c{n}") for n, name in enumerate(names)]

    def named(some: pa.Table) -> pa.Table:
        light_collections()
        return work(some.rename_columns(names))

    return rows.select(*plain).groupBy(BUCKET).applyInArrow(named, columns)


def _looked_at(valid: DataFrame, recipe: Recipe) -> DataFrame:
    inputs = [recipe.label, *recipe.known_ahead, *recipe.past_only]
    names = list(dict.fromkeys([*recipe.segment, KEY, PERIOD, *inputs, BUCKET]))
    return valid.select(*[quoted(name) for name in names])


def _of_bucket(recipe: Recipe, profile: Profile) -> OfBucket:
    """What turns the valid rows of a bucket into its features."""
    wanted = _names(recipe)
    if profile.timeline is None:
        return lambda rows: in_order(rows).select(wanted)
    last, known = profile.last_period, (recipe.model_dump_json(), profile.to_json())

    def features(rows: pa.Table) -> pa.Table:
        return point_in_time(with_future(in_order(rows), recipe, last), recipe, known_grid(*known), last).select(wanted)

    return features


def _names(recipe: Recipe) -> list[str]:
    of_time = [TIME, ASSUMED] if recipe.time else []
    return [*recipe.segment, KEY, PERIOD, *of_time, recipe.label, *recipe.features, BUCKET]


def _columns(rows: DataFrame, recipe: Recipe, names: list[str]) -> Any:
    """Types of some columns of the feature table, as Spark has them."""
    from pyspark.sql.types import BooleanType, DoubleType, StringType, StructField, StructType, TimestampNTZType

    text = set(recipe.text_features)
    given = {field.name: field.dataType for field in rows.schema}
    types = {**{name: StringType() if name in text else DoubleType() for name in recipe.features}, **given}
    types |= {TIME: TimestampNTZType(), ASSUMED: BooleanType()}
    return StructType([StructField(name, types[name]) for name in names])


def _written(features: pa.Table, folder: str) -> list[str]:
    from pyspark import TaskContext

    if not features.num_rows:
        return []
    context = TaskContext.get()
    assert context is not None, "runs in Spark's workers only"
    file = f"{BUCKET}={pc.first(features[BUCKET])}/part-{context.taskAttemptId()}.parquet"
    write_parquet(features.drop_columns([BUCKET]), f"{folder}/{file}")
    return [file]
