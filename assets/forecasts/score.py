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

from assets.features.point_in_time import ASSUMED
from assets.models.baseline import baseline_forecast
from assets.models.bucket import Bucket, label_history, read_bucket
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
    [("file", pa.string()), ("segments", pa.int64()), ("rows", pa.int64()), ("assumed", pa.int64())]
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
    ahead = read_bucket(task.files, recipe, also=[*identity_columns(recipe), TIME, ASSUMED], after=last)
    rows = ahead.table
    if not len(rows):
        return
    forecast, model = _forecasts(task, ahead, recipe, last, otherwise, champion)
    table = forecast_table(rows, forecast, MODELS[model], recipe, version, time_type)
    name = f"bucket-{task.bucket:05d}-{uuid.uuid4().hex}.parquet"
    write_parquet(table, f"{folder}/{name}")
    counts = np.bincount(model, minlength=len(MODELS)).tolist()
    by_model = {f"by_{name}": count for name, count in zip(MODELS, counts, strict=True)}
    counted = {"segments": len(rows) // recipe.horizon, "rows": len(rows)}
    yield {"file": name, **counted, "assumed": int(pc.sum(rows[ASSUMED]).as_py() or 0), **by_model}


def _forecasts(
    task: ScoreTask, ahead: Bucket, recipe: Recipe, last: int, otherwise: float, champion: Candidate | None
) -> tuple[Floats, NDArray[np.int8]]:
    """For each row, all of which lie ahead, the forecast, and who made it (a place in `MODELS`)."""
    forecast, made_by = np.full(len(ahead.periods), np.nan), np.zeros(len(ahead.periods), dtype=np.int8)
    segments = {rows.key: rows for rows in ahead.segments()}
    targets = {key: rows.periods for key, rows in segments.items()}
    if champion is not None:
        place_of = {name: place for place, name in enumerate(MODELS)}
        found = candidate_predictions(champion, ahead, task.bucket, recipe, targets, SERVED, only_chosen=True)
        for key, model, predicted in found:
            first = segments[key].first_row
            forecast[first : first + len(predicted)] = predicted
            made_by[first : first + len(predicted)] = place_of[model]
    forecast[~np.isfinite(forecast)] = np.nan
    missing = np.isnan(forecast)
    made_by[missing] = 0
    if missing.any():
        naive = _by_baseline(task, ahead, recipe, last, otherwise)
        forecast[missing] = naive[missing]
    return forecast, made_by


def _by_baseline(task: ScoreTask, ahead: Bucket, recipe: Recipe, last: int, otherwise: float) -> Floats:
    """For each row, all of which lie ahead, the baseline's forecast."""
    forecast, segments = np.full(len(ahead.periods), otherwise), {rows.key: rows for rows in ahead.segments()}
    for past in label_history(task.files, recipe):
        if past.key in segments:
            rows, known = segments[past.key], past.periods <= last
            origins = np.full(len(rows.periods), last)
            history = past.periods[known], past.labels[known]
            naive = baseline_forecast(recipe, *history, rows.periods, origins, otherwise)
            forecast[rows.first_row : rows.first_row + len(naive)] = naive
    return forecast


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
