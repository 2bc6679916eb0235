"""Rows of whole segments looked at together: which others replace, which repeat, and where rows without time stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.raw.parse import KEY, NOTED, PERIOD, REASONS
from assets.raw.source import ARRIVED, FILE, ROW
from assets.raw.split import HASH, ROWS_A_CLASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assets.raw.arrow_cells import Places, Truths

SUPERSEDED, DUPLICATE = "superseded", "duplicate"


def is_usable(rows: pa.Table) -> Truths:
    """Which rows nothing is held against."""
    return pc.equal(pc.list_value_length(rows[REASONS]), 0).to_numpy()


def without_duplicates(rows: pa.Table) -> pa.Table:
    """The rows, with it among the reasons if a row of the same segment and period arrived later, or was read later.

    A row that arrived before a good one is superseded, whatever else is held against it. Of good rows that arrived
    together the last one read stays, and the others are duplicates.
    """
    usable, arrived = is_usable(rows), rows[ARRIVED].to_numpy()
    period, placed = rows[PERIOD].fill_null(0).to_numpy(), rows[PERIOD].is_valid().to_numpy()
    segment = _ranks(rows[KEY])
    order = np.lexsort((rows[ROW].to_numpy(), _ranks(rows[FILE]), arrived, usable, period, placed, segment))
    same = _same_as_before([segment[order], placed[order], period[order]])
    group = np.cumsum(~same) - 1
    newest = np.full(group[-1] + 1 if len(group) else 0, np.iinfo(np.int64).min)
    np.maximum.at(newest, group, np.where(usable[order], arrived[order], np.iinfo(np.int64).min))
    superseded, repeated = np.zeros(len(order), bool), np.zeros(len(order), bool)
    superseded[order] = placed[order] & (arrived[order] < newest[group])
    followed = np.append(same[1:] & (usable[order][1:] == usable[order][:-1]), False)[: len(order)]
    repeated[order] = usable[order] & followed
    reasons = with_reason(rows[REASONS], repeated & ~superseded, DUPLICATE)
    return _with(
        rows,
        {
            REASONS: with_reason(reasons, superseded, SUPERSEDED),
            NOTED: with_reason(rows[NOTED], superseded | repeated, None),
        },
    )


def with_places(rows: pa.Table) -> pa.Table:
    """Rows without time, with the `__period` that stands for their class (see `split`) and their place in it."""
    usable, hashed = is_usable(rows), rows[HASH].to_numpy()
    tenth = hashed % 10
    class_ = np.where(tenth == 9, 2, np.where(tenth == 8, 1, 0))
    segment = _ranks(rows[KEY])
    order = np.lexsort((rows[ROW].to_numpy(), _ranks(rows[FILE]), hashed, class_, usable, segment))
    new = ~_same_as_before([segment[order], usable[order], class_[order]])
    since = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    period = np.empty(len(order), np.int64)
    period[order] = class_[order] * ROWS_A_CLASS + since
    return _with(rows, {PERIOD: pa.array(period.astype(np.int32))}).drop_columns([HASH])


def with_reason(lists: pa.ChunkedArray, where: Truths, reason: str | None) -> pa.Array:
    """Lists of names, in some rows replaced by one of a single name, or of none."""
    if not where.any():
        return lists
    held = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    lengths = pc.list_value_length(held).to_numpy(zero_copy_only=False)
    kept = held.flatten().filter(pa.array(np.repeat(~where, lengths)))
    lengths = np.where(where, 0 if reason is None else 1, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    source = np.full(offsets[-1], len(kept))
    source[np.repeat(~where, lengths)] = np.arange(len(kept))
    values = pa.concat_arrays([kept.cast(pa.string()), pa.array([reason], pa.string())]).take(pa.array(source))
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _with(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        place = rows.column_names.index(name) if name in rows.column_names else rows.num_columns
        rows = rows.set_column(place, name, column) if place < rows.num_columns else rows.append_column(name, column)
    return rows


def _ranks(column: pa.ChunkedArray) -> Places:
    """For each text its place among all, sorted."""
    encoded = column.dictionary_encode().combine_chunks()
    rank = np.empty(len(encoded.dictionary) + 1, np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank) - 1)
    rank[-1] = -1
    return rank[encoded.indices.fill_null(len(rank) - 1).to_numpy(zero_copy_only=False)]


def _same_as_before(columns: list[NDArray[np.generic]]) -> Truths:
    """For each row whether it has the same values as the one before it; the first has not."""
    same = np.ones(len(columns[0]), bool)
    same[:1] = False
    for column in columns:
        same[1:] &= column[1:] == column[:-1]
    return same
