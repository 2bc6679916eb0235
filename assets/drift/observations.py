"""What a look found, on the partitions of the segments that it concerns: observations, recorded in batches."""

from __future__ import annotations

import logging
import os
import time

import pyarrow as pa
from dagster import AssetExecutionContext, AssetKey, AssetObservation, DagsterEvent, DagsterEventType
from dagster._core.events import AssetObservationData
from dagster._core.events.log import EventLogEntry

from assets.drift.summary import segment_drift
from assets.models.events import ROWS_A_BATCH

SEGMENT_MODELS = "segment_models"
LOOK_TAG = "fleet/look"


def record_observations(context: AssetExecutionContext, fleet: str, rows: pa.Table, look: str) -> int:
    """An observation of `segment_models` for each row's partition, with what the look found; gives how many.

    Written past the loggers in batches, as materializations are: half a millisecond each.
    """
    key, storage = AssetKey([fleet, SEGMENT_MODELS]), context.instance.event_log_storage
    for batch in rows.combine_chunks().to_batches(max_chunksize=ROWS_A_BATCH):
        told = (
            AssetObservation(key, partition=row["segment"], metadata=segment_drift(row), tags={LOOK_TAG: look})
            for row in batch.to_pylist()
        )
        storage.store_event_batch([_entry(context, observation) for observation in told])
    return len(rows)


def _entry(context: AssetExecutionContext, observation: AssetObservation) -> EventLogEntry:
    step = context.get_step_execution_context()
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_OBSERVATION.value,
        job_name=step.job_name,
        step_handle=step.step.handle,
        node_handle=step.step.node_handle,
        step_kind_value=step.step.kind.value,
        logging_tags=step.event_tags,
        event_specific_data=AssetObservationData(observation),
        message="Drift of a segment.",
        pid=os.getpid(),
    )
    return EventLogEntry(
        error_info=None,
        level=logging.DEBUG,
        user_message="Drift of a segment.",
        run_id=step.run_id,
        timestamp=time.time(),
        step_key=step.step.key,
        job_name=step.job_name,
        dagster_event=event,
    )
