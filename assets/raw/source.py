"""The files of the user's table: which there are, in what format, with which bytes."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from resources.environment import resolved
from resources.files import filesystem, folder_of_glob, is_hidden
from resources.problems import InputError, Problem
from resources.settings import Settings

if TYPE_CHECKING:
    import pyarrow.fs as pafs

FILE, ROW, CORRUPT, ARRIVED, PART = "__file", "__row", "__corrupt", "__arrived", "fleet_part"
LINEAGE = (FILE, ROW, CORRUPT, ARRIVED, PART)
RESERVED = (
    *LINEAGE, "__kept_as", "__refusing", "__noted", "__as_read", "__segment", "__time", "__period", "__reasons",
    "__reason", "__source", "__assumed", "__micros", "__hash", "__at", "__why", "__brought", "__built", "__newest",
    "__rank", "__rows", "__labelled", "__label", "__first", "__last", "__open", "__moment",
    "__share", "__place", "__broken", "fleet_bucket",
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
READ_AT_ONCE, HASHED_AT_ONCE = 1 << 22, 4
UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".inprogress")


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, in reading order, and the format they are in.

    `root` is the folder that their paths begin with, `given` what `fleet.yaml` names, `stamps` the size and time of
    change (nanoseconds) of each when they were listed, `shown` the root that people are told if it is not `root`.
    """

    paths: tuple[str, ...]
    format: str
    root: str
    given: str
    stamps: tuple[tuple[int, int | None], ...] = ()
    shown: str | None = None

    def uri_of(self, path: str) -> str:
        """A path of the source's file system with its scheme; a plain path if it is local."""
        return f"{self.given.partition('://')[0]}://{path}" if "://" in self.given else path

    def chosen(self, paths: Iterable[str]) -> SourceFiles:
        """Those files alone that have some of these paths."""
        wanted = set(paths)
        places = [place for place, path in enumerate(self.paths) if path in wanted]
        taken, stamps = tuple(self.paths[n] for n in places), tuple(self.stamps[n] for n in places)
        return replace(self, paths=taken, stamps=stamps)

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
    if settings.source.format == "delta":
        return _delta_files(given)
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
            root = folder_of_glob(root)
            paths = [path for path in found if not is_hidden(path[len(root) :])]
    except (OSError, ValueError) as error:
        raise InputError(
            [Problem(where, f"{given} cannot be listed ({error})", "mend the path or its access")]
        ) from None
    if not paths:
        raise InputError([Problem(where, f"no file at {given}", "name an existing file, folder or glob")])
    paths = sorted(path for path in paths if path == root or not path.lower().endswith(UNFINISHED))
    if not paths:
        raise InputError([Problem(where, f"every file at {given} is still being written", "wait until one is whole")])
    return SourceFiles(tuple(paths), _format(settings, paths), root, given, _stamps(system, paths))


def _delta_files(given: str) -> SourceFiles:
    """The files of a Delta table's newest version."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    where, remedy = "fleet.yaml source.path", "name the root folder of a Delta table, or set source.format"
    try:
        table = DeltaTable(given)
        uris = table.file_uris()
    except (DeltaError, OSError) as error:
        raise InputError([Problem(where, f"{given} is no Delta table ({error})", remedy)]) from None
    if odd := {"deletionVectors", "columnMapping"} & set(table.protocol().reader_features or []):
        what = f"the Delta table {given} uses {', '.join(sorted(odd))}, which its files alone do not tell"
        raise InputError([Problem(where, what, "give a copy of it without")])
    if not uris:
        raise InputError([Problem(where, f"the Delta table {given} has no files", "give a table with rows")])
    system, root = filesystem(given)
    paths = sorted(
        root.rstrip("/") + uri.removeprefix(table.table_uri.removeprefix("file://").rstrip("/")) for uri in uris
    )
    return SourceFiles(tuple(paths), "delta", root, given, _stamps(system, paths))


def _stamps(system: pafs.FileSystem, paths: list[str]) -> tuple[tuple[int, int | None], ...]:
    return tuple((info.size, info.mtime_ns) for info in system.get_file_info(paths))


def refuse_growing(files: SourceFiles) -> None:
    """Looks whether files changed since they were listed.

    Raises:
        InputError: some did; all are listed.
    """
    system, _ = filesystem(files.given)
    now = _stamps(system, list(files.paths))
    changed = [path for path, then, stamp in zip(files.paths, files.stamps, now, strict=True) if then != stamp]
    if changed:
        what, remedy = "changed while it was read: it is still being written", "run again when it is whole"
        raise InputError([Problem(path, what, remedy) for path in changed])


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


def contents_of(files: SourceFiles) -> dict[str, str]:
    """SHA-256 of the bytes of each file, by its path under the source's root."""
    system, _ = filesystem(files.given)
    with ThreadPoolExecutor(HASHED_AT_ONCE) as threads:
        digests = threads.map(partial(_sha256, system), files.paths)
        return {path[len(files.root) :]: digest for path, digest in zip(files.paths, digests, strict=True)}


def _sha256(system: pafs.FileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with system.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(READ_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def reader_digest(files: SourceFiles, settings: Settings) -> str:
    """What shapes a snapshot beside the bytes: format, column names and reader options."""
    shaping = [files.format, settings.source.columns, settings.source.options, settings.source.query]
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]


def text_options(files: SourceFiles, settings: Settings) -> dict[str, str]:
    """The options that Spark's reader of text gets: the user's, over the defaults of the format."""
    where = "fleet.yaml source.options"
    options = {key: str(value) for key, value in settings.source.options.items() if key not in PARSED_BY_US}
    given = {key: resolved(value, f"{where}.{key}") for key, value in options.items()}
    defaults = dict(TEXT_DEFAULTS.get(files.format, {}))
    if files.format == "csv" and "delimiter" not in given and all(".tsv" in path.lower() for path in files.paths):
        defaults["sep"] = "\t"
    if settings.source.columns and "header" not in given:
        defaults["header"] = "false"
    for key in ("encoding", "charset"):
        if key in given:
            given[key] = _usual_name(given[key])
    return {**defaults, **given}


def _usual_name(encoding: str) -> str:
    """The name of an encoding that Java knows as well as Python; as given where Python knows none."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return encoding
