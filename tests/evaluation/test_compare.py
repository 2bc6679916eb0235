"""The comparison against one worked out by hand in pandas: same rows for all, twins only, nothing forgotten."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assets.evaluation import conformal, judge
from assets.evaluation.checks import evaluation_checks
from assets.evaluation.judge import EVALUATION, Evaluation, challenger_listing, evaluate, latest_evaluation
from assets.features.publish import recipe_of_committed
from assets.models.baseline import seasonal_median
from assets.models.store import LISTING, WEIGHTS, listing_of
from assets.models.train import train_fleet
from resources.problems import InputError
from tests.lakes import CLOSED, GOOD, HORIZON, SKIPPED, Trained, feature_frame, loaded, matrix, mixed_keys, slow_naive


def judged(made: Trained, champion: Any = None) -> tuple[Evaluation, bool]:
    home = made.home
    return evaluate(home.lake, home.spark, home.settings, made.features, made.training, champion)


def by_hand(made: Trained, holdout: int = HORIZON) -> pd.DataFrame:
    """A row a labelled holdout row: segment, label, and each candidate's forecast, from table and boosters alone."""
    frame, recipe, last = feature_frame(made), made.recipe, made.features.profile.last_period
    x = matrix(frame, recipe)
    listing = listing_of(made.home.lake, made.training).to_pandas().set_index("segment")
    twins = loaded(made, "judged")
    mean = frame.loc[frame["__period"] <= last - holdout, "sold"].mean()
    rows = []
    for key, own in frame.groupby("__segment"):
        targets = own[(own["__period"] > last - holdout) & (own["__period"] <= last) & own["sold"].notna()]
        if targets.empty:
            continue
        wanted = targets["__period"].tolist()
        origins = [last - holdout + (t - (last - holdout) - 1) // recipe.horizon * recipe.horizon for t in wanted]
        naive = slow_naive(own["__period"].tolist(), own["sold"].tolist(), wanted, origins, recipe.season, mean)
        model = twins[key].predict(x[targets.index]) if key in twins else np.array(naive)
        known = own["sold"].notna()
        history = (own.loc[known, name].to_numpy() for name in ("__period", "sold"))
        median = seasonal_median(*history, np.array(wanted), np.array(origins), recipe.season, mean)
        said = {"segment": model, "baseline": np.array(naive), "median": median}
        serves = said[listing.loc[key, "chosen"]]
        rows.append(
            pd.DataFrame(
                {
                    "segment": key,
                    "label": targets["sold"].tolist(),
                    "challenger": model,
                    "served": serves,
                    "baseline": naive,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def sums(rows: pd.DataFrame, candidate: str) -> dict[str, float]:
    error = rows[candidate] - rows["label"]
    return {"absolute": error.abs().sum(), "squared": (error**2).sum(), "signed": error.sum()}


def test_totals_and_segments_are_those_worked_out_by_hand(own: Trained) -> None:
    found, is_new = judged(own)
    assert is_new
    rows = by_hand(own)
    table = own.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    assert set(table.index) == {*GOOD, CLOSED, *SKIPPED}
    assert table["count"].sum() == found.record["rows"] == len(rows)
    for candidate in ("challenger", "served", "baseline"):
        scale = rows["label"].abs().sum()
        assert found.record["errors"][candidate] == pytest.approx(sums(rows, candidate)["absolute"] / scale, rel=1e-12)
        assert found.record["bias"][candidate] == pytest.approx(sums(rows, candidate)["signed"] / scale, rel=1e-9)
        for key, part in rows.groupby("segment"):
            for name, value in sums(part, candidate).items():
                assert table.loc[key, f"{candidate}_{name}"] == pytest.approx(value, rel=1e-9, abs=1e-9), (
                    key,
                    name,
                )


def test_deviations_from_what_is_served_become_quantiles_and_a_check_of_them(
    own: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformal, "FEWEST_SCORES", 4)
    found, _ = judged(own)
    rows, asked = by_hand(own), found.record["quantiles"]
    table = own.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    deviation = (rows["label"] - rows["served"]) / rows["segment"].map(table["scale"])
    usable = deviation[rows["segment"].map(table["scale"]) > 0]
    assert asked["scores"] == len(usable)
    assert found.record["metrics"]["mase"]["served"] == pytest.approx(
        usable.abs().groupby(rows["segment"]).mean().mean(), rel=1e-9
    )
    widest = np.array([np.frombuffer(each) for each in table.loc[GOOD, "quantile_offsets"]]).reshape(-1, HORIZON, 2)
    assert (widest[:, :, 0] < widest[:, :, 1]).all()
    (check,) = [c for c in evaluation_checks(own.home.settings) if "quantiles_calibrated" in str(c.check_key)]
    own.home.configure(**mixed_keys(), checks={"coverage": 1.0})
    (lenient,) = [c for c in evaluation_checks(own.home.settings) if "quantiles_calibrated" in str(c.check_key)]
    off = max(abs(share - level) for share, level in zip(asked["measured"], asked["levels"], strict=True))
    assert (check(own.home.lake).passed, lenient(own.home.lake).passed) == (off <= 0.05, True)
    assert off > 0.05, "a handful of rows is no measure, and the check says so"


def test_features_that_were_not_committed_are_asked_for_in_vain(own: Trained) -> None:
    home = own.home
    assert recipe_of_committed(home.lake, home.spark, home.settings, own.features).features == own.recipe.features
    keys = mixed_keys()
    home.configure(**{**keys, "features": {**keys["features"], "lags": [HORIZON, HORIZON + 1]}})
    with pytest.raises(InputError, match="asks for other features than are committed -> materialize features first"):
        recipe_of_committed(home.lake, home.spark, home.settings, own.features)


def test_skipped_segments_are_judged_by_the_baseline_on_the_same_rows(own: Trained) -> None:
    judged(own)
    table = own.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    for key in ("short", "constant"):
        assert table.loc[key, "count"] == HORIZON
        assert table.loc[key, "challenger_absolute"] == table.loc[key, "baseline_absolute"]
    assert table.loc[["empty", CLOSED], "count"].tolist() == [0, 0]
    assert table.loc["shop 2", "count"] == HORIZON - 1, "day 57 of shop 2 is missing"


def test_who_was_not_chosen_on_the_fold_is_served_by_the_baseline(
    own: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = listing_of(own.home.lake, own.training).to_pandas()
    listing.loc[listing["segment"] != "shop 1", ["chosen", *WEIGHTS]] = ["baseline", 0.0, 0.0, 0.0]
    changed = pa.Table.from_pandas(listing, LISTING, preserve_index=False)
    monkeypatch.setattr(judge, "listing_of", lambda *_: changed)
    judged(own)
    table = own.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    assert (table.loc[GOOD, "challenger_absolute"] != table.loc[GOOD, "baseline_absolute"]).all()
    assert table.loc["shop 0", "served_absolute"] == table.loc["shop 0", "baseline_absolute"]
    assert table.loc["shop 1", "served_absolute"] == table.loc["shop 1", "challenger_absolute"]


def test_the_record_says_what_was_compared(own: Trained) -> None:
    record, last = judged(own)[0].record, own.features.profile.last_period
    assert record["holdout"] == {"start": "2024-02-26T00:00:00", "end": "2024-02-29T00:00:00"}
    assert record["holdout_from"] == record["judged_through"] == record["selected_through"] == last - HORIZON
    assert record["trained_through"] == last
    assert (record["incumbent_version"], record["incumbent_left_out"]) == (None, "no fleet served before")
    assert record["errors"]["incumbent"] is None
    assert "incumbent" not in record["compared"]


def test_the_second_evaluation_of_the_same_is_not_new(own: Trained) -> None:
    first, _ = judged(own)
    second, is_new = judged(own)
    assert not is_new
    assert second == first == latest_evaluation(own.home.lake)


def with_recipe(made: Trained, **keys: Any) -> Trained:
    recipe = made.recipe.model_copy(update=keys)
    training, _ = train_fleet(made.home.lake, made.home.spark, made.features, recipe)
    return dataclasses.replace(made, recipe=recipe, training=training)


def test_a_holdout_longer_than_the_horizon_moves_the_origin(own: Trained) -> None:
    longer = with_recipe(own, holdout=10, season=3)
    found, _ = judged(longer)
    rows = by_hand(longer, holdout=10)
    assert found.record["rows"] == len(rows) > 3 * 9
    for candidate in ("challenger", "served", "baseline"):
        wanted = sums(rows, candidate)["absolute"] / rows["label"].abs().sum()
        assert found.record["errors"][candidate] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_other_metrics_are_those_worked_out_by_hand(own: Trained, metric: str) -> None:
    made = with_recipe(own, metric=metric)
    found, rows = judged(made)[0].record, by_hand(made)
    for candidate in ("challenger", "served", "baseline"):
        own_sums = sums(rows, candidate)
        wanted = own_sums["absolute"] / len(rows) if metric == "mae" else (own_sums["squared"] / len(rows)) ** 0.5
        assert found["errors"][candidate] == pytest.approx(wanted, rel=1e-12)
    kind = "squared" if metric == "rmse" else "absolute"
    assert found["compared"]["served"] == pytest.approx(sums(rows, "served")[kind], rel=1e-12)


def test_a_partial_training_leaves_the_others_to_the_baseline_when_nobody_served_before(own: Trained) -> None:
    training, _ = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe, ["shop 1"])
    rows = challenger_listing(own.home.lake, own.features, training, None).to_pandas().set_index("segment")
    assert set(rows.index) == {*GOOD, CLOSED, *SKIPPED}
    assert rows.loc["shop 1", "chosen"] == "segment"
    assert set(rows.drop("shop 1")["reason"]) == {"not trained yet"}
    found, _ = judged(dataclasses.replace(own, training=training))
    table = own.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    assert table.loc["shop 0", "challenger_absolute"] == table.loc["shop 0", "baseline_absolute"]
    assert found.record["rows"] == table["count"].sum() == len(by_hand(own))
