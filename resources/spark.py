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

from resources.cluster import UNPACKED, driver_address, given_variables, require_master, ship_code
from resources.computing import CPU, LOCAL, is_local_master
from resources.discovery import discovered
from resources.environment import resolved
from resources.files import bytes_at
from resources.problems import InputError, Problem
from resources.python_workers import MEMORY, sockets_of_this_machine
from resources.settings import Settings
from resources.spark_classes import archive_options
from resources.workers import check_workers, ended_unless_fit, require_gpus

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JAVA_NEEDED = 17
MOST_THREADS = 8
LARGE_BYTES = 16_000_000
ROWS_A_PARTITION, FEWEST_ROWS_A_PART = 500_000, 50_000
LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
SCRATCH = "spark.fleet.scratch"  # a setting of ours: the folder for files that workers read and that do not stay
_checked: set[str] = set()  # applications whose workers were found fit
QUIET_LOG = Path(__file__).with_name("log4j2.properties")


class Spark(ConfigurableResource):
    """The Spark session of a run; the embedded default is `local[*]` in this process.

    `table` is where the rows are that it is to read: many of them are worth the JVM's slower compiler. `lake` is what a
    cluster's workers must see, `gpus` how many of them each executor holds; for the rest see `SparkSettings`.
    """

    master: str = LOCAL
    memory: str = "4g"
    table: str = ""
    lake: str = ""
    executor_memory: str | None = None
    cores: int | None = None
    executors: int | None = None
    environment: str | None = None
    python: str | None = None
    packages: list[str] = Field(default_factory=list)
    variables: list[str] = Field(default_factory=list)
    conf: dict[str, str] = Field(default_factory=dict)
    ui: bool = False
    gpus: int = 0
    discovery_script: str | None = None

    @classmethod
    def of(cls, settings: Settings, table: str | None = None) -> Spark:
        """The Spark that a `fleet.yaml` names, for its own table or another."""
        given, gpu, source = settings.spark.model_dump(), settings.gpu, settings.source
        given["conf"] = {key: _as_spark_writes(value) for key, value in settings.spark.conf.items()}
        own = "" if source.format == "sql" else source.path
        return cls(
            table=own if table is None else table,
            lake=settings.lake,
            gpus=0 if gpu.device == CPU else gpu.per_executor,
            discovery_script=gpu.discovery_script,
            **given,
        )

    @property
    def is_local(self) -> bool:
        """Whether all work is done in this process and those that it starts."""
        return is_local_master(self.master)

    def session(self) -> SparkSession:
        """The session, started when first asked for and shared by the assets of a run.

        Raises:
            InputError: no Java 17 or later; the cluster does not answer; its workers lack GPUs, do not see the lake, or
                have another Python or LightGBM.
        """
        require_java()
        if not self.is_local and not _is_checked():
            require_master(self.master)
            require_gpus(self.master, self.conf, self.gpus)
        if self.is_local and self.gpus:
            discovered(self.discovery_script)
        session = self._started()
        if not self.is_local and not _is_checked():
            with ended_unless_fit(session):
                ship_code(session.sparkContext)
                check_workers(session, self.lake, self.table, self.gpus)
            _checked.add(session.sparkContext.applicationId)
        return session

    def _started(self) -> SparkSession:
        from dagster_pyspark import LazyPySparkResource

        if self.is_local:
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        else:
            os.environ["PYSPARK_PYTHON"] = self._workers_python()
        session = LazyPySparkResource(spark_config=self._settings()).spark_session
        session.sparkContext.setLogLevel("ERROR")
        _silence_query_errors()
        return session

    def _workers_python(self) -> str:
        return f"./{UNPACKED}/bin/python" if self.environment else self.python or sys.executable

    def threads(self) -> int:
        """Threads that work which runs alone, or is much larger than the rest, may use: an executor's cores."""
        context = self.session().sparkContext
        local = is_local_master(context.master)
        cores = context.defaultParallelism if local else int(context.getConf().get("spark.executor.cores", "1"))
        return max(1, min(cores, MOST_THREADS))

    def ui_address(self) -> str | None:
        """Spark's web page while the session lasts; None where it is off (`spark.ui`)."""
        address: str | None = self.session().sparkContext.uiWebUrl if self.ui else None
        return address

    def _settings(self) -> dict[str, str]:
        return {
            "spark.app.name": "fleet",
            **({"spark.jars.packages": ",".join(self.packages)} if self.packages else {}),
            "spark.master": self.master,
            "spark.driver.memory": self.memory,
            "spark.driver.extraJavaOptions": f'{self._jvm()} -Dlog4j2.configurationFile="file:{QUIET_LOG}"',
            "spark.ui.enabled": _as_spark_writes(self.ui),
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
            # larger methods the JVM never compiles: with 50 expectations rows took ten times as long
            "spark.sql.codegen.hugeMethodLimit": "8000",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
            "spark.python.worker.reuse": "true",
            **({**LOOPBACK, **MEMORY, **sockets_of_this_machine()} if self.is_local else self._of_cluster()),
            **{key: resolved(value, f"fleet.yaml spark.conf.{key}") for key, value in self.conf.items()},
        }

    def _of_cluster(self) -> dict[str, str]:
        of_executors = {
            "spark.executor.memory": self.executor_memory,
            "spark.executor.cores": self.cores,
            "spark.executor.instances": self.executors,
            "spark.archives": f"{self.environment}#{UNPACKED}" if self.environment else None,
            "spark.executor.resource.gpu.amount": self.gpus or None,
            "spark.executor.resource.gpu.discoveryScript": self.discovery_script if self.gpus else None,
        }
        said = {key: str(value) for key, value in of_executors.items() if value is not None}
        return {SCRATCH: self.lake, **driver_address(self.master), **said, **dict(given_variables(self.variables))}

    def _known_classes(self) -> str:
        java = java_command()
        return archive_options(java, said_of_itself(java)) if java else ""

    def _jvm(self) -> str:
        """The JVM's options: in this process, for a small table, compiling fully costs more than it saves.

        From CSV to features, 2 cores: 150,000 rows 25 s quickly compiled, 30 s fully; a million rows 47 and 39 s, and
        51 s with the usual garbage collector, which works beside the tasks on the same few cores.
        """
        # with the quick compiler it would be 48 MB, full after some runs in one process, and all goes on uncompiled
        options = f"-XX:+UseParallelGC -XX:ReservedCodeCacheSize=240m{self._known_classes()}"
        return options if bytes_at(self.table) >= LARGE_BYTES else f"-XX:TieredStopAtLevel=1 {options}"


def _is_checked() -> bool:
    """Whether this process has a session whose workers were found fit."""
    from pyspark import SparkContext

    active = SparkContext._active_spark_context
    return active is not None and active.applicationId in _checked


def _as_spark_writes(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def java_command() -> str | None:
    """The Java that Spark will start: of JAVA_HOME, else of the PATH; None where there is none."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")


def require_java() -> None:
    """Makes sure that Java 17 or later can be started.

    Raises:
        InputError: it cannot; says how to install it.
    """
    java = java_command()
    remedy = f"install it: sudo apt-get install -y openjdk-{JAVA_NEEDED}-jre-headless"
    if java is None:
        raise InputError([Problem("Java", f"version {JAVA_NEEDED} or later is not installed", remedy)])
    version = re.search(r'version "(\d+)', said_of_itself(java))
    if version and int(version.group(1)) < JAVA_NEEDED:
        raise InputError([Problem("Java", f"{java} is version {version.group(1)}; {JAVA_NEEDED} is needed", remedy)])


@lru_cache
def said_of_itself(java: str) -> str:
    """What a Java prints of its version."""
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


def parts_for(session: SparkSession, rows: int) -> int:
    """Parts that so many rows are handed over in to Python workers, which hold one in memory each.

    Two for each core, if that leaves them worth a task; more for very many rows.
    """
    worth_a_task = min(2 * session.sparkContext.defaultParallelism, rows // FEWEST_ROWS_A_PART)
    return max(1, rows // ROWS_A_PARTITION, worth_a_task)


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
