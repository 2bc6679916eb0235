"""Live errors against the promise: a bet that may be looked at every day."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.drift.errors import expected_errors, wealth
from assets.drift.multiplicity import e_benjamini_hochberg


def looked_at_every_day(ratios: np.ndarray) -> np.ndarray:
    """The e-values of some segments (segments, issues) after each issue."""
    segments, issues = ratios.shape
    places = np.tile(np.arange(segments), (issues, 1)).T
    return np.stack([wealth(ratios[:, :n].ravel(), places[:, :n].ravel(), segments) for n in range(issues + 1)], axis=1)


def test_wealth_starts_at_one_and_whoever_waits_for_a_good_day_gains_nothing() -> None:
    draw = np.random.default_rng(0)
    ratios = draw.exponential(1.0, (4_000, 60))  # of mean one: exactly as bad as may be
    found = looked_at_every_day(ratios)
    assert (found[:, 0] == 1).all()
    assert found[:, -1].mean() < 1.6  # a heavy tail, of mean one
    # Ville: the wealth ever comes to 20 for at most a twentieth, whenever one looks
    assert (found.max(axis=1) >= 20).mean() <= 0.05


def test_what_got_worse_is_found_and_the_sooner_the_worse() -> None:
    draw = np.random.default_rng(1)
    days = [
        (looked_at_every_day(draw.gamma(8, worse / 8, (200, 80))) >= 200 / 0.05).any(axis=0).argmax()
        for worse in (1.5, 2.0, 4.0)
    ]
    assert 0 < days[2] < days[1] <= days[0] or days[0] == 0
    assert 0 < days[2] <= 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=40), st.floats(0.001, 0.3))
def test_e_bh_finds_no_more_than_it_may(values: list[float], rate: float) -> None:
    e_values = np.array([*values, np.nan])
    found = e_benjamini_hochberg(e_values, rate)
    assert not found[-1]
    count = found.sum()
    if count:
        assert e_values[found].min() >= len(values) / (rate * count)
        assert np.nanmax(np.where(found, -np.inf, e_values)) < e_values[found].min()
    ordered = np.sort(values)[::-1]
    possible = [k for k in range(1, len(values) + 1) if ordered[k - 1] >= len(values) / (rate * k)]
    assert count >= max(possible, default=0)


def test_a_promise_of_few_rows_is_trusted_less() -> None:
    count, mean = np.array([4.0, 28.0, 400.0, 0.0]), 2.0
    squares = count * (mean**2) * 1.57  # as of normal errors
    bound = expected_errors(count, count * mean, squares, 0.5)
    assert bound[0] > bound[1] > bound[2] > 3.0
    assert bound[2] == pytest.approx(3.0, rel=0.2)
    assert np.isnan(bound[3])
