"""Statistics of the last so many cells before each cell of an array, of which some are empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Cells = NDArray[np.float64]


class _Spans(NamedTuple):
    """What spans of cells hold: how many values, their mean, the squares of their distances from it, their extremes."""

    held: Cells
    mean: Cells
    squares: Cells
    total: Cells
    lowest: Cells
    highest: Cells


NOTHING = _Spans(*(np.array(value) for value in (0.0, 0.0, 0.0, 0.0, np.inf, -np.inf)))


def trailing(cells: Cells, windows: Sequence[int], statistics: Sequence[str]) -> dict[tuple[str, int], Cells]:
    """Each statistic of the values in each cell and those before it, as many as the window is long; NaN where unknown.

    Empty cells are NaN. `mean`, `min`, `max` and `sum` are unknown without a value, `std` (of a sample) with fewer than
    two. A window is put together from spans that double in length, so that its work grows with the logarithm of its
    length, and a value depends on nothing outside of its window. Spans are joined as in Chan, Golub, LeVeque, Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances (1979), which keeps small spreads of large values.
    """
    held = np.isfinite(cells)
    values = np.where(held, cells, 0.0)
    doubled = _Spans(
        held.astype(np.float64),
        values,
        np.zeros_like(values),
        values,
        np.where(held, cells, np.inf),
        np.where(held, cells, -np.inf),
    )
    found: dict[int, tuple[int, _Spans]] = {}
    longest = max(windows, default=0)
    for bit in range(longest.bit_length()):
        length = 1 << bit
        for window in windows:
            if window & length:
                covered, newer = found.get(window, (0, None))
                joined = doubled if newer is None else _joined(newer, _before(doubled, covered))
                found[window] = (covered + length, joined)
        if 2 * length <= longest:
            doubled = _joined(doubled, _before(doubled, length))
    return {(name, window): _statistic(name, found[window][1]) for window in windows for name in statistics}


def _before(spans: _Spans, cells: int) -> _Spans:
    """For each cell the span that lies so many cells before it; nothing for the first ones."""
    return _Spans(*(_moved(column, cells, float(empty)) for column, empty in zip(spans, NOTHING, strict=True)))


def _moved(column: Cells, cells: int, empty: float) -> Cells:
    moved = np.full_like(column, empty)
    moved[cells:] = column[: max(0, len(column) - cells)]
    return moved


def _joined(a: _Spans, b: _Spans) -> _Spans:
    held = a.held + b.held
    share = b.held / np.maximum(held, 1.0)
    apart = np.where((a.held > 0) & (b.held > 0), b.mean - a.mean, 0.0)
    mean = np.where(a.held > 0, a.mean + apart * share, b.mean)
    squares = a.squares + b.squares + apart * apart * a.held * share
    extremes = np.minimum(a.lowest, b.lowest), np.maximum(a.highest, b.highest)
    return _Spans(held, mean, squares, a.total + b.total, *extremes)


def _statistic(name: str, spans: _Spans) -> Cells:
    if name == "std":
        spread = np.sqrt(spans.squares / np.maximum(spans.held - 1.0, 1.0))
        return np.where(spans.held > 1, spread, np.nan)
    value = {"mean": spans.mean, "sum": spans.total, "min": spans.lowest, "max": spans.highest}[name]
    return np.where(spans.held > 0, value, np.nan)
