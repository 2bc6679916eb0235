"""Spark sessions, built on dagster-pyspark."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dagster import ConfigurableResource
from pydantic import Field

from resources.files import bytes_at
from resources.problems import InputError, Problem

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JAVA_NEEDED = 17
MOST_THREADS = 8
LARGE_BYTES = 16_000_000
ROWS_A_PARTITION = 500_000
QUIET_LOG = Path(__file__).with_name("log4j2.properties")


class Spark(ConfigurableResource):
    """The Spark session of a run; the embedded default is `local[*]` in this process.

    `table` is where the rows are that it is to read: many of them are worth the JVM's slower compiler.
    """

    master: str = "local[*,4]"
    memory: str = "4g"
    table: str = ""
    conf: dict[str, str] = Field(default_factory=dict)

    def session(self) -> SparkSession:
        """The session, started when first asked for and shared by the assets of a run.

        Raises:
            InputError: no Java 17 or later, or the session cannot start.
        """
        require_java()
        from dagster_pyspark import LazyPySparkResource

        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        session = LazyPySparkResource(spark_config=self._settings()).spark_session
        session.sparkContext.setLogLevel("ERROR")
        _silence_query_errors()
        return session

    def threads(self) -> int:
        """Threads that work which runs alone, or is much larger than the rest, may use: an executor's cores."""
        context = self.session().sparkContext
        local = context.master.startswith("local")
        cores = context.defaultParallelism if local else int(context.getConf().get("spark.executor.cores", "1"))
        return max(1, min(cores, MOST_THREADS))

    def _settings(self) -> dict[str, str]:
        return {
            "spark.app.name": "fleet",
            "spark.master": self.master,
            "spark.driver.memory": self.memory,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraJavaOptions": f'{self._jvm()} -Dlog4j2.configurationFile="file:{QUIET_LOG}"',
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.caseSensitive": "true",
            # or a table in windows-1252 could not be read
            "spark.sql.legacy.javaCharsets": "true",
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            # pandas writes nanoseconds, which Spark refuses unless read as integers (cast back in source.py)
            "spark.sql.legacy.parquet.nanosAsLong": "true",
            # a file name such as `bucket=3` in the user's own folder must not become a column's type
            "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
            "spark.sql.shuffle.partitions": "16",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
            "spark.python.worker.reuse": "true",
            **self.conf,
        }

    def _jvm(self) -> str:
        """The JVM's options: in this process, for a small table, compiling fully costs more than it saves.

        From CSV to features, 2 cores: 150,000 rows 25 s quickly compiled, 30 s fully; a million rows 47 and 39 s, and
        51 s with the usual garbage collector, which works beside the tasks on the same few cores.
        """
        # with the quick compiler it would be 48 MB, full after some runs in one process, and all goes on uncompiled
        options = "-XX:+UseParallelGC -XX:ReservedCodeCacheSize=240m"
        return options if bytes_at(self.table) >= LARGE_BYTES else f"-XX:TieredStopAtLevel=1 {options}"


def require_java() -> None:
    """Makes sure that Java 17 or later can be started.

    Raises:
        InputError: it cannot; says how to install it.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    remedy = f"install it: sudo apt-get install -y openjdk-{JAVA_NEEDED}-jre-headless"
    if java is None:
        raise InputError([Problem("Java", f"version {JAVA_NEEDED} or later is not installed", remedy)])
    version = re.search(r'version "(\d+)', _said_of_itself(java))
    if version and int(version.group(1)) < JAVA_NEEDED:
        raise InputError([Problem("Java", f"{java} is version {version.group(1)}; {JAVA_NEEDED} is needed", remedy)])


@lru_cache
def _said_of_itself(java: str) -> str:
    return subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr


def _silence_query_errors() -> None:
    import logging

    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def literal_path(path: str) -> str:
    """A path as Spark's readers take it: not as a pattern, whatever characters it has."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def spark_errors() -> tuple[type[Exception], ...]:
    """What Spark raises when a query fails, to be caught and explained."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    return PySparkException, Py4JJavaError


def partitions_for(session: SparkSession, rows: int) -> int:
    """Partitions that so many rows are shuffled into for Python workers, which hold one in memory each.

    As many as `spark.sql.shuffle.partitions` says, more for very many rows.
    """
    usual = session.conf.get("spark.sql.shuffle.partitions")
    assert usual is not None, "Spark has a default"
    return max(int(usual), rows // ROWS_A_PARTITION)


def light_collections() -> None:
    """Lets a Python worker's garbage collector pass over all that was imported.

    Spark collects after each task: going through the modules took 170 ms, and this takes nothing.
    """
    _freeze(len(sys.modules))


@lru_cache(maxsize=1)
def _freeze(modules: int) -> None:  # again only after further imports: what is garbage at the time stays for good
    gc.freeze()


def quoted(column: str) -> str:
    """A column name as Spark SQL reads it whatever characters it has (dots, spaces, backticks)."""
    return "`" + column.replace("`", "``") + "`"
