"""Snapshots of the raw table: as Spark reads their rows, and as workers read them by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from assets.raw.layout import missing_columns
from assets.raw.read import under_own_names
from assets.raw.source import LINEAGE, PART
from resources.files import filesystem
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
ROWS_A_PIECE = 1_000_000
ROWS_AT_ONCE, FEWEST_AT_ONCE = 1 << 18, 1_000
CELLS_AT_ONCE = 1 << 23  # some 200 MB, typed and all


class Piece(NamedTuple):
    """One of so many stretches of a file of the raw table, which begin and end between its groups of rows."""

    file: str
    number: int
    of: int


class Share(NamedTuple):
    """Rows for one of Spark's tasks: pieces of files, numbered from 0 on."""

    number: int
    pieces: list[Piece]


@dataclass(frozen=True)
class RawRows:
    """Rows of some files of the raw table, committed or about to be: their columns, and the rows of each file."""

    schema: pa.Schema
    files: Mapping[str, int]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self.files.values())

    def frame(self, spark: Spark, settings: Settings) -> DataFrame:
        """The rows as Spark reads them, under the names that `fleet.yaml` has."""
        return under_own_names(read_files(spark, self.schema, list(self.files)), settings.contract)

    def shares(self) -> list[Share]:
        """All of the rows as work for Spark's tasks: a large file in pieces, small ones together."""
        found: list[list[Piece]] = []
        waiting, held = list[Piece](), 0
        for file, rows in self.files.items():
            of = -(-rows // ROWS_A_PIECE) or 1
            if of > 1:
                found += [[Piece(file, number, of)] for number in range(of)]
                continue
            if held + rows > ROWS_A_PIECE and waiting:
                found.append(waiting)
                waiting, held = [], 0
            waiting.append(Piece(file, 0, 1))
            held += rows
        return [Share(number, pieces) for number, pieces in enumerate([*found, waiting] if waiting else found)]


def snapshot_rows(table: Table, settings: Settings, version: int | None = None) -> RawRows:
    """The rows of a snapshot (the last by default).

    Raises:
        InputError: it was pruned, or lacks columns that `fleet.yaml` names.
    """
    if version is not None:
        refuse_pruned(Lake(uri=settings.lake), RAW, str(version), f"snapshot {version}")
    schema = table.schema(version)
    problems = missing_columns([c for c in schema.names if c not in LINEAGE], settings, settings.needed_columns)
    if problems:
        raise InputError(problems)
    return RawRows(schema, dict(sorted(table.rows_by_file(version).items())))


def read_snapshot(spark: Spark, table: Table, settings: Settings, version: int | None = None) -> DataFrame:
    """The rows of a snapshot as a Spark frame, columns under the names that `fleet.yaml` has.

    Raises:
        InputError: it was pruned, or lacks columns that `fleet.yaml` names.
    """
    return snapshot_rows(table, settings, version).frame(spark, settings)


def read_files(spark: Spark, schema: pa.Schema, files: list[str]) -> DataFrame:
    """Rows of some files of the raw table; columns that came after a file was written are null in its rows."""
    held = [field for field in schema if field.name != PART]
    return frame_of(spark.session(), files, pa.schema(held))


def rows_at_once(columns: int) -> int:
    """How many rows of so many columns a worker holds: the wider they are, the fewer."""
    return max(FEWEST_AT_ONCE, min(ROWS_AT_ONCE, CELLS_AT_ONCE // max(columns, 1)))


def batches_of_share(
    share: Share, schema: pa.Schema, columns: Sequence[str], at_once: int = ROWS_AT_ONCE
) -> Iterator[pa.RecordBatch]:
    """Rows of a share with some columns, text as dictionaries; columns that a file lacks are null."""
    names = list(dict.fromkeys(columns))
    for piece in share.pieces:
        yield from _batches_of_piece(piece, schema, names, min(at_once, rows_at_once(len(names))))


def _batches_of_piece(
    piece: Piece, schema: pa.Schema, columns: Sequence[str], at_once: int
) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    system, path = filesystem(piece.file)
    with system.open_input_file(path) as stream:
        metadata = pq.read_metadata(stream)
        wanted = [schema.field(name) for name in columns]
        held = [field for field in metadata.schema.to_arrow_schema() if field.name in set(columns)]
        text = [field.name for field in held if pa.types.is_string(field.type)]
        parquet = pq.ParquetFile(stream, metadata=metadata, read_dictionary=text)
        groups = range(metadata.num_row_groups)
        own = groups[len(groups) * piece.number // piece.of : len(groups) * (piece.number + 1) // piece.of]
        for batch in parquet.iter_batches(
            at_once, row_groups=list(own), columns=[f.name for f in held], use_threads=False
        ):
            yield _shaped(batch, wanted)


def _shaped(batch: pa.RecordBatch, wanted: Sequence[pa.Field]) -> pa.RecordBatch:
    def column(field: pa.Field) -> pa.Array:
        if field.name not in batch.schema.names:
            return pa.nulls(batch.num_rows, field.type)
        found = batch.column(field.name)
        return found if pa.types.is_dictionary(found.type) else found.cast(field.type)

    return pa.RecordBatch.from_arrays([column(field) for field in wanted], names=[field.name for field in wanted])
