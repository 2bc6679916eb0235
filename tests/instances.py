"""Dagster instances as `dagster.yaml` describes them, and databases for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as db
import yaml
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef

from resources.settings import REPOSITORY_ROOT

SQLITE, POSTGRES = "sqlite", "postgres"


PRODUCTION = REPOSITORY_ROOT / "deploy" / "dagster.yaml"


def documented_settings(storage: str) -> dict[str, Any]:
    """`dagster.yaml`; for Postgres with the storage of production."""
    settings = dict(yaml.safe_load((REPOSITORY_ROOT / "dagster.yaml").read_text()))
    if storage == POSTGRES:
        settings["storage"] = yaml.safe_load(PRODUCTION.read_text())["storage"]
    return settings


def instance_of(settings: dict[str, Any], folder: Path) -> DagsterInstance:
    """The instance that a `dagster.yaml` in a folder describes."""
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(folder)))


def create_database(url: str, name: str) -> None:
    """Creates a database, which cannot happen within a transaction."""
    engine = db.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=db.NullPool)
    with engine.connect() as connection:
        connection.execute(db.text(f"create database {name}"))


def of_database(url: str, name: str, user: str | None = None) -> str:
    """The address of another database on the same server, as a user of it."""
    return db.make_url(url).set(database=name, username=user).render_as_string(hide_password=False)
