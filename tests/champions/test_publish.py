"""Publishing: the alias moves last, so that whatever dies on the way leaves the old champion serving."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from assets.champions import registry
from assets.champions.gate import decide
from assets.champions.registry import publish_champion
from assets.evaluation.incumbent import CHAMPIONS, Champion, published_champion
from assets.evaluation.judge import Evaluation, evaluate
from assets.models.train import train_fleet
from resources.lake import Table
from resources.mlflow import Mlflow
from tests.cycle import give_store
from tests.lakes import GOOD, Trained


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


def judged(made: Trained, rounds: int) -> Evaluation:
    """The evaluation of a recipe with so many trees."""
    recipe = made.recipe.model_copy(update={"model": {**made.recipe.model, "rounds": rounds}})
    training, _ = train_fleet(made.home.lake, made.home.spark, made.features, recipe)
    one = dataclasses.replace(made, recipe=recipe, training=training)
    return evaluate(one.home.lake, one.home.spark, one.home.settings, one.features, training, None)[0]


def publish(made: Trained, mlflow: Mlflow, rounds: int = 30) -> Champion:
    evaluation = judged(made, rounds)
    return publish_champion(made.home.lake, mlflow, evaluation, decide(evaluation.record, 0.05))


def test_before_the_first_promotion_nobody_serves(own: Trained, mlflow: Mlflow) -> None:
    assert published_champion(own.home.lake, mlflow) is None
    assert published_champion(own.home.lake, Mlflow(tracking_uri="sqlite:////nowhere/x.db", experiment="tiny")) is None


def test_what_was_published_is_what_serves(own: Trained, mlflow: Mlflow) -> None:
    published = publish(own, mlflow)
    found = published_champion(own.home.lake, mlflow)
    assert found is not None
    assert found.version == published.version == 1
    assert found.listing.sort_by("segment").equals(published.listing.sort_by("segment"))
    assert found.trainings == [own.training.id]
    assert set(GOOD) < set(found.listing["segment"].to_pylist())


def test_the_version_leads_to_run_snapshot_and_recipe(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow)
    version = mlflow.client().get_model_version_by_alias("tiny", "champion")
    assert version.tags["dagster_run_id"] == "run-1"
    assert version.tags["raw_digest"] == own.features.record["raw_digest"]
    assert version.tags["training"] == own.training.id
    assert version.tags["recipe_digest"] == own.recipe.digest
    assert version.tags["trained_through"] == "2024-02-29T00:00:00"
    assert mlflow.client().get_run(version.run_id).data.tags["dagster_run_id"] == "run-1"
    assert "not worse" in version.description
    assert [a.path for a in mlflow.client().list_artifacts(version.run_id, "champion")] == ["champion/champion.json"]


def test_a_second_one_moves_the_alias_and_keeps_the_first(own: Trained, mlflow: Mlflow) -> None:
    first, second = publish(own, mlflow, 30), publish(own, mlflow, 10)
    found = published_champion(own.home.lake, mlflow)
    assert found is not None
    assert (first.version, second.version, found.version) == (1, 2, 2)
    assert found.trainings == second.trainings != first.trainings
    assert len(found.listing) == len(second.listing)
    mlflow.client().set_registered_model_alias("tiny", "champion", "1")
    back = published_champion(own.home.lake, mlflow)
    assert back is not None
    assert back.listing.sort_by("segment").equals(first.listing.sort_by("segment"))


STEPS: dict[str, tuple[Any, str]] = {
    "rows": (registry, "_commit_rows"),
    "commit": (Table, "commit"),
    "register": (registry, "_register"),
    "model": (MlflowClient, "create_registered_model"),
    "version": (MlflowClient, "create_model_version"),
    "alias": (MlflowClient, "set_registered_model_alias"),
}


@pytest.mark.parametrize("step", list(STEPS))
def test_a_crash_before_any_step_leaves_the_old_champion_serving(
    own: Trained, mlflow: Mlflow, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(own, mlflow)
    evaluation = judged(own, 10)

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError(f"died before {step}")

    with monkeypatch.context() as patched:
        patched.setattr(*STEPS[step], crash)
        with pytest.raises(RuntimeError, match=step):
            publish_champion(own.home.lake, mlflow, evaluation, decide(evaluation.record, 0.05))
    serving = published_champion(own.home.lake, mlflow)
    assert serving is not None
    assert serving.version == first.version
    assert serving.listing.sort_by("segment").equals(first.listing.sort_by("segment"))
    publish_champion(own.home.lake, mlflow, evaluation, decide(evaluation.record, 0.05))
    after = published_champion(own.home.lake, mlflow)
    assert after is not None
    assert after.tags["evaluation"] == evaluation.digest
    assert len(after.listing) == len(set(after.listing["segment"].to_pylist())) == 7


def test_a_crash_before_the_first_alias_leaves_nobody_serving(
    own: Trained, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("died")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", crash)
    with pytest.raises(RuntimeError):
        publish(own, mlflow)
    assert own.home.lake.table(CHAMPIONS).exists()
    assert published_champion(own.home.lake, mlflow) is None
