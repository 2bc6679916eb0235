"""Forecasts: the champion's predictions for the horizon, bucket by bucket, written by Spark workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.evaluation.issues import output_name
from assets.features.point_in_time import ASSUMED
from assets.forecasts.sample import sample_places
from assets.models.baseline import baseline_forecasts
from assets.models.bucket import Bucket, label_history, read_bucket
from assets.models.fleet_model import SERVED, identity_columns
from assets.models.line import BASELINE, BLEND, MEDIAN, WEIGHTED
from assets.models.predictions import Candidate, Predictions, candidate_predictions
from assets.models.quantiles import NO_QUANTILES, quantile_name
from assets.raw.parse import TIME
from assets.raw.recipe import Recipe
from resources.files import write_parquet

Floats = NDArray[np.float64]
COLUMNS = ("forecast", "model", "version", "assumed")  # and, at the end, one for each quantile
MODELS = np.array([BASELINE, *WEIGHTED, BLEND], dtype=object)
WRITTEN = pa.schema(
    [("file", pa.string()), ("segments", pa.int64()), ("rows", pa.int64()), ("assumed", pa.int64())]
    + [(f"by_{model}", pa.int64()) for model in MODELS]
    + [("sampled", pa.int64()), ("split", pa.int64())]
)


@dataclass(frozen=True)
class ScoreTask:
    """One bucket to forecast, and its feature files."""

    bucket: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Rival:
    """A challenger that waits: its fleet, its version, and the shares of segments that concern it.

    Of the share `sampled` it forecasts beside the champion, and of the share `split` it is served in its place. Under
    `folder` goes what is not served, if anything does.
    """

    fleet: Candidate
    version: int
    sampled: float
    split: float
    folder: str | None


@dataclass(frozen=True)
class Said:
    """A forecast for each of some rows, who made it (a place in `MODELS`), its quantiles (rows, levels; NaN: none),
    and the version it came from (0: none)."""

    forecast: Floats
    model: NDArray[np.int8]
    quantiles: Floats
    version: NDArray[np.int64]

    @classmethod
    def nothing(cls, levels: int) -> Said:
        """What is said of no row."""
        return cls(np.empty(0), np.empty(0, dtype=np.int8), np.empty((0, levels)), np.empty(0, dtype=np.int64))

    def where(self, rows: NDArray[np.bool_]) -> Said:
        """What is said of some of the rows."""
        return Said(self.forecast[rows], self.model[rows], self.quantiles[rows], self.version[rows])

    def but(self, rows: NDArray[np.bool_], other: Said) -> Said:
        """The same, but in some rows what another says of these."""
        merged = self.where(np.ones(len(rows), dtype=bool))
        merged.forecast[rows], merged.model[rows] = other.forecast, other.model
        merged.quantiles[rows], merged.version[rows] = other.quantiles, other.version
        return merged


def score_bucket(
    task: ScoreTask,
    recipe: Recipe,
    last: int,
    otherwise: float,
    champion: Candidate | None,
    version: int | None,
    time_type: str,
    levels: Sequence[float],
    folder: str | None,
    rival: Rival | None = None,
) -> Iterator[dict[str, Any]]:
    """Writes the forecasts of a bucket's open segments as one file under `folder`, if given, and says what it holds.

    `last` is the period of the fleet's last label: every forecast's origin. `otherwise` serves a segment of which
    nothing is known. `levels` are those of the quantiles beside each forecast. A `rival` has a file of the same name
    for its sample: of each segment that both forecast, what is not served.
    """
    ahead = read_bucket(task.files, recipe, also=[*identity_columns(recipe), TIME, ASSUMED], after=last)
    rows = ahead.table
    if not len(rows):
        return
    name = f"bucket-{task.bucket:05d}-{uuid.uuid4().hex}.parquet"
    sampled, split = (_in_sample(ahead, share) for share in ((rival.sampled, rival.split) if rival else (0.0, 0.0)))
    of_sample = _only(ahead, sampled)
    ours = _predicted(task, ahead, recipe, champion)
    theirs = _predicted(task, of_sample, recipe, rival.fleet if rival else None)
    asked = _needing_baselines(ours, ahead) | (_needing_baselines(theirs, of_sample) if rival else set())
    naive = _by_baselines(task, ahead, recipe, last, otherwise, asked)
    served = _forecasts(ahead, recipe, naive, ours, version, last, levels)
    counted = {"sampled": 0, "split": 0}
    if rival is not None:
        naive = {name: values[sampled] for name, values in naive.items()}
        said = _forecasts(of_sample, recipe, naive, theirs, rival.version, last, levels)
        served, beside = _dealt(served, said, sampled, split)
        counted = {"sampled": int(sampled.sum()), "split": int(split.sum())}
        if rival.folder is not None and sampled.any():
            part = rows.filter(pa.array(sampled))
            write_parquet(forecast_table(part, beside, recipe, time_type, levels), f"{rival.folder}/{name}")
    if folder is not None:
        write_parquet(forecast_table(rows, served, recipe, time_type, levels), f"{folder}/{name}")
    counts = np.bincount(served.model, minlength=len(MODELS)).tolist()
    by_model = {f"by_{name}": count for name, count in zip(MODELS, counts, strict=True)}
    counted |= {"segments": len(rows) // recipe.horizon, "rows": len(rows)}
    yield {"file": name, **counted, "assumed": int(pc.sum(rows[ASSUMED]).as_py() or 0), **by_model}


def _in_sample(ahead: Bucket, share: float) -> NDArray[np.bool_]:
    segments = list(ahead.segments())
    chosen = sample_places(rows.key for rows in segments) < share
    return np.repeat(chosen, [len(rows.periods) for rows in segments])


def _only(bucket: Bucket, rows: NDArray[np.bool_]) -> Bucket:
    return Bucket(bucket.table.filter(pa.array(rows)), bucket.x[rows], bucket.labels[rows], bucket.periods[rows])


def _dealt(ours: Said, theirs: Said, sampled: NDArray[np.bool_], split: NDArray[np.bool_]) -> tuple[Said, Said]:
    """What is served, for all rows, and what is not, for the sampled ones; `theirs` is for the sampled ones."""
    swapped = split[sampled]
    return ours.but(split, theirs.where(swapped)), theirs.but(swapped, ours.where(split))


def _predicted(task: ScoreTask, ahead: Bucket, recipe: Recipe, fleet: Candidate | None) -> Predictions | None:
    """What the models of a fleet say of each segment's rows, all of which lie ahead; None without a fleet."""
    if fleet is None or not len(ahead.periods):
        return None
    targets = {rows.key: rows.periods for rows in ahead.segments()}
    return candidate_predictions(fleet, ahead, task.bucket, recipe, targets, SERVED, only_serving=True)


def _needing_baselines(found: Predictions | None, ahead: Bucket) -> set[str]:
    """Segments in whose forecasts a baseline has a part; of the others no history need be read."""
    return {
        rows.key for rows in ahead.segments() if found is None or found.needs_baselines(rows.key, len(rows.periods))
    }


def _forecasts(
    ahead: Bucket,
    recipe: Recipe,
    naive: Mapping[str, Floats],
    found: Predictions | None,
    version: int | None,
    last: int,
    levels: Sequence[float],
) -> Said:
    """What a fleet says of each row, all of which lie ahead."""
    count = len(ahead.periods)
    forecast, made_by = naive[BASELINE].copy(), np.zeros(count, dtype=np.int8)
    said = Said(forecast, made_by, np.full((count, len(levels)), np.nan), np.full(count, version or 0, dtype=np.int64))
    if found is None:
        return said
    place_of = {name: place for place, name in enumerate(MODELS)}
    for rows in ahead.segments():
        mine = slice(rows.first_row, rows.first_row + len(rows.periods))
        forecast[mine], by_model = found.served(rows.key, {name: values[mine] for name, values in naive.items()})
        made_by[mine] = np.where(by_model, place_of[found.serves(rows.key)], place_of[BASELINE])
        around = found.quantiles.get(rows.key, NO_QUANTILES)
        said.quantiles[mine] = around.around(forecast[mine], rows.periods - last, recipe.horizon, levels)
    return said


def _by_baselines(
    task: ScoreTask, ahead: Bucket, recipe: Recipe, last: int, otherwise: float, asked: Set[str]
) -> dict[str, Floats]:
    """For each row, all of which lie ahead, the baselines' forecasts; `otherwise` in segments not asked for."""
    segments = {rows.key: rows for rows in ahead.segments() if rows.key in asked}
    found = {name: np.full(len(ahead.periods), otherwise) for name in (BASELINE, MEDIAN)}
    if not segments:
        return found
    for past in label_history(task.files, recipe):
        if past.key in segments:
            rows, known = segments[past.key], past.periods <= last
            origins = np.full(len(rows.periods), last)
            history = past.periods[known], past.labels[known]
            for name, forecast in baseline_forecasts(recipe, *history, rows.periods, origins, otherwise).items():
                found[name][rows.first_row : rows.first_row + len(forecast)] = forecast
    return found


def forecast_table(rows: pa.Table, said: Said, recipe: Recipe, time_type: str, levels: Sequence[float]) -> pa.Table:
    """The rows of `lake/forecasts`: segment columns as they came, time, and `COLUMNS`."""
    times = rows[TIME]
    if time_type == "date":
        times = times.cast(pa.date32())
    elif time_type == "timestamp":
        times = pc.assume_timezone(times, "UTC")
    values = {
        "forecast": pa.array(said.forecast),
        "model": pa.array(MODELS[said.model], pa.string()),
        "version": pa.array(said.version, pa.int64(), mask=said.version == 0),
        "assumed": rows[ASSUMED],
        **{
            quantile_name(level): pa.array(said.quantiles[:, place], from_pandas=True)
            for place, level in enumerate(levels)
        },
    }
    columns = {name: rows[name] for name in recipe.segment} | {recipe.time: times}
    return pa.table(columns | {output_name(name, recipe): value for name, value in values.items()})
