"""Training of one segment: what it may look at, what it says, and that a failure stays its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.models.bucket import SegmentRows, read_bucket
from assets.models.fit import predict
from assets.models.shard import chosen_by_fold, packed, train_segment, unpacked
from assets.raw.recipe import Recipe

LAST, HOLDOUT = 99, 10


def recipe(**keys: Any) -> Recipe:
    model = {"objective": "regression", "rounds": 20, "label_transform": "none", "params": {}, "seed": 0}
    given = {
        "segment": ["shop"], "time": "day", "label": "sold", "frequency": "D", "phase": 0, "horizon": 10,
        "kinds": {"sold": "number", "price": "number"}, "known_ahead": ["price"], "past_only": [], "lags": [10],
        "windows": [], "statistics": [], "calendar_features": [], "season": 5, "holdout": HOLDOUT,
        "minimum_history": 20, "closed_after": 10, "metric": "wape",
    }  # fmt: skip
    return Recipe(**{**given, "model": {**model, **keys.pop("model", {})}, **keys})


def segment(rows: int = 110, seed: int = 0) -> SegmentRows:
    """Periods 0 to 109, labels up to 99 that the first feature explains."""
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.integers(0, 5, rows).astype(float), draw.normal(size=rows)])
    labels = 20 + 5 * x[:, 0] + draw.normal(0, 0.2, rows)
    labels[LAST + 1 :] = np.nan
    return SegmentRows("s", np.arange(rows), labels, x, 0)


def changed(rows: SegmentRows, after: int, by: float = 1000.0) -> SegmentRows:
    return SegmentRows(rows.key, rows.periods, np.where(rows.periods > after, rows.labels + by, rows.labels), rows.x, 0)


def trained(rows: SegmentRows, asked: Recipe | None = None) -> dict[str, Any]:
    return train_segment(rows, asked or recipe(), LAST, [])


def test_a_good_segment_has_a_twin_and_a_served_model_and_says_what_each_saw() -> None:
    outcome = trained(segment())
    assert outcome["status"] == "trained"
    assert (outcome["trained_through"], outcome["judged_through"], outcome["selected_through"]) == (
        99,
        89,
        89,
    )
    assert outcome["fold_count"] == HOLDOUT
    assert outcome["chosen"] == "segment"
    assert outcome["rows"] == 100
    assert unpacked(outcome["served"]).num_trees() == outcome["trees"] == 20
    assert outcome["served"] != outcome["judged"]


def test_holdout_labels_change_neither_the_choice_nor_the_twin() -> None:
    before, after = trained(segment()), trained(changed(segment(), LAST - HOLDOUT))
    same = ["judged", "chosen", *[name for name in before if name.startswith("fold")]]
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert before["served"] != after["served"]


def test_the_choice_is_made_on_the_fold_before_the_holdout() -> None:
    """A model that is right on the fold is chosen however wrong it is on the holdout, and the other way round."""
    lucky = changed(segment(), LAST - 2 * HOLDOUT)
    assert trained(lucky)["chosen"] == "baseline" or trained(lucky)["fold_model_absolute"] > 5000
    assert trained(changed(segment(), LAST - HOLDOUT))["chosen"] == "segment"


def test_the_model_of_the_fold_does_not_see_the_fold() -> None:
    rows = segment()
    noisy = changed(rows, LAST - 2 * HOLDOUT)
    error = trained(noisy)["fold_model_signed"]
    assert error == pytest.approx(trained(rows)["fold_model_signed"] - 1000 * HOLDOUT)


def test_training_twice_gives_the_same_bytes() -> None:
    first, second = trained(segment()), trained(segment())
    assert (first["served"], first["judged"]) == (second["served"], second["judged"])


def labelled(count: int, value: float | None = None) -> SegmentRows:
    rows = segment()
    labels = np.where(rows.periods < LAST - HOLDOUT + 1 - count, np.nan, rows.labels)
    if value is not None:
        labels = np.where(np.isnan(labels), np.nan, value)
    return SegmentRows("s", rows.periods, labels, rows.x, 0)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (labelled(19), "too short"),
        (labelled(60, 3.0), "constant label"),
        (SegmentRows("s", np.arange(110), np.full(110, np.nan), segment().x, 0), "all labels null"),
    ],
)
def test_a_segment_that_cannot_be_trained_is_skipped_with_its_reason(rows: SegmentRows, reason: str) -> None:
    outcome = trained(rows)
    assert (outcome["status"], outcome["reason"], outcome["chosen"]) == ("skipped", reason, "baseline")
    assert "served" not in outcome


def test_just_enough_history_is_trained_and_served_by_the_baseline_for_want_of_a_fold() -> None:
    outcome = trained(labelled(20))
    assert (outcome["status"], outcome["chosen"], outcome["fold_count"]) == ("trained", "baseline", 0)


def test_what_lightgbm_refuses_fails_the_segment_alone() -> None:
    rows = segment()
    negative = SegmentRows("s", rows.periods, rows.labels - 500, rows.x, 0)
    poisson = recipe(model={"objective": "poisson"})
    outcome = trained(negative, poisson)
    assert (outcome["status"], outcome["chosen"]) == ("failed", "baseline")
    assert "LightGBMError" in outcome["reason"]
    assert trained(rows, poisson)["status"] == "trained"


@pytest.mark.parametrize(
    ("metric", "fold", "who"),
    [
        ("wape", {"model_absolute": 1.0, "baseline_absolute": 2.0}, "segment"),
        ("wape", {"model_absolute": 2.0, "baseline_absolute": 2.0}, "baseline"),
        ("wape", {"model_absolute": float("nan"), "baseline_absolute": 2.0}, "baseline"),
        ("rmse", {"model_squared": 9.0, "baseline_squared": 2.0, "model_absolute": 0.0, "baseline_absolute": 1.0}, "baseline"),
        ("rmse", {"model_squared": 1.0, "baseline_squared": 2.0, "model_absolute": 5.0, "baseline_absolute": 1.0}, "segment"),
    ],
)  # fmt: skip
def test_the_choice_follows_the_metric(metric: str, fold: dict[str, float], who: str) -> None:
    assert chosen_by_fold({"fold_count": 3, **{f"fold_{name}": value for name, value in fold.items()}}, metric) == who


def test_a_packed_model_predicts_to_the_bit_what_it_did() -> None:
    rows = segment()
    booster = unpacked(trained(rows)["served"])
    again = unpacked(packed(booster))
    np.testing.assert_array_equal(predict(booster, rows.x, recipe().model), predict(again, rows.x, recipe().model))


def test_rows_are_found_by_period_not_by_place() -> None:
    rows = SegmentRows("s", np.array([2, 5, 9]), np.zeros(3), np.array([[2.0], [5.0], [9.0]]), 0)
    x, there = rows.at(np.array([1, 2, 6, 9, 12]))
    assert there.tolist() == [False, True, False, True, False]
    assert x[there].ravel().tolist() == [2, 9]


def bucket_file(folder: Path, weather: list[str | None]) -> str:
    import pyarrow.parquet as pq

    count = len(weather)
    table = pa.table(
        {
            "__segment": ["a"] * count,
            "__period": pa.array(range(count), pa.int32()),
            "sold": pa.array([None, *map(float, range(1, count))], pa.float64()),
            "weather": weather,
        }
    )
    pq.write_table(table, folder / "bucket.parquet")
    return str(folder / "bucket.parquet")


def test_a_category_unknown_at_training_is_missing_not_another_one(tmp_path: Path) -> None:
    asked = recipe(
        kinds={"sold": "number", "weather": "text"},
        known_ahead=["weather"],
        lags=[],
        categories={"weather": ["rain", "sun"]},
    )
    bucket = read_bucket([bucket_file(tmp_path, ["sun", "hail", None, "rain"])], asked)
    np.testing.assert_array_equal(bucket.x[:, 0], [1, np.nan, np.nan, 0])
    np.testing.assert_array_equal(bucket.labels, [np.nan, 1, 2, 3])
