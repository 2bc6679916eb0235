"""The search in a fleet's life: on the first run, once, blind to the holdout, and better on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.judge import EVALUATION
from assets.models.store import latest_training
from assets.models.tuning import fleet_search
from assets.models.tuning.fleet_search import is_due, search, why_not_searched
from assets.models.tuning.search import ClassSearch
from assets.raw.tuned import CHOSEN, TUNED, configuration_digest, kept_choice, untuned, with_entries
from resources.settings import Settings
from resources.spark import Spark
from tests.cycle import HORIZON, House, give_store, house, sales
from tests.lakes import built

SHOPS, DAYS = 112, 60
# forty steps of a twentieth are too few: a higher rate is better, as it would not be with more rounds
KEYS: dict[str, Any] = {"model": {"rounds": 40, "blend": False}, "tuning": {"budget": "300%"}}
pytestmark = pytest.mark.slow


def made(folder: Path, spark: Spark, table: pd.DataFrame | None = None, **keys: Any) -> House:
    home = house(folder, spark, sales(SHOPS, DAYS) if table is None else table, **{**KEYS, **keys})
    give_store(home)
    return home


def searched(home: House) -> dict[str, Any]:
    features, recipe = built(home)
    return search(home.lake, home.spark, features, recipe, home.settings, lambda _: None)


def judged(home: House) -> dict[str, Any]:
    return home.lake.table(EVALUATION).record()["errors"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> tuple[House, Any]:
    home = made(tmp_path_factory.mktemp("searched"), spark)
    return home, home.run(raise_on_error=True)


def test_the_first_run_searches_and_trains_with_what_it_found(ran: tuple[House, Any]) -> None:
    home, _ = ran
    record, training = kept_choice(home.lake), latest_training(home.lake)
    assert training
    (entry,) = record["chosen"]
    assert entry["params"]["learning_rate"] > 0.06
    assert 0 < record["spent"] <= record["allowed"] == 3 * SHOPS * 3
    assert training.recipe.model == with_entries(untuned(training.recipe), record["chosen"]).model
    assert training.recipe.model[TUNED][0]["leaves"] == entry["leaves"]
    assert training.record["configuration_digest"] == configuration_digest(home.settings, training.recipe)
    assert training.record["configuration_digest"] != home.settings.digest


def test_what_it_found_is_better_on_the_holdout_that_it_never_saw(ran: tuple[House, Any], tmp_path: Path) -> None:
    without = made(tmp_path, ran[0].spark, tuning={"enabled": False})
    without.run(raise_on_error=True)
    assert not kept_choice(without.lake)
    assert judged(ran[0])["challenger"] < 0.9 * judged(without)["challenger"]


def test_the_curve_and_the_choice_are_in_mlflow_and_in_the_ui(ran: tuple[House, Any]) -> None:
    home, result = ran
    client = home.mlflow.client()
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    record = kept_choice(home.lake)
    curve = [each.value for each in client.get_metric_history(run.info.run_id, "search_from_0_rows_best")]
    assert len(curve) == len(record["classes"][0]["trials"]) >= 10
    assert curve == sorted(curve, reverse=True)
    assert "learning_rate" in run.data.params["search_from_0_rows"]
    seen = [e.metadata for e in result.asset_materializations_for_node("tiny__segment_models") if not e.partition][-1]
    assert "learning_rate" in seen["parameters"].value
    assert "data:image/png" in seen["search: loss against trials"].value
    assert len(seen["search: by class"].value.records) == 1


def test_a_second_run_searches_nothing_and_trains_nothing(ran: tuple[House, Any]) -> None:
    home, _ = ran
    before, trained = home.lake.read_file(CHOSEN), home.commits()["models"]
    home.run(raise_on_error=True)
    assert (home.lake.read_file(CHOSEN), home.commits()["models"]) == (before, trained)


def test_the_same_search_with_other_labels_in_the_holdout_finds_the_same(
    ran: tuple[House, Any], tmp_path: Path
) -> None:
    table = sales(SHOPS, DAYS)
    last = table["day"].unique()[DAYS - HORIZON : DAYS]
    held = table["day"].isin(last)
    table.loc[held, "sold"] = np.random.default_rng(1).permutation(table.loc[held, "sold"]) * 3
    found, first = searched(made(tmp_path, ran[0].spark, table)), kept_choice(ran[0].lake)
    assert found["features_digest"] != first["features_digest"]
    assert json.loads(json.dumps(found["classes"])) == first["classes"]


def test_the_job_searches_when_asked_and_the_choice_is_used_from_then_on(
    ran: tuple[House, Any], tmp_path: Path
) -> None:
    from orchestration.definitions import fleet_definitions

    home = made(tmp_path, ran[0].spark, tuning={"budget": "300%", "first_run": False})
    _, before = built(home)
    job = fleet_definitions(home.settings).resolve_job_def("tuning")
    result = job.execute_in_process(instance=home.instance, resources={"spark": home.spark}, raise_on_error=True)
    (event,) = result.asset_materializations_for_node("tiny__tuning")
    assert event.metadata["chosen"].value == kept_choice(ran[0].lake)["chosen"]
    assert "data:image/png" in event.metadata["loss against trials"].value
    _, after = built(home)
    assert TUNED not in before.model
    assert after == with_entries(before, event.metadata["chosen"].value)


def test_a_search_that_dies_leaves_nothing_and_is_made_again(
    ran: tuple[House, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = made(tmp_path, ran[0].spark)
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(ClassSearch, "_confirmed", lambda *_: 1 / 0)
        searched(home)
    assert not kept_choice(home.lake)
    features, recipe = built(home)
    assert is_due(home.lake, features, recipe, home.settings)


def test_a_small_fleet_or_budget_is_not_searched(ran: tuple[House, Any]) -> None:
    home = ran[0]
    features, recipe = built(home)
    few = Settings.model_validate({**home.settings.model_dump(), "tuning": {"budget": "10%"}})
    assert "too few" in (why_not_searched(features, few) or "")
    record = fleet_search.search(home.lake, home.spark, features, recipe, few, lambda _: None)
    assert (record["spent"], record["classes"]) == (0, [])
    assert record["why"] == why_not_searched(features, few)
    off = Settings.model_validate({**home.settings.model_dump(), "tuning": {"first_run": False, "budget": 3.0}})
    home.lake.write_file(CHOSEN, b"{}")
    assert is_due(home.lake, features, recipe, home.settings)
    assert not is_due(home.lake, features, recipe, off)
