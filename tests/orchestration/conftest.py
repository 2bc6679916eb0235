"""Instances on the storages that are meant to be used: SQLite, and a real Postgres server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance

from orchestration import event_log
from orchestration.postgres import BatchedPostgresStorage
from tests.instances import POSTGRES, SQLITE, create_database, documented_settings, instance_of, of_database
from tests.lakes import own, trained

__all__ = ["instance", "own", "postgres_server", "postgres_url", "trained"]


@pytest.fixture(autouse=True)
def _environment_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in event_log.BATCHING.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def postgres_server(postgres: str) -> str:
    """Address of a server with a database `with_tables`, of which others are copies."""
    create_database(postgres, "with_tables")
    BatchedPostgresStorage(of_database(postgres, "with_tables"))
    return postgres


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """Address of a database that has Dagster's tables and nothing in them."""
    name = f"fleet_{uuid.uuid4().hex}"
    create_database(postgres_server, f"{name} template with_tables")
    return of_database(postgres_server, name)


@pytest.fixture(params=[SQLITE, POSTGRES])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """An instance on each storage, configured as `dagster.yaml` says."""
    monkeypatch.setattr(event_log, "REPOSITORY_ROOT", tmp_path)
    if request.param == POSTGRES:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", request.getfixturevalue("postgres_url"))
    with instance_of(documented_settings(request.param), tmp_path) as made:
        yield made
