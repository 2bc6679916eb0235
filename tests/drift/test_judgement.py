"""Few false alarms: quiet fleets of autocorrelated series, and what is found when something changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.drift.calibration import Null, quiet_only
from assets.drift.judgement import Judgement, judge, quiet_share
from assets.drift.multiplicity import benjamini_hochberg, simes
from assets.drift.scores import distinct_series, innovations, own_scores, without_common
from assets.drift.season import Seasons
from assets.drift.windows import MOST_PAST, TESTS, Plan, compared
from tests.drift.series import Floats, autoregressive

LAST = 15_729
NO_SEASON = Seasons(1, 1, 0)


def statistics_of(series: Floats, window: int) -> tuple[Floats, Floats]:
    """Statistics and effects of (segments, features, rows), the last `window` of them current."""
    _, features, rows = series.shape
    periods, plan = np.arange(LAST - rows + 1, LAST + 1), Plan(LAST - window, LAST - window, LAST)
    numbers = np.zeros(features, dtype=bool)
    found = [compared(each, numbers, periods, plan, NO_SEASON) for each in series]
    return (
        np.stack([each.statistics.reshape(-1, MOST_PAST + 1) for each in found]),
        np.stack([each.effects.ravel() for each in found]),
    )


def judged(series: Floats, window: int = 7, rate: float = 0.05, least: float = 0.0) -> Judgement:
    statistics, effects = statistics_of(series, window)
    return judge(statistics, effects, np.zeros(len(series), dtype=np.int64), rate, least)


def test_a_quiet_fleet_of_autocorrelated_series_is_quiet() -> None:
    draw = np.random.default_rng(0)
    found = [judged(autoregressive(100, 400, 0.8, draw).reshape(50, 2, 400)) for _ in range(20)]
    p_values = np.concatenate([each.p_values for each in found])
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert 0.38 < (p_values <= 0.5).mean() < 0.56  # in the middle on the safe side: never below Simes' own
    assert sum(each.drifted.any() for each in found) <= 4  # 20 weeks, of which a twentieth may alarm
    naive = [stats.ks_2samp(row[:-7], row[-7:]).pvalue for row in autoregressive(200, 400, 0.8, draw)]
    assert np.mean(np.array(naive) < 0.05) > 0.3  # what is kept from being cried


def test_what_shifted_is_found_and_nothing_else_is() -> None:
    series = autoregressive(240, 400, 0.6, np.random.default_rng(1)).reshape(60, 4, 400)
    series[[3, 17, 40], 2, -14:] += 5.0  # one feature of three segments
    found = judged(series, window=14)
    assert found.drifted[[3, 17, 40]].all()
    assert found.drifted.sum() <= 4
    told = found.telling[3].reshape(4, len(TESTS)).any(axis=1)
    assert told.tolist() == [False, False, True, False]


def test_an_effect_that_does_not_matter_is_no_alarm() -> None:
    series = autoregressive(60, 400, 0.6, np.random.default_rng(2)).reshape(60, 1, 400)
    series[3, 0, -14:] += 5.0
    assert judged(series, 14, least=2.0).drifted.tolist() == judged(series, 14).drifted.tolist()
    assert not judged(series, 14, least=20.0).drifted.any()


def test_a_fleet_that_moves_as_it_always_has_is_quiet_and_one_that_never_did_is_not() -> None:
    draw = np.random.default_rng(3)
    series = autoregressive(60, 406, 0.3, draw)
    weekly = np.repeat(draw.normal(0, 1.0, 58), 7)  # holidays, strikes: every segment moves
    weekly[-7:] = 1.5
    common = (series + weekly)[:, None]
    assert judged(common).drifted.mean() < 0.1
    common[:, :, -7:] += 30
    assert judged(common).drifted.mean() > 0.9


def test_a_third_of_the_fleet_drifting_at_once_is_found() -> None:
    series = autoregressive(90, 400, 0.6, np.random.default_rng(4)).reshape(90, 1, 400)
    series[:30, 0, -14:] += 6.0
    found = judged(series, 14)
    assert found.drifted[:30].mean() > 0.9
    assert found.drifted[30:].mean() < 0.1


def test_weeks_that_were_not_quiet_mask_nothing() -> None:
    series = autoregressive(90, 400, 0.6, np.random.default_rng(5)).reshape(90, 1, 400)
    series[:5, 0, -49:-42] += 8.0  # what drifted before, and was trained on
    series[50:53, 0, -7:] += 8.0
    found = judged(series)
    assert found.drifted[50:53].all()
    assert not found.drifted[:5].any()


def test_too_few_quiet_windows_are_no_null_and_no_alarm() -> None:
    series = autoregressive(2, 400, 0.6, np.random.default_rng(6)).reshape(2, 1, 400)
    series[0, 0, -7:] += 50
    found = judged(series)
    assert not found.calibrated
    assert not found.drifted.any()


def test_what_would_have_been_alarmed_the_week_before_is_counted() -> None:
    series = autoregressive(90, 400, 0.6, np.random.default_rng(7)).reshape(90, 1, 400)
    rule = (np.zeros(90, dtype=np.int64), 0.05, 0.0)
    assert quiet_share(*statistics_of(series, 7), *rule) <= 0.03
    series[:30, 0, -14:-7] += 8.0
    assert quiet_share(*statistics_of(series, 7), *rule) > 0.2


def test_the_null_is_uniform_by_rank_and_its_tail_goes_on() -> None:
    draw = np.random.default_rng(8)
    null = Null.of(draw.standard_normal(5_000))
    assert null is not None
    fresh = draw.standard_normal(20_000)
    assert (null.p_values(fresh) <= 0.01).mean() == pytest.approx(0.01, abs=0.004)
    far = null.p_values(np.array([2.0, 4.0, 6.0, np.nan]))
    assert far[0] > far[1] > far[2] > 0
    assert 1e-7 < far[1] < 1e-3  # the normal tail's is 3e-5
    assert np.isnan(far[3])
    assert Null.of(np.ones(10)) is None


def test_scores_forget_each_segments_own_place_and_spread() -> None:
    draw = np.random.default_rng(9)
    plain = draw.standard_normal((2_000, 14))
    scores = own_scores(plain * draw.uniform(0.5, 3, (2_000, 1)) + draw.normal(0, 5, (2_000, 1)))
    assert abs(np.median(scores)) < 0.1
    assert stats.ks_2samp(scores[:, -1], scores[:, 3]).pvalue > 0.001  # now and then are exchangeable
    assert np.isnan(own_scores(np.where(np.arange(14) == 3, np.nan, plain))[:, 3]).all()


def test_common_movement_is_taken_off_up_to_what_was_seen() -> None:
    scores = np.zeros((20, 15))
    scores[:, :14] = np.random.default_rng(0).normal(0, 1, 14)
    scores[:, 14] = 2.5
    assert without_common(scores, 0.001)[0, 14] == 0.0  # such weeks come
    scores[:, 14] = 30.0
    assert without_common(scores, 0.001)[0, 14] > 20
    assert without_common(scores[:5], 0.001)[0].tolist() == scores[0].tolist()


def test_a_feature_that_wanders_off_is_news_only_by_its_steps() -> None:
    draw = np.random.default_rng(11)
    plain = draw.standard_normal((200, 14))
    assert np.array_equal(innovations(plain), plain)
    wandering = plain.cumsum(axis=1)
    found = innovations(wandering)
    assert np.isnan(found[:, 0]).all()
    assert np.corrcoef(found[:, 1:].ravel(), plain[:, 1:].ravel())[0, 1] > 0.95


def test_what_segments_share_counts_as_one_series() -> None:
    draw = np.random.default_rng(12)
    regions = draw.standard_normal((3, 13))
    shared = regions[np.arange(300) % 3]
    assert distinct_series(shared) < 8
    assert distinct_series(draw.standard_normal((300, 13))) > 50
    assert distinct_series(np.zeros((5, 13))) == 0
    assert distinct_series(np.full((5, 13), np.nan)) == 0


def test_past_drift_is_left_out_of_the_null_but_not_how_the_fleet_is() -> None:
    draw = np.random.default_rng(10)
    scores = draw.standard_normal((300, 13))
    assert len(quiet_only(scores)) == scores.size
    once = scores.copy()
    once[:8, 2], once[5:7, 4] = 30.0, 25.0
    assert quiet_only(once).max() < 10
    assert len(quiet_only(once)) >= scores.size - 10
    always = scores.copy()
    always[0] = draw.uniform(20, 40, 13)  # some segment is odd each week
    assert len(quiet_only(always)) == scores.size
    assert len(quiet_only(np.full((3, 13), np.nan))) == 0


fractions = st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(fractions, st.floats(0.001, 0.3))
def test_benjamini_hochberg_is_scipys(p_values: list[float], rate: float) -> None:
    array = np.array(p_values)
    told = stats.false_discovery_control(array) <= rate * (1 + 1e-12)
    found = benjamini_hochberg(np.append(array, np.nan), rate)
    assert not found[-1]
    assert (found[:-1] == told).all() or np.isclose(stats.false_discovery_control(array), rate).any()


@settings(max_examples=100, deadline=None)
@given(fractions)
def test_simes_lies_between_the_least_and_bonferroni(p_values: list[float]) -> None:
    row = np.array([*p_values, np.nan])
    found = simes(np.stack([row, np.full(len(row), np.nan)]))
    assert min(p_values) - 1e-12 <= found[0] <= min(1.0, len(p_values) * min(p_values)) + 1e-12
    assert np.isnan(found[1])
