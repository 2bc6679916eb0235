"""Progress: done of total, time left, and the slowest segment by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from resources.progress import Progress, progress_line
from resources.spark import Spark
from resources.spread import SHARES_A_CORE, spread
from tests.lakes import pickled_by_value


@pytest.mark.parametrize(
    ("so_far", "total", "seconds", "line"),
    [
        (Progress(120, 2.13, "store 4|bread"), 200, 10.0,
         "trained 120 of 200 segments (60%), 12.0/s, 7 s left, slowest 2.1 s (store 4|bread)"),
        (Progress(120, 0.4, "quick"), 200, 10.0, "trained 120 of 200 segments (60%), 12.0/s, 7 s left"),
        (Progress(0), 1_200, 3.0, "trained 0 of 1,200 segments (0%), 0.0/s, time left unknown"),
        (Progress(0), 0, 0.0, "trained 0 of 0 segments (100%), 0.0/s, time left unknown"),
        (Progress(1, 60.0, "x" * 200), 1, 60.0,
         f"trained 1 of 1 segments (100%), 0.0/s, 0 s left, slowest 60.0 s ({'x' * 60})"),
    ],
)  # fmt: skip
def test_a_line_says_how_far_it_is_and_what_takes_long(so_far: Progress, total: int, seconds: float, line: str) -> None:
    assert progress_line("trained", so_far, total, seconds) == line


SCHEMA = pa.schema([("segment", pa.string()), ("seconds", pa.float64())])
SECONDS: dict[str, float | None] = {"a": 1.5, "b": 7.25, "c": None, "d": 2.0, "e": 0.1}


def work(task: list[str]) -> Iterator[dict[str, Any]]:
    for key in task:
        yield {"segment": key, "seconds": SECONDS[key]}


def test_the_slowest_of_all_workers_is_named_and_every_row_counted(spark: Spark) -> None:
    pickled_by_value(__name__)
    said: list[str] = []
    rows = spread(spark, [["a", "c"], ["b"], ["d", "e"], []], work, SCHEMA, what="trained", total=5, say=said.append)
    assert {row["segment"]: row["seconds"] for row in rows.to_pylist()} == SECONDS
    assert said[-1].startswith("trained 5 of 5 segments (100%)")
    assert said[-1].endswith("slowest 7.2 s (b)")


def where_it_ran(number: int) -> Iterator[dict[str, Any]]:
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    yield {"number": number, "task": context.partitionId(), "segments": 3}


@pytest.mark.parametrize(("short", "tasks"), [(True, SHARES_A_CORE * 2), (False, 101)])
def test_short_work_shares_spark_tasks_and_none_is_done_twice(spark: Spark, short: bool, tasks: int) -> None:
    pickled_by_value(__name__)
    said: list[str] = []
    schema = pa.schema([("number", pa.int64()), ("task", pa.int64())])
    rows = spread(
        spark, range(101), where_it_ran, schema, short=short, what="forecast", total=303, say=said.append
    ).to_pylist()
    assert sorted(row["number"] for row in rows) == list(range(101))
    assert len({row["task"] for row in rows}) == tasks
    assert said[-1].startswith("forecast 303 of 303 segments (100%)")
