"""Snapshots: what arrives is read once, corrections replace, files go, and every earlier one can be had again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import AssetCheckResult

from assets.features.publish import FEATURES, QUARANTINE, publish_features
from assets.raw import ingest as ingesting
from assets.raw import new_rows
from assets.raw.checks import raw_checks
from assets.raw.ingest import Snapshot, ingest
from assets.raw.snapshot import RAW
from assets.raw.source import contents_of
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales


@pytest.fixture(params=["parquet", "csv"])
def landing(request: pytest.FixtureRequest, make_fleet: MakeFleet) -> Fleet:
    """A fleet whose source is a folder, with one file in it."""
    fleet = make_fleet(
        None, source={"path": "in", "format": request.param}, features={"known_ahead": ["price"]}, horizon=7
    )
    (fleet.folder / "in").mkdir()
    bring(fleet, "2024-01 ü", daily_sales(days=40))
    return fleet


def bring(fleet: Fleet, name: str, table: pd.DataFrame) -> Path:
    path = fleet.folder / "in" / f"{name}.{fleet.settings.source.format}"
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path, index=False)
    return path


def rows_of(fleet: Fleet, version: int | None = None) -> pd.DataFrame:
    """A snapshot's rows as the source had them, in a fixed order."""
    rows = fleet.lake.table(RAW).arrow(version=version).to_pandas()
    rows = rows.drop(columns=[name for name in rows.columns if name.startswith(("__", "fleet_"))])
    rows = rows.assign(day=pd.to_datetime(rows["day"]), sold=rows["sold"].astype(float))
    return rows.sort_values(["shop", "day", "sold"], ignore_index=True)[["shop", "day", "sold"]]


def same(found: pd.DataFrame, *parts: pd.DataFrame) -> bool:
    wanted = pd.concat(parts)[["shop", "day", "sold"]].sort_values(["shop", "day", "sold"], ignore_index=True)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    return True


def later(days: int = 10) -> pd.DataFrame:
    return daily_sales(days=days, start="2024-02-10")


def take(fleet: Fleet, spark: Spark, snapshot: int | None = None) -> Snapshot:
    return ingest(fleet.lake, spark, fleet.settings, snapshot)


def test_a_file_that_arrives_is_read_and_the_others_stay(
    spark: Spark, landing: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(landing, spark)
    before = set(landing.lake.table(RAW).files())
    bring(landing, "2024-02 [x] & é", later())
    asked: list[tuple[str, ...]] = []

    def seen(session: Any, files: Any, *rest: Any, **keys: Any) -> Any:
        asked.append(files.paths)
        return original(session, files, *rest, **keys)

    original = new_rows.read_source
    monkeypatch.setattr(new_rows, "read_source", seen)
    second = take(landing, spark)
    assert [[Path(path).stem for path in paths] for paths in asked] == [["2024-02 [x] & é"]]
    assert before < set(landing.lake.table(RAW).files())
    assert (second.rows, second.files, second.is_new) == (first.rows + 30, 2, True)
    assert same(rows_of(landing), daily_sales(days=40), later())
    assert same(rows_of(landing, first.version), daily_sales(days=40))
    assert not take(landing, spark).is_new
    assert len(asked) == 1


def test_a_file_that_changes_is_replaced_and_one_that_goes_is_gone(spark: Spark, landing: Fleet) -> None:
    path = bring(landing, "b", later())
    third = bring(landing, "c", daily_sales(days=5, start="2024-03-01"))
    take(landing, spark)
    bring(landing, "b", later().assign(sold=7.0))
    third.unlink()
    second = take(landing, spark)
    assert (second.rows, second.files) == (150, 2)
    assert same(rows_of(landing), daily_sales(days=40), later().assign(sold=7.0))
    path.unlink()
    assert take(landing, spark).rows == 120
    assert same(rows_of(landing), daily_sales(days=40))
    assert same(rows_of(landing, second.version), daily_sales(days=40), later().assign(sold=7.0))


def test_corrections_replace_what_arrived_before_whatever_the_files_are_called(spark: Spark, landing: Fleet) -> None:
    take(landing, spark)
    first = publish_features(landing.lake, spark, landing.settings)
    correction = daily_sales(days=2, start="2024-01-10").assign(sold=1000.0)
    bring(landing, "0 corrected", correction)
    take(landing, spark)
    built = publish_features(landing.lake, spark, landing.settings)
    assert built.record["rows"]["by_reason"] == {"superseded": 6}
    assert built.record["rows"]["valid"] == 120
    held = landing.lake.table(FEATURES).arrow(columns=["shop", "__time", "sold"]).to_pandas()
    assert (held.loc[held["__time"].isin(correction["day"]), "sold"] == 1000).all()
    old = landing.lake.table(FEATURES).arrow(columns=["__time", "sold"], version=first.version).to_pandas()
    assert old["sold"].max() < 1000
    refused = landing.lake.table(QUARANTINE).arrow().to_pandas()
    assert set(refused["__arrived"]) == {1}
    assert refused["__file"].str.contains("2024-01").all()


def test_an_earlier_snapshot_comes_back_and_the_newest_after_it(spark: Spark, landing: Fleet) -> None:
    first = take(landing, spark)
    old = publish_features(landing.lake, spark, landing.settings)
    was = landing.lake.table(FEATURES).arrow().to_pandas()
    bring(landing, "b", later())
    second = take(landing, spark)
    publish_features(landing.lake, spark, landing.settings)
    back = take(landing, spark, first.version)
    assert (back.digest, back.rows) == (first.digest, first.rows)
    again = publish_features(landing.lake, spark, landing.settings)
    assert again.digest == old.digest
    order = ["__segment", "__period"]
    now = landing.lake.table(FEATURES).arrow().to_pandas()
    pd.testing.assert_frame_equal(
        now.sort_values(order, ignore_index=True), was.sort_values(order, ignore_index=True), check_exact=True
    )
    bring(landing, "c", daily_sales(days=3, start="2024-03-01"))
    newest = take(landing, spark)
    assert newest.rows == second.rows + 9
    assert same(rows_of(landing), daily_sales(days=40), later(), daily_sales(days=3, start="2024-03-01"))
    take(landing, spark, first.version)
    assert take(landing, spark).digest == newest.digest
    assert same(rows_of(landing), daily_sales(days=40), later(), daily_sales(days=3, start="2024-03-01"))
    with pytest.raises(InputError, match="there is no snapshot 99"):
        take(landing, spark, 99)


def test_a_new_column_is_null_in_older_rows(spark: Spark, landing: Fleet) -> None:
    take(landing, spark)
    bring(landing, "b", later().assign(weather="rain"))
    second = take(landing, spark)
    stored = landing.lake.table(RAW).arrow(version=second.version).to_pandas()
    assert stored["weather"].isna().sum() == 120
    assert (stored["weather"] == "rain").sum() == 30
    new_columns = next(c for c in raw_checks(landing.settings) if next(iter(c.check_keys)).name == "new_columns")
    told = new_columns(lake=landing.lake)
    assert isinstance(told, AssetCheckResult)
    assert not told.passed
    assert told.metadata["new"].value == ["weather"]
    assert publish_features(landing.lake, spark, landing.settings).record["rows"]["valid"] == 150


def test_a_column_missing_from_a_file_on_stops_before_anything_is_written(spark: Spark, landing: Fleet) -> None:
    first = take(landing, spark)
    bring(landing, "b", later().rename(columns={"sold": "units"}))
    with pytest.raises(InputError, match=r"no column 'sold'"):
        take(landing, spark)
    assert landing.lake.table(RAW).version() == first.version
    aliased = settings_with(landing, {"aliases": {"sold": ["units"]}})
    second = ingest(landing.lake, spark, aliased)
    assert second.rows == 150
    built = publish_features(landing.lake, spark, aliased)
    assert built.record["rows"]["valid"] == 150
    held = landing.lake.table(FEATURES).arrow(columns=["sold", "__period"]).to_pandas()
    assert held["sold"].notna().sum() == 150


def settings_with(fleet: Fleet, contract: dict[str, Any]) -> Settings:
    document = fleet.settings.model_dump(exclude={"contract"})
    return Settings.model_validate({**document, "contract": contract})


def test_a_column_of_another_type_stops_and_names_the_file(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "in", "format": "parquet"}, horizon=7)
    (fleet.folder / "in").mkdir()
    bring(fleet, "a", daily_sales(days=40))
    take(fleet, spark)
    bring(fleet, "b", later().astype({"sold": str}))
    bring(fleet, "c", later().astype({"sold": str}))
    with pytest.raises(InputError, match=r"b.parquet: from this file on column 'sold' is text, before it was number"):
        take(fleet, spark)
    declared = settings_with(fleet, {"columns": {"sold": {"type": "number"}}})
    assert ingest(fleet.lake, spark, declared).rows == 180
    assert publish_features(fleet.lake, spark, declared).record["rows"]["valid"] == 150


def test_numbers_of_other_widths_lie_together(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(None, source={"path": "in", "format": "parquet"}, horizon=7)
    (fleet.folder / "in").mkdir()
    bring(fleet, "a", daily_sales(days=40).assign(sold=lambda t: t["sold"].astype(int)))
    take(fleet, spark)
    bring(fleet, "b", later())
    assert take(fleet, spark).rows == 150
    assert same(
        rows_of(fleet), daily_sales(days=40).assign(sold=lambda t: t["sold"].astype(int).astype(float)), later()
    )


def test_a_file_that_is_still_being_written_is_no_snapshot(
    spark: Spark, landing: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(landing, spark)
    path = bring(landing, "b", later())

    def growing(files: Any) -> dict[str, str]:
        found = contents_of(files)
        path.write_bytes(path.read_bytes() + b"\n")
        return found

    monkeypatch.setattr(ingesting, "contents_of", growing)
    with pytest.raises(InputError, match=r"still being written|wait until it is written"):
        take(landing, spark)
    assert landing.lake.table(RAW).version() == first.version
    (landing.folder / "in" / f"d.{landing.settings.source.format}.tmp").write_text("half")
    monkeypatch.undo()
    bring(landing, "b", later())
    assert take(landing, spark).rows == 150


def test_a_broken_encoding_is_named_with_its_line(spark: Spark, make_fleet: MakeFleet) -> None:
    text = "shop,day,sold\r\nKöln,2024-01-01,1\r\nMünchen,2024-01-02,2\r\n"
    fleet = make_fleet(None, source={"path": "t.csv"})
    (fleet.folder / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        InputError, match=r"t.csv line 2: is not utf-8 -> write what it is in as source.options.encoding"
    ):
        take(fleet, spark)
    assert not fleet.lake.table(RAW).exists()


def test_a_correction_ends_what_was_held_against_the_row(spark: Spark, landing: Fleet) -> None:
    rules = [{"name": "sold", "predicate": "sold >= 0", "action": "fail"}, {"name": "price", "predicate": "price < 9"}]
    ruled = settings_with(landing, {"expectations": rules})
    wrong = daily_sales(days=2, start="2024-02-10")
    bring(landing, "b", pd.concat([wrong.assign(sold=-1.0).head(1), wrong.assign(price=10.0).iloc[1:]]))
    ingest(landing.lake, spark, ruled)
    with pytest.raises(InputError, match="expectation:sold is broken by 1 of 126 rows"):
        publish_features(landing.lake, spark, ruled)
    bring(landing, "c", wrong)
    ingest(landing.lake, spark, ruled)
    record = publish_features(landing.lake, spark, ruled).record
    assert record["rows"] == {"read": 132, "valid": 126, "quarantined": 6, "by_reason": {"superseded": 6}}
    assert record["by_rule"] == {"superseded": 6}


def test_a_file_that_is_renamed_has_arrived_already(spark: Spark, landing: Fleet) -> None:
    take(landing, spark)
    bring(landing, "b", daily_sales(days=1, start="2024-01-10").assign(sold=1000.0))
    take(landing, spark)
    [path] = (landing.folder / "in").glob("2024-01*")
    path.rename(path.with_stem("z archived"))
    assert take(landing, spark).rows == 123
    publish_features(landing.lake, spark, landing.settings)
    held = landing.lake.table(FEATURES).arrow(columns=["sold"]).to_pandas()
    assert (held["sold"] == 1000).sum() == 3


def test_a_failed_ingest_leaves_the_snapshot_that_was_chosen(spark: Spark, landing: Fleet) -> None:
    first = take(landing, spark)
    bring(landing, "b", later())
    take(landing, spark)
    chosen = take(landing, spark, first.version)
    bring(landing, "c", later().drop(columns="sold"))
    with pytest.raises(InputError, match=r"c.* the file has no column 'sold', which the last snapshot has"):
        take(landing, spark)
    assert landing.lake.table(RAW).version() == chosen.version
    assert same(rows_of(landing), daily_sales(days=40))


def test_a_table_whose_times_change_their_type_and_back(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(daily_sales(), horizon=7)
    first = take(fleet, spark)
    daily_sales(days=61).assign(day=lambda t: t["day"].dt.date).to_parquet(fleet.folder / "table.parquet", index=False)
    assert take(fleet, spark).rows == 183
    back = take(fleet, spark, first.version)
    assert (back.digest, back.rows) == (first.digest, 180)
    assert publish_features(fleet.lake, spark, fleet.settings).record["rows"]["valid"] == 180
    assert take(fleet, spark).rows == 183


def test_columns_that_differ_only_in_case_are_named(spark: Spark, landing: Fleet) -> None:
    first = take(landing, spark)
    bring(landing, "b", later().assign(Price=1.0))
    with pytest.raises(InputError, match="'price' and 'Price' differ only in case"):
        take(landing, spark)
    assert landing.lake.table(RAW).version() == first.version


def test_a_run_that_was_overtaken_commits_nothing(
    spark: Spark, landing: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(landing, spark)
    bring(landing, "b", later())
    original = ingesting.write_manifest

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(ingesting, "write_manifest", original)
        take(landing, spark)
        original(*arguments)

    monkeypatch.setattr(ingesting, "write_manifest", overtaken)
    with pytest.raises(InputError, match="another run committed to it meanwhile"):
        take(landing, spark)
    assert same(rows_of(landing), daily_sales(days=40), later())
