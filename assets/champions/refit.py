"""The incumbent's recipe on the new data: what is promoted instead of a recipe that is not clearly better."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assets.champions.gate import Decision, decide
from assets.evaluation.comparisons import main_training
from assets.evaluation.incumbent import Champion
from assets.evaluation.judge import Evaluation, evaluate, latest_evaluation, still_holds
from assets.evaluation.pooled import pooled_comparison
from assets.features.publish import current_features
from assets.features.rebuild import features_of
from assets.models.store import UNKNOWN, Training, trainings
from assets.models.train import train_fleet
from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say

REFITS = "refits"  # evaluations of refitted incumbents, beside those of what fleet.yaml asks for


@dataclass(frozen=True)
class Candidacy:
    """The evaluation whose fleet is to be published if the decision says so; `refused` is whose place it takes."""

    evaluation: Evaluation
    decision: Decision
    refused: Decision | None = None


def decided(lake: Lake, settings: Settings, evaluation: Evaluation) -> Decision:
    """What the gate says of a committed evaluation; the same whenever it is asked."""
    pooled = pooled_comparison(lake, evaluation.record)
    return decide(evaluation.record, settings.failures.tolerated, settings.promotion, pooled)


def candidacy(
    lake: Lake, spark: Spark, settings: Settings, judged: Evaluation, champion: Champion | None, say: Say | None = None
) -> Candidacy:
    """The fleet that the gate is about: the one judged or, where its new recipe is not clearly better, a refit."""
    decision = decided(lake, settings, judged)
    if (decision.promote or decision.refit) and (strangers := _never_met(lake, judged, champion)):
        return Candidacy(judged, replace(decision, promote=False, refit=False, reasons=(strangers,)))
    if not decision.refit or champion is None:
        return Candidacy(judged, decision)
    refitted, why_not = refit(lake, spark, settings, judged, champion, say)
    if refitted is None:
        return Candidacy(judged, replace(decision, reasons=(*decision.reasons, why_not)))
    own = decided(lake, settings, refitted)
    told = ("the incumbent's recipe was refitted on the new data instead", *own.reasons)
    return Candidacy(refitted, replace(own, reasons=(*decision.reasons, *told)), decision)


def _never_met(lake: Lake, judged: Evaluation, champion: Champion | None) -> str:
    """Why an evaluation says nothing of who serves now; empty where they met, or the refit that it led to serves."""
    instead = latest_evaluation(lake, REFITS)
    led_to = instead is not None and instead.record["raw_digest"] == judged.record["raw_digest"]
    if still_holds(judged, champion) or (instead is not None and led_to and still_holds(instead, champion)):
        return ""
    met, serves = judged.record["champion_version"], champion.version if champion else None
    who = [f"version {version}" if version else "the baseline" for version in (met, serves)]
    return f"the last evaluation met {who[0]}, but {who[1]} serves: materialize evaluation, which compares them"


def refit(
    lake: Lake, spark: Spark, settings: Settings, judged: Evaluation, champion: Champion, say: Say | None = None
) -> tuple[Evaluation | None, str]:
    """Trains and judges the recipe of most of the champion's segments on today's rows; else gives None, and why.

    Neither becomes what the next run takes for the latest training or evaluation.
    """
    features, main = current_features(lake), main_training(champion, trainings(lake))
    if main is None:
        return None, "the incumbent goes on: what it was trained by is no longer known"
    if main.record.get("raw_digest", UNKNOWN) == features.record["raw_digest"]:
        return None, "the incumbent goes on: there is no newer data to refit it on"
    recipe = _on_newer_data(main, features.recipe)
    if say:
        say(f"the recipe changed and is not clearly better: refitting that of champion {champion.version}")
    try:
        with features_of(lake, spark, settings, features, recipe) as theirs:
            training, _ = train_fleet(
                lake,
                spark,
                theirs,
                recipe,
                say=say,
                failures=settings.failures,
                gpu=settings.gpu,
                configuration=main.record.get("configuration_digest", UNKNOWN),
                beside=True,
            )
            return evaluate(lake, spark, settings, theirs, training, champion, say, REFITS)[0], ""
    except InputError as error:
        return None, f"the incumbent goes on: its recipe cannot be refitted ({error})"


def _on_newer_data(main: Training, today: Recipe) -> Recipe:
    """A recipe with what follows the rows: the categories seen since, the holdout of today."""
    recipe = main.recipe
    seen = {name: values for name, values in today.categories.items() if name in recipe.categories}
    return recipe.model_copy(update={"categories": {**recipe.categories, **seen}, "holdout": today.holdout})
