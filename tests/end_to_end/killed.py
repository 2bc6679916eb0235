"""A process that ingests a fleet and builds its features, and kills itself at a step that it is told.

    python -m tests.end_to_end.killed FLEET_YAML STEP

After every job of workers and every write to the lake a step is over; a STEP beyond the last ends well and prints how many there are.

    python -m tests.end_to_end.killed --jvm

starts a JVM that outlives such processes, each of which begins a Spark context of its own in it (a JVM takes longer to
start and to warm up than all the rest), prints its port and secret, and ends with its standard input.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from assets.features.publish import publish_features
from assets.raw.ingest import ingest
from resources.lake import Lake
from resources.settings import read_settings
from resources.spark import Spark
from resources.table import Table

SPARK = Spark(master="local[2]", memory="1g")


class Steps:
    """Counts steps; at one of them the process is gone, as by a power cut."""

    def __init__(self, last: int) -> None:
        self._last, self.taken = last, 0

    def take(self) -> None:
        self.taken += 1
        if self.taken == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Makes each call of a function or method a step, which is over when it returns."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **keys: Any) -> Any:
            result = original(*arguments, **keys)
            self.take()
            return result

        setattr(owner, name, wrapped)


def start_jvm() -> None:
    from pyspark import SparkConf
    from pyspark.java_gateway import launch_gateway

    gateway = launch_gateway(SparkConf().setAll(list(SPARK._settings().items())))
    print(gateway.gateway_parameters.port, gateway.gateway_parameters.auth_token, flush=True)
    sys.stdin.read()


def end_the_context_of_the_dead() -> None:
    from pyspark import SparkContext

    SparkContext._ensure_initialized()
    active = SparkContext._jvm.org.apache.spark.sql.SparkSession.getDefaultSession()
    if active.isDefined():
        active.get().stop()


def main(fleet_yaml: str, last: int) -> None:
    from pyspark.sql.classic.dataframe import DataFrame
    from pyspark.sql.readwriter import DataFrameWriter

    settings = read_settings(fleet_yaml)
    lake = Lake(uri=settings.lake)
    end_the_context_of_the_dead()
    steps = Steps(last)
    steps.around(DataFrameWriter, "parquet")
    steps.around(DataFrame, "toArrow")  # what workers do, whoever asks them
    for method in ("_write", "_add_columns", "restore"):
        steps.around(Table, method)
    steps.around(Lake, "write_file")
    ingest(lake, SPARK, settings)
    publish_features(lake, SPARK, settings)
    print(steps.taken)


if __name__ == "__main__":
    start_jvm() if sys.argv[1] == "--jvm" else main(sys.argv[1], int(sys.argv[2]))
