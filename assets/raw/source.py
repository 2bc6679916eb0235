"""The user's table as it came: which files, what they contain, read by Spark row by row with provenance."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from resources.files import filesystem, is_hidden
from resources.problems import InputError, Problem
from resources.settings import Settings, is_local
from resources.spark import literal_path, quoted, spark_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, DataFrameReader, SparkSession

FILE, ROW, CORRUPT = "__file", "__row", "__corrupt"
LINEAGE = (FILE, ROW, CORRUPT)
RESERVED = (
    *LINEAGE, "__segment", "__time", "__period", "__reasons", "__reason", "__source", "__assumed", "__micros",
    "__hash", "__at", "__why", "__brought", "__built", "fleet_bucket",
)  # fmt: skip
PARSED_BY_US = ("timestampFormat", "dateFormat")  # cells reach us as text: see parse.py
SUFFIXES = {
    "parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "csv", "txt": "csv",
    "json": "json", "jsonl": "json", "ndjson": "json",
}  # fmt: skip
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
            paths = [entry.path for entry in listed if entry.is_file and not is_hidden(entry.path[len(root) :])]
        else:
            found = ArrowFSWrapper(system).glob(root)
            root = re.split(r"[*?\[]", root, maxsplit=1)[0].rpartition("/")[0]
            paths = [path for path in found if not is_hidden(path[len(root) :])]
    except OSError as error:
        raise InputError(
            [Problem(where, f"{given} cannot be listed ({error})", "mend the path or its access")]
        ) from None
    if not paths:
        raise InputError([Problem(where, f"no file at {given}", "name an existing file, folder or glob")])
    return SourceFiles(tuple(sorted(paths)), _format(settings, paths), root)


def _format(settings: Settings, paths: list[str]) -> str:
    if settings.source.format:
        return settings.source.format
    formats = {format_of(path) for path in paths}
    if len(formats) == 1 and (only := formats.pop()):
        return only
    what = f"cannot be told from files ending in {', '.join(sorted(map(_ending, paths)))}"
    raise InputError([Problem("fleet.yaml source.format", what, "write parquet, csv or json")])


def format_of(path: str) -> str | None:
    """The format that a path's ending tells: `parquet`, `csv` or `json`; None if it tells none."""
    return SUFFIXES.get(_ending(path))


def _ending(path: str) -> str:
    return path.rsplit("/", 1)[-1].lower().removesuffix(".gz").rsplit(".", 1)[-1]


def source_digest(files: SourceFiles, settings: Settings) -> str:
    """SHA-256 over the files' names and bytes and the reader options: the content's version."""
    system, _ = filesystem(settings.source.path)
    digest = hashlib.sha256(json.dumps([files.format, settings.source.options], sort_keys=True).encode())
    for path in files.paths:
        digest.update(f"\0{path[len(files.root) :]}\0".encode())
        with system.open_input_stream(path, compression=None) as stream:
            while chunk := stream.read(PROVENANCE_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def read_source(
    spark: SparkSession, files: SourceFiles, settings: Settings, needed: Sequence[str] | None = None
) -> DataFrame:
    """The source's rows unchanged (text formats as text) with `__file`, `__row` and `__corrupt`.

    `__row` orders the rows of a file as they stand in it; `__corrupt` holds a line that could not be read. `needed` are
    the columns that must be there, by default all that `fleet.yaml` names.

    Raises:
        InputError: unreadable or empty files, or needed columns that the table lacks.
    """
    from pyspark.sql import functions as F

    needed = settings.columns if needed is None else needed
    nanoseconds = _nanosecond_columns(files, settings, needed) if files.format == "parquet" else {}
    reader = spark.read.options(**_options(files, settings))
    try:
        frame = _load(reader, files, settings)
    except spark_errors() as error:
        raise unreadable(settings, error) from None
    columns = [column for column in frame.columns if column not in LINEAGE]
    problems = [*missing_columns(columns, settings, needed), *_reserved(frame.columns, files.format)]
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


def _options(files: SourceFiles, settings: Settings) -> dict[str, str]:
    given = {key: str(value) for key, value in settings.source.options.items() if key not in PARSED_BY_US}
    defaults = dict(TEXT_DEFAULTS.get(files.format, {}))
    if files.format == "csv" and "delimiter" not in given and all(".tsv" in path.lower() for path in files.paths):
        defaults["sep"] = "\t"
    return {**defaults, **given}


def _load(reader: DataFrameReader, files: SourceFiles, settings: Settings) -> DataFrame:
    from pyspark.sql.types import StringType, StructField, StructType

    scheme = "" if is_local(settings.source.path) else settings.source.path.partition("://")[0] + "://"
    paths = [scheme + literal_path(path) for path in files.paths]
    if files.hive_partitioned:
        reader = reader.option("basePath", scheme + files.root)
    if files.format == "parquet":
        return reader.parquet(*paths)
    if files.format == "json":
        return reader.option("columnNameOfCorruptRecord", CORRUPT).json(paths)
    options = _options(files, settings)
    # to learn the names of several lines Spark would take the paths for patterns a second time
    one_line = "false" if any(literal_path(path) != path for path in files.paths) else options["multiLine"]
    names = reader.option("multiLine", one_line).csv(paths).columns
    schema = StructType([StructField(name, StringType()) for name in [*names, CORRUPT]])
    reader = reader.schema(schema).options(multiLine=options["multiLine"], columnNameOfCorruptRecord=CORRUPT)
    return reader.csv(paths)


def _nanosecond_columns(files: SourceFiles, settings: Settings, needed: Sequence[str]) -> dict[str, str]:
    """SQL that turns columns of nanoseconds, which Spark reads as integers, back into times.

    Raises:
        InputError: files that are not Parquet, or lack needed columns that others have.
    """
    import pyarrow as pa

    schemas = _parquet_schemas(files, settings)
    known = {name for schema in schemas.values() for name in schema.names}
    problems = [
        Problem(path, f"the file has no column {column!r}, which others have", _nearest(column, schema.names))
        for path, schema in schemas.items()
        for column in needed
        if column in known and column not in schema.names
    ]
    if problems:
        raise InputError(problems)
    expressions = {}
    for field in (field for schema in schemas.values() for field in schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = "timestamp" if field.type.tz else "timestamp_ntz"
            expressions[field.name] = f"cast(timestamp_micros({quoted(field.name)} div 1000) as {kind})"
    return expressions


def _parquet_schemas(files: SourceFiles, settings: Settings) -> dict[str, pa.Schema]:
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    system, _ = filesystem(settings.source.path)
    schemas, problems = {}, []
    for path in files.paths:
        try:
            with system.open_input_file(path) as file:
                schemas[path] = read_schema(file)
        except (pa.ArrowException, OSError) as error:
            what = f"is not readable as Parquet ({str(error).splitlines()[0]})"
            problems.append(Problem(path, what, "replace the file, or set source.format"))
    if problems:
        raise InputError(problems)
    return schemas


def missing_columns(columns: list[str], settings: Settings, needed: Sequence[str]) -> list[Problem]:
    """A problem for each needed column that the table lacks, with the nearest name."""
    return [
        Problem(_role(column, settings), f"the table has no column {column!r}", _nearest(column, columns))
        for column in needed
        if column not in columns
    ]


def _nearest(column: str, columns: list[str]) -> str:
    near = difflib.get_close_matches(column, columns, n=1, cutoff=0.6)
    shown = ", ".join(columns[:20]) + (" ..." if len(columns) > 20 else "")
    return f"did you mean {near[0]!r}?" if near else f"the table has: {shown}"


def _reserved(columns: list[str], form: str) -> list[Problem]:
    """Columns whose names we need, or that Delta Lake, which knows no case, could not tell apart."""
    ours = () if form == "parquet" else (CORRUPT,)
    taken = [column for column in columns if column in RESERVED and column not in ours]
    found = [Problem("source", f"column {column!r} is a reserved name", "rename it") for column in taken]
    first: dict[str, str] = {}
    for column in columns:
        other = first.setdefault(column.lower(), column)
        if other != column:
            what = f"columns {other!r} and {column!r} differ only in case"
            found.append(Problem("source", what, "rename one of them: a Delta table cannot hold both"))
    return found


def _role(column: str, settings: Settings) -> str:
    roles: dict[str, Any] = {
        "segment": settings.segment,
        "time": settings.time_columns,
        "label": [settings.label],
        "features.known_ahead": settings.features.known_ahead,
        "features.past_only": settings.features.past_only,
    }
    return "fleet.yaml " + next((role for role, names in roles.items() if column in names), "features.known_ahead")


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
