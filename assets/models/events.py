"""One materialization event a segment, recorded in batches: any set of segments is one run, and only they are marked.

Stock Dagster splits a scattered set of partitions into many runs and marks a whole range done whatever failed
(dagster issues 32335, 21072); an `AssetMaterialization` event with a partition and metadata of its own does neither.

The events go to the event log in batches, past the loggers: tens of thousands of lines that each say
"Materialized value" are no use in what a step prints, and took longer to print than the events to store.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from dagster import AssetExecutionContext, AssetKey, AssetMaterialization, DagsterEvent, DagsterEventType
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.events import StepMaterializationData
from dagster._core.events.log import EventLogEntry

from assets.models.error_sums import SCALES, SUMS, metric_of
from assets.models.line import TRAINED, WEIGHTED, weight_column
from assets.presentation import DATA_VERSION_TAG

if TYPE_CHECKING:
    from dagster._core.execution.context.system import StepExecutionContext

# One transaction each: long enough to be cheap, short enough that whoever else writes to the log hardly waits.
ROWS_A_BATCH = 2_000


def record_materializations(context: AssetExecutionContext, listing: pa.Table, metric: str, training: str) -> int:
    """Marks each trained segment of a listing as materialized, with its own metadata; gives how many they were.

    Segments that this training has marked already are left out, so that a step which died halfway can be repeated.
    """
    trained = listing.filter(pc.equal(listing["status"], TRAINED))
    left = trained.filter(pc.invert(pc.is_in(trained["segment"], _recorded(context, training))))
    step, storage = context.get_step_execution_context(), context.instance.event_log_storage
    tags = _version_tags(step, context.asset_key, training)
    # a listing has a chunk for each bucket, which would be as many small batches
    for batch in left.combine_chunks().to_batches(max_chunksize=ROWS_A_BATCH):
        materializations = (
            AssetMaterialization(
                context.asset_key,
                partition=row["segment"],
                metadata=segment_metadata(row, metric),
                tags=tags,
            )
            for row in batch.to_pylist()
        )
        storage.store_event_batch(list(_log_entries(step, materializations)))
    return len(left)


def segment_metadata(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """What a segment's partition shows: who serves, fold errors, rows, trees, seconds, host, device."""
    sums = {name: row.get(f"fold_{name}") for name in SCALES}
    errors = {
        f"fold {metric} of {who}": metric_of(
            metric, {f"{who}_{name}": row.get(f"fold_{who}_{name}") for name in SUMS} | sums, who
        )
        for who in ("model", "fleet", "baseline")
        if row["fold_count"]
    }
    shown = {name: row[name] for name in ("rows", "trees", "seconds", "host", "device")}
    weights = {f"weight of {name}": row.get(weight_column(name)) for name in WEIGHTED}
    errors = {**weights, **errors}
    return {"serves": row["chosen"], **{k: v for k, v in {**errors, **shown}.items() if v is not None}}


def _recorded(context: AssetExecutionContext, training: str) -> pa.Array:
    """The segments whose last materialization is of this training."""
    last = context.instance.event_log_storage.get_latest_tags_by_partition(
        context.asset_key, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return pa.array([key for key, tags in last.items() if tags[DATA_VERSION_TAG] == training], pa.string())


def _version_tags(step: StepExecutionContext, key: AssetKey, training: str) -> dict[str, str]:
    """What the segments were made of and by, as on any output: without it the UI calls each of them out of date."""
    layer = step.job_def.asset_layer.get(key)
    tags = {
        DATA_VERSION_TAG: training,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        CODE_VERSION_TAG: layer.code_version or step.run_id,
    }
    for parent in layer.parent_keys:
        info = step.maybe_fetch_and_get_input_asset_version_info(parent)
        version = info.data_version if info else None
        tags[get_input_data_version_tag(parent)] = (version or DEFAULT_DATA_VERSION).value
        tags[get_input_event_pointer_tag(parent)] = str(info.storage_id) if info else NULL_EVENT_POINTER
    return tags


def _log_entries(
    step: StepExecutionContext, materializations: Iterator[AssetMaterialization]
) -> Iterator[EventLogEntry]:
    """What `DagsterEvent.asset_materialization` would have left in the event log, had it been logged."""
    kind, tags, pid = DagsterEventType.ASSET_MATERIALIZATION.value, step.event_tags, os.getpid()
    for materialization in materializations:
        event = DagsterEvent(
            event_type_value=kind,
            job_name=step.job_name,
            step_handle=step.step.handle,
            node_handle=step.step.node_handle,
            step_kind_value=step.step.kind.value,
            logging_tags=tags,
            event_specific_data=StepMaterializationData(materialization),
            message="Materialized value.",
            pid=pid,
        )
        yield EventLogEntry(
            error_info=None,
            level=logging.DEBUG,
            user_message="Materialized value.",
            run_id=step.run_id,
            timestamp=time.time(),
            step_key=step.step.key,
            job_name=step.job_name,
            dagster_event=event,
        )
