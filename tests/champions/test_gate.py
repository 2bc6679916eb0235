"""The gate: promoted unless the holdout says that the fleet is worse in total than incumbent or baseline."""

from __future__ import annotations

from typing import Any

import pytest

from assets.champions.gate import decide

TOLERATED = 0.05


def evaluation(
    rows: int = 8, metric: str = "wape", failed: int = 0, segments: int = 40, **sums: float | None
) -> dict[str, Any]:
    errors = {name: None if total is None else total / 100 for name, total in sums.items()}
    return {
        "rows": rows,
        "metric": metric,
        "failed": failed,
        "segments": segments,
        "compared": sums,
        "errors": {**dict.fromkeys(["incumbent"]), **errors},
    }


@pytest.mark.parametrize(
    ("served", "incumbent", "baseline", "promoted", "said"),
    [
        (10.0, None, 20.0, True, "0.1000"),
        (20.0, None, 20.0, True, "not worse"),
        (20.1, None, 20.0, False, "baseline's 0.2000"),
        (10.0, 11.0, 20.0, True, "not worse"),
        (10.0, 10.0, 20.0, True, "not worse"),
        (10.0, 9.9, 20.0, False, "incumbent's 0.0990"),
        (10.0, 20.0, 9.0, False, "baseline's 0.0900"),
        (0.0, 0.0, 0.0, True, "not worse"),
    ],
)
def test_the_gate(served: float, incumbent: float | None, baseline: float, promoted: bool, said: str) -> None:
    sums = {"served": served, "challenger": 0.0, "baseline": baseline}
    decision = decide(evaluation(**sums, **({} if incumbent is None else {"incumbent": incumbent})), TOLERATED)
    assert decision.promote is promoted
    assert said in " ".join(decision.reasons)


def test_worse_than_both_names_both() -> None:
    assert len(decide(evaluation(served=30.0, incumbent=10.0, baseline=20.0), TOLERATED).reasons) == 2


def test_what_would_serve_is_judged_not_the_unselected_models() -> None:
    assert decide(evaluation(served=10.0, challenger=99.0, incumbent=11.0, baseline=20.0), TOLERATED).promote
    assert not decide(evaluation(served=12.0, challenger=1.0, incumbent=11.0, baseline=20.0), TOLERATED).promote


def test_a_holdout_without_a_label_promotes_nobody() -> None:
    decision = decide(evaluation(rows=0, served=None, baseline=None), TOLERATED)
    assert not decision.promote
    assert "no labelled row" in decision.reasons[0]


@pytest.mark.parametrize("total", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_promotes_nobody(total: float) -> None:
    assert not decide(evaluation(served=total, baseline=20.0), TOLERATED).promote


def test_a_metric_without_a_value_is_said_so() -> None:
    undefined = {
        "rows": 3,
        "metric": "wape",
        "failed": 0,
        "segments": 3,
        "compared": {"served": 2.0, "baseline": 1.0},
        "errors": dict.fromkeys(["served", "baseline"]),
    }
    assert "undefined" in decide(undefined, TOLERATED).reasons[0]


@pytest.mark.parametrize(
    ("failed", "segments", "tolerated", "promoted"),
    [(2, 40, 0.05, True), (3, 40, 0.05, False), (1, 40, 0.0, False), (0, 40, 0.0, True), (40, 40, 1.0, True)],
)
def test_more_failures_than_are_tolerated_refuse_a_better_fleet(
    failed: int, segments: int, tolerated: float, promoted: bool
) -> None:
    decision = decide(evaluation(served=10.0, baseline=20.0, failed=failed, segments=segments), tolerated)
    assert decision.promote is promoted
    assert any(f"{failed} of {segments} segments failed" in reason for reason in decision.reasons) is not promoted


def test_failures_are_named_beside_a_worse_error() -> None:
    assert len(decide(evaluation(served=30.0, incumbent=10.0, baseline=20.0, failed=9), TOLERATED).reasons) == 3
