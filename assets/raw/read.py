"""The user's table as it came: its files read by Spark row by row, with where each row came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING
from urllib.parse import unquote

from assets.raw.cells import is_number
from assets.raw.layout import (
    EMPTY,
    NUMBER,
    Layout,
    changed_since,
    class_of,
    layout_problems,
    layouts_of,
    missing_columns,
    unusable_names,
)
from assets.raw.remote import left_to_workers, rows_by_workers
from assets.raw.source import CORRUPT, FILE, LINEAGE, ROW, SourceFiles, text_options
from resources.contract import Contract
from resources.location import is_local
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import literal_path, quoted, spark_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession


def read_source(
    spark: SparkSession,
    files: SourceFiles,
    settings: Settings,
    needed: Sequence[str] | None = None,
    before: pa.Schema | None = None,
) -> DataFrame:
    """The rows of some files unchanged (text formats as text) with `__file`, `__row` and `__corrupt`.

    `__row` orders the rows of a file as they stand in it; `__corrupt` holds a line that could not be read. Columns that
    a file lacks are null in its rows. `needed` are the columns that must be there, by default all that `fleet.yaml`
    names; `before` is the schema of the last snapshot.

    Raises:
        InputError: unreadable or empty files, needed columns that some lack or that changed their type.
    """
    needed = settings.needed_columns if needed is None else needed
    layouts = layouts_of(files, settings)
    problems = layout_problems(layouts, settings, needed)
    if before is not None:
        problems += changed_since(before, layouts, settings, needed)
    if problems:
        raise InputError(problems)
    try:
        parts = [_load(spark, replace(files, paths=layout.paths), settings, layout) for layout in layouts]
        frame = _united(parts, layouts) if parts else _load(spark, files, settings, None)
    except spark_errors() as error:
        raise unreadable(settings, error) from None
    columns = [column for column in frame.columns if column not in LINEAGE]
    known = [column for column in (before.names if before is not None else []) if column not in LINEAGE]
    together = list(dict.fromkeys([*known, *columns]))
    if problems := [*missing_columns(columns, settings, needed), *unusable_names(together, files)]:
        raise InputError(problems)
    return frame


def _united(parts: list[DataFrame], layouts: list[Layout]) -> DataFrame:
    """One frame of parts with different columns; a column of different classes becomes text."""
    from pyspark.sql import functions as F

    classes: dict[str, set[str]] = {}
    for layout in layouts:
        for name, type_ in layout.columns:
            classes.setdefault(name, set()).add(class_of(type_))
    mixed = {name for name, found in classes.items() if len(found - {EMPTY}) > 1}
    empty = {name for name, found in classes.items() if EMPTY in found}
    numbers = {name for name in empty if classes[name] - {EMPTY} == {NUMBER}}

    def alike(part: DataFrame, layout: Layout) -> DataFrame:
        types = dict(layout.columns)
        own = dict.fromkeys(mixed & set(part.columns), "string")
        own |= {c: "double" if c in numbers else "string" for c in empty - mixed if types.get(c) == EMPTY}
        return (
            part.withColumns({c: F.expr(f"cast({quoted(c)} as {type_})") for c, type_ in own.items()}) if own else part
        )

    frames = [alike(part, layout) for part, layout in zip(parts, layouts, strict=True)]
    return reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), frames)


def _load(spark: SparkSession, files: SourceFiles, settings: Settings, layout: Layout | None) -> DataFrame:
    from pyspark.sql import functions as F

    if layout is not None and left_to_workers(spark, files):
        if problems := unusable_names(layout.names, files):
            raise InputError(problems)
        return rows_by_workers(spark, files)
    options = text_options(files, settings)
    if layout is not None and "enforceSchema" not in settings.source.options:
        options["enforceSchema"] = "true"  # by place: the files have one header, but Spark names columns without a name
    frame = _rows(spark.read.options(**options), files, settings)
    if problems := unusable_names(frame.columns, files):
        raise InputError(problems)
    parquet = files.format in ("parquet", "delta")
    nanoseconds = _nanoseconds(layout) if parquet and layout else {}
    row = "_metadata.row_index" if parquet else "monotonically_increasing_id()"
    corrupt = F.col(CORRUPT) if CORRUPT in frame.columns and not parquet else F.lit(None).cast("string")
    return frame.select(
        *[F.expr(nanoseconds.get(c, quoted(c))).alias(c) for c in frame.columns if c != CORRUPT or parquet],
        F.expr("_metadata.file_path").alias(FILE),
        F.expr(row).alias(ROW),
        corrupt.alias(CORRUPT),
    )


def _rows(reader: DataFrameReader, files: SourceFiles, settings: Settings) -> DataFrame:
    from pyspark.sql.types import StringType, StructField, StructType

    scheme = "" if is_local(files.given) else files.given.partition("://")[0] + "://"
    paths = [scheme + literal_path(path) for path in files.paths]
    if files.hive_partitioned:
        reader = reader.option("basePath", scheme + files.root)
    if files.format in ("parquet", "delta"):
        return reader.parquet(*paths)
    if files.format == "json":
        return reader.option("columnNameOfCorruptRecord", CORRUPT).json(paths)
    options = text_options(files, settings)
    # to learn the names of several lines Spark would take the paths for patterns a second time
    one_line = "false" if any(literal_path(path) != path for path in files.paths) else options["multiLine"]
    names = settings.source.columns or reader.option("multiLine", one_line).csv(paths).columns
    schema = StructType([StructField(name, StringType()) for name in [*names, CORRUPT]])
    reader = reader.schema(schema).options(multiLine=options["multiLine"], columnNameOfCorruptRecord=CORRUPT)
    return reader.csv(paths)


def _nanoseconds(layout: Layout) -> dict[str, str]:
    """SQL that turns columns of nanoseconds, which Spark reads as integers, back into times."""
    expressions = {}
    for name, type_ in layout.columns:
        if type_.startswith("timestamp[ns"):
            kind = "timestamp" if "tz=" in type_ else "timestamp_ntz"
            expressions[name] = f"cast(timestamp_micros({quoted(name)} div 1000) as {kind})"
    return expressions


def under_own_names(raw: DataFrame, contract: Contract) -> DataFrame:
    """Raw rows with each column of `contract.aliases` in one piece, whatever it was called over time."""
    from pyspark.sql import functions as F

    pieces = {
        column: present
        for column in contract.aliases
        if (present := [name for name in contract.names_of(column) if name in raw.columns]) and present != [column]
    }
    if not pieces:
        return raw
    types = dict(raw.dtypes)

    def alike(names: list[str]) -> list[Column]:
        kinds = {"number" if is_number(types[name]) else types[name] for name in names}
        return [_column(name) if len(kinds) == 1 else _column(name).cast("string") for name in names]

    whole = {names[0]: F.coalesce(*alike(names)).alias(column) for column, names in pieces.items()}
    gone = {name for names in pieces.values() for name in names[1:]}
    return raw.select(*[whole.get(name, _column(name)) for name in raw.columns if name not in gone])


def _column(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.col(quoted(name))


def unreadable(settings: Settings, error: Exception) -> InputError:
    """The user's view of an error that Spark raised while reading the source."""
    said = str(error)
    causes = re.findall(r"^(?:Caused by)?: (?:[\w.$]+: )?(.+)", said, re.MULTILINE)
    told = [cause for cause in causes if not re.fullmatch(r"[\w.$]+", cause)]
    reason = told[-1] if told else next((line for line in said.splitlines() if line.strip()), "")
    file = re.search(r"file:/+(\S+\.\w+)", said)
    where = f"/{unquote(file.group(1))}" if file else settings.source.path
    remedy = "check source.format and source.options, and that every file is whole"
    return InputError([Problem(where, f"cannot be read: {reason[:300]}", remedy)])
