"""Plain CSV files: what workers read is what Spark reads, and what is not plain is left to Spark."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from assets.raw import new_rows
from assets.raw.ingest import ingest
from assets.raw.plain_csv import PlainCsv, Target, _Style, _style, _written
from assets.raw.read import read_source
from assets.raw.snapshot import RAW
from assets.raw.source import CORRUPT, FILE, ROW, find_files
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales
from tests.hostile import HOSTILE

NAMES = ["shop", "day", "sold"]
PIECES = [
    "a", "1", "2024-01-01", " ", "\t", "é", "🍦", "\u00a0", "'", "\\", "#", ";", "|", "NA", "null", "NaN", "x" * 50,
    ",", ",", ",", ",", "\n", "\n", '"', '""', '"a,b"', '"c\nd"', '""""', '"e""f"', "\r\n", "\r", "\x00", "\ufeff", "\n\n",
]  # fmt: skip


def content(draw: random.Random) -> str:
    """A file that is nearly well formed, or hostile from one end to the other."""
    if draw.random() < 0.5:
        cells = ["a", "", " b ", '"c"', '"d,e"', '"f""g"', '""', "2024-01-01", "1.5", "é", "'"]
        rows = [",".join(draw.choice(cells) for _ in NAMES) for _ in range(draw.randint(0, 6))]
        if draw.random() < 0.3 and rows:
            place = draw.randrange(len(rows))
            rows[place] = draw.choice(
                ["", "a", "a,b,c,d", 'a,"b\nc",d', 'a,b "c",d', '"a" ,b,c', " ", ",,", '"a"b,c,d']
            )
        end = draw.choice(["\n", "\n", "\n", "\r\n"])
        return end.join([",".join(NAMES), *rows]) + draw.choice(["", end])
    return ",".join(NAMES) + "\n" + "".join(draw.choice(PIECES) for _ in range(draw.randint(0, 25)))


def by_worker(path: Path, folder: Path) -> list[tuple[Any, ...]] | None:
    """The rows of a file as a worker reads them, None if it is not plain."""
    task = PlainCsv(str(path), path.stat().st_size, NAMES, True, Target(str(folder), path.name, 1))
    (line,) = _written(task, _Style(",", '"', "utf-8"))
    if not line["is_plain"]:
        assert line["file"] is None
        return None
    if line["file"] is None:
        return []
    rows = pq.read_table(line["file"]).to_pylist()
    assert [row[ROW] for row in rows] == list(range(len(rows)))
    assert all(row[CORRUPT] is None for row in rows)
    return [tuple(row[name] for name in NAMES) for row in rows]


@pytest.mark.parametrize("seed", range(3))
def test_what_a_worker_takes_for_plain_it_reads_as_spark_does(
    spark: Spark, make_fleet: MakeFleet, tmp_path: Path, seed: int
) -> None:
    draw, folder = random.Random(seed), tmp_path / "in"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:04}.csv").write_text(content(draw), encoding="utf-8", newline="")
    plain = {path.name: rows for path in folder.iterdir() if (rows := by_worker(path, tmp_path / "out")) is not None}
    assert 75 < len(plain) < 290
    schema = ", ".join(f"{name} string" for name in [*NAMES, CORRUPT])
    options = {"header": "true", "multiLine": "true", "quote": '"', "escape": '"', "enforceSchema": "true"}
    reader = spark.session().read.options(**options, columnNameOfCorruptRecord=CORRUPT).schema(schema)
    there: dict[str, list[tuple[Any, ...]]] = {name: [] for name in plain}
    files = [str(folder / name) for name in plain]
    rows = reader.csv(files).selectExpr("*", "_metadata.file_name as name", "monotonically_increasing_id() as row")
    for row in rows.orderBy("name", "row").collect():
        assert row[CORRUPT] is None, row
        there[row["name"]].append(tuple(row[name] for name in NAMES))
    for name, wanted in there.items():
        assert plain[name] == wanted, (folder / name).read_bytes()


def taken(spark: Spark, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, bool]:
    """The raw table of a fleet, which is the same if Spark reads all files; and whether workers read them."""
    asked = []
    original = new_rows._write_by_spark
    with monkeypatch.context() as watched:
        watched.setattr(new_rows, "_write_by_spark", lambda *given: (asked.append(1), original(*given)))
        ingest(fleet.lake, spark, fleet.settings)
    found = fleet.lake.table(RAW).arrow().to_pandas().sort_values([FILE, ROW], ignore_index=True)
    theirs = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    wanted = theirs.orderBy(FILE, ROW).toPandas()
    pd.testing.assert_frame_equal(found[wanted.columns].drop(columns=ROW), wanted.drop(columns=ROW))
    return found, not asked


@pytest.mark.parametrize(
    ("options", "encoding", "plain"),
    [
        ({}, "utf-8", True),
        ({}, "utf-8-sig", True),
        ({"sep": ";"}, "utf-8", True),
        ({"delimiter": "\t", "encoding": "windows-1252"}, "cp1252", True),
        ({"encoding": "latin-1"}, "latin-1", True),
        ({"encoding": "utf-16"}, "utf-16", False),
        ({"nullValue": "NA"}, "utf-8", False),
        ({"escape": "\\"}, "utf-8", False),
        ({"ignoreLeadingWhiteSpace": True}, "utf-8", False),
        ({"comment": "#"}, "utf-8", False),
        ({"lineSep": "\n"}, "utf-8", False),
    ],
)
def test_who_reads_which_options(
    spark: Spark,
    make_fleet: MakeFleet,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    encoding: str,
    plain: bool,
) -> None:
    fleet = make_fleet(None, source={"path": "in", "format": "csv", "options": options}, horizon=7)
    (fleet.folder / "in").mkdir()
    separator = options.get("sep", options.get("delimiter", ","))
    for name, table in daily_sales().assign(note='Köln, "Süd"').groupby("shop"):
        text = table.to_csv(index=False, sep=separator)
        (fleet.folder / "in" / f"{name}.csv").write_text(text, encoding=encoding, newline="")
    found, by_workers = taken(spark, fleet, monkeypatch)
    assert by_workers is plain
    assert len(found) == 180
    assert options.get("escape") or set(found["note"]) == {'Köln, "Süd"'}


@pytest.mark.parametrize(("quote", "known"), [("'", True), ("|", True), ("\x02", False), ("\t", False)])
def test_a_quote_that_spark_takes_for_white_space_is_left_to_it(make_fleet: MakeFleet, quote: str, known: bool) -> None:
    source = {"path": "a.csv", "options": {"quote": quote, "escape": quote}}
    fleet = make_fleet(None, source=source)
    daily_sales().to_csv(fleet.folder / "a.csv", index=False)
    assert (_style(find_files(fleet.settings), fleet.settings) is not None) is known


def test_hostile_cells_come_back_letter_by_letter(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell for cell in HOSTILE if "\x00" not in cell and "\r" not in cell]
    table = pd.concat([daily_sales(shops=1, days=20).assign(note=cell) for cell in cells])
    table["shop"] = table["note"]
    fleet = make_fleet(table.to_csv(index=False), horizon=2)
    found, by_workers = taken(spark, fleet, monkeypatch)
    assert by_workers
    assert set(found["note"].dropna()) == set(cells) - {""}


def test_columns_without_a_header_and_a_compressed_file(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = make_fleet(None, source={"path": "t.csv.gz", "columns": ["shop", "day", "sold", "price"]}, horizon=7)
    daily_sales().to_csv(named.folder / "t.csv.gz", index=False, header=False)
    found, by_workers = taken(spark, named, monkeypatch)
    assert by_workers
    assert len(found) == 180


def test_columns_that_spark_names_and_files_that_are_not_plain_among_those_that_are(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(None, source={"path": "in", "format": "csv"}, horizon=7)
    (fleet.folder / "in").mkdir()
    for number, (name, table) in enumerate(daily_sales(shops=5).groupby("shop")):
        text = table.to_csv(index=number == 3)  # an index has no name
        text = text.replace("shop 2", '5" shop').replace("2.0\n", "2.0,too many\n", number == 4)
        if number == 0:
            text = text.replace("\n", ",1,2\n").replace(",1,2\n", ",note,note\n", 1)
        (fleet.folder / "in" / f"{name}.csv").write_text(text)
    found, by_workers = taken(spark, fleet, monkeypatch)
    assert not by_workers
    assert len(found) == 300
    assert found[CORRUPT].notna().sum() == 1
    assert found["_c0"].notna().sum() == 60
    assert found[["note4", "note5"]].notna().sum().tolist() == [60, 60]
    files = [file for file in fleet.lake.table(RAW).files() if "/by_spark/" in file]
    assert len({file.split("fleet_part=")[1] for file in files}) == 3
    assert len(fleet.lake.table(RAW).files()) == 5


def test_what_is_wrong_with_text_is_said_whoever_would_have_read_it(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "in", "format": "csv"})
    (fleet.folder / "in").mkdir()
    good = daily_sales().to_csv(index=False)
    (fleet.folder / "in" / "a.csv").write_text(good)
    (fleet.folder / "in" / "b.csv").write_bytes(good.encode() + b"K\xf6ln,2024-01-01,1,1\n")
    (fleet.folder / "in" / "c.csv").write_bytes(good.encode() + b"x,2024-01-01,1,1\r\n")
    with pytest.raises(InputError) as caught:
        ingest(fleet.lake, spark, fleet.settings)
    told = [str(problem) for problem in caught.value.problems]
    assert [line.split("/in/")[1].split(" -> ")[0] for line in told] == [
        "b.csv line 182: is not utf-8", "c.csv line 182: ends in CR LF, the lines before in LF",
    ]  # fmt: skip
    assert not Path(fleet.settings.lake).exists()
