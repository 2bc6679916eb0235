"""Publishing: the alias moves last, so that whatever dies on the way leaves the old champion serving."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from assets.champions import registry
from assets.champions.gate import Decision
from assets.champions.promotion import PROMOTED, REFUSED, UNCHANGED, Outcome, promote
from assets.champions.refit import candidacy
from assets.evaluation.incumbent import CHAMPIONS, Champion, listing_digest, published_champion
from assets.evaluation.judge import EVALUATION, Evaluation, evaluate
from assets.models.train import train_fleet
from resources.judging import Promotion
from resources.mlflow import Mlflow
from tests.champions.killed import MUTATIONS, dying_at
from tests.cycle import give_store
from tests.lakes import GOOD, Trained

YES = Decision(True, ("it is not worse",))
NO = Decision(False, ("it is worse",))


@pytest.fixture
def mlflow(own: Trained) -> Any:
    """The fleet's MLflow, in a run."""
    give_store(own.home)
    resource = in_run(own.home.mlflow, "run-1")
    yield resource
    resource.end_run("FINISHED")


def in_run(resource: Mlflow, run_id: str) -> Mlflow:
    """The resource as a Dagster run has it."""

    def with_config(config: dict[str, Any]) -> SimpleNamespace:
        run = SimpleNamespace(job_name="weekly_cycle")
        return SimpleNamespace(log=logging.getLogger("x"), dagster_run=run, run_id=run_id, resource_config=config)

    resource._context = SimpleNamespace(replace_config=with_config)  # type: ignore[assignment]
    return resource


def judged(made: Trained, rounds: int, champion: Champion | None = None) -> Evaluation:
    """The evaluation of a recipe with so many trees, which meets a champion."""
    recipe = made.recipe.model_copy(update={"model": {**made.recipe.model, "rounds": rounds}})
    training, _ = train_fleet(made.home.lake, made.home.spark, made.features, recipe)
    one = dataclasses.replace(made, recipe=recipe, training=training)
    return evaluate(one.home.lake, one.home.spark, one.home.settings, one.features, training, champion)[0]


def publish(made: Trained, mlflow: Mlflow, rounds: int = 30) -> Champion:
    """The champion that came of a recipe with so many trees, whatever the gate would say."""
    outcome = promote(made.home.lake, mlflow, Promotion(), judged(made, rounds), YES)
    assert outcome.what == PROMOTED
    assert outcome.serving is not None
    return outcome.serving


def serving(made: Trained, mlflow: Mlflow) -> Champion:
    found = published_champion(made.home.lake, mlflow)
    assert found is not None
    return found


def test_before_the_first_promotion_nobody_serves(own: Trained, mlflow: Mlflow) -> None:
    assert published_champion(own.home.lake, mlflow) is None
    assert published_champion(own.home.lake, Mlflow(tracking_uri="sqlite:////nowhere/x.db", experiment="tiny")) is None


def test_what_was_published_is_what_serves(own: Trained, mlflow: Mlflow) -> None:
    published, found = publish(own, mlflow), serving(own, mlflow)
    assert found.version == published.version == 1
    assert listing_digest(found.listing) == listing_digest(published.listing) == found.tags["published"]
    assert found.trainings == [own.training.id]
    assert set(GOOD) < set(found.listing["segment"].to_pylist())
    assert set(found.listing["outcome"].to_pylist()) == {"promoted"}


def test_the_version_leads_to_run_snapshot_and_recipe(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow)
    version = mlflow.client().get_model_version_by_alias("tiny", "champion")
    assert version.tags["dagster_run_id"] == "run-1"
    assert version.tags["raw_digest"] == own.features.record["raw_digest"]
    assert version.tags["training"] == own.training.id
    assert version.tags["recipe_digest"] == own.recipe.digest
    assert version.tags["trained_through"] == "2024-02-29T00:00:00"
    assert mlflow.client().get_run(version.run_id).data.tags["dagster_run_id"] == "run-1"
    for said in (
        "7 segments promoted",
        "wape none before",
        "it is not worse",
        version.tags["raw_digest"],
        version.run_id,
    ):
        assert said in version.description
    folder = f"champion/{version.tags['published']}"
    logged = [artifact.path for artifact in mlflow.client().list_artifacts(version.run_id, folder)]
    assert f"{folder}/champion.json" in logged


def test_a_second_one_moves_the_alias_and_keeps_the_first(own: Trained, mlflow: Mlflow) -> None:
    first, second = publish(own, mlflow, 30), publish(own, mlflow, 10)
    found = serving(own, mlflow)
    assert (first.version, second.version, found.version) == (1, 2, 2)
    assert found.tags["replaces"] == "1"
    assert found.trainings == second.trainings != first.trainings
    assert mlflow.aliased("previous") == mlflow.version("1")
    mlflow.client().set_registered_model_alias("tiny", "champion", "1")
    assert listing_digest(serving(own, mlflow).listing) == listing_digest(first.listing)


def test_what_was_refused_is_not_registered(own: Trained, mlflow: Mlflow) -> None:
    first = publish(own, mlflow)
    outcome = promote(own.home.lake, mlflow, Promotion(), judged(own, 10), NO)
    assert (outcome.what, outcome.reasons) == (REFUSED, NO.reasons)
    assert serving(own, mlflow).version == first.version
    assert len(mlflow.versions()) == 1


def test_the_same_evaluation_twice_is_one_version(own: Trained, mlflow: Mlflow) -> None:
    evaluation = judged(own, 10)
    outcomes = [promote(own.home.lake, mlflow, Promotion(), evaluation, YES).what for _ in range(2)]
    assert outcomes == [PROMOTED, UNCHANGED]
    assert len(mlflow.versions()) == 1


def attempt(made: Trained, mlflow: Mlflow, evaluation: Evaluation) -> Outcome:
    return promote(made.home.lake, mlflow, Promotion(), evaluation, YES)


def test_a_crash_at_any_step_leaves_the_old_champion_or_the_new(
    own: Trained, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One promotion after another, each dying a write later than the one before, until one lives."""
    first, evaluation, steps = publish(own, mlflow), judged(own, 10), 0
    moved: list[bool] = []
    while True:
        steps += 1
        with monkeypatch.context() as patched:
            died = dying_at(patched, steps)
            outcome = died(lambda: attempt(own, mlflow, evaluation))
        found = serving(own, mlflow)
        moved.append(found.version != first.version)
        wanted = evaluation.digest if moved[-1] else first.tags["evaluation"]
        assert found.tags["evaluation"] == wanted
        assert len(found.listing) == len(set(found.listing["segment"].to_pylist())) == 7
        if outcome is not None:
            break
    assert moved == sorted(moved), "once it serves, it serves"
    assert not moved[0]
    assert steps > len(MUTATIONS)
    assert {tags["version"] for tags in mlflow.versions()} == {"1", "2"}, "a version that was made is used again"
    attempt(own, mlflow, evaluation)
    previous = mlflow.aliased("previous")
    assert previous is not None
    assert previous["version"] == "1"


def test_a_fleet_that_never_met_who_serves_is_not_promoted(own: Trained, mlflow: Mlflow) -> None:
    home, stranger = own.home, judged(own, 10)
    champion = publish(own, mlflow)
    found = candidacy(home.lake, home.spark, home.settings, stranger, champion)
    assert not found.decision.promote
    assert "met the baseline, but version 1 serves" in found.decision.reasons[0]
    met = candidacy(home.lake, home.spark, home.settings, judged(own, 10, champion), champion)
    assert "serves: materialize evaluation" not in " ".join(met.decision.reasons)


def test_a_crash_before_the_first_alias_leaves_nobody_serving(
    own: Trained, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def crash(*_: object) -> None:
        raise RuntimeError("died")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", crash)
    with pytest.raises(RuntimeError):
        publish(own, mlflow)
    assert own.home.lake.table(CHAMPIONS).exists()
    assert published_champion(own.home.lake, mlflow) is None


def test_rows_are_committed_once_however_often_it_died(
    own: Trained, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = judged(own, 10)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "_create_version", lambda *_: (_ for _ in ()).throw(RuntimeError("died")))
        for _ in range(2):
            with pytest.raises(RuntimeError):
                attempt(own, mlflow, evaluation)
    attempt(own, mlflow, evaluation)
    rows = own.home.lake.table(CHAMPIONS).arrow()
    assert len(rows) == len(own.home.lake.table(EVALUATION).arrow())
