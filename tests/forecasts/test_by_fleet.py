"""The fleet-wide model at work: who has no model of its own is judged and forecast by it, worked out again by hand."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from assets.evaluation.backtest import backtested
from assets.evaluation.backtest_summary import backtest_record
from assets.evaluation.incumbent import Champion
from assets.evaluation.judge import EVALUATION, evaluate
from assets.features.publish import current_features
from assets.forecasts.publish import FORECASTS, publish_forecasts
from assets.models.packing import unpacked
from assets.models.store import listing_of
from resources.judging import Failures
from resources.problems import InputError
from resources.spark import Spark
from tests.cycle import HORIZON, House, house, sales
from tests.lakes import DAYS, GOOD, Trained, again, feature_frame, listed, matrix, slow_naive, train

ALIKE = [*GOOD, *(f"more {n}" for n in range(5))]


def alike_table() -> pd.DataFrame:
    """Shops on one level, which the price explains for all of them, `short` too; one constant, one without a label."""
    names = [*ALIKE, "short", "constant", "empty"]
    frame = sales(names, DAYS)
    frame["sold"] -= 10 * frame["shop"].map({name: number for number, name in enumerate(names)})
    day = (frame["day"] - frame["day"].min()).dt.days
    constant, empty = frame["shop"] == "constant", frame["shop"] == "empty"
    frame["sold"] = frame["sold"].mask(constant & (day < DAYS), 7.0).mask(empty)
    return frame[~((frame["shop"] == "short") & (day < DAYS - 10))].reset_index(drop=True)


@pytest.fixture(scope="module")
def with_fleet(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Trained:
    """A lake with a fleet-wide model; read only."""
    folder = tmp_path_factory.mktemp("with_fleet")
    return train(house(folder, spark, alike_table(), fleet_model={"enabled": True}))


@pytest.fixture
def made(with_fleet: Trained, tmp_path: Path) -> Trained:
    """A copy for one test."""
    shutil.copytree(with_fleet.home.folder, tmp_path / "made")
    home = House(tmp_path / "made", with_fleet.home.spark)
    return dataclasses.replace(with_fleet, home=home, features=current_features(home.lake))


def test_the_newest_origin_of_a_backtest_is_what_the_evaluation_says(made: Trained) -> None:
    home, record = made.home, judged(made)
    shards = sorted((home.folder / "lake" / "boosters").rglob("*.parquet"))
    (newest,) = backtested(home.lake, home.spark, made.features, made.recipe, 1, Failures())
    backtest = backtest_record([newest], ["newest"], made.recipe)
    said = backtest["mean"]
    names = {"segment": "challenger", "fleet": "fleet", "served": "served", "baseline": "baseline", "median": "median"}
    assert said == pytest.approx({mine: record["errors"][theirs] for mine, theirs in names.items()}, rel=1e-12)
    for what in ("wins", "without"):
        worth = {mine: record["worth"][what][names[mine]] for mine in backtest[what]}
        assert worth == pytest.approx(backtest[what], rel=1e-12)
    assert any(worth[name] != pytest.approx(said["served"], rel=1e-6) for name in worth), "somebody is worth something"
    assert sorted((home.folder / "lake" / "boosters").rglob("*.parquet")) == shards
    with pytest.raises(InputError, match="do not fit the history of 60 periods -> ask for 9 at most"):
        list(backtested(home.lake, home.spark, made.features, made.recipe, 10, Failures()))


def judged(made: Trained) -> dict[str, Any]:
    home = made.home
    return evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)[0].record


def champion_of(made: Trained) -> Champion:
    tags = {"published": "p1", "evaluation": judged(made)["digest"], "training": made.training.id}
    return Champion(7, tags, made.home.lake.table(EVALUATION).arrow())


def forecast(made: Trained, champion: Champion) -> pd.DataFrame:
    home = made.home
    publish_forecasts(home.lake, home.spark, home.settings, made.features, champion)
    return home.lake.table(FORECASTS).arrow().to_pandas().sort_values(["shop", "day"], ignore_index=True)


def fleet_by_hand(made: Trained, fit: str) -> pd.DataFrame:
    """The feature table with a column `fleet`: what the fit says of each row, asked without the code under test."""
    assert made.training.fleet_file is not None
    (row,) = pq.read_table(f"{made.home.lake.root}/{made.training.fleet_file}").to_pylist()
    frame = feature_frame(made)
    places = {value: place for place, value in enumerate(json.loads(row["categories"])["shop"])}
    x = np.column_stack([matrix(frame, made.recipe), frame["shop"].map(places).astype(float)])
    return frame.assign(fleet=unpacked(row[fit]).predict(x))


def test_who_serves_the_others_is_what_is_better_on_their_fold(with_fleet: Trained) -> None:
    """By hand: `short` and `constant` have a fold and no model; there the totals of the two decide."""
    rows = listed(with_fleet)
    frame, last = fleet_by_hand(with_fleet, "fold"), with_fleet.features.profile.last_period
    fold = frame[
        (frame["__period"] > last - 2 * HORIZON) & (frame["__period"] <= last - HORIZON) & frame["sold"].notna()
    ]
    for key, own in fold.groupby("shop"):
        error = float((own["fleet"] - own["sold"]).abs().sum())
        assert rows[key]["fold_fleet_absolute"] == pytest.approx(error, rel=1e-9), key
    others = [rows["short"], rows["constant"]]
    share = sum(row["fold_fleet_absolute"] for row in others) / sum(row["fold_baseline_absolute"] for row in others)
    assert share < 1, "the test needs a fleet-wide model that is better there"
    assert {rows[key]["status"] for key in ("short", "constant", "empty")} == {"skipped"}
    for row in others:
        fleet = row["fold_fleet_absolute"] + share * row["fold_baseline_absolute"]
        assert row["chosen"] == ("fleet" if fleet < 2 * row["fold_baseline_absolute"] else "baseline")
    assert rows["short"]["chosen"] == "fleet"
    assert rows["constant"]["chosen"] == "baseline", "the baseline never errs there"
    assert rows["empty"]["chosen"] == "fleet", "nothing is known but the totals"


def test_the_fleet_wide_models_error_is_that_worked_out_by_hand(made: Trained) -> None:
    record = judged(made)
    frame, last = fleet_by_hand(made, "judged"), made.features.profile.last_period
    inside = frame[(frame["__period"] > last - HORIZON) & (frame["__period"] <= last) & frame["sold"].notna()]
    error = (inside["fleet"] - inside["sold"]).abs()
    assert record["errors"]["fleet"] == pytest.approx(error.sum() / inside["sold"].abs().sum(), rel=1e-9)
    table = made.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    by_segment = error.groupby(inside["shop"]).sum()
    assert set(by_segment.index) == {*ALIKE, "short", "constant"}
    for key, total in by_segment.items():
        assert table.loc[key, "fleet_absolute"] == pytest.approx(total, rel=1e-9)
    assert table.loc["short", "served_absolute"] == table.loc["short", "fleet_absolute"]
    assert table.loc["constant", "served_absolute"] == table.loc["constant", "baseline_absolute"]
    assert table.loc["short", "challenger_absolute"] == table.loc["short", "baseline_absolute"]


def expected(made: Trained, models: dict[str, str]) -> pd.DataFrame:
    frame, last = fleet_by_hand(made, "served"), made.features.profile.last_period
    ahead, known = frame[frame["__period"] > last], frame[frame["__period"] <= last]
    rows = []
    for key, own in ahead[ahead["shop"].isin(models)].groupby("shop"):
        history = known[known["shop"] == key]
        targets = own["__period"].tolist(), [last] * len(own), made.recipe.season, known["sold"].mean()
        naive = slow_naive(history["__period"].tolist(), history["sold"].tolist(), *targets)
        values = own["fleet"] if models[str(key)] == "fleet" else naive
        rows.append(pd.DataFrame({"shop": key, "day": own["__time"], "forecast": values}))
    return pd.concat(rows).sort_values(["shop", "day"], ignore_index=True)


def test_short_segments_are_forecast_by_the_fleet_wide_model(made: Trained) -> None:
    models = {"short": "fleet", "empty": "fleet", "constant": "baseline"}
    rows = forecast(made, champion_of(made))
    for key, model in models.items():
        assert set(rows[rows["shop"] == key]["model"]) == {model}
    found = rows[rows["shop"].isin(models)].reset_index(drop=True)
    wanted = expected(made, models)
    assert found["shop"].tolist() == wanted["shop"].tolist()
    np.testing.assert_allclose(found["forecast"], wanted["forecast"], rtol=1e-12)


def test_a_segment_that_the_champion_never_heard_of_is_forecast_by_its_fleet_wide_model(made: Trained) -> None:
    assert made.training.unproven == {"fleet": 1.0}
    champion = champion_of(made)
    keys = champion.listing["segment"]
    less = champion.listing.filter(pc.invert(pc.is_in(keys, pa.array(["shop 1", "constant"]))))
    rows = forecast(made, dataclasses.replace(champion, listing=less))
    models = {"shop 1": "fleet", "constant": "fleet", "short": "fleet"}
    found = rows[rows["shop"].isin(models)].reset_index(drop=True)
    assert set(found["model"]) == {"fleet"}
    np.testing.assert_allclose(found["forecast"], expected(made, models)["forecast"], rtol=1e-12)
    assert (rows.groupby("shop").size() == HORIZON).all()


def test_without_a_fleet_wide_model_the_segments_own_are_the_same_and_not_trained_again(made: Trained) -> None:
    recipe = made.recipe.model_copy(update={"fleet_rows": 0})
    without = again(dataclasses.replace(made, recipe=recipe))
    assert without.training.record["fitted"] == 0
    assert without.training.fleet_file is None
    ours, theirs = listed(made), listed(without)
    assert {key: ours[key]["shard"] for key in ours} == {key: theirs[key]["shard"] for key in theirs}
    assert {theirs[key]["chosen"] for key in theirs} <= {"segment", "baseline"}


def test_where_it_is_switched_off_nobody_is_served_by_it(own: Trained) -> None:
    record = judged(own)
    assert own.training.fleet_file is None
    assert own.training.record["fleet_model"] is None
    assert "fleet" not in own.training.unproven
    assert record["errors"]["fleet"] is None
    listing = listing_of(own.home.lake, own.training)
    assert listing["fold_fleet_absolute"].null_count == len(listing)
    assert "fleet" not in listing["chosen"].to_pylist()
    assert "fleet" not in set(forecast(own, champion_of(own))["model"])
