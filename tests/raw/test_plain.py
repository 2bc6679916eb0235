"""Plain tables: workers type, judge and count rows as Spark does, whatever is in the cells."""

from __future__ import annotations

import datetime as dt
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.features.publish import FEATURES, QUARANTINE, publish_features
from assets.raw import inspect as inspecting
from assets.raw import moments, plain
from assets.raw.ingest import ingest
from assets.raw.inspect import inspect, inspect_frame
from assets.raw.kinds import Told, column_kinds
from assets.raw.plain import TIMES_FOLDER, is_plain
from assets.raw.profile import Profile, Timeline
from assets.raw.read import read_source
from assets.raw.snapshot import RawRows
from assets.raw.source import FILE, ROW, find_files
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales
from tests.hostile import HOSTILE
from tests.judging import judged, kept

NUMBERS = [
    "1", "+1", "-2.5", "1.", "-.5", "+.5", ".", "1e5", "1E-400", "1e999", "-1e999", "inf", "INF", "-Infinity", "+inf", "NaN",
    "nan", "-nan", "nan(ind)", "5\n", "5\r\n", "\n5", "5\u2028", "5\u0085", "１", "0x1", "1_0", "1d", "1f", "--1", "++1", "+-1", " 1 ",
    "\t1", "1\t", "\u00a01", "", " ", "é", "1,5", "1 2", "00", "1e", "e1", "9" * 400, "0." + "1" * 400, "1e+5", "1e5.0", "İnf",
]  # fmt: skip
TRUTHS = [
    "TRUE",
    "True",
    "t",
    "yes",
    "Y ",
    " y",
    "1",
    "1.0",
    "no",
    "F",
    "0.0",
    "0",
    "ｙ",
    "yes\n",
    "oui",
    "",
    " ",
    "ß",
    "nO",
]
TIMES = [
    "2024-01-05", "2024-1-5", "2024-01-05 07", "2024-01-05 07:00", "2024-01-05 07:00:01", "2024-01-05T00:00:00", "2024-01-05T00:00:00Z",
    "2024-01-05 00:00:00.1", "2024-01-05 00:00:00.123456", "2024-01-05 00:00:00.1234567", "2024-01-05 24:00:00", "2024-01-05 23:59:60",
    "2024-02-30", "2024-02-29", "2023-02-29", "2024-13-01", "0000-01-01", "0001-01-01", "1899-12-31", "1900-01-01", "2199-12-31",
    "2200-01-01", "9999-12-31", "2024", "2024-05", "20240105", "2024-01-05 00:00:00+02:00", "2024-01-05 02:00:00 Europe/Paris", "epoch",
    "now", "2024-01-05\n", "2024-01-05 ", " 2024-01-06", "2024-01-05T", "+2024-01-01", "2024/01/05", "05.01.2024", "", "  ", "é",
    "2024-01-07", "2024-01-08", "2024-01-09", "2024-01-10", "2024-02-05", "-2024-01-05", "12024-01-05", "２024-01-05",
]  # fmt: skip
SHOPS = ["a", "b", "A", "", " ", "|", "%", "a|b", "...", "é", "x\ny", "\x01", "a\x00b", "%-", None]


def profile(kinds: dict[str, Any], repeated: bool = True) -> Profile:
    start, last = pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-20")
    timeline = Timeline(
        time_type="string", frequency="D", phase=0, first_time=start, last_time=last, first_label=start, last_label=last
    )
    return Profile(rows=1, kinds=kinds, repeated=repeated, timeline=timeline)


def hostile_table(rows: int, seed: int) -> pa.Table:
    draw = random.Random(seed)

    def some(cells: list[Any], good: str) -> pa.Array:
        return pa.array([draw.choice(cells) if draw.random() < 0.6 else good for _ in range(rows)], pa.string())

    return pa.table({
        "shop": some(SHOPS, "a"), "area": some([*SHOPS, *HOSTILE], "b"), "day": some([*TIMES, None], "2024-01-11"),
        "sold": some([*NUMBERS, None], "3"), "price": some([*NUMBERS, *TRUTHS, None], "4"),
        "open": some([*TRUTHS, None], "yes"), "note": some([*HOSTILE, None], "n"),
        "n": pa.array([draw.choice([n, n, -(2**62) - n, None]) for n in range(rows)], pa.int64()), "x": pa.array([draw.choice([1.5, np.nan, np.inf, None]) for _ in range(rows)]),
        "ok": pa.array([draw.choice([True, False, None]) for _ in range(rows)]),
    })  # fmt: skip


def hostile_fleet(make_fleet: MakeFleet, seed: int, **keys: Any) -> Fleet:
    known = ["price", "open", "note", "n", "x", "ok"]
    fleet = make_fleet(None, source={"path": "in"}, segment=["shop", "area"], features={"known_ahead": known}, **keys)
    (fleet.folder / "in").mkdir()
    for number in range(2):
        pq.write_table(hostile_table(400, 2 * seed + number), fleet.folder / "in" / f"{number}.parquet")
    return fleet


KINDS = {
    "sold": "number",
    "price": "number",
    "open": "boolean",
    "note": "text",
    "n": "number",
    "x": "number",
    "ok": "boolean",
}


@pytest.mark.parametrize(("seed", "repeated"), [(0, True), (1, False)])
def test_hostile_cells_are_judged_alike(spark: Spark, make_fleet: MakeFleet, seed: int, repeated: bool) -> None:
    fleet = hostile_fleet(make_fleet, seed)
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    assert is_plain(kept(raw, fleet.folder / "kept").schema, fleet.settings)
    found = judged(spark, raw, fleet.settings, profile(dict(KINDS), repeated), 5)
    reasons = set(found.counts.by_reason)
    assert {
        "",
        "null_segment:shop",
        "null_time:day",
        "unparsable:day",
        "time_out_of_range:day",
        "infinite:sold",
    } <= reasons
    assert {"unparsable:sold", "unparsable:price", "unparsable:open", "infinite:x", "label_after_end"} <= reasons
    assert ("duplicate" in reasons) is repeated
    other = dict(KINDS, price="text", note="text", open="number")
    assert judged(spark, raw, fleet.settings, profile(other, repeated), 5) != found


def test_hostile_cells_break_rules_alike(spark: Spark, make_fleet: MakeFleet) -> None:
    columns = {
        "price": {"minimum": -1, "maximum": 4, "action": "warn"}, "note": {"allowed": ["n", "a b", "İ"]}, "open": {"nullable": False},
        "n": {"allowed": [str(n) for n in range(300)], "type": "text", "action": "warn"}, "x": {"type": "number", "nullable": False},
        "day": {"minimum": dt.date(2024, 1, 3), "action": "warn"}, "area": {"type": "number", "action": "warn"},
        "ok": {"allowed": [True], "action": "warn"},
    }  # fmt: skip
    predicates = [
        "sold < 4 or open", "length(note) < 10", "note like '%a%' or ok", "price is null or price > sold", "day > '2024-01-05'",
        "__as_read.price <> '1'", "n % 7 = 0", "isnan(x) or x < 2", "shop is not null and area is not null", "open = ok",
    ]  # fmt: skip
    actions = ["warn", "drop"]
    expectations = [{"name": f"e{n}", "predicate": p, "action": actions[n % 2]} for n, p in enumerate(predicates)]
    fleet = hostile_fleet(make_fleet, 3, contract={"columns": columns, "expectations": expectations})
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    kinds = dict(KINDS, n="text")
    assert is_plain(kept(raw, fleet.folder / "kept").schema, fleet.settings)
    for repeated in (True, False):
        found = judged(spark, raw, fleet.settings, profile(kinds, repeated), 5)
        named = {name.partition(":")[0] for name in found.counts.by_rule}
        assert {"above_maximum", "not_allowed", "null", "below_minimum", "unparsable", "expectation"} <= named
        assert sum(name.startswith("expectation") for name in found.counts.by_rule) == len(predicates)


def typed_table() -> pa.Table:
    rows, days = 120, pd.date_range("2024-01-01", periods=40)
    return pa.table({
        "text": pa.array(["s"] * 40 + ["t"] * 40 + [None] * 40), "int": pa.array([1] * 60 + [-7] * 60, pa.int16()),
        "float": pa.array([1.0] * 60 + [2e10] * 60), "flag": pa.array([True] * 60 + [False] * 60),
        "dec": pa.array([Decimal("1.50")] * rows, pa.decimal128(9, 2)), "date": pa.array(list(days.date) * 3, pa.date32()),
        "ntz": pa.array(list(days) * 3, pa.timestamp("us")), "utc": pa.array(list(days) * 3, pa.timestamp("us", "UTC")),
        "sold": pa.array(np.arange(rows) % 17, pa.int32()), "small": pa.array(np.arange(rows) % 5, pa.int8()),
    })  # fmt: skip


@pytest.mark.parametrize("time", ["date", "ntz", "utc"])
@pytest.mark.parametrize(
    ("segment", "features", "by_workers"),
    [
        (["text"], ["int", "flag"], True),
        (["int", "text"], ["float", "small"], True),
        (["int"], [], True),
        (["float"], [], False),
        (["flag"], [], False),
        (["dec"], [], False),
        (["text", "dec"], [], False),
        (["int"], ["dec"], False),
    ],
)
def test_which_types_workers_read(
    spark: Spark, make_fleet: MakeFleet, time: str, segment: list[str], features: list[str], by_workers: bool
) -> None:
    keys = {"segment": segment, "time": time, "features": {"known_ahead": features}}
    fleet = make_fleet(None, source={"path": "t.parquet"}, **keys)
    pq.write_table(typed_table(), fleet.folder / "t.parquet")
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    assert is_plain(kept(raw, fleet.folder / "kept").schema, fleet.settings) is by_workers
    found = judged(spark, raw, fleet.settings, profile(column_kinds(raw, fleet.settings)), 4)
    assert len(found.valid) + len(found.refused) == 120
    assert found.counts.by_reason.get("label_after_end")


@pytest.mark.parametrize("frequency", ["W-FRI", "MS", "B", "2h"])
def test_calendars_of_every_kind(spark: Spark, make_fleet: MakeFleet, frequency: str) -> None:
    table = daily_sales(shops=2, days=50, frequency=frequency, start="2024-01-05")
    table.loc[7, "day"] += pd.Timedelta("1D1h")
    table["day"] = table["day"].astype(str)
    fleet = make_fleet(table.to_csv(index=False))
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    found = inspect_frame(spark, raw, fleet.settings).profile
    assert found.times.frequency == frequency
    assert judged(spark, raw, fleet.settings, found, 3).counts.by_reason == {"": 99, "off_calendar": 1}


def both_ways(spark: Spark, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ingest and features make of a fleet by workers, which is what they make of it by Spark."""
    asked, found = [], []
    original = inspecting.inspect_frame
    with monkeypatch.context() as watched:
        watched.setattr(inspecting, "inspect_frame", lambda *given: (asked.append(1), original(*given))[1])
        for by_workers in (True, False):
            lake = fleet.lake.model_copy(update={"uri": f"{fleet.settings.lake}_{by_workers}"})
            settings = fleet.settings.model_copy(update={"lake": lake.uri})
            if not by_workers:
                watched.setattr(inspecting, "is_plain", lambda *_: False)
            ingest(lake, spark, settings)
            assert bool(asked) is not by_workers
            assert bool(list(Path(lake.uri).glob(f"{TIMES_FOLDER}/*.json"))) is by_workers
            built = publish_features(lake, spark, settings)
            tables = [lake.table(name).arrow().to_pandas() for name in (FEATURES, QUARANTINE)]
            found.append((built, *tables))
    (built, features, refused), (other, *theirs) = found
    for order, *tables in zip((["__segment", "__period"], [FILE, ROW]), (features, refused), theirs, strict=True):
        mine, their = (table.sort_values(order, ignore_index=True) for table in tables)
        pd.testing.assert_frame_equal(mine[sorted(mine)], their[sorted(their)])
    assert {**built.record, "digest": 0} == {**other.record, "digest": 0}
    return built.record["rows"]


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("dd.MM.yyyy", "%d.%m.%Y"), ("MM/dd/yyyy HH:mm", "%m/%d/%Y 00:00"), (None, "%Y-%m-%dT00:00:00Z"), (None, "%Y-%m-%d 01:00:00+01:00"),
    ],
)  # fmt: skip
def test_times_that_only_spark_can_tell(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch, pattern: str | None, written: str
) -> None:
    table = daily_sales(days=40).assign(day=lambda frame: frame["day"].dt.strftime(written))
    text = table.to_csv(index=False) + "shop,day,sold,price\nshop 1,soon,1,1\nshop 1,,1,1\n"
    options = {"timestampFormat": pattern} if pattern else {}
    fleet = make_fleet(text, source={"path": "table.csv", "options": options}, horizon=4)
    rows = both_ways(spark, fleet, monkeypatch)
    assert rows["valid"] == 120
    assert rows["by_reason"] == {"unparsable:day": 2, "null_time:day": 1}
    (file,) = Path(f"{fleet.settings.lake}_True").glob(f"{TIMES_FOLDER}/*.json")
    told = json.loads(file.read_text())
    assert len(told) == 42
    assert [text for text, moment in told.items() if moment is None] == ["day", "soon"]


def test_too_many_odd_times_are_left_to_spark(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = daily_sales(days=40).assign(day=lambda frame: frame["day"].dt.strftime("%Y-%m-%dT00:00:00Z"))
    fleet = make_fleet(table.to_csv(index=False), horizon=4)
    monkeypatch.setattr(moments, "MOST_ODD_TIMES", 39)
    ingest(fleet.lake, spark, fleet.settings)
    assert not list(Path(fleet.lake.root).glob(f"{TIMES_FOLDER}/*"))
    assert publish_features(fleet.lake, spark, fleet.settings).record["rows"]["valid"] == 120


def test_a_guess_that_is_wrong_changes_nothing(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = daily_sales(shops=4, days=40).assign(open="yes", kind="x", code="7")
    looked_at: list[dict[str, str]] = []
    original = plain.look_at

    def watched(*given: Any) -> Any:
        looked_at.append(dict(given[3].kinds))
        return original(*given)

    monkeypatch.setattr(plain, "look_at", watched)
    nothing = Told(180, 0, 0, 0)
    monkeypatch.setattr(plain, "first_told", lambda *_: dict.fromkeys(["price", "open", "kind", "code"], nothing))
    fleet = make_fleet(
        table.to_csv(index=False), horizon=4, features={"known_ahead": ["price", "open", "kind", "code"]}
    )
    rows = both_ways(spark, fleet, monkeypatch)
    assert rows["valid"] == 160
    true = {"sold": "number", "price": "number", "open": "boolean", "kind": "text", "code": "number"}
    assert looked_at == [dict.fromkeys(true, "text") | {"sold": "number"}, true]


def test_rows_of_very_many_batches_and_files(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad rows and broken rules in every batch of a file with several groups of rows, and files lacking columns."""
    fleet = make_fleet(
        None, source={"path": "in", "format": "parquet"}, horizon=4, features={"known_ahead": ["price"]},
        contract={"columns": {"price": {"maximum": 4.5, "action": "warn"}}, "expectations": [{"name": "even", "predicate": "n % 10 <> 3"}]},
    )  # fmt: skip
    (fleet.folder / "in").mkdir()
    table = daily_sales(shops=30, days=40).assign(n=range(1200))
    table["sold"] = [None if n % 50 == 7 else str(sold) if n % 97 else "many" for n, sold in enumerate(table["sold"])]
    for number in range(3):
        part = pa.Table.from_pandas(table[400 * number : 400 * (number + 1)], preserve_index=False)
        part = part.append_column("later", pa.array(["x"] * 400)) if number else part
        pq.write_table(part, fleet.folder / "in" / f"{number}.parquet", row_group_size=70)
    rows = both_ways(spark, fleet, monkeypatch)
    assert rows["by_reason"] == {"unparsable:sold": 13, "expectation:even": 119}
    assert rows["valid"] == 1200 - 132


def test_what_is_refused_is_refused_in_the_same_words(spark: Spark, make_fleet: MakeFleet) -> None:
    spoiled = {
        "no time": daily_sales().assign(day="soon"), "no label": daily_sales().assign(sold="many"), "no usable label": daily_sales().assign(sold=""),
        "blank times": daily_sales().assign(day=" "), "far": daily_sales().assign(day="1802-01-01"), "one": daily_sales(days=1),
    }  # fmt: skip
    for name, table in spoiled.items():
        fleet = make_fleet(table.to_csv(index=False))
        raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
        rows: RawRows = kept(raw, fleet.folder / "kept")
        assert is_plain(rows.schema, fleet.settings)
        with pytest.raises(InputError) as by_workers:
            inspect(spark, rows, fleet.settings)
        with pytest.raises(InputError) as by_spark:
            inspect_frame(spark, raw, fleet.settings)
        assert str(by_workers.value) == str(by_spark.value), name
