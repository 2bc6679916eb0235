"""Rows handed from the tasks of one Spark job to those of the next, through files that all workers see.

Spark's own shuffle takes rows of Python workers through the JVM one by one. Here a task writes what it has as Arrow
batches, one for each part and portion, and a task of the next job reads its part of every file. What a task wrote that
died or was tried again is in no file that is named to readers.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from resources.files import discard, filesystem, make_folder, missing_folders
from resources.location import is_local

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resources.spark import Spark

EXCHANGE = "fleet-exchange-"  # how the folder's name begins: a prune knows by it what a run left that was killed
BYTES_AT_ONCE = 1 << 28


@dataclass(frozen=True)
class Exchange:
    """A folder that all workers see, and into how many parts rows are dealt."""

    folder: str
    parts: int

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """What a task hands over, in a file of its own; there is none if it hands over nothing."""
        writer = Writer(f"{self.folder}/{uuid.uuid4().hex}.arrow", self.parts)
        with writer:
            yield writer

    def rows(self, files: Sequence[str], part: int) -> pa.Table | None:
        """The rows of a part in some files, in their order; None where there are none."""
        batches = [batch for file in files for batch in self._batches(file, part)]
        return pa.Table.from_batches(batches) if batches else None

    def _batches(self, file: str, part: int) -> Iterator[pa.RecordBatch]:
        with _opened(file) as source, pa.ipc.open_file(source) as batches:
            for number in range(part, batches.num_record_batches, self.parts):
                batch = batches.get_batch(number)
                if batch.num_rows:
                    yield batch


class Writer:
    """Writes portions of rows, the parts of each one after another."""

    def __init__(self, file: str, parts: int) -> None:
        self._file, self._parts = file, parts
        self._sink: pa.NativeFile | None = None
        self._batches: pa.RecordBatchFileWriter | None = None

    @property
    def file(self) -> str | None:
        """The file, None if nothing was written."""
        return self._file if self._batches else None

    def write(self, rows: pa.Table, part: NDArray[np.integer]) -> None:
        """Deals a portion of rows, each to the part of its own; all portions have the same columns."""
        if not rows.num_rows:
            return
        batches = self._opened(rows.schema)
        places = part.astype(np.uint16)  # a type that NumPy sorts by radix
        order = np.argsort(places, kind="stable")
        dealt = rows.take(pa.array(order)).combine_chunks()
        ends = np.cumsum(np.bincount(places, minlength=self._parts))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            some = dealt.slice(start, end - start).to_batches()
            batches.write_batch(some[0] if some else _empty(rows.schema))

    def _opened(self, schema: pa.Schema) -> pa.RecordBatchFileWriter:
        if self._batches is None:
            system, path = filesystem(self._file)
            self._sink = system.open_output_stream(path)
            self._batches = pa.ipc.new_file(self._sink, schema)
        return self._batches

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._batches, self._sink):
            if opened is not None:
                opened.close()


@contextmanager
def exchange(root: str, parts: int) -> Iterator[Exchange]:
    """An exchange in a folder of a lake, which is gone with the `with` block, whatever happens in it."""
    new_folders = missing_folders(root)
    made = Exchange(f"{root}/{EXCHANGE}{uuid.uuid4().hex}", parts)
    make_folder(made.folder)
    try:
        yield made
    finally:
        discard(made.folder, new_folders)


def exchanged_in(lake: str, spark: Spark) -> str:
    """Where rows are handed over: in the lake, or where Spark keeps its own if it is local and the lake is a bucket."""
    return scratch_of(spark) if spark.is_local and not is_local(lake) else lake


def scratch_of(spark: Spark) -> str:
    """Where a local Spark keeps what it puts aside."""
    return spark.conf.get("spark.local.dir", tempfile.gettempdir()).partition(",")[0]


def in_portions(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The batches put together until there are so many rows, or as many bytes as a worker should hold."""
    waiting, held, size = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        waiting.append(batch)
        held, size = held + batch.num_rows, size + batch.nbytes
        if held >= rows or size >= BYTES_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting, held, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(waiting)


def _opened(file: str) -> pa.NativeFile:
    system, path = filesystem(file)
    return pa.memory_map(path) if is_local(file) else system.open_input_file(path)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
