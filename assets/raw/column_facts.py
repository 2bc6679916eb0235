"""What each column of a table holds, told from all of its rows in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assets.raw.cells import boolean_in, filled, is_number, number_in
from assets.raw.kinds import NEARLY_ALL, TIMES
from resources.contract import ColumnType
from resources.spark import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

MOST_VALUES = 20
LOG_OF_BUCKETS = 12  # of a sketch: counts to about 2%
MISSED_BY_ESTIMATE = 1.2  # how far above the truth an estimated count may lie
# a cast alone would take the number 2024 and the hour 12:30 for times too
DATED = "^[0-9]{4}-[0-9]"
WHOLE = ("tinyint", "smallint", "int", "bigint")
NO_COUNT, NO_NUMBER, NO_TEXT = "0L", "cast(null as double)", "cast(null as string)"
MEASURES = {
    "cells": NO_COUNT, "number": NO_COUNT, "whole": NO_COUNT, "boolean": NO_COUNT, "time": NO_COUNT,
    "distinct": NO_COUNT, "lowest": NO_NUMBER, "highest": NO_NUMBER, "first": NO_TEXT, "last": NO_TEXT,
}  # fmt: skip


@dataclass(frozen=True)
class ColumnFacts:
    """A column in numbers.

    `kind` is None where no cell says one, `stored` is Spark's type. `filled` counts the cells that hold a value of the
    kind, `unparsable` those that hold something else, `distinct` the different values, about. `whole` says that all
    numbers are integers; `lowest` to `highest` spans the finite ones, `first` to `last` the times. `values` are those
    of a text column that has few.
    """

    name: str
    kind: ColumnType | None
    stored: str
    filled: int
    unparsable: int
    distinct: int
    whole: bool = False
    lowest: float | None = None
    highest: float | None = None
    first: str | None = None
    last: str | None = None
    values: tuple[str, ...] = ()


def has_facts(stored: str) -> bool:
    """Whether columns of a Spark type are plain: numbers, truth, text, times."""
    return is_number(stored) or stored in ("boolean", "string", *TIMES)


def column_facts(table: DataFrame, columns: Sequence[str]) -> tuple[int, list[ColumnFacts]]:
    """How many rows a table has, and what some plain columns of it hold."""
    types = dict(table.dtypes)
    expressions = [
        f"named_struct({', '.join(_measured(column, types[column]))}) as column_{position}"
        for position, column in enumerate(columns)
    ]
    row = table.selectExpr("count(*) as total", *expressions).first()
    assert row is not None, "an aggregate without groups gives one row"
    found = [_facts(column, types[column], row[f"column_{position}"]) for position, column in enumerate(columns)]
    return row["total"], _with_values(table, found)


def moment_in(column: str, stored: str) -> str:
    """Spark SQL for the time in a cell, without zone; null where it is none."""
    if stored != "string":
        return f"cast({quoted(column)} as timestamp_ntz)"
    text = filled(column)
    return f"cast(if({text} rlike '{DATED}', try_cast({text} as timestamp), null) as timestamp_ntz)"


def distinct_in(number: str) -> str:
    """Spark SQL for about how many different values an integer expression has, in one small sketch a task."""
    return f"hll_sketch_estimate(hll_sketch_agg({number}, {LOG_OF_BUCKETS}))"


def _measured(column: str, stored: str) -> list[str]:
    return [f"'{name}', {sql}" for name, sql in {**MEASURES, **_measures(column, stored)}.items()]


def _measures(column: str, stored: str) -> dict[str, str]:
    cell = filled(column) if stored == "string" else quoted(column)
    found = {"cells": f"count({cell})", "distinct": distinct_in(f"if({cell} is null, null, xxhash64({cell}))")}
    if stored == "string":
        number, time = number_in(cell), moment_in(column, stored)
        whole = f"count_if({cell} rlike '^[+-]?[0-9]+$')"
        counts = {"number": f"count({number})", "boolean": f"count({boolean_in(cell)})", "time": f"count({time})"}
        return {**found, **counts, "whole": whole, **_span(number), **_period(time)}
    if is_number(stored):
        number = f"nanvl(cast({cell} as double), null)"
        return {**found, "cells": f"count({number})", **_span(number)}
    return {**found, **_period(moment_in(column, stored))} if stored in TIMES else found


def _span(number: str) -> dict[str, str]:
    finite = f"filter (where abs({number}) < double('infinity'))"
    return {"lowest": f"min({number}) {finite}", "highest": f"max({number}) {finite}"}


def _period(time: str) -> dict[str, str]:
    return {"first": f"cast(min({time}) as string)", "last": f"cast(max({time}) as string)"}


def _facts(name: str, stored: str, found: Row) -> ColumnFacts:
    kind = _kind(stored, found)
    parsed = kind in ("number", "boolean", "time") and stored == "string"
    held = found[kind] if parsed else found["cells"]
    integers = found["whole"] == found["number"] if stored == "string" else stored in WHOLE
    return ColumnFacts(
        name,
        kind,
        stored,
        filled=held,
        unparsable=found["cells"] - held,
        distinct=found["distinct"],
        whole=kind == "number" and integers,
        lowest=found["lowest"] if kind == "number" else None,
        highest=found["highest"] if kind == "number" else None,
        first=found["first"] if kind == "time" else None,
        last=found["last"] if kind == "time" else None,
    )


def _kind(stored: str, found: Row) -> ColumnType | None:
    """By the type, or, of text, by what most cells parse as: numbers first, as `column_kinds` has it."""
    if is_number(stored):
        return "number"
    if stored != "string":
        return "boolean" if stored == "boolean" else "time"
    if not found["cells"]:
        return None
    shares: dict[ColumnType, float] = {"number": 0.5, "boolean": NEARLY_ALL, "time": 0.5}
    return next((kind for kind, share in shares.items() if found[kind] > share * found["cells"]), "text")


def _with_values(table: DataFrame, found: list[ColumnFacts]) -> list[ColumnFacts]:
    most = MOST_VALUES * MISSED_BY_ESTIMATE
    few = [each.name for each in found if each.kind == "text" and each.distinct <= most]
    if not few:
        return found
    sets = [f"sort_array(collect_set(nullif({quoted(name)}, ''))) as column_{n}" for n, name in enumerate(few)]
    row = table.selectExpr(*sets).first()
    assert row is not None, "an aggregate without groups gives one row"
    values = {name: tuple(row[f"column_{n}"]) for n, name in enumerate(few)}
    kept = {name: held for name, held in values.items() if len(held) <= MOST_VALUES}
    return [replace(each, values=kept.get(each.name, ())) for each in found]
