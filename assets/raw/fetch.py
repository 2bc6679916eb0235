"""Sources that Spark cannot read by itself, brought to files that it can: queries, and buckets it has no driver for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.raw.remote import left_to_workers, spark_reads
from assets.raw.source import SourceFiles, find_files
from resources.computing import is_local_master
from resources.environment import resolved
from resources.files import copy_file, copy_from, filesystem, remove
from resources.location import is_local
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import SCRATCH

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession
    from sqlalchemy import Engine

ROWS_AT_ONCE = 50_000
WHERE = "fleet.yaml source.path"


@contextmanager
def source_files(settings: Settings) -> Iterator[SourceFiles]:
    """The files of a source, listed; of a query one file with its rows, gone when the `with` block ends.

    Raises:
        InputError: nothing there, or a query that fails.
    """
    if settings.source.format != "sql":
        yield find_files(settings)
        return
    shared = None if is_local_master(settings.spark.master) else settings.lake
    with _scratch(shared) as folder:
        _fetch_query(settings, folder / "query.parquet")
        with _seen_by_workers(folder, shared) as place:
            own = settings.source.model_copy(update={"path": place, "format": "parquet"})
            files = find_files(settings.model_copy(update={"source": own}))
            yield replace(files, shown=f"{settings.source.path}/")


@contextmanager
def within_reach(session: SparkSession, files: SourceFiles) -> Iterator[SourceFiles]:
    """The same files where Spark can read them: copies, gone with the `with` block, if it has no driver for theirs.

    Workers without a folder that all of them have read Parquet where it is (see `remote`).

    Raises:
        InputError: it is not Parquet, and there is no such folder.
    """
    if spark_reads(session, files):
        yield files
        return
    if left_to_workers(session, files):
        if files.format not in ("parquet", "delta"):
            what = f"the cluster reads {files.format} in folders only, or with a driver of Spark's for buckets"
            remedy = "give Parquet, or a driver and its settings as spark.packages and spark.conf (docs/cluster.md)"
            raise InputError([Problem(WHERE, what, remedy)])
        yield files
        return
    with _scratch(session.conf.get(SCRATCH, None)) as folder:
        root = str(folder / files.root.rstrip("/").rpartition("/")[2])  # the source may be one file
        near = tuple(f"{root}{path[len(files.root.rstrip('/')) :]}" for path in files.paths)
        system, _ = filesystem(files.given)
        for path, copy in zip(files.paths, near, strict=True):
            copy_from(system, path, copy)
        root += files.root[len(files.root.rstrip("/")) :]
        yield replace(files, paths=near, root=root, given=root, shown=files.uri_of(files.root))


@contextmanager
def _seen_by_workers(folder: Path, shared: str | None) -> Iterator[str]:
    """Where workers find the files of a folder: there, or in a bucket that they share, until the `with` block ends."""
    if shared is None or is_local(shared):
        yield str(folder)
        return
    place = f"{shared}/{folder.name}"
    try:
        for file in folder.iterdir():
            copy_file(str(file), f"{place}/{file.name}")
        yield place
    finally:
        remove(place)


@contextmanager
def _scratch(shared: str | None) -> Iterator[Path]:
    """A folder that is gone afterwards; in the one that a cluster's workers share, if there is one."""
    if shared is not None and not is_local(shared):
        shared = None
    if shared:
        Path(shared).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fleet_source_", dir=shared))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch_query(settings: Settings, target: Path) -> None:
    """Writes the rows of the source's query as Parquet, some thousand at a time.

    Columns take the narrowest type that holds all their values; those of types that a table cannot hold become text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    source = settings.source
    engine = _engine(source.path)
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            found = connection.execute(text(source.query or ""))
            names = _distinct(list(found.keys()))
            batches = [
                _spilled(_batch(names, rows), target.with_name(f"{number}.spill"))
                for number, rows in enumerate(found.partitions(ROWS_AT_ONCE))
            ]
    except (SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError([Problem(WHERE, f"the query fails ({said})", "mend source.path or source.query")]) from None
    schemas = [pq.read_schema(batch) for batch in batches] or [pa.schema([(name, pa.string()) for name in names])]
    schema = _as_written(pa.unify_schemas([_loose(each) for each in schemas], promote_options="permissive"))
    with pq.ParquetWriter(target, schema) as writer:
        for batch in batches:
            writer.write_table(pq.read_table(batch).cast(schema))
            batch.unlink()


def _engine(address: str) -> Engine:
    """An engine of the address, whose references are resolved here.

    Raises:
        InputError: it is no address of a database. What is wrong with it is not said: it may quote the password.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return create_engine(resolved(address, WHERE))
    except ModuleNotFoundError as error:
        raise InputError([Problem(WHERE, f"the driver is not installed ({error})", "install it")]) from None
    except (SQLAlchemyError, ValueError):
        what, remedy = f"{address} is no address of a database", "write dialect://user:${PASSWORD}@host/name"
        raise InputError([Problem(WHERE, what, remedy)]) from None


def _distinct(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        remedy = "name each column once: select a.id as id, b.id as other_id"
        raise InputError([Problem("fleet.yaml source.query", f"gives two columns {name!r}", remedy) for name in twice])
    return names


def _batch(names: Sequence[str], rows: Sequence[Any]) -> pa.Table:
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.table([_array(list(values)) for values in columns], names=list(names))


def _array(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _spilled(batch: pa.Table, file: Path) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(batch, file)
    return file


def _loose(schema: pa.Schema) -> pa.Schema:
    """The schema with exact decimals as floating point numbers, which is what models see in the end."""
    import pyarrow as pa

    return pa.schema([f.with_type(pa.float64()) if pa.types.is_decimal(f.type) else f for f in schema])


def _as_written(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema])
