"""How Spark is started: quickly for a small table, with the JVM's slower compiler for a large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources import spark
from resources.files import bytes_at
from resources.spark import Spark, partitions_for

QUICK = "-XX:TieredStopAtLevel=1"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with two files of a thousand bytes, one of them further down."""
    for name in ("in/a.csv", "in/year=2024/b.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 1_000)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("path", "size"), [("", 2_000), ("/a.csv", 1_000), ("/*/*.csv", 2_000), ("/year=*/b.csv", 2_000), ("/none", 0)]
)
def test_how_large_a_table_is(table: Path, path: str, size: int) -> None:
    assert bytes_at(f"{table}{path}") == size


@pytest.mark.parametrize("uri", ["", "sqlite:///x.db", "postgresql+psycopg2://u@h/d"])
def test_what_is_no_file_has_no_size(uri: str) -> None:
    assert bytes_at(uri) == 0


def test_a_large_table_is_worth_the_slower_compiler(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def options(**given: str) -> str:
        return Spark(**given)._settings()["spark.driver.extraJavaOptions"]

    assert QUICK in options()
    assert QUICK in options(table=str(table))
    monkeypatch.setattr(spark, "LARGE_BYTES", 2_000)
    assert QUICK not in options(table=str(table))
    assert QUICK in options(table=str(table / "a.csv"))


def test_more_rows_are_shuffled_into_more_partitions_and_few_into_the_usual_ones(spark: Spark) -> None:
    session = spark.session()
    usual = int(session.conf.get("spark.sql.shuffle.partitions") or 0)
    assert [partitions_for(session, rows) for rows in (0, 1_000_000, 50_000_000)] == [usual, max(usual, 2), 100]
