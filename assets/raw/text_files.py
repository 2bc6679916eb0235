"""Text files looked at before Spark reads them: it would put up with what is not in their encoding or their lines."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assets.raw.source import READ_AT_ONCE, SourceFiles, text_options
from resources.files import filesystem
from resources.problems import InputError, Problem
from resources.settings import Settings

LONGEST_CELL = 1 << 30
ENDS = {"\r\n": "CR LF", "\n": "LF", "\r": "CR"}


def refuse_unreadable_text(files: SourceFiles, settings: Settings) -> None:
    """Looks whether text files are in the encoding that they are read in, and whether their rows can be told apart.

    Spark would put U+FFFD for what is in none, and all rows after another end of line, or after a quote that nothing
    closes, would be one to it.

    Raises:
        InputError: some are not; the first such line of each is named.
    """
    if files.format not in ("csv", "json"):
        return
    options, encoding = text_options(files, settings), known_encoding(files, settings)
    one_each = all(len(options.get(name, "")) <= 1 for name in ("sep", "delimiter", "quote", "escape"))
    rows = files.format == "csv" and "lineSep" not in options and one_each
    try:
        found = [problem for path in files.paths for problem in _problems(path, files.given, encoding, options, rows)]
    except OSError as error:
        what = f"cannot be read ({error})"
        raise InputError([Problem(files.given, what, "replace the file, or see source.options")]) from None
    if found:
        raise InputError(found)


def known_encoding(files: SourceFiles, settings: Settings) -> str:
    """The encoding of text files, as Python knows it.

    Raises:
        InputError: it knows none of that name.
    """
    options = text_options(files, settings)
    encoding = options.get("encoding", options.get("charset", "utf-8"))
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        where, remedy = "fleet.yaml source.options.encoding", "write one such as windows-1252"
        raise InputError([Problem(where, f"{encoding!r} is no encoding", remedy)]) from None


def _problems(path: str, given: str, encoding: str, options: dict[str, str], rows: bool) -> Iterator[Problem]:
    lines, quotes, ends = 1, 0, dict.fromkeys(ENDS, 0)
    decoder, quote = codecs.getincrementaldecoder(encoding)(), options.get("quote", "")
    system, _ = filesystem(given)
    with system.open_input_stream(path, compression="detect") as stream:
        kept = ""
        while chunk := stream.read(READ_AT_ONCE):
            try:
                text = kept + decoder.decode(chunk)
            except UnicodeDecodeError as error:
                line = lines + error.object[: error.start].decode(encoding, errors="ignore").count("\n")
                remedy = "write what it is in as source.options.encoding, such as windows-1252, or mend the line"
                yield Problem(f"{path} line {line}", f"is not {encoding}", remedy)
                return
            kept = "\r" if text.endswith("\r") else ""  # what follows it says which end it is
            text = text[: len(text) - len(kept)]
            both, feeds, returns = text.count("\r\n"), text.count("\n"), text.count("\r")
            lines, quotes = lines + feeds, quotes + (text.count(quote) if quote else 0)
            for end, count in zip(ENDS, (both, feeds - both, returns - both), strict=True):
                ends[end] += count
    suspicious = quotes % 2 or sum(count > 0 for count in ends.values()) > 1
    if rows and suspicious:
        with system.open_input_stream(path, compression="detect") as stream:
            yield from _of_rows(path, io.TextIOWrapper(stream, encoding, newline=""), options)


@dataclass
class _Row:
    """The lines that a row of a CSV file takes: how many, with how many quotes, and the last of them."""

    lines: int = 0
    quotes: int = 0
    last: str = ""


def _of_rows(path: str, text: io.TextIOWrapper, options: dict[str, str]) -> Iterator[Problem]:
    """A problem at the first row that ends otherwise than the first, or at a quote that nothing closes.

    Both end the table for Spark: it takes all that follows for one row. A cell in quotes may hold any end of line.
    """
    row, quote, first = _Row(), options["quote"], ""

    def read_lines() -> Iterator[str]:
        for line in text:
            row.lines, row.quotes, row.last = row.lines + 1, row.quotes + line.count(quote or "\0"), line
            yield line

    style: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    style |= {"escapechar": options["escape"]} if options["escape"] not in ("", quote) else {}
    rows = csv.reader(read_lines(), delimiter=options.get("sep", options.get("delimiter", ",")), **style)
    csv.field_size_limit(LONGEST_CELL)
    unclosed = None
    for _ in rows:
        end = next((end for end in ENDS if row.last.endswith(end)), "")
        first = first or end
        unclosed = rows.line_num - row.lines + 1 if row.lines > 1 and row.quotes % 2 else None
        row.lines = row.quotes = 0
        if end not in (first, ""):
            what = f"ends in {ENDS[end]}, the lines before in {ENDS[first]}"
            yield Problem(f"{path} line {rows.line_num}", what, "let all lines end alike, for instance with dos2unix")
            return
    if unclosed:
        yield Problem(f"{path} line {unclosed}", f"opens a quote ({quote}) that nothing closes", "mend the line")
