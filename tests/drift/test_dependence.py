"""Effective sample sizes of autocorrelated series, and what is taken off as known structure."""

from __future__ import annotations

import numpy as np
import pytest

from assets.drift.dependence import Inflation, autocorrelations
from assets.drift.season import Seasons, adjusted
from tests.drift.series import autoregressive


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.8])
def test_a_row_is_worth_what_the_variance_of_means_says(rho: float) -> None:
    series = autoregressive(400, 700, rho, np.random.default_rng(0))
    found = Inflation.of(autocorrelations(series))
    windows = series.reshape(400, 100, 7).mean(axis=2)
    told = windows.var() * 7
    assert np.mean([found.variance(n, np.array([7]))[0] for n in range(400)]) == pytest.approx(told, rel=0.12)


def test_independent_rows_are_worth_themselves_and_none_is_worth_more() -> None:
    alternating = np.tile([1.0, -1.0], 50)[None]
    assert Inflation.of(autocorrelations(alternating)).effective(0, np.array([10]), np.array([90]))[0] == 9.0
    constant, empty = np.ones((1, 50)), np.full((1, 50), np.nan)
    for series in (constant, empty, np.ones((1, 3))):
        assert (Inflation.of(autocorrelations(series)).variance(0, np.array([1, 5, 40])) == 1).all()


def test_empty_cells_leave_the_rest_as_it_is() -> None:
    draw = np.random.default_rng(1)
    series = autoregressive(50, 600, 0.8, draw)
    holed = np.where(draw.random(series.shape) < 0.05, np.nan, series)
    whole, found = (Inflation.of(autocorrelations(each)) for each in (series, holed))
    rows = np.array([28])
    means = [np.mean([each.variance(n, rows)[0] for n in range(50)]) for each in (whole, found)]
    assert means[1] == pytest.approx(means[0], rel=0.2)


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("D", Seasons(7, 7, 52)),
        ("h", Seasons(168, 168, 52)),
        ("W-FRI", Seasons(1, 1, 52)),
        ("MS", Seasons(1, 1, 12)),
        ("B", Seasons(5, 5, 52)),
        ("YS", Seasons(1, 1, 0)),
    ],
)
def test_seasons_follow_the_frequency(frequency: str, expected: Seasons) -> None:
    assert Seasons.of(frequency) == expected


def test_a_season_is_taken_off_and_what_has_none_stays() -> None:
    draw = np.random.default_rng(2)
    periods = np.arange(15_000, 15_800)
    reference = periods < 15_760
    plain = autoregressive(60, 800, 0.5, draw)
    season = 3 * np.sin(2 * np.pi * periods / 364) + 2.0 * (periods % 7 == 3)
    quiet, seasonal = (adjusted(each, periods, reference, Seasons(7, 7, 52)) for each in (plain, plain + season))
    assert np.corrcoef(quiet.ravel(), plain.ravel())[0, 1] > 0.98
    assert (plain + season).std() > 2.3
    assert seasonal.std() < 1.3


def test_what_is_taken_off_is_learnt_from_the_reference_alone() -> None:
    draw = np.random.default_rng(3)
    periods = np.arange(1_000, 1_800)
    reference = periods < 1_760
    series = autoregressive(5, 800, 0.5, draw) + 2.0 * (periods % 7 == 3)
    shifted = np.where(reference, series, series + 100 * (periods % 7 == 1))
    some, other = (adjusted(each, periods, reference, Seasons(7, 7, 52)) for each in (series, shifted))
    assert np.array_equal(some[:, reference], other[:, reference])
    assert np.allclose((other - some)[:, ~reference], (shifted - series)[:, ~reference])
