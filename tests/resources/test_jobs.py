"""Several Spark jobs at once: both at work together, and none left behind when one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from resources.jobs import at_once
from resources.spark import Spark, spark_errors
from resources.spread import spread
from tests.lakes import pickled_by_value

SCHEMA = pa.schema([("task", pa.string()), ("began", pa.float64()), ("ended", pa.float64())])


def nap(task: str) -> Iterator[dict[str, Any]]:
    """A short task; one on the GPU ends once one on a CPU has begun, which leaves the file that they name."""
    name, _, met = task.partition(":")
    began = time.time()
    if met and name.startswith("c"):
        Path(met).touch()
    while met and not Path(met).exists() and time.time() < began + 60:
        time.sleep(0.05)
    time.sleep(0.1)
    yield {"task": name, "began": began, "ended": time.time()}


def test_tasks_on_the_one_gpu_of_a_machine_take_turns_beside_those_on_cpus(spark: Spark, tmp_path: Path) -> None:
    pickled_by_value(__name__)
    cpu, gpu = ([f"{kind}{n}:{tmp_path}/met" for n in range(1, 4)] for kind in "cg")
    rows = spread(spark, cpu, nap, SCHEMA, on_gpu=gpu).to_pylist()
    assert sorted(row["task"] for row in rows) == ["c1", "c2", "c3", "g1", "g2", "g3"]
    of_gpu = sorted((row for row in rows if row["task"].startswith("g")), key=lambda row: row["began"])
    assert all(before["ended"] <= after["began"] for before, after in pairwise(of_gpu))
    assert of_gpu[0]["ended"] < of_gpu[0]["began"] + 60, "a task on a CPU began meanwhile"


def test_only_tasks_on_a_gpu_are_work_enough(spark: Spark) -> None:
    pickled_by_value(__name__)
    assert spread(spark, [], nap, SCHEMA, on_gpu=["g1"])["task"].to_pylist() == ["g1"]
    assert len(spread(spark, [], nap, SCHEMA)) == 0


def test_where_one_fails_the_others_are_ended(spark: Spark) -> None:
    context = spark.session().sparkContext

    def job(seconds: float, wrong: bool) -> Callable[[], list[int]]:
        def work(_: int) -> int:
            time.sleep(seconds)
            if wrong:
                raise ValueError("wrong")
            return 1

        return lambda: context.parallelize([1], 1).map(work).collect()

    began = time.monotonic()
    with pytest.raises((*spark_errors(), RuntimeError)):
        at_once(spark, [job(60, False), job(0.1, True)])
    assert time.monotonic() - began < 50
