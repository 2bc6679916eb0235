"""A drafted `fleet.yaml`: likely roles found, what was seen as rules, and a draft that validates as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from assets.raw.column_facts import ColumnFacts
from assets.raw.draft import Draft, as_yaml, draft_of
from assets.raw.inspect import inspect_frame
from assets.raw.likely_roles import Key
from assets.raw.profile import Profile
from assets.raw.read import read_source, under_own_names
from assets.raw.source import find_files
from resources.problems import InputError
from resources.settings import Settings, read_settings
from resources.spark import Spark
from tests.buckets import Bucket
from tests.conftest import daily_sales
from tests.cycle import flats, sales
from tests.hostile import HOSTILE


def drafted(spark: Spark, path: Path) -> Draft:
    return draft_of(spark.session(), str(path))


def draft_of_table(spark: Spark, folder: Path, table: pd.DataFrame) -> Draft:
    table.to_parquet(folder / "table.parquet", index=False)
    return drafted(spark, folder / "table.parquet")


def read_back(draft: Draft, folder: Path) -> Settings:
    (folder / "fleet.yaml").write_text(as_yaml(draft, folder), encoding="utf-8")
    return read_settings(folder / "fleet.yaml")


def validated(spark: Spark, settings: Settings) -> Profile:
    """What `fleet validate` does."""
    source = read_source(spark.session(), find_files(settings), settings)
    return inspect_frame(spark, under_own_names(source, settings.contract), settings)[0]


def departments() -> pd.DataFrame:
    """Four stores with three departments each; a name and a flag that go with the store, and visitors of the store."""
    table = daily_sales(shops=12, days=40).rename(columns={"day": "date", "sold": "sales"})
    number = table.pop("shop").str.removeprefix("shop ").astype(int) - 1
    day = (table["date"] - table["date"].min()).dt.days
    return table.assign(
        store="store " + (number // 3).astype(str),
        department=(number % 3).map({0: "fruit", 1: "toys", 2: "wine"}),
        city=(number // 6).map({0: "Osaka", 1: "Kyōto"}),
        promotion=(day % 7 == 0).astype(int),
        visitors=(number // 3) * 100 + day % 11,
    )


def test_a_plain_table(spark: Spark, tmp_path: Path, daily: pd.DataFrame) -> None:
    draft = draft_of_table(spark, tmp_path, daily)
    assert (draft.name, draft.rows, draft.format) == ("table", 180, None)
    assert draft.key == Key(("shop",), 1.0)
    assert (draft.time, draft.frequency, draft.label) == ("day", "D", "sold")
    assert draft.left_out == {}


def test_a_key_of_two_columns_is_found_among_others(spark: Spark, tmp_path: Path) -> None:
    draft = draft_of_table(spark, tmp_path, departments())
    assert set(draft.key.columns) == {"store", "department"}
    assert draft.key.apart == 1.0
    assert draft.label == "sales"


def test_a_key_of_three_numbers_that_are_called_keys(spark: Spark, tmp_path: Path) -> None:
    grid = pd.MultiIndex.from_product(
        [range(3), range(4), range(2), pd.date_range("2024-01-01", periods=30, freq="h")],
        names=["region_id", "site_id", "meter_no", "read_at"],
    ).to_frame(index=False)
    table = grid.assign(kwh=np.random.default_rng(0).integers(0, 9, len(grid)))
    draft = draft_of_table(spark, tmp_path, table)
    assert set(draft.key.columns) == {"region_id", "site_id", "meter_no"}
    assert (draft.time, draft.frequency, draft.label) == ("read_at", "h", "kwh")


def test_a_few_repeated_rows_leave_the_key(spark: Spark, tmp_path: Path, daily: pd.DataFrame) -> None:
    draft = draft_of_table(spark, tmp_path, pd.concat([daily, daily.head(4)]))
    assert draft.key.columns == ("shop",)
    assert draft.key.apart == pytest.approx(180 / 184)
    assert "97.8% of the rows apart" in as_yaml(draft, tmp_path)


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"few": [1.5, 2.5, 3.5], "many": range(90)}, "few"),  # a number a row is a row number
        ({"temperature": np.arange(90) / 7, "unitsOrdered": [1, 2, 3]}, "unitsOrdered"),
        ({"temperature": np.arange(90) / 7, "discount": [0.1, 0.2, 0.3]}, "temperature"),
        ({"order_id": np.arange(45), "weight": [1.0, 2.0, 3.0]}, "weight"),
        ({"sales": np.arange(90), "weight": [1.0, 2.0, 3.0]}, "sales"),
    ],
)
def test_the_likely_label(spark: Spark, tmp_path: Path, columns: dict[str, list[float]], label: str) -> None:
    table = daily_sales(days=30)[["shop", "day"]]
    assert (
        draft_of_table(spark, tmp_path, table.assign(**{c: np.resize(v, 90) for c, v in columns.items()})).label
        == label
    )


def test_times_in_text_and_numbers_that_only_look_like_times(spark: Spark, tmp_path: Path) -> None:
    table = daily_sales(shops=2, days=60, frequency="W-FRI", start="2024-01-05")
    table["day"] = table["day"].dt.strftime("%Y-%m-%d")
    table.loc[3, "day"] = "soon"
    table = table.assign(year=table["day"].str[:4].replace("soon", "2024"), opens="08:30")
    table.to_csv(tmp_path / "t.csv", index=False)
    draft = drafted(spark, tmp_path / "t.csv")
    assert (draft.time, draft.frequency) == ("day", "W-FRI")
    kinds = {each.name: each.kind for each in draft.columns}
    assert kinds == {
        "shop": "text",
        "day": "time",
        "sold": "number",
        "price": "number",
        "year": "number",
        "opens": "text",
    }
    day = read_back(draft, tmp_path).contract.columns["day"]
    assert (day.type, day.nullable) == ("time", True)
    assert "cells that are none: 1" in as_yaml(draft, tmp_path)


def test_what_was_seen_becomes_rules(spark: Spark, tmp_path: Path) -> None:
    table = daily_sales(days=20).assign(
        kind=np.resize(["b", "a"], 60), note=[f"note {n}" for n in range(60)], open=True, stock=np.resize([3, -2], 60)
    )
    table.loc[0, ["price", "kind"]] = None
    table.loc[1, "sold"] = np.inf
    contract = read_back(draft_of_table(spark, tmp_path, table), tmp_path).contract.columns
    assert list(contract) == ["shop", "day", "sold", "price", "kind", "note", "open", "stock"]
    written = {name: column.model_dump(exclude_unset=True) for name, column in contract.items()}
    assert written["shop"] == {"type": "text", "nullable": False}, "a new shop is no mistake"
    assert written["day"] == {"type": "time", "nullable": False}
    assert written["sold"]["minimum"] == table["sold"].min()
    assert written["sold"]["maximum"] == table["sold"].drop(1).max()
    assert "nullable" not in written["sold"], "the label is empty in rows of the future"
    assert written["price"] == {"type": "number", "minimum": 1, "maximum": 5, "action": "warn"}
    assert written["kind"] == {"type": "text", "allowed": ["a", "b"], "action": "warn"}
    assert written["note"] == {"type": "text", "nullable": False, "action": "warn"}, "60 are no list"
    assert written["open"] == {"type": "boolean", "nullable": False, "action": "warn"}
    assert written["stock"] == {"type": "number", "nullable": False, "minimum": -2, "maximum": 3, "action": "warn"}


def as_parquet(table: pd.DataFrame, folder: Path) -> Path:
    table.to_parquet(folder / "table.parquet", index=False)
    return folder / "table.parquet"


def as_csv(table: pd.DataFrame, folder: Path) -> Path:
    half = len(table) // 2
    (folder / "parts").mkdir()
    table[:half].to_csv(folder / "parts" / "1.csv", index=False)
    table[half:].to_csv(folder / "parts" / "2.csv", index=False)
    return folder / "parts" / "*.csv"


def as_json_lines(table: pd.DataFrame, folder: Path) -> Path:
    table.to_json(folder / "table.jsonl", orient="records", lines=True, date_format="iso")
    return folder / "table.jsonl"


def as_delta(table: pd.DataFrame, folder: Path) -> Path:
    table = table.assign(day=table["day"].astype("datetime64[us]"))  # Delta knows no nanoseconds
    write_deltalake(str(folder / "table"), pa.Table.from_pandas(table, preserve_index=False))
    return folder / "table"


@pytest.mark.parametrize("write", [as_parquet, as_csv, as_json_lines, as_delta])
def test_the_draft_validates_as_it_is(
    spark: Spark, tmp_path: Path, write: Callable[[pd.DataFrame, Path], Path]
) -> None:
    path = write(sales(3, 60).assign(department="food | drink"), tmp_path)
    draft = drafted(spark, path)
    settings = read_back(draft, tmp_path)
    assert settings.source.path == str(path)
    assert str(tmp_path) not in as_yaml(draft, tmp_path), "written relative to the file"
    assert (settings.segment, settings.time, settings.label) == (["shop"], "day", "sold")
    assert settings.frequency == "D"
    assert settings.contract.columns["price"].maximum == 5
    assert validated(spark, settings).rows == 192


def test_without_time(spark: Spark, tmp_path: Path) -> None:
    draft = draft_of_table(spark, tmp_path, flats(3, 100))
    settings = read_back(draft, tmp_path)
    assert (settings.time, settings.frequency, draft.key.apart) == (None, None, None)
    assert settings.segment in (["district"], ["kind"])
    assert validated(spark, settings).rows == 300
    assert "timestampFormat" in as_yaml(draft, tmp_path)


def test_columns_that_a_fleet_cannot_use_are_left_out(spark: Spark, tmp_path: Path, daily: pd.DataFrame) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    daily = daily.assign(tags=[["a"]] * len(daily), empty=pd.Series([None] * len(daily), dtype="string"))
    daily[:90].to_parquet(parts / "1.parquet", index=False)
    daily[90:].assign(late=1.0).to_parquet(parts / "2.parquet", index=False)
    draft = drafted(spark, parts)
    assert draft.left_out == {"tags": "is of type array<string>", "late": "is not in every file"}
    settings = read_back(draft, tmp_path)
    assert list(settings.contract.columns) == ["shop", "day", "sold", "price"]
    assert validated(spark, settings).rows == 180
    assert "# empty has no value in any row" in as_yaml(draft, tmp_path)


def test_any_name_and_value_can_be_written(tmp_path: Path) -> None:
    def column(name: str, values: tuple[str, ...] = ()) -> ColumnFacts:
        return ColumnFacts(name, "text", "string", filled=9, unparsable=0, distinct=5, values=values)

    columns = (*map(column, HOSTILE), column("all", tuple(HOSTILE)))
    left_out = dict.fromkeys(HOSTILE, "is not in every file")
    path = str(tmp_path / "a #b: {c}.csv")
    draft = Draft("tiny", path, None, {}, 9, Key(("a,b", "\n")), "day", None, "- y", columns, left_out)
    settings = read_back(draft, tmp_path)
    assert (settings.source.path, settings.segment, settings.label) == (path, ["a,b", "\n"], "- y")
    assert list(settings.contract.columns) == [*HOSTILE, "all"]
    assert settings.contract.columns["all"].allowed == HOSTILE


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda table: table.iloc[:0], "holds no rows"),
        (lambda table: table[["shop", "day"]], "no column can be the label"),
        (lambda table: table.assign(sold=1.0)[["shop", "day", "sold"]], "no column can be the label"),
        (lambda table: table[["day", "sold"]], "no column can be the segment"),
        (lambda table: table.rename(columns={"price": "Sold"}), "differ only in case"),
    ],
)
def test_a_table_that_nothing_can_be_drafted_from(
    spark: Spark, tmp_path: Path, daily: pd.DataFrame, spoil: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        draft_of_table(spark, tmp_path, spoil(daily))


def test_no_table(spark: Spark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file at"):
        drafted(spark, tmp_path / "nothing.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="not readable as Parquet"):
        drafted(spark, tmp_path / "broken.parquet")


@pytest.mark.parametrize(("separator", "name"), [(";", "t.csv"), ("\t", "t.csv"), ("|", "t.csv.gz"), (",", "t.tsv")])
def test_what_parts_the_cells_is_found(
    spark: Spark, tmp_path: Path, daily: pd.DataFrame, separator: str, name: str
) -> None:
    daily.to_csv(tmp_path / name, index=False, sep=separator)
    settings = read_back(drafted(spark, tmp_path / name), tmp_path)
    assert (settings.segment, settings.time, settings.label) == (["shop"], "day", "sold")
    assert settings.source.options == {"sep": separator}
    assert validated(spark, settings).rows == len(daily)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_what_usually_parts_the_cells_is_not_written(
    spark: Spark, tmp_path: Path, daily: pd.DataFrame, name: str
) -> None:
    daily.to_csv(tmp_path / name, index=False, sep="," if name == "t.csv" else "\t")
    assert read_back(drafted(spark, tmp_path / name), tmp_path).source.options == {}


def test_a_table_in_a_bucket(spark: Spark, tmp_path: Path, bucket: Bucket, daily: pd.DataFrame) -> None:
    bucket.put("sales.csv", daily)
    draft = draft_of(spark.session(), bucket.uri("/sales.csv"))
    settings = read_back(draft, tmp_path)
    assert (draft.rows, settings.source.path, settings.label) == (len(daily), bucket.uri("/sales.csv"), "sold")
