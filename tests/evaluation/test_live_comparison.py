"""Intervals of the difference: they hold what is true as often as they say, also when errors go together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.live_comparison import PairedSums, block_length, difference


def sums(champion: np.ndarray, challenger: np.ndarray, frequency: str = "D") -> PairedSums:
    """Of (segments, periods) arrays of errors."""
    times = pd.date_range("2024-01-01", periods=champion.shape[1], freq=frequency).to_numpy("datetime64[us]")
    by_segment = np.stack([champion.sum(axis=1), challenger.sum(axis=1)], axis=1)
    by_period = np.stack([champion.sum(axis=0), challenger.sum(axis=0)], axis=1)
    return PairedSums(by_segment, by_period, times, pd.DataFrame())


def errors(draw: np.random.Generator, better: float, shocks: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two fleets' absolute errors; `shocks` of a day go to all segments at once, to one of the two only."""
    shape = (40, 28)
    champion = np.abs(draw.normal(10, 3, shape))
    common = shocks * draw.normal(0, 1, (1, shape[1]))
    return champion, np.abs(draw.normal(10, 3, shape) + common) * (1 + better)


@pytest.mark.parametrize("shocks", [0.0, 2.0])
def test_of_two_equal_fleets_few_intervals_lie_above_zero(shocks: float) -> None:
    """The gate asks for the lower bound: 2.5% of equal challengers are to fail, and common shocks add few."""
    found = [difference(sums(*errors(np.random.default_rng(n), 0.0, shocks)), "wape") for n in range(150)]
    true = 0.0 if not shocks else _mean_with_shocks()
    assert np.mean([each.lower > true for each in found]) <= 0.08
    assert np.mean([each.lower <= true <= each.upper for each in found]) >= 0.88


def _mean_with_shocks() -> float:
    """The ratio that errors with shocks of 2 have in the long run."""
    draw = np.random.default_rng(99)
    plain, shocked = (np.abs(draw.normal(10, spread, 2_000_000)).mean() for spread in (3, np.hypot(3, 2)))
    return float(shocked / plain - 1)


def test_what_is_much_worse_is_clearly_so() -> None:
    found = difference(sums(*errors(np.random.default_rng(1), 0.2)), "wape")
    assert found.value == pytest.approx(0.2, abs=0.05)
    assert 0.1 < found.lower < found.value < found.upper < 0.3


def test_more_of_both_makes_the_interval_narrower() -> None:
    draw = np.random.default_rng(2)
    champion, challenger = (np.abs(draw.normal(10, 3, (400, 280))) for _ in range(2))
    wide, narrow = (
        difference(sums(champion[:20, :14], challenger[:20, :14]), "wape"),
        difference(sums(champion, challenger), "wape"),
    )
    assert narrow.upper - narrow.lower < (wide.upper - wide.lower) / 4


def test_common_shocks_widen_it_though_there_are_many_segments() -> None:
    draw = np.random.default_rng(3)
    champion = np.abs(draw.normal(10, 1, (2_000, 14)))
    shocked = np.abs(champion + draw.normal(0, 3, (1, 14)))
    quiet = np.abs(champion + draw.normal(0, 3, (2_000, 14)))
    widths = [d.upper - d.lower for d in (difference(sums(champion, each), "wape") for each in (shocked, quiet))]
    assert widths[0] > 5 * widths[1]


def test_of_squares_the_root_is_compared() -> None:
    champion = np.full((5, 10), 4.0)
    assert difference(sums(champion, champion * 1.21), "rmse").value == pytest.approx(0.1)
    assert difference(sums(champion, champion * 1.21), "mae").value == pytest.approx(0.21)


@pytest.mark.parametrize(("champion", "challenger", "value"), [(0.0, 0.0, 0.0), (0.0, 1.0, np.inf), (1.0, 0.0, -1.0)])
def test_without_error_there_is_still_an_answer(champion: float, challenger: float, value: float) -> None:
    found = difference(sums(np.full((3, 3), champion), np.full((3, 3), challenger)), "wape")
    assert (found.value, found.lower, found.upper) == (value, value, value)


def test_one_segment_and_one_period_have_no_spread() -> None:
    found = difference(sums(np.array([[2.0]]), np.array([[3.0]])), "wape")
    assert (found.value, found.lower, found.upper) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("frequency", "periods", "block"),
    [("D", 1, 1), ("D", 7, 2), ("D", 28, 7), ("h", 168, 6), ("h", 672, 168), ("7D", 5, 1)],
)
def test_blocks_are_weeks_once_there_are_four(frequency: str, periods: int, block: int) -> None:
    times = pd.date_range("2024-01-01", periods=periods, freq=frequency).to_numpy("datetime64[us]")
    assert block_length(times) == block
