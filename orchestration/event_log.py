"""Where Dagster keeps its runs and events when no database server is at hand: SQLite, written in batches.

Training a fleet leaves one event per segment. Dagster hands them over a thousand at a time, but its SQLite
storage loops over them, with transactions of their own for each. Here a batch is one transaction to each of
the two databases it belongs in, the shard of its run and the index over all runs, and leaves the same rows.

`dagster.yaml` names the classes below. Their `base_dir` may be relative: it is then meant from the repository
root, whatever the working directory, so that state outlives a plain `dagster dev`.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as db
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.events import DagsterEventType as EventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from dagster._utils.concurrency import ConcurrencyClaimStatus
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from orchestration.run_log import ShortRunLog

REPOSITORY_ROOT = Path(__file__).resolve().parents[1]

BATCHING = {
    # Dagster keeps events that carry batch metadata until there are so many, or the batch ends.
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    # One event says which partitions a run means to make, rather than one event for each.
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
}

MIRRORED_IN_INDEX = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}

# The asset events that leave a trace on their asset's row in `asset_keys`.
KEPT_ON_ASSET = {
    EventType.ASSET_MATERIALIZATION,
    EventType.ASSET_OBSERVATION,
    EventType.ASSET_MATERIALIZATION_PLANNED,
}


def enable_batching() -> None:
    """Turn on Dagster's batching of events for this process and its children; what is exported already wins.

    `BatchedSqliteStorage` calls it, and with it every process that opens the instance: the webserver and the
    daemon, which write the planned events, and the runs. With another storage (Postgres) export the two
    variables in `BATCHING` for all of these processes instead.
    """
    for name, value in BATCHING.items():
        os.environ.setdefault(name, value)


def rooted(path: str) -> str:
    """The path as it stands if it is absolute, else taken from the repository root."""
    return str(REPOSITORY_ROOT / Path(path).expanduser())


@contextmanager
def _turn_in(folder: str) -> Iterator[None]:
    """One process at a time, of those that open a storage in a folder: SQLite locks no row that is only read.

    Two that make the tables of a new folder at once would both say CREATE TABLE; two that see the same slot of a pool
    free would both take it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / "turn.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class BatchedSqliteEventLogStorage(ShortRunLog, SqliteEventLogStorage):
    """Dagster's SQLite event log, writing a batch in one transaction a database.

    A batch that fails leaves nothing behind, as Dagster then stores its events one by one.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._held = threading.local()
        super().__init__(base_dir, inst_data)
        # A batch opens the run's shard while it has the index open.
        self._db_lock = threading.RLock()  # type: ignore[assignment]

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchedSqliteEventLogStorage":
        """Build the storage from its entry in `dagster.yaml`."""
        return cls(rooted(config_value["base_dir"]), inst_data)

    def index_connection(self) -> AbstractContextManager[Connection]:
        """A connection to the index, which is the batch's own while this thread writes one.

        So Dagster's methods that write a row each, as those for asset checks, join the batch's transaction.
        """
        held: Connection | None = getattr(self._held, "index", None)
        return super().index_connection() if held is None else nullcontext(held)

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Gives a pool its slots, if it has none yet."""
        with _turn_in(self._base_dir):
            return super().initialize_concurrency_limit_to_default(concurrency_key)

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> ConcurrencyClaimStatus:
        """Takes a slot of a pool for a step, or says that none is free."""
        with _turn_in(self._base_dir):
            return super().claim_concurrency_slot(concurrency_key, run_id, step_key, priority)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events, of any kinds and runs, in the order given."""
        rows = [self._event_to_row(event) for event in events]
        with self._batch_transaction([event.run_id for event in events]) as (index, shards):
            for run_id, shard in shards.items():
                shard.execute(SqlEventLogStorageTable.insert(), [row for row in rows if row["run_id"] == run_id])
            mirrored = [i for i, event in enumerate(events) if event.dagster_event_type in MIRRORED_IN_INDEX]
            if mirrored:
                self._mirror(index, [events[i] for i in mirrored], [rows[i] for i in mirrored])

    @contextmanager
    def _batch_transaction(self, run_ids: Sequence[str]) -> Iterator[tuple[Connection, Mapping[str, Connection]]]:
        """Open the index and the shards of the runs together, and commit all of them or none.

        The shards are written and committed before the index, which every run shares.
        """
        with ExitStack() as stack:
            index = stack.enter_context(self.index_connection())
            shards = {run_id: stack.enter_context(self.run_connection(run_id)) for run_id in sorted(set(run_ids))}
            self._held.index = index
            try:
                yield index, shards
            finally:
                self._held.index = None

    def _mirror(self, index: Connection, events: Sequence[EventLogEntry], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write events to the index, with what it keeps beside them for assets and checks."""
        ids = self._insert_numbered(index, rows)
        of_assets = [i for i, event in enumerate(events) if event.dagster_event_type in ASSET_EVENTS]
        asset_events, asset_ids = [events[i] for i in of_assets], [ids[i] for i in of_assets]
        self._store_asset_event_tags(index, asset_events, asset_ids)
        self._update_asset_rows(index, asset_events, asset_ids)
        for event, event_id in zip(events, ids, strict=True):
            if event.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, event_id)

    def _insert_numbered(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert events and give their ids in the same order.

        SQLite counts ids up and lets one transaction write at a time, so the highest are those of the rows just
        written. Asking for them with each row (RETURNING) would be a statement a row.
        """
        index.execute(SqlEventLogStorageTable.insert(), [dict(row) for row in rows])
        newest = db.select(SqlEventLogStorageTable.c.id).order_by(SqlEventLogStorageTable.c.id.desc()).limit(len(rows))
        return list(index.execute(newest).scalars())[::-1]

    def _update_asset_rows(self, index: Connection, events: Sequence[EventLogEntry], ids: Sequence[int]) -> None:
        """Bring the assets' rows up to date, reading only the last event of each kind.

        A kind sets the same columns each time, so in a loop the last of it would have overwritten the others.
        """
        values_of: dict[str, dict[str, Any]] = {}
        last: dict[tuple[str, EventType], tuple[EventLogEntry, int]] = {}
        for event, event_id in zip(events, ids, strict=True):
            asset_key = event.get_dagster_event().asset_key
            kind = event.get_dagster_event().event_type
            if asset_key is not None and kind in KEPT_ON_ASSET:
                key = asset_key.to_string()
                values_of.setdefault(key, {})
                last.pop((key, kind), None)
                last[key, kind] = (event, event_id)
        dated = self._has_asset_key_index_cols_on_connection(index) if last else False
        for (key, _), (event, event_id) in last.items():
            values_of[key].update(self._get_asset_entry_values(event, event_id, dated))
        for key, values in values_of.items():
            if values:
                upsert = sqlite.insert(AssetKeyTable).values(asset_key=key, **values)
                index.execute(upsert.on_conflict_do_update(index_elements=["asset_key"], set_=values))


class BatchedSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage for runs, events and schedules, with the event log written in batches."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        enable_batching()
        with _turn_in(rooted(base_dir)):
            super().__init__(rooted(base_dir), inst_data)
            self._event_log_storage = BatchedSqliteEventLogStorage(os.path.join(self.base_dir, "history", "runs", ""))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchedSqliteStorage":
        """Build the storage from its entry in `dagster.yaml`."""
        return cls.from_local(rooted(config_value["base_dir"]), inst_data)


class RootedComputeLogManager(LocalComputeLogManager):
    """What steps print, kept in files under a folder that may be relative to the repository root."""

    def __init__(
        self,
        base_dir: str,
        polling_timeout: float | None = None,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        super().__init__(rooted(base_dir), polling_timeout, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "RootedComputeLogManager":
        """Build the log manager from its entry in `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)


class RootedArtifactStorage(LocalArtifactStorage):
    """What steps hand over by default, under a folder that may be relative to the repository root."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(rooted(base_dir), inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "RootedArtifactStorage":
        """Build the artifact storage from its entry in `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)
