"""`forecasts`: the champion's predictions for the horizon, one row a segment and period."""

from collections.abc import Sequence
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.evaluation.incumbent import CHAMPIONS, published_champion, whole_champion
from assets.evaluation.issues import SHADOW_FORECASTS
from assets.features.publish import FeatureSet, current_features
from assets.forecasts.publish import CODE_VERSION, FORECASTS, Forecasts, levels_asked, publish_forecasts
from assets.forecasts.summary import forecast_plot, least_certain
from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from resources.lake import Lake
from resources.mlflow import CHALLENGER, Mlflow
from resources.settings import Settings
from resources.spark import Spark


def forecasts_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/forecasts` of a fleet."""

    @asset(
        name=FORECASTS,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, CHAMPIONS])],
        description="Forecasts of every open segment for the horizon after the fleet's last label.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"spark", "deltalake"},
        tags={"stage": "serving"},
        code_version=CODE_VERSION,
    )
    def forecasts(context: AssetExecutionContext, lake: Lake, spark: Spark, mlflow: Mlflow) -> MaterializeResult:
        with mistakes_explained():
            features, champion = current_features(lake), whole_champion(lake, mlflow)
            is_asked = settings.promotion.shadow or settings.promotion.split
            challenger = published_champion(lake, mlflow, CHALLENGER) if is_asked else None
            published = publish_forecasts(lake, spark, settings, features, champion, context.log.info, challenger)
        record = published.record
        context.log.info(
            f"forecasts: {record['rows']:,} rows for {record['segments']:,} segments, "
            f"{record['start']} to {record['end']}" + ("" if published.is_new else ", unchanged")
        )
        if split := record.get("split"):
            context.log.info(f"forecasts: challenger {split['version']} serves {split['segments']:,} of them")
        seen = None if published.is_new else previous_metadata(context, context.asset_key, record["digest"])
        metadata = seen or _metadata(lake, published, features, levels_asked(settings, features.recipe))
        return MaterializeResult(metadata=metadata, data_version=DataVersion(record["digest"]))

    return forecasts


def _metadata(lake: Lake, published: Forecasts, features: FeatureSet, levels: Sequence[float]) -> dict[str, Any]:
    record = published.record
    return {
        "dagster/row_count": record["rows"],
        "segments": record["segments"],
        **{f"rows by {model}": rows for model, rows in record["by_model"].items()},
        "rows assumed": record["assumed"],
        "first": record["start"],
        "last": record["end"],
        "champion version": record["version"] or "none: the baseline serves",
        **_of_challenger(lake, record),
        "dagster/column_schema": column_schema(lake.table(FORECASTS).schema(published.version)),
        "dagster/uri": MetadataValue.path(lake.table(FORECASTS).uri),
        "least certain segments": table(least_certain(lake, published, features)),
        "history and forecast": plot(forecast_plot(lake, features, levels)),
    }


def _of_challenger(lake: Lake, record: dict[str, Any]) -> dict[str, Any]:
    """What a challenger that waits forecast beside the champion, or in its place."""
    beside, split = lake.table(SHADOW_FORECASTS).record(), record.get("split")
    if beside.get("issue") != record["digest"]:
        return {}
    return {
        "challenger version": beside["challenger"],
        "segments forecast by both": beside["segments"],
        "segments served by the challenger": split["segments"] if split else 0,
    }
