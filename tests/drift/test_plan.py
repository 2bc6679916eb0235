"""Which window is looked at: after the training, disjoint, whole, and each once."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.drift.bucket import compared_columns, compared_features
from assets.drift.plan import NEVER, NO_MODEL, OVERLAPS, PLANNED, WAITING, default_window, planned, tasks_plan
from assets.evaluation.incumbent import Champion
from assets.models.store import Training
from tests.models.small import recipe

TRAINED = 1_000


def champion(**trained: int | None) -> Champion:
    """One that was trained through a period a segment."""
    count = len(trained)
    listing = {
        "segment": list(trained),
        "bucket": pa.array([0] * count, pa.int32()),
        "trained_through": pa.array(list(trained.values()), pa.int64()),
        "training": ["t"] * count,
    }
    return Champion(1, {}, pa.table(listing))


def plan_of(last: int, window: int = 7, before: pa.Table | None = None, **trained: int | None) -> dict[str, dict]:
    rows = planned(champion(**trained), {"t": Training("t", {})}, before, last, window)
    return {row["segment"]: row for row in rows.to_pylist()}


def said(judged_through: int, *, alarmed: bool = False, trained: int = TRAINED) -> pa.Table:
    row = {"segment": "a", "trained": trained, "judged_through": judged_through, "alarmed": alarmed, "since": 1_007}
    return pa.Table.from_pylist([row])


def test_the_window_begins_after_the_training_and_is_whole() -> None:
    row = plan_of(TRAINED + 16, a=TRAINED)["a"]
    assert (row["state"], row["start"], row["end"]) == (PLANNED, TRAINED, TRAINED + 14)


@pytest.mark.parametrize(("last", "state"), [(1_006, WAITING), (1_000, WAITING), (999, OVERLAPS), (1_007, PLANNED)])
def test_what_has_not_come_yet_or_was_trained_on_is_not_judged(last: int, state: str) -> None:
    assert plan_of(last, a=TRAINED)["a"]["state"] == state


def test_a_segment_of_which_nothing_was_trained_has_nothing_to_be_compared_with() -> None:
    rows = plan_of(TRAINED + 20, a=TRAINED, b=None)
    assert rows["b"]["state"] == NO_MODEL
    known = {"t": Training("t", {"trained_through": TRAINED})}  # the fleet-wide model's
    [row] = planned(champion(b=None), known, None, TRAINED + 20, 7).to_pylist()
    assert (row["state"], row["trained"]) == (PLANNED, TRAINED)


def test_a_period_is_judged_once() -> None:
    row = plan_of(TRAINED + 16, before=said(TRAINED + 7), a=TRAINED)["a"]
    assert (row["start"], row["end"]) == (TRAINED + 7, TRAINED + 14)
    assert plan_of(TRAINED + 13, before=said(TRAINED + 7), a=TRAINED)["a"]["state"] == WAITING


def test_an_alarm_stands_until_the_champion_is_trained_anew() -> None:
    before = said(TRAINED + 7, alarmed=True)
    row = plan_of(TRAINED + 8, before=before, a=TRAINED)["a"]
    assert (row["alarmed_before"], row["since"]) == (True, 1_007)
    anew = plan_of(TRAINED + 8, before=before, a=TRAINED + 7)["a"]
    assert (anew["alarmed_before"], anew["since"], anew["judged_before"]) == (False, NEVER, NEVER)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 15))
def test_however_often_one_looks_windows_are_disjoint_and_leave_nothing_out(steps: list[int], window: int) -> None:
    last, before, judged = TRAINED, None, []
    for step in steps:
        last += step
        row = plan_of(last, window, before, a=TRAINED)["a"]
        if row["state"] == PLANNED:
            judged.append((row["start"], row["end"]))
            before = said(row["end"])
    for (_, end), (start, _) in pairwise(judged):
        assert start >= end
    assert all(start >= TRAINED and (end - start) % window == 0 for start, end in judged)
    assert sum(end - start for start, end in judged) <= last - TRAINED
    if judged:
        assert last - judged[-1][1] < window


def test_workers_are_told_of_planned_segments_only() -> None:
    rows = planned(champion(a=TRAINED, b=TRAINED + 20), {}, None, TRAINED + 20, 7)
    assert tasks_plan(rows)["segment"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("frequency", "periods"), [("D", 7), ("h", 168), ("2h", 84), ("B", 5), ("W-FRI", 4), ("MS", 4), ("YS", 4)]
)
def test_a_window_is_a_week_or_what_comes_near(frequency: str, periods: int) -> None:
    assert default_window(frequency) == periods


def test_known_structure_and_the_label_again_are_not_tested() -> None:
    asked = recipe(known_ahead=["price"], past_only=["visits"], lags=[4, 8], windows=[4], statistics=["mean"])
    assert compared_features(asked) == ["price", "visits@lag_4"]
    assert compared_columns(asked)[0] == asked.label
