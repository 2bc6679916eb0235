"""Rows that a user brings: each comes back, in order, with what its model says of it, or why there is nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.incumbent import Champion
from assets.evaluation.judge import EVALUATION, evaluate
from assets.forecasts.brought import score_brought
from assets.forecasts.publish import FORECASTS, publish_forecasts
from assets.models.fleet_model import load_fleet_model
from resources.problems import InputError
from resources.spark import Spark
from tests.buckets import Bucket
from tests.cycle import HORIZON, flats, house, without_time
from tests.lakes import DAYS, GOOD, SKIPPED, Trained, feature_frame, loaded, matrix, mixed_table, train

HOSTILE = ["plain", "Plain", "with space ", "a,b;c", 'it\'s "quoted"', "line\nbreak", "a|b", "100%"]
OURS = ["forecast", "model", "version", "reason"]


def champion_of(made: Trained) -> Champion:
    home = made.home
    judged, _ = evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)
    tags = {"published": "p1", "evaluation": judged.digest, "training": made.training.id}
    return Champion(7, tags, home.lake.table(EVALUATION).arrow())


def brought(made: Trained, champion: Champion | None, table: pd.DataFrame, suffix: str = "parquet") -> pd.DataFrame:
    """What comes back for a table."""
    folder = made.home.folder
    given, out = folder / f"given.{suffix}", folder / f"out.{suffix}"
    table.to_csv(given, index=False) if suffix == "csv" else table.to_parquet(given, index=False)
    score_brought(made.home.lake, made.home.spark, made.home.settings, champion, str(given), str(out))
    assert {path.name for path in folder.iterdir()} <= {
        "given.parquet",
        "given.csv",
        "out.parquet",
        "out.csv",
        "lake",
        "table.parquet",
        "fleet.yaml",
    }
    assert not list((folder / "lake").glob("brought-*"))
    return (
        pd.read_csv(out, keep_default_na=False, na_values={"forecast": [""]})
        if suffix == "csv"
        else pd.read_parquet(out)
    )


@pytest.fixture(scope="module")
def timeless(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Trained:
    """A training of flats, with a district too small for a model."""
    table = pd.concat([flats(HOSTILE, 120), flats(["tiny"], 6, seed=5)])
    return train(house(tmp_path_factory.mktemp("timeless") / "h", spark, table, **without_time()))


@pytest.fixture(scope="module")
def landlord(timeless: Trained) -> Champion:
    return champion_of(timeless)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_without_time_are_predicted_by_their_own_boosters(
    timeless: Trained, landlord: Champion, suffix: str
) -> None:
    new = flats(HOSTILE, 9, seed=3).drop(columns="rent").sample(frac=1, random_state=1, ignore_index=True)
    table = pd.concat([new, new.head(3)], ignore_index=True).assign(note='as it came, "so"')
    rows = brought(timeless, landlord, table, suffix)
    assert rows["district"].tolist() == table["district"].tolist()
    assert rows.columns.tolist() == [*table.columns, *OURS]
    assert (rows["note"] == 'as it came, "so"').all()
    chosen = dict(zip(landlord.listing["segment"].to_pylist(), landlord.listing["chosen"].to_pylist(), strict=True))
    assert set(chosen.values()) == {"segment", "baseline"}
    models = loaded(timeless, "served")
    features = table.rename(columns={"district": "__segment"}).assign(lift=table["lift"].astype(float))
    x = matrix(features, timeless.features.recipe)
    wanted = [
        models[key.replace("%", "%25").replace("\n", "%0A").replace("|", "%7C")].predict(x[[place]])[0]
        for place, key in enumerate(table["district"])
    ]
    np.testing.assert_allclose(rows["forecast"], wanted, rtol=1e-9)
    assert set(rows["model"]) == {"segment"}
    assert set(rows["version"].astype(int)) == {7}


def test_rows_in_a_bucket_are_scored(timeless: Trained, landlord: Champion, bucket: Bucket) -> None:
    table = flats(HOSTILE, 3, seed=3)
    bucket.put("new.csv", table)
    home, out = timeless.home, timeless.home.folder / "out.parquet"
    score_brought(home.lake, home.spark, home.settings, landlord, bucket.uri("/new.csv"), str(out))
    rows = pd.read_parquet(out)
    assert rows["district"].tolist() == table["district"].tolist()
    assert set(rows["model"]) == {"segment"}


def test_who_has_no_model_gets_the_mean_and_the_reason(timeless: Trained, landlord: Champion) -> None:
    table = flats(["tiny", "nowhere", "plain"], 2, seed=4)
    rows = brought(timeless, landlord, table)
    tiny = flats(["tiny"], 6, seed=5)["rent"].mean()
    everywhere = pd.concat([flats(HOSTILE, 120), flats(["tiny"], 6, seed=5)])["rent"].mean()
    np.testing.assert_allclose(rows["forecast"][:4], [tiny, tiny, everywhere, everywhere], rtol=1e-9)
    assert rows["model"].tolist() == ["baseline"] * 4 + ["segment"] * 2
    assert rows["reason"].tolist() == ["too short"] * 2 + ["unknown_segment"] * 2 + [None] * 2


def test_the_fleet_wide_model_scores_whom_no_other_knows(tmp_path: Path, spark: Spark) -> None:
    """Keys of decimals, brought as text: the fleet-wide model knows them again."""
    numbers = {"plain": 1.5, "Plain": 2.0}
    table = flats(list(numbers), 150).assign(district=lambda rows: rows["district"].map(numbers))
    small = flats(["small"], 12, seed=5).assign(district=30.0)
    made = train(house(tmp_path / "h", spark, pd.concat([table, small]), **without_time(fleet_model={"enabled": True})))
    champion = champion_of(made)
    assert made.training.unproven == {"fleet": 1.0}
    new = flats(["small", "plain"], 8, seed=7).assign(district=np.repeat([30.0, 77.0], 8))
    rows = brought(made, champion, new.drop(columns="rent").astype({"district": str}), "csv")
    assert set(rows["model"]) == {"fleet"}
    assert rows["reason"].tolist() == ["too short"] * 8 + ["unknown_segment"] * 8
    model = load_fleet_model(made.home.lake.root, made.training.fleet_file or "", "served")
    assert model is not None
    x = matrix(new.assign(lift=new["lift"].astype(float)), made.features.recipe)
    places = {value: float(place) for place, value in enumerate(model.categories["district"])}
    known = new["district"].map({30.0: next(place for name, place in places.items() if float(name) == 30.0)})
    wanted = model.booster.predict(np.column_stack([x, known.to_numpy()]))
    np.testing.assert_allclose(rows["forecast"], wanted, rtol=1e-9)


def test_a_label_or_a_forecast_that_is_there_already_stays(timeless: Trained, landlord: Champion) -> None:
    table = flats(["plain"], 3, seed=4).assign(forecast="mine", Model=1)
    rows = brought(timeless, landlord, table)
    pd.testing.assert_frame_equal(rows[table.columns], table)
    assert rows.columns.tolist() == [*table.columns, "fleet_forecast", "fleet_model", "version", "reason"]


def test_cells_that_do_not_parse_have_no_forecast(timeless: Trained, landlord: Champion) -> None:
    table = flats(["plain"], 4, seed=4).astype({"size": object, "district": object})
    table.loc[1, "size"] = "large"
    table.loc[2, "district"] = None
    rows = brought(timeless, landlord, table, "csv")
    assert rows["reason"].tolist() == ["", "unparsable:size", "null_segment:district", ""]
    assert rows["forecast"].isna().tolist() == [False, True, True, False]
    assert rows["model"].tolist() == ["segment", "", "", "segment"]


def ahead_of(table: pd.DataFrame) -> pd.Series:
    return table["day"] >= table["day"].min() + pd.Timedelta(DAYS, "D")


def test_rows_ahead_get_the_batch_forecasts(own: Trained) -> None:
    champion, home = champion_of(own), own.home
    publish_forecasts(home.lake, home.spark, home.settings, own.features, champion)
    batch = home.lake.table(FORECASTS).arrow().to_pandas().set_index(["shop", "day"])["forecast"]
    table = mixed_table()
    table = table[ahead_of(table)].drop(columns=["sold", "footfall"]).sample(frac=1, random_state=2, ignore_index=True)
    rows = brought(own, champion, table)
    wanted = batch.loc[list(zip(table["shop"], table["day"], strict=True))]
    np.testing.assert_allclose(rows["forecast"], wanted, rtol=1e-9)
    assert set(rows[rows["shop"].isin(GOOD)]["model"]) == {"segment"}
    assert {shop: set(part["reason"]) for shop, part in rows[rows["shop"].isin([*SKIPPED])].groupby("shop")} == {
        shop: {reason} for shop, reason in SKIPPED.items()
    }


def test_what_is_brought_stands_in_for_what_was_committed(own: Trained) -> None:
    """A price of another day in history and ahead, twice at one time: lags stay, the price is each row's own."""
    champion, models = champion_of(own), loaded(own, "served")
    frame = feature_frame(own)
    shop = frame[frame["__segment"] == "shop 0"].tail(HORIZON + 3).reset_index(drop=True)
    table = shop[["shop", "__time", "weather"]].rename(columns={"__time": "day"})
    table = pd.concat([table.assign(price=price) for price in (9.5, 2.25)], ignore_index=True)
    rows = brought(own, champion, table)
    inputs = pd.concat([shop.assign(price=price) for price in (9.5, 2.25)], ignore_index=True)
    np.testing.assert_allclose(rows["forecast"], models["shop 0"].predict(matrix(inputs, own.recipe)), rtol=1e-9)
    assert rows["forecast"].nunique() > 1


def test_a_price_that_is_missing_ahead_is_carried_on_from_the_brought_row_before(own: Trained) -> None:
    champion, models, frame = champion_of(own), loaded(own, "served"), feature_frame(own)
    shop = frame[frame["__segment"] == "shop 1"].tail(HORIZON).reset_index(drop=True)
    prices = [3.5, None, None, 1.5]
    table = shop[["shop", "__time", "weather"]].rename(columns={"__time": "day"}).assign(price=prices)
    rows = brought(own, champion, table)
    inputs = shop.assign(price=[3.5, 3.5, 3.5, 1.5])
    np.testing.assert_allclose(rows["forecast"], models["shop 1"].predict(matrix(inputs, own.recipe)), rtol=1e-9)


def test_times_that_cannot_be_forecast_and_a_segment_that_is_unknown(own: Trained) -> None:
    champion, first = champion_of(own), pd.Timestamp("2024-01-01")
    days = [first - pd.Timedelta("1D"), first + pd.Timedelta(DAYS + HORIZON, "D"), first + pd.Timedelta("30h"), None]
    good = first + pd.Timedelta(DAYS, "D")
    table = pd.DataFrame({"shop": ["shop 0"] * 4 + ["nobody"], "day": [*days, good], "price": 2.0, "weather": "sun"})
    rows = brought(own, champion, table)
    outside = "outside_history_and_horizon:day"
    assert rows["reason"].tolist() == [outside, outside, "off_calendar", "null_time:day", "unknown_segment"]
    assert rows["forecast"].isna().tolist() == [True] * 4 + [False]
    mean = feature_frame(own)["sold"].mean()
    assert rows["forecast"][4] == pytest.approx(mean, rel=1e-9)


def test_what_cannot_be_scored_is_explained(own: Trained, tmp_path: Path) -> None:
    champion, table = champion_of(own), mixed_table().drop(columns=["sold", "price"]).assign(prices=1.0)
    odd, cut = "odd.csv", "cut.parquet"

    def refused(
        champion: Champion | None, table: pd.DataFrame, out: str = "out.parquet", given: str = "t.parquet"
    ) -> str:
        table.to_parquet(tmp_path / "t.parquet", index=False)
        before = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(InputError) as caught:
            score_brought(
                own.home.lake, own.home.spark, own.home.settings, champion, str(tmp_path / given), str(tmp_path / out)
            )
        assert {path.name for path in tmp_path.iterdir()} == before
        return str(caught.value)

    assert "did you mean 'prices'?" in refused(champion, table)
    assert "no file at" in refused(champion, table, given="none.parquet")
    (tmp_path / odd).write_bytes("shop,day,price,weather\nMünchen,2024-01-01,2,sun\n".encode("windows-1252"))
    assert "--input" in (said := refused(champion, table, given=odd))
    assert "is not utf-8" in said
    good = mixed_table()
    good.to_parquet(tmp_path / cut, row_group_size=50, index=False)
    spoiled = bytearray((tmp_path / cut).read_bytes())
    spoiled[100:2000] = bytes(1900)
    (tmp_path / cut).write_bytes(spoiled)
    assert f"{cut}: cannot be read" in refused(champion, table, given=cut)
    assert "neither Parquet nor CSV" in refused(champion, table, out="out.xlsx")
    assert "has no champion yet -> run the weekly cycle" in refused(None, table)
    nested = mixed_table().assign(parts=[[1]] * len(mixed_table()))
    assert "CSV cannot hold 'parts'" in refused(champion, nested, out="out.csv")
    other = dataclasses.replace(own, home=own.home)
    other.home.configure(label="footfall", features={"known_ahead": ["price", "weather"]})
    assert "champion of another" in refused(champion, mixed_table())
