"""`tuning`: parameters searched for the fleet, by size of segment; made when somebody asks for it."""

from typing import Any

from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, MaterializeResult, MetadataValue, asset

from assets.features.publish import FEATURES, current_features, recipe_of_committed
from assets.models.tuning.fleet_search import search
from assets.models.tuning.summary import class_table, curve_plot, log_search, search_said, trial_table
from assets.presentation import mistakes_explained, plot, table
from assets.raw.tuned import CHOSEN
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import Spark

TUNING = "tuning"


def tuning_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/tuning` of a fleet."""

    @asset(
        name=TUNING,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, FEATURES])],
        description="Parameters searched on a sample of segments, before the holdout; the next training uses them.",
        # not the fleet's own group: the weekly cycle searches by itself where that was never done
        group_name=f"{settings.name}_on_demand",
        owners=[settings.owner],
        kinds={"spark", "lightgbm"},
        tags={"stage": "training"},
    )
    def tuning(context: AssetExecutionContext, lake: Lake, spark: Spark, mlflow: Mlflow) -> MaterializeResult[Any]:
        with mistakes_explained():
            if not settings.tuning.enabled:
                what = "is false: what a search found would not be used"
                raise InputError([Problem("fleet.yaml tuning.enabled", what, "remove it, or write true")])
            features = current_features(lake)
            recipe = recipe_of_committed(lake, spark, settings, features)
            record = search(lake, spark, features, recipe, settings, context.log.info)
        log_search(mlflow, record)
        context.log.info(f"tuning: {search_said(record)}")
        kept = {"record": MetadataValue.path(lake.path(CHOSEN))} if record["classes"] else {}
        seen = {"mlflow run": mlflow.run_url()} if record["classes"] else {}
        return MaterializeResult(metadata={**search_metadata(record), **kept, **seen})

    return tuning


def search_metadata(record: dict[str, Any]) -> dict[str, Any]:
    """Dagster's metadata of a search."""
    facts = {"search": search_said(record), "fits": record["spent"], "fits allowed": record["allowed"],
             "seconds": record["seconds"], "chosen": MetadataValue.json(record["chosen"])}  # fmt: skip
    if not record["classes"]:
        return facts
    drawn = {"loss against trials": plot(curve_plot(record))}
    return {**facts, "by class": table(class_table(record)), "trials": table(trial_table(record)), **drawn}
