"""What a Spark worker does with a bucket: fit its segments, write their models to the lake, report a line each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.models.bucket import Bucket, SegmentRows, categorical_positions, read_bucket
from assets.models.device import Device
from assets.models.fleet_model import FOLD, identity_columns, load_fleet_model
from assets.models.folds import Fold, fold_blends, fold_errors, folds_between
from assets.models.isolation import Lost, isolated
from assets.models.line import FAILED, FOLD_BLENDS, FOLD_FORECAST, LINE, SEGMENT_MODEL, SHARD, SKIPPED, TRAINED
from assets.models.segment import CutOffs, fingerprint, fit_facts, fit_segment, why_untrainable
from assets.models.shard import ShardWriter, known_fits
from assets.raw.recipe import Recipe
from resources.computing import CPU

Floats = NDArray[np.float64]
Fit = Callable[[SegmentRows, Recipe, CutOffs, list[int], int], dict[str, Any]]


@dataclass(frozen=True)
class BucketTask:
    """One bucket to train: its feature files; the segments wanted, if not all but some; threads a model; its GPU."""

    bucket: int
    files: tuple[str, ...]
    segments: frozenset[str] | None = None
    but: frozenset[str] = frozenset()
    threads: int = 1
    device: Device | None = None

    def wants(self, segment: str) -> bool:
        """Whether a segment of the bucket is this task's."""
        return segment not in self.but and (self.segments is None or segment in self.segments)


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
    A task with a GPU is content with models of CPUs, but not the other way round: those are the same byte for byte.
    """
    identity = identity_columns(plan.recipe) if plan.fleet_file else []
    bucket = read_bucket(task.files, plan.recipe, identity)
    segments = list(bucket.segments())
    wanted = [rows for rows in segments if task.wants(rows.key)]
    folds = _folds(bucket, wanted, plan)
    facts = [_facts(rows, fold, plan) for rows, fold in zip(wanted, folds, strict=True)]
    known = {} if plan.anew else _known(task, plan, facts, len(segments))
    for line in facts:
        line["bucket"] = task.bucket
    to_fit = [i for i, line in enumerate(facts) if line["status"] == TRAINED and line["fingerprint"] not in known]
    for line, fold in zip(facts, folds, strict=True):
        if line["status"] == SKIPPED:
            yield _completed(line, fold, plan)
        elif line["fingerprint"] in known:
            yield _completed(line | known[line["fingerprint"]], fold, plan)
    yield from _fitted(task, plan, fit, wanted, facts, folds, to_fit)


def _known(task: BucketTask, plan: Plan, facts: list[dict[str, Any]], segments: int) -> dict[str, dict[str, Any]]:
    """Fits in the bucket's shards by the fingerprint that the segment's CPU model has, or would have."""
    device, own = task.device, {line["fingerprint"] for line in facts if line["status"] == TRAINED}
    of_device = {device.fingerprint(each): each for each in own} if device else {}
    found = known_fits(plan.lake, task.bucket, own | of_device.keys(), segments)
    return {of_device.get(each, each): fit for each, fit in found.items()}


def _fitted(
    task: BucketTask,
    plan: Plan,
    fit: Fit,
    wanted: list[SegmentRows],
    facts: list[dict[str, Any]],
    folds: list[Fold],
    to_fit: list[int],
) -> Iterator[dict[str, Any]]:
    import lightgbm  # noqa: F401  # here, for all children of this worker, not by each of them

    host, worker = socket.gethostname(), os.getpid()
    fits = Fits(task, plan, fit, wanted, categorical_positions(plan.recipe))
    with ShardWriter(plan.lake, task.bucket) as shard:
        for place, fitted in fits.outcomes(to_fit):
            line = facts[place] | {"host": host, "worker": worker}
            if isinstance(fitted, Lost):
                yield _completed(line | {"status": FAILED, "reason": fitted.reason}, folds[place], plan)
                continue
            if task.device and fitted.get("on_gpu"):
                line["fingerprint"] = task.device.fingerprint(line["fingerprint"])
            line |= fit_facts(fitted)
            if line["status"] == TRAINED:
                record = {name: (fitted | line).get(name) for name in SHARD.names}
                line["shard"] = shard.add(record)
            yield _completed(line | {FOLD_FORECAST: fitted.get(FOLD_FORECAST)}, folds[place], plan)


@dataclass(frozen=True)
class Fits:
    """The fits of a task: on its GPU where it has one; on the CPU all else, and what the GPU failed at."""

    task: BucketTask
    plan: Plan
    fit: Fit
    wanted: list[SegmentRows]
    categorical: list[int]

    def outcomes(self, to_fit: list[int]) -> Iterator[tuple[int, Any]]:
        """Each segment's place with what came of its fit (`Lost` if it hung or killed its process)."""
        device, plan = self.task.device, self.plan
        limits: dict[str, Any] = {"time_limit": plan.time_limit, "retries": plan.retries}
        if device is None or not to_fit:
            yield from isolated(self._on_cpu, to_fit, **limits)
            return
        reasons: dict[int, str] = {}
        with device.turn():
            for place, fitted in isolated(partial(self._on_gpu, device), to_fit, time_limit=plan.time_limit, retries=0):
                if isinstance(fitted, Lost):
                    reasons[place] = f"{device.kind}: {fitted.reason}"
                else:
                    yield place, fitted
        yield from isolated(lambda place: self._on_cpu(place, reasons[place]), list(reasons), **limits)

    def _on_cpu(self, place: int, why: str | None = None) -> dict[str, Any]:
        """The fit on the CPU, and `why` there, if it was to be elsewhere."""
        return self._on(self.plan.recipe, place) | {"device": f"{CPU} ({why})"[:200] if why else CPU}

    def _on_gpu(self, device: Device, place: int) -> dict[str, Any]:
        address = device.assigned()
        if address is None:
            return self._on_cpu(place, f"no {device.kind} was offered")
        fitted = self._on(device.recipe_at(address, self.plan.recipe), place)
        at = f"{device.kind}:{address}"
        if fitted["status"] == TRAINED:
            return fitted | {"device": at, "on_gpu": True}
        return self._on_cpu(place, f"{at}: {fitted['reason']}")

    def _on(self, recipe: Recipe, place: int) -> dict[str, Any]:
        return self.fit(self.wanted[place], recipe, self.plan.cut_offs, self.categorical, self.task.threads)


def _facts(rows: SegmentRows, fold: Fold, plan: Plan) -> dict[str, Any]:
    """A line without its fit: whether the segment can be trained, its rows, and the others on its fold."""
    recipe, cut_offs = plan.recipe, plan.cut_offs
    _, y = rows.through(cut_offs.holdout)
    known = int((~np.isnan(rows.labels)).sum())
    line = {"segment": rows.key, "rows": known, "selected_through": cut_offs.holdout}
    line |= fold_errors(fold, recipe)
    if reason := why_untrainable(rows, y, recipe):
        return line | {"status": SKIPPED, "reason": reason}
    seen = {"trained_through": cut_offs.last, "judged_through": cut_offs.holdout}
    return line | seen | {"status": TRAINED, "fingerprint": fingerprint(rows, cut_offs, plan.shared)}


def _folds(bucket: Bucket, wanted: list[SegmentRows], plan: Plan) -> list[Fold]:
    fleet = load_fleet_model(plan.lake, plan.fleet_file, FOLD) if plan.fleet_file else None
    return folds_between(bucket, wanted, plan.recipe, plan.cut_offs.fold, plan.cut_offs.holdout, fleet)


def _completed(line: dict[str, Any], fold: Fold, plan: Plan) -> dict[str, Any]:
    """The line of a segment, with what each blend of its candidates would have lost on the fold."""
    whole = line | {FOLD_BLENDS: fold_blends(fold.also(SEGMENT_MODEL, line.get(FOLD_FORECAST)), plan.recipe)}
    return {name: whole.get(name) for name in LINE.names}
