"""The leak test: would a feature change if the future had been different?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.features.build import features_of_bucket, with_plain_text
from assets.features.handed import Handed, handed_over
from assets.features.ordered import ordered
from assets.features.publish import SEGMENTS, FeatureSet
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe
from assets.raw.snapshot import RAW, snapshot_rows
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import spread

SAMPLED_SEGMENTS = 20
LINE = pa.schema([("found", pa.string())])


class Leaks(NamedTuple):
    """Rows that differ by feature (empty: no leak), the rows compared and the segments sampled."""

    rows_by_feature: dict[str, int]
    compared: int
    segments: int


def find_leaks(lake: Lake, spark: Spark, settings: Settings, features: FeatureSet) -> Leaks:
    """Features of 20 segments as they are, against those built with every later label and past value made noise.

    Every feature of a row up to a horizon after the cut-off must be the same; the cut-off is the holdout's.
    """
    recipe, last, keys = features.recipe, features.profile.last_period, _sampled(lake, features)
    cut_off = last - recipe.holdout
    rows = snapshot_rows(lake.table(RAW), settings, features.record["raw_version"])
    with handed_over(lake, spark, rows, settings, recipe, features.record, only=frozenset(keys)) as handed:
        work = partial(
            _leaks_of_part,
            handed=handed,
            recipe_json=recipe.model_dump_json(),
            cut_off=cut_off,
            through=min(cut_off + recipe.horizon, last),  # later rows have a later origin
        )
        lines = [json.loads(line) for line in spread(spark, handed.parts, work, LINE, short=True)["found"].to_pylist()]
    differing = Counter[str]()
    for line in lines:
        differing.update(line["differing"])
    found = {name: differing[name] for name in recipe.features if differing[name]}
    return Leaks(found, sum(line["compared"] for line in lines), len(keys))


def _leaks_of_part(part: int, handed: Handed, recipe_json: str, cut_off: int, through: int) -> Iterator[dict[str, Any]]:
    valid = handed.valid_rows(part)
    if valid is None:
        return
    recipe = Recipe.model_validate_json(recipe_json)
    build = features_of_bucket(recipe, handed.placing.profile)
    buckets = list(ordered(valid, recipe.segment).buckets())
    real = pa.concat_tables([with_plain_text(build(bucket)) for bucket in buckets])
    noisy = [with_noise(bucket, recipe, cut_off) for bucket in buckets]
    altered = pa.concat_tables([with_plain_text(build(bucket)) for bucket in noisy])
    upto = pc.less_equal(real[PERIOD], through)
    same = real.select([KEY, PERIOD]) == altered.select([KEY, PERIOD])
    differing = dict.fromkeys(recipe.features, real.num_rows)
    if same:
        differing = {name: _differing(real[name].filter(upto), altered[name].filter(upto)) for name in recipe.features}
    yield {"found": json.dumps({"compared": pc.sum(upto).as_py() or 0, "differing": differing})}


def _differing(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int:
    """How many values are not those of the other column; null is null."""
    differs = pc.fill_null(pc.not_equal(one, other), False)
    return pc.sum(pc.or_(differs, pc.not_equal(one.is_null(), other.is_null()))).as_py() or 0


def with_noise(rows: pa.Table, recipe: Recipe, cut_off: int) -> pa.Table:
    """The rows with every label and `past_only` value after the cut-off replaced by noise."""
    later = pc.greater(rows[PERIOD], cut_off)
    draw = np.random.default_rng(7)
    for column in dict.fromkeys([recipe.label, *recipe.past_only]):
        is_text = recipe.kinds[column] == "text"
        noise = pa.array(["noise"] * rows.num_rows) if is_text else pa.array(1e6 * draw.random(rows.num_rows))
        rows = rows.set_column(rows.column_names.index(column), column, pc.if_else(later, noise, rows[column]))
    return rows


def _sampled(lake: Lake, features: FeatureSet) -> list[str]:
    keys = lake.table(SEGMENTS).arrow(columns=[KEY], version=features.record["segments_version"])[KEY].to_pylist()
    step = max(1, len(keys) // SAMPLED_SEGMENTS)
    return sorted(keys)[::step][:SAMPLED_SEGMENTS]
