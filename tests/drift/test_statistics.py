"""Raw statistics: those of SciPy and of Evidently on the same arrays, and the same for every window of a series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.drift.statistics import (
    chi_square_of_fit,
    chi_square_windows,
    ks_windows,
    spread_windows,
    stability_index,
)
from tests.drift.series import autoregressive


def two(before: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    groups = np.repeat([0, 1], [len(before), len(window)])
    return np.concatenate([before, window]), groups


def evidently(before: np.ndarray, window: np.ndarray, method: str, *, category: bool = False) -> float:
    """What Evidently's report says of a column, with the method named."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    kind = {"categorical_columns": ["x"]} if category else {"numerical_columns": ["x"]}
    reference, current = (
        Dataset.from_pandas(pd.DataFrame({"x": values}), DataDefinition(**kind)) for values in (before, window)
    )
    return float(Report([ValueDrift(column="x", method=method)]).run(current, reference).dict()["metrics"][0]["value"])


@pytest.mark.parametrize("rows", [40, 700, 1500])  # on both sides of where Evidently's default changes
def test_the_distance_is_that_behind_evidentlys_p_value(rows: int) -> None:
    draw = np.random.default_rng(rows)
    before, window = draw.normal(0, 2, rows).round(1), draw.normal(0.4, 3, 28).round(1)
    found = ks_windows(*two(before, window), 2)
    told = stats.ks_2samp(before, window)
    assert found.statistic[0] == pytest.approx(told.statistic, abs=1e-12)
    assert evidently(before, window, "ks") == pytest.approx(told.pvalue, rel=1e-9)


def test_the_effect_is_evidentlys_normed_wasserstein_distance() -> None:
    draw = np.random.default_rng(1)
    before, window = draw.gamma(2, 3, 800), draw.gamma(2, 4, 50)
    found = ks_windows(*two(before, window), 2)
    assert found.effect[0] == pytest.approx(evidently(before, window, "wasserstein"), rel=1e-9)
    constant = np.full(30, 7.0)
    assert ks_windows(*two(constant, window), 2).effect[0] == pytest.approx(evidently(constant, window, "wasserstein"))


def test_the_chi_square_is_that_behind_evidentlys_p_value() -> None:
    draw = np.random.default_rng(2)
    before, window = draw.choice(4, 600, p=[0.4, 0.3, 0.2, 0.1]), draw.choice(4, 60, p=[0.3, 0.3, 0.2, 0.2])
    counts = [np.bincount(values, minlength=4) for values in (before, window)]
    told = evidently(before.astype(str), window.astype(str), "chisquare", category=True)
    assert stats.chi2.sf(chi_square_of_fit(*counts), 3) == pytest.approx(told, rel=1e-9)
    assert np.isinf(chi_square_of_fit(np.array([5, 0]), np.array([3, 1])))  # so a new category always alarms there


def test_the_psi_is_evidentlys() -> None:
    draw = np.random.default_rng(3)
    before, window = draw.choice(4, 600, p=[0.4, 0.3, 0.3, 0]), draw.choice(4, 60, p=[0.3, 0, 0.5, 0.2])
    counts = [np.bincount(values, minlength=4) for values in (before, window)]
    told = evidently(before.astype(str), window.astype(str), "psi", category=True)
    assert stability_index(*counts) == pytest.approx(told, rel=1e-9)


def test_homogeneity_is_scipys_and_finite_where_a_category_is_new() -> None:
    before, window = np.array([0] * 50 + [1] * 30), np.array([0] * 5 + [2] * 6)
    codes, groups = two(before, window)
    found = chi_square_windows(codes, groups, 2, 3)
    told = stats.chi2_contingency(
        [np.bincount(before, minlength=3), np.bincount(window, minlength=3)], correction=False
    )
    assert found.statistic[0] == pytest.approx(told.statistic)
    assert found.freedom is not None
    assert found.freedom[0] == told.dof


values = st.lists(st.integers(-5, 5).map(lambda n: n / 2), min_size=12, max_size=60)


@settings(max_examples=60, deadline=None)
@given(values, st.integers(2, 5), st.randoms(use_true_random=False))
def test_each_window_is_compared_with_all_that_came_before_it(series: list[float], count: int, random) -> None:
    array = np.array(series)
    groups = np.sort([0, *(random.randrange(count) for _ in series[1:])])
    found = ks_windows(array, groups, count)
    by_category = chi_square_windows((2 * array + 10).astype(int), groups, count, 21)
    for window in range(1, count):
        mine, before = array[groups == window], array[groups < window]
        assert found.rows[window - 1] == len(mine) == by_category.rows[window - 1]
        if not len(mine):
            assert np.isnan(found.statistic[window - 1])
            assert np.isnan(by_category.statistic[window - 1])
            continue
        assert found.statistic[window - 1] == pytest.approx(stats.ks_2samp(before, mine).statistic, abs=1e-12)
        spread = max(array[groups < count - 1].std(), 1e-3)
        assert found.effect[window - 1] == pytest.approx(stats.wasserstein_distance(before, mine) / spread, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(values, st.floats(0.1, 50), st.floats(-100, 100))
def test_neither_scale_nor_place_nor_order_matters(series: list[float], scale: float, place: float) -> None:
    array = np.array([*series, 1.0, 2.0])
    groups = np.repeat([0, 1], [len(array) - 6, 6])
    plain, moved = ks_windows(array, groups, 2), ks_windows(array * scale + place, groups, 2)
    assert moved.statistic == pytest.approx(plain.statistic)
    within = np.concatenate([array[:-6][::-1], array[-6:][::-1]])
    assert ks_windows(within, groups, 2).statistic == pytest.approx(plain.statistic)


def test_a_window_is_as_wide_in_the_past_as_now() -> None:
    usual, count = np.array([-1.0, 1.1, -0.9, 1.2, -1.3, 0.8, 1.05]), 8
    found = []
    for odd in range(1, count):
        windows = np.tile(usual, (40, 1))  # the first 33 lie before the windows that are compared
        windows[32 + odd] *= 3
        groups = np.repeat([0] * 33 + list(range(1, count)), len(usual))
        found.append(spread_windows(windows.ravel(), groups, count)[odd - 1])
    assert found == pytest.approx([found[0]] * len(found), rel=1e-9)
    assert found[0] == pytest.approx(np.log(3.25 / 1.25), rel=1e-9)  # of widths 3 and 1, a quarter of one added to each


def test_of_heavy_tails_the_current_window_is_wide_as_often_as_the_past_ones() -> None:
    draw = np.random.default_rng(0)
    series = np.exp(draw.uniform(0.3, 1.2, (2_000, 1)) * autoregressive(2_000, 400, 0.6, draw))
    groups = np.maximum((np.arange(400) - 400) // 7 + 15, 0)
    found = np.stack([spread_windows(each, groups, 15) for each in series])
    assert found.shape == (2_000, 14)
    for share in (0.9, 0.99):
        wide = (found[:, -1] > np.quantile(found[:, :-1], share)).mean()
        assert wide == pytest.approx(1 - share, abs=4 * np.sqrt(share * (1 - share) / 2_000))
