"""Statistics of the last so many cells before each cell of an array, of which some are empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Cells = NDArray[np.float64]


class _Spans(NamedTuple):
    """What spans of cells hold: how many values, and, where it is asked for, their mean, the squares of their distances
    from it, their sum and their extremes. The mean of nothing is 0.
    """

    held: Cells
    mean: Cells | None
    squares: Cells | None
    total: Cells | None
    lowest: Cells | None
    highest: Cells | None


def trailing(cells: Cells, windows: Sequence[int], statistics: Sequence[str]) -> dict[tuple[str, int], Cells]:
    """Each statistic of the values in each cell and those before it, as many as the window is long; NaN where unknown.

    Empty cells are NaN. `mean`, `min`, `max` and `sum` are unknown without a value, `std` (of a sample) with fewer than
    two. A window is put together from spans that double in length, so that its work grows with the logarithm of its
    length, and a value depends on nothing outside of its window. Spans are joined as in Chan, Golub, LeVeque, Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances (1979), which keeps small spreads of large values.
    """
    doubled = _single(cells, set(statistics))
    found: dict[int, tuple[int, _Spans]] = {}
    longest = max(windows, default=0)
    for bit in range(longest.bit_length()):
        length = 1 << bit
        for window in windows:
            if window & length:
                covered, newer = found.get(window, (0, None))
                joined = doubled if newer is None else _joined(newer, doubled, covered)
                found[window] = (covered + length, joined)
        if 2 * length <= longest:
            doubled = _joined(doubled, doubled, length)
    return {(name, window): _statistic(name, found[window][1]) for window in windows for name in statistics}


def _single(cells: Cells, asked: set[str]) -> _Spans:
    """Spans of one cell each."""
    held = np.isfinite(cells)
    values = np.where(held, cells, 0.0)
    return _Spans(
        held.astype(np.float64),
        values if asked & {"mean", "std"} else None,
        np.zeros_like(values) if "std" in asked else None,
        values if "sum" in asked else None,
        np.where(held, cells, np.inf) if "min" in asked else None,
        np.where(held, cells, -np.inf) if "max" in asked else None,
    )


def _joined(newer: _Spans, older: _Spans, apart: int) -> _Spans:
    """For each cell the newer span joined with the older one that lies so many cells before it, if there is one."""
    late, early = slice(apart, None), slice(0, max(0, len(newer.held) - apart))
    held = _merged(np.add, newer.held, older.held, late, early)
    mean, squares = newer.mean, newer.squares
    if newer.mean is not None and older.mean is not None:
        distance = older.mean[early] - newer.mean[late]
        share = older.held[early] / np.maximum(held[late], 1.0)
        mean = newer.mean.copy()
        mean[late] += distance * share
        if newer.squares is not None and older.squares is not None:
            squares = _merged(np.add, newer.squares, older.squares, late, early)
            share *= newer.held[late]
            share *= distance  # before the square: where a span is empty the share is 0, and the square may be infinite
            share *= distance
            squares[late] += share
    extremes = (
        None if mine is None or theirs is None else _merged(chosen, mine, theirs, late, early)
        for chosen, mine, theirs in (
            (np.add, newer.total, older.total),
            (np.minimum, newer.lowest, older.lowest),
            (np.maximum, newer.highest, older.highest),
        )
    )
    return _Spans(held, mean, squares, *extremes)


def _merged(work: np.ufunc, newer: Cells, older: Cells, late: slice, early: slice) -> Cells:
    merged = newer.copy()
    work(newer[late], older[early], out=merged[late])
    return merged


def _statistic(name: str, spans: _Spans) -> Cells:
    if name == "std":
        assert spans.squares is not None, "was asked for"
        spread = np.sqrt(spans.squares / np.maximum(spans.held - 1.0, 1.0))
        return np.where(spans.held > 1, spread, np.nan)
    value = {"mean": spans.mean, "sum": spans.total, "min": spans.lowest, "max": spans.highest}[name]
    assert value is not None, "was asked for"
    return np.where(spans.held > 0, value, np.nan)
