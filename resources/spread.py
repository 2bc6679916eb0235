"""Work on buckets spread over Spark's workers: the largest first, Arrow rows back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from resources.jobs import at_once
from resources.progress import Progress, progress_reported
from resources.spark import Spark, light_collections
from resources.workers import gpu_profile, require_versions, versions

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext
    from pyspark.resource import ResourceProfile
    from pyspark.sql import DataFrame

Task = TypeVar("Task")
Work = Callable[[Task], Iterator[dict[str, Any]]]
Say = Callable[[str], None]
ROWS_A_BATCH = 1_000
SHARES_A_CORE = 16  # what a Spark task costs beside its work, short tasks share


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
    unit: str = "segments",
    on_gpu: Sequence[Task] = (),
    per_task: float = 1.0,
) -> pa.Table:
    """Rows (see `schema`) that `work` gave for each task, run by Spark workers: one a Spark task, short ones several.

    Tasks `on_gpu` are a stage of their own that runs at the same time: of a cluster, each gets its share of a GPU
    (`per_task`); on one machine they take turns.

    With `say`, progress is reported: segments (or whatever the `unit` is) done, of `total`, and the slowest so far
    where rows have `segment` and `seconds`. A row is one, or as many as its column of the unit's name says. All comes
    from Spark's accumulators, which workers send when a task ends.
    """
    counted = Counted(spark.session().sparkContext)
    jobs = []
    if tasks or not on_gpu:
        jobs.append(_job(spark, tasks, work, schema, counted, unit, shares=_shares(spark, tasks, short)))
    if on_gpu:
        profile = None if spark.is_local else gpu_profile(per_task)
        shares = 1 if spark.is_local else len(on_gpu)
        jobs.insert(0, _job(spark, on_gpu, work, schema, counted, unit, shares=shares, profile=profile))
    with progress_reported(what, total, counted.progress, say, unit) if say else nullcontext():
        rows = at_once(spark, [job.toArrow for job in jobs])
    return pa.concat_tables([each.cast(schema) for each in rows])


class Counted:
    """What tasks have done so far, of all jobs together: Spark's accumulators."""

    def __init__(self, context: SparkContext) -> None:
        self.done: Accumulator[int] = context.accumulator(0)
        self.slowest = context.accumulator((0.0, ""), _slower())

    def progress(self) -> Progress:
        """How far the work is, as the driver knows it."""
        return Progress(self.done.value, *self.slowest.value)


def _shares(spark: Spark, tasks: Sequence[Task], short: bool) -> int:
    most = SHARES_A_CORE * spark.session().sparkContext.defaultParallelism if short else len(tasks)
    return max(1, min(len(tasks), most))


def _job(
    spark: Spark,
    tasks: Sequence[Task],
    work: Work[Task],
    schema: pa.Schema,
    counted: Counted,
    unit: str,
    *,
    shares: int,
    profile: ResourceProfile | None = None,
) -> DataFrame:
    from pyspark.sql.pandas.types import from_arrow_schema

    assigned, done, slowest, expected = list(tasks), counted.done, counted.slowest, versions()

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        require_versions(expected)
        light_collections()
        for batch in batches:
            for number in batch.column(0).to_pylist():
                given = chain.from_iterable(work(task) for task in assigned[number::shares])
                for rows in _in_batches(given):
                    done.add(sum(row.get(unit, 1) for row in rows))
                    slowest.add(max((row.get("seconds") or 0.0, row.get("segment") or "") for row in rows))
                    yield pa.RecordBatch.from_pylist(rows, schema)

    numbers = spark.session().range(0, shares, 1, shares)
    return numbers.mapInArrow(run, from_arrow_schema(schema), profile=profile)


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
