"""CSV files read by workers with Arrow's reader, where it cannot take them otherwise than Spark's: the plain ones.

A file is plain if its options are those that both readers know, its lines end alike, each of its quotes opens or
closes a cell or is doubled within one, and no line is malformed. Whatever is not plain is left to Spark.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from assets.raw.layout import Layout
from assets.raw.snapshot import rows_at_once
from assets.raw.source import ARRIVED, CORRUPT, FILE, ROW, SourceFiles, text_options
from resources.exchange import in_portions
from resources.files import filesystem, remove_file
from resources.location import is_local
from resources.settings import Settings
from resources.spread import Say, spread

if TYPE_CHECKING:
    from resources.spark import Spark

KNOWN_OPTIONS = {"header", "sep", "delimiter", "quote", "escape", "encoding", "charset", "multiLine", "enforceSchema"}
KNOWN_ENCODINGS = {"utf-8", "ascii", "iso8859-1", "cp1252"}
BLOCK_BYTES = 1 << 20  # what fits the processor's cache; a row that does not fit is not plain
WRITTEN = pa.schema([("path", pa.string()), ("is_plain", pa.bool_()), ("file", pa.string()), ("MB", pa.int64())])
BOM = b"\xef\xbb\xbf"


class Target(NamedTuple):
    """Where the rows of a file go: the folder, and what `__file` and `__arrived` are in them."""

    folder: str
    kept_as: str
    arrived: int


class PlainCsv(NamedTuple):
    """A file to be read: its path and bytes, the names of its columns, how many lines to pass over, where rows go."""

    path: str
    size: int
    names: list[str]
    header: bool
    target: Target


@dataclass(frozen=True)
class _Style:
    separator: str
    quote: str
    encoding: str


def write_plain_csv(
    spark: Spark,
    files: SourceFiles,
    settings: Settings,
    layouts: Sequence[Layout],
    columns: Sequence[str],
    targets: Mapping[str, Target],
    say: Say | None,
) -> dict[str, str | None]:
    """Writes the rows of those CSV files that are plain as Parquet, each to its target; gives the file of each path.

    `columns` are those that Spark sees in all files. The path of a file without rows has none; those that are not plain
    are not named.
    """
    style = _style(files, settings)
    if style is None:
        return {}
    sizes = dict(zip(files.paths, (size for size, _ in files.stamps), strict=True))
    header = not settings.source.columns
    tasks = [
        PlainCsv(path, sizes[path], names, header, targets[path])
        for layout in layouts
        for names in [named_by_spark(layout.names)]
        if len(set(names)) == len(names) and set(names) <= set(columns)  # or Spark calls some otherwise
        if not any("\ufffd" in name for name in names)  # a header that is not in its encoding
        for path in layout.paths
    ]
    tasks.sort(key=lambda task: -task.size)
    work = partial(_written, style=style)
    total = sum(_megabytes(task.size) for task in tasks)
    lines = spread(spark, tasks, work, WRITTEN, short=True, what="read", total=total, unit="MB", say=say)
    return {line["path"]: line["file"] for line in lines.to_pylist() if line["is_plain"]}


def _style(files: SourceFiles, settings: Settings) -> _Style | None:
    """How the cells of CSV files are written, None where only Spark knows."""
    if files.format != "csv" or not is_local(files.given) or files.hive_partitioned:
        return None
    options = text_options(files, settings)
    separator, quote = options.get("sep", options.get("delimiter", ",")), options["quote"]
    encoding = options.get("encoding", options.get("charset", "utf-8"))
    usual = (
        set(options) <= KNOWN_OPTIONS
        and options["multiLine"].lower() == "true"
        and options["header"].lower() == ("false" if settings.source.columns else "true")
        and len(separator) == len(quote) == 1
        and (separator + quote).isascii()
        and separator not in "\r\n\0" + quote
        and quote > " "  # Spark takes all up to the blank for white space
        and options["escape"] == quote
        and encoding in KNOWN_ENCODINGS
    )
    return _Style(separator, quote, encoding) if usual else None


def named_by_spark(names: Sequence[str]) -> list[str]:
    """The names of columns as Spark has them, which numbers those without one: the index that pandas writes."""
    return [name or f"_c{place}" for place, name in enumerate(names)]


def _megabytes(size: int) -> int:
    return max(1, round(size / 1e6))


def _written(task: PlainCsv, style: _Style) -> Iterator[dict[str, Any]]:
    file = f"{task.target.folder}/part-{uuid.uuid4().hex}.parquet"
    rows = _copied(task, style, file)
    if not rows:
        remove_file(file)
    yield {
        "path": task.path, "is_plain": rows is not None, "file": file if rows else None, "MB": _megabytes(task.size),
    }  # fmt: skip


def _copied(task: PlainCsv, style: _Style, file: str) -> int | None:
    """Writes the rows of a file as Parquet and says how many they are; None if it is not plain."""
    import pyarrow.parquet as pq

    source, (system, path) = filesystem(task.path)[0], filesystem(file)
    system.create_dir(path.rpartition("/")[0], recursive=True)
    count, schema = 0, _schema(task.names)
    encodings = {
        "use_dictionary": [*task.names, FILE, ARRIVED],
        "column_encoding": {ROW: "DELTA_BINARY_PACKED"},
        "write_statistics": False,  # of text they cost as much as half of the rest, and nobody asks for them
    }
    try:
        with (
            source.open_input_stream(task.path, compression="detect") as stream,
            system.open_output_stream(path) as sink,
            pq.ParquetWriter(sink, schema, store_schema=False, **encodings) as writer,
        ):
            watched = _Watched(stream, style)
            for rows in in_portions(_batches(watched, task, style), rows_at_once(len(schema))):
                if not watched.is_plain:
                    return None
                writer.write_table(_placed(rows, task.target, count, schema))
                count += rows.num_rows
        return count if watched.was_plain() else None
    except (pa.ArrowException, UnicodeError, EOFError, OSError):
        return None  # Spark, or who looks at the file before it does, says what is wrong


def _batches(watched: _Watched, task: PlainCsv, style: _Style) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv

    read = csv.ReadOptions(
        use_threads=False,
        block_size=BLOCK_BYTES,
        column_names=task.names,
        skip_rows_after_names=1 if task.header else 0,
        encoding=style.encoding,
    )
    parse = csv.ParseOptions(
        delimiter=style.separator, quote_char=style.quote, double_quote=True, newlines_in_values=True
    )
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(task.names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    with csv.open_csv(pa.PythonFile(watched, mode="r"), read, parse, convert) as batches:
        yield from batches


def _schema(names: Sequence[str]) -> pa.Schema:
    own = [pa.field(name, pa.string()) for name in names]
    place = [(FILE, pa.string()), (ROW, pa.int64()), (CORRUPT, pa.string()), (ARRIVED, pa.int32())]
    return pa.schema([*own, *(pa.field(*each) for each in place)])


def _placed(rows: pa.Table, target: Target, first: int, schema: pa.Schema) -> pa.Table:
    count = rows.num_rows
    place = [
        pa.repeat(pa.scalar(target.kept_as, pa.string()), count),
        pa.array(np.arange(first, first + count)),
        pa.nulls(count, pa.string()),
        pa.repeat(pa.scalar(target.arrived, pa.int32()), count),
    ]
    return pa.table([*rows.columns, *place], schema=schema)


@dataclass
class _Watched:
    """A stream that looks, while it is read, whether all that goes by is plain."""

    stream: pa.NativeFile
    style: _Style
    closed: bool = False
    is_plain: bool = True
    _feeds: int = 0
    _returns: int = 0
    _both: int = 0
    _quotes: int = 0
    _before: bytes = b""  # what stands before the byte that is looked at next
    _next: bytes = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, none at the end."""
        content: bytes = self.stream.read(size if size >= 0 else None)
        if self.is_plain and content:
            self.is_plain = self._goes_on_plain(content)
        return content

    def close(self) -> None:
        """Nothing: who opened the stream closes it."""
        self.closed = True

    def was_plain(self) -> bool:
        """Whether the whole file was, asked once, when it is read to its end."""
        ends_alike = not self._returns or (self._returns == self._both == self._feeds and not self._quotes)
        return self.is_plain and ends_alike and self._quotes_are_plain(b"\n") and self._quotes % 2 == 0

    def _goes_on_plain(self, content: bytes) -> bool:
        # a blank line before the header; Spark takes lines that begin with NUL for comments
        if (not self._before and content.startswith((b"\n", b"\r", BOM + b"\n", BOM + b"\r"))) or b"\0" in content:
            return False
        self._feeds += content.count(b"\n")
        if b"\r" in content or self._next == b"\r":
            self._returns += content.count(b"\r")
            self._both += (self._next + content).count(b"\r\n")
        quote = self.style.quote.encode()
        plain = self._quotes_are_plain(content) if quote in content or self._next == quote else True
        last = ((self._before or b"\n") + self._next + content[-2:])[-2:]
        self._before, self._next = last[:1], last[1:]
        return plain

    def _quotes_are_plain(self, content: bytes) -> bool:
        """Whether each quote opens or closes a cell or is half of one within it, up to the last byte of the content."""
        seen = (self._before or b"\n") + self._next + content
        quote = ord(self.style.quote)
        bytes_ = np.frombuffer(seen, np.uint8)
        at = np.flatnonzero(bytes_[1:-1] == quote) + 1
        opens = (self._quotes + np.arange(len(at))) % 2 == 0
        self._quotes += len(at)
        beside = np.where(opens, bytes_[at - 1], bytes_[at + 1])
        return bool(np.isin(beside, [ord(self.style.separator), ord("\n"), quote]).all())
