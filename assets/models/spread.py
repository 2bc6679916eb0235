"""Work on buckets spread over Spark's workers: a task a bucket, the largest first, Arrow rows back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from assets.models.progress import progress_reported
from resources.spark import Spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Task = TypeVar("Task")
ROWS_A_BATCH = 1_000


def spread(
    spark: Spark,
    tasks: Sequence[Task],
    work: Callable[[Task], Iterator[dict[str, Any]]],
    schema: pa.Schema,
    *,
    what: str = "",
    total: int = 0,
    say: Callable[[str], None] | None = None,
) -> pa.Table:
    """Rows (see `schema`) that `work` gave for each task, run by Spark workers, one task a Spark task.

    With `say`, progress is reported: rows given, of `total`.
    """
    frame, count = _spread_frame(spark, tasks, work, schema)
    if say is None:
        return frame.toArrow().cast(schema)
    with progress_reported(what, total, count, say):
        return frame.toArrow().cast(schema)


def _spread_frame(
    spark: Spark, tasks: Sequence[Task], work: Callable[[Task], Iterator[dict[str, Any]]], schema: pa.Schema
) -> tuple[DataFrame, Callable[[], int]]:
    from pyspark.sql.pandas.types import from_arrow_schema

    session = spark.session()
    done = session.sparkContext.accumulator(0)
    assigned = list(tasks)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                for rows in _in_batches(work(assigned[number])):
                    done.add(len(rows))
                    yield pa.RecordBatch.from_pylist(rows, schema)

    numbers = session.range(0, len(assigned), 1, max(1, len(assigned)))
    frame = numbers.mapInArrow(run, from_arrow_schema(schema))
    return frame, lambda: done.value


def _in_batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= ROWS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
