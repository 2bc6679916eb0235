"""The contract: a row is valid or quarantined with its reason, and never lost."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assets.features.contract import bucket_count
from assets.partitions import bucket_of, partition_key
from assets.raw.kinds import column_kinds
from assets.raw.parse import KEY, PERIOD
from assets.raw.profile import Profile, Timeline
from assets.raw.read import read_source
from assets.raw.source import CORRUPT, FILE, ROW, find_files
from resources.settings import Settings
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet
from tests.judging import judged

LAST = pd.Timestamp("2024-01-20")


def profile(kinds: dict[str, Any], **changes: Any) -> Profile:
    facts = {
        "time_type": "string", "frequency": "D", "phase": 0,
        "first_time": pd.Timestamp("2024-01-01"), "last_time": pd.Timestamp("2024-02-10"),
        "first_label": pd.Timestamp("2024-01-01"), "last_label": LAST,
    }  # fmt: skip
    return Profile(rows=1, kinds=kinds, timeline=Timeline(**{**facts, **changes}))


def judge(spark: Spark, fleet: Fleet) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
    """Valid rows, quarantined rows and the count by reason of a fleet's table, judged in every way there is."""
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    found = judged(spark, raw, fleet.settings, profile(column_kinds(raw, fleet.settings)), 3)
    return found.valid, found.refused, found.counts.by_reason


GOOD = "".join(f"a,2024-01-{day:02},{day},{day % 2 == 0},{day},x\n" for day in range(1, 21))
HEADER = "shop,day,sold,open,price,kind\n"
FEATURES = {"known_ahead": ["open", "price", "kind"]}


def test_every_reason_and_the_row_as_it_came(spark: Spark, make_fleet: MakeFleet) -> None:
    bad = {
        ",2024-01-05,1,true,1,x": "null_segment:shop",
        "a,,1,true,1,x": "null_time:day",
        "a,soon,1,true,1,x": "unparsable:day",
        "a,0001-01-01,1,true,1,x": "time_out_of_range:day",
        "a,2024-01-05 07:00,1,true,1,x": "off_calendar",
        "b,2024-01-05,many,true,1,x": "unparsable:sold",
        "b,2024-01-06,Infinity,true,1,x": "infinite:sold",
        "b,2024-01-07,1e999,true,1,x": "infinite:sold",
        "b,2024-01-08,1,true,-inf,x": "infinite:price",
        "b,2024-01-09,1,perhaps,1,x": "unparsable:open",
        "b,2024-01-10,1,true,cheap,x": "unparsable:price",
        "b,2024-01-21,5,true,1,x": "label_after_end",
        "b,2024-01-11,1,true": "malformed",
        "a,2024-01-05,5,true,1,y": "",
    }
    fine = [
        "b,2024-01-12,,true,1,x", "b,2024-01-13,NaN,No,nan,", "b,2024-01-14, 7 ,YES,1e3,x", "b,2024-01-25,,true,2,x",
        "c,2024-01-15T00:00:00Z,1,true,1,x", "c,2024-01-16,+.5,1,-1.,🍦",
    ]  # fmt: skip
    fleet = make_fleet(HEADER + GOOD + "\n".join([*bad, *fine]) + "\n", features=FEATURES)
    valid, refused, counted = judge(spark, fleet)
    wanted = Counter(reason for reason in bad.values() if reason) + Counter({"duplicate": 1})
    assert counted == {"": 20 + len(fine), **wanted}
    assert [row["__reason"] for row in refused] == [
        "duplicate",
        *[reason for reason in bad.values() if reason],
    ]
    by_cell = {(row["shop"], row["day"]): row for row in refused}
    assert by_cell["b", "2024-01-05"]["sold"] == "many"
    assert by_cell["b", "2024-01-05"]["__reasons"] == ["unparsable:sold"]
    assert by_cell["a", "2024-01-05"]["kind"] == "x"
    first = min(row[PERIOD] for row in valid)
    values = {(row[KEY], f"{row[PERIOD] - first + 1:02}"): row for row in valid}
    assert values["a", "05"]["kind"] == "y"
    assert values["b", "12"]["sold"] is None
    assert [values["b", "13"][name] for name in ("sold", "open", "price", "kind")] == [None, 0.0, None, None]
    assert [values["b", "14"][name] for name in ("sold", "open", "price")] == [7.0, 1.0, 1000.0]
    assert [values["c", "16"][name] for name in ("sold", "open", "price", "kind")] == [0.5, 1.0, -1.0, "🍦"]
    assert all(row["fleet_bucket"] == bucket_of(row[KEY], 3) for row in valid)
    assert values["a", "02"][PERIOD] == values["a", "01"][PERIOD] + 1


def test_all_reasons_of_a_row_are_told_in_order(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(HEADER + GOOD + ",soon,many,perhaps,1,x\n", features=FEATURES)
    _, [row], _ = judge(spark, fleet)
    assert row["__reasons"] == ["null_segment:shop", "unparsable:day", "unparsable:sold", "unparsable:open"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_of_duplicates_the_last_read_stays(spark: Spark, make_fleet: MakeFleet, suffix: str) -> None:
    fleet = make_fleet(None, source={"path": "data"})
    (fleet.folder / "data").mkdir()
    files = {"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0], "c": [6.0] * 500 + [7.0]}
    for name, sold in files.items():
        table = pd.DataFrame({"shop": "s", "day": pd.Timestamp("2024-01-05"), "sold": sold})
        path = fleet.folder / "data" / f"{name}.{suffix}"
        table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    valid, refused, counted = judge(spark, fleet)
    assert [row["sold"] for row in valid] == [7.0]
    assert counted == {"": 1, "duplicate": 505}
    assert [float(row["sold"]) for row in refused[:5]] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_bad_row_does_not_displace_a_good_one(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet("shop,day,sold\ns,2024-01-05,1\ns,2024-01-05,many\ns,2024-01-06,2\n")
    valid, _, counted = judge(spark, fleet)
    assert sorted(row["sold"] for row in valid) == [1.0, 2.0]
    assert counted == {"": 2, "unparsable:sold": 1}


def test_segments_of_numbers_with_missing_cells(spark: Spark, make_fleet: MakeFleet) -> None:
    table = pd.DataFrame({
        "shop": [1.0, float("nan"), 2.0], "day": pd.to_datetime(["2024-01-05"] * 3), "sold": [1.0, 2.0, float("nan")],
    })  # fmt: skip
    valid, _, counted = judge(spark, make_fleet(table))
    assert counted == {"": 2, "null_segment:shop": 1}
    assert {row[KEY]: row["sold"] for row in valid} == {"1.0": 1.0, "2.0": None}


CELLS = st.fixed_dictionaries({
    "shop": st.sampled_from(["a", "A", "b c", "", None]),
    "area": st.sampled_from(["|", "%", None]),
    "day": st.sampled_from(["2024-01-01", "2024-01-02", "2024-01-19", "2024-01-22", "2024-01-02 05:00", "x", "", None]),
    "sold": st.sampled_from(["1", "2.5", "NaN", "inf", "-Infinity", "x", "", None]),
})  # fmt: skip


def expected(row: dict[str, str | None]) -> str:
    """The first reason against a row, duplicates aside, by other means than Spark."""
    for column in ("shop", "area"):
        if row[column] is None:
            return f"null_segment:{column}"
    if not row["day"]:
        return "null_time:day"
    time = pd.to_datetime(row["day"], errors="coerce")
    if time is pd.NaT:
        return "unparsable:day"
    try:
        label = float(row["sold"] or "nan")
    except ValueError:
        return "unparsable:sold"
    if math.isinf(label):
        return "infinite:sold"
    if time != time.normalize():
        return "off_calendar"
    return "label_after_end" if time > LAST and not math.isnan(label) else ""


@hypothesis_settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(CELLS, min_size=1, max_size=40))
def test_rows_read_are_valid_or_quarantined_always(spark: Spark, rows: list[dict[str, str | None]]) -> None:
    settings = Settings(name="t", source={"path": "x"}, segment=["shop", "area"], time="day", label="sold")
    columns = ["shop", "area", "day", "sold"]
    data = [(*(row[c] for c in columns), "file", number, None) for number, row in enumerate(rows)]
    types = ", ".join(f"{column} string" for column in columns)
    raw = spark.session().createDataFrame(data, f"{types}, {FILE} string, {ROW} bigint, {CORRUPT} string")
    rows_judged = judged(spark, raw, settings, profile({"sold": "number"}), 4)
    found = {row[ROW]: row["__reason"] for row in rows_judged.refused}
    wanted = {number: expected(row) for number, row in enumerate(rows)}
    last: dict[tuple[str, pd.Timestamp], int] = {}
    for number, row in enumerate(rows):
        if not wanted[number]:
            key = (partition_key([row["shop"] or "", row["area"] or ""]), pd.Timestamp(row["day"]))
            if key in last:
                wanted[last[key]] = "duplicate"
            last[key] = number
    assert found == {number: reason for number, reason in wanted.items() if reason}
    assert len(rows_judged.valid) == list(wanted.values()).count("")


def test_bucket_counts() -> None:
    assert bucket_count(1, 100) == 1
    assert bucket_count(12, 400_000) == 12
    assert bucket_count(50_000, 35_000_000) == 500
    assert bucket_count(10, 600_000_000) == 1024


@hypothesis_settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["1", "many", "", "inf"]), st.sampled_from(["2", "x"])), max_size=15))
def test_where_no_time_comes_twice_looking_for_duplicates_changes_nothing(
    spark: Spark, make_fleet: MakeFleet, cells: list[tuple[str, str]]
) -> None:
    rows = "".join(f"b,2024-01-{day:02},{sold},true,{price},x\n" for day, (sold, price) in enumerate(cells, 1))
    noted = {"columns": {"price": {"maximum": 15, "action": "warn"}}}
    fleet = make_fleet(HEADER + GOOD + rows + ",2024-01-03,1,true,1,x\n", features=FEATURES, contract=noted)
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    kinds = column_kinds(raw, fleet.settings)
    found = []
    for repeated in (True, False):
        known = profile(kinds).model_copy(update={"repeated": repeated})
        found.append(judged(spark, raw, fleet.settings, known, 3))
    assert found[0] == found[1]
    assert found[0].counts.by_rule["above_maximum:price"] == 5
