"""The gate: what refuses a fleet, what a changed recipe must show, and which segments keep their incumbent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.champions.gate import (
    CLEARLY_WORSE,
    NO_CLEAN_ROW,
    NO_NUMBER,
    NOT_CLEARLY_BETTER,
    Decision,
    decide,
)
from assets.evaluation.pooled import Losses, Pooled
from resources.judging import Promotion

TOLERATED = 0.05
HORIZON = 4


def evaluation(
    rows: int = 8, metric: str = "wape", failed: int = 0, segments: int = 40, undefined: int = 0, **sums: float | None
) -> dict[str, Any]:
    errors = {name: None if total is None else total / 100 for name, total in sums.items()}
    return {
        "rows": rows,
        "metric": metric,
        "failed": failed,
        "undefined": undefined,
        "segments": segments,
        "compared": sums,
        "errors": {**dict.fromkeys(["incumbent"]), **errors},
    }


GOOD = evaluation(served=10.0, baseline=20.0)


def met(
    gains: np.ndarray | float,
    origins: int,
    segments: int = 100,
    noise: float = 0.02,
    same: bool | np.ndarray = False,
    periods: int | None = None,
    code: bool = True,
) -> Pooled:
    """What two fleets did on clean rows: the challenger's losses are lower by `gains`, give or take `noise`."""
    draw = np.random.default_rng(0)
    incumbent = draw.uniform(5, 50, (segments, 1)) * draw.uniform(0.8, 1.2, (segments, origins))
    better = np.broadcast_to(np.asarray(gains, dtype=float).reshape(-1, 1), (segments, 1))
    challenger = incumbent * (1 - better + noise * draw.standard_normal((segments, origins)))
    rows = np.full((segments, origins), HORIZON)
    every = same if isinstance(same, np.ndarray) else np.full(segments, same)
    return pooled_of(Losses(rows, challenger, incumbent), every, periods, code)


def pooled_of(losses: Losses, same: np.ndarray, periods: int | None = None, code: bool = True) -> Pooled:
    finite = losses.defined
    fleet = Losses(
        losses.rows.sum(axis=0, keepdims=True),
        losses.challenger[finite].sum(axis=0, keepdims=True),
        losses.incumbent[finite].sum(axis=0, keepdims=True),
    )
    known = losses.rows.shape[1] * HORIZON if periods is None else periods
    names = pa.array([f"s{n}" for n in range(len(same))], pa.string())
    return Pooled(
        names, same, losses, fleet, known, losses, known, HORIZON, bool(same.mean() > 0.5), code, "2024-03-20"
    )


def said(decision: Decision) -> str:
    return " ".join(decision.reasons)


@pytest.mark.parametrize(
    ("served", "baseline", "promoted", "reason"),
    [
        (10.0, 20.0, True, "0.1000"),
        (20.0, 20.0, True, "not worse"),
        (20.1, 20.0, False, "baseline's 0.2000"),
        (0.0, 0.0, True, "not worse"),
        (float("nan"), 20.0, False, "worse than the baseline"),
        (float("inf"), 20.0, False, "worse than the baseline"),
    ],
)
def test_a_first_fleet_must_not_be_worse_than_the_baseline(
    served: float, baseline: float, promoted: bool, reason: str
) -> None:
    decision = decide(evaluation(served=served, challenger=0.0, baseline=baseline), TOLERATED)
    assert decision.promote is promoted
    assert decision.worse is not promoted
    assert reason in said(decision)


def test_what_would_serve_is_judged_not_the_unselected_models() -> None:
    assert decide(evaluation(served=10.0, challenger=99.0, baseline=20.0), TOLERATED).promote
    assert not decide(evaluation(served=22.0, challenger=1.0, baseline=20.0), TOLERATED).promote


def test_an_incumbents_error_on_the_whole_holdout_which_it_was_chosen_by_decides_nothing() -> None:
    assert decide(evaluation(served=10.0, incumbent=9.0, baseline=20.0), TOLERATED).promote


def test_a_holdout_without_a_label_promotes_nobody() -> None:
    decision = decide(evaluation(rows=0, served=None, baseline=None), TOLERATED)
    assert not decision.promote
    assert "no labelled row" in decision.reasons[0]


def test_a_metric_without_a_value_is_said_so() -> None:
    undefined = {**GOOD, "compared": {"served": 2.0, "baseline": 1.0}, "errors": dict.fromkeys(["served", "baseline"])}
    assert "undefined" in decide(undefined, TOLERATED).reasons[0]


@pytest.mark.parametrize(
    ("failed", "undefined", "segments", "tolerated", "promoted"),
    [
        (2, 0, 40, 0.05, True),
        (3, 0, 40, 0.05, False),
        (1, 0, 40, 0.0, False),
        (0, 0, 40, 0.0, True),
        (40, 0, 40, 1.0, True),
        (0, 2, 40, 0.05, True),
        (1, 2, 40, 0.05, False),
    ],
)
def test_more_failures_than_are_tolerated_refuse_a_better_fleet(
    failed: int, undefined: int, segments: int, tolerated: float, promoted: bool
) -> None:
    record = evaluation(served=10.0, baseline=20.0, failed=failed, segments=segments, undefined=undefined)
    decision = decide(record, tolerated)
    assert decision.promote is promoted
    assert (f"{failed} of {segments} segments failed" in said(decision)) is not promoted


def test_every_rule_that_is_broken_is_named() -> None:
    record = evaluation(served=30.0, baseline=20.0, failed=9)
    record |= {"worse_than_baseline": {"segments": 30, "of": 40}, "bias": {"served": -0.7}}
    decision = decide(record, TOLERATED)
    assert len(decision.reasons) == 4
    for part in (
        "baseline's",
        "30 of 40 segments are worse than the baseline",
        "off by -70.0%",
        "9 of 40 segments failed",
    ):
        assert part in said(decision)


@pytest.mark.parametrize(("worse", "promoted"), [(20, True), (21, False)])
def test_too_many_segments_worse_than_the_baseline(worse: int, promoted: bool) -> None:
    record = {**GOOD, "worse_than_baseline": {"segments": worse, "of": 40}}
    assert decide(record, TOLERATED, Promotion(worse_than_baseline=0.5)).promote is promoted


@pytest.mark.parametrize(("bias", "promoted"), [(0.3, True), (-0.3, True), (0.31, False), (-0.31, False), (None, True)])
def test_too_much_bias(bias: float | None, promoted: bool) -> None:
    assert decide({**GOOD, "bias": {"served": bias}}, TOLERATED, Promotion(bias=0.3)).promote is promoted


# the same recipe on newer data


@pytest.mark.parametrize(
    ("gain", "promoted"), [(0.1, True), (0.0, True), (-0.015, True), (-0.03, False), (-0.5, False)]
)
def test_the_same_recipe_is_promoted_unless_it_is_worse_by_more_than_the_tolerance(gain: float, promoted: bool) -> None:
    decision = decide(GOOD, TOLERATED, Promotion(tolerance=0.02), met(gain, 1, same=True))
    assert decision.promote is promoted
    assert decision.worse is not promoted
    assert not decision.refit
    assert ("promotion.tolerance" in said(decision)) is not promoted


def test_what_may_be_luck_among_the_segments_is_not_worse() -> None:
    unlucky = met(-0.04, 1, segments=12, noise=0.3, same=True)
    decision = decide(GOOD, TOLERATED, Promotion(), unlucky)
    assert decision.improvement is not None
    assert decision.improvement.share < -0.02
    assert decision.promote
    alone = met(-0.04, 1, segments=1, noise=0.0, same=True)
    assert not decide(GOOD, TOLERATED, Promotion(), alone).promote, "of one segment and one origin nothing excuses"


@pytest.mark.parametrize(("gain", "promoted"), [(-0.035, True), (-0.05, False)])
def test_the_tolerance_is_wider_the_fewer_the_periods(gain: float, promoted: bool) -> None:
    one_of_four = met(gain, 1, same=True, periods=1)
    assert decide(GOOD, TOLERATED, Promotion(tolerance=0.02), one_of_four).promote is promoted


def test_a_bad_week_is_not_hidden_by_good_ones_before() -> None:
    before = met(0.05, 12, same=True)
    bad = met(-0.2, 1, same=True)
    weeks = Pooled(**{**vars(before), "latest": bad.segments, "latest_periods": HORIZON})
    decision = decide(GOOD, TOLERATED, Promotion(), weeks)
    assert not decision.promote
    assert "this week's 4 clean periods" in said(decision)


def test_no_clean_row_leaves_the_same_recipe_undecided_and_promoted() -> None:
    nothing = pooled_of(Losses(*(np.zeros((3, 0)) for _ in range(3))), np.ones(3, dtype=bool))
    decision = decide(GOOD, TOLERATED, Promotion(), nothing)
    assert decision.promote
    assert len(decision.kept) == 0
    assert "no row after 2024-03-20" in said(decision)


def test_a_segment_whose_challenger_is_clearly_worse_keeps_its_incumbent() -> None:
    gains = np.where(np.arange(100) < 5, -0.4, 0.0)
    decision = decide(GOOD, TOLERATED, Promotion(tolerance=0.1), met(gains, 8, same=True))
    assert decision.promote
    assert sorted(decision.kept["segment"].to_pylist()) == [f"s{n}" for n in range(5)]
    assert set(decision.kept["why"].to_pylist()) == {CLEARLY_WORSE}


def test_with_few_origins_no_segment_is_judged_alone() -> None:
    gains = np.where(np.arange(100) < 5, -0.4, 0.0)
    decision = decide(GOOD, TOLERATED, Promotion(tolerance=0.1), met(gains, 3, same=True))
    assert decision.promote
    assert len(decision.kept) == 0


def test_a_segment_of_another_recipe_must_be_clearly_better_even_in_a_fleet_of_the_same() -> None:
    other = np.arange(100) >= 90
    gains = np.where(np.arange(100) >= 95, 0.3, 0.0)
    decision = decide(GOOD, TOLERATED, Promotion(), met(gains, 8, same=~other))
    assert decision.promote
    assert decision.kept.to_pydict() == {"segment": [f"s{n}" for n in range(90, 95)], "why": [NOT_CLEARLY_BETTER] * 5}


def test_other_code_alone_is_no_other_recipe_and_is_said() -> None:
    decision = decide(GOOD, TOLERATED, Promotion(), met(0.0, 1, same=True, code=False))
    assert decision.promote
    assert "by today's code" in said(decision)


# a changed recipe


@pytest.mark.parametrize("origins", [1, 3, 4, 12])
@pytest.mark.parametrize(("gain", "promoted"), [(0.05, True), (0.0, False), (-0.05, False)])
def test_a_changed_recipe_must_be_clearly_better(origins: int, gain: float, promoted: bool) -> None:
    decision = decide(GOOD, TOLERATED, Promotion(), met(gain, origins))
    assert (decision.promote, decision.refit, decision.worse) == (promoted, not promoted, False)
    assert decision.improvement is not None
    assert decision.improvement.share == pytest.approx(gain, abs=0.01)
    assert decision.improvement.low < decision.improvement.share < decision.improvement.high
    assert decision.clean_periods == origins * HORIZON
    assert decision.clean_rows == 100 * origins * HORIZON


def test_with_few_origins_a_small_margin_is_asked_for_beside_certainty() -> None:
    certain = met(0.005, 2, noise=0.0001)
    assert not decide(GOOD, TOLERATED, Promotion(margin=0.01), certain).promote
    assert decide(GOOD, TOLERATED, Promotion(margin=0.001), certain).promote
    assert decide(GOOD, TOLERATED, Promotion(margin=0.01), met(0.005, 5, noise=0.0001)).promote


def test_a_gain_that_one_origin_made_is_not_clear() -> None:
    """Ninety-nine origins say nothing against luck if the gain lies in one: all segments share it."""
    one = met(0.0, 6, noise=0.001)
    challenger = one.segments.challenger.copy()
    challenger[:, 0] *= 0.5
    lucky = pooled_of(Losses(one.segments.rows, challenger, one.segments.incumbent), one.same)
    decision = decide(GOOD, TOLERATED, Promotion(), lucky)
    assert decision.improvement is not None
    assert decision.improvement.share > 0.05
    assert decision.refit


def test_without_a_clean_row_a_changed_recipe_waits_and_says_since_when() -> None:
    nothing = pooled_of(Losses(*(np.zeros((3, 0)) for _ in range(3))), np.zeros(3, dtype=bool))
    decision = decide(GOOD, TOLERATED, Promotion(), nothing)
    assert (decision.promote, decision.refit, decision.worse) == (False, True, False)
    assert "those after 2024-03-20 count" in said(decision)


def test_a_changed_recipe_that_breaks_a_fleet_rule_is_refused_however_much_better() -> None:
    decision = decide(evaluation(served=21.0, baseline=20.0), TOLERATED, Promotion(), met(0.2, 8))
    assert (decision.promote, decision.worse) == (False, True)


@pytest.mark.parametrize("origins", [2, 8])
def test_no_segment_changes_its_recipe_unseen_or_by_an_error_that_is_no_number(origins: int) -> None:
    plain = met(0.1, origins, noise=0.002)
    rows, challenger, incumbent = (
        part.copy() for part in (plain.segments.rows, plain.segments.challenger, plain.segments.incumbent)
    )
    rows[7], challenger[7], incumbent[7] = 0, 0.0, 0.0
    challenger[8, 0] = np.nan
    decision = decide(GOOD, TOLERATED, Promotion(), pooled_of(Losses(rows, challenger, incumbent), plain.same))
    assert decision.promote
    assert decision.kept.to_pydict() == {"segment": ["s7", "s8"], "why": [NO_CLEAN_ROW, NO_NUMBER]}


def test_segments_that_a_better_recipe_makes_clearly_worse_stay() -> None:
    gains = np.where(np.arange(100) < 4, -0.5, 0.1)
    decision = decide(GOOD, TOLERATED, Promotion(), met(gains, 8))
    assert decision.promote
    assert sorted(decision.kept["segment"].to_pylist()) == ["s0", "s1", "s2", "s3"]


def test_the_same_question_has_the_same_answer() -> None:
    first, second = (decide(GOOD, TOLERATED, Promotion(), met(0.03, 5)) for _ in range(2))
    assert first.improvement == second.improvement
    assert first.reasons == second.reasons
