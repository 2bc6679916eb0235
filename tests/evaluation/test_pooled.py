"""Weeks put together: each calendar period once, only where the same recipes met, and never rows that are not clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.evaluation.comparisons import COMPARISON, ROWS, keep_comparison
from assets.evaluation.origins import BLOCKS_WITHOUT_TIME, block_losses, blocks_of
from assets.evaluation.pooled import MOST_BLOCKS, Pooled, pooled_comparison
from assets.raw.split import ROWS_A_CLASS
from resources.lake import Lake
from tests.models.small import recipe

HORIZON = 4
SEGMENTS = ("a", "b")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"))


def week(lake: Lake, name: str, after: int, through: int, loss: float = 1.0, **keys: Any) -> dict[str, Any]:
    """A comparison of the periods after one and through another: the challenger's loss a row, the incumbent's is 2."""
    periods = np.arange(after + 1, through + 1)
    blocks, starts, counts = np.unique(periods // HORIZON, return_index=True, return_counts=True)
    parts = [[int(b), int(periods[s]), int(periods[s] + n - 1)] for b, s, n in zip(blocks, starts, counts, strict=True)]
    ours, theirs = keys.pop("kinds", ("new/c", "old/c"))
    facts = {
        COMPARISON: name, "challenger": "new/c", "incumbent": "old/c", "metric": "wape", "timeless": False, "after": after,
        "through": through, "parts": parts, "horizon": HORIZON, "incumbent_last_label": "2024-02-29T00:00:00", **keys,
    }  # fmt: skip
    rows = [
        {"segment": key, "block": int(b), "rows": int(n), "challenger": loss * n, "incumbent": 2.0 * n,
         "challenger_kind": ours, "incumbent_kind": theirs, COMPARISON: name}
        for key in SEGMENTS
        for b, n in zip(blocks, counts, strict=True)
    ]  # fmt: skip
    if not rows:
        blank = {"block": None, "rows": 0, "challenger": None, "incumbent": None, COMPARISON: name}
        rows = [{"segment": key, "challenger_kind": ours, "incumbent_kind": theirs, **blank} for key in SEGMENTS]
    keep_comparison(lake, facts, pa.Table.from_pylist(rows, ROWS))
    return facts


def pooled(lake: Lake, facts: dict[str, Any]) -> Pooled:
    found = pooled_comparison(lake, {COMPARISON: facts})
    assert found is not None
    return found


def test_weeks_that_follow_each_other_add_up(lake: Lake) -> None:
    for number in range(6):
        last = week(lake, f"w{number}", 100 + number, 101 + number)
    found = pooled(lake, last)
    assert (found.periods, found.origins) == (6, 2)
    assert found.fleet.rows.tolist() == [[6, 6]], "periods 101 to 103 and 104 to 106, two segments"
    assert found.fleet.incumbent.tolist() == [[12.0, 12.0]]
    assert found.segments.rows.tolist() == [[3, 3], [3, 3]]
    assert (found.latest_periods, int(found.latest.rows.sum())) == (1, 2)


def test_a_period_that_several_weeks_saw_is_counted_once_and_the_longest_look_counts(lake: Lake) -> None:
    week(lake, "refused", 100, 102, loss=9.0)
    week(lake, "again", 100, 103, loss=5.0)
    found = pooled(lake, week(lake, "now", 100, 104))
    assert found.periods == 4
    assert int(found.fleet.rows.sum()) == 8
    # 101 to 103 are a block that "again" saw as long as "now" did: the later counts
    assert found.fleet.challenger.tolist() == [[6.0, 2.0]]


def test_a_window_that_slides_on_does_not_lose_whole_blocks_it_saw_before(lake: Lake) -> None:
    """An incumbent that stays for long: each holdout is eight periods, and begins one later."""
    for through in range(108, 124):
        last = week(lake, f"to {through}", through - 8, through)
    found = pooled(lake, last)
    assert 20 <= found.periods <= 23
    assert found.origins >= 5


def test_other_recipes_other_metrics_and_later_weeks_do_not_count(lake: Lake) -> None:
    first = week(lake, "first", 100, 104)
    week(lake, "other challenger", 104, 105, challenger="else/c")
    week(lake, "other code", 105, 106, challenger="new/d")
    week(lake, "other incumbent", 106, 107, incumbent="third/c", kinds=("new/c", "third/c"))
    week(lake, "other metric", 107, 108, metric="mae")
    found = pooled(lake, week(lake, "now", 108, 109))
    assert found.periods == 5
    assert int(found.fleet.rows.sum()) == int(found.segments.rows.sum()) == 10
    assert pooled(lake, first).periods == 4


def test_a_segments_own_models_decide_what_counts_for_it(lake: Lake) -> None:
    """The fleet went over to the new recipe, this segment did not: its weeks before still count for it, not for the fleet."""
    week(lake, "before", 100, 104)
    found = pooled(lake, week(lake, "now", 104, 108, incumbent="new/c"))
    assert found.same_recipe
    assert found.same.tolist() == [False, False]
    assert int(found.fleet.rows.sum()) == 8
    assert int(found.segments.rows.sum()) == 16


def test_a_week_without_clean_rows_knows_its_segments(lake: Lake) -> None:
    found = pooled(lake, week(lake, "nothing yet", 104, 104))
    assert (found.periods, found.origins, len(found.names)) == (0, 0, 2)
    assert found.first_clean == "2024-02-29T00:00:00"
    week(lake, "before", 96, 104)
    assert pooled(lake, week(lake, "still nothing", 104, 104)).periods == 8


def test_a_loss_that_is_no_number_is_seen_and_does_not_poison_the_fleet(lake: Lake) -> None:
    facts = week(lake, "good", 100, 104, loss=1.0)
    rows = lake.table("comparisons").arrow().to_pylist()
    spoiled = [
        {**row, COMPARISON: "bad", **({"challenger": float("nan")} if row["segment"] == "b" else {})} for row in rows
    ]
    facts = {**facts, COMPARISON: "bad"}
    keep_comparison(lake, facts, pa.Table.from_pylist(spoiled, ROWS))
    found = pooled(lake, facts)
    assert found.segments.defined.tolist() == [True, False]
    assert np.isfinite(found.fleet.challenger).all()
    assert np.isfinite(found.latest.challenger).all()


def test_a_comparison_is_kept_once(lake: Lake) -> None:
    week(lake, "w", 100, 104)
    week(lake, "w", 100, 104, loss=7.0)
    assert len(lake.table("comparisons").arrow()) == 2 * len(SEGMENTS)
    assert lake.table("comparisons").arrow()["challenger"].to_pylist().count(7.0) == 0


def test_only_so_many_blocks_are_read(lake: Lake) -> None:
    found = pooled(lake, week(lake, "long", 0, HORIZON * (MOST_BLOCKS + 10)))
    assert found.origins == MOST_BLOCKS


def test_blocks_are_the_same_periods_in_every_week() -> None:
    asked = recipe(horizon=HORIZON)
    assert blocks_of(np.arange(100, 109), asked).tolist() == [25] * 4 + [26] * 4 + [27]
    timeless = blocks_of(2 * ROWS_A_CLASS + np.arange(40), recipe(time=None))
    assert len(set(timeless)) == BLOCKS_WITHOUT_TIME


@pytest.mark.parametrize("metric", ["wape", "rmse", "rmspe", "log_loss", "auc"])
def test_losses_of_blocks_add_up_to_those_of_the_segment(metric: str) -> None:
    binary = metric in ("log_loss", "auc")
    asked = recipe(horizon=HORIZON, metric=metric, model={"objective": "binary" if binary else "regression"})
    draw = np.random.default_rng(0)
    periods, labels = np.arange(100, 120), (draw.random(20) < 0.5).astype(float)
    ours, theirs = draw.uniform(0.1, 0.9, (2, 20))
    found = block_losses(periods, labels, ours, theirs, asked)
    assert found["blocks"] == [25, 26, 27, 28, 29]
    assert found["block_rows"] == [4] * 5
    by_block = [
        block_losses(periods[part], labels[part], ours[part], theirs[part], asked)
        for part in np.split(np.arange(20), 5)
    ]
    assert found["block_challenger"] == pytest.approx([part["block_challenger"][0] for part in by_block])
    nothing = block_losses(periods[:0], labels[:0], ours[:0], theirs[:0], asked)
    assert nothing == {"blocks": [], "block_rows": [], "block_challenger": [], "block_incumbent": []}
