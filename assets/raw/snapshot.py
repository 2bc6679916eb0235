"""A committed snapshot of the raw table, read by Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from assets.raw.layout import missing_columns
from assets.raw.read import under_own_names
from assets.raw.source import LINEAGE, PART
from resources.frames import frame_of
from resources.lake import Lake
from resources.problems import InputError
from resources.pruned import refuse_pruned
from resources.settings import Settings
from resources.spark import Spark
from resources.table import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RAW = "raw"


def read_snapshot(spark: Spark, table: Table, settings: Settings, version: int | None = None) -> DataFrame:
    """The rows of a snapshot (the last by default) as a Spark frame, columns under the names that `fleet.yaml` has.

    Raises:
        InputError: it was pruned, or lacks columns that `fleet.yaml` names.
    """
    if version is not None:
        refuse_pruned(Lake(uri=settings.lake), RAW, str(version), f"snapshot {version}")
    frame = read_files(spark, table.schema(version), table.files(version))
    problems = missing_columns([c for c in frame.columns if c not in LINEAGE], settings, settings.needed_columns)
    if problems:
        raise InputError(problems)
    return under_own_names(frame, settings.contract)


def read_files(spark: Spark, schema: pa.Schema, files: list[str]) -> DataFrame:
    """Rows of some files of the raw table; columns that came after a file was written are null in its rows."""
    held = [field for field in schema if field.name != PART]
    return frame_of(spark.session(), files, pa.schema(held))
