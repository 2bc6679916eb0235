"""Forecasts of rows that a user brings: read and given features by Spark, predicted next to the rows by its workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assets.evaluation.incumbent import Champion
from assets.features.brought import AT, brought_features, stage_brought
from assets.features.contract import BUCKET
from assets.features.publish import FEATURES, FeatureSet, current_features, mean_label
from assets.features.rebuild import BucketFiles, by_bucket, committed_files, rows_as_trained
from assets.forecasts.scored_table import check_output, scored_schema, write_scored
from assets.models.baseline import baseline_forecasts
from assets.models.bucket import label_history, read_bucket
from assets.models.fleet_model import SERVED, identity_columns
from assets.models.line import BASELINE, MEDIAN
from assets.models.predictions import Candidate, ModelGroup, candidate_predictions
from assets.models.quantiles import NO_QUANTILES, levels_in, steps_of
from assets.models.store import Training, as_listing, shared_listing, trainings
from assets.raw.parse import KEY, PERIOD, Kind
from assets.raw.recipe import Recipe
from resources.files import remove, write_parquet
from resources.frames import save_frame
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import spread
from resources.table import Staging, staged_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WRITTEN = pa.schema([("file", pa.string()), ("model", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True)
class BroughtTask:
    """One bucket of brought rows: their features by the newest recipe, and the committed history."""

    bucket: int
    files: tuple[str, ...]
    history: tuple[str, ...]


def score_brought(
    lake: Lake, spark: Spark, settings: Settings, champion: Champion | None, table: str, out: str
) -> dict[str, int]:
    """Writes the rows of a table with the champion's forecasts to `out`; gives how many rows each model forecast.

    Every row comes back, in order, with `forecast`, `model`, `version`, `reason` and quantiles. Columns are typed as
    the champion's trainings have them, the newest first. Rows of segments without a model get the baseline's forecast.

    Raises:
        InputError: no champion, one that answers another question, or a table that cannot be used.
    """
    check_output(out)
    features, newest, past = _published(lake, settings, champion)
    assert champion is not None, "the above raises without one"
    recipe, levels = newest.recipe, levels_in(as_listing(champion.listing))
    kinds = _kinds([*past, newest])
    with _scratch(lake) as folder:
        staged = stage_brought(spark, settings, table, features, recipe, kinds, f"{folder}/rows")
        files = {
            each.id: _staged_features(lake, spark, settings, staged, features, each.recipe, f"{folder}/{number}")
            for number, each in enumerate([newest, *past])
        }
        history = committed_files(lake, features)
        groups = tuple(ModelGroup(t.id, t.recipe, files[t.id], t.fleet_file) for t in [newest, *past])
        with shared_listing(lake, champion.listing) as listing:
            work = partial(
                score_bucket_of_brought,
                recipe=recipe,
                last=features.profile.last_period,
                otherwise=mean_label(lake, features),
                champion=Candidate(lake.root, listing, groups, (newest.id, newest.unproven)),
                levels=levels,
                folder=f"{folder}/scored",
            )
            tasks = [BroughtTask(bucket, own, history.get(bucket, ())) for bucket, own in files[newest.id].items()]
            written = spread(spark, tasks, work, WRITTEN, short=True)
        scored = sorted(set(written["file"].to_pylist()))
        files_of = [f"{folder}/scored/{name}" for name in scored]
        write_scored(spark, staged, files_of, champion, levels, out, f"{folder}/out")
    counted = written.group_by("model").aggregate([("rows", "sum")])
    return dict(zip(counted["model"].to_pylist(), counted["rows_sum"].to_pylist(), strict=True))


def _published(
    lake: Lake, settings: Settings, champion: Champion | None
) -> tuple[FeatureSet, Training, list[Training]]:
    """The committed features, the champion's newest training, and the older ones that serve some of its segments."""
    where, again = f"fleet {settings.name}", "run the weekly cycle: fleet run"
    if champion is None:
        raise InputError([Problem(where, "has no champion yet", again)])
    features, known = current_features(lake), trainings(lake)
    newest = known[champion.tags["training"]]
    asked = [settings.segment, settings.time, settings.label]
    answered = [newest.recipe.segment, newest.recipe.time, newest.recipe.label]
    if asked != answered or newest.recipe.problem_digest != features.recipe.problem_digest:
        what = "has a champion of another segment, time, label or frequency than fleet.yaml's"
        raise InputError([Problem(where, what, again)])
    older = [known[identity] for identity in champion.trainings if identity in known and identity != newest.id]
    question = newest.recipe.problem_digest
    return features, newest, [training for training in older if training.recipe.problem_digest == question]


def _kinds(oldest_first: list[Training]) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for training in oldest_first:
        found |= {column: training.recipe.kinds[column] for column in training.recipe.known_ahead}
    return found


@contextmanager
def _scratch(lake: Lake) -> Iterator[str]:
    folder = lake.path(f"brought-{uuid.uuid4().hex}")
    try:
        yield folder
    finally:
        remove(folder)


def _staged_features(
    lake: Lake, spark: Spark, settings: Settings, rows: DataFrame, features: FeatureSet, recipe: Recipe, folder: str
) -> BucketFiles:
    from pyspark.sql.pandas.types import from_arrow_schema

    history = rows_as_trained(lake, spark, settings, features, recipe) if recipe.time else None
    committed = from_arrow_schema(lake.table(FEATURES).schema(features.version))
    types = {field.name: field.dataType.simpleString() for field in committed}
    save_frame(brought_features(rows, history, features, recipe, types), folder, partition_by=BUCKET)
    return by_bucket([f"{folder}/{file}" for file in staged_files(Staging(*folder.rsplit("/", 1)))])


def score_bucket_of_brought(
    task: BroughtTask,
    recipe: Recipe,
    last: int,
    otherwise: float,
    champion: Candidate,
    levels: Sequence[float],
    folder: str,
) -> Iterator[dict[str, Any]]:
    """Writes the forecasts of a bucket's rows as one file (see `scored_schema`) under `folder`; gives rows by model.

    A baseline's forecast is made from what was known a horizon before its row, as a model's is, and `otherwise` where
    nothing was.
    """
    bucket = read_bucket(task.files, recipe, also=[AT, *identity_columns(recipe)])
    segments = {rows.key: rows for rows in bucket.segments()}
    count = len(bucket.periods)
    naive, model = {name: np.full(count, otherwise) for name in (BASELINE, MEDIAN)}, np.full(count, BASELINE, object)
    forecast, around = np.full(count, otherwise), np.full((count, len(levels)), np.nan)
    reached = replace(champion, groups=tuple(group for group in champion.groups if task.bucket in group.files))
    targets = {key: rows.periods for key, rows in segments.items()}
    found = candidate_predictions(reached, bucket, task.bucket, recipe, targets, SERVED, only_serving=True)
    about = bucket.table[AT].to_numpy().astype(np.int64)
    for past in label_history(task.history, recipe):
        if past.key in segments:
            rows = segments[past.key]
            places = slice(rows.first_row, rows.first_row + len(rows.periods))
            origins = np.minimum(last, about[places] - recipe.horizon)
            said = baseline_forecasts(recipe, past.periods, past.labels, about[places], origins, otherwise)
            for name, values in said.items():
                naive[name][places] = values
    for key, rows in segments.items():
        places = slice(rows.first_row, rows.first_row + len(rows.periods))
        forecast[places], by_model = found.served(key, {name: values[places] for name, values in naive.items()})
        model[places] = np.where(by_model, found.serves(key), BASELINE)
        quantiles = found.quantiles.get(key, NO_QUANTILES)
        steps = steps_of(about[places], last, recipe.horizon) if recipe.time else np.ones_like(about[places])
        around[places] = quantiles.around(forecast[places], steps, recipe.horizon, levels)
    columns = [bucket.table[KEY], bucket.table[PERIOD], pa.array(forecast), pa.array(model, pa.string())]
    columns += [pa.array(around[:, place], from_pandas=True) for place in range(len(levels))]
    table = pa.Table.from_arrays(columns, schema=scored_schema(levels))
    name = f"bucket-{task.bucket:05d}-{uuid.uuid4().hex}.parquet"
    write_parquet(table, f"{folder}/{name}")
    for made_by in sorted(set(model)):
        yield {"file": name, "model": made_by, "rows": int((model == made_by).sum())}
