"""A segment seen for the first time, on the demo's table: the others' model first, its own as its rows grow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.incumbent import published_champion
from assets.models.blend import weights_of
from assets.partitions import partition_key
from assets.raw.demo import END, demo_sales
from resources.spark import Spark
from tests.cycle import House, house

pytestmark = pytest.mark.slow

DAYS, WEEK, HISTORY = 240, 7, 20
# of the segment's rows: on its third day; a model of its own, that no fold has judged; judged with history before it
YOUNG, UNPROVEN, PROVEN = 3, HISTORY + WEEK, HISTORY + 4 * WEEK
KNOWN_AHEAD = ["price", "promotion", "holiday", "store_type"]


@dataclass(frozen=True)
class Met:
    """What a run made of the new segment: its row of the champion's listing, and its forecasts."""

    listed: dict[str, Any]
    forecasts: pd.DataFrame
    labels: pd.Series

    @property
    def weights(self) -> dict[str, float]:
        return dict(weights_of(self.listed))


def configured() -> dict[str, Any]:
    """The demo's `fleet.yaml`, a week ahead."""
    return {
        "name": "demo", "segment": ["store", "department"], "time": "date", "label": "sales", "horizon": WEEK,
        "features": {
            "known_ahead": KNOWN_AHEAD, "lags": [WEEK, 2 * WEEK],
            "rolling": {"windows": [WEEK], "statistics": ["mean"]}, "calendar": ["day_of_week"],
        },
        "model": {"rounds": 60}, "fleet_model": {"enabled": True},
        "evaluation": {"holdout": WEEK, "season": WEEK, "minimum_history": HISTORY},
    }  # fmt: skip


def known_on(table: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """The table as it was after a day: what is known ahead reaches a week further."""
    rows = table[table["date"] <= day + timedelta(days=WEEK)].copy()
    rows.loc[rows["date"] > day, ["sales", "footfall"]] = [np.nan, pd.NA]
    return rows


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> dict[int, Met]:
    """What each run made of it, by the rows that the new segment had."""
    made = demo_sales(stores=6, departments=4, days=DAYS, horizon=WEEK)
    (new, first), *_ = made.truth["new"].items()
    assert (END - first).days + 1 >= PROVEN, "this seed's new segment is too young: choose another"
    home, found = house(tmp_path_factory.mktemp("cold"), spark, **configured()), {}
    for rows in (YOUNG, UNPROVEN, PROVEN):
        table = known_on(made.table, pd.Timestamp(first) + timedelta(days=rows - 1))
        home.bring(table)
        home.run(raise_on_error=True)
        found[rows] = met(home, new, table)
    return found


def met(home: House, new: tuple[str, str], table: pd.DataFrame) -> Met:
    champion = published_champion(home.lake, home.mlflow)
    assert champion is not None
    (row,) = (each for each in champion.listing.to_pylist() if each["segment"] == partition_key(new))
    ahead, known = (
        frame[(frame["store"] == new[0]) & (frame["department"] == new[1])] for frame in (home.forecasts(), table)
    )
    return Met(row, ahead, known["sales"].dropna())


def test_on_its_first_days_the_fleet_wide_model_forecasts_it(story: dict[int, Met]) -> None:
    young = story[YOUNG]
    assert len(young.labels) == YOUNG
    assert (young.listed["status"], young.listed["reason"]) == ("skipped", "too short")
    assert young.weights.get("segment", 0) == 0
    assert young.weights["fleet"] > 0
    assert set(young.forecasts["model"]) <= {"fleet", "blend"}


def test_a_model_that_no_fold_has_judged_has_no_part_yet(story: dict[int, Met]) -> None:
    unproven = story[UNPROVEN]
    assert unproven.listed["status"] == "trained"
    assert unproven.weights.get("segment", 0) == 0
    assert unproven.weights["fleet"] > 0


def test_once_it_is_proven_its_own_model_has_a_part(story: dict[int, Met]) -> None:
    assert story[PROVEN].weights["segment"] > 0
    assert set(story[PROVEN].forecasts["model"]) <= {"segment", "blend"}


@pytest.mark.parametrize("rows", [YOUNG, UNPROVEN, PROVEN])
def test_it_is_forecast_from_day_one_near_what_it_sells(story: dict[int, Met], rows: int) -> None:
    seen = story[rows]
    assert len(seen.forecasts) == WEEK
    assert np.isfinite(seen.forecasts["forecast"]).all()
    usual = seen.labels.median()
    assert seen.forecasts["forecast"].between(usual / 5, 5 * usual).all()
