"""Rolling-origin backtest: what would have been served at past origins, and how wrong it was.

At each origin all is done as it would have been then: models are fitted on rows up to it, weights are chosen on the
fold before it, and the horizon after it judges. Nothing of it is served or kept. Tashman, "Out-of-sample tests of
forecasting accuracy", International Journal of Forecasting 16 (2000).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.evaluation.conformal import steps_ahead
from assets.features.publish import FeatureSet
from assets.models.blend import CANDIDATES, unpacked_losses, weight_grid
from assets.models.bucket import SegmentRows, categorical_positions, read_bucket
from assets.models.choice import chosen_points
from assets.models.error_sums import SCALES, Asked, label_scales
from assets.models.fit import fit, predict
from assets.models.fleet_model import (
    FACTS,
    FOLD,
    JUDGED,
    fleet_file,
    identity_columns,
    load_fleet_model,
    train_fleet_model,
)
from assets.models.folds import Fold, fold_blends, folds_between
from assets.models.isolation import Lost, isolated
from assets.models.line import FOLD_BLENDS, SEGMENT_MODEL, SKIPPED, TRAINED
from assets.models.quantiles import blocks_of_horizon
from assets.models.segment import CutOffs, why_untrainable
from assets.models.tasks import fleet_task, training_tasks
from assets.models.worker import BucketTask
from assets.raw.recipe import Recipe
from resources.files import remove_file
from resources.judging import Failures
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.spark import Spark
from resources.spread import Say, spread

Floats = NDArray[np.float64]
LINES = pa.schema(
    [
        ("segment", pa.string()),
        ("status", pa.string()),
        (FOLD_BLENDS, pa.binary()),
        # of each block of the horizon: loss of each blend on the rows after the origin, and what it is a share of
        ("losses", pa.list_(pa.binary())),
        ("scales", pa.list_(pa.list_(pa.float64()))),
    ]
)


@dataclass(frozen=True)
class BacktestPlan:
    """What all buckets of one origin share."""

    lake: str
    recipe: Recipe
    cut_offs: CutOffs
    fleet_file: str | None
    time_limit: float


@dataclass(frozen=True)
class Origin:
    """What became of one origin: the points of the grid that were chosen, also had there been no such candidate.

    By block of the horizon: losses (blocks, segments, points), and what they are shares of (blocks, segments, SCALES).
    """

    points: NDArray[np.int64]
    without: dict[str, NDArray[np.int64]]
    losses: Floats
    scales: Floats
    seconds: float


def backtested(
    lake: Lake,
    spark: Spark,
    features: FeatureSet,
    recipe: Recipe,
    origins: int,
    failures: Failures,
    say: Say | None = None,
) -> Iterator[Origin]:
    """Each of the last origins, a holdout apart, the newest first.

    Raises:
        InputError: the history is too short for so many.
    """
    history, last = features.profile.times.history, features.profile.last_period
    most = (history - recipe.minimum_history) // recipe.holdout - 1
    if origins > most:
        what = f"{origins} origins, {recipe.holdout} periods apart, do not fit the history of {history} periods"
        remedy = f"ask for {most} at most" if most > 0 else "bring more history, or shorten evaluation.holdout"
        raise InputError([Problem("--origins", what, remedy)])
    for number in range(origins):
        cut_offs = CutOffs.of(recipe, last - number * recipe.holdout)
        yield _origin(lake, spark, features, recipe, cut_offs, failures, say)


def _origin(
    lake: Lake,
    spark: Spark,
    features: FeatureSet,
    recipe: Recipe,
    cut_offs: CutOffs,
    failures: Failures,
    say: Say | None,
) -> Origin:
    started, name = time.perf_counter(), f"backtest-{features.digest}-{recipe.digest}-{cut_offs.last}"
    file = fleet_file(name) if recipe.fleet_rows else None
    if file:
        work = partial(train_fleet_model, recipe=recipe, cut_offs=cut_offs, threads=spark.threads())
        spread(spark, [fleet_task(lake, features, recipe, name)], work, FACTS)
    plan = BacktestPlan(lake.root, recipe, cut_offs, file, failures.time_limit)
    try:
        tasks = training_tasks(lake, features, None, spark.threads())
        work_of = partial(backtest_bucket, plan=plan)
        total = features.record["segments"]
        lines = spread(spark, tasks, work_of, LINES, what="backtested", total=total, say=say)
    finally:
        if file:
            remove_file(lake.path(file))
    return _as_origin(lines, recipe, time.perf_counter() - started)


def _as_origin(lines: pa.Table, recipe: Recipe, seconds: float) -> Origin:
    judged = lines.filter(lines["losses"].is_valid()).sort_by("segment").combine_chunks()
    blocks, chosen = len(blocks_of_horizon(recipe.horizon)), partial(chosen_points, judged, recipe.blend)
    columns = judged["losses"].combine_chunks().flatten()
    losses = unpacked_losses(pa.chunked_array([columns])).reshape(len(judged), blocks, -1).transpose(1, 0, 2)
    scales = np.array(judged["scales"].to_pylist(), dtype=np.float64).reshape(len(judged), blocks, -1)
    points = chosen(recipe.horizons_held_out)
    without = {name: chosen(recipe.horizons_held_out, without=name) for name in CANDIDATES[1:]}
    return Origin(points, without, np.nan_to_num(losses), scales.transpose(1, 0, 2), seconds)


def backtest_bucket(task: BucketTask, plan: BacktestPlan) -> Iterator[dict[str, Any]]:
    """A line (see `LINES`) for each segment of a bucket, as it would have been trained, chosen and judged."""
    recipe, cut = plan.recipe, plan.cut_offs
    bucket = read_bucket(task.files, recipe, identity_columns(recipe) if plan.fleet_file else [])
    wanted = [rows for rows in bucket.segments() if task.wants(rows.key)]
    by_fleet = {name: load_fleet_model(plan.lake, plan.fleet_file, name) if plan.fleet_file else None
                for name in (FOLD, JUDGED)}  # fmt: skip
    folds = folds_between(bucket, wanted, recipe, cut.fold, cut.holdout, by_fleet[FOLD])
    held = folds_between(bucket, wanted, recipe, cut.holdout, cut.last, by_fleet[JUDGED])
    places = [place for place, fold in enumerate(held) if len(fold.labels)]
    work = partial(_own_forecasts, wanted, recipe, cut, task.threads)
    import lightgbm  # noqa: F401  # here, for all children of this worker

    for place, own in isolated(work, places, time_limit=plan.time_limit):
        before, after = (None, None) if isinstance(own, Lost) else own
        status = SKIPPED if after is None else TRAINED
        line: dict[str, Any] = {"segment": wanted[place].key, "status": status}
        line |= {FOLD_BLENDS: fold_blends(folds[place].also(SEGMENT_MODEL, before), recipe)}
        yield line | _by_block(_complete(held[place].also(SEGMENT_MODEL, after)), recipe, cut)


def _own_forecasts(
    wanted: list[SegmentRows], recipe: Recipe, cut: CutOffs, threads: int, place: int
) -> tuple[list[float] | None, list[float] | None]:
    """What a segment's own models say of the fold and of the rows after the origin; None where there can be none."""
    spans = (cut.fold, cut.holdout), (cut.holdout, cut.last)
    try:
        before, after = (_own_forecast(wanted[place], recipe, *span, threads) for span in spans)
    except Exception:  # a segment that cannot be fitted has no model of its own, here as in a training
        return None, None
    return before, after


def _own_forecast(rows: SegmentRows, recipe: Recipe, through: int, end: int, threads: int) -> list[float] | None:
    x, y = rows.through(through)
    inside = rows.between(through, end)
    if why_untrainable(rows, y, recipe) or not inside.any():
        return None
    own = fit(x, y, recipe.model, categorical_positions(recipe), threads)
    return predict(own, rows.x[inside], recipe.model).tolist()


def _complete(fold: Fold) -> Fold:
    """A fold in which every candidate says something: the baseline's forecast where it has none of its own."""
    absent = {name: fold.candidates[CANDIDATES[0]] for name in CANDIDATES if name not in fold.candidates}
    return replace(fold, candidates={**absent, **fold.candidates})


def _by_block(fold: Fold, recipe: Recipe, cut: CutOffs) -> dict[str, Any]:
    steps = steps_ahead(fold.periods, cut.holdout, recipe)
    losses, scales, asked = [], [], Asked.of(recipe.model)
    for first, last in blocks_of_horizon(recipe.horizon):
        part = fold.part((steps >= first) & (steps <= last))
        losses.append(fold_blends(part, recipe) or np.zeros(len(weight_grid())).tobytes())
        found = label_scales(part.labels, asked)
        scales.append([float(found[name] or 0.0) for name in SCALES])
    return {"losses": losses, "scales": scales}
