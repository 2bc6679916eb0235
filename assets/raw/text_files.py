"""Text files looked at before Spark reads them: it would put up with what is not in their encoding or their lines."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import Any

from assets.raw.source import SourceFiles, text_options
from resources.files import filesystem
from resources.problems import InputError, Problem
from resources.settings import Settings

READ_AT_ONCE, LONGEST_CELL = 1 << 22, 1 << 30
ENDS = {"\r\n": "CR LF", "\n": "LF", "\r": "CR"}


def refuse_unreadable_text(files: SourceFiles, settings: Settings) -> None:
    """Looks whether text files are in the encoding that they are read in, and the rows of each end alike.

    Spark would put U+FFFD for what is not, and take all rows after another end of line for one.

    Raises:
        InputError: some are not; the first such line of each is named.
    """
    if files.format not in ("csv", "json"):
        return
    options = text_options(files, settings)
    encoding = options.get("encoding", options.get("charset", "utf-8"))
    try:
        codecs.lookup(encoding)
    except LookupError:
        where, remedy = "fleet.yaml source.options.encoding", "write one such as windows-1252"
        raise InputError([Problem(where, f"{encoding!r} is no encoding", remedy)]) from None
    one_end = files.format == "csv" and "lineSep" not in options
    try:
        found = [
            problem for path in files.paths for problem in _problems(path, files.given, encoding, options, one_end)
        ]
    except OSError as error:
        what = f"cannot be read ({error})"
        raise InputError([Problem(files.given, what, "replace the file, or see source.options")]) from None
    if found:
        raise InputError(found)


def _problems(path: str, given: str, encoding: str, options: dict[str, str], one_end: bool) -> Iterator[Problem]:
    lines, ends = 1, dict.fromkeys(ENDS, 0)
    decoder = codecs.getincrementaldecoder(encoding)()
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
            lines += feeds
            for end, count in zip(ENDS, (both, feeds - both, returns - both), strict=True):
                ends[end] += count
    if one_end and sum(count > 0 for count in ends.values()) > 1:
        with system.open_input_stream(path, compression="detect") as stream:
            yield from _mixed_ends(path, io.TextIOWrapper(stream, encoding, newline=""), options)


def _mixed_ends(path: str, text: io.TextIOWrapper, options: dict[str, str]) -> Iterator[Problem]:
    """A problem at the first row that ends otherwise than the first; a cell in quotes may hold any end of line."""
    rows = _ends_of_rows(text, options)
    first = next(rows, (0, ""))[1]
    for line, end in rows:
        if end not in (first, ""):
            what = f"ends in {ENDS[end]}, the lines before in {ENDS[first]}: Spark would take the rest for one row"
            yield Problem(f"{path} line {line}", what, "let all lines end alike, for instance with dos2unix")
            return


def _ends_of_rows(text: io.TextIOWrapper, options: dict[str, str]) -> Iterator[tuple[int, str]]:
    """The number of the last line of each row, and how it ends."""
    seen: list[str] = [""]

    def lines() -> Iterator[str]:
        for line in text:
            seen[0] = line
            yield line

    quote = options["quote"]
    style: dict[str, Any] = {"quotechar": quote, "doublequote": True} if quote else {"quoting": csv.QUOTE_NONE}
    rows = csv.reader(lines(), delimiter=options.get("sep", options.get("delimiter", ",")), **style)
    csv.field_size_limit(LONGEST_CELL)
    for _ in rows:
        yield rows.line_num, next((end for end in ENDS if seen[0].endswith(end)), "")
