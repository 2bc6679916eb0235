"""Forecasts: whole, finite, worked out again by hand, with the segment columns as they came."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assets.evaluation import conformal
from assets.evaluation.incumbent import Champion
from assets.evaluation.issues import output_name
from assets.evaluation.judge import EVALUATION, evaluate
from assets.features.publish import FeatureSet
from assets.forecasts.checks import forecasts_checks
from assets.forecasts.publish import FORECASTS, publish_forecasts
from assets.models.store import WEIGHTS
from assets.models.train import train_fleet
from assets.raw.recipe import Recipe
from resources.spark import Spark
from tests.cycle import HORIZON, house, minimal, sales
from tests.lakes import GOOD, SKIPPED, Trained, built, feature_frame, loaded, matrix, mixed_keys, slow_naive

OPEN = [*GOOD, *SKIPPED]


def champion_of(made: Trained) -> Champion:
    home = made.home
    evaluation, _ = evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)
    tags = {"published": "p1", "evaluation": evaluation.digest, "training": made.training.id}
    return Champion(7, tags, home.lake.table(EVALUATION).arrow())


def forecast(made: Trained, champion: Champion | None, features: FeatureSet | None = None) -> pd.DataFrame:
    home = made.home
    publish_forecasts(home.lake, home.spark, home.settings, features or made.features, champion)
    rows = home.lake.table(FORECASTS).arrow().to_pandas()
    return rows.sort_values(["shop", "day"], ignore_index=True)


def by_hand(made: Trained, listing: pd.DataFrame) -> pd.DataFrame:
    """Forecasts worked out again from the feature table and the served boosters."""
    frame, last = feature_frame(made), made.features.profile.last_period
    x, known = matrix(frame, made.recipe), frame[frame["__period"] <= last]
    served = loaded(made, "served")
    chosen, rows = listing.set_index("segment")["chosen"], []
    for key, own in frame[frame["__period"] > last].groupby("__segment"):
        history = known[known["__segment"] == key]
        periods, labels = history["__period"].tolist(), history["sold"].tolist()
        targets, season = own["__period"].tolist(), made.recipe.season
        naive = slow_naive(periods, labels, targets, [last] * len(own), season, known["sold"].mean())
        values = served[key].predict(x[own.index]) if chosen.get(key) == "segment" else naive
        rows.append(pd.DataFrame({"shop": key, "day": own["__time"], "forecast": values}))
    return pd.concat(rows).sort_values(["shop", "day"], ignore_index=True)


def test_every_open_segment_has_a_row_a_period_and_no_closed_one(own: Trained) -> None:
    rows = forecast(own, champion_of(own))
    assert (rows.groupby("shop").size() == HORIZON).all()
    assert sorted(rows["shop"].unique()) == sorted(OPEN)
    assert sorted(rows["day"].unique()) == list(pd.date_range("2024-03-01", periods=HORIZON))
    assert np.isfinite(rows["forecast"]).all()
    assert set(rows["version"]) == {7}


def test_forecasts_are_those_worked_out_by_hand(own: Trained) -> None:
    champion = champion_of(own)
    rows, wanted = forecast(own, champion), by_hand(own, champion.listing.to_pandas())
    pd.testing.assert_frame_equal(rows[["shop", "day"]], wanted[["shop", "day"]], check_dtype=False)
    np.testing.assert_allclose(rows["forecast"], wanted["forecast"], rtol=1e-12)
    by_model = rows[rows["model"] == "segment"]["shop"].unique()
    assert sorted(by_model) == sorted(GOOD)
    assert set(rows["model"]) == {"segment", "baseline"}


def test_the_baseline_forecasts_where_it_was_chosen_though_there_is_a_model(own: Trained) -> None:
    champion = champion_of(own)
    listing = champion.listing.to_pandas()
    listing.loc[:, ["chosen", *WEIGHTS]] = ["baseline", 0.0, 0.0, 0.0]
    served = listing["segment"].isin(GOOD) & (listing["segment"] != "shop 0")
    listing.loc[served, ["chosen", *WEIGHTS]] = ["segment", 1.0, 0.0, 0.0]
    changed = dataclasses.replace(champion, listing=pa.Table.from_pandas(listing, champion.listing.schema))
    rows = forecast(own, changed)
    assert sorted(rows[rows["model"] == "segment"]["shop"].unique()) == ["shop 1", "shop 2"]
    np.testing.assert_allclose(rows["forecast"], by_hand(own, listing)["forecast"], rtol=1e-12)


def test_a_blend_is_the_weighted_sum_of_its_parts(own: Trained) -> None:
    champion = champion_of(own)
    listing = champion.listing.to_pandas()
    trained = listing["status"] == "trained"

    def served_by(name: str, *weights: float) -> pd.DataFrame:
        listing.loc[:, ["chosen", *WEIGHTS]] = ["baseline", 0.0, 0.0, 0.0]
        listing.loc[trained, ["chosen", *WEIGHTS]] = [name, *weights]
        rows = pa.Table.from_pandas(listing, champion.listing.schema)
        digest = {"published": name}
        return forecast(own, dataclasses.replace(champion, listing=rows, tags={**champion.tags, **digest}))

    by_own, by_median = served_by("segment", 1.0, 0.0, 0.0), served_by("median", 0.0, 0.0, 1.0)
    naive, blend = served_by("baseline", 0.0, 0.0, 0.0), served_by("blend", 0.4, 0.0, 0.4)
    assert set(by_own[by_own["shop"].isin(GOOD)]["model"]) == {"segment"}
    assert (by_own["forecast"] != by_median["forecast"]).any()
    wanted = 0.4 * by_own["forecast"] + 0.4 * by_median["forecast"] + 0.2 * naive["forecast"]
    good = blend["shop"].isin(GOOD)
    np.testing.assert_allclose(blend["forecast"][good], wanted[good], rtol=1e-12)
    np.testing.assert_array_equal(blend["forecast"][~good], naive["forecast"][~good])
    assert set(blend["model"][good]) == {"blend"}


def test_quantiles_are_the_forecast_and_the_segments_offset_of_its_step(
    own: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformal, "FEWEST_SCORES", 4)
    champion = champion_of(own)
    rows, listed = forecast(own, champion), champion.listing.to_pandas().set_index("segment")
    assert listed["quantile_levels"].dropna().unique().tolist() == ["0.05 0.95"]
    for shop, part in rows.groupby("shop"):
        offsets = np.frombuffer(listed.loc[shop, "quantile_offsets"]).reshape(-1, 2)
        assert len(offsets) == HORIZON, "a block a step, of four steps"
        assert part["forecast"].to_numpy() + offsets[:, 1] == pytest.approx(part["p95"].to_numpy())
        low = np.maximum(part["forecast"].to_numpy() + offsets[:, 0], np.minimum(part["forecast"], 0))
        assert low.to_numpy() == pytest.approx(part["p05"].to_numpy())
    assert (rows["p05"] <= rows["p95"]).all()
    assert (rows["p05"] < rows["p95"])[rows["shop"].isin(GOOD)].all()


def test_levels_asked_for_later_are_null_until_somebody_is_judged_by_them(
    own: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformal, "FEWEST_SCORES", 4)
    champion = champion_of(own)
    forecast(own, champion)
    own.home.configure(**mixed_keys(), forecasts={"quantiles": [0.5, 0.05]})
    rows = forecast(own, champion)
    assert rows["p50"].isna().all()
    assert rows["p05"].notna().all()
    assert "p95" not in rows
    rows = forecast(own, dataclasses.replace(champion_of(own), tags={**champion.tags, "published": "p2"}))
    assert (rows["p50"] >= rows["p05"]).all()
    assert checks(own)["schema"]


def test_without_a_champion_the_baseline_serves_and_no_version_is_named(own: Trained) -> None:
    rows = forecast(own, None)
    assert set(rows["model"]) == {"baseline"}
    assert rows["version"].isna().all()
    wanted = by_hand(own, pd.DataFrame({"segment": [], "chosen": []}))
    np.testing.assert_allclose(rows["forecast"], wanted["forecast"], rtol=1e-12)
    assert own.home.lake.table(FORECASTS).schema().field("version").type == pa.int64()


def test_the_same_again_commits_nothing_and_another_champion_does(own: Trained) -> None:
    champion, home = champion_of(own), own.home
    publish_forecasts(home.lake, home.spark, home.settings, own.features, champion)
    again = publish_forecasts(home.lake, home.spark, home.settings, own.features, champion)
    assert not again.is_new
    assert home.lake.table(FORECASTS).version() == 0
    other = dataclasses.replace(champion, tags={**champion.tags, "published": "p2"})
    assert publish_forecasts(home.lake, home.spark, home.settings, own.features, other).is_new


def test_a_new_season_reaches_the_baseline_though_it_shapes_no_feature(own: Trained) -> None:
    before = forecast(own, None)
    own.home.configure(**mixed_keys(), evaluation={**minimal()["evaluation"], "season": 7})
    features, recipe = built(own.home)
    assert features.digest == own.features.digest
    after = forecast(own, None)
    assert not before["forecast"].equals(after["forecast"])
    wanted = by_hand(dataclasses.replace(own, recipe=recipe), pd.DataFrame({"segment": [], "chosen": []}))
    np.testing.assert_allclose(after["forecast"], wanted["forecast"], rtol=1e-12)


def test_a_champion_with_other_features_forecasts_by_its_own_recipe(own: Trained) -> None:
    champion = champion_of(own)
    before = forecast(own, champion)
    features = {"known_ahead": [], "lags": [6], "rolling": {"windows": [2]}, "calendar": ["trend"]}
    own.home.configure(features=features)
    other, _ = built(own.home)
    assert other.recipe.features != own.recipe.features
    pd.testing.assert_frame_equal(forecast(own, champion, other), before)
    assert not list((own.home.folder / "lake" / "features").glob("rebuilt-*"))


def test_beyond_the_reach_of_an_old_recipe_the_baseline_forecasts(own: Trained) -> None:
    champion = champion_of(own)
    before = forecast(own, champion)
    own.home.configure(horizon=6, features={**mixed_keys()["features"], "lags": [6, 8]})
    features, _ = built(own.home)
    rows = forecast(own, champion, features)
    assert (rows.groupby("shop").size() == 6).all()
    early = rows["day"] < pd.Timestamp("2024-03-05")
    good = rows["shop"].isin(GOOD)
    assert set(rows[good & early]["model"]) == {"segment"}
    assert set(rows[good & ~early]["model"]) == {"baseline"}
    was = before[before["shop"].isin(GOOD)]["forecast"]
    np.testing.assert_allclose(rows[good & early]["forecast"], was, rtol=1e-12)
    assert np.isfinite(rows["forecast"]).all()


def test_a_champion_of_another_question_does_not_answer_this_one(own: Trained) -> None:
    champion = champion_of(own)
    own.home.configure(label="footfall", features=minimal()["features"])
    features, _ = built(own.home)
    assert set(forecast(own, champion, features)["model"]) == {"baseline"}


def test_what_was_carried_on_is_marked_and_the_check_warns(tmp_path: Path, spark: Spark) -> None:
    table = sales(3, 60)
    gone = (table["shop"] == "shop 1") & (table["day"] >= pd.Timestamp("2024-03-03"))
    made = house(tmp_path / "h", spark, table[~gone])
    features, recipe = built(made)
    training, _ = train_fleet(made.lake, spark, features, recipe)
    one = Trained(made, features, recipe, training)
    rows = forecast(one, champion_of(one))
    assumed = rows[rows["assumed"]]
    assert set(assumed["shop"]) == {"shop 1"}
    assert sorted(assumed["day"]) == [pd.Timestamp("2024-03-03"), pd.Timestamp("2024-03-04")]
    results = {next(iter(c.check_keys)).name: c(made.lake) for c in forecasts_checks(made.settings)}
    assert {name for name, result in results.items() if not result.passed} == {"known_ahead_given"}
    assert results["known_ahead_given"].metadata["rows assumed"].value == 2


def checks(made: Trained) -> dict[str, bool]:
    return {next(iter(c.check_keys)).name: c(made.home.lake).passed for c in forecasts_checks(made.home.settings)}


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda rows: rows.iloc[1:], "complete"),
        (lambda rows: pd.concat([rows.iloc[1:], rows.iloc[1:2]]), "complete"),
        (lambda rows: rows.assign(forecast=rows["forecast"].where(rows.index != 3, np.inf)), "finite"),
        (lambda rows: rows.assign(forecast=rows["forecast"].where(rows.index != 3)), "finite"),
        (lambda rows: rows.rename(columns={"assumed": "guessed"}), "schema"),
    ],
)
def test_the_checks_find_what_is_wrong(own: Trained, spoil: Any, check: str) -> None:
    import pyarrow.parquet as pq

    forecast(own, None)
    assert checks(own) == {"complete": True, "finite": True, "schema": True, "known_ahead_given": True}
    table = own.home.lake.table(FORECASTS)
    rows = pa.Table.from_pandas(spoil(table.arrow().to_pandas()), preserve_index=False)
    rows = rows.cast(pa.schema([f.with_type(pa.timestamp("us")) if f.name == "day" else f for f in rows.schema]))
    with table.staging() as staging:
        Path(staging.uri).mkdir()
        pq.write_table(rows, f"{staging.uri}/rows.parquet")
        table.commit(staging, rows.schema, table.record())
    assert [name for name, passed in checks(own).items() if not passed] == [check]


TIMES: dict[str, Any] = {
    "date": (lambda t: t.dt.date, pa.date32(), date(2024, 3, 1)),
    "naive": (lambda t: t, pa.timestamp("us"), datetime(2024, 3, 1)),
    "aware": (lambda t: t.dt.tz_localize("UTC"), pa.timestamp("us", "UTC"), datetime(2024, 3, 1, tzinfo=UTC)),
    "text": (lambda t: t.dt.strftime("%Y-%m-%d"), pa.timestamp("us"), datetime(2024, 3, 1)),
}


@pytest.mark.parametrize("kind", list(TIMES))
def test_keys_and_times_come_back_with_their_types(tmp_path: Path, spark: Spark, kind: str) -> None:
    """The key: a number, a flag and a text called `model`, all as they came."""
    convert, type_, first = TIMES[kind]
    table = sales(2, 60).rename(columns={"shop": "model"})
    table["store"] = np.where(table["model"] == "shop 0", 10, 20).astype(np.int32)
    table["Forecast"] = table["model"] == "shop 0"
    table["day"] = convert(table["day"])
    made = house(tmp_path / "h", spark, table, segment=["store", "Forecast", "model"])
    features, _ = built(made)
    publish_forecasts(made.lake, spark, made.settings, features, None)
    rows = made.lake.table(FORECASTS).arrow()
    names = ["store", "Forecast", "model", "day", "fleet_forecast", "fleet_model", "version", "assumed", "p05", "p95"]
    assert rows.schema.names == names
    assert [rows.schema.field(n).type for n in ("store", "Forecast", "model")] == [pa.int32(), pa.bool_(), pa.string()]
    assert rows.schema.field("day").type == type_
    assert min(rows["day"].to_pylist()) == first
    assert set(rows["store"].to_pylist()) == {10, 20}
    assert all(check(made.lake).passed for check in forecasts_checks(made.settings))


def test_a_name_that_is_taken_is_prefixed_until_it_is_free() -> None:
    recipe = Recipe.model_construct(segment=["Model", "fleet_model"], time="version")
    assert [output_name(name, recipe) for name in ("forecast", "model", "version")] == [
        "forecast",
        "fleet_fleet_model",
        "fleet_version",
    ]
