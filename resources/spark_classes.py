"""Spark's classes as the JVM keeps them in a file, so that a session starts with a fraction of the work.

    .venv/bin/python -m resources.spark_classes        # set-up does it

Class data sharing: https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html. The file is of one Java, one
Spark and one place: any other finds none, and a JVM that cannot use one loads its classes as ever.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

SILENT = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def archive_options(java: str, version: str) -> str:
    """The JVM's options to use the archive for a Java that says of itself `version`; none where there is no archive."""
    path = archive(java, version)
    return f' -XX:SharedArchiveFile="{path}" {SILENT}' if path.exists() else ""


@lru_cache
def archive(java: str, version: str) -> Path:
    """Where the archive for a Java and this environment's Spark lies, or would."""
    from importlib.metadata import version as installed

    said = "\0".join([os.path.realpath(java), version, installed("pyspark"), sys.prefix])
    name = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
    return Path(sys.prefix) / "spark-classes" / f"{name}.jsa"


def make_archive() -> Path:
    """Runs a small session of each kind of work, and keeps the classes that it loaded; gives the file.

    Raises:
        InputError: no Java 17 or later, or the session cannot start.
    """
    from resources.spark import Spark, java_command, said_of_itself

    java = java_command()
    assert java is not None, "the session below says what is missing"
    made = archive(java, said_of_itself(java))
    made.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        fresh = Path(folder) / made.name
        options = f'-XX:+UseParallelGC -XX:ArchiveClassesAtExit="{fresh}" {SILENT}'
        session = Spark(master="local[2]", conf={"spark.driver.extraJavaOptions": options}).session()
        _work(session, folder)
        gateway = session.sparkContext._gateway
        session.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()  # the JVM ends, and writes
        gateway.proc.wait(120)
        shutil.move(fresh, made)
    return made


def _work(session: object, folder: str) -> None:
    import pandas as pd
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as F

    assert isinstance(session, SparkSession)
    rows = pd.DataFrame({"key": [f"k{n % 7}" for n in range(500)], "day": range(500), "value": [0.5] * 500})
    rows.to_csv(f"{folder}/rows.csv", index=False)
    frame = session.read.csv(f"{folder}/rows.csv", header=True)
    typed = frame.select("key", F.expr("try_cast(day as int) day"), F.expr("try_cast(value as double) value"))
    typed.repartition(4, "key").write.partitionBy("key").parquet(f"{folder}/rows.parquet")
    read = session.read.parquet(f"{folder}/rows.parquet")
    numbered = read.withColumn("place", F.row_number().over(Window.partitionBy("key").orderBy("day")))
    counted = numbered.groupBy("key").agg(F.count("*"), F.avg("value"), F.max("place"), F.approx_count_distinct("day"))
    counted.join(read, "key", "left").orderBy("key", "day").toPandas()
    typed.mapInArrow(lambda batches: batches, typed.schema).toArrow()
    typed.groupBy("key").applyInArrow(lambda table: table, typed.schema).count()
    session.createDataFrame(rows).crossJoin(F.broadcast(session.range(2).toDF("n"))).count()


if __name__ == "__main__":
    print(f"kept Spark's classes in {make_archive()}")
