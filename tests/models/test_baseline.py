"""Seasonal naive against the same said slowly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.models.baseline import (
    SEASONS,
    baseline_forecasts,
    last_known_mean,
    origins_of,
    seasonal_median,
    seasonal_naive,
    tamed,
)
from assets.raw.split import EVERYTHING, LAST_ROW
from tests.lakes import slow_naive
from tests.models.small import recipe

LABEL = st.one_of(st.just(float("nan")), st.integers(-50, 50).map(float))
HISTORY = st.dictionaries(st.integers(0, 40), LABEL, max_size=30)


@settings(max_examples=400)
@given(HISTORY, st.integers(1, 60), st.lists(st.tuples(st.integers(-5, 45), st.integers(1, 30)), max_size=12))
def test_it_says_what_the_slow_one_says(history: dict[int, float], season: int, asked: list[tuple[int, int]]) -> None:
    periods = sorted(history)
    labels = [history[period] for period in periods]
    origins, targets = [origin for origin, _ in asked], [origin + step for origin, step in asked]
    found = seasonal_naive(*map(np.array, (periods, labels, targets, origins)), season, otherwise=-1.5)
    np.testing.assert_allclose(found, slow_naive(periods, labels, targets, origins, season, -1.5), rtol=1e-12)


@settings(max_examples=200)
@given(HISTORY, st.integers(1, 20), st.integers(0, 40), st.integers(1, 15))
def test_labels_after_the_origin_change_nothing(history: dict[int, float], season: int, origin: int, h: int) -> None:
    periods = np.array(sorted(history), dtype=np.int64)
    labels = np.array([history[period] for period in periods.tolist()])
    targets, origins = np.arange(origin + 1, origin + 1 + h), np.full(h, origin)
    other = np.where(periods > origin, labels + 1000, labels)
    first = seasonal_naive(periods, labels, targets, origins, season, 3.0)
    np.testing.assert_array_equal(first, seasonal_naive(periods, other, targets, origins, season, 3.0))


@given(HISTORY, st.integers(0, 40))
def test_a_season_of_everything_is_the_mean_of_all_known(history: dict[int, float], origin: int) -> None:
    periods = np.array(sorted(history), dtype=np.int64)
    labels = np.array([history[period] for period in periods.tolist()])
    targets = np.array([origin + 1, origin + 7, LAST_ROW])
    found = seasonal_naive(periods, labels, targets, np.full(3, origin), EVERYTHING, otherwise=-1.5)
    known = [history[period] for period in history if period <= origin and history[period] == history[period]]
    np.testing.assert_allclose(found, np.full(3, np.mean(known) if known else -1.5), rtol=1e-12)


def test_a_horizon_longer_than_the_season_repeats_the_season() -> None:
    periods, labels = np.arange(4), np.array([1.0, 2.0, 3.0, 4.0])
    forecast = seasonal_naive(periods, labels, np.arange(4, 13), np.full(9, 3), 2)
    assert forecast.tolist() == [3, 4, 3, 4, 3, 4, 3, 4, 3]


@pytest.mark.parametrize(("history", "wanted"), [([5.0, np.nan], 5.0), ([np.nan, np.nan], 9.0)])
def test_nothing_known_falls_back(history: list[float], wanted: float) -> None:
    assert seasonal_naive(np.arange(2), np.array(history), np.array([5]), np.array([1]), 3, 9.0).tolist() == [wanted]


def test_the_mean_is_that_of_the_last_season_first() -> None:
    periods, labels = np.array([0, 1, 8, 9]), np.array([100.0, 200.0, 1.0, 3.0])
    assert last_known_mean(periods, labels, 9, 3, 0.0) == 2.0
    assert last_known_mean(periods, labels, 7, 3, 0.0) == 150.0
    assert last_known_mean(periods, labels, -1, 3, 7.0) == 7.0


def test_the_origin_moves_on_when_a_horizon_is_used_up() -> None:
    assert origins_of(np.arange(11, 21), 10, 4).tolist() == [10] * 4 + [14] * 4 + [18] * 2


@settings(max_examples=300)
@given(HISTORY, st.integers(1, 20), st.lists(st.tuples(st.integers(-5, 45), st.integers(1, 30)), max_size=8))
def test_the_median_is_that_of_the_last_seasons(
    history: dict[int, float], season: int, asked: list[tuple[int, int]]
) -> None:
    periods = np.array(sorted(history), dtype=np.int64)
    labels = np.array([history[period] for period in periods.tolist()])
    origins, targets = [origin for origin, _ in asked], [origin + step for origin, step in asked]
    found = seasonal_median(periods, labels, *(np.array(a, dtype=np.int64) for a in (targets, origins)), season, -1.5)
    known = {p: y for p, y in history.items() if not np.isnan(y)}
    for said, target, origin in zip(found, targets, origins, strict=True):
        newest = max(t for t in range(target - 40 * season, target + 1, season) if t <= origin)
        same = [known[newest - n * season] for n in range(SEASONS) if newest - n * season in known]
        recent = [y for p, y in known.items() if origin - season < p <= origin]
        before = [y for p, y in known.items() if p <= origin]
        assert said == (np.median(same or recent or before) if before else -1.5)


def test_a_slip_of_the_hand_is_not_repeated_a_season_later() -> None:
    periods, labels = np.arange(30), np.arange(30) % 5 + 10.0
    labels[27] = 1e9
    targets, origins = np.arange(30, 35), np.full(5, 29)
    said = baseline_forecasts(recipe(season=5), periods, labels, targets, origins)
    assert max(said["baseline"]) == max(said["median"]) == 14
    large = np.where(np.arange(30) % 5 == 0, 500.0 * labels, labels)
    np.testing.assert_array_equal(tamed(periods, large, 29)[:27], large[:27])


@given(HISTORY, st.integers(0, 40))
def test_what_is_absurd_is_told_by_the_past_alone(history: dict[int, float], through: int) -> None:
    periods = np.array(sorted(history), dtype=np.int64)
    labels = np.array([history[period] for period in periods.tolist()])
    other = np.where(periods > through, labels * 1e7, labels)
    known = periods <= through
    np.testing.assert_array_equal(tamed(periods, labels, through)[known], tamed(periods, other, through)[known])
