"""Training of one segment: what it may look at, what it says, and that a failure stays its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from assets.models.bucket import SegmentRows, read_bucket
from assets.models.packing import unpacked
from assets.models.segment import CutOffs, fingerprint
from tests.models.small import HOLDOUT, LAST, changed, recipe, segment, trained

BASELINES = ("baseline", "median")


def test_a_good_segment_has_a_twin_and_a_served_model_and_says_what_each_saw() -> None:
    outcome = trained(segment())
    assert outcome["status"] == "trained"
    cut_offs = outcome["trained_through"], outcome["judged_through"], outcome["selected_through"]
    assert cut_offs == (99, 89, 89)
    assert outcome["fold_count"] == HOLDOUT
    assert outcome["chosen"] == "segment"
    assert (outcome["rows"], outcome["fits"]) == (100, 3)
    assert outcome["bytes"] == len(outcome["served"]) + len(outcome["judged"])
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
    assert (outcome["status"], outcome["reason"]) == ("skipped", reason)
    assert outcome["chosen"] in BASELINES
    assert outcome["shard"] is None
    assert "served" not in outcome


def test_just_enough_history_is_trained_and_served_by_the_baseline_for_want_of_a_fold() -> None:
    outcome = trained(labelled(20))
    assert (outcome["status"], outcome["fits"]) == ("trained", 2)
    assert outcome["chosen"] in BASELINES
    assert outcome["fold_model_absolute"] is None


def test_what_lightgbm_refuses_fails_the_segment_alone() -> None:
    rows = segment()
    negative = SegmentRows("s", rows.periods, rows.labels - 500, rows.x, 0)
    poisson = recipe(model={"objective": "poisson"})
    outcome = trained(negative, poisson)
    assert (outcome["status"], outcome["shard"]) == ("failed", None)
    assert outcome["chosen"] in BASELINES
    assert "LightGBMError" in outcome["reason"]
    assert trained(rows, poisson)["status"] == "trained"


def mark(rows: SegmentRows, last: int = LAST, shared: str = "all", holdout: int = HOLDOUT) -> str:
    return fingerprint(rows, CutOffs.of(recipe(holdout=holdout), last), shared)


def test_the_fingerprint_is_of_all_that_a_fit_sees_and_of_nothing_else() -> None:
    rows = segment()
    future = np.where(rows.periods[:, None] > LAST, 9.0, rows.x)
    unlabelled = SegmentRows("s", rows.periods[:105], rows.labels[:105], rows.x[:105], 7)
    same = [segment(), SegmentRows("s", rows.periods, rows.labels, future, 0), unlabelled]
    assert {mark(each) for each in same} == {mark(rows)}
    x = rows.x.copy()
    x[50, 1] += 1e-9
    others = [
        mark(changed(rows, LAST - 1)),
        mark(changed(rows, -1, by=1e-9)),
        mark(SegmentRows("s", rows.periods, rows.labels, x, 0)),
        mark(SegmentRows("s", rows.periods, np.where(rows.periods == 3, np.nan, rows.labels), rows.x, 0)),
        mark(rows, last=LAST - 1),
        mark(rows, holdout=HOLDOUT + 1),
        mark(rows, shared="other"),
    ]
    assert len({mark(rows), *others}) == len(others) + 1


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
