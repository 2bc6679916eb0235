"""Who serves, and with which share: what wins on the fold, shrunk towards what wins in total."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.models import choice
from assets.models.blend import CANDIDATES, blend_losses, weight_grid, weights_of
from assets.models.choice import chosen_points, unproven_weights, with_choice
from assets.models.error_sums import LOSSES, NEARNESS
from assets.models.line import FOLD_BLENDS, LINE
from tests.models.small import LAST, bucket_lines, segment

NOTHING = float("nan")


@pytest.fixture(autouse=True)
def no_prior(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """By hand, what the errors say; with `prior` in a test's name, drawn to equal weights as well."""
    if "prior" not in request.node.name:
        monkeypatch.setattr(choice, "EQUALITY", 0.0)
        monkeypatch.setattr(choice, "SHRINKAGE", 1.0)


Errors = float | Sequence[float] | None


def line(model: Errors = None, fleet: Errors = None, baseline: Errors = None, **keys: Any) -> dict[str, Any]:
    """A segment's line, given each candidate's errors on the rows of its fold."""
    status = "trained" if model is not None else "skipped"
    errors = {"segment": model, "fleet": fleet, "baseline": baseline}
    return {**dict.fromkeys(LINE.names), "status": status, "errors": errors, **keys}


def table(*lines: dict[str, Any], metric: str = "wape") -> pa.Table:
    rows = []
    for given_line in lines:
        each = dict(given_line)
        said = {name: np.atleast_1d(e).astype(float) for name, e in each["errors"].items() if e is not None}
        if "baseline" in said:
            labels = np.zeros(len(said["baseline"]))
            each[FOLD_BLENDS] = blend_losses(labels, said, LOSSES[metric], NEARNESS)
        rows.append({name: each[name] for name in LINE.names})
    return pa.Table.from_pylist(rows, LINE)


def serves(*lines: dict[str, Any], metric: str = "wape") -> list[str]:
    return with_choice(table(*lines, metric=metric))["chosen"].to_pylist()


def weights(*lines: dict[str, Any], metric: str = "wape") -> list[dict[str, float]]:
    grid, points = weight_grid(), chosen_points(table(*lines, metric=metric))
    return [{name: w for name, w in zip(CANDIDATES, grid[point], strict=True) if w} for point in points]


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
    """The model's errors are 3 in all and 9 squared, the baseline's 4 and 8."""
    one = line(model=(0.0, 3.0), baseline=(2.0, 2.0))
    assert serves(one) == ["segment"]
    assert weights(one, metric="rmse") == [{"segment": 0.4, "baseline": 0.6}]  # 8 - 4w + 5w^2 is least at 0.4
    far = line(model=(0.0, 5.0), baseline=(2.5, 3.0))
    assert serves(far) == ["segment"]
    assert serves(far, metric="rmse") == ["baseline"]


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
    unjudged = line(None, None, 10.0, status="trained")
    assert serves(unjudged, line(0.1, None, 10.0)) == ["baseline", "segment"]


def test_a_failed_segment_is_never_served_by_its_own_model() -> None:
    assert serves(line(0.0, None, 10.0, status="failed")) == ["baseline"]
    assert serves(line(0.0, 5.0, 10.0, status="failed")) == ["fleet"]


@pytest.mark.parametrize("error", [NOTHING, float("inf"), None])
def test_what_is_no_number_never_wins(error: float | None) -> None:
    status = {"status": "trained"}
    assert serves(line(error, error, 10.0, **status)) == ["baseline"]
    assert serves(line(error, error, 10.0, **status), line(30.0, 30.0, 10.0))[0] == "baseline"
    assert serves(line(1.0, error, 10.0)) == ["segment"]


def test_a_baseline_that_is_no_number_is_no_reason_to_serve_a_model() -> None:
    assert serves(line(1.0, 1.0, NOTHING)) == ["baseline"]


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
    assert unproven_weights(table(*lines)) == ({who: 1.0} if who != "baseline" else {})
    assert unproven_weights(table()) == {}


def test_errors_that_cancel_out_are_blended() -> None:
    """By hand: 0.8 x 2 - 0.2 x 8 = 0."""
    assert weights(line(2.0, None, -8.0)) == [{"segment": 0.8, "baseline": 0.2}]
    (row,) = with_choice(table(line(2.0, None, -8.0))).to_pylist()
    assert (row["chosen"], weights_of(row)) == ("blend", {"segment": 0.8})
    assert weights(line(6.0, -4.0, 6.0)) == [{"fleet": 0.6, "baseline": 0.4}]


def test_a_segments_blend_is_drawn_towards_that_of_the_fleet() -> None:
    """Nine segments want half of each; the tenth, for itself, nothing of the model, but not by much."""
    many = [line((4.0, -4.0), None, (-6.0, 6.0)) for _ in range(9)]
    little, much = line((2.0, 0.0), None, (0.0, -1.5)), line((9.0, 0.0), None, (0.0, -1.5))
    assert weights(little) == weights(much) == [{"baseline": 1.0}]
    assert weights(little, *many) == [{"segment": 0.6, "baseline": 0.4}] * 10
    assert weights(much, *many)[0] == {"baseline": 1.0}


def test_without_a_candidate_the_others_share() -> None:
    lines = table(line(2.0, 1.0, -8.0), line(None, 2.0, -8.0))
    grid = weight_grid()
    for name in ("segment", "fleet"):
        assert (grid[chosen_points(lines, without=name), CANDIDATES.index(name)] == 0).all()
    assert grid[chosen_points(lines, without="fleet")[0]].tolist() == [0.2, 0.8, 0.0, 0.0]


def test_a_segment_on_no_line_gets_the_best_blend_of_the_others() -> None:
    assert unproven_weights(table(line(0.0, 2.0, -8.0))) == {"fleet": 0.8}


@given(st.lists(st.lists(st.floats(-10, 10), min_size=9, max_size=9), min_size=1, max_size=6))
def test_weights_are_shares_and_no_candidate_alone_scores_better(errors: list[list[float]]) -> None:
    lines = table(*[line(each[:3], each[3:6], each[6:]) for each in errors])
    points, grid = chosen_points(lines), weight_grid()
    np.testing.assert_allclose(grid[points].sum(axis=1), 1)
    assert (grid >= 0).all()
    losses = np.array([np.frombuffer(packed) for packed in lines[FOLD_BLENDS].to_pylist()])
    base = losses[:, 0]
    if base.sum() > 0:
        scores = losses + base[:, None] * losses.sum(axis=0) / base.sum()
        best = scores[np.arange(len(points)), points]
        assert (best[:, None] <= np.nan_to_num(scores[:, :4], nan=np.inf) + 1e-9).all()


def test_the_prior_draws_few_segments_to_equal_weights_and_many_hardly() -> None:
    few, many = ([line(1.0, None, 1.2) for _ in range(count)] for count in (2, 2_000))
    assert weights(*few) == [{"segment": 0.6, "baseline": 0.4}] * 2
    assert weights(*many) == [{"segment": 1.0}] * 2_000


def test_the_prior_takes_a_long_fold_of_few_segments_for_many_forecasts() -> None:
    lines, grid = table(*[line(1.0, None, 1.2) for _ in range(2)]), weight_grid()
    short, long = (grid[chosen_points(lines, horizons=horizons)[0]].tolist() for horizons in (1, 1_000))
    assert (short, long) == ([0.4, 0.6, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0])


def test_the_prior_does_not_spoil_what_is_far_better() -> None:
    assert weights(line(0.1, None, 10.0)) == [{"segment": 1.0}]


def test_a_new_segment_is_handed_over_to_its_own_model_as_its_rows_grow(tmp_path: Path) -> None:
    """From no row before the holdout, over a model without a proof, to one with a part: as the prior has it."""
    old = [segment(seed=n, key=f"old {n}") for n in range(12)]
    shares = []
    for rows in (5, 35, 80):
        new = segment(seed=99, key="new")
        new.labels[: LAST + 1 - rows] = np.nan
        (folder := tmp_path / str(rows)).mkdir()
        lines = bucket_lines(folder, [*old, new])
        chosen = with_choice(pa.Table.from_pylist(list(lines.values()), LINE)).to_pylist()
        (row,) = [each for each in chosen if each["segment"] == "new"]
        shares.append((row["status"], weights_of(row).get("segment", 0.0)))
    assert shares[0] == ("skipped", 0.0)
    assert shares[1] == ("trained", 0.0), "it was never judged on a fold"
    assert shares[2][1] >= 0.6
