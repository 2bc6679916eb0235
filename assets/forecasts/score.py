"""Forecasts: the champion's predictions for the horizon, bucket by bucket, written by Spark workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.features.build import ASSUMED
from assets.models.baseline import seasonal_naive
from assets.models.bucket import Bucket, read_bucket
from assets.models.fleet_model import SERVED, identity_columns
from assets.models.line import BASELINE, FLEET_MODEL, SEGMENT_MODEL
from assets.models.predictions import Candidate, candidate_predictions
from assets.raw.parse import TIME
from assets.raw.recipe import Recipe
from resources.files import write_parquet

Floats = NDArray[np.float64]
COLUMNS = ("forecast", "model", "version", "assumed")
MODELS = np.array([BASELINE, SEGMENT_MODEL, FLEET_MODEL], dtype=object)
WRITTEN = pa.schema(
    [("file", pa.string()), ("rows", pa.int64()), ("assumed", pa.int64())]
    + [(f"by_{model}", pa.int64()) for model in MODELS]
)


@dataclass(frozen=True)
class ScoreTask:
    """One bucket to forecast, and its feature files."""

    bucket: int
    files: tuple[str, ...]


def score_bucket(
    task: ScoreTask,
    recipe: Recipe,
    last: int,
    otherwise: float,
    champion: Candidate | None,
    version: int | None,
    time_type: str,
    folder: str,
) -> Iterator[dict[str, Any]]:
    """Writes the forecasts of a bucket's open segments as one file under `folder` and says what it holds.

    `last` is the period of the fleet's last label: every forecast's origin. `otherwise` serves a segment of which
    nothing is known.
    """
    bucket = read_bucket(task.files, recipe, also=[*identity_columns(recipe), TIME, ASSUMED])
    future = bucket.periods > last
    forecast, model = _forecasts(task, bucket, recipe, last, otherwise, champion)
    rows = bucket.table.filter(pa.array(future))
    table = forecast_table(rows, forecast[future], MODELS[model[future]], recipe, version, time_type)
    if not len(table):
        return
    name = f"bucket-{task.bucket:05d}-{uuid.uuid4().hex}.parquet"
    write_parquet(table, f"{folder}/{name}")
    counts = np.bincount(model[future], minlength=len(MODELS)).tolist()
    by_model = {f"by_{name}": count for name, count in zip(MODELS, counts, strict=True)}
    yield {"file": name, "rows": len(table), "assumed": int(pc.sum(rows[ASSUMED]).as_py() or 0), **by_model}


def _forecasts(
    task: ScoreTask, bucket: Bucket, recipe: Recipe, last: int, otherwise: float, champion: Candidate | None
) -> tuple[Floats, NDArray[np.int8]]:
    """For each row of the bucket that lies ahead the forecast, and who made it (a place in `MODELS`)."""
    forecast, made_by = np.full(len(bucket.periods), np.nan), np.zeros(len(bucket.periods), dtype=np.int8)
    ahead = {rows.key: rows for rows in bucket.segments() if rows.periods[-1] > last}
    targets = {key: rows.periods[rows.periods > last] for key, rows in ahead.items()}
    if champion is not None:
        found = candidate_predictions(champion, bucket, task.bucket, recipe, targets, SERVED, only_chosen=True)
        for key, model, predicted in found:
            places = _ahead(ahead[key].first_row, ahead[key].periods, last)
            forecast[places] = np.where(np.isfinite(predicted), predicted, np.nan)
            made_by[places] = np.where(np.isfinite(predicted), int(np.flatnonzero(model == MODELS)[0]), 0)
    for key, rows in ahead.items():
        places = _ahead(rows.first_row, rows.periods, last)
        missing = np.isnan(forecast[places])
        if missing.any():
            known = rows.periods <= last
            origins = np.full(len(places), last)
            history = rows.periods[known], rows.labels[known]
            naive = seasonal_naive(*history, targets[key], origins, recipe.season, otherwise)
            forecast[places] = np.where(missing, naive, forecast[places])
    return forecast, made_by


def _ahead(first_row: int, periods: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    return first_row + np.flatnonzero(periods > last)


def forecast_table(
    rows: pa.Table,
    forecast: Floats,
    model: NDArray[np.object_],
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
        "model": pa.array(model, pa.string()),
        "version": pa.array([version] * len(rows), pa.int64()),
        "assumed": rows[ASSUMED],
    }
    columns = {name: rows[name] for name in recipe.segment} | {recipe.time: times}
    return pa.table(columns | {output_name(name, recipe): value for name, value in values.items()})


def output_name(name: str, recipe: Recipe) -> str:
    """A column of the forecasts; prefixed where the user's key has a column of that name, in any case."""
    return free_name(name, (*recipe.segment, *recipe.time_columns))


def free_name(name: str, columns: Iterable[str]) -> str:
    """A name that none of some columns has, in any case: `name`, or `fleet_` and so on before it."""
    taken = {column.lower() for column in columns}
    while name in taken:
        name = f"fleet_{name}"
    return name
