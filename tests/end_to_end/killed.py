"""A process that ingests a fleet and builds its features, and kills itself at a step that it is told.

    python -m tests.end_to_end.killed FLEET_YAML STEP

After every write to the lake a step is over; a STEP beyond the last ends well and prints how many there are.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from assets.features import publish
from assets.raw.ingest import ingest
from resources.lake import Lake
from resources.settings import read_settings
from resources.spark import Spark
from resources.table import Table


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


def main(fleet_yaml: str, last: int) -> None:
    from pyspark.sql.classic.dataframe import DataFrame
    from pyspark.sql.readwriter import DataFrameWriter

    settings = read_settings(fleet_yaml)
    lake, spark = Lake(uri=settings.lake), Spark(master="local[2]", memory="1g")
    steps = Steps(last)
    steps.around(DataFrameWriter, "parquet")
    steps.around(DataFrame, "persist")
    steps.around(publish, "write_features")
    for method in ("_write", "_add_columns", "restore"):
        steps.around(Table, method)
    steps.around(Lake, "write_file")
    ingest(lake, spark, settings)
    publish.publish_features(lake, spark, settings)
    print(steps.taken)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
