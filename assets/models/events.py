"""One materialization event a segment, recorded in batches: any set of segments is one run, and only they are marked.

Stock Dagster splits a scattered set of partitions into many runs and marks a whole range done whatever failed
(dagster issues 32335, 21072); an `AssetMaterialization` event with a partition and metadata of its own does neither.
"""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from dagster import AssetExecutionContext, AssetMaterialization, DagsterEvent, DataVersion
from dagster._core.events import DagsterEventBatchMetadata

from assets.models.error_sums import metric_of
from assets.models.line import TRAINED
from assets.presentation import DATA_VERSION_TAG

ROWS_A_BATCH = 1_000


def record_materializations(context: AssetExecutionContext, listing: pa.Table, metric: str, training: str) -> int:
    """Marks each trained segment of a listing as materialized, with its own metadata; gives how many they were."""
    trained = listing.filter(pc.equal(listing["status"], TRAINED))
    step, batch_id, left = context.get_step_execution_context(), uuid.uuid4().hex, len(trained)
    version = DataVersion(training).value
    for batch in trained.to_batches(max_chunksize=ROWS_A_BATCH):
        for row in batch.to_pylist():
            left -= 1
            materialization = AssetMaterialization(
                context.asset_key,
                partition=row["segment"],
                metadata=segment_metadata(row, metric),
                tags={DATA_VERSION_TAG: version},
            )
            DagsterEvent.asset_materialization(step, materialization, DagsterEventBatchMetadata(batch_id, left == 0))
    return len(trained)


def segment_metadata(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """What a segment's partition shows: who serves, fold errors, rows, trees, seconds, host."""
    sums = {"count": row["fold_count"], "label_absolute": row["fold_label_absolute"]}
    errors = {
        f"fold {metric} of {who}": metric_of(metric, _sums(row, who) | sums, who)
        for who in ("model", "baseline")
        if row["fold_count"]
    }
    shown = {name: row[name] for name in ("rows", "trees", "seconds", "host", "training")}
    return {"serves": row["chosen"], **{k: v for k, v in {**errors, **shown}.items() if v is not None}}


def _sums(row: dict[str, Any], who: str) -> dict[str, Any]:
    return {name.removeprefix("fold_"): value for name, value in row.items() if name.startswith(f"fold_{who}_")}
