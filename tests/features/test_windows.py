"""Trailing statistics: the same as counted by hand, whatever the numbers, and blind to what lies outside a window."""

from __future__ import annotations

import math
import statistics

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assets.features.windows import trailing

STATISTICS = ["mean", "std", "min", "max", "sum"]
CELL = st.one_of(
    st.none(),
    st.integers(-9, 9).map(float),
    st.floats(1e8, 1e9),
    st.floats(1e-9, 1e-8),
    st.sampled_from([1e150, -1e150]),
)
WINDOWS = st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True)


def by_hand(cells: list[float | None], end: int, window: int) -> dict[str, float | None]:
    held = [cell for cell in cells[max(0, end - window + 1) : end + 1] if cell is not None]
    if not held:
        return dict.fromkeys(STATISTICS)
    spread = statistics.stdev(held) if len(held) > 1 else None
    return {"mean": statistics.fmean(held), "std": spread, "min": min(held), "max": max(held), "sum": math.fsum(held)}


@given(cells=st.lists(CELL, max_size=50), windows=WINDOWS)
def test_trailing_statistics_are_those_counted_by_hand(cells: list[float | None], windows: list[int]) -> None:
    found = trailing(np.array(cells, dtype=np.float64), windows, STATISTICS)
    assert set(found) == {(name, window) for name in STATISTICS for window in windows}
    for window in windows:
        for end in range(len(cells)):
            largest = max((abs(cell) for cell in cells if cell is not None), default=0.0)
            for name, wanted in by_hand(cells, end, window).items():
                value = found[name, window][end]
                if wanted is None:
                    assert np.isnan(value)
                else:
                    assert math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-12 * largest), (name, window, end)


@given(cells=st.lists(CELL, min_size=1, max_size=40), window=st.integers(1, 20), noise=st.integers(0, 9))
def test_nothing_outside_of_a_window_moves_a_bit_of_it(cells: list[float | None], window: int, noise: int) -> None:
    other = np.array(cells, dtype=np.float64)
    other[: max(0, len(cells) - window)] = 1e9 + noise
    longer = np.concatenate([np.full(noise, 7.0), other])
    for name, statistic in trailing(np.array(cells, dtype=np.float64), [window], STATISTICS).items():
        if len(cells) >= window:
            np.testing.assert_array_equal(trailing(longer, [window], STATISTICS)[name][-1], statistic[-1])


def test_equal_values_have_no_spread() -> None:
    assert not trailing(np.full(100, 0.1), [28], ["std"])["std", 28][1:].any()
