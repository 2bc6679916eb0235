"""Training of a fleet: Spark workers fit the segments of each bucket and write their models to the lake."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.features.publish import SEGMENTS, FeatureSet
from assets.features.rebuild import committed_files
from assets.models.shard import LINE, SHARD, TRAINED, BucketTask, train_bucket
from assets.models.spread import spread
from assets.models.store import MODELS, TRAINING, Training, latest_training, trainings
from assets.partitions import bucket_of
from assets.raw.parse import KEY
from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.spark import Spark

CODE_VERSION = code_version(
    "assets.models.fit", "assets.models.shard", "assets.models.bucket", "assets.models.baseline"
)


def train_fleet(
    lake: Lake,
    spark: Spark,
    features: FeatureSet,
    recipe: Recipe,
    segments: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Training, bool]:
    """Trains the named segments (all by default) and commits their models; gives the training and whether it is new.

    A training of all segments that was committed before for the same rows, recipe and code is not repeated.

    Raises:
        InputError: a named segment does not exist.
    """
    digest = version_of(features.digest, recipe.digest, CODE_VERSION)
    if segments is None and (known := _known_training(lake, digest)):
        _make_latest(lake, known)
        return known, False
    tasks = _tasks(lake, features, segments)
    table = lake.table(MODELS)
    identity = digest if segments is None else f"{digest}-{uuid.uuid4().hex[:8]}"
    total = features.record["segments"] if segments is None else len(segments)
    with table.staging() as staging:
        folder = f"{staging.uri}/{TRAINING}={identity}"
        work = partial(train_bucket, recipe=recipe, last=features.profile.last_period, folder=folder)
        lines = spread(spark, tasks, work, LINE, what="trained", total=total, say=say)
        record = _record(identity, digest, features, recipe, segments, lines)
        files = [f"{TRAINING}={identity}/{name}" for name in sorted(pc.unique(lines["shard"]).to_pylist())]
        schema = SHARD.append(pa.field(TRAINING, pa.string()))
        table.commit(staging, schema, record, mode="append", partition_by=[TRAINING], files=files)
    return Training(identity, record), True


def _known_training(lake: Lake, digest: str) -> Training | None:
    return next((t for t in trainings(lake).values() if t.covers_all and t.record["digest"] == digest), None)


def _make_latest(lake: Lake, known: Training) -> None:
    """Names a training again after another recipe's, so that what is judged next is today's."""
    table, latest = lake.table(MODELS), latest_training(lake)
    if latest is None or latest.record["digest"] == known.record["digest"]:
        return
    with table.staging() as staging:
        table.commit(staging, table.schema(), known.record, mode="append", partition_by=[TRAINING], files=[])


def _record(
    identity: str,
    digest: str,
    features: FeatureSet,
    recipe: Recipe,
    segments: Sequence[str] | None,
    lines: pa.Table,
) -> dict[str, Any]:
    statuses = {row["values"]: row["counts"] for row in pc.value_counts(lines["status"]).to_pylist()}
    failed = lines.filter(pc.not_equal(lines["status"], TRAINED))
    reasons = {row["values"]: row["counts"] for row in pc.value_counts(failed["reason"]).to_pylist()}
    return {
        "training": identity,
        "digest": digest,
        "recipe": recipe.model_dump(),
        "features_version": features.version,
        "features_digest": features.digest,
        "raw_version": features.record["raw_version"],
        "segments": sorted(segments) if segments is not None else None,
        "trained_through": features.profile.last_period,
        "counts": statuses,
        "reasons": reasons,
    }


def _tasks(lake: Lake, features: FeatureSet, segments: Sequence[str] | None) -> list[BucketTask]:
    """A task for each bucket that holds wanted segments, the largest first."""
    wanted = None if segments is None else _wanted_by_bucket(lake, features, segments)
    files = committed_files(lake, features)
    tasks = [
        BucketTask(bucket, files[bucket], None if wanted is None else frozenset(wanted[bucket]))
        for bucket in files
        if wanted is None or bucket in wanted
    ]
    return sorted(tasks, key=lambda task: -_size(task.files))


def _wanted_by_bucket(lake: Lake, features: FeatureSet, segments: Sequence[str]) -> dict[int, set[str]]:
    known = lake.table(SEGMENTS).arrow(columns=[KEY], version=features.record["segments_version"])
    missing = sorted(set(segments) - set(known[KEY].to_pylist()))
    if missing:
        shown = ", ".join(repr(key) for key in missing[:10])
        remedy = "write the values in the order of `segment`, joined by |"
        raise InputError([Problem("--segment", f"no such segment: {shown}", remedy)])
    wanted: dict[int, set[str]] = {}
    for key in segments:
        wanted.setdefault(bucket_of(key, features.buckets), set()).add(key)
    return wanted


def _size(files: Sequence[str]) -> int:
    from resources.lake import filesystem

    return sum(system.get_file_info(path).size for system, path in map(filesystem, files))
