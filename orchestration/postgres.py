"""Where Dagster keeps its runs and events in production: Postgres, with the batching that a fleet needs.

Dagster's own Postgres storage can write a batch of events at once, but composes a new statement of thousands of values
each time, and commits the events before what belongs to them. Nor do the processes that *plan* runs, the webserver
and the daemon, plan a range of partitions as one event: they load no definitions that could ask them to. They do
load the storage that `dagster.yaml` names.

Needs the extra `postgres` of pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as db
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

from orchestration.event_log import enable_batching
from orchestration.run_log import ShortRunLog

if TYPE_CHECKING:
    from dagster_postgres.auth import PgTokenProvider

WITHOUT_DRIVER = ("postgresql://", "postgres://")
DRIVER = "postgresql+psycopg2://"


class BatchedPostgresEventLogStorage(ShortRunLog, PostgresEventLogStorage):
    """Dagster's Postgres event log, writing a batch of materializations in one transaction, all of it or nothing."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in the order given."""
        if {event.dagster_event_type for event in events} != {DagsterEventType.ASSET_MATERIALIZATION}:
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        with self.index_transaction() as connection:
            ids = connection.execute(insert, rows).scalars().all()
            self._store_asset_event_tags(connection, events, ids)
            last = {event.get_dagster_event().asset_key: at for at, event in enumerate(events)}
            for at in last.values():
                self._store_asset_event(connection, events[at], ids[at])


class BatchedPostgresStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage for runs, events and schedules, with the event log written in batches.

    Takes the configuration of `DagsterPostgresStorage`, and addresses without a driver as well.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: PgTokenProvider | None = None,
    ) -> None:
        enable_batching()
        url = with_driver(postgres_url)
        super().__init__(url, should_autocreate_tables, inst_data, token_provider)
        self._event_log_storage = BatchedPostgresEventLogStorage(
            url, should_autocreate_tables, token_provider=token_provider
        )
        # Dagster's page writes the instance's id when it is first opened, which a role that may only read cannot
        with suppress(db.exc.DBAPIError):
            self._run_storage.get_run_storage_id()

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> BatchedPostgresStorage:
        """Build the storage from its entry in `dagster.yaml`."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )


def with_driver(url: str) -> str:
    """The address with the driver that is installed: SQLAlchemy's default is another since 2.1."""
    for start in WITHOUT_DRIVER:
        if url.startswith(start):
            return DRIVER + url.removeprefix(start)
    return url
