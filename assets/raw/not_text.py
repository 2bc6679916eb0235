"""Text of binary tables that is none: bytes that are not in UTF-8, which nobody can compare or show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from assets.raw.arrow_cells import Truths
from assets.raw.source import FILE, ROW
from resources.problems import InputError, Problem

NOT_TEXT = (pa.ArrowInvalid, UnicodeDecodeError)  # what work on such text may raise
MOST_SHOWN = 10
Place = tuple[str, str]  # where it is, and what is wrong there


def refuse_not_text(places: Sequence[Place]) -> None:
    """Tells of text that is none.

    Raises:
        InputError: there is some; places are named.
    """
    if places:
        remedy = "write the file again with its text in UTF-8"
        raise InputError([Problem(where, what, remedy) for where, what in places[:MOST_SHOWN]])


def not_text_in(batches: Iterable[pa.RecordBatch]) -> Place | None:
    """The first cell that is not in UTF-8, in batches with `__file` and `__row`; None if all are."""
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            places = np.flatnonzero(_is_broken(column))
            if len(places):
                file, row = (batch.column(place)[int(places[0])].as_py() for place in (FILE, ROW))
                return file, f"column {name!r} is not in UTF-8 in row {row + 1:,}"
    return None


def _is_broken(column: pa.Array) -> Truths:
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    if not pa.types.is_string(texts.type):
        return np.zeros(len(column), bool)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        broken = np.array([cell is not None and not _is_utf8(cell) for cell in texts.cast(pa.binary()).to_pylist()])
        if texts is column:
            return broken
        return np.append(broken, False)[column.indices.fill_null(len(broken)).to_numpy()]
    return np.zeros(len(column), bool)


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True
