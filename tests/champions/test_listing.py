"""Who serves each segment of a version: promoted, kept, pinned, brought back."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.champions.listing import PINNED_UNTIL, fleet_listing, outcomes_of, with_outcomes, with_rows_of, without_pins
from assets.evaluation.incumbent import listing_digest
from assets.models.store import LISTING
from resources.problems import InputError

TODAY = date(2026, 3, 4)
SEGMENTS = ["a", "b", "c", "d|é"]


def rows(training: str, segments: list[str] = SEGMENTS, error: float = 1.0) -> pa.Table:
    """The table of an evaluation: a listing and one error sum."""
    values = {"segment": segments, "chosen": ["segment"] * len(segments), "training": [training] * len(segments)}
    columns = [
        pa.array(values[f.name], f.type) if f.name in values else pa.nulls(len(segments), f.type) for f in LISTING
    ]
    return pa.Table.from_arrays(columns, schema=LISTING).append_column(
        "served_absolute", pa.array([error] * len(segments))
    )


def published(training: str, segments: list[str] = SEGMENTS) -> pa.Table:
    return fleet_listing(rows(training, segments), None, None, TODAY)


def by_segment(listing: pa.Table, column: str) -> dict[str, object]:
    return dict(zip(listing["segment"].to_pylist(), listing[column].to_pylist(), strict=True))


def kept(*segments: str) -> pa.Table:
    return pa.table({"segment": list(segments), "why": [f"{segment} is worse" for segment in segments]})


def test_the_first_version_is_the_challenger_in_every_segment() -> None:
    assert set(by_segment(published("old"), "outcome").values()) == {"promoted"}


def test_a_kept_segment_has_its_incumbents_model_and_todays_errors() -> None:
    made = fleet_listing(rows("new", error=2.0), published("old"), kept("b"), TODAY)
    assert by_segment(made, "training") == {"a": "new", "b": "old", "c": "new", "d|é": "new"}
    assert by_segment(made, "outcome")["b"] == "kept"
    assert by_segment(made, "outcome_reason")["b"] == "b is worse"
    assert set(by_segment(made, "served_absolute").values()) == {2.0}


def test_what_the_incumbent_does_not_know_cannot_be_kept() -> None:
    made = fleet_listing(rows("new"), published("old", ["a", "c"]), kept("b", "gone"), TODAY)
    assert by_segment(made, "training") == dict.fromkeys(SEGMENTS, "new")


@pytest.mark.parametrize(("days", "training"), [(-1, "new"), (0, "pinned"), (30, "pinned")])
def test_a_pin_holds_through_its_day(days: int, training: str) -> None:
    incumbent = with_rows_of(published("old"), published("pinned"), ["c"], TODAY + timedelta(days=days), "version 1")
    made = fleet_listing(rows("new"), incumbent, kept("a"), TODAY)
    assert by_segment(made, "training") == {"a": "old", "b": "new", "c": training, "d|é": "new"}
    assert (by_segment(made, PINNED_UNTIL)["c"] is None) is (training == "new")


def test_a_pin_is_handed_on_until_it_is_over_or_taken_away() -> None:
    listing = with_rows_of(published("old"), published("pinned"), ["c"], TODAY + timedelta(days=8), "version 1")
    for week in range(2):
        listing = fleet_listing(rows(f"week {week}"), listing, None, TODAY + timedelta(days=7 * week))
        assert by_segment(listing, "training")["c"] == "pinned"
    freed = without_pins(listing, ["c"], "version 3")
    assert by_segment(freed, "training")["c"] == "pinned"
    assert by_segment(fleet_listing(rows("last"), freed, None, TODAY), "training")["c"] == "last"


def test_a_listing_made_before_there_were_pins_can_be_mixed() -> None:
    old = rows("old")
    made = with_rows_of(old, published("new"), ["a"], TODAY, "version 2")
    assert by_segment(made, "training") == {"a": "new", "b": "old", "c": "old", "d|é": "old"}
    assert by_segment(with_rows_of(published("new"), old, ["a"], None, "version 1"), "training")["a"] == "old"
    assert without_pins(old, ["a"], "version 1").equals(old)


def test_unknown_segments_are_all_named_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        with_rows_of(published("old"), published("new"), ["d|e", "a", "zzz"], None, "version 7")
    said = [str(problem) for problem in error.value.problems]
    assert len(said) == 2
    assert "d|e: is no segment of version 7" in said[0]
    assert "'d|é'" in said[0]


Moves = st.lists(
    st.tuples(st.sets(st.sampled_from(SEGMENTS), min_size=1), st.sampled_from(["v1", "v2", "v3"])), max_size=6
)


@given(Moves, st.sets(st.sampled_from(SEGMENTS), min_size=1))
def test_back_and_forward_is_the_identity(moves: list[tuple[set[str], str]], last: set[str]) -> None:
    versions = {name: published(name) for name in ("v1", "v2", "v3")}
    now = versions["v3"]
    for segments, to in moves:
        now = with_rows_of(now, versions[to], sorted(segments), None, to)
    back = with_rows_of(now, versions["v1"], sorted(last), None, "v1")
    forward = with_rows_of(back, now, sorted(last), None, "now")
    assert forward.equals(now)
    assert listing_digest(forward) == listing_digest(now)
    assert sorted(forward["segment"].to_pylist()) == sorted(SEGMENTS)


def test_the_digest_does_not_depend_on_order_and_sees_every_cell() -> None:
    listing = published("old")
    shuffled = listing.take([2, 0, 3, 1]).select(list(reversed(listing.column_names)))
    assert listing_digest(shuffled) == listing_digest(listing)
    assert listing_digest(listing.slice(1)) != listing_digest(listing)
    assert listing_digest(with_rows_of(listing, published("new"), ["a"], None, "v")) != listing_digest(listing)


def test_a_listing_of_before_outcomes_were_kept_was_promoted_whole() -> None:
    older = rows("old")
    assert outcomes_of(older) == {"promoted": len(SEGMENTS)}
    assert by_segment(with_outcomes(older), PINNED_UNTIL) == dict.fromkeys(SEGMENTS)
    listing = fleet_listing(rows("new"), published("old"), kept("b"), TODAY)
    assert outcomes_of(listing) == {"promoted": len(SEGMENTS) - 1, "kept": 1}
    assert with_outcomes(listing) is listing


def test_a_pinned_segment_is_not_listed_twice_if_the_gate_keeps_it_too() -> None:
    incumbent = with_rows_of(published("old"), published("pinned"), ["c"], TODAY, "version 1")
    made = fleet_listing(rows("new"), incumbent, kept("b", "c"), TODAY)
    assert made["segment"].to_pylist() == SEGMENTS
    assert by_segment(made, "outcome") == {"a": "promoted", "b": "kept", "c": "pinned", "d|é": "promoted"}
