"""From the champion and the features to the committed forecasts."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.evaluation.incumbent import Champion
from assets.evaluation.issues import FORECASTS
from assets.evaluation.judge import candidate
from assets.features.point_in_time import ASSUMED
from assets.features.publish import FEATURES, FeatureSet, current_recipe, mean_label, open_segments
from assets.features.rebuild import committed_files
from assets.forecasts.score import WRITTEN, ScoreTask, forecast_table, score_bucket
from assets.models.line import BASELINE, FLEET_MODEL, SEGMENT_MODEL
from assets.models.spread import Say, spread
from assets.models.store import trainings
from assets.raw.parse import TIME
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark

CODE_VERSION = code_version("assets.forecasts.score", "assets.models.predictions", "assets.models.baseline")


@dataclass(frozen=True)
class Forecasts:
    """Committed forecasts and what is said of them."""

    version: int
    record: dict[str, Any]
    is_new: bool


def publish_forecasts(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    champion: Champion | None,
    say: Say | None = None,
) -> Forecasts:
    """Commits `horizon` forecasts for every open segment; nothing if these very ones are there already.

    Without a champion, or where it has no model of a segment, the baseline serves.
    """
    table = lake.table(FORECASTS)
    version = champion.version if champion else None
    # the season shapes no feature, so that the features' own recipe may hold yesterday's
    season = current_recipe(lake, spark, settings).season
    recipe = features.recipe.model_copy(update={"season": season})
    digest = version_of(features.digest, champion.tags["published"] if champion else None, season, CODE_VERSION)
    if table.record().get("digest") == digest:
        return Forecasts(table.version() or 0, table.record(), False)
    last, files = features.profile.last_period, committed_files(lake, features)
    newest = trainings(lake).get(champion.tags["training"]) if champion else None
    serving = candidate(lake, spark, settings, features, champion.listing, newest) if champion else nullcontext()
    with serving as workers_champion, table.staging() as staging:
        tasks = [ScoreTask(bucket, own) for bucket, own in files.items()]
        work = partial(
            score_bucket,
            recipe=recipe,
            last=last,
            otherwise=mean_label(lake, features),
            champion=workers_champion,
            version=version,
            time_type=features.profile.times.time_type,
            folder=staging.uri,
        )
        total = open_segments(lake, features)
        written = spread(spark, tasks, work, WRITTEN, short=True, what="forecast", total=total, say=say)
        record = _record(digest, features, champion, written)
        names = sorted(written["file"].to_pylist())
        committed = table.commit(staging, _schema(lake, features), record, files=names)
    return Forecasts(committed, record, True)


def _record(digest: str, features: FeatureSet, champion: Champion | None, written: pa.Table) -> dict[str, Any]:
    recipe = features.recipe
    ahead = features.profile.times.ahead(recipe.horizon)
    counted = {name: pc.sum(written[name]).as_py() or 0 for name in WRITTEN.names if name != "file"}
    rows = counted["rows"]
    return {
        "digest": digest,
        "rows": rows,
        "segments": counted["segments"],
        "assumed": counted["assumed"],
        "by_model": {name: counted[f"by_{name}"] for name in (SEGMENT_MODEL, FLEET_MODEL, BASELINE)},
        "start": ahead[0].isoformat(),
        "end": ahead[-1].isoformat(),
        "version": champion.version if champion else None,
        "evaluations": {str(champion.version): champion.tags.get("evaluation")} if champion else {},
        "features_version": features.version,
    }


def _schema(lake: Lake, features: FeatureSet) -> pa.Schema:
    """The forecasts' schema, told from the features' own, so that it holds when no segment is open."""
    import numpy as np
    from pyarrow.parquet import read_schema

    from resources.files import filesystem

    recipe = features.recipe
    system, path = filesystem(lake.table(FEATURES).files(features.version)[0])
    with system.open_input_file(path) as file:
        schema = read_schema(file)
    wanted = pa.schema([schema.field(name) for name in (*recipe.segment, TIME, ASSUMED)])
    nothing = np.empty(0)
    table = forecast_table(
        wanted.empty_table(), nothing, nothing.astype(object), recipe, None, features.profile.times.time_type
    )
    return table.schema
