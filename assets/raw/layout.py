"""Which columns the files of a source have, and where that is not what the fleet needs or had before."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assets.raw.source import CORRUPT, RESERVED, SourceFiles, text_options
from resources.files import filesystem
from resources.problems import InputError, Problem
from resources.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, NUMBER, EMPTY = "text", "number", "null"
MOST_COLUMNS = 2_000
HEADER_BYTES = 1 << 20
SEPARATORS, SNIFFED_LINES = ",;\t|", 50
Columns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Layout:
    """Files with the same columns; each is a name with its Arrow type (of text formats: `string`)."""

    columns: Columns
    paths: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns, those that folder names such as `year=2024` carry at the end."""
        return [name for name, _ in self.columns]


def layouts_of(files: SourceFiles, settings: Settings) -> list[Layout]:
    """The layouts of some files, in the order in which they first appear; none for JSON, which has no fixed columns.

    Raises:
        InputError: files that cannot be read; all are listed.
    """
    if files.format == "json":
        return []
    if files.format != "csv":
        found: Mapping[str, Columns] = _parquet_columns(files)
    elif columns := settings.source.columns:
        found = dict.fromkeys(files.paths, tuple((name, "string") for name in columns))
    elif _reads_header(settings, files):
        found = _header_columns(files, settings)
    else:
        return []
    by_columns: dict[Columns, list[str]] = {}
    for path, own in found.items():
        by_columns.setdefault((*own, *_folder_columns(path, files)), []).append(path)
    return [Layout(columns, tuple(paths)) for columns, paths in by_columns.items()]


def _reads_header(settings: Settings, files: SourceFiles) -> bool:
    options = text_options(files, settings)
    single = len(options.get("sep", options.get("delimiter", ","))) == 1 and len(options["quote"]) <= 1
    return options["header"].lower() == "true" and single and "lineSep" not in options


def _folder_columns(path: str, files: SourceFiles) -> Columns:
    folders = path[len(files.root) :].split("/")[:-1]
    return tuple((folder.partition("=")[0], "string") for folder in folders if "=" in folder)


def _parquet_columns(files: SourceFiles) -> dict[str, Columns]:
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    system, _ = filesystem(files.given)
    found, problems = {}, []
    for path in files.paths:
        try:
            with system.open_input_file(path) as file:
                found[path] = tuple((field.name, str(field.type)) for field in read_schema(file))
        except (pa.ArrowException, OSError) as error:
            what = f"is not readable as Parquet ({str(error).splitlines()[0]})"
            problems.append(Problem(path, what, "replace the file, or wait until it is written; see source.format"))
    if problems:
        raise InputError(problems)
    return found


def _header_columns(files: SourceFiles, settings: Settings) -> dict[str, Columns]:
    options, found, problems = text_options(files, settings), {}, []
    system, _ = filesystem(files.given)
    for path in files.paths:
        try:
            with system.open_input_stream(path, compression="detect") as stream:
                names = _header(stream.read(HEADER_BYTES), options)
            found[path] = tuple((name, "string") for name in names)
        except (OSError, LookupError, csv.Error) as error:
            problems.append(Problem(path, f"cannot be read ({error})", "replace the file, or see source.options"))
    if problems:
        raise InputError(problems)
    return found


def _header(content: bytes, options: Mapping[str, str]) -> list[str]:
    encoding = options.get("encoding", options.get("charset", "utf-8"))
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    text = content.decode(encoding, errors="replace")
    comment = options.get("comment")
    lines = itertools.dropwhile(
        lambda line: not line.strip() or (comment and line.startswith(comment)), io.StringIO(text, newline="")
    )
    quote = options["quote"]
    rows = csv.reader(
        lines,
        delimiter=options.get("sep", options.get("delimiter", ",")),
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    return next(rows, [])


def likely_separator(files: SourceFiles) -> str | None:
    """What parts the cells of CSV files, where the first one's beginning tells another character than the usual."""
    if files.format != "csv":
        return None
    system, _ = filesystem(files.given)
    with system.open_input_stream(files.paths[0], compression="detect") as stream:
        lines = stream.read(HEADER_BYTES).decode("utf-8-sig", errors="replace").splitlines()[:SNIFFED_LINES]
    try:
        found = csv.Sniffer().sniff("\n".join(lines), SEPARATORS).delimiter
    except csv.Error:
        return None
    usual = "\t" if ".tsv" in files.paths[0].lower() else ","
    return None if found == usual or usual in lines[0] else found


def class_of(type_: str) -> str:
    """What an Arrow type (as text) is to us: `number`, `boolean`, `text`, `time`, `null`, or the type itself."""
    base = re.split(r"[\[(<]", type_, maxsplit=1)[0]
    if base.startswith("dictionary"):
        return class_of(re.search(r"values=([^,]+)", type_).group(1)) if "values=" in type_ else TEXT  # type: ignore[union-attr]
    if re.fullmatch(r"u?int\d+|halffloat|float|double|decimal\d*", base):
        return NUMBER
    if base in ("string", "large_string", "string_view"):
        return TEXT
    if base == "bool":
        return "boolean"
    return "time" if base in ("timestamp", "date32", "date64") else base


def layout_problems(layouts: Sequence[Layout], settings: Settings, needed: Sequence[str]) -> list[Problem]:
    """What is wrong between files: a needed column that some lack, or of which the type changes from one file on."""
    names = {column: settings.contract.names_of(column) for column in needed}
    empty = [path for layout in layouts if not layout.columns for path in layout.paths]
    what, remedy = "the file is empty: it has not even a header", "remove it, or wait until it is written"
    found = [Problem(path, what, remedy) for path in sorted(empty)]
    layouts = [layout for layout in layouts if layout.columns]
    for column, known_as in names.items():
        holding = [layout for layout in layouts if set(known_as) & set(layout.names)]
        lacking = [layout for layout in layouts if layout not in holding]
        if holding and lacking:
            path = min(path for layout in lacking for path in layout.paths)
            what = f"the file has no column {column!r}, which others have"
            others = [n for layout in lacking for n in layout.names if n not in {x for y in names.values() for x in y}]
            remedy = f"{nearest(column, lacking[0].names)}; a former name goes to contract.aliases"
            found.append(Problem(path, what, remedy if others else "replace the file"))
        found += _named_twice(layouts, column, known_as)
        if column not in _declared(settings):
            found += _retyped(holding, column, known_as)
    return found


def _declared(settings: Settings) -> set[str]:
    return {name for name, column in settings.contract.columns.items() if column.type}


def _named_twice(layouts: Iterable[Layout], column: str, known_as: Sequence[str]) -> list[Problem]:
    for layout in layouts:
        both = [name for name in known_as if name in layout.names]
        if len(both) > 1:
            what = f"the file has {' and '.join(map(repr, both))}, which contract.aliases says are one column"
            return [Problem(layout.paths[0], what, "remove the alias, or one of the columns")]
    return []


def _retyped(layouts: Sequence[Layout], column: str, known_as: Sequence[str]) -> list[Problem]:
    first: dict[str, str] = {}
    for path, type_ in sorted(
        (path, class_of(type_))
        for layout in layouts
        for name, type_ in layout.columns
        if name in known_as
        for path in layout.paths
    ):
        if type_ != EMPTY:
            first.setdefault(type_, path)
    if len(first) < 2:
        return []
    (was, _), (now, began) = list(first.items())[:2]
    remedy = f"mend the file, or declare what is meant: contract.columns.{column}.type"
    return [Problem(began, f"from this file on column {column!r} is {now}, before it was {was}", remedy)]


def changed_since(
    schema: pa.Schema, layouts: Sequence[Layout], settings: Settings, needed: Sequence[str]
) -> list[Problem]:
    """A problem for each needed column that new files lack, or have of another class than the last snapshot."""
    before = Layout(tuple((field.name, str(field.type)) for field in schema), ("",))
    found = []
    for column in needed:
        known_as = settings.contract.names_of(column)
        if layouts and set(known_as) & set(before.names) and not any(set(known_as) & set(x.names) for x in layouts):
            path = min(path for layout in layouts for path in layout.paths)
            remedy = f"{nearest(column, layouts[0].names)}; a former or new name goes to contract.aliases"
            found.append(Problem(path, f"the file has no column {column!r}, which the last snapshot has", remedy))
        if column not in _declared(settings):
            found += _retyped([before, *layouts], column, known_as)
    return found


def missing_columns(columns: Sequence[str], settings: Settings, needed: Sequence[str]) -> list[Problem]:
    """A problem for each needed column that the table has under none of its names, with the nearest name."""
    return [
        Problem(_role(column, settings), f"the table has no column {column!r}", nearest(column, columns))
        for column in needed
        if not set(settings.contract.names_of(column)) & set(columns)
    ]


def nearest(column: str, columns: Sequence[str]) -> str:
    """Advice to somebody who wrote a column's name that is not there."""
    near = difflib.get_close_matches(column, columns, n=1, cutoff=0.6)
    shown = ", ".join(columns[:20]) + (" ..." if len(columns) > 20 else "")
    return f"did you mean {near[0]!r}?" if near else f"the table has: {shown}"


def unusable_names(columns: Sequence[str], files: SourceFiles) -> list[Problem]:
    """Columns whose names we need, that Delta Lake, which knows no case, could not tell apart, or that are too many."""
    if files.format not in ("parquet", "delta"):
        columns = [column for column in columns if column != CORRUPT]  # that one we asked Spark for
    taken = [column for column in columns if column in RESERVED]
    found = [Problem("source", f"column {column!r} is a reserved name", "rename it") for column in taken]
    first: dict[str, str] = {}
    for column in columns:
        other = first.setdefault(column.lower(), column)
        if other != column:
            what = f"columns {other!r} and {column!r} differ only in case"
            found.append(Problem("source", what, "rename one of them: a Delta table cannot hold both"))
    if len(columns) > MOST_COLUMNS:
        what = f"has {len(columns):,} columns, more than {MOST_COLUMNS:,}"
        found.append(Problem(files.given, what, "bring only those that a model is to look at"))
    return found


def _role(column: str, settings: Settings) -> str:
    roles: dict[str, Any] = {
        "segment": settings.segment,
        "time": settings.time_columns,
        "label": [settings.label],
        "features.known_ahead": settings.features.known_ahead,
        "features.past_only": settings.features.past_only,
        "contract.columns": list(settings.contract.columns),
    }
    return "fleet.yaml " + next((role for role, names in roles.items() if column in names), "features.known_ahead")
