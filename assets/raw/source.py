"""The user's table as it came: which files, what they contain, read by Spark row by row with provenance."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resources.lake import filesystem
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, DataFrameReader, SparkSession

FILE, ROW, CORRUPT = "__file", "__row", "__corrupt"
LINEAGE = (FILE, ROW, CORRUPT)
RESERVED = (*LINEAGE, "fleet_bucket")
SUFFIXES = {"parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "csv", "txt": "csv", "json": "json", "jsonl": "json", "ndjson": "json"}  # fmt: skip
TEXT_FORMATS = ("csv", "json")
TEXT_DEFAULTS: dict[str, dict[str, str]] = {
    # multiLine and the doubled quote are RFC 4180, what pandas and spreadsheets write
    "csv": {"header": "true", "multiLine": "true", "quote": '"', "escape": '"', "enforceSchema": "false"},
    "json": {"primitivesAsString": "true"},
}
PROVENANCE_CHUNK = 1 << 22


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, in reading order, and the format they are in."""

    paths: tuple[str, ...]
    format: str
    root: str

    @property
    def hive_partitioned(self) -> bool:
        """Whether folder names such as `year=2024` carry columns."""
        return any("=" in path[len(self.root) :].rsplit("/", 1)[0] for path in self.paths)


def find_files(settings: Settings) -> SourceFiles:
    """Files that `source.path` names: one file, a folder, or a glob.

    Raises:
        InputError: nothing there, nothing in it, or a format that cannot be told.
    """
    import pyarrow.fs as pafs
    from fsspec.implementations.arrow import ArrowFSWrapper

    where, given = "fleet.yaml source.path", settings.source.path
    try:
        system, root = filesystem(given)
        info = system.get_file_info(root)
        if info.type == pafs.FileType.File:
            paths = [root]
        elif info.type == pafs.FileType.Directory:
            listed = system.get_file_info(pafs.FileSelector(root, recursive=True))
            paths = [entry.path for entry in listed if entry.is_file and not _hidden(entry.path[len(root) :])]
        else:
            paths = [
                path for path in ArrowFSWrapper(system).glob(root) if not _hidden(path.rsplit("/", 1)[-1])
            ]
            root = root.split("*", 1)[0].rsplit("/", 1)[0]
    except OSError as error:
        raise InputError(
            [Problem(where, f"{given} cannot be listed ({error})", "mend the path or its access")]
        ) from None
    if not paths:
        raise InputError([Problem(where, f"no file at {given}", "name an existing file, folder or glob")])
    return SourceFiles(tuple(sorted(paths)), _format(settings, paths), root)


def _hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/") if part)


def _format(settings: Settings, paths: list[str]) -> str:
    if settings.source.format:
        return settings.source.format
    names = {path.rsplit("/", 1)[-1].lower().removesuffix(".gz").rsplit(".", 1)[-1] for path in paths}
    formats = {SUFFIXES.get(name) for name in names}
    if len(formats) == 1 and (only := formats.pop()):
        return only
    raise InputError(
        [
            Problem(
                "fleet.yaml source.format",
                f"cannot be told from files ending in {', '.join(sorted(names))}",
                "write parquet, csv or json",
            )
        ]
    )


def source_digest(files: SourceFiles, settings: Settings) -> str:
    """SHA-256 over the files' names and bytes and the reader options: the content's version."""
    system, _ = filesystem(settings.source.path)
    digest = hashlib.sha256(json.dumps([files.format, settings.source.options], sort_keys=True).encode())
    for path in files.paths:
        digest.update(f"\0{path[len(files.root) :]}\0".encode())
        with system.open_input_stream(path) as stream:
            while chunk := stream.read(PROVENANCE_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def read_source(spark: SparkSession, files: SourceFiles, settings: Settings) -> DataFrame:
    """The source's rows unchanged (text formats as text) with `__file`, `__row` and `__corrupt`.

    `__row` orders the rows of a file as they stand in it; `__corrupt` holds a line that could not be read.

    Raises:
        InputError: unreadable or empty files, or columns that `fleet.yaml` names and the table lacks.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    nanoseconds = _nanosecond_columns(files, settings) if files.format == "parquet" else {}
    given = {key: str(value) for key, value in settings.source.options.items()}
    reader = spark.read.options(**{**_default_options(files), **given})
    try:
        frame = _load(reader, files)
    except PySparkException as error:
        raise unreadable(settings, error) from None
    columns = [column for column in frame.columns if column not in LINEAGE]
    problems = missing_columns(columns, settings)
    if problems:
        raise InputError(problems)
    row = "_metadata.row_index" if files.format == "parquet" else "monotonically_increasing_id()"
    corrupt = F.col(CORRUPT) if CORRUPT in frame.columns else F.lit(None).cast("string")
    return frame.select(
        *[F.expr(nanoseconds.get(column, quoted(column))).alias(column) for column in columns],
        F.expr("_metadata.file_path").alias(FILE),
        F.expr(row).alias(ROW),
        corrupt.alias(CORRUPT),
    )


def _default_options(files: SourceFiles) -> dict[str, str]:
    tabs = files.format == "csv" and all(".tsv" in path.lower() for path in files.paths)
    return {**TEXT_DEFAULTS.get(files.format, {}), **({"sep": "\t"} if tabs else {})}


def _load(reader: DataFrameReader, files: SourceFiles) -> DataFrame:
    from pyspark.sql.types import StringType, StructField, StructType

    paths = [re.sub(r"([\[\]{}*?\\])", r"\\\1", path) for path in files.paths]
    if files.hive_partitioned:
        reader, paths = reader.option("basePath", files.root), [files.root]
    if files.format == "parquet":
        return reader.parquet(*paths)
    if files.format == "json":
        return reader.option("columnNameOfCorruptRecord", CORRUPT).json(paths)
    names = reader.csv(paths).columns
    schema = StructType([StructField(name, StringType()) for name in [*names, CORRUPT]])
    return reader.schema(schema).option("columnNameOfCorruptRecord", CORRUPT).csv(paths)


def _nanosecond_columns(files: SourceFiles, settings: Settings) -> dict[str, str]:
    """SQL that turns columns of nanoseconds, which Spark reads as integers, back into times."""
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    system, _ = filesystem(settings.source.path)
    problems, expressions = [], {}
    for path in files.paths:
        try:
            with system.open_input_file(path) as file:
                schema = read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            what = f"is not readable as Parquet ({str(error).splitlines()[0]})"
            problems.append(Problem(path, what, "replace the file, or set source.format"))
            continue
        for field in schema:
            if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
                kind = "timestamp" if field.type.tz else "timestamp_ntz"
                expressions[field.name] = f"cast(timestamp_micros({quoted(field.name)} div 1000) as {kind})"
    if problems:
        raise InputError(problems)
    return expressions


def missing_columns(columns: list[str], settings: Settings) -> list[Problem]:
    """A problem for each column that `fleet.yaml` names and the table lacks, with the nearest name."""
    reserved = [column for column in columns if column in RESERVED]
    found = [Problem("source", f"column {column!r} is a reserved name", "rename it") for column in reserved]
    for column in settings.columns:
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1, cutoff=0.6)
            shown = ", ".join(columns[:20]) + (" ..." if len(columns) > 20 else "")
            remedy = f"did you mean {near[0]!r}?" if near else f"the table has: {shown}"
            found.append(Problem(_role(column, settings), f"the table has no column {column!r}", remedy))
    return found


def _role(column: str, settings: Settings) -> str:
    roles: dict[str, Any] = {
        "segment": settings.segment,
        "time": [settings.time],
        "label": [settings.label],
        "features.known_ahead": settings.features.known_ahead,
        "features.past_only": settings.features.past_only,
    }
    return "fleet.yaml " + next(role for role, names in roles.items() if column in names)


def unreadable(settings: Settings, error: Exception) -> InputError:
    """The user's view of an error that Spark raised while reading the source."""
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    remedy = "check source.format and source.options, and that every file is whole"
    return InputError([Problem(settings.source.path, f"cannot be read: {reason[:300]}", remedy)])
