"""Reading the user's table: every format as it comes, and every mistake as an `InputError`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.raw.ingest import ingest
from assets.raw.kinds import column_kinds
from assets.raw.parse import parse_rows
from assets.raw.read import read_source
from assets.raw.snapshot import RAW
from assets.raw.source import CORRUPT, FILE, ROW, find_files
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales

NASTY = [
    "plain",
    "with, comma",
    'with "quotes"',
    "line\nbreak",
    "crlf\r\nbreak",
    "🍦 ice",
    " spaces ",
    "back\\slash",
    "a;b",
    "'",
    "#hash",
]


def read(spark: Spark, fleet: Fleet) -> list[dict[str, Any]]:
    """The source's rows in the order of file and row, without provenance."""
    frame = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    rows = [row.asDict() for row in frame.orderBy(FILE, ROW).collect()]
    return [{name: value for name, value in row.items() if name not in (FILE, ROW)} for row in rows]


def problems(spark: Spark, fleet: Fleet) -> str:
    """What `ingest` says is wrong; nothing may be left in the lake."""
    with pytest.raises(InputError) as caught:
        ingest(fleet.lake, spark, fleet.settings)
    assert not Path(fleet.settings.lake).exists()
    said = str(caught.value)
    assert "Py4J" not in said
    assert "calling o" not in said
    assert "java." not in said
    return said


def nasty_table() -> pd.DataFrame:
    return pd.DataFrame({
        "shop": NASTY,
        "day": pd.date_range("2024-01-01", periods=len(NASTY)).astype(str),
        "sold": [float(number) for number in range(len(NASTY))],
    })  # fmt: skip


@pytest.mark.parametrize(
    "file", ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.json", "t.parquet", "bom.csv", "crlf.csv"]
)
def test_text_comes_back_letter_by_letter(spark: Spark, make_fleet: MakeFleet, file: str) -> None:
    fleet = make_fleet(None, source={"path": file})
    path, table = fleet.folder / file, nasty_table()
    if "json" in file:
        table.to_json(path, orient="records", lines=file == "t.jsonl", force_ascii=False)
    elif file == "t.parquet":
        table.to_parquet(path, index=False)
    else:
        encoding = "utf-8-sig" if file == "bom.csv" else "utf-8"
        separator, end = ("\t" if file == "t.tsv" else ","), ("\r\n" if file == "crlf.csv" else "\n")
        table.to_csv(path, index=False, encoding=encoding, sep=separator, lineterminator=end)
    rows = read(spark, fleet)
    # where lines end in CRLF, Spark takes one inside quotes for the same line break
    expected = [text.replace("\r\n", "\n") for text in NASTY] if file == "crlf.csv" else NASTY
    assert [row["shop"] for row in rows] == expected
    assert [float(row["sold"]) for row in rows] == list(table["sold"])
    assert all(row[CORRUPT] is None for row in rows)


def test_parquet_times_of_every_kind(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "t.parquet"}, segment=["shop"], features={"past_only": "n"})
    moments = pd.to_datetime(["2024-01-01 10:00:00.123456", "2024-07-01 10:00:00"], format="ISO8601")
    kinds = {
        "ns": pa.array(moments, pa.timestamp("ns")),
        "us": pa.array(moments, pa.timestamp("us")),
        "ms": pa.array(moments.floor("ms"), pa.timestamp("ms")),
        "tokyo": pa.array(moments.tz_localize("Asia/Tokyo"), pa.timestamp("ns", "Asia/Tokyo")),
        "date": pa.array(moments.date, pa.date32()),
        "text": pa.array(["2024-01-01T10:00:00.123456", "2024-07-01T19:00:00+09:00"]),
    }
    for name, times in kinds.items():
        table = pa.table({"shop": ["a", "b"], "day": times, "sold": [1.0, 2.0], "n": [1, 2], "dead.col": times})
        pq.write_table(table, fleet.folder / "t.parquet")
        frame = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
        parsed = parse_rows(frame, fleet.settings, column_kinds(frame, fleet.settings))
        found = [row["__time"] for row in parsed.orderBy(ROW).collect()]
        expected = {
            "ms": moments.floor("ms"),
            "tokyo": moments - pd.Timedelta("9h"),
            "date": moments.floor("D"),
        }
        assert found == list(expected.get(name, moments).to_pydatetime()), name


def test_a_folder_a_glob_and_hive_folders(spark: Spark, make_fleet: MakeFleet) -> None:
    table = nasty_table()
    fleet = make_fleet(None, source={"path": "data"})
    for part, name in enumerate(["b [1].csv", "a, b.csv", "c%20d#é.csv", "_hidden.csv", ".hidden.csv"]):
        (fleet.folder / "data").mkdir(exist_ok=True)
        table.iloc[part : part + 1].to_csv(fleet.folder / "data" / name, index=False)
    assert [row["shop"] for row in read(spark, fleet)] == [NASTY[1], NASTY[0], NASTY[2]]
    glob = make_fleet(None, source={"path": "data/year=*/*.csv"}, features={"past_only": ["year"]})
    for year in (2023, 2024):
        (glob.folder / "data" / f"year={year}").mkdir(parents=True)
        table.iloc[:1].to_csv(glob.folder / "data" / f"year={year}" / "t.csv", index=False)
    table.to_csv(glob.folder / "data" / "other.csv", index=False)
    assert [row["year"] for row in read(spark, glob)] == ["2023", "2024"]


def test_reader_options(spark: Spark, make_fleet: MakeFleet) -> None:
    named = make_fleet(
        "shop;day;sold\na;31.05.2024;1\n",
        source={"path": "table.csv", "options": {"sep": ";", "timestampFormat": "dd.MM.yyyy"}},
    )
    frame = read_source(spark.session(), find_files(named.settings), named.settings)
    [row] = parse_rows(frame, named.settings, column_kinds(frame, named.settings)).collect()
    assert str(row["__time"]) == "2024-05-31 00:00:00"
    bare = make_fleet(
        "a|2024-05-31|1\n", source={"path": "table.csv", "options": {"delimiter": "|", "header": False}},
        segment="_c0", time="_c1", label="_c2",
    )  # fmt: skip
    assert read(spark, bare) == [{"_c0": "a", "_c1": "2024-05-31", "_c2": "1", CORRUPT: None}]
    tabs = make_fleet("shop:day:sold\na:x:1\n", file="t.tsv", source={"path": "t.tsv", "options": {"delimiter": ":"}})
    assert read(spark, tabs)[0]["shop"] == "a"


def test_lines_that_cannot_be_read_are_kept_and_marked(spark: Spark, make_fleet: MakeFleet) -> None:
    csv = make_fleet("shop,day,sold\na,2024-01-01,1\nb,2024-01-01\nc,2024-01-01,3,4\nd,2024-01-01,5\n")
    assert [row[CORRUPT] for row in read(spark, csv)] == [None, "b,2024-01-01", "c,2024-01-01,3,4", None]
    lines = ['{"shop": "a", "day": "2024-01-01", "sold": 1}', '{"shop": "b", "day"', '{"shop": "c"}']
    js = make_fleet("\n".join(lines), file="t.jsonl", source={"path": "t.jsonl"})
    assert [row[CORRUPT] for row in read(spark, js)] == [None, lines[1], None]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("t.csv", b"", "t.csv: the file is empty"),
        ("t.csv", b"shop,day,sold\n", "holds no rows"),
        ("t.csv", b"shp,day,sold\na,2024-01-01,1\n", "segment: the table has no column 'shop' -> did you mean 'shp'?"),
        ("t.csv", b"shop,day,sold,__file\na,2024-01-01,1,x\n", "reserved"),
        ("t.csv", b"shop,day,sold,__segment\na,2024-01-01,1,x\n", "reserved"),
        ("t.csv", ("shop,day,sold," + ",".join(f"c{n}" for n in range(2_000)) + "\na").encode(), "has 2,003 columns"),
        ("t.csv", b"shop,day,sold\r\na,2024-01-01,1\r\nb,2024-01-01,1\nc,2024-01-01,1\n", "t.csv line 3: ends in LF, the"),
        ("t.csv", b'shop,day,sold\na,2024-01-01,"1\n2"\nb,2024-01-01,1\rc,2024-01-01,1\n', "t.csv line 4: ends in CR, the"),
        ("t.csv", b'shop,day,sold\na,2024-01-01,"1"\n"b,2024-01-01,1\nc,2024-01-01,1\n', "t.csv line 3: opens a quote"),
        ("t.csv", b"shop,day,sold,Sold\na,2024-01-01,1,x\n", "'sold' and 'Sold' differ only in case"),
        ("t.csv", b"shop,day,sold\na,soon,1\nb,later,2\n", "no cell of 'day' parses as a time"),
        ("t.csv", b"shop,day,sold\na,2024-01-01,many\n", "no cell of 'sold' parses as a number"),
        ("t.csv", b"shop,day,sold\na,2024-01-01,\n", "no row has a usable value in 'sold'"),
        ("t.csv", b"shop,day,sold\na,,1\n", "no row has a usable time"),
        ("t.csv", b"shop,day,sold\na,2024-01-01,1\n", "spans 1 period of"),
        ("t.csv.gz", b"not gzip", "cannot be read"),
        ("t.jsonl", b"", "no column 'shop'"),
        ("t.jsonl", b"not json\n", "no column 'shop'"),
        ("t.parquet", b"", "t.parquet: is not readable as Parquet"),
        ("t.parquet", b"PAR1 but not really", "t.parquet: is not readable as Parquet"),
        ("t.xlsx", b"x", "cannot be told from files ending in xlsx"),
        ("", b"", "no file at"),
    ],
)  # fmt: skip
def test_what_is_wrong_as_a_whole(
    spark: Spark, make_fleet: MakeFleet, file: str, content: bytes, expected: str
) -> None:
    fleet = make_fleet(None, source={"path": file or "missing.csv"})
    if file:
        (fleet.folder / file).write_bytes(content)
    assert expected in problems(spark, fleet)


def test_a_quote_within_a_cell_opens_nothing(spark: Spark, make_fleet: MakeFleet) -> None:
    rows = [f'5" pipe,2024-01-{day:02},{day}' for day in range(1, 20)]
    fleet = make_fleet("\n".join(["shop,day,sold", *rows, ""]), horizon=2)
    assert ingest(fleet.lake, spark, fleet.settings).rows == 19
    assert fleet.lake.table(RAW).arrow(["shop"])["shop"].unique().to_pylist() == ['5" pipe']


def test_cells_in_quotes_may_hold_other_line_ends(spark: Spark, make_fleet: MakeFleet) -> None:
    rows = [f'"a\n5"" b",2024-01-{day:02},{day}' for day in range(1, 20)]
    fleet = make_fleet("\r\n".join(["shop,day,sold", *rows, ""]), horizon=2)
    assert ingest(fleet.lake, spark, fleet.settings).rows == 19
    assert fleet.lake.table(RAW).arrow(["shop"])["shop"].unique().to_pylist() == ['a\n5" b']


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1", "cp1251", "utf-16"])
def test_encodings_by_the_names_that_people_use(spark: Spark, make_fleet: MakeFleet, encoding: str) -> None:
    name = "Москва" if encoding == "cp1251" else "Köln"
    rows = [f"{name},2024-01-{day:02},{day}" for day in range(1, 20)]
    fleet = make_fleet(None, source={"path": "t.csv", "options": {"encoding": encoding}}, horizon=2)
    (fleet.folder / "t.csv").write_text("\n".join(["shop,day,sold", *rows, ""]), encoding=encoding)
    assert ingest(fleet.lake, spark, fleet.settings).rows == 19
    assert fleet.lake.table(RAW).arrow(["shop"])["shop"].unique().to_pylist() == [name]


def test_damaged_parquet_is_named(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "data"})
    (fleet.folder / "data").mkdir()
    good, bad = fleet.folder / "data" / "good.parquet", fleet.folder / "data" / "bad.parquet"
    daily_sales().to_parquet(good)
    bad.write_bytes(good.read_bytes()[:-200])
    assert "bad.parquet: is not readable as Parquet" in problems(spark, fleet)
    content = bytearray(good.read_bytes())
    content[10:400] = b"\x00" * 390  # the footer is whole, the pages are not
    bad.write_bytes(content)
    assert "cannot be read" in problems(spark, fleet)


def test_parquet_files_of_other_columns_or_types(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "data"})
    (fleet.folder / "data").mkdir()
    daily_sales().to_parquet(fleet.folder / "data" / "a.parquet")
    daily_sales().rename(columns={"sold": "Sold"}).to_parquet(fleet.folder / "data" / "b.parquet")
    assert "b.parquet: the file has no column 'sold', which others have -> did you mean 'Sold'?" in problems(
        spark, fleet
    )
    daily_sales().astype({"sold": str}).to_parquet(fleet.folder / "data" / "b.parquet")
    assert "b.parquet: from this file on column 'sold' is text, before it was number" in problems(spark, fleet)


def test_csv_files_with_other_headers(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "data"})
    (fleet.folder / "data").mkdir()
    daily_sales()[["shop", "day", "sold"]].to_csv(fleet.folder / "data" / "a.csv", index=False)
    daily_sales()[["shop", "day"]].to_csv(fleet.folder / "data" / "b.csv", index=False)
    assert "b.csv: the file has no column 'sold', which others have" in problems(spark, fleet)
    (fleet.folder / "data" / "b.csv").write_text("")
    told = problems(spark, fleet)
    assert "b.csv: the file is empty: it has not even a header -> remove it, or wait until it is written" in told
    assert "no column" not in told
    later = daily_sales(start="2024-03-01")
    for columns in (["day", "shop", "sold"], ["price", "shop", "day", "sold"]):
        later[columns].to_csv(fleet.folder / "data" / "b.csv", index=False)
        rows = read(spark, fleet)
        assert len(rows) == 2 * len(later)
        assert [float(row["sold"]) for row in rows[len(later) :]] == later["sold"].tolist()
        assert [row.get("price") for row in rows[: len(later)]] == [None] * len(later)


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        ({"options": {"timestampFormat": "%Y-%m-%d"}}, {}, "timestampFormat"),
        ({"options": {"sep": "many letters long"}}, {}, "no column 'shop'"),
        ({"options": {"encoding": "klingon"}}, {}, "is no encoding"),
        ({"format": "parquet"}, {}, "is not readable as Parquet"),
        ({}, {"segment": "label", "label": "shop"}, "no column 'label'"),
    ],
)  # fmt: skip
def test_options_and_columns_that_do_not_fit(
    spark: Spark, make_fleet: MakeFleet, source: dict[str, Any], keys: dict[str, str], expected: str
) -> None:
    text = daily_sales().to_csv(index=False)
    assert expected in problems(spark, make_fleet(text, source={"path": "table.csv", **source}, **keys))


def test_columns_of_types_that_cannot_serve(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales()
    table["codes"] = [[1]] * len(table)
    table["year"] = 2024
    fleet = make_fleet(table, segment="codes", time="year", label="day", features={"past_only": ["shop"]})
    said = problems(spark, fleet)
    for role in ("segment: column 'codes'", "time: column 'year'", "label: column 'day'"):
        assert f"fleet.yaml {role}" in said


def test_other_columns_may_be_of_any_type(spark: Spark, make_fleet: MakeFleet) -> None:
    table = pa.Table.from_pandas(daily_sales())
    rows = table.num_rows
    from datetime import timedelta
    from decimal import Decimal

    extra = {
        "nothing": pa.nulls(rows), "list": pa.array([[1]] * rows), "struct": pa.array([{"a": {"b": 1}}] * rows),
        "map": pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int32())), "binary": pa.array([b"\xff"] * rows),
        "decimal": pa.array([Decimal("1.5")] * rows), "category": pa.array(["x"] * rows).dictionary_encode(),
        "date": table["day"].cast(pa.date32()), "small": pa.array([1] * rows, pa.int8()),
        "unsigned": pa.array([1] * rows, pa.uint64()), "duration": pa.array([timedelta(1)] * rows),
        "a.b": pa.array([1] * rows), "a b,c;{}()=": pa.array([1] * rows), "`": pa.array([1] * rows),
    }  # fmt: skip
    fleet = make_fleet(None, source={"path": "t.parquet"})
    for name, column in extra.items():
        table = table.append_column(name, column)
    pq.write_table(table, fleet.folder / "t.parquet")
    snapshot = ingest(fleet.lake, spark, fleet.settings)
    stored = fleet.lake.table("raw").arrow(version=snapshot.version)
    assert stored.num_rows == rows
    assert set(extra) < set(stored.column_names)


def test_the_same_bytes_twice_are_no_new_snapshot(spark: Spark, make_fleet: MakeFleet, daily: pd.DataFrame) -> None:
    fleet = make_fleet(daily)
    first = ingest(fleet.lake, spark, fleet.settings)
    again = ingest(fleet.lake, spark, fleet.settings)
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.version, first.digest, first.profile) == (again.version, again.digest, again.profile)
    assert first.rows == len(daily)
    daily.assign(sold=daily["sold"] + 1).to_parquet(fleet.folder / "table.parquet")
    changed = ingest(fleet.lake, spark, fleet.settings)
    assert changed.is_new
    assert changed.version == first.version + 1
    other = fleet.settings.model_copy(update={"name": "other"})
    with pytest.raises(InputError, match="belongs to the fleet 'tiny'"):
        ingest(fleet.lake, spark, other)


def test_a_file_uri_and_a_path_with_special_characters(
    spark: Spark, make_fleet: MakeFleet, daily: pd.DataFrame
) -> None:
    fleet = make_fleet(None, source={"path": "in [1] 100% #é/t {x}.csv"}, lake="out [1] 100% #é")
    path = Path(fleet.settings.source.path)
    path.parent.mkdir()
    daily.to_csv(path, index=False)
    assert ingest(fleet.lake, spark, fleet.settings).rows == len(daily)
    uri = make_fleet(None, source={"path": path.as_uri()})
    assert uri.settings.source.path == str(path)


def test_compressed_and_plain_files_give_the_same(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "t.jsonl.gz"})
    (fleet.folder / "t.jsonl.gz").write_bytes(gzip.compress(json.dumps({"shop": "a"}).encode()))
    assert find_files(fleet.settings).format == "json"
