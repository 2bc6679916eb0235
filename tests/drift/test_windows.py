"""A segment's tests: what can be said of bad input, categories, empty cells, and where windows lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.drift.season import Seasons
from assets.drift.windows import (
    ALL_NULL,
    CONSTANT,
    FEWEST_ROWS,
    MOST_CATEGORIES,
    MOST_PAST,
    NEVER_SEEN,
    TESTED,
    TOO_FEW,
    Compared,
    Plan,
    compared,
)
from tests.drift.series import Floats, autoregressive

ROWS, WINDOW = 300, 7
PERIODS = np.arange(10_000, 10_000 + ROWS)
PLAN = Plan(PERIODS[-WINDOW - 1], PERIODS[-WINDOW - 1], PERIODS[-1])
SHAPE, SIZE, SPREAD, MISSING = 0, 1, 2, 3


def series(seed: int = 0) -> Floats:
    return autoregressive(1, ROWS, 0.5, np.random.default_rng(seed))[0]


def of(values: Floats, *, category: bool = False) -> Compared:
    return compared(values[None].astype(float), np.array([category]), PERIODS, PLAN, Seasons(7, 7, 52))


def now(found: Compared, test: int) -> float:
    return float(found.statistics[0, test, -1])


def test_a_quiet_number_has_every_window_and_no_empty_cell() -> None:
    found = of(series())
    assert found.states == [TESTED]
    assert np.isfinite(found.statistics[0, [SHAPE, SIZE, SPREAD]]).all()
    assert np.isnan(found.statistics[0, MISSING]).all()
    assert found.statistics.shape == (1, 4, MOST_PAST + 1)


@pytest.mark.parametrize("category", [False, True])
def test_what_never_changes_is_constant_and_not_tested(category: bool) -> None:
    found = of(np.full(ROWS, 3.0), category=category)
    assert found.states == [CONSTANT]
    assert np.isnan(found.statistics).all()


def test_a_constant_that_changes_is_told() -> None:
    values = np.full(ROWS, 3.0)
    values[-WINDOW:] = 4.0
    found = of(values)
    assert found.states == [TESTED]
    assert now(found, SHAPE) > 5 > found.statistics[0, SHAPE, :-1].max()


def test_nothing_but_nulls_is_said_so() -> None:
    found = of(np.full(ROWS, np.nan))
    assert found.states == [ALL_NULL]
    assert np.isnan(found.statistics).all()


def test_a_feature_that_was_never_there_in_training_is_not_tested() -> None:
    values = np.full(ROWS, np.nan)
    values[-WINDOW:] = 1.0
    found = of(values)
    assert found.states == [NEVER_SEEN]
    assert np.isnan(found.statistics).all()


def test_a_feature_that_stopped_coming_is_told_by_its_empty_cells() -> None:
    values = series()
    values[-WINDOW:] = np.nan
    found = of(values)
    assert found.states == [TOO_FEW]
    assert now(found, MISSING) > 5
    assert np.isnan(found.statistics[0, SHAPE]).all()


def test_empty_cells_are_tested_like_a_category() -> None:
    values = series()
    values[np.arange(ROWS) % 20 == 0] = np.nan
    values[-5:] = np.nan
    values[-WINDOW:-5] = 0.0
    found = of(values)
    assert now(found, MISSING) > found.statistics[0, MISSING, :-1].max() + 2


def test_a_new_category_is_told() -> None:
    values = np.random.default_rng(1).integers(0, 3, ROWS).astype(float)
    values[-WINDOW:] = 7
    assert now(of(values, category=True), SHAPE) > 6
    assert now(of(np.where(values == 7, 1, values), category=True), SHAPE) > 2


def test_many_categories_are_merged_but_one_that_is_new_stays_apart() -> None:
    values = np.random.default_rng(2).integers(0, 3 * MOST_CATEGORIES, ROWS).astype(float)
    quiet = now(of(values, category=True), SHAPE)
    values[-WINDOW:] = 500 + np.arange(WINDOW)
    assert now(of(values, category=True), SHAPE) > max(6, quiet + 3)


def test_a_broken_week_is_told_though_its_values_are_the_old_ones() -> None:
    season = np.tile([0.0, 1, 2, 3, 4, 5, 12], ROWS // 7 + 1)[:ROWS]
    values = season + 0.3 * series(3)
    broken = values.copy()
    broken[-WINDOW:] = values[-WINDOW:][::-1]
    assert now(of(broken), SIZE) > now(of(values), SIZE) + 5


def test_rows_that_were_judged_before_are_in_no_window() -> None:
    plan = Plan(PERIODS[-29], PERIODS[-8], PERIODS[-1])
    groups, count = plan.groups(PERIODS)
    assert (groups[-7:] == count - 1).all()
    assert (groups[-28:-7] == -1).all()
    assert (groups[:-28] < count - 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(1, 40), st.integers(0, 20))
def test_windows_are_disjoint_whole_and_beside_the_training(history: int, length: int, gap: int) -> None:
    trained = 1_000 + history
    plan = Plan(trained, trained + gap, trained + gap + length)
    periods = np.arange(1_000, plan.end + 1)
    groups, count = plan.groups(periods)
    assert count <= MOST_PAST + 2
    for group in range(1, count):
        assert (groups == group).sum() == length
    assert (groups[periods <= trained] >= 0).all()
    assert (groups[periods <= trained] < count - 1).all()
    oldest = (groups == 0).sum()
    assert oldest >= (trained - 999) // 2 or count == 2


def test_three_rows_are_too_few() -> None:
    values = series()
    values[-WINDOW:-3] = np.nan
    assert FEWEST_ROWS == 4
    assert of(values).states == [TOO_FEW]


@pytest.mark.parametrize("times", [0.1, 4.0])
def test_numbers_that_lie_wider_or_narrower_are_told(times: float) -> None:
    values = series(4)
    values[-WINDOW:] *= times
    found = of(values)
    assert now(found, SPREAD) > found.statistics[0, SPREAD, :-1].max()
    assert found.effects[0, SPREAD] > 0.8
    moved = series(4)
    moved[-WINDOW:] += 50
    assert now(of(moved), SPREAD) == pytest.approx(now(of(series(4)), SPREAD), rel=0.01)
