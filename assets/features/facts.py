"""What a feature table is like, found in one pass and kept: what its checks look at, and compare."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.features.publish import FEATURES, SEGMENTS, FeatureSet
from assets.features.rebuild import by_bucket
from assets.partitions import bucket_of
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe
from assets.remembered import known_before, remembered
from resources.files import filesystem
from resources.lake import Lake
from resources.spark import Spark
from resources.spread import spread

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

FACTS = "facts"
PERCENTILES, SAMPLED_ROWS, SHOWN = 101, 400_000, 10
OF_BUCKET = pa.schema([("counts", pa.string()), ("labels", pa.list_(pa.float64()))])
EXAMPLES = pa.schema([("example", pa.string())])
DECILES = np.linspace(0.1, 0.9, 9)
SMALLEST_SHARE = 1e-4  # what an empty bin counts as in a population stability index


def feature_facts(lake: Lake, spark: Spark, features: FeatureSet) -> dict[str, Any]:
    """Facts of a feature table's history: `rows`, `nulls` (share by feature), `infinite` (rows by feature), `label`
    (101 percentiles, the lowest first; empty without labels; of very many rows, of an even sample).
    """
    return remembered(lake, FACTS, features.digest, lambda: _found(lake, spark, features))


def _found(lake: Lake, spark: Spark, features: FeatureSet) -> dict[str, Any]:
    recipe, files = features.recipe, by_bucket(lake.table(FEATURES).files(features.version))
    step = max(1, -(-features.record["rows"]["valid"] // SAMPLED_ROWS))
    work = partial(_of_bucket, recipe_json=recipe.model_dump_json(), last=features.profile.last_period, step=step)
    lines = spread(spark, list(files.values()), work, OF_BUCKET, short=True)
    rows, nulls, infinite = 0, Counter[str](), Counter[str]()
    for line in map(json.loads, lines["counts"].to_pylist()):
        rows += line["rows"]
        nulls.update(line["nulls"])
        infinite.update(line["infinite"])
    labels = lines["labels"].combine_chunks().flatten().to_numpy()
    points = np.linspace(0, 1, PERCENTILES)
    return {
        "rows": rows,
        "nulls": {name: nulls[name] / max(rows, 1) for name in recipe.features},
        "infinite": {name: many for name in recipe.features if (many := infinite[name])},
        "label": np.quantile(labels, points, method="inverted_cdf").tolist() if len(labels) else [],
    }


def _of_bucket(files: Sequence[str], recipe_json: str, last: int, step: int) -> Iterator[dict[str, Any]]:
    recipe = Recipe.model_validate_json(recipe_json)
    names, text = recipe.features, set(recipe.text_features)
    rows = rows_of(files, [PERIOD, recipe.label, *names])
    rows = rows.filter(pc.less_equal(rows[PERIOD], last))
    counts = {
        "rows": rows.num_rows,
        "nulls": {name: rows[name].null_count for name in names},
        "infinite": {name: pc.sum(pc.is_inf(rows[name])).as_py() or 0 for name in names if name not in text},
    }
    labels = rows[recipe.label].drop_null().to_numpy()[::step]
    yield {"counts": json.dumps(counts), "labels": labels.tolist()}


def rows_of(files: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows of some feature files."""
    from pyarrow.parquet import read_table

    placed = [filesystem(file) for file in files]
    wanted = list(dict.fromkeys(columns))
    # a file by itself: of a folder's name PyArrow would make a column
    read = [read_table(system.open_input_file(path), columns=wanted, use_threads=False) for system, path in placed]
    return pa.concat_tables(read).select(wanted)


def repeated_rows(lake: Lake, spark: Spark, features: FeatureSet) -> list[str]:
    """Some segments and periods that come twice in a feature table, and segments that lie in a bucket of others'."""
    files = by_bucket(lake.table(FEATURES).files(features.version))
    work = partial(_repeated, buckets=features.buckets)
    lines = spread(spark, list(files.items()), work, EXAMPLES, short=True)
    return sorted(lines["example"].to_pylist())[:SHOWN]


def _repeated(bucket: tuple[int, Sequence[str]], buckets: int) -> Iterator[dict[str, Any]]:
    number, files = bucket
    rows = rows_of(files, [KEY, PERIOD])
    keys = rows[KEY].combine_chunks().dictionary_encode()
    strays = [key for key in keys.dictionary.to_pylist() if bucket_of(key, buckets) != number]
    yield from ({"example": f"{key} in bucket {number}"} for key in strays[:SHOWN])
    order = np.lexsort((rows[PERIOD].to_numpy(), keys.indices.to_numpy()))
    segment, period = keys.indices.to_numpy()[order], rows[PERIOD].to_numpy()[order]
    twice = np.flatnonzero((segment[1:] == segment[:-1]) & (period[1:] == period[:-1]))
    for place in twice[:SHOWN]:
        yield {"example": f"{keys.dictionary[int(segment[place])].as_py()} at period {period[place]}"}


def before_this(lake: Lake, features: FeatureSet) -> FeatureSet | None:
    """The last feature set that was built from another snapshot, None if there is none."""
    for version, record in lake.table(FEATURES).records().items():
        if version < features.version and record.get("raw_digest") != features.record["raw_digest"]:
            return FeatureSet(version, record, False)
    return None


def label_shift(lake: Lake, spark: Spark, features: FeatureSet, before: FeatureSet) -> float | None:
    """Population stability index of the label, over the tenths of the feature set before; None where one is unknown.

    Formula: https://scholarworks.wmich.edu/dissertations/3208 (Yurdakul, 2018), sum of (p - q) ln(p / q).
    """
    old, new = known_before(lake, FACTS, before.digest), feature_facts(lake, spark, features)
    if not old or not old["label"] or not new["label"]:
        return None
    was, now = np.array(old["label"]), np.array(new["label"])
    edges = np.unique(was[np.round(DECILES * (PERCENTILES - 1)).astype(int)])
    return stability_index(_shares(was, edges), _shares(now, edges))


def _shares(percentiles: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.searchsorted(percentiles, edges, side="right") / len(percentiles)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def stability_index(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Population stability index of two lists of shares."""
    p, q = np.maximum(found, SMALLEST_SHARE), np.maximum(expected, SMALLEST_SHARE)
    return float(np.sum((p - q) * np.log(p / q)))


def segments_of(lake: Lake, features: FeatureSet) -> pd.DataFrame:
    """The list of segments behind a feature set: `__segment`, `__rows`, `__first`, `__last` and others."""
    return lake.table(SEGMENTS).arrow(version=features.record["segments_version"]).to_pandas()


def missing_periods(segments: pd.DataFrame) -> pd.DataFrame:
    """Periods without a row between a segment's first and last: `segment`, `missing`, `periods`, most missing first."""
    periods = segments["__last"] - segments["__first"] + 1
    found = (
        segments[[KEY]].assign(missing=periods - segments["__rows"], periods=periods).rename(columns={KEY: "segment"})
    )
    return found.sort_values(["missing", "segment"], ascending=[False, True])
