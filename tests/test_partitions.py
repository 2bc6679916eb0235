"""Segments <-> partition keys: any text comes back, and Spark says the same as Python."""

import pandas as pd
from dagster import DagsterInstance
from dagster._core.definitions.partitions.utils.base import INVALID_PARTITION_SUBSTRINGS
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.partitions import (
    add_partitions,
    bucket_expression,
    bucket_of,
    key_expression,
    partition_key,
    segment_values,
)
from resources.spark import Spark
from tests.hostile import HOSTILE

TEXTS = st.text() | st.text(alphabet="%|.-\n\t\0a2E5C7D ", max_size=12) | st.sampled_from(HOSTILE)


@settings(max_examples=300)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_values_come_back_and_the_key_is_one_that_dagster_takes(values: list[str]) -> None:
    key = partition_key(values)
    assert segment_values(key) == values
    assert key
    assert not [part for part in INVALID_PARTITION_SUBSTRINGS if part in key]


@settings(max_examples=300)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=3))
def test_distinct_values_have_distinct_keys(first: list[str], second: list[str]) -> None:
    assert (partition_key(first) == partition_key(second)) == (first == second)


def test_spark_gives_the_keys_and_buckets_of_python(spark: Spark) -> None:
    pairs = [*zip(HOSTILE, reversed(HOSTILE), strict=True), *((value, "x") for value in HOSTILE)]
    session = spark.session()
    frame = session.createDataFrame(pd.DataFrame(pairs, columns=["a.b `c`", "d e"]))
    keyed = frame.selectExpr("*", f"{key_expression(['a.b `c`', 'd e'])} as key")
    single = f"{key_expression(['a.b `c`'])} as single"
    rows = keyed.selectExpr("*", f"{bucket_expression('key', 37)} as bucket", single).collect()
    assert len(rows) == len(pairs)
    for row in rows:
        values = [row["a.b `c`"], row["d e"]]
        assert row["key"] == partition_key(values)
        assert row["single"] == partition_key(values[:1])
        assert row["bucket"] == bucket_of(row["key"], 37)


def test_numbers_are_keyed_as_spark_writes_them(spark: Spark) -> None:
    frame = pd.DataFrame(
        {
            "store": [1, 20],
            "rate": [1.5, 2.0],
            "open": [True, False],
            "on": pd.to_datetime(["2024-05-31"] * 2),
        }
    )
    keys = spark.session().createDataFrame(frame).selectExpr(key_expression(list(frame.columns))).collect()
    assert [row[0] for row in keys] == ["1|1.5|true|2024-05-31 00:00:00", "20|2.0|false|2024-05-31 00:00:00"]


def test_partitions_are_added_once_and_kept_apart_by_case() -> None:
    with DagsterInstance.ephemeral() as instance:
        keys = [partition_key([value]) for value in HOSTILE]
        assert add_partitions(instance, "segments", keys) == len(HOSTILE)
        assert add_partitions(instance, "segments", [*keys, "new"]) == 1
        assert set(instance.get_dynamic_partitions("segments")) == {*keys, "new"}
