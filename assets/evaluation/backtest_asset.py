"""`backtest`: what would have been served at past origins, and how wrong it was; made when somebody asks for it."""

import json
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Config,
    MaterializeResult,
    MetadataValue,
    asset,
)
from pydantic import Field

from assets.evaluation.backtest import backtested
from assets.evaluation.backtest_summary import (
    backtest_record,
    candidate_table,
    horizon_plot,
    horizon_table,
    origin_table,
    origins_plot,
)
from assets.features.publish import FEATURES, current_features, recipe_of_committed
from assets.presentation import mistakes_explained, plot, table
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark

BACKTEST, RECORD = "backtest", "reports/backtest.json"
ORIGINS = 4


class BacktestConfig(Config):
    """What a backtest looks at."""

    origins: int = Field(ORIGINS, ge=1, le=52, description="How many of the last origins, a holdout apart.")


def backtest_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/backtest` of a fleet whose rows have a time."""

    @asset(
        name=BACKTEST,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, FEATURES])],
        description="Error at past origins of every candidate and of what would have been served; nothing is kept.",
        # not the fleet's own group: the weekly cycle does without it
        group_name=f"{settings.name}_on_demand",
        owners=[settings.owner],
        kinds={"spark", "lightgbm"},
        tags={"stage": "evaluation"},
    )
    def backtest(
        context: AssetExecutionContext, config: BacktestConfig, lake: Lake, spark: Spark
    ) -> MaterializeResult[Any]:
        with mistakes_explained():
            features = current_features(lake)
            recipe = recipe_of_committed(lake, spark, settings, features)
            found = backtested(lake, spark, features, recipe, config.origins, settings.failures, context.log.info)
            origins = list(found)
        last = features.profile.times.last
        starts = [str(last(recipe.holdout * (number + 1) + 1)[0]) for number in range(len(origins))]
        record = backtest_record(origins, starts, recipe)
        _keep(lake, record)
        shown = ", ".join(f"{name} {error:.4f}" for name, error in record["mean"].items())
        context.log.info(f"backtest: {record['metric']} over {len(origins)} origins: {shown}")
        return MaterializeResult(metadata=_metadata(lake, record))

    return backtest


def _keep(lake: Lake, record: dict[str, Any]) -> None:
    lake.write_file(RECORD, json.dumps(record).encode())


def _metadata(lake: Lake, record: dict[str, Any]) -> dict[str, Any]:
    return {
        **{f"{record['metric']} of {name}": error for name, error in record["mean"].items()},
        "candidates": table(candidate_table(record)),
        "by origin": table(origin_table(record)),
        "by steps ahead": table(horizon_table(record)),
        "error by origin": plot(origins_plot(record)),
        "error by steps ahead": plot(horizon_plot(record)),
        "record": MetadataValue.path(lake.path(RECORD)),
    }
