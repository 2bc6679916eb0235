"""A changed recipe: judged on rows that nobody saw, promoted when clearly better, else the old one is refitted."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pytest

from assets.champions.refit import REFITS, decided, refit
from assets.evaluation.comparisons import COMPARISON, COMPARISONS, kind_of, main_training
from assets.evaluation.incumbent import Champion, published_champion
from assets.evaluation.judge import latest_evaluation
from assets.evaluation.pooled import pooled_comparison
from assets.models.store import latest_training, trainings
from resources.spark import Spark
from tests.cycle import HORIZON, House, house, sales

pytestmark = pytest.mark.slow

WEEKS = (60, 66, 72)
POOR = {
    "model": {"rounds": 3},
    "features": {"known_ahead": [], "lags": [5], "rolling": {"windows": []}, "calendar": []},
}


def gate_of(home: Told) -> tuple[bool, str, str]:
    """Whether the gate's check passed in the last run, how severe it is, and what it says."""
    found = next(c for c in home.last.get_asset_check_evaluations() if c.check_name == "gate")
    return found.passed, found.severity.value, " ".join(map(str, found.metadata["reasons"].value))


class Told(House):
    """A house that keeps its last run."""

    last: Any

    def week(self, days: int, **keys: Any) -> Champion:
        self.configure(**keys)
        self.bring(sales(12, days))
        self.last = self.run(raise_on_error=True)
        champion = published_champion(self.lake, self.mlflow)
        assert champion is not None
        return champion


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Told:
    folder = tmp_path_factory.mktemp("refit")
    house(folder, spark)
    return Told(folder, spark)


@pytest.fixture(scope="module")
def story(made: Told) -> dict[str, Any]:
    """A poor recipe serves; a good one on the same rows, then on newer ones; then a poor one again."""
    told: dict[str, Any] = {}

    def keep(name: str, champion: Champion) -> None:
        judged = latest_evaluation(made.lake)
        assert judged is not None
        told[name] = {
            "champion": champion,
            "kind": kind_of(main_training(champion, trainings(made.lake))),  # type: ignore[arg-type]
            "judged": judged,
            "decision": decided(made.lake, made.settings, judged),
            "gate": gate_of(made),
            "clean": next(
                c.passed for c in made.last.get_asset_check_evaluations() if c.check_name == "comparison_clean"
            ),
            "latest": latest_training(made.lake),
            "refit": latest_evaluation(made.lake, REFITS),
            "commits": made.commits(),
        }

    keep("first", made.week(WEEKS[0], **POOR))
    keep("too soon", made.week(WEEKS[0]))
    keep("better", made.week(WEEKS[1]))
    keep("worse", made.week(WEEKS[2], **POOR))
    keep("again", made.week(WEEKS[2], **POOR))
    return told


def test_every_comparison_is_clean(story: dict[str, Any]) -> None:
    assert all(week["clean"] for week in story.values())


def test_on_rows_that_the_incumbent_was_chosen_by_nothing_is_decided(story: dict[str, Any]) -> None:
    first, soon = story["first"], story["too soon"]
    assert soon["judged"].record["errors"]["served"] < soon["judged"].record["errors"]["incumbent"] / 2
    assert soon["champion"].version == first["champion"].version
    assert soon["decision"].clean_rows == 0
    assert soon["gate"][:2] == (False, "WARN")
    assert "those after 2024-02-29T00:00:00 count" in soon["gate"][2]
    assert soon["refit"] is None, "there is nothing newer to refit on"


def test_only_rows_after_the_incumbents_last_label_are_compared(made: Told, story: dict[str, Any]) -> None:
    facts = story["better"]["judged"].record[COMPARISON]
    first = trainings(made.lake)[story["first"]["judged"].record["training"]]
    holdout_from = story["better"]["judged"].record["holdout_from"]
    assert facts["after"] == max(first.record["trained_through"], holdout_from)
    assert facts["through"] - facts["after"] == HORIZON
    assert facts["rows"] == 12 * HORIZON
    pooled = pooled_comparison(made.lake, story["better"]["judged"].record)
    assert pooled is not None
    assert pooled.periods == HORIZON


def test_a_clearly_better_recipe_gets_in_once_there_are_clean_rows(story: dict[str, Any]) -> None:
    better = story["better"]
    assert better["decision"].promote
    assert better["gate"][0]
    assert better["champion"].version == story["first"]["champion"].version + 1
    assert better["kind"] != story["first"]["kind"]


def test_a_worse_recipe_is_refused_and_the_incumbents_is_refitted_on_the_new_rows(
    made: Told, story: dict[str, Any]
) -> None:
    better, worse = story["better"], story["worse"]
    assert worse["decision"].refit
    assert worse["champion"].version == better["champion"].version + 1
    assert worse["kind"] == better["kind"]
    main = main_training(worse["champion"], trainings(made.lake))
    assert main is not None
    assert main.record["last_label"] == "2024-03-12T00:00:00"
    assert worse["champion"].tags["evaluation"] == worse["refit"].digest != worse["judged"].digest
    assert worse["refit"].record["errors"]["served"] < worse["judged"].record["errors"]["served"]
    assert "refitted" in worse["gate"][2]


def test_a_refit_disturbs_neither_the_latest_training_nor_the_latest_evaluation(story: dict[str, Any]) -> None:
    worse = story["worse"]
    assert worse["latest"].id == worse["judged"].record["training"] != worse["refit"].record["training"]
    assert kind_of(worse["latest"]) == story["first"]["kind"]


def test_the_refused_recipe_serves_nobody(made: Told, story: dict[str, Any]) -> None:
    refused = story["worse"]["judged"].record["training"]
    assert refused not in story["worse"]["champion"].trainings
    forecasts = made.forecasts()
    assert set(forecasts["version"]) == {story["again"]["champion"].version}


def test_a_run_with_nothing_new_refits_and_promotes_nothing_new(story: dict[str, Any]) -> None:
    worse, again = story["worse"], story["again"]
    assert again["champion"].version == worse["champion"].version
    assert again["commits"]["models"] == worse["commits"]["models"]
    assert again["refit"].digest == worse["refit"].digest


def test_each_comparison_is_kept_once(made: Told, story: dict[str, Any]) -> None:
    table = made.lake.table(COMPARISONS)
    kept = [record[COMPARISON] for record in table.records().values()]
    assert len(kept) == len(set(kept)) >= 4
    rows = table.arrow()
    assert set(rows[COMPARISON].to_pylist()) == set(kept)
    keys = pd.MultiIndex.from_frame(rows.select([COMPARISON, "segment", "block"]).to_pandas())
    assert keys.is_unique


def test_a_recipe_whose_column_is_gone_cannot_be_refitted_and_the_incumbent_goes_on(
    made: Told, story: dict[str, Any]
) -> None:
    made.configure(**POOR)
    made.bring(sales(12, 80).drop(columns=["price"]))
    last = made.run()
    assert last.success
    champion = published_champion(made.lake, made.mlflow)
    assert champion is not None
    assert champion.version == story["again"]["champion"].version
    judged = latest_evaluation(made.lake)
    assert judged is not None
    found, why = refit(made.lake, made.spark, made.settings, judged, champion)
    assert found is None
    assert "cannot be refitted" in why
    assert pc.sum(pc.is_null(made.lake.table("forecasts").arrow()["forecast"])).as_py() == 0
