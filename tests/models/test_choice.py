"""Who serves: what wins on the fold, shrunk towards what wins in total; the baseline where nothing is known."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from assets.models.choice import chosen, serves_unproven
from assets.models.line import LINE

NOTHING = float("nan")


def line(
    model: float | None = None, fleet: float | None = None, baseline: float | None = None, **keys: Any
) -> dict[str, Any]:
    """A segment's line with absolute errors; squared ones are the other way round, unless given."""
    errors = {"fold_model": model, "fold_fleet": fleet, "fold_baseline": baseline}
    given = {f"{name}_absolute": value for name, value in errors.items()}
    given |= {f"{name}_squared": None if not value else 1 / value for name, value in errors.items()}
    status = "trained" if model is not None else "skipped"
    return {**dict.fromkeys(LINE.names), "status": status, **given, **keys}


def serves(*lines: dict[str, Any], metric: str = "wape") -> list[str]:
    return chosen(pa.Table.from_pylist(list(lines), LINE), metric).to_pylist()


@pytest.mark.parametrize(
    ("model", "baseline", "who"),
    [(1.0, 2.0, "segment"), (2.0, 1.0, "baseline"), (2.0, 2.0, "baseline"), (0.0, 0.0, "baseline")],
)
@pytest.mark.parametrize("metric", ["wape", "mae"])
def test_a_segment_alone_is_served_by_what_erred_least_and_ties_go_to_the_baseline(
    model: float, baseline: float, who: str, metric: str
) -> None:
    assert serves(line(model, None, baseline), metric=metric) == [who]


def test_rmse_looks_at_squares() -> None:
    one = line(model=1.0, baseline=2.0)
    assert one["fold_model_squared"] > one["fold_baseline_squared"]
    assert serves(one) == ["segment"]
    assert serves(one, metric="rmse") == ["baseline"]
    fleet = line(model=5.0, fleet=9.0, baseline=2.0)
    assert serves(fleet) == ["baseline"]
    assert serves(fleet, metric="rmse") == ["fleet"]


@pytest.mark.parametrize(
    ("fleet", "who"), [(0.5, "fleet"), (1.0, "segment"), (2.0, "segment"), (None, "segment"), (NOTHING, "segment")]
)
def test_the_fleet_wide_model_serves_only_where_it_beats_both(fleet: float | None, who: str) -> None:
    assert serves(line(1.0, fleet, 2.0)) == [who]


def test_each_segment_has_its_own_winner() -> None:
    lines = [line(1.0, 20.0, 20.0), line(20.0, 20.0, 1.0), line(20.0, 1.0, 20.0)]
    assert serves(*lines) == ["segment", "baseline", "fleet"]


def test_a_narrow_win_is_outvoted_by_the_fleet_a_wide_one_is_not() -> None:
    """By hand: the model's share is (9 + 500) / 110 = 4.6, and 9 + 46 > 10 + 10; then (1 + 105) / 110, 1 + 9.6 < 20."""
    many = [line(50.0, None, 10.0) for _ in range(10)]
    assert serves(line(9.0, None, 10.0), *many)[0] == "baseline"
    few = [line(10.5, None, 10.0) for _ in range(10)]
    assert serves(line(1.0, None, 10.0), *few) == ["segment", *["baseline"] * 10]


def test_by_hand_on_the_edge() -> None:
    """Share of the model (8 + 13) / 20 = 1.05: it scores 8 + 10.5 against the baseline's 20, and 13 + 10.5."""
    assert serves(line(8.0, None, 10.0), line(13.0, None, 10.0)) == ["segment", "baseline"]
    assert serves(line(9.3, None, 10.0), line(11.8, None, 10.0)) == ["segment", "baseline"]
    assert serves(line(9.4, None, 10.0), line(12.0, None, 10.0)) == ["baseline", "baseline"]


@pytest.mark.parametrize(
    ("first", "second", "who"), [(9.0, 2.0, "fleet"), (10.5, 2.0, "fleet"), (9.5, 12.0, "baseline")]
)
def test_skipped_segments_are_served_by_the_fleet_where_it_is_better_in_total_there(
    first: float, second: float, who: str
) -> None:
    """On the trained segments the fleet-wide model is the opposite of what it is on the skipped ones."""
    elsewhere = 100.0 if who == "fleet" else 0.1
    lines = [line(None, first, 10.0), line(None, second, 10.0), line(5.0, elsewhere, 10.0)]
    assert serves(*lines)[:2] == [who, who]


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_segment_of_which_nothing_was_judged_follows_the_totals_and_never_a_model_it_has_not(status: str) -> None:
    unknown = line(status=status, fold_count=0)
    assert serves(unknown, line(1.0, 5.0, 10.0)) == ["fleet", "segment"]
    assert serves(unknown, line(1.0, 15.0, 10.0)) == ["baseline", "segment"]
    assert serves(unknown, line(1.0, None, 10.0)) == ["baseline", "segment"]
    assert serves(unknown) == ["baseline"]


def test_a_model_without_a_fold_does_not_serve() -> None:
    unjudged = line(status="trained", fold_baseline_absolute=10.0)
    assert serves(unjudged, line(0.1, None, 10.0)) == ["baseline", "segment"]


def test_a_failed_segment_is_never_served_by_its_own_model() -> None:
    assert serves(line(0.0, None, 10.0, status="failed")) == ["baseline"]
    assert serves(line(0.0, 5.0, 10.0, status="failed")) == ["fleet"]


@pytest.mark.parametrize("error", [NOTHING, float("inf"), None])
def test_what_is_no_number_never_wins(error: float | None) -> None:
    status = {"status": "trained"}
    assert serves(line(error, error, 10.0, **status)) == ["baseline"]
    assert serves(line(error, error, 10.0, **status), line(1.0, 1.0, 10.0))[0] == "baseline"
    assert serves(line(error, error, error, **status)) == ["baseline"]
    assert serves(line(1.0, error, 10.0)) == ["segment"]


def test_the_order_of_the_lines_changes_nothing() -> None:
    lines = [line(1.0, 9.0, 30.0), line(None, 4.0, 3.0), line(40.0, 30.0, 3.0), line(status="skipped")]
    assert serves(*lines[::-1]) == serves(*lines)[::-1]


def test_no_lines_choose_nobody() -> None:
    assert serves() == []


@pytest.mark.parametrize(
    ("fleets", "who"),
    [([5.0, 5.0], "fleet"), ([10.0, 10.0], "baseline"), ([5.0, 16.0], "baseline"), ([None, None], "baseline"),
     ([NOTHING, NOTHING], "baseline")],
)  # fmt: skip
def test_a_segment_that_is_on_no_line_is_served_by_what_is_better_in_total(
    fleets: list[float | None], who: str
) -> None:
    lines = [line(1.0, fleet, 10.0) for fleet in fleets]
    assert serves_unproven(pa.Table.from_pylist(lines, LINE), "wape") == who
    assert serves_unproven(pa.Table.from_pylist(lines[:0], LINE), "wape") == "baseline"
