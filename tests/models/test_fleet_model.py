"""The fleet-wide model: its sample, its categories, its file, and what its fits may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.models import fleet_model
from assets.models.bucket import SegmentRows, read_bucket
from assets.models.fleet_model import (
    FleetModel,
    FleetTask,
    fleet_facts,
    fleet_file,
    fleet_parameters,
    identity_columns,
    load_fleet_model,
    train_fleet_model,
)
from assets.models.segment import CutOffs
from assets.raw.recipe import Recipe
from tests.models.small import HOLDOUT, LAST, bucket_file, bucket_lines, changed, recipe, segment

SEGMENTS = 40
FITS = ("fold", "judged", "served")


def segments(after: int | None = None) -> list[SegmentRows]:
    found = [segment(seed=number, key=f"s{number}") for number in range(SEGMENTS)]
    return found if after is None else [changed(rows, after) for rows in found]


def task(folder: Path, buckets: Sequence[Sequence[SegmentRows]], share: float = 1.0, name: str = "it") -> FleetTask:
    files = []
    for number, rows in enumerate(buckets):
        place = folder / f"{name}{number}"
        place.mkdir(parents=True)
        files.append((bucket_file(place, rows, recipe()),))
    return FleetTask(tuple(files), share, str(folder / "lake"), name)


def fitted(one: FleetTask, asked: Recipe | None = None, threads: int = 1) -> dict[str, Any]:
    """Trains; gives the file's row."""
    import pyarrow.parquet as pq

    asked = asked or recipe()
    (said,) = train_fleet_model(one, asked, CutOffs.of(asked, LAST), threads)
    (row,) = pq.read_table(f"{one.lake}/{fleet_file(one.name)}").to_pylist()
    assert said == {name: row[name] for name in said} == fleet_facts(one.lake, fleet_file(one.name))
    return row


def in_this_process(work: Callable[[int], Any], items: Sequence[int], **_: Any) -> Iterator[tuple[int, Any]]:
    """In place of `isolated`, so that a spy sees what is fitted."""
    return ((item, work(item)) for item in items)


def sampled(one: FleetTask, monkeypatch: pytest.MonkeyPatch) -> set[tuple[float, ...]]:
    """The rows that the served fit sees, features and label."""
    seen: list[Any] = []

    def spy(x: Any, y: Any, *others: Any) -> Any:
        seen.append((x, y))
        return real(x, y, *others)

    real = fleet_model.boosted
    with monkeypatch.context() as patched:
        patched.setattr(fleet_model, "boosted", spy)
        patched.setattr(fleet_model, "isolated", in_this_process)
        fitted(one)
    x, y = seen[-1]
    rows = {tuple(row) for row in np.column_stack([x, y]).tolist()}
    assert len(rows) == len(y)
    return rows


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_the_sample_is_the_share_asked_for_of_every_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Within five standard deviations of the binomial, in total and by segment."""
    rows = sampled(task(tmp_path, [segments()], share), monkeypatch)
    by_segment = np.bincount([int(row[2]) for row in rows], minlength=SEGMENTS)
    labelled = LAST + 1
    for count, of in ((len(rows), SEGMENTS * labelled), *((each, labelled) for each in by_segment)):
        assert abs(count - share * of) < 5 * np.sqrt(of * share * (1 - share))
    assert len(set(by_segment)) > 3, "each segment has a sample of its own"


def test_the_sample_does_not_depend_on_how_segments_lie_in_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = segments()
    ways = [[every], [every[:7], every[7:]], [every[20:], every[:20]], [[rows] for rows in every[::-1]]]
    found = [sampled(task(tmp_path, way, 0.3, f"way{n}"), monkeypatch) for n, way in enumerate(ways)]
    assert 1_000 < len(found[0]) < 1_400
    assert found.count(found[0]) == len(ways)


def test_all_rows_are_taken_where_the_share_is_one(tmp_path: Path) -> None:
    assert fitted(task(tmp_path, [segments()]))["rows"] == SEGMENTS * (LAST + 1)


@pytest.mark.parametrize(("through", "same"), [("fold", {"fold"}), ("judged", {"fold", "judged"}), ("served", {*FITS})])
def test_labels_after_a_cut_off_change_no_fit_up_to_it(tmp_path: Path, through: str, same: set[str]) -> None:
    after = {"fold": LAST - 2 * HOLDOUT, "judged": LAST - HOLDOUT, "served": LAST}[through]
    before = fitted(task(tmp_path, [segments()], name="before"))
    other = fitted(task(tmp_path, [segments(after)], name="after"))
    assert {name for name in FITS if before[name] == other[name]} == same


def test_the_file_gives_back_the_same_predictions_for_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def spy(*arguments: Any) -> Any:
        made.append((real(*arguments), arguments[0]))
        return made[-1][0]

    real = fleet_model.boosted
    monkeypatch.setattr(fleet_model, "boosted", spy)
    monkeypatch.setattr(fleet_model, "isolated", in_this_process)
    one = task(tmp_path, [segments()], name="one")
    row = fitted(one)
    for fit, (booster, x) in zip(FITS, made, strict=True):
        found = load_fleet_model(one.lake, fleet_file("one"), fit)
        assert found is not None
        np.testing.assert_array_equal(found.booster.predict(x, num_threads=1), booster.predict(x, num_threads=1))
    two = fitted(task(tmp_path, [segments()], name="two"), threads=2)
    assert {fit: two[fit] == row[fit] for fit in FITS} == dict.fromkeys(FITS, True)


def test_too_few_rows_are_no_model(tmp_path: Path) -> None:
    """A single segment: 80 labelled rows before the fold, 90 before the holdout, 100 in all."""
    one = task(tmp_path, [[segment()]], name="few")
    row = fitted(one)
    assert (row["fold"], row["judged"]) == (None, None)
    assert load_fleet_model(one.lake, fleet_file("few"), "judged") is None
    assert load_fleet_model(one.lake, fleet_file("few"), "served") is not None
    assert fleet_facts(one.lake, fleet_file("none")) is None


class Echo:
    """A booster that gives back a column of what it is asked."""

    def __init__(self, column: int) -> None:
        self.column = column

    def predict(self, x: Any, **_: Any) -> Any:
        return x[:, self.column]


def test_a_category_that_was_never_seen_is_missing(tmp_path: Path) -> None:
    rows = [segment(key=key) for key in ("a", "b", "new")]
    bucket = read_bucket([bucket_file(tmp_path, rows, recipe())], recipe(), identity_columns(recipe()))
    model = FleetModel(Echo(-1), {"shop": ["a", "b", "gone"]})
    places = np.array([0, 109, 110, 220, 5])
    np.testing.assert_array_equal(model.predict(bucket, places, recipe()), [0, 0, 1, np.nan, 0])
    own = FleetModel(Echo(1), {"shop": ["a"]})
    np.testing.assert_array_equal(own.predict(bucket, places, recipe()), bucket.x[places, 1])
    assert model.predict(bucket, places[:0], recipe()).shape == (0,)


def test_a_segment_is_known_by_each_column_of_its_key_and_by_all_together() -> None:
    assert identity_columns(recipe()) == ["shop"]
    assert identity_columns(recipe(segment=["store", "item"])) == ["store", "item", "__segment"]


@pytest.mark.parametrize(
    ("metric", "objective", "used"),
    [
        ("wape", "regression_l1", "regression_l1"),
        ("rmse", "regression", "regression"),
        ("wape", "poisson", "poisson"),
    ],
)
def test_the_loss_is_the_recipes(metric: str, objective: str, used: str) -> None:
    asked = recipe(metric=metric, model={"objective": objective, "params": {"alpha": 0.7, "num_leaves": 3}})
    chosen = fleet_parameters(asked, 2)
    assert (chosen["objective"], chosen["num_threads"], chosen["alpha"]) == (used, 2, 0.7)
    assert chosen["num_leaves"] == 63


def test_the_fold_of_each_segment_is_judged_as_by_hand(tmp_path: Path) -> None:
    """The worker's error of the fleet-wide model against the fold model asked row by row."""
    every = segments()[:5]
    one = task(tmp_path, [every], name="fleet")
    row = fitted(one)
    assert row["fold"] is not None
    lines = bucket_lines(tmp_path, every, fleet_file=fleet_file("fleet"))
    model = load_fleet_model(one.lake, fleet_file("fleet"), "fold")
    assert model is not None
    for number, rows in enumerate(every):
        inside = rows.between(LAST - 2 * HOLDOUT, LAST - HOLDOUT)
        assert inside.sum() == HOLDOUT
        x = np.column_stack([rows.x[inside], np.full(HOLDOUT, float(number))])
        error = model.booster.predict(x) - rows.labels[inside]
        line = lines[rows.key]
        assert line["fold_fleet_absolute"] == pytest.approx(np.abs(error).sum(), rel=1e-12)
        assert line["fold_fleet_squared"] == pytest.approx((error**2).sum(), rel=1e-12)
        assert line["fold_fleet_signed"] == pytest.approx(error.sum(), rel=1e-9)
