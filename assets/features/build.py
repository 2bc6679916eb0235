"""Features of whole buckets of rows, made and written by workers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.features.contract import BUCKET
from assets.features.grid import known_grid
from assets.features.ordered import ordered
from assets.features.point_in_time import ASSUMED, point_in_time, with_future
from assets.raw.parse import KEY, PERIOD, TIME
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe
from resources.files import write_parquet
from resources.spark import light_collections, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OfBucket = Callable[[pa.Table], pa.Table]


def features_at(rows: DataFrame, recipe: Recipe, profile: Profile) -> DataFrame:
    """For each row of some histories, one a segment and period: segment, period, bucket, and the recipe's features.

    `rows` are those that features look at (see `placed`) without the segment columns; no future is added to them.
    """
    last, wanted = profile.last_period, [KEY, PERIOD, BUCKET, *recipe.features]
    known = recipe.model_dump_json(), profile.to_json()

    def features(some: pa.Table) -> pa.Table:
        return point_in_time(some, recipe, known_grid(*known), last).select(wanted)

    return _by_bucket(rows, features, _columns(rows, recipe, wanted))


def feature_schema(recipe: Recipe, source: pa.Schema) -> pa.Schema:
    """The columns of a feature table, of rows that came with these columns."""
    text = set(recipe.text_features)
    types = {name: pa.string() if name in text else pa.float64() for name in [recipe.label, *recipe.features]}
    types |= {name: source.field(name).type for name in recipe.segment}
    types |= {KEY: pa.string(), PERIOD: pa.int32(), TIME: pa.timestamp("us"), ASSUMED: pa.bool_(), BUCKET: pa.int32()}
    return pa.schema([(name, types[name]) for name in _names(recipe)])


def write_features(features: pa.Table, recipe: Recipe, folder: str) -> list[str]:
    """Writes the features of a bucket as a Parquet file under a folder's URI; gives its path there, if there is one."""
    if not features.num_rows:
        return []
    file = f"{BUCKET}={pc.first(features[BUCKET])}/part-{uuid.uuid4().hex}.parquet"
    # statistics of windows are all different: a dictionary of them is as much work as all the rest
    different = {name for name, _, _ in recipe.rolled}
    repeated = [name for name in features.column_names if name not in {*different, BUCKET}]
    # readers get text as such, though segments are told by dictionaries
    write_parquet(features.drop_columns([BUCKET]), f"{folder}/{file}", use_dictionary=repeated, store_schema=False)
    return [file]


def _by_bucket(rows: DataFrame, work: OfBucket, columns: Any) -> DataFrame:
    from pyspark.sql import functions as F

    names = rows.columns
    # Spark would take a dot in a name for a field of a struct
    plain = [F.col(quoted(name)).alias(name if name == BUCKET else f"c{n}") for n, name in enumerate(names)]

    def named(some: pa.Table) -> pa.Table:
        light_collections()
        (bucket,) = ordered(some.rename_columns(names), []).buckets()
        return with_plain_text(work(bucket))

    return rows.select(*plain).groupBy(BUCKET).applyInArrow(named, columns)


def with_plain_text(rows: pa.Table) -> pa.Table:
    """The rows with text as such, where it is told by dictionaries."""
    told = [pa.types.is_dictionary(column.type) for column in rows.columns]
    plain = [c.cast(pa.string()) if text else c for c, text in zip(rows.columns, told, strict=True)]
    return pa.table(plain, rows.column_names)


def features_of_bucket(recipe: Recipe, profile: Profile) -> OfBucket:
    """What makes a row for each valid row up to the last label and, for open segments, for each period of the horizon.

    It takes a bucket's rows by segment and period (see `ordered`) and gives: the segment columns, `__segment`,
    `__period`, `__time`, `__assumed` (a future row whose `known_ahead` values were carried on), the label (null in the
    future), the columns of `recipe.features` and `fleet_bucket`, in the same order. Rows without time have no future,
    no `__time` and nothing assumed.
    """
    wanted = _names(recipe)
    if profile.timeline is None:
        return lambda rows: rows.select(wanted)
    last, known = profile.last_period, (recipe.model_dump_json(), profile.to_json())

    def features(rows: pa.Table) -> pa.Table:
        return point_in_time(with_future(rows, recipe, last), recipe, known_grid(*known), last).select(wanted)

    return features


def _names(recipe: Recipe) -> list[str]:
    of_time = [TIME, ASSUMED] if recipe.time else []
    return [*recipe.segment, KEY, PERIOD, *of_time, recipe.label, *recipe.features, BUCKET]


def _columns(rows: DataFrame, recipe: Recipe, names: list[str]) -> Any:
    """Types of some columns of the feature table, as Spark has them."""
    from pyspark.sql.types import DoubleType, StringType, StructField, StructType

    text = set(recipe.text_features)
    given = {field.name: field.dataType for field in rows.schema}
    types = {**{name: StringType() if name in text else DoubleType() for name in recipe.features}, **given}
    return StructType([StructField(name, types[name]) for name in names])
