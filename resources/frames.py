"""Spark frames of Parquet files: by Spark itself in folders; in a bucket, which needs jars of Spark, by its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resources.files import filesystem, write_parquet
from resources.location import is_local
from resources.spark import literal_path, quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

ROWS_AT_ONCE = 20_000
ROWS_A_GROUP = 500_000
Batches = Iterator["pa.RecordBatch"]


def frame_of(
    session: SparkSession, files: Sequence[str], schema: pa.Schema | None = None, columns: Sequence[str] | None = None
) -> DataFrame:
    """Rows of some Parquet files, in which columns of `schema` that they lack are null; with `columns` these alone.

    Without `schema` the first file's is that of all. Of a bucket, a file is read by one task.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    if not files:
        assert schema is not None, "no file tells the columns"
        return session.createDataFrame([], from_arrow_schema(schema)).select(*map(quoted, columns or schema.names))
    if all(map(is_local, files)):
        reader = session.read if schema is None else session.read.schema(from_arrow_schema(schema))
        frame = reader.parquet(*map(literal_path, files))
        return frame if columns is None else frame.select(*map(quoted, columns))
    held = schema_of(files[0]) if schema is None else schema
    if columns is not None:
        held = _schema(held.field(name) for name in columns)
    read = _reader(as_spark_has(held))
    return by_workers(session, files, read, held)


def by_workers(
    session: SparkSession, files: Sequence[str], read: Callable[[str], Batches], schema: pa.Schema
) -> DataFrame:
    """What `read` gives for each file, a task each."""
    from pyspark.sql.pandas.types import from_arrow_schema

    assigned, told = list(files), from_arrow_schema(_nullable(schema))

    def rows(batches: Batches) -> Batches:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from read(assigned[number])

    numbers = session.range(0, len(assigned), 1, max(1, len(assigned)))
    return numbers.mapInArrow(rows, told)


def schema_of(file: str) -> pa.Schema:
    """Columns of one Parquet file."""
    from pyarrow.parquet import read_schema

    system, path = filesystem(file)
    with system.open_input_file(path) as stream:
        return read_schema(stream)


def as_spark_has(schema: pa.Schema) -> pa.Schema:
    """The schema with the Arrow types in which Spark gives and takes its columns."""
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    return to_arrow_schema(from_arrow_schema(schema), timezone="UTC")


def batches_of(file: str, columns: Sequence[str] | None = None) -> Batches:
    """Rows of one Parquet file, some thousand at a time; of `columns`, those that it has."""
    import pyarrow.parquet as pq

    system, path = filesystem(file)
    with system.open_input_file(path) as stream:
        parquet = pq.ParquetFile(stream)
        held = [name for name in parquet.schema_arrow.names if columns is None or name in columns]
        yield from parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=held)


def save_frame(frame: DataFrame, folder: str, partition_by: str | None = None) -> None:
    """Writes a frame as Parquet files into a new folder, with `partition_by` a folder `column=value` for each value.

    In a bucket files are named by their Spark partition: a task that is tried again takes the place of what it left.
    """
    if is_local(folder):
        writer = frame.write if partition_by is None else frame.write.partitionBy(partition_by)
        writer.parquet(folder)
        return
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = to_arrow_schema(frame.schema, timezone="UTC")
    ordered = frame if partition_by is None else frame.sortWithinPartitions(partition_by)
    written = ordered.mapInArrow(_writer(schema, folder, partition_by), "file string").count()
    if not written and partition_by is None:
        write_parquet(schema.empty_table(), f"{folder}/part-00000.parquet")


def _schema(fields: Iterable[Any]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(fields)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return _schema(field.with_nullable(True) for field in schema)


def _reader(wanted: pa.Schema) -> Callable[[str], Batches]:
    def read(file: str) -> Batches:
        for batch in batches_of(file, wanted.names):
            yield shaped(batch, wanted)

    return read


def shaped(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of a schema: those that it lacks are null, ns become us."""
    import pyarrow as pa

    columns = [
        batch.column(field.name).cast(field.type, safe=False)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in wanted
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_nullable(wanted))


def _writer(schema: pa.Schema, folder: str, partition_by: str | None) -> Callable[[Batches], Batches]:
    def write(batches: Batches) -> Batches:
        import pyarrow as pa
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None, "workers have one"
        name = f"part-{context.partitionId():05d}.parquet"
        shaped_batches = (shaped(batch, schema) for batch in batches)
        for value, own in _runs(shaped_batches, partition_by):
            inside = f"{partition_by}={quote(str(value), safe='')}/{name}" if partition_by else name
            if _written(own, f"{folder}/{inside}"):
                yield pa.RecordBatch.from_pydict({"file": [inside]})

    return write


def _runs(batches: Batches, column: str | None) -> Iterator[tuple[Any, Batches]]:
    """Batches, of which those with one value of a column follow one another, by that value and without the column."""
    from itertools import chain, groupby

    if column is None:
        yield None, batches
        return
    parts = chain.from_iterable(_by_value(batch, column) for batch in batches)
    for value, own in groupby(parts, key=lambda part: part[0]):
        yield value, (batch for _, batch in own)


def _by_value(batch: pa.RecordBatch, column: str) -> Iterator[tuple[Any, pa.RecordBatch]]:
    import pyarrow.compute as pc

    values, rest = batch.column(column), batch.drop_columns([column])
    for value in pc.unique(values):
        yield value.as_py(), rest.filter(pc.equal(values, value))


def _written(batches: Batches, file: str) -> bool:
    """Writes batches as one file, if there are any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(batches, None)
    if first is None:
        return False
    system, path = filesystem(file)
    system.create_dir(path.rpartition("/")[0], recursive=True)
    waiting, held = [first], first.num_rows
    with system.open_output_stream(path) as sink, pq.ParquetWriter(sink, first.schema) as writer:
        for batch in batches:
            if held >= ROWS_A_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting, held = [], 0
            waiting.append(batch)
            held += batch.num_rows
        writer.write_table(pa.Table.from_batches(waiting))
    return True
