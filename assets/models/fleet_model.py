"""The fleet-wide model: all segments in one LightGBM, the segment as a feature, on a bounded sample of rows.

It forecasts segments that are too new or too short for a model of their own, and stands beside those that have one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.models.bucket import Bucket, categorical_positions, read_bucket
from assets.models.fit import boosted, predict, transformed
from assets.models.isolation import Lost, isolated
from assets.models.packing import model_digest, packed, unpacked, unpacked_whole
from assets.models.shard import BOOSTERS
from assets.raw.parse import KEY
from assets.raw.recipe import Recipe
from resources.files import filesystem, whole_file

if TYPE_CHECKING:
    from lightgbm import Booster

    from assets.models.segment import CutOffs

Floats = NDArray[np.float64]
MOST_CATEGORIES = 20_000
FEWEST_ROWS = 100
ROUNDS = 100
TIME_LIMIT = 6 * 3600.0
FOLD, JUDGED, SERVED = "fold", "judged", "served"
# parameters of an objective, not of its trees: right for one segment, right for all
OF_OBJECTIVE = ("alpha", "fair_c", "poisson_max_delta_step", "tweedie_variance_power", "max_delta_step")
FACTS = pa.schema([("rows", pa.int64()), ("seconds", pa.float64()), ("digest", pa.string())])
FLEET = pa.schema(
    [
        *FACTS,
        ("categories", pa.string()),
        *[(name, pa.binary()) for name in (FOLD, JUDGED, SERVED)],
    ]
)


@dataclass(frozen=True)
class FleetTask:
    """Feature files to sample from, and which share of their rows to take."""

    files: tuple[tuple[str, ...], ...]
    share: float
    lake: str
    name: str


def fleet_file(name: str) -> str:
    """Where a fleet-wide model lies, relative to the lake."""
    return f"{BOOSTERS}/fleet/{name}.parquet"


def identity_columns(recipe: Recipe) -> list[str]:
    """Columns that say which segment a row is of: the key's own, and the key as a whole where it has several."""
    return [*recipe.segment, *([KEY] if len(recipe.segment) > 1 else [])]


def train_fleet_model(task: FleetTask, recipe: Recipe, cut_offs: CutOffs, threads: int) -> Iterator[dict[str, Any]]:
    """Fits the fleet-wide model three times, as each segment's is, and writes it to the lake; gives its row count."""
    import pyarrow.parquet as pq

    started = time.perf_counter()
    parts = [_sampled(read_bucket(files, recipe, identity_columns(recipe)), recipe, task.share) for files in task.files]
    categories = _categories([identity for _, _, _, identity in parts])
    x = np.vstack([np.hstack([part[0], _codes(part[3], categories)]) for part in parts])
    y, periods = np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])
    models = _fits_in_a_child(x, y, periods, recipe, cut_offs, threads)
    row: dict[str, Any] = {"categories": json.dumps(categories), "rows": len(y), **models}
    row |= {"digest": _digest(row), "seconds": time.perf_counter() - started}
    with whole_file(f"{task.lake}/{fleet_file(task.name)}") as sink:
        pq.write_table(pa.Table.from_pylist([row], FLEET), sink, compression="none")
    yield {name: row[name] for name in FACTS.names}


def _digest(row: Mapping[str, Any]) -> str | None:
    """Digest of a fleet-wide model's categories and fits."""
    return model_digest(b"\0".join([row["categories"].encode(), *(row[fit] or b"" for fit in (FOLD, JUDGED, SERVED))]))


def _fits_in_a_child(
    x: Floats, y: Floats, periods: NDArray[np.int64], recipe: Recipe, cut_offs: CutOffs, threads: int
) -> dict[str, bytes | None]:
    """The packed fits by name.

    In a child: OpenMP's threads, once started by a worker, would be missing in every child that it forks later.
    """
    import lightgbm  # noqa: F401  # not once a child

    cuts = {FOLD: cut_offs.fold, JUDGED: cut_offs.holdout, SERVED: cut_offs.last}
    through = list(cuts.values())
    fitted = isolated(
        lambda place: _fit(x, y, periods <= through[place], recipe, threads), range(len(cuts)), time_limit=TIME_LIMIT
    )
    models = {name: model for name, (_, model) in zip(cuts, fitted, strict=True)}
    if lost := [model.reason for model in models.values() if isinstance(model, Lost)]:
        raise RuntimeError(f"the fleet-wide model cannot be fitted: {lost[0]}")
    return models


def _fit(x: Floats, y: Floats, known: NDArray[np.bool_], recipe: Recipe, threads: int) -> bytes | None:
    """The packed model of some rows; None where they are too few, or all labels the same."""
    if known.sum() < FEWEST_ROWS or np.ptp(y[known]) == 0:
        return None
    labels, params = transformed(y[known], recipe.model), fleet_parameters(recipe, threads)
    return packed(boosted(x[known], labels, params, ROUNDS, _categorical(recipe)))


def fleet_parameters(recipe: Recipe, threads: int) -> dict[str, Any]:
    """LightGBM's parameters for all segments at once: many leaves."""
    return {
        "objective": recipe.model["objective"],
        "seed": recipe.model["seed"],
        "learning_rate": 0.1,
        "num_leaves": 63,
        "min_data_in_leaf": 20,
        "max_bin": 255,
        "feature_fraction": 0.8,
        **{name: value for name, value in recipe.model["params"].items() if name in OF_OBJECTIVE},
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }


def _categorical(recipe: Recipe) -> list[int]:
    first = len(recipe.features)
    return [*categorical_positions(recipe), *range(first, first + len(identity_columns(recipe)))]


def _sampled(bucket: Bucket, recipe: Recipe, share: float) -> tuple[Floats, Floats, NDArray[np.int64], pa.Table]:
    """Features, labels, periods and identity of the labelled rows whose hash is below the share."""
    keep = ~np.isnan(bucket.labels)
    if share < 1:
        for rows in bucket.segments():
            part = slice(rows.first_row, rows.first_row + len(rows.periods))
            keep[part] &= _uniform(crc32(rows.key.encode()), rows.periods) < share
    identity = bucket.table.select(identity_columns(recipe)).filter(pa.array(keep))
    return bucket.x[keep], bucket.labels[keep], bucket.periods[keep], identity


def _uniform(key: int, periods: NDArray[np.int64]) -> Floats:
    """A number in [0, 1) for each period of a segment. SplitMix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = (np.uint64(key) << np.uint64(32)) + periods.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).astype(np.float64) / 2.0**64


def _categories(identities: Sequence[pa.Table]) -> dict[str, list[str]]:
    """The most frequent values of each identity column, sorted; a model sees a value as its place in the list."""
    found = {}
    table = pa.concat_tables(identities)
    for name in table.column_names:
        counted = pc.value_counts(table[name].cast(pa.string()).drop_null())
        most = pa.table({"value": counted.field(0), "count": counted.field(1)})
        most = most.sort_by([("count", "descending"), ("value", "ascending")])
        found[name] = sorted(most["value"].slice(0, MOST_CATEGORIES).to_pylist())
    return found


def _codes(identity: pa.Table, categories: dict[str, list[str]]) -> Floats:
    """A column a category: its place in the list; NaN for a value never seen."""
    columns = []
    for name, known in categories.items():
        places = pc.index_in(identity[name].cast(pa.string()), pa.array(known, pa.string()), skip_nulls=True)
        columns.append(pc.fill_null(places.cast(pa.float64()), float("nan")).to_numpy())
    return np.column_stack(columns)


def fleet_facts(lake: str, file: str) -> dict[str, Any] | None:
    """Rows, seconds and digest of a fleet-wide model; None where there is none, or not as it was fitted."""
    import pyarrow.parquet as pq

    system, path = filesystem(f"{lake}/{file}")
    try:
        with system.open_input_file(path) as stream:
            row = pq.ParquetFile(stream).read().to_pylist()[0]
    except (OSError, pa.ArrowException):
        return None
    return {name: row[name] for name in FACTS.names} if row.get("digest") == _digest(row) else None


@dataclass(frozen=True)
class FleetModel:
    """One fit of the fleet-wide model, as a worker uses it."""

    booster: Booster
    categories: dict[str, list[str]]

    def predict(self, bucket: Bucket, places: NDArray[np.int64], recipe: Recipe) -> Floats:
        """Predictions, in the label's units, for some rows of a bucket (read with its `identity_columns`)."""
        if not len(places):
            return np.empty(0)
        return predict(self.booster, self.inputs(bucket, places), recipe.model)

    def inputs(self, bucket: Bucket, places: NDArray[np.int64]) -> Floats:
        """What the booster sees of some rows of a bucket: the recipe's features, then the identity's codes."""
        identity = bucket.table.select(list(self.categories)).take(pa.array(places))
        return np.hstack([bucket.x[places], _codes(identity, self.categories)])


@lru_cache(maxsize=4)
def load_fleet_model(lake: str, file: str, fit: str, whole: bool = False) -> FleetModel | None:
    """The fleet-wide model's `fold`, `judged` or `served` fit; None where there was too little to fit it on.

    Kept for the worker's next bucket. `whole`: with what explanations need beside predictions.
    """
    import pyarrow.parquet as pq

    system, path = filesystem(f"{lake}/{file}")
    with system.open_input_file(path) as stream:
        row = pq.ParquetFile(stream).read(columns=["categories", fit]).to_pylist()[0]
    read = unpacked_whole if whole else unpacked
    return FleetModel(read(row[fit]), json.loads(row["categories"])) if row[fit] else None
