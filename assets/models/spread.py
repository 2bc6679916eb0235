"""Work on buckets spread over Spark's workers: the largest first, Arrow rows back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from assets.models.progress import Progress, progress_reported
from resources.spark import Spark, light_collections

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame

Task = TypeVar("Task")
Work = Callable[[Task], Iterator[dict[str, Any]]]
Say = Callable[[str], None]
ROWS_A_BATCH = 1_000
SHARES_A_CORE = 16  # a Spark task costs some 50 ms of a core, which short tasks do together


def spread(
    spark: Spark,
    tasks: Sequence[Task],
    work: Work[Task],
    schema: pa.Schema,
    *,
    short: bool = False,
    what: str = "",
    total: int = 0,
    say: Say | None = None,
) -> pa.Table:
    """Rows (see `schema`) that `work` gave for each task, run by Spark workers: one a Spark task, short ones several.

    With `say`, progress is reported: segments done, of `total`, and the slowest so far where rows have `segment` and
    `seconds`. A row is a segment, or as many as its `segments` says. All comes from Spark's accumulators, which workers
    send when a task ends.
    """
    frame, progress = _spread_frame(spark, tasks, work, schema, short)
    if say is None:
        return frame.toArrow().cast(schema)
    with progress_reported(what, total, progress, say):
        return frame.toArrow().cast(schema)


def _spread_frame(
    spark: Spark,
    tasks: Sequence[Task],
    work: Work[Task],
    schema: pa.Schema,
    short: bool,
) -> tuple[DataFrame, Callable[[], Progress]]:
    from pyspark.sql.pandas.types import from_arrow_schema

    session = spark.session()
    done: Accumulator[int] = session.sparkContext.accumulator(0)
    slowest = session.sparkContext.accumulator((0.0, ""), _slower())
    assigned = list(tasks)
    most = SHARES_A_CORE * session.sparkContext.defaultParallelism if short else len(assigned)
    shares = max(1, min(len(assigned), most))

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        light_collections()
        for batch in batches:
            for number in batch.column(0).to_pylist():
                given = chain.from_iterable(work(task) for task in assigned[number::shares])
                for rows in _in_batches(given):
                    done.add(sum(row.get("segments", 1) for row in rows))
                    slowest.add(max((row.get("seconds") or 0.0, row.get("segment") or "") for row in rows))
                    yield pa.RecordBatch.from_pylist(rows, schema)

    numbers = session.range(0, shares, 1, shares)
    frame = numbers.mapInArrow(run, from_arrow_schema(schema))
    return frame, lambda: Progress(done.value, *slowest.value)


def _slower() -> Any:
    from pyspark.accumulators import AccumulatorParam

    class Slower(AccumulatorParam[tuple[float, str]]):
        def zero(self, value: tuple[float, str]) -> tuple[float, str]:
            return value

        def addInPlace(self, value1: tuple[float, str], value2: tuple[float, str]) -> tuple[float, str]:
            return max(value1, value2)

    return Slower()


def _in_batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= ROWS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
