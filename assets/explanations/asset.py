"""`explanations`: what the champion's models go by, per segment and for the fleet, and what changed of it."""

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

from assets.evaluation.incumbent import CHAMPIONS, published_champion
from assets.explanations.publish import CODE_VERSION, EXPLANATIONS, Explanations, publish_explanations
from assets.explanations.summary import changes_of, feature_table, shares_plot, unexplained
from assets.features.publish import current_features
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings
from resources.spark import Spark


def explanations_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/explanations` of a fleet."""

    @asset(
        name=EXPLANATIONS,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, CHAMPIONS])],
        description="The features that each segment's model goes by (SHAP values), and what changed of it.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"spark", "lightgbm", "deltalake"},
        tags={"stage": "explanation"},
        code_version=CODE_VERSION,
    )
    def explanations(
        context: AssetExecutionContext, lake: Lake, spark: Spark, mlflow: Mlflow
    ) -> MaterializeResult[Any]:
        with mistakes_explained():
            champion = published_champion(lake, mlflow)
            if champion is None:
                return MaterializeResult(
                    metadata={"champion version": "none: the baseline serves, which uses no feature"},
                    data_version=DataVersion("none"),
                )
            features = current_features(lake)
            published = publish_explanations(lake, spark, settings, features, champion, context.log.info)
        record = published.record
        own, by_fleet = record[f"by_{SEGMENT_MODEL}"], record[f"by_{FLEET_MODEL}"]
        context.log.info(
            f"explanations: {own:,} segments by their own model, {by_fleet:,} by the fleet-wide one"
            + ("" if published.is_new else ", unchanged")
        )
        seen = None if published.is_new else previous_metadata(context, context.asset_key, record["digest"])
        metadata = seen or _metadata(lake, published)
        return MaterializeResult(metadata=metadata, data_version=DataVersion(record["digest"]))

    return explanations


def _metadata(lake: Lake, published: Explanations) -> dict[str, Any]:
    record, stored = published.record, lake.table(EXPLANATIONS)
    explained = {name: record[f"by_{name}"] for name in (SEGMENT_MODEL, FLEET_MODEL)}
    changes = changes_of(lake, published)
    since: dict[str, Any] = {}
    if changes is not None:
        since = {
            "changed since champion version": changes.since,
            "features whose share moved most": table(changes.moved),
            "segments compared": changes.compared,
            "segments with another first feature": changes.first_changed,
        }
    return {
        "dagster/row_count": stored.row_count(published.version),
        "champion version": record["version"],
        "segments": record["segments"],
        "explained by their own model": explained[SEGMENT_MODEL],
        "explained by the fleet-wide model": explained[FLEET_MODEL],
        "not explained": record["segments"] - sum(explained.values()),
        "top features": table(feature_table(record)),
        "shares over segments": plot(shares_plot(record)),
        **since,
        "why not explained": table(unexplained(lake, published.version)),
        "seconds of workers": round(record["spent"], 1),
        "dagster/column_schema": column_schema(stored.schema(published.version)),
        "dagster/uri": MetadataValue.path(stored.uri),
    }
