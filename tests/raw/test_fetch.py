"""Sources that Spark cannot read by itself: queries of real databases, and a bucket behind an S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as db

from assets.features.publish import publish_features
from assets.raw.fetch import ROWS_AT_ONCE, source_files
from assets.raw.ingest import ingest
from assets.raw.snapshot import RAW
from resources.computing import SparkSettings
from resources.problems import InputError
from resources.spark import Spark
from tests.buckets import Bucket
from tests.conftest import Fleet, MakeFleet, daily_sales

QUERY = "select shop, day, sold, price from sales order by shop, day"


def fleet_of(make_fleet: MakeFleet, url: str, query: str = QUERY) -> Fleet:
    source = {"path": url, "format": "sql", "query": query}
    return make_fleet(None, source=source, features={"known_ahead": ["price"]}, horizon=7)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with a table of sales."""
    found = (
        f"sqlite:///{tmp_path}/sales.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )
    write(found, daily_sales())
    return found


def write(url: str, table: pd.DataFrame, **types: Any) -> None:
    engine = db.create_engine(url, poolclass=db.NullPool)
    with engine.begin() as connection:
        table.to_sql("sales", connection, index=False, if_exists="replace", dtype=types or None)


def test_rows_of_a_query_are_a_snapshot_and_the_same_rows_are_no_other(
    spark: Spark, make_fleet: MakeFleet, url: str
) -> None:
    fleet = fleet_of(make_fleet, url)
    first = ingest(fleet.lake, spark, fleet.settings)
    assert (first.rows, first.is_new) == (180, True)
    assert not ingest(fleet.lake, spark, fleet.settings).is_new
    assert publish_features(fleet.lake, spark, fleet.settings).record["rows"]["valid"] == 180
    write(url, pd.concat([daily_sales(), daily_sales(days=1, start="2024-03-01")]))
    second = ingest(fleet.lake, spark, fleet.settings)
    assert (second.rows, second.version) == (183, first.version + 1)
    stored = fleet.lake.table(RAW).arrow().to_pandas().sort_values(["shop", "day"], ignore_index=True)
    wanted = pd.concat([daily_sales(), daily_sales(days=1, start="2024-03-01")]).sort_values(["shop", "day"])
    assert stored["sold"].tolist() == wanted["sold"].tolist()


def test_batches_of_other_types_become_one_table(spark: Spark, make_fleet: MakeFleet, tmp_path: Path) -> None:
    url, days = f"sqlite:///{tmp_path}/odd.db", ROWS_AT_ONCE // 2 + 200
    table = pd.DataFrame({"day": pd.date_range("1950-01-01", periods=days).repeat(2).astype(str)})
    table["shop"], place = ["s1", "s2"] * days, range(2 * days)
    table["sold"] = [None if n < ROWS_AT_ONCE else n % 7 + 0.5 for n in place]
    table["price"] = pd.Series([1 if n < ROWS_AT_ONCE else 2.5 for n in place], dtype=object)
    table["note"] = pd.Series([n if n < 5 else "x" if n < 10 else None for n in place], dtype=object)
    write(url, table, price=db.types.NUMERIC())
    fleet = fleet_of(make_fleet, url, "select * from sales order by day, shop")
    assert ingest(fleet.lake, spark, fleet.settings).rows == len(table)
    schema = fleet.lake.table(RAW).schema()
    assert {name: str(schema.field(name).type) for name in ("sold", "price", "note")} == {
        "sold": "double", "price": "double", "note": "string",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "query", "said"),
    [
        ("sqlite:///nowhere/at/all.db", QUERY, "the query fails"),
        ("sqlite://", "select * from sails", "no such table: sails"),
        ("nosuchdatabase://x", QUERY, "no address of a database"),
        ("postgresql://u:${TO_BE_KEPT}@h:port/d", QUERY, "no address of a database"),
        ("postgresql+psycopg2://u:${NO_SUCH_PASSWORD}@h/d", QUERY, "NO_SUCH_PASSWORD} is not in the environment"),
        ("sqlite://", "select 1 as a, 2 as a", "gives two columns 'a'"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch, url: str, query: str, said: str
) -> None:
    monkeypatch.setenv("TO_BE_KEPT", "s3cret:17")
    fleet = fleet_of(make_fleet, url, query)
    with pytest.raises(InputError) as caught:
        ingest(fleet.lake, spark, fleet.settings)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert not Path(fleet.settings.lake).exists()


def test_a_bucket_is_read_file_by_file(spark: Spark, make_fleet: MakeFleet, bucket: Bucket) -> None:
    bucket.put("a ü.csv", daily_sales(days=40))
    source = {"path": bucket.uri(), "format": "csv"}
    fleet = make_fleet(None, source=source, features={"known_ahead": ["price"]}, horizon=7)
    first = ingest(fleet.lake, spark, fleet.settings)
    assert first.rows == 120
    assert not ingest(fleet.lake, spark, fleet.settings).is_new
    bucket.put("b/c.csv", daily_sales(days=10, start="2024-02-10"))
    second = ingest(fleet.lake, spark, fleet.settings)
    assert (second.rows, second.files) == (150, 2)
    assert fleet.lake.table(RAW).record()["new_files"] == 1
    files = set(fleet.lake.table(RAW).arrow(columns=["__file"])["__file"].to_pylist())
    assert files == {"s3://sales/in/a ü.csv", "s3://sales/in/b/c.csv"}
    one = make_fleet(None, source={**source, "path": bucket.uri("/b/c.csv")}, horizon=2)
    assert ingest(one.lake, spark, one.settings).rows == 30


def test_what_workers_of_a_cluster_are_to_read_is_fetched_into_the_lake(make_fleet: MakeFleet, tmp_path: Path) -> None:
    write(f"sqlite:///{tmp_path}/sales.db", daily_sales())
    fleet = fleet_of(make_fleet, f"sqlite:///{tmp_path}/sales.db")
    cluster = fleet.settings.model_copy(update={"spark": SparkSettings(master="spark://there:7077")})
    with source_files(cluster) as files:
        (file,) = files.paths
        assert Path(file).is_relative_to(fleet.settings.lake)
    assert not Path(file).exists()
    with source_files(fleet.settings) as files:
        assert not Path(files.paths[0]).is_relative_to(fleet.settings.lake)
