"""Passwords planted wherever a user can put one, and then looked for in all that a run leaves behind."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as db

from resources.mlflow import CREDENTIALS
from resources.notifier import NOTIFY_VARIABLE
from resources.spark import Spark
from tests.cycle import House, house, sales
from tests.inbox import open_inbox
from tests.mlflow_server import Server
from tests.orchestration.test_cli import fleet

PLANTED = {name: f"pl4nted{name.title().replace('_', '')}" for name in ("SOURCE_PASSWORD", "MLFLOW_PASSWORD", "STORAGE", "NOTIFY")}  # fmt: skip


@dataclass
class Left:
    """All that is left behind: files of a folder, rows of a database, what was printed."""

    folder: Path
    database: str
    printed: list[str] = field(default_factory=list)

    def texts(self) -> Iterator[tuple[str, bytes]]:
        """Everything, with where it is; tables decoded, for what is compressed cannot be searched."""
        for file in (path for path in self.folder.rglob("*") if path.is_file()):
            yield str(file), file.read_bytes()
            if file.suffix == ".parquet":
                yield str(file), pq.read_table(file).to_pandas().to_csv().encode()
        engine = db.create_engine(self.database)
        with engine.connect() as connection:
            for table in db.inspect(engine).get_table_names():
                rows = connection.execute(db.text(f'select t::text from "{table}" t'))
                yield f"table {table}", "\n".join(row[0] for row in rows).encode()
        yield "printed", "\n".join(self.printed).encode()


def forms(secret: str) -> list[bytes]:
    """A secret as it is, and as a header of HTTP carries it behind a user of any length."""
    encoded = [base64.b64encode(f"{'u' * pad}{secret}".encode())[4:-4] for pad in range(3)]
    return [secret.encode(), *encoded]


def found_in(left: Left) -> list[tuple[str, str]]:
    return [
        (name, where)
        for where, content in left.texts()
        for name, secret in PLANTED.items()
        if any(form in content for form in forms(secret))
    ]


@pytest.fixture
def home(tmp_path: Path, spark: Spark, postgres: str, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> House:
    """A fleet whose rows, MLflow and Dagster storage each want a password, which is in the environment only."""
    engine = db.create_engine(postgres)
    sales(2, 60).to_sql("sales", engine, index=False, if_exists="replace")
    url = db.make_url(postgres).set(username="postgres")
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    for name in CREDENTIALS:
        monkeypatch.setenv(name, "")  # put back afterwards
    kept = db.make_url(postgres_database).set(username="postgres", password=PLANTED["STORAGE"])
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", kept.render_as_string(hide_password=False))
    spark.session()
    path = url.set(password="SECRET").render_as_string(hide_password=False).replace("SECRET", "${SOURCE_PASSWORD}")
    source = {"path": path, "format": "sql", "query": "select * from sales"}
    dagster = {"home": "dagster_home", "storage": "${DAGSTER_POSTGRES_URL}"}
    return house(tmp_path / "home", spark, source=source, dagster=dagster, notify={"ui": "http://127.0.0.1:3000"})


@pytest.mark.slow
def test_no_planted_password_is_anywhere_afterwards(
    home: House, tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    server, left = Server(tmp_path / "server"), Left(tmp_path, postgres_database)
    where = server.uri.partition("://")[2]
    document = (home.folder / "fleet.yaml").read_text()
    (home.folder / "fleet.yaml").write_text(
        f"{document}mlflow: {{tracking_uri: 'http://ann:${{MLFLOW_PASSWORD}}@{where}'}}\n"
    )
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        with open_inbox() as inbox:
            monkeypatch.setenv(NOTIFY_VARIABLE, f"json://ann:{PLANTED['NOTIFY']}@127.0.0.1:{inbox.port}")
            for command in ("run", "status", "deploy", "diff"):
                done = fleet(home, command)
                assert done.exit_code == 0, done.output
                left.printed.append(done.output)
    finally:
        server.kill()
    # a run that fails says much more
    engine = db.create_engine(db.make_url(postgres_database).set(database="postgres"))
    pd.concat([sales(2, 61)]).to_sql("sales", engine, index=False, if_exists="replace")
    failed = fleet(home, "run")
    assert failed.exit_code != 0
    left.printed.append(failed.output)
    assert len(list(left.texts())) > 100
    assert found_in(left) == []


def test_the_search_finds_what_is_hidden_in_a_table_a_file_and_a_header(tmp_path: Path, postgres_database: str) -> None:
    secret = PLANTED["MLFLOW_PASSWORD"]
    pd.DataFrame({"a": [f"x{secret}"] * 1000}).to_parquet(tmp_path / "t.parquet", compression="zstd")
    (tmp_path / "header").write_bytes(b"Basic " + base64.b64encode(f"ann:{secret}".encode()))
    with db.create_engine(postgres_database).begin() as connection:
        connection.execute(db.text("create table events as select :it as body"), {"it": PLANTED["STORAGE"]})
    left = Left(tmp_path, postgres_database, [PLANTED["NOTIFY"]])
    assert {(name, where.rpartition("/")[2]) for name, where in found_in(left)} == {
        ("MLFLOW_PASSWORD", "t.parquet"),
        ("MLFLOW_PASSWORD", "header"),
        ("STORAGE", "table events"),
        ("NOTIFY", "printed"),
    }
