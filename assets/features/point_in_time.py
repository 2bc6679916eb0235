"""Point-in-time features of some whole segments as Arrow arrays: what was known at the origin of each period."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.features.contract import BUCKET
from assets.features.grid import Grid
from assets.features.windows import trailing
from assets.raw.parse import KEY, PERIOD, TIME
from assets.raw.recipe import STEP, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

ASSUMED = "__assumed"
CELLS_AT_ONCE = 1 << 16
NOWHERE = -1


def with_future(rows: pa.Table, recipe: Recipe, last: int) -> pa.Table:
    """Ordered rows up to period `last`, plus exactly a horizon of rows for each open segment, empty where it has none.

    Rows after the horizon, and those that closed segments have after `last`, are left out.
    """
    segment, period = _segments(rows), rows[PERIOD].to_numpy().astype(np.int64)
    first_row = np.flatnonzero(_begins(segment))
    newest = period[np.append(first_row[1:], len(rows)) - 1]
    is_open, past = newest > last - recipe.closed_after, period <= last
    horizon, opened = recipe.horizon, np.flatnonzero(is_open)
    given = np.flatnonzero(~past & (period <= last + horizon) & is_open[segment])
    ahead = np.full(len(opened) * horizon, NOWHERE)
    ahead[(np.cumsum(is_open) - 1)[segment[given]] * horizon + period[given] - last - 1] = given
    all_segments = np.concatenate([segment[past], np.repeat(opened, horizon)])
    order = np.argsort(all_segments, kind="stable")
    of_segment, source = all_segments[order], np.concatenate([np.flatnonzero(past), ahead])[order]
    periods = np.concatenate([period[past], np.tile(np.arange(last + 1, last + 1 + horizon), len(opened))])[order]
    named = pa.array(first_row[of_segment])
    same_throughout = {KEY, BUCKET, *recipe.segment}
    columns = {
        name: column.take(named) if name in same_throughout else _taken(column, source)
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }
    return pa.table({**columns, PERIOD: pa.array(periods.astype(np.int32))})


def point_in_time(rows: pa.Table, recipe: Recipe, grid: Grid, last: int) -> pa.Table:
    """Ordered rows, one a segment and period, with `__time`, `__assumed` and the columns of `recipe.features`.

    Lags and windows count calendar periods, not rows, and none of them knows more than a row's origin: a horizon before
    it or, with `recipe.at_origin`, as many periods as `recipe.steps_ahead` says.
    What a row after period `last` lacks of `known_ahead` is carried on from the rows before it, and then it is
    `__assumed`.
    """
    rows = rows.combine_chunks()
    segment, period = _segments(rows), rows[PERIOD].to_numpy().astype(np.int64)
    begins, future = _begins(segment), period > last
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    carried, missing = _carried_on(columns, recipe.known_ahead, begins, future)
    cells = _cells(begins, period, _reach(recipe))
    steps = recipe.steps_ahead(period, last) if recipe.at_origin else np.full(len(period), recipe.horizon)
    lagged = {
        lag: _rows_before(cells, begins, np.full(len(cells), lag)) for lag in {lag for _, _, lag in recipe.lagged}
    }
    place = period - grid.start
    inside = (place >= 0) & (place < len(grid.micros))
    safe = np.where(inside, place, 0)
    return pa.table({
        **columns,
        **carried,
        TIME: pa.array(grid.micros[safe], pa.timestamp("us"), mask=~inside),
        ASSUMED: pa.array(future & missing),
        **{name: _taken(columns[column], lagged[lag]) for name, column, lag in recipe.lagged},
        **_rolled(columns[recipe.label].to_numpy(), recipe, cells, begins, steps),
        **_at_origin(columns, recipe, cells, begins, steps),
        **{f"calendar@{name}": pa.array(of[safe], mask=~inside) for name, of in grid.features.items()},
    })  # fmt: skip


def _segments(rows: pa.Table) -> Places:
    """For each row the place of its segment among all, sorted by key."""
    encoded = rows[KEY].dictionary_encode().combine_chunks()
    rank = np.empty(len(encoded.dictionary), np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[encoded.indices.to_numpy()]


def _begins(segment: Places) -> NDArray[np.bool_]:
    return np.concatenate([[True], segment[1:] != segment[:-1]]) if len(segment) else np.zeros(0, bool)


def _taken(column: pa.ChunkedArray, places: Places) -> Any:
    """The values at some places, null where there is none."""
    return column.take(pa.array(places, mask=places == NOWHERE))


def _carried_on(
    columns: dict[str, Any], names: list[str], begins: NDArray[np.bool_], future: NDArray[np.bool_]
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Columns whose missing values of the future are the last ones known, and which rows lacked one."""
    rows, missing = np.arange(len(begins)), np.zeros(len(begins), bool)
    if not future.any():
        return {}, missing
    first_row, carried = np.maximum.accumulate(np.where(begins, rows, 0)), {}
    for name in names:
        known = columns[name].is_valid().to_numpy()
        missing |= ~known
        newest = np.maximum.accumulate(np.where(known, rows, NOWHERE))
        newest = np.where(newest >= first_row, newest, NOWHERE)
        carried[name] = _taken(columns[name], np.where(future, newest, rows))
    return carried, missing


def _reach(recipe: Recipe) -> int:
    """How many periods before a row its features look at most."""
    longest = max((window for _, _, window in recipe.rolled), default=0)
    seasons = [-(-recipe.horizon // season) * season for _, season in recipe.seasonal]
    newest = [2 * recipe.horizon] if recipe.at_origin else []
    return max([0, *(lag for _, _, lag in recipe.lagged), recipe.horizon + longest - 1, *seasons, *newest])


def _cells(begins: NDArray[np.bool_], period: Places, reach: int) -> Places:
    """Each row's cell on one line of all segments.

    Rows of a segment that lie within reach of each other are as far apart as their periods; all others are further
    apart than the reach, but no further than needed.
    """
    return np.cumsum(np.where(begins, reach + 1, np.minimum(np.diff(period, prepend=0), reach + 1)))


def _pieces(cells: Places, begins: NDArray[np.bool_]) -> Iterator[tuple[slice, int]]:
    """Rows of whole segments, few enough that their cells fit in the processor's cache, and their first cell."""
    first_row = np.flatnonzero(begins)
    piece = cells[first_row] // CELLS_AT_ONCE
    starts = first_row[np.concatenate([[True], piece[1:] != piece[:-1]])] if len(first_row) else first_row
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        yield slice(start, end), int(cells[start - 1]) if start else 0


def _rows_before(cells: Places, begins: NDArray[np.bool_], lags: Places) -> Places:
    """For each row the one that lies a lag of its own before it in its segment, or nowhere."""
    found = np.full(len(cells), NOWHERE)
    for rows, base in _pieces(cells, begins):
        own = cells[rows] - base
        at = np.full(own[-1] + 1, NOWHERE)
        at[own] = np.arange(rows.start, rows.stop)
        found[rows] = at[own - lags[rows]]
    return found


def _newest_rows(
    cells: Places, begins: NDArray[np.bool_], steps: Places, known: NDArray[np.bool_], within: int
) -> Places:
    """For each row the newest `known` one of its segment at its origin or less than `within` before; or nowhere."""
    found = np.full(len(cells), NOWHERE)
    for rows, base in _pieces(cells, begins):
        own = cells[rows] - base
        at = np.full(own[-1] + 1, NOWHERE)
        at[own[known[rows]]] = np.flatnonzero(known[rows])
        newest = np.maximum.accumulate(at)[own - steps[rows]]
        near = (newest != NOWHERE) & (own - steps[rows] - own[newest] < within)
        found[rows] = np.where(near, newest + rows.start, NOWHERE)
    return found


def _at_origin(
    columns: dict[str, Any], recipe: Recipe, cells: Places, begins: NDArray[np.bool_], steps: Places
) -> dict[str, Any]:
    """The newest values known at each row's origin, those of the newest seasons, and the steps from there."""
    if not recipe.at_origin:
        return {}
    found: dict[str, Any] = {STEP: pa.array(steps.astype(np.float64))}
    for name, column in recipe.newest:
        known = columns[column].is_valid().to_numpy()
        found[name] = _taken(columns[column], _newest_rows(cells, begins, steps, known, recipe.horizon))
    for name, season in recipe.seasonal:
        found[name] = _taken(columns[recipe.label], _rows_before(cells, begins, -(-steps // season) * season))
    return found


def _rolled(
    label: NDArray[np.float64], recipe: Recipe, cells: Places, begins: NDArray[np.bool_], steps: Places
) -> dict[str, pa.Array]:
    if not recipe.rolled:
        return {}
    found = {name: np.full(len(cells), np.nan) for name, _, _ in recipe.rolled}
    for rows, base in _pieces(cells, begins):
        own = cells[rows] - base
        at = np.full(own[-1] + 1, np.nan)
        at[own] = label[rows]
        statistics = trailing(at, recipe.windows, recipe.statistics)
        for name, statistic, window in recipe.rolled:
            found[name][rows] = statistics[statistic, window][own - steps[rows]]
    return {name: pa.array(values, mask=np.isnan(values)) for name, values in found.items()}
