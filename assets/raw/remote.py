"""Parquet in a bucket, read by workers' Python: Spark has no driver for it, and they share no folder to copy it to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from assets.raw.source import CORRUPT, FILE, ROW, SourceFiles
from resources.frames import as_spark_has, batches_of, by_workers, schema_of, shaped
from resources.location import is_local
from resources.spark import SCRATCH, spark_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what Hive names the folder of rows whose value is null


def spark_reads(session: SparkSession, files: SourceFiles) -> bool:
    """Whether Spark has a driver for where the files are."""
    if is_local(files.given):
        return True
    jvm: Any = session._jvm
    scheme = files.given.partition("://")[0]
    try:
        jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(scheme, session._jsc.hadoopConfiguration())
    except spark_errors():
        return False
    return True


def left_to_workers(session: SparkSession, files: SourceFiles) -> bool:
    """Whether Spark cannot read the files, nor be given copies that all workers see: their lake is a bucket."""
    shared = session.conf.get(SCRATCH, None)
    return bool(shared) and not is_local(str(shared)) and not spark_reads(session, files)


def named_by_spark(session: SparkSession, uri: str) -> str:
    """A file as Spark names it in its rows: a URI, percent-encoded."""
    jvm_path: Any = session._jvm.org.apache.hadoop.fs.Path
    named: str = jvm_path(uri).toUri().toString()
    return named if "://" in named or named.startswith("file:") else f"file:{named}"


def rows_by_workers(session: SparkSession, files: SourceFiles) -> DataFrame:
    """Rows of Parquet files with the same columns as `read_source` has them, with those of their folders' names."""
    import pyarrow as pa

    uris = [_whole_uri(files, path) for path in files.paths]
    held = schema_of(uris[0])
    own = as_spark_has(pa.schema([field.with_type(_readable(field.type)) for field in held]))
    folders = [_folder_values(path[len(files.root) :]) for path in files.paths]
    added = [name for name in folders[0] if name not in own.names]
    schema = pa.schema([
        *own,
        *(pa.field(name, pa.string()) for name in added),
        pa.field(FILE, pa.string()), pa.field(ROW, pa.int64()), pa.field(CORRUPT, pa.string()),
    ])  # fmt: skip
    shown = [named_by_spark(session, files.uri_of(path)) for path in files.paths]
    about = {
        uri: ([values[name] for name in added], name) for uri, values, name in zip(uris, folders, shown, strict=True)
    }
    return by_workers(session, uris, partial(_rows, own=own, schema=schema, about=about), schema)


def _whole_uri(files: SourceFiles, path: str) -> str:
    """A file's URI with the options that the source's has (`?endpoint_override=...`)."""
    _, mark, options = files.given.partition("?")
    return files.uri_of(quote(path)) + mark + options if mark else files.uri_of(path)


def _rows(
    uri: str, own: pa.Schema, schema: pa.Schema, about: Mapping[str, tuple[Sequence[str | None], str]]
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    values, name = about[uri]
    first = 0
    for batch in batches_of(uri):
        count = batch.num_rows
        added = [pa.repeat(pa.scalar(value, pa.string()), count) for value in values]
        place = [
            pa.repeat(name, count),
            pa.array(range(first, first + count), pa.int64()),
            pa.nulls(count, pa.string()),
        ]
        yield pa.RecordBatch.from_arrays([*shaped(batch, own).columns, *added, *place], names=schema.names)
        first += count


def _folder_values(relative: str) -> dict[str, str | None]:
    parts = (part.partition("=") for part in relative.split("/")[:-1] if "=" in part)
    return {name: None if value == NO_VALUE else unquote(value) for name, _, value in parts}


def _readable(type_: pa.DataType) -> pa.DataType:
    """The type in which Spark has a column: it knows no unsigned numbers, and keeps microseconds."""
    import pyarrow as pa

    wider = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.decimal128(20, 0),
    }
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", type_.tz)
    return pa.decimal128(20, 0) if type_ == pa.uint64() else wider.get(type_, type_)
