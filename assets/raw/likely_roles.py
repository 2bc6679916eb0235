"""Which columns of a table are likely its time, its label and its segment key: a guess for people to look at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from assets.raw.column_facts import ColumnFacts, distinct_in, moment_in
from assets.raw.kinds import TIMES
from resources.problems import InputError, Problem
from resources.spark import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OUTCOMES = frozenset({
    "sales", "sale", "sold", "y", "target", "label", "value", "demand", "quantity", "qty", "count", "units", "volume",
    "revenue", "turnover", "amount", "load", "consumption", "kwh", "visits", "orders",
})  # fmt: skip
KEYS = frozenset({"id", "key", "code", "no", "nr", "number"})
NEARLY_ALL = 0.95
WORTH_COUNTING = 0.9
MOST_KEY_COLUMNS = 3
MOST_CANDIDATES = 6
MOST_COUNTED = 5
FEWEST_ROWS = 5  # of a segment, on average; else a column tells rows apart because it is no key
FEWEST_ROWS_WITHOUT_TIME = 60
MOST_EMPTY = 0.01


@dataclass(frozen=True)
class Key:
    """A likely segment key; `apart` is the share of the rows that it and the time tell from all others."""

    columns: tuple[str, ...]
    apart: float | None = None


def likely_time(columns: Sequence[ColumnFacts], rows: int) -> ColumnFacts | None:
    """The fullest column of times, those stored as such before text; None if there is none."""
    times = [each for each in columns if each.kind == "time" and each.filled * 2 > rows and each.distinct > 1]
    return max(times, key=lambda each: (each.stored in TIMES, each.filled), default=None)


def likely_label(columns: Sequence[ColumnFacts], rows: int) -> ColumnFacts:
    """The column of numbers with the most different values, of those whose name says an outcome if any does.

    Raises:
        InputError: no column holds numbers that differ and are no key.
    """
    numbers = [each for each in columns if each.kind == "number" and each.distinct > 1 and not _is_name(each)]
    outcomes = [each for each in numbers if OUTCOMES & set(_words(each.name))]
    possible = outcomes or [each for each in numbers if not (each.whole and each.distinct >= NEARLY_ALL * rows)]
    if not possible:
        shown = ", ".join(each.name for each in columns) or "none of plain values"
        what = f"no column can be the label: none holds numbers that differ and are no key (columns: {shown})"
        raise InputError([Problem("table", what, "bring a table with the column to predict")])
    return max(possible, key=lambda each: each.distinct)


def likely_key(table: DataFrame, columns: Sequence[ColumnFacts], rows: int, time: ColumnFacts | None) -> Key:
    """The smallest set of columns that with the time tells rows apart, or nearly; names before mere numbers.

    `columns` are those that are neither time nor label. Without time: the column with the most values that each
    have rows enough to learn from.

    Raises:
        InputError: no column could be part of a key.
    """
    fewest = 1 if time is None or time.distinct >= NEARLY_ALL * rows else 2
    candidates = _candidates(columns, rows, fewest) or _candidates(columns, rows, 1)
    if not candidates:
        what = "no column can be the segment: none of text or whole numbers repeats its values"
        raise InputError([Problem("table", what, "bring a table with a column that names what each model is for")])
    if time is not None:
        return _telling_apart(table, candidates, rows, time)
    enough = [each for each in candidates if each.distinct * FEWEST_ROWS_WITHOUT_TIME <= rows]
    chosen = enough[0] if enough else min(candidates, key=lambda each: each.distinct)
    return Key((chosen.name,))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())


def _is_name(column: ColumnFacts) -> bool:
    """Whether values are names of things: text, or whole numbers of a column that is called a key."""
    return column.kind == "text" or (column.whole and bool(KEYS & set(_words(column.name)[-1:])))


def _candidates(columns: Iterable[ColumnFacts], rows: int, fewest: int) -> list[ColumnFacts]:
    """What could be part of a key, likeliest first."""
    usable = [
        each
        for each in columns
        if (each.kind == "text" or each.whole)
        and each.filled + each.unparsable >= (1 - MOST_EMPTY) * rows
        and fewest <= each.distinct <= rows / FEWEST_ROWS
    ]
    return sorted(usable, key=lambda each: (not _is_name(each), -each.distinct))[:MOST_CANDIDATES]


def _telling_apart(table: DataFrame, candidates: list[ColumnFacts], rows: int, time: ColumnFacts) -> Key:
    sets = [each for size in range(1, MOST_KEY_COLUMNS + 1) for each in combinations(candidates, size)]
    sizes = _estimates(table, sets, time)
    usable = {each: size for each, size in sizes.items() if size[0] * FEWEST_ROWS <= rows} or sizes
    most = max(moments for _, moments in usable.values())
    shortlist = [each for each, (_, moments) in usable.items() if moments >= WORTH_COUNTING * min(most, rows)]
    shortlist.sort(key=lambda each: (sum(not _is_name(c) for c in each), len(each), usable[each][0]))
    best: Key | None = None
    for each in shortlist[:MOST_COUNTED]:
        key = Key(tuple(column.name for column in each), _share_apart(table, each, rows, time))
        if best is None or (key.apart or 0) > (best.apart or 0) + 1 - NEARLY_ALL:
            best = key
    assert best is not None, "the set with the most moments is on the shortlist"
    return best


def _estimates(
    table: DataFrame, sets: Sequence[tuple[ColumnFacts, ...]], time: ColumnFacts
) -> dict[tuple[ColumnFacts, ...], tuple[int, int]]:
    """About how many segments each set of columns makes, and how many moments of segments."""
    expressions = []
    for position, columns in enumerate(sets):
        names = [quoted(each.name) for each in columns]
        for what, parts in (("segments", names), ("moments", [*names, moment_in(time.name, time.stored)])):
            hashed = f"xxhash64({', '.join(parts)})"
            expressions.append(f"{distinct_in(hashed)} as {what}_{position}")
    row = table.selectExpr(*expressions).first()
    assert row is not None, "an aggregate without groups gives one row"
    return {columns: (row[f"segments_{n}"], row[f"moments_{n}"]) for n, columns in enumerate(sets)}


def _share_apart(table: DataFrame, columns: Sequence[ColumnFacts], rows: int, time: ColumnFacts) -> float:
    names = [quoted(each.name) for each in columns]
    parts = ", ".join([*names, moment_in(time.name, time.stored)])
    return table.selectExpr(f"xxhash64({parts}) as moment").distinct().count() / rows
