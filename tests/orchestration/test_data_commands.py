"""`fleet contract` and `fleet schema`: what they print and write, and that nothing is overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from resources.settings import CONFIG_VARIABLE, read_settings
from resources.spark import Spark
from tests.cycle import sales


@pytest.fixture(scope="module", autouse=True)
def shuffle_partitions(spark: Spark) -> Iterator[None]:
    """The command brings settings of its own to the session that all tests share."""
    spark.session()
    yield
    spark.session()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    sales(3, 60).to_parquet(tmp_path / "sales.parquet", index=False)
    return tmp_path / "sales.parquet"


def fleet(*arguments: str | Path) -> Result:
    from orchestration.cli import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_draft_is_written_and_validates(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")  # put back afterwards: the command sets it
    target = tmp_path / "new" / "fleet.yaml"
    written = fleet("contract", "--from", table, "--out", target)
    assert written.exit_code == 0, written.stderr
    assert written.stdout == ""
    assert read_settings(target).label == "sold"
    lake = Path(read_settings(target).lake)
    lake.parent.mkdir()
    lake.write_text("nobody writes into this")
    said = fleet("validate", "--config", target)
    assert said.exit_code == 0, said.stderr
    assert "sales: valid" in said.stdout


def test_a_draft_is_printed_with_paths_from_here(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = fleet("contract", "--from", "sales.parquet")
    assert printed.exit_code == 0, printed.stderr
    assert "source: {path: sales.parquet}" in printed.stdout.splitlines()
    (tmp_path / "fleet.yaml").write_text(printed.stdout, encoding="utf-8")
    assert read_settings(tmp_path / "fleet.yaml").source.path == str(table)


def test_a_file_that_is_there_stays(table: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("mine")
    refused = fleet("contract", "--from", table, "--out", tmp_path / "fleet.yaml")
    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    assert (tmp_path / "fleet.yaml").read_text() == "mine"


def test_a_table_that_cannot_be_drafted_is_a_mistake(tmp_path: Path) -> None:
    pd.DataFrame({"a": ["x", "y"]}).to_csv(tmp_path / "t.csv", index=False)
    refused = fleet("contract", "--from", tmp_path / "t.csv", "--out", tmp_path / "fleet.yaml")
    assert refused.exit_code == 2
    assert "no column can be the label" in refused.stderr
    assert not (tmp_path / "fleet.yaml").exists()


def test_the_schema_is_printed_as_it_lies_in_docs() -> None:
    printed = fleet("schema")
    assert printed.exit_code == 0
    assert json.loads(printed.stdout)["title"] == "fleet.yaml"
