"""What a Spark worker does with a bucket: train its segments, write their models to the lake, report a line each."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assets.models.baseline import origins_of, seasonal_naive
from assets.models.bucket import SegmentRows, categorical_positions, read_bucket
from assets.models.error_sums import error_sums
from assets.models.fit import fit, predict
from assets.raw.recipe import Recipe

if TYPE_CHECKING:
    from lightgbm import Booster

SEGMENT_MODEL, BASELINE = "segment", "baseline"
TRAINED, SKIPPED, FAILED = "trained", "skipped", "failed"
_SUMS = [f"fold_{who}_{name}" for who in ("model", "baseline") for name in ("absolute", "squared", "signed")]
LINE = pa.schema(
    [
        ("segment", pa.string()),
        ("bucket", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("chosen", pa.string()),
        ("rows", pa.int64()),
        ("trees", pa.int32()),
        ("trained_through", pa.int64()),
        ("judged_through", pa.int64()),
        ("selected_through", pa.int64()),
        ("fold_count", pa.int64()),
        ("fold_label_absolute", pa.float64()),
        *[(name, pa.float64()) for name in _SUMS],
        ("seconds", pa.float64()),
        ("host", pa.string()),
        ("shard", pa.string()),
    ]
)
SHARD = pa.schema([*LINE, ("served", pa.binary()), ("judged", pa.binary())])
TEXT_CODEC = "zstd"
SEGMENTS_A_ROW_GROUP = 64


@dataclass(frozen=True)
class BucketTask:
    """One bucket to train: its feature files and, if not all, the segments wanted."""

    bucket: int
    files: tuple[str, ...]
    segments: frozenset[str] | None = None


def train_bucket(task: BucketTask, recipe: Recipe, last: int, folder: str) -> Iterator[dict[str, Any]]:
    """Trains a bucket's segments, writes one shard under `folder`, and gives a line (see `LINE`) a segment.

    `last` is the period of the fleet's last label. The shard has a name of its own for each attempt: a task that Spark
    repeats never overwrites, and only files that a finished task names are committed.
    """
    import pyarrow.parquet as pq

    from resources.lake import filesystem

    bucket = read_bucket(task.files, recipe)
    categorical = categorical_positions(recipe)
    name = f"bucket-{task.bucket:05d}-{uuid.uuid4().hex}.parquet"
    system, path = filesystem(f"{folder}/{name}")
    system.create_dir(path.rsplit("/", 1)[0], recursive=True)
    with pq.ParquetWriter(path, SHARD, filesystem=system, compression="none") as writer:
        waiting: list[dict[str, Any]] = []
        for rows in bucket.segments():
            if task.segments is not None and rows.key not in task.segments:
                continue
            record = train_segment(rows, recipe, last, categorical) | {"bucket": task.bucket, "shard": name}
            waiting.append(record)
            if len(waiting) >= SEGMENTS_A_ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(waiting, SHARD))
                waiting = []
            yield {column: record.get(column) for column in LINE.names}
        writer.write_table(pa.Table.from_pylist(waiting, SHARD))


def train_segment(rows: SegmentRows, recipe: Recipe, last: int, categorical: list[int]) -> dict[str, Any]:
    """Fold model, judged twin and served model of one segment; whatever goes wrong stays with the segment."""
    started = time.perf_counter()
    try:
        outcome = _fits(rows, recipe, last, categorical)
    except Exception as error:
        outcome = {"status": FAILED, "reason": f"{type(error).__name__}: {error}"[:500], "chosen": BASELINE}
    known = int((~np.isnan(rows.labels)).sum())
    seconds = time.perf_counter() - started
    return {"segment": rows.key, "rows": known, "seconds": seconds, "host": socket.gethostname(), **outcome}


def _fits(rows: SegmentRows, recipe: Recipe, last: int, categorical: list[int]) -> dict[str, Any]:
    holdout_from, fold_from = last - recipe.holdout, last - 2 * recipe.holdout
    x, y = rows.through(holdout_from)
    reason = why_untrainable(rows, y, recipe)
    if reason:
        return {"status": SKIPPED, "reason": reason, "chosen": BASELINE}
    judged = fit(x, y, recipe.model, categorical)
    served = fit(*rows.through(last), recipe.model, categorical)
    fold = _fold(rows, recipe, fold_from, holdout_from, categorical)
    return {
        "status": TRAINED,
        "chosen": chosen_by_fold(fold, recipe.metric),
        "trees": served.num_trees(),
        "trained_through": last,
        "judged_through": holdout_from,
        "selected_through": holdout_from,
        "served": packed(served),
        "judged": packed(judged),
        **fold,
    }


def why_untrainable(rows: SegmentRows, y: Iterable[float], recipe: Recipe) -> str | None:
    """Why a segment gets no model: nothing labelled, too short before the holdout, or always the same label."""
    labels = np.asarray(y)
    if np.isnan(rows.labels).all():
        return "all labels null"
    if len(labels) < recipe.minimum_history:
        return "too short"
    return "constant label" if labels.min() == labels.max() else None


def _fold(rows: SegmentRows, recipe: Recipe, after: int, through: int, categorical: list[int]) -> dict[str, Any]:
    x, y = rows.through(after)
    inside = rows.between(after, through)
    if why_untrainable(rows, y, recipe) or not inside.any():
        return {"fold_count": 0}
    labels, targets = rows.labels[inside], rows.periods[inside]
    model = predict(fit(x, y, recipe.model, categorical), rows.x[inside], recipe.model)
    known = rows.periods <= through
    origins = origins_of(targets, after, recipe.horizon)
    naive = seasonal_naive(rows.periods[known], rows.labels[known], targets, origins, recipe.season)
    return {
        "fold_count": len(labels),
        "fold_label_absolute": float(np.abs(labels).sum()),
        **error_sums(labels, model, "fold_model"),
        **error_sums(labels, naive, "fold_baseline"),
    }


def chosen_by_fold(fold: dict[str, Any], metric: str) -> str:
    """Who serves: the model if it beat the baseline on the fold before the holdout, else the baseline."""
    if not fold["fold_count"]:
        return BASELINE
    kind = "squared" if metric == "rmse" else "absolute"
    return SEGMENT_MODEL if fold[f"fold_model_{kind}"] < fold[f"fold_baseline_{kind}"] else BASELINE


def packed(booster: Booster) -> bytes:
    """LightGBM's model text, compressed with Zstandard."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, TEXT_CODEC) as stream:
        stream.write(booster.model_to_string().encode())
    return sink.getvalue().to_pybytes()


def unpacked(model: bytes) -> Booster:
    """The inverse of `packed`."""
    import lightgbm as lgb

    with pa.CompressedInputStream(pa.BufferReader(model), TEXT_CODEC) as stream:
        return lgb.Booster(model_str=stream.read().decode())
