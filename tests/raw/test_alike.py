"""Tables that workers read and those that Spark reads: the same is valid, refused and said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.features.publish import QUARANTINE, publish_features
from assets.raw import inspect as inspecting
from assets.raw import new_rows
from assets.raw.arrow_cells import moments_in
from assets.raw.ingest import ingest
from assets.raw.snapshot import RAW
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales

Said = dict[str, Any] | list[str]


def outcome(spark: Spark, fleet: Fleet) -> Said:
    """How many rows are what, or what is said to be wrong; then nothing was committed."""
    try:
        ingest(fleet.lake, spark, fleet.settings)
        return publish_features(fleet.lake, spark, fleet.settings).record["rows"]
    except InputError as error:
        assert not fleet.lake.table(RAW).exists()
        return [str(problem) for problem in error.problems]


@pytest.fixture
def alike(spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The outcome of a table, which is that of the same files if Spark reads all of them."""

    def both(files: dict[str, bytes], said_by_both: bool = True, **keys: Any) -> Said:
        found = []
        for by_spark in (False, True):
            format_ = next(iter(files)).rpartition(".")[2]
            fleet = make_fleet(None, **{"source": {"path": "in", "format": format_}, "horizon": 4, **keys})
            (fleet.folder / "in").mkdir()
            for name, content in files.items():
                (fleet.folder / "in" / name).write_bytes(content)
            with monkeypatch.context() as patched:
                if by_spark:
                    patched.setattr(new_rows, "write_plain_csv", lambda *_: {})
                    patched.setattr(inspecting, "is_plain", lambda *_: False)
                found.append(without_folder(outcome(spark, fleet), fleet.folder))
        assert (found[0] == found[1]) is said_by_both, found
        return found[0]

    return both


def without_folder(said: Said, folder: Path) -> Said:
    return [line.replace(str(folder), "").replace("file://", "") for line in said] if isinstance(said, list) else said


def csv(**columns: Any) -> bytes:
    return daily_sales(shops=3, days=40).assign(**columns).to_csv(index=False).encode()


EXPECT = "contract.expectations e"


@pytest.mark.parametrize(
    ("column", "cells", "odd", "predicate"),
    [
        ("price", "1.5", "n/a", "price > 0"),
        ("price", "1.5", "n/a", "abs(price) < 100 and isnan(price) is not null"),
        ("closed", "no", "maybe", "not closed or sold > 0"),
    ],
)
def test_what_the_first_rows_do_not_tell_is_no_mistake_of_a_rule(
    alike: Callable[..., Said], column: str, cells: str, odd: str, predicate: str
) -> None:
    old, new = daily_sales(shops=1, days=40), daily_sales(shops=3, days=40)
    old = old.assign(shop="old", **{column: ""})
    new = new.assign(**{column: [odd, *[cells] * (len(new) - 1)]})
    files = {"a.csv": old.to_csv(index=False).encode(), "b.csv": new.to_csv(index=False).encode()}
    contract = {"expectations": [{"name": "e", "predicate": predicate}]}
    said = alike(files, features={"known_ahead": [column]}, contract=contract)
    assert said == {"read": 160, "valid": 159, "quarantined": 1, "by_reason": {f"unparsable:{column}": 1}}


LONG = "cast(note as int) > 0 and length(note) < 1000000 and length(note) <> 999999 and shop is not null and day is not null"


@pytest.mark.parametrize(
    ("action", "predicate"),
    [("drop", LONG), ("warn", LONG), ("warn", "cast(note as int)\n   > 0"), ("drop", "cast(note as int) > 0")],
)
def test_a_rule_that_fails_on_a_row_is_named_however_long_it_is(
    alike: Callable[..., Said], action: str, predicate: str
) -> None:
    note = ["1"] * 100 + ["x"] + ["1"] * 19
    expectations = [{"name": "fine", "predicate": "sold >= 0"}, {"name": "e", "predicate": predicate, "action": action}]
    said = alike({"a.csv": csv(note=note)}, contract={"expectations": expectations})
    assert isinstance(said, list)
    assert [line.partition(":")[0] for line in said] == [f"fleet.yaml {EXPECT}"]
    assert "fails on a row" in said[0]
    assert "CAST_INVALID_INPUT" in said[0]


def test_a_rule_that_fails_on_a_row_refused_before_is_found_before_anything_is_written(
    alike: Callable[..., Said],
) -> None:
    table = daily_sales(shops=3, days=40).assign(note="1")
    table["day"] = table["day"].astype(str)
    table.loc[7, ["day", "note"]] = ["soon", "x"]
    contract = {"expectations": [{"name": "e", "predicate": "cast(note as int) > 0", "action": "warn"}]}
    said = alike({"a.csv": table.to_csv(index=False).encode()}, contract=contract)
    assert isinstance(said, list)
    assert EXPECT in said[0]


def test_a_time_that_never_parses_is_said_before_what_rules_say_of_it(alike: Callable[..., Said]) -> None:
    said = alike({"a.csv": csv(day="soon")}, contract={"expectations": [{"name": "e", "predicate": "no_column > 3"}]})
    assert isinstance(said, list)
    assert "no cell of 'day' parses as a time" in said[0]


def test_a_header_in_another_encoding_is_refused(alike: Callable[..., Said]) -> None:
    said = alike({"a.csv": csv().replace(b"price", b"pr\xe4is", 1)})
    assert isinstance(said, list)
    assert said[0].startswith("/in/a.csv line 1: is not utf-8")


def test_a_header_with_a_blank_line_in_it(spark: Spark, make_fleet: MakeFleet, alike: Callable[..., Said]) -> None:
    content = csv().replace(b"price", b'"pr\n\nice"', 1)
    fleet = make_fleet(None, source={"path": "a.csv"}, horizon=4)
    (fleet.folder / "a.csv").write_bytes(content)
    ingest(fleet.lake, spark, fleet.settings)
    assert fleet.lake.table(RAW).arrow(["pr\n\nice"])["pr\n\nice"].null_count == 0
    assert alike({"a.csv": content}, features={"known_ahead": ["pr\n\nice"]})["valid"] == 120  # type: ignore[call-overload]


def not_utf8(column: str, cell: bytes) -> bytes:
    table = pa.Table.from_pandas(daily_sales(shops=3, days=40).assign(temp="3", n=1.0), preserve_index=False)
    cells = [cell if row == 5 else str(text).encode() for row, text in enumerate(table[column].to_pylist())]
    offsets, data = pa.array(cells, pa.binary()).buffers()[1:]
    text = pa.StringArray.from_buffers(len(cells), offsets, data)
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(table.column_names.index(column), column, text), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(("column", "cell"), [("temp", b"3\xb0"), ("sold", b"K\xf6ln"), ("shop", b"K\xf6ln")])
def test_text_of_parquet_that_is_not_utf8_is_refused_with_its_place(
    spark: Spark, make_fleet: MakeFleet, column: str, cell: bytes
) -> None:
    for predicate in ("n < 100", f"length({column}) < 100"):
        contract = {"expectations": [{"name": "e", "predicate": predicate}]}
        fleet = make_fleet(None, source={"path": "a.parquet"}, features={"known_ahead": ["temp"]}, contract=contract)
        (fleet.folder / "a.parquet").write_bytes(not_utf8(column, cell))
        said = outcome(spark, fleet)
        assert isinstance(said, list)
        assert len(said) == 1
        assert f"a.parquet: column {column!r} is not in UTF-8 in row 6" in said[0]


def test_segments_that_are_not_utf8_are_refused_where_spark_reads_them(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "is_plain", lambda *_: False)
    fleet = make_fleet(None, source={"path": "a.parquet"})
    (fleet.folder / "a.parquet").write_bytes(not_utf8("shop", b"K\xf6ln"))
    said = outcome(spark, fleet)
    assert isinstance(said, list)
    assert "not in UTF-8" in said[0]


def test_text_that_nobody_looks_at_is_kept_as_it_is(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "a.parquet"}, horizon=4)
    (fleet.folder / "a.parquet").write_bytes(not_utf8("temp", b"3\xb0"))
    said = outcome(spark, fleet)
    assert isinstance(said, dict)
    assert said["valid"] == 120
    assert not fleet.lake.table(QUARANTINE).row_count()


def test_an_impossible_day_makes_no_other_time_odd() -> None:
    texts = ["2024-01-05", "2023-02-30", None, "2024-02-29 10:00", "soon", "2024-01-05 25:00"]
    found = moments_in(pa.array(texts), {}, patterned=False)
    assert found.known.tolist() == [True, False, False, True, False, False]
    assert found.odd.tolist() == [False, True, False, False, True, True]
    assert found.micros[3] == pd.Timestamp("2024-02-29 10:00").value // 1000
