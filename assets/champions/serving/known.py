"""The segments that are known, as columns: found by key, and by what a row says of its segment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from assets.champions.serving.cells import is_empty, moment, number, shown, text_of_number, texts_by_number, truth, utf8
from assets.partitions import partition_key, segment_values

BY_HASHING = 64


class Sorted:
    """A sorted column in which a value is found without an object for each of the others."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, place: int) -> str:
        return self._column[place].as_py()

    def places(self, values: Sequence[str]) -> list[int | None]:
        """The place of each value; None where it is not in the column."""
        if len(values) > BY_HASHING:
            return pc.index_in(pa.array(values, pa.string()), self._column).to_pylist()
        found = ((bisect_left(self, value), value) for value in values)
        return [place if place < len(self) and self[place] == value else None for place, value in found]


class KnownSegments:
    """Segments by key, with their columns as the table has them."""

    def __init__(self, table: pa.Table, key: str, columns: Sequence[str]) -> None:
        """`table` has a row a segment: `key`, and the segment columns with their types."""
        self._table, self._key, self._columns = table.sort_by(key).combine_chunks(), key, tuple(columns)
        self.keys = Sorted(self._table[key])
        self._typed: dict[int, dict[Any, str]] = {}
        self._said: dict[int, dict[Any, list[str]]] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def table(self) -> pa.Table:
        """A row a segment, by key."""
        return self._table

    @cached_property
    def identity_columns(self) -> tuple[str, ...]:
        """Columns that say which segment a row is of, as the fleet-wide model sees them."""
        return (*self._columns, *([self._key] if len(self._columns) > 1 else []))

    @cached_property
    def _identity(self) -> list[pa.ChunkedArray]:
        return [self._table[name].cast(pa.string()) for name in self.identity_columns]

    def identity(self, place: int) -> list[str | None]:
        """The values of the `identity_columns` of a segment, as text."""
        return [column[place].as_py() for column in self._identity]

    def key_of(self, values: Sequence[str]) -> str:
        """The key of a segment's values, given as text."""
        return partition_key(values)

    def reader(self, position: int) -> Callable[[Any], str]:
        """What turns a cell of a segment column into its text in the key; it tells by a ValueError that it is none."""
        type_ = self._table.schema.field(self._columns[position]).type
        if pa.types.is_string(type_) or pa.types.is_large_string(type_):
            return lambda value: self._text(position, value)
        if pa.types.is_integer(type_):
            return _whole
        if pa.types.is_boolean(type_):
            return lambda value: "true" if truth(value) else "false"
        if pa.types.is_date(type_):
            return lambda value: moment(value).date().isoformat()
        return lambda value: self._by_value(position, value)

    def _text(self, position: int, value: Any) -> str:
        if isinstance(value, str):
            return utf8(value)
        if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
            raise ValueError(f"{shown(value)} is no text")
        if position not in self._said:
            self._said[position] = texts_by_number(pc.unique(self._table[self._columns[position]]).to_pylist())
        return text_of_number(value, self._said[position])

    def _by_value(self, position: int, value: Any) -> str:
        if position not in self._typed:
            values = self._table[self._columns[position]].to_pylist()
            keys = (segment_values(key)[position] for key in self._table[self._key].to_pylist())
            self._typed[position] = {_comparable(own): text for own, text in zip(values, keys, strict=True)}
        known = self._typed[position]
        timed = any(isinstance(own, pd.Timestamp) for own in known)
        return known.get(moment(value) if timed else number(value), str(value))


def _whole(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)) or is_empty(value):
        raise ValueError(f"{shown(value)} is no whole number")
    found = number(value)
    if not found.is_integer():
        raise ValueError(f"{shown(value)} is no whole number")
    return str(int(value)) if not isinstance(value, float) else str(int(found))


def _comparable(value: Any) -> Any:
    return moment(value) if isinstance(value, (date, np.datetime64)) else float(value)
