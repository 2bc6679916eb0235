"""The baseline of labels that are mostly zero, beside a loop that does what the paper says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.models.baseline import baseline_forecasts, seasonal_median
from assets.models.intermittent import SMOOTHING, mostly_zero, smoothed_demand
from tests.models.small import recipe


def slow(periods: list[int], labels: list[float], origin: int, otherwise: float) -> float:
    often = much = None
    for period, label in zip(periods, labels, strict=True):
        if period > origin or np.isnan(label):
            continue
        occurs = float(label != 0)
        often = occurs if often is None else often + SMOOTHING * (occurs - often)
        if occurs:
            much = label if much is None else much + SMOOTHING * (label - much)
    return otherwise if often is None else often * (much or 0.0)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.integers(0, 60), st.sampled_from([0.0, 0.0, 0.0, 1.0, 5.0, np.nan]), max_size=40),
    st.lists(st.integers(-5, 70), min_size=1, max_size=5),
)
def test_it_says_what_the_loop_says(history: dict[int, float], origins: list[int]) -> None:
    periods = sorted(history)
    labels = [history[period] for period in periods]
    found = smoothed_demand(np.array(periods, dtype=int), np.array(labels, dtype=float), np.array(origins), 3.0)
    assert found == pytest.approx([slow(periods, labels, origin, 3.0) for origin in origins])


def test_it_stands_in_for_the_median_where_labels_were_mostly_zero_before_the_origin() -> None:
    asked, periods, targets = recipe(), np.arange(60), np.arange(50, 60)
    origins = np.full(10, 49)
    rare = np.where(periods % 4 == 0, 8.0, 0.0)
    assert baseline_forecasts(asked, periods, rare, targets, origins)["median"] == pytest.approx(
        [slow(list(periods), list(rare), 49, 0.0)] * 10
    )
    later = np.where(periods < 50, 5.0 + periods, 0.0)  # zeros that nobody knows of yet
    said = baseline_forecasts(asked, periods, later, targets, origins)["median"]
    np.testing.assert_array_equal(said, seasonal_median(periods, later, targets, origins, asked.season))


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [([0, 0, 1], True), ([0, 1, 2], False), ([0, 0, 0], False), ([0, 0, -1], False), ([], False), ([np.nan], False)],
)
def test_what_is_mostly_zero(labels: list[float], wanted: bool) -> None:
    assert mostly_zero(np.array(labels, dtype=float)) is wanted
