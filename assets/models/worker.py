"""What a Spark worker does with a bucket: fit its segments, write their models to the lake, report a line each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.models.bucket import Bucket, SegmentRows, categorical_positions, read_bucket
from assets.models.error_sums import Asked, error_sums
from assets.models.fleet_model import FOLD, identity_columns, load_fleet_model
from assets.models.isolation import Lost, isolated
from assets.models.line import FAILED, LINE, SHARD, SKIPPED, TRAINED
from assets.models.segment import CutOffs, fingerprint, fit_facts, fit_segment, fold_of_baseline, why_untrainable
from assets.models.shard import ShardWriter, known_fits
from assets.raw.recipe import Recipe

Fit = Callable[[SegmentRows, Recipe, CutOffs, list[int], int], dict[str, Any]]


@dataclass(frozen=True)
class BucketTask:
    """One bucket to train: its feature files; the segments wanted, if not all but some; and threads a model."""

    bucket: int
    files: tuple[str, ...]
    segments: frozenset[str] | None = None
    but: frozenset[str] = frozenset()
    threads: int = 1


@dataclass(frozen=True)
class Plan:
    """What all buckets of a training share. `shared` stands for all that shapes a model beside its segment's rows."""

    lake: str
    recipe: Recipe
    cut_offs: CutOffs
    shared: str
    fleet_file: str | None
    time_limit: float
    retries: int
    anew: bool


def train_bucket(task: BucketTask, plan: Plan, fit: Fit = fit_segment) -> Iterator[dict[str, Any]]:
    """Trains a bucket's segments, writes their models to shards, and gives a line (see `LINE`) a segment.

    A segment whose fingerprint a shard has already is not fitted again (unless `plan.anew`), whether a committed
    training or one that died has left it. Fits run in a child process: a segment that hangs or kills it fails alone.
    """
    identity = identity_columns(plan.recipe) if plan.fleet_file else []
    bucket = read_bucket(task.files, plan.recipe, identity)
    segments = list(bucket.segments())
    wanted = [rows for rows in segments if _is_wanted(rows.key, task)]
    facts = [_facts(rows, plan) for rows in wanted]
    trainable = {line["fingerprint"] for line in facts if line["status"] == TRAINED}
    known = {} if plan.anew else known_fits(plan.lake, task.bucket, trainable, len(segments))
    for line, sums in zip(facts, _folds_of_fleet(bucket, wanted, plan), strict=True):
        line |= {"bucket": task.bucket, **sums}
    to_fit = [i for i, line in enumerate(facts) if line["status"] == TRAINED and line["fingerprint"] not in known]
    for line in facts:
        if line["status"] == SKIPPED:
            yield _completed(line)
        elif line["fingerprint"] in known:
            yield _completed(line | known[line["fingerprint"]])
    yield from _fitted(task, plan, fit, wanted, facts, to_fit)


def _fitted(
    task: BucketTask, plan: Plan, fit: Fit, wanted: list[SegmentRows], facts: list[dict[str, Any]], to_fit: list[int]
) -> Iterator[dict[str, Any]]:
    import lightgbm  # noqa: F401  # here, for all children of this worker, not by each of them

    categorical = categorical_positions(plan.recipe)
    host, worker = socket.gethostname(), os.getpid()

    def work(place: int) -> dict[str, Any]:
        return fit(wanted[place], plan.recipe, plan.cut_offs, categorical, task.threads)

    with ShardWriter(plan.lake, task.bucket) as shard:
        for place, fitted in isolated(work, to_fit, time_limit=plan.time_limit, retries=plan.retries):
            line = facts[place] | {"host": host, "worker": worker}
            if isinstance(fitted, Lost):
                yield _completed(line | {"status": FAILED, "reason": fitted.reason})
                continue
            line |= fit_facts(fitted)
            if line["status"] == TRAINED:
                record = {name: (fitted | line).get(name) for name in SHARD.names}
                line["shard"] = shard.add(record)
            yield _completed(line)


def _is_wanted(key: str, task: BucketTask) -> bool:
    return key not in task.but and (task.segments is None or key in task.segments)


def _facts(rows: SegmentRows, plan: Plan) -> dict[str, Any]:
    """A line without its fit: whether the segment can be trained, its rows, and the baseline on its fold."""
    recipe, cut_offs = plan.recipe, plan.cut_offs
    _, y = rows.through(cut_offs.holdout)
    known = int((~np.isnan(rows.labels)).sum())
    line = {"segment": rows.key, "rows": known, "selected_through": cut_offs.holdout}
    line |= fold_of_baseline(rows, recipe, cut_offs)
    if reason := why_untrainable(rows, y, recipe):
        return line | {"status": SKIPPED, "reason": reason}
    seen = {"trained_through": cut_offs.last, "judged_through": cut_offs.holdout}
    return line | seen | {"status": TRAINED, "fingerprint": fingerprint(rows, cut_offs, plan.shared)}


def _folds_of_fleet(bucket: Bucket, wanted: list[SegmentRows], plan: Plan) -> list[dict[str, float | None]]:
    """The fleet-wide model's error sums on the fold of each segment, all predicted at once."""
    model = load_fleet_model(plan.lake, plan.fleet_file, FOLD) if plan.fleet_file else None
    if model is None:
        return [{} for _ in wanted]
    fold, holdout = plan.cut_offs.fold, plan.cut_offs.holdout
    insides = [rows.first_row + np.flatnonzero(rows.between(fold, holdout)) for rows in wanted]
    places: NDArray[np.int64] = np.concatenate([*insides, np.empty(0, dtype=np.int64)]).astype(np.int64)
    ends: NDArray[np.int64] = np.cumsum([len(inside) for inside in insides])[:-1]
    predicted = np.split(model.predict(bucket, places, plan.recipe), ends)
    asked = Asked.of(plan.recipe.model)
    return [
        error_sums(bucket.labels[inside], own, "fold_fleet", asked) if len(inside) else {}
        for inside, own in zip(insides, predicted, strict=False)
    ]


def _completed(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line.get(name) for name in LINE.names}
