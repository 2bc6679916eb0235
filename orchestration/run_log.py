"""What a run's page loads of its log: the first hundred partitions, not all fifty thousand.

Dagster's UI loads a run's whole log, and then reads it again to know when its steps began and ended. With an event a
segment that took minutes, in which later steps looked as if they had not started and their errors were not there. The
other segments' events are where they are looked for, on the pages of the asset and its partitions, and in the
log for whoever asks for materializations.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as db
from dagster._core.event_api import EventLogCursor
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.stats import (
    STEP_STATS_EVENT_TYPES,
    RunStepKeyStatsSnapshot,
    build_run_step_stats_from_events,
)
from dagster._core.storage.event_log.base import EventLogConnection, EventLogRecord
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._serdes import deserialize_value

PARTITIONS_SHOWN = 100
EVENTS = SqlEventLogStorageTable.c
OF_PARTITION = db.and_(
    EVENTS.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value, EVENTS.partition.is_not(None)
)
Query = db.Select[tuple[int, str]]


class ShortRunLog(SqlEventLogStorage):
    """An event log whose runs show a limited number of partitions to those who ask for events of every type."""

    def get_records_for_run(
        self,
        run_id: str,
        cursor: str | None = None,
        of_type: DagsterEventType | set[DagsterEventType] | None = None,
        limit: int | None = None,
        ascending: bool = True,
    ) -> EventLogConnection:
        """A page of a run's log."""
        last_shown = None if of_type else self._last_shown(run_id)
        if last_shown is None:
            return super().get_records_for_run(run_id, cursor, of_type, limit, ascending)
        ordered = _short_log(run_id, last_shown).order_by(EVENTS.id.asc() if ascending else EVENTS.id.desc())
        records = self._records(run_id, _after(ordered, cursor, ascending).limit(limit))
        end = EventLogCursor.from_storage_id(records[-1].storage_id if records else -1).to_string()
        return EventLogConnection(records, end if records else cursor or end, has_more=len(records) == limit)

    def get_step_stats_for_run(
        self, run_id: str, step_keys: Sequence[str] | None = None
    ) -> Sequence[RunStepKeyStatsSnapshot]:
        """When the steps of a run began and ended, and how."""
        last_shown = self._last_shown(run_id)
        if last_shown is None:
            return super().get_step_stats_for_run(run_id, step_keys)
        types = [event_type.value for event_type in STEP_STATS_EVENT_TYPES]
        query = _short_log(run_id, last_shown).where(EVENTS.dagster_event_type.in_(types)).order_by(EVENTS.id)
        of_steps = query.where(EVENTS.step_key.in_(step_keys) if step_keys else EVENTS.step_key.is_not(None))
        return build_run_step_stats_from_events(run_id, [r.event_log_entry for r in self._records(run_id, of_steps)])

    def _last_shown(self, run_id: str) -> int | None:
        """Id of the last partition's event that the run's log shows, or None if it shows all there are."""
        last_and_next = (
            db.select(EVENTS.id)
            .where(EVENTS.run_id == run_id, OF_PARTITION)
            .order_by(EVENTS.id)
            .offset(PARTITIONS_SHOWN - 1)
            .limit(2)
        )
        with self.run_connection(run_id) as connection:
            ids = connection.execute(last_and_next).scalars().all()
        return ids[0] if len(ids) == 2 else None

    def _records(self, run_id: str, query: Query) -> list[EventLogRecord]:
        with self.run_connection(run_id) as connection:
            rows = connection.execute(query).all()
        return [EventLogRecord(row.id, deserialize_value(row.event, EventLogEntry)) for row in rows]


def _short_log(run_id: str, last_shown: int) -> Query:
    shown = db.or_(db.not_(OF_PARTITION), EVENTS.id <= last_shown)
    return db.select(EVENTS.id, EVENTS.event).where(EVENTS.run_id == run_id, shown)


def _after(query: Query, cursor: str | None, ascending: bool) -> Query:
    if cursor is None:
        return query
    place = EventLogCursor.parse(cursor)
    if place.is_offset_cursor():
        return query.offset(place.offset())
    last = place.storage_id()
    return query.where(EVENTS.id > last if ascending else EVENTS.id < last)
