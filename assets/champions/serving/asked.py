"""A request's rows read: of which segment and period each is, and what it brings. All mistakes are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.champions.serving.cells import converted, is_empty, moment, numbers, texts
from assets.champions.serving.question import TEXT, Floats, Inputs, Ints, Question
from assets.champions.serving.refusal import Mistakes

if TYPE_CHECKING:
    from assets.champions.serving.known import KnownSegments

EMPTY, UNKNOWN = "is empty", "is none of the fleet's segments"
AS_JSON = "send a value; of a CSV, cells such as NA, null or nothing at all are read as empty: send such a name as JSON"


@dataclass(frozen=True)
class Brought:
    """A column as the models of a training see it, a number a row of the request, and which rows bring it."""

    values: Floats
    there: NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """Rows as they are asked: the distinct segments (their places among the known), each row's segment and period.

    `direct` says that the rows carry every feature themselves. Without a time a row is about the horizon's last period.
    `brought` are the columns that the rows bring, by training and feature.
    """

    places: list[int]
    of_segment: Ints
    periods: Ints
    brought: Mapping[str, Mapping[str, Brought]]
    direct: bool

    def with_brought(self, x: Floats, rows: Ints, training: str, inputs: Inputs) -> Floats:
        """The inputs of some rows with what these rows bring themselves; what is empty there stays as it was."""
        for name, column in self.brought[training].items():
            there = column.there[rows]
            x[there, inputs.features.index(name)] = column.values[rows][there]
        return x


def asked_rows(frame: Any, question: Question, segments: KnownSegments) -> Asked:
    """The rows of a request.

    Raises:
        InputError: mistakes in them, each with the row, the column and what is wrong with it.
    """
    mistakes = Mistakes()
    rows = _frame(frame, mistakes)
    direct = question.time is None or (not _has_time(rows, question) and bool(question.computed & set(rows.columns)))
    _check_columns(rows, question, direct, mistakes)
    mistakes.refuse()
    places, of_segment = _segments(rows, question, segments, mistakes)
    periods = _periods(rows, question, mistakes)
    brought = {training: _brought(rows, inputs, direct, mistakes) for training, inputs in question.inputs.items()}
    mistakes.refuse()
    return Asked(places, of_segment, periods, brought, direct)


def _frame(frame: Any, mistakes: Mistakes) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame):
        what = "are no table with named columns"
        mistakes.add([], "the rows", what, "send dataframe_split, dataframe_records or CSV with a header")
        mistakes.refuse()
    if repeated := sorted({str(name) for name in frame.columns[frame.columns.duplicated()]}):
        for name in repeated:
            mistakes.add([], f"column {name!r}", "is there more than once", "keep one of them")
        mistakes.refuse()
    return frame.rename(columns=str)


def _has_time(rows: pd.DataFrame, question: Question) -> bool:
    return question.time is not None and question.time in rows.columns


def _check_columns(rows: pd.DataFrame, question: Question, direct: bool, mistakes: Mistakes) -> None:
    needed = [*question.segment]
    if direct:
        needed += sorted({name for inputs in question.inputs.values() for name in inputs.features})
    elif question.time:
        needed.append(question.time)
    for name in dict.fromkeys(needed):
        if name not in rows.columns:
            mistakes.add([], f"column {name!r}", "is missing", "every row needs it")
    for name in rows.columns if not direct else ():
        if name in question.computed:
            remedy = f"leave it out, or leave out {question.time!r} and bring every feature"
            mistakes.add([], f"column {name!r}", "is computed from the committed history for rows with a time", remedy)
    allowed = question.columns | question.computed | {*question.segment, question.label}
    for name in rows.columns:
        if name not in allowed and name != question.time:
            near = difflib.get_close_matches(name, sorted(allowed), n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "leave it out"
            mistakes.add([], f"column {name!r}", "is none of the fleet's", remedy)


def _segments(
    rows: pd.DataFrame, question: Question, segments: KnownSegments, mistakes: Mistakes
) -> tuple[list[int], Ints]:
    """Places of the distinct segments, and which of them each row is of (-1 where its cells say none)."""
    cells = []
    for position, name in enumerate(question.segment):
        column, where = rows[name], f"column {name!r}"
        empty = np.flatnonzero([is_empty(value) for value in column.tolist()])
        if empty.size:
            mistakes.add(empty.tolist(), where, EMPTY, AS_JSON)
        cells.append(converted(column, segments.reader(position), mistakes.at(where)))
    codes, distinct = pd.factorize(pd.Series(list(zip(*cells, strict=True)), dtype=object))
    keys = ["" if None in values else segments.key_of(values) for values in distinct]
    found = segments.keys.places(keys)
    for code in [code for code, place in enumerate(found) if place is None and None not in distinct[code]]:
        named = ", ".join(f"{n}={v!r}" for n, v in zip(question.segment, distinct[code], strict=True))
        mistakes.add(np.flatnonzero(codes == code).tolist(), f"segment {named}", UNKNOWN)
    return [-1 if place is None else place for place in found], codes.astype(np.int64)


def _periods(rows: pd.DataFrame, question: Question, mistakes: Mistakes) -> Ints:
    """The period of each row."""
    span = question.span
    if not _has_time(rows, question):
        return np.full(len(rows), span.last + span.horizon)
    column, where = rows[question.time], f"column {question.time!r}"
    empty = [row for row, value in enumerate(column.tolist()) if is_empty(value) or value == ""]
    if empty:
        mistakes.add(empty, where, EMPTY, "every row needs a time")
    first, last = span.reach

    def period(value: Any) -> int | None:
        if value == "":
            return None
        time = moment(value)
        if not first <= time <= last:
            raise ValueError(f"{str(value)!r} lies outside of history and horizon, {first} to {last}")
        found = span.period_of(time)
        if found is None:
            raise ValueError(f"{str(value)!r} is no time of the calendar {span.frequency!r}")
        return found

    found = converted(column, period, mistakes.at(where))
    return np.array([-1 if value is None else value for value in found], dtype=np.int64)


def _brought(rows: pd.DataFrame, inputs: Inputs, direct: bool, mistakes: Mistakes) -> dict[str, Brought]:
    found: dict[str, Brought] = {}
    for name in inputs.features if direct else inputs.known_ahead:
        if name not in rows.columns:
            continue
        column, kind, tell = rows[name], inputs.kind(name), mistakes.at(f"column {name!r}")
        if kind == TEXT:
            cells, known = pa.array(texts(column, inputs.categories[name], tell), pa.string()), inputs.categories[name]
            codes = pc.index_in(cells, pa.array(known, pa.string()), skip_nulls=True).cast(pa.float64())
            # a text that was never seen is brought, and unknown to the model
            found[name] = Brought(pc.fill_null(codes, np.nan).to_numpy(False), cells.is_valid().to_numpy(False))
        else:
            values = numbers(column, kind, tell)
            found[name] = Brought(values, ~np.isnan(values))
    return found
