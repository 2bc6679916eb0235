"""What people look at, of many segments: the worst first, groups that fit on a page, few observations."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from assets.drift.plan import NEVER
from assets.drift.rows import ROW
from assets.drift.summary import MOST_GROUPS, heat_map, observed, worst_features, worst_segments
from assets.drift.windows import TESTS

COLUMNS = ["sold", "price"]


def rows_of(keys: list[str], alarmed: tuple[int, ...] = ()) -> pa.Table:
    draw, rows = np.random.default_rng(0), []
    for place, key in enumerate(keys):
        p_values = draw.uniform(0.01, 1, len(COLUMNS) * len(TESTS))
        said = {"segment": key, "alarmed": place in alarmed, "drifted": place in alarmed, "new": False}
        tests = {"column": "price", "test": "size", "effect": 1.0 + place, "p_values": p_values, "effects": p_values}
        p_value = 1e-6 if place in alarmed else float(p_values.min())
        rows.append({**said, **tests, "p_value": p_value, "judged_through": 10, "why": "", "state": "judged"})
    return pa.Table.from_pylist([{name: row.get(name) for name in ROW.names} for row in rows], ROW)


def test_the_worst_come_first_and_the_features_that_say_so() -> None:
    rows = rows_of([f"s{n:03d}" for n in range(60)], alarmed=(7, 40))
    assert worst_segments(rows)["segment"].tolist()[:2] == ["s040", "s007"]  # of equal p-values the larger effect
    assert len(worst_segments(rows)) == 20
    [feature] = worst_features(rows, COLUMNS).to_dict("records")
    assert (feature["column"], feature["segments"], feature["largest effect"]) == ("price", 2, 41.0)


def test_a_heat_map_has_a_row_a_group_however_many_segments() -> None:
    by_store = heat_map(rows_of([f"store {n % 3}|{n}" for n in range(90)]), COLUMNS)
    assert [each.get_text() for each in by_store.axes[0].get_yticklabels()] == ["store 0", "store 1", "store 2"]
    many = heat_map(rows_of([f"s{n:04d}" for n in range(1_000)]), COLUMNS)
    assert 1 < len(many.axes[0].get_yticklabels()) <= MOST_GROUPS
    assert many.axes[0].get_yticklabels()[0].get_text() == "s0000 to s0039"
    assert not heat_map(ROW.empty_table(), COLUMNS).axes[0].images


def test_a_few_segments_are_told_on_their_partitions() -> None:
    rows = rows_of([f"s{n:03d}" for n in range(60)], alarmed=(7,))
    before = pa.table({"segment": ["s001", "s002"], "alarmed": [True, False]})
    told = observed(rows, before, 5)["segment"].to_pylist()
    assert {"s007", "s001"} <= set(told)
    assert len(told) <= 7
    nothing = rows.set_column(ROW.get_field_index("judged_through"), "judged_through", pa.array([NEVER] * 60))
    assert observed(nothing.slice(0, 5), None, 5).num_rows == 0
