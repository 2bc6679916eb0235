"""A lake in a bucket of a real S3 server: what Spark's workers write and read there past Spark, which has no driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame

from assets.raw.fetch import source_files, within_reach
from assets.raw.read import read_source
from assets.raw.source import FILE, ROW, find_files
from resources.computing import SparkSettings
from resources.files import files_under, write_parquet
from resources.frames import frame_of, save_frame
from resources.lake import Lake
from resources.problems import InputError
from resources.spark import SCRATCH, Spark
from tests.buckets import served_bucket
from tests.conftest import MakeFleet, daily_sales
from tests.lakes import pickled_by_value


@pytest.fixture(scope="module")
def lake(spark: Spark) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment, served_bucket(environment, spark) as uri:
        yield uri


def odd_rows(spark: Spark) -> DataFrame:
    """Rows with every kind of column that the lake has, in three Spark partitions."""
    frame = spark.session().range(0, 1000, 1, 3)
    return frame.selectExpr(
        "id",
        "if(id % 5 = 0, null, concat('shop ', id)) as shop",
        "timestamp_ntz'2024-01-01' + make_dt_interval(cast(id as int)) as day",
        "timestamp'2024-01-01 00:00:00.123456' as at",
        "named_struct('a', id, 'b', cast(id as string)) as came",
        "cast(id % 7 as double) as sold",
        "concat('p/', id % 4, ' %') as part",
    )


def rows_of(frame: DataFrame) -> list[dict[str, Any]]:
    return [row.asDict(recursive=True) for row in frame.orderBy("id").collect()]


def parquet_in(folder: str) -> list[str]:
    return [file.uri for file in files_under(folder) if file.uri.endswith(".parquet")]


def test_what_is_written_to_a_bucket_is_what_spark_writes_to_a_folder(spark: Spark, lake: str, tmp_path: Path) -> None:
    frame = odd_rows(spark)
    save_frame(frame, f"{lake}/whole")
    save_frame(frame, str(tmp_path / "whole"))
    there = frame_of(spark.session(), parquet_in(f"{lake}/whole"))
    assert rows_of(there) == rows_of(frame_of(spark.session(), parquet_in(str(tmp_path / "whole")))) == rows_of(frame)
    assert there.dtypes == frame.dtypes
    two = frame_of(spark.session(), parquet_in(f"{lake}/whole"), columns=["sold", "id"])
    assert two.columns == ["sold", "id"]
    assert rows_of(two) == rows_of(frame.select("sold", "id"))


def test_columns_that_a_file_lacks_are_null_in_its_rows(spark: Spark, lake: str) -> None:
    for name, columns in (("one", {"id": [1]}), ("two", {"id": [2], "b": ["x"]})):
        write_parquet(pa.table(columns), f"{lake}/lacking/{name}.parquet")
    schema = pa.schema([("b", pa.string()), ("id", pa.int64())])
    found = frame_of(spark.session(), parquet_in(f"{lake}/lacking"), schema)
    assert rows_of(found) == [{"b": None, "id": 1}, {"b": "x", "id": 2}]


def test_a_partition_is_committed_with_its_value(spark: Spark, lake: str) -> None:
    frame, table = odd_rows(spark).select("id", "sold", "part"), Lake(uri=lake).table("parts")
    schema = pa.schema([("id", pa.int64()), ("sold", pa.float64()), ("part", pa.string())])
    with table.staging() as staging:
        save_frame(frame, staging.uri, partition_by="part")
        table.commit(staging, schema, {"rows": 1000}, partition_by=["part"])
    found = table.arrow().to_pandas().sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(found, frame.toPandas())
    assert frame_of(spark.session(), table.files()).count() == 1000
    assert len(table.files()) == 12, "of each of three Spark partitions a file for each value"
    with pytest.raises(ValueError, match="given up"), table.staging() as left:
        save_frame(frame, left.uri)
        raise ValueError("given up")
    assert len(parquet_in(table.uri)) == 12, "what was not committed is gone"


def test_a_frame_without_rows_is_a_file_without_rows(spark: Spark, lake: str) -> None:
    frame = odd_rows(spark).where("id < 0")
    save_frame(frame, f"{lake}/empty")
    found = frame_of(spark.session(), parquet_in(f"{lake}/empty"))
    assert (found.count(), found.dtypes) == (0, frame.dtypes)


def _fails_at_first(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from pyspark import TaskContext

    yield from batches
    context = TaskContext.get()
    assert context is not None
    if not context.attemptNumber():
        raise OSError("lost after all was written")


def test_what_a_task_wrote_that_was_tried_again_is_there_once(spark: Spark, lake: str) -> None:
    pickled_by_value(__name__)
    frame = odd_rows(spark).select("id")
    save_frame(frame.mapInArrow(_fails_at_first, "id long"), f"{lake}/again")
    assert rows_of(frame_of(spark.session(), parquet_in(f"{lake}/again"))) == rows_of(frame)


@pytest.fixture
def without_a_shared_folder(spark: Spark, lake: str) -> Iterator[None]:
    """The session is that of a cluster, whose lake is a bucket."""
    spark.session().conf.set(SCRATCH, lake)
    yield
    spark.session().conf.unset(SCRATCH)


@pytest.mark.usefixtures("without_a_shared_folder")
def test_parquet_of_a_bucket_is_read_by_workers_as_spark_reads_it(
    spark: Spark, lake: str, make_fleet: MakeFleet, tmp_path: Path
) -> None:
    table = daily_sales(days=20).assign(n=pd.Series(range(60), dtype="uint32"), kind=pd.Categorical(["x"] * 60))
    table["at"] = table["day"] + pd.Timedelta(1_999, "ns")
    for place in (f"{lake}/source", str(tmp_path / "source")):
        for part, own in table.groupby("shop"):
            write_parquet(pa.Table.from_pandas(own, preserve_index=False), f"{place}/region=a%20b/{part}.parquet")

    def read(path: str) -> pd.DataFrame:
        settings = make_fleet(None, source={"path": path}).settings
        with within_reach(spark.session(), find_files(settings)) as files:
            return read_source(spark.session(), files, settings).orderBy(FILE, ROW).toPandas()

    there, here = read(f"{lake}/source"), read(str(tmp_path / "source"))
    assert len(there) == 60
    assert set(there["region"]) == {"a b"}
    assert list(there[FILE].str.removeprefix(f"{lake}/source")) == [name.partition("/source")[2] for name in here[FILE]]
    pd.testing.assert_frame_equal(there.drop(columns=FILE), here.drop(columns=FILE))


@pytest.mark.usefixtures("without_a_shared_folder")
def test_text_of_a_bucket_that_no_worker_could_read_is_refused(spark: Spark, lake: str, make_fleet: MakeFleet) -> None:
    write_parquet(pa.table({"a": [1]}), f"{lake}/text/a.csv")
    settings = make_fleet(None, source={"path": f"{lake}/text/a.csv"}).settings
    with (
        pytest.raises(InputError, match="the cluster reads csv in folders only"),
        within_reach(spark.session(), find_files(settings)),
    ):
        pass


def test_what_a_query_gives_is_fetched_into_the_bucket_and_gone_afterwards(lake: str, make_fleet: MakeFleet) -> None:
    source = {"path": "sqlite://", "format": "sql", "query": "select 'a' as shop, '2024-01-01' as day, 1.0 as sold"}
    settings = make_fleet(None, source=source).settings.model_copy(
        update={"lake": f"{lake}/queried", "spark": SparkSettings(master="spark://there:7077")}
    )
    with source_files(settings) as files:
        assert [files.uri_of(path).startswith(f"{lake}/queried/") for path in files.paths] == [True]
    assert not files_under(f"{lake}/queried")


def test_a_table_goes_back_to_an_earlier_version(lake: str) -> None:
    table = Lake(uri=lake).table("versions")
    for number in range(3):
        with table.staging() as staging:
            write_parquet(pa.table({"n": [number]}), f"{staging.uri}/rows.parquet")
            table.commit(staging, pa.schema([("n", pa.int64())]), {"n": number}, after=number - 1 if number else None)
    table.restore(0, {"n": "back"})
    assert table.arrow()["n"].to_pylist() == [0]
    assert [record["n"] for record in table.records().values()] == ["back", 2, 1, 0]
