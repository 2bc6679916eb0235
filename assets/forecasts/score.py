"""Forecasts: the champion's predictions for the horizon, bucket by bucket, written by Spark workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.evaluation.compare import ModelGroup, predictions_at
from assets.features.build import ASSUMED
from assets.models.baseline import seasonal_naive
from assets.models.bucket import Bucket, SegmentRows, read_bucket
from assets.models.shard import BASELINE, SEGMENT_MODEL
from assets.models.store import boosters
from assets.raw.parse import TIME
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
COLUMNS = ("forecast", "model", "version", "assumed")
WRITTEN = pa.schema([("file", pa.string()), ("rows", pa.int64()), ("assumed", pa.int64()), ("by_model", pa.int64())])


@dataclass(frozen=True)
class ScoreTask:
    """One bucket to forecast; `chosen`: segments that their model serves, not the baseline."""

    bucket: int
    files: tuple[str, ...]
    groups: tuple[ModelGroup, ...]
    chosen: frozenset[str]


def score_bucket(
    task: ScoreTask,
    recipe: Recipe,
    last: int,
    otherwise: float,
    version: int | None,
    time_type: str,
    folder: str,
) -> Iterator[dict[str, Any]]:
    """Writes the forecasts of a bucket's open segments as one file under `folder` and says what it holds.

    `last` is the period of the fleet's last label: every forecast's origin. `otherwise` serves a segment of which
    nothing is known.
    """
    import pyarrow.parquet as pq

    from resources.lake import filesystem

    bucket = read_bucket(task.files, recipe, also=[*recipe.segment, TIME, ASSUMED])
    future = bucket.periods > last
    forecast, by_model = _forecasts(task, bucket, recipe, last, otherwise)
    rows = bucket.table.filter(pa.array(future))
    table = forecast_table(rows, forecast[future], by_model[future], recipe, version, time_type)
    if not len(table):
        return
    name = f"bucket-{task.bucket:05d}-{uuid.uuid4().hex}.parquet"
    system, path = filesystem(f"{folder}/{name}")
    system.create_dir(path.rsplit("/", 1)[0], recursive=True)
    pq.write_table(table, path, filesystem=system)
    assumed = int(pc.sum(rows[ASSUMED]).as_py() or 0)
    yield {"file": name, "rows": len(table), "assumed": assumed, "by_model": int(by_model[future].sum())}


def _forecasts(
    task: ScoreTask, bucket: Bucket, recipe: Recipe, last: int, otherwise: float
) -> tuple[Floats, NDArray[np.bool_]]:
    forecast, by_model = np.full(len(bucket.periods), np.nan), np.zeros(len(bucket.periods), dtype=bool)
    for rows in bucket.segments():
        ahead = rows.periods > last
        targets = rows.periods[ahead]
        origins = np.full(len(targets), last)
        naive = seasonal_naive(rows.periods[~ahead], rows.labels[~ahead], targets, origins, recipe.season, otherwise)
        forecast[rows.first_row + np.flatnonzero(ahead)] = naive
    for predicted, rows in _predictions(task, bucket, recipe, last):
        usable = np.isfinite(predicted)
        places = rows.first_row + np.flatnonzero(rows.periods > last)[usable]
        forecast[places], by_model[places] = predicted[usable], True
    return forecast, by_model


def _predictions(task: ScoreTask, bucket: Bucket, recipe: Recipe, last: int) -> Iterator[tuple[Floats, SegmentRows]]:
    """Predictions for the horizon of each segment that its model serves; NaN where its recipe does not reach."""
    wanted = {rows.key: rows for rows in bucket.segments() if (rows.periods > last).any()}
    for group in task.groups:
        same = group.files == task.files and group.recipe.shapes_like(recipe)
        own = bucket if same else read_bucket(group.files, group.recipe)
        by_key = {rows.key: rows for rows in own.segments()}
        for key, booster in boosters(group.parts, "served"):
            if key in wanted and key in by_key and key in task.chosen:
                targets = wanted[key].periods[wanted[key].periods > last]
                yield predictions_at(booster, by_key[key], targets, group.recipe), wanted[key]


def forecast_table(
    rows: pa.Table,
    forecast: Floats,
    by_model: NDArray[np.bool_],
    recipe: Recipe,
    version: int | None,
    time_type: str,
) -> pa.Table:
    """The rows of `lake/forecasts`: segment columns as they came, time, forecast, model, version, assumed."""
    times = rows[TIME]
    if time_type == "date":
        times = times.cast(pa.date32())
    elif time_type == "timestamp":
        times = pc.assume_timezone(times, "UTC")
    values = {
        "forecast": pa.array(forecast),
        "model": pa.array(np.where(by_model, SEGMENT_MODEL, BASELINE)),
        "version": pa.array([version] * len(rows), pa.int64()),
        "assumed": rows[ASSUMED],
    }
    columns = {name: rows[name] for name in recipe.segment} | {recipe.time: times}
    return pa.table(columns | {output_name(name, recipe): value for name, value in values.items()})


def output_name(name: str, recipe: Recipe) -> str:
    """A column of the forecasts; prefixed where the user's key has a column of that name, in any case."""
    taken = {column.lower() for column in (*recipe.segment, recipe.time)}
    while name in taken:
        name = f"fleet_{name}"
    return name
