"""A fleet that predicts how likely a 1 is: probabilities, AUC and log loss, a baseline that is how often it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import AssetKey

from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import Published
from assets.champions.serving.answer import answered
from assets.evaluation.judge import EVALUATION, latest_evaluation
from resources.spark import Spark
from tests.cycle import HORIZON, House, house, sales
from tests.lakes import train
from tests.orchestration.test_cli import fleet
from tests.served import published

pytestmark = pytest.mark.slow

HOLDOUT = 12


def table(days: int = 100) -> pd.DataFrame:
    """Whether more than usual was sold, which the price explains."""
    frame = sales(4, days)
    known = frame["sold"].notna()
    draw = np.random.default_rng(0)
    likely = np.where(frame["price"] <= 2, 0.9, 0.2)
    frame["sold"] = np.where(known, (draw.random(len(frame)) < likely).astype(float), np.nan)
    return frame


def keys(**model: Any) -> dict[str, Any]:
    return {
        "model": {"objective": "binary", "rounds": 30, "params": {"min_data_in_leaf": 5}, **model},
        "evaluation": {"holdout": HOLDOUT, "season": 4, "minimum_history": 20},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    made = house(tmp_path_factory.mktemp("binary"), spark, table(), **keys())
    made.run(raise_on_error=True)
    return made


def test_models_of_probabilities_beat_how_often_it_came(home: House) -> None:
    judged = latest_evaluation(home.lake)
    assert judged is not None
    record = judged.record
    assert record["metric"] == "log_loss"
    assert record["errors"]["served"] < record["errors"]["baseline"] < 1
    assert record["metrics"]["auc"]["challenger"] > 0.7
    assert record["metrics"]["pinball"]["served"] is None
    assert home.status()["champion"]["version"] == 1


def test_calibration_is_counted_over_all_segments_and_drawn(home: House) -> None:
    judged = latest_evaluation(home.lake)
    assert judged is not None
    bins, rows = judged.record["calibration"], home.lake.table(EVALUATION).arrow()
    assert "calibration" not in rows.column_names
    assert sum(each["rows"] for each in bins) == judged.record["rows"] == 4 * HOLDOUT
    ones = table().dropna(subset=["sold"]).groupby("shop")["sold"].apply(lambda sold: sold.iloc[-HOLDOUT:].sum()).sum()
    assert sum(each["rows"] * each["observed"] for each in bins) == pytest.approx(ones)
    assert all(each["from"] <= each["predicted"] <= each["from"] + 0.1 for each in bins)
    event = home.instance.get_latest_materialization_event(AssetKey(["tiny", EVALUATION]))
    assert event is not None
    assert event.asset_materialization is not None
    said = event.asset_materialization.metadata
    assert "data:image/png" in str(said["calibration"].value)
    assert 0 <= float(str(said["calibration error"].value)) < 0.5
    report = home.lake.read_file("reports/evaluation.html")
    assert report is not None
    assert report.count(b"data:image/png") == 3


def test_forecasts_are_probabilities(home: House) -> None:
    forecasts = home.forecasts()
    assert len(forecasts) == 4 * HORIZON
    assert forecasts["forecast"].between(0, 1, inclusive="neither").all()
    assert forecasts["forecast"].nunique() > 2


def test_the_baseline_is_how_often_it_came_before_each_origin(home: House) -> None:
    rows = home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment")
    frame = table().dropna(subset=["sold"])
    for shop, own in frame.groupby("shop"):
        labels = own.sort_values("day")["sold"].to_numpy()
        loss = 0.0
        for origin in range(len(labels) - HOLDOUT, len(labels), HORIZON):
            rate = (labels[: len(labels) - HOLDOUT if origin == len(labels) - HOLDOUT else origin].sum() + 0.5) / (
                origin + 1
            )
            target = labels[origin : origin + HORIZON]
            loss -= float(np.log(np.where(target == 1, rate, 1 - rate)).sum())
        assert rows.loc[shop, "baseline_log"] == pytest.approx(loss, rel=1e-9)


def test_labels_that_are_neither_are_explained(tmp_path: Any, spark: Spark) -> None:
    wrong = house(tmp_path / "wrong", spark, sales(3, 60), **keys())
    result = fleet(wrong, "run")
    assert result.exit_code == 2, result.stderr
    told = " ".join(result.stderr.split())
    assert "labels of column 'sold' are neither 0 nor 1" in told
    assert "make the label 0 and 1, or choose another objective" in told


def test_the_baseline_that_is_served_is_that_of_the_batch_forecasts(tmp_path: Path, spark: Spark) -> None:
    made = train(house(tmp_path / "h", spark, table(60), **keys()))
    served = published(made, lambda listing: ["baseline"] * len(listing))
    batch, tags = served.forecasts, served.champion.tags
    assert set(batch["model"]) == {"baseline"}
    assert ((batch["forecast"] > 0) & (batch["forecast"] < 1)).all()
    of_lake = ServedFleet(Published(served.lake.root, tags["published"], tags["training"]))
    found = answered(of_lake.view(), None, batch[["shop", "day"]])
    np.testing.assert_allclose(found["forecast"], batch["forecast"], rtol=1e-9)
