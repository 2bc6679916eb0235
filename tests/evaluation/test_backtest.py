"""A backtest: each origin as if nothing after it were known, its sums those of the very forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.evaluation import backtest
from assets.evaluation.backtest import LINES, BacktestPlan, Origin, backtest_bucket
from assets.evaluation.backtest_summary import backtest_record, candidate_table, horizon_table, origin_table
from assets.models.blend import CANDIDATES, weight_grid
from assets.models.bucket import SegmentRows
from assets.models.fit import fit, predict
from assets.models.quantiles import blocks_of_horizon
from assets.models.segment import CutOffs
from assets.models.worker import BucketTask
from tests.models.small import HOLDOUT, LAST, bucket_file, changed, recipe, segment

OWN, BASELINE = (
    int(np.flatnonzero(weight_grid()[:, CANDIDATES.index(name)] == 1)[0]) for name in ("segment", "baseline")
)


def lines(folder: Path, segments: list[SegmentRows], last: int = LAST, **keys: Any) -> dict[str, dict[str, Any]]:
    asked = recipe(**keys)
    plan = BacktestPlan(str(folder), asked, CutOffs.of(asked, last), None, 60.0)
    found = backtest_bucket(BucketTask(0, (bucket_file(folder, segments, asked),)), plan)
    return {line["segment"]: line for line in found}


def losses(line: dict[str, Any]) -> np.ndarray:
    return np.array([np.frombuffer(block) for block in line["losses"]])


def origin(line: dict[str, Any]) -> Origin:
    return backtest._as_origin(pa.Table.from_pylist([line], LINES), recipe(), 1.0)


def test_losses_are_those_of_models_fitted_up_to_the_origin(tmp_path: Path) -> None:
    one, asked, cut = segment(), recipe(), LAST - HOLDOUT
    found = losses(lines(tmp_path, [one])["s"])
    inside = one.between(cut, LAST)
    said = predict(fit(*one.through(cut), asked.model, []), one.x[inside], asked.model)
    wrong = np.abs(said - one.labels[inside])
    for number, (first, last) in enumerate(blocks_of_horizon(asked.horizon)):
        assert found[number, OWN] == pytest.approx(wrong[first - 1 : last].sum(), rel=1e-12)
    naive = np.abs(one.labels[inside] - np.tile(one.labels[(one.periods > cut - 5) & (one.periods <= cut)], 2))
    assert found[:, BASELINE].sum() == pytest.approx(naive.sum(), rel=1e-12)


def test_labels_after_an_origins_rows_change_nothing(tmp_path: Path) -> None:
    one, last = segment(), LAST - HOLDOUT
    shuffled = changed(one, last, by=777.0)
    assert not np.array_equal(one.labels, shuffled.labels, equal_nan=True)
    assert lines(tmp_path, [one], last) == lines(tmp_path, [shuffled], last)


def test_labels_after_an_origin_change_what_is_judged_and_nothing_that_was_chosen_or_said(tmp_path: Path) -> None:
    one, cut = segment(), LAST - HOLDOUT
    before, after = (lines(tmp_path, [each])["s"] for each in (one, changed(one, cut, by=777.0)))
    assert before["fold_blends"] == after["fold_blends"]
    assert (origin(before).points == origin(after).points).all()
    # all forecasts lie below the labels by 777 and what they were: the same forecasts
    assert (losses(after) > losses(before)).all()


def test_a_segment_without_a_model_is_the_baselines_and_one_without_rows_is_left_out(tmp_path: Path) -> None:
    short, gone = segment(key="short"), segment(key="gone")
    short.labels[: LAST - HOLDOUT - 5] = np.nan
    gone.labels[LAST - HOLDOUT :] = np.nan
    found = lines(tmp_path, [segment(), short, gone])
    assert set(found) == {"s", "short"}
    assert (found["s"]["status"], found["short"]["status"]) == ("trained", "skipped")
    np.testing.assert_array_equal(losses(found["short"])[:, OWN], losses(found["short"])[:, BASELINE])


def test_a_fit_that_raises_leaves_the_segment_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "fit", lambda *_: 1 / 0)
    line = lines(tmp_path, [segment()])["s"]
    assert line["status"] == "skipped"
    assert weight_grid()[origin(line).points[0], CANDIDATES.index("segment")] == 0


@pytest.mark.parametrize(("horizon", "blocks"), [(1, [(1, 1)]), (3, [(1, 1), (2, 2), (3, 3)]), (28, 4), (8, 4)])
def test_blocks_cover_the_horizon(horizon: int, blocks: Any) -> None:
    found = blocks_of_horizon(horizon)
    assert found == blocks if isinstance(blocks, list) else len(found) == blocks
    assert [step for first, last in found for step in range(first, last + 1)] == list(range(1, horizon + 1))


def test_the_record_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """By hand, from the losses themselves: WAPE, mean and spread over two origins, each block of the horizon."""
    asked = recipe()
    found = [lines(tmp_path, [segment()], last)["s"] for last in (LAST, LAST - HOLDOUT)]
    record = backtest_record([origin(line) for line in found], ["new", "old"], asked)
    labels = [np.array(line["scales"])[:, 1] for line in found]
    by_own = [losses(line)[:, OWN].sum() / label.sum() for line, label in zip(found, labels, strict=True)]
    assert [row["segment"] for row in record["origins"]] == pytest.approx(by_own)
    assert record["mean"]["segment"] == pytest.approx(np.mean(by_own))
    assert record["spread"]["segment"] == pytest.approx(np.std(by_own))
    first = np.mean([losses(line)[0, OWN] / label[0] for line, label in zip(found, labels, strict=True)])
    assert record["horizon"][0]["segment"] == pytest.approx(first)
    assert record["wins"]["segment"] == 1.0
    assert "fleet" not in record["mean"]
    assert record["without"]["segment"] > record["mean"]["served"]
    assert len(origin_table(record)) == 4
    assert list(candidate_table(record)["candidate"]) == ["served", "baseline", "segment", "median"]
    assert len(horizon_table(record)) == 4
