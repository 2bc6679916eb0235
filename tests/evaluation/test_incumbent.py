"""The incumbent on the challenger's holdout: by its twin, with its own features, or left out and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.checks import evaluation_checks
from assets.evaluation.incumbent import Champion
from assets.evaluation.judge import EVALUATION, Evaluation, challenger_listing, evaluate, latest_evaluation
from assets.features.build import features_of_bucket
from assets.features.ordered import ordered
from assets.models.train import train_fleet
from resources.settings import Settings
from tests.cycle import minimal
from tests.lakes import GOOD, HORIZON, Trained, built, loaded, matrix, mixed_keys, mixed_table


def served_by(made: Trained, version: int = 1) -> Champion:
    """The fleet of a lake as a champion."""
    home = made.home
    evaluation, _ = evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)
    rows = home.lake.table(EVALUATION).arrow(version=evaluation.version)
    return Champion(version, {"published": "p", "evaluation": evaluation.digest}, rows)


def judged(made: Trained, champion: Champion | None) -> Evaluation:
    home = made.home
    return evaluate(home.lake, home.spark, home.settings, made.features, made.training, champion)[0]


def next_week(made: Trained, days: int = 7, **keys: Any) -> Trained:
    """The same fleet with newer rows and, if given, another `fleet.yaml`."""
    table = mixed_table()
    end = table["day"].max()
    newer = (
        table[table["shop"].isin(GOOD)]
        .groupby("shop")
        .tail(days)
        .assign(day=lambda t: t["day"] + pd.Timedelta(days=days))
    )
    newer = newer.assign(sold=80.0 - 8 * newer["price"], footfall=1.0)
    known = table[table["day"] <= end - pd.Timedelta(days=HORIZON)]
    made.home.configure(**{**mixed_keys(), **keys})
    made.home.bring(pd.concat([known, newer[newer["day"] > known["day"].max()]], ignore_index=True))
    features, recipe = built(made.home)
    training, _ = train_fleet(made.home.lake, made.home.spark, features, recipe)
    return Trained(made.home, features, recipe, training)


def incumbent_by_hand(old: Trained, new: Trained) -> dict[str, float]:
    """|error| of the old twins on the new holdout, by good segment; with features of their recipe built from all rows."""
    from assets.features.contract import judged_rows, valid_rows
    from assets.raw.snapshot import RAW, read_snapshot

    home = new.home
    settings = Settings.model_validate({**minimal(), **mixed_keys()})
    profile = new.features.profile.model_copy(update={"kinds": old.recipe.kinds})
    raw = read_snapshot(home.spark, home.lake.table(RAW), settings)
    rows = valid_rows(judged_rows(raw, settings, profile, new.features.buckets))
    build = features_of_bucket(old.recipe, profile)
    frame = pd.concat([build(bucket).to_pandas() for bucket in ordered(rows.toArrow(), ["shop"]).buckets()])
    frame = frame.sort_values(["__segment", "__period"], ignore_index=True)
    x, last = matrix(frame, old.recipe), new.features.profile.last_period
    twins = loaded(dataclasses.replace(old, home=home), "judged")
    inside = (frame["__period"] > last - new.recipe.holdout) & (frame["__period"] <= last) & frame["sold"].notna()
    found = {}
    for key in GOOD:
        mine = frame[inside & (frame["__segment"] == key)]
        found[key] = float(np.abs(twins[key].predict(x[mine.index]) - mine["sold"]).sum())
    return found


def incumbent_errors(made: Trained) -> dict[str, float]:
    table = made.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    return {key: table.loc[key, "incumbent_absolute"] for key in GOOD}


def test_the_incumbent_is_judged_by_its_twin_on_the_new_holdout(own: Trained) -> None:
    champion = served_by(own)
    assert set(champion.listing.to_pandas().set_index("segment").loc[GOOD, "chosen"]) == {"segment"}
    new = next_week(own)
    record = judged(new, champion).record
    assert (record["incumbent_version"], record["incumbent_left_out"]) == (1, None)
    assert record["incumbent_judged_through"] == own.features.profile.last_period - HORIZON
    assert record["incumbent_judged_through"] < record["judged_through"]
    assert incumbent_errors(new) == pytest.approx(incumbent_by_hand(own, new), rel=1e-9)


OTHER_FEATURES = {**minimal()["features"], "known_ahead": ["price"], "lags": [5], "calendar": ["trend"]}


def test_an_incumbent_with_other_features_is_compared_on_features_rebuilt(own: Trained) -> None:
    champion = served_by(own)
    new = next_week(own, features=OTHER_FEATURES)
    assert new.recipe.features != own.recipe.features
    record = judged(new, champion).record
    assert record["incumbent_version"] == 1
    assert incumbent_errors(new) == pytest.approx(incumbent_by_hand(own, new), rel=1e-9)
    assert not list((own.home.folder / "lake" / "features").glob("rebuilt-*"))


def test_an_incumbent_whose_column_is_gone_falls_back_to_the_baseline(own: Trained) -> None:
    champion = served_by(own)
    frame = mixed_table().drop(columns=["weather"])
    own.home.configure(features=OTHER_FEATURES)
    own.home.bring(frame)
    features, recipe = built(own.home)
    training, _ = train_fleet(own.home.lake, own.home.spark, features, recipe)
    record = judged(Trained(own.home, features, recipe, training), champion).record
    assert record["errors"]["incumbent"] == record["errors"]["baseline"]


def test_an_incumbent_that_saw_rows_of_the_holdout_is_left_out(own: Trained) -> None:
    champion = served_by(own)
    evaluation = {**minimal()["evaluation"], "holdout": HORIZON + 2}
    own.home.configure(**mixed_keys(), evaluation=evaluation)
    features, recipe = built(own.home)
    training, _ = train_fleet(own.home.lake, own.home.spark, features, recipe)
    record = judged(Trained(own.home, features, recipe, training), champion).record
    assert record["incumbent_version"] is None
    assert "rows of this holdout" in record["incumbent_left_out"]
    assert "incumbent" not in record["compared"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"label": "footfall", "features": minimal()["features"]}, "another question"),
        ({"horizon": 3, "features": {**minimal()["features"], "lags": [3]}}, None),
        ({"horizon": 6, "features": {**minimal()["features"], "lags": [6]}}, "fewer periods ahead"),
    ],
)
def test_an_incumbent_of_another_question_is_left_out(own: Trained, keys: dict[str, Any], why: str | None) -> None:
    champion = served_by(own)
    own.home.configure(**keys)
    features, recipe = built(own.home)
    training, _ = train_fleet(own.home.lake, own.home.spark, features, recipe)
    record = judged(Trained(own.home, features, recipe, training), champion).record
    assert (record["incumbent_left_out"] or "").find(why or "") >= 0
    assert (record["incumbent_version"] is None) == (why is not None)


def test_a_partial_training_is_judged_together_with_what_serves_the_others(own: Trained) -> None:
    champion = served_by(own)
    training, _ = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe, ["shop 1", "short"])
    rows = challenger_listing(own.home.lake, own.features, training, champion).to_pandas().set_index("segment")
    assert len(rows) == 7
    assert rows.loc["shop 1", "training"] == training.id
    assert rows.loc[["shop 0", "shop 2"], "training"].tolist() == [own.training.id] * 2
    record = judged(dataclasses.replace(own, training=training), champion).record
    assert (
        record["errors"]["challenger"] == record["errors"]["incumbent"]
        or record["errors"]["served"] == record["errors"]["incumbent"]
    )


def test_models_of_another_label_do_not_join_a_partial_training(own: Trained) -> None:
    champion = served_by(own)
    own.home.configure(label="footfall", features=minimal()["features"])
    features, recipe = built(own.home)
    training, _ = train_fleet(own.home.lake, own.home.spark, features, recipe, ["shop 1"])
    rows = challenger_listing(own.home.lake, features, training, champion).to_pandas()
    assert set(rows.loc[rows["segment"] != "shop 1", "reason"]) == {"not trained yet"}


def test_a_promotion_in_between_is_judged_anew_but_not_ones_own(own: Trained) -> None:
    first = judged(own, None)
    itself = Champion(1, {"evaluation": first.digest}, own.home.lake.table(EVALUATION).arrow())
    assert judged(own, itself) == first
    stranger = Champion(2, {"evaluation": "another"}, own.home.lake.table(EVALUATION).arrow())
    second = judged(own, stranger)
    assert second.version == first.version + 1
    assert second.record["incumbent_version"] == 2


def checked(made: Trained, name: str) -> Any:
    check = next(c for c in evaluation_checks(made.home.settings) if next(iter(c.check_keys)).name == name)
    return check(made.home.lake)


@pytest.mark.parametrize(
    "cut_off",
    ["judged_through", "selected_through", "incumbent_judged_through", "incumbent_selected_through"],
)
def test_the_check_finds_a_cut_off_inside_the_holdout(own: Trained, cut_off: str) -> None:
    judged(own, served_by(own))
    assert checked(own, "comparison_clean").passed
    table = own.home.lake.table(EVALUATION)
    last = latest_evaluation(own.home.lake)
    assert last is not None
    tampered = {**last.record, cut_off: last.record["holdout_from"] + 1}
    with table.staging() as staging:
        table.commit(staging, table.schema(), tampered, mode="append", files=[])
    result = checked(own, "comparison_clean")
    assert not result.passed
    assert result.metadata[cut_off].value == last.record["holdout_from"] + 1


def test_the_check_finds_a_segment_that_is_missing(own: Trained) -> None:
    import pyarrow.parquet as pq

    judged(own, None)
    assert checked(own, "segments_accounted_for").passed
    table = own.home.lake.table(EVALUATION)
    rows, record = table.arrow(), table.record()
    with table.staging() as staging:
        from pathlib import Path

        Path(staging.uri).mkdir()
        pq.write_table(rows.slice(1), f"{staging.uri}/evaluation.parquet")
        table.commit(staging, rows.schema, record)
    assert not checked(own, "segments_accounted_for").passed
