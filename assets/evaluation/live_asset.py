"""`live_errors`: the forecasts that were really served against what came, as a history that nothing prunes."""

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

from assets.evaluation.live_comparison import live_comparison
from assets.evaluation.live_errors import CODE_VERSION, LIVE_ERRORS, history_digest, score_issues, scored_issues
from assets.evaluation.live_summary import live_by_issue, live_by_version, live_plot, worst_live_segments
from assets.features.publish import FEATURES, current_features
from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark


def live_errors_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/live_errors` of a fleet with time."""

    @asset(
        name=LIVE_ERRORS,
        key_prefix=settings.name,
        # of the forecasts that earlier runs committed, once the features bring their labels: no circle
        deps=[AssetKey([settings.name, FEATURES])],
        description="Forecasts that were really served against the labels that came since, per segment and version.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"spark", "deltalake"},
        tags={"stage": "evaluation"},
        code_version=CODE_VERSION,
    )
    def live_errors(context: AssetExecutionContext, lake: Lake, spark: Spark) -> MaterializeResult:
        with mistakes_explained():
            new = score_issues(lake, spark, current_features(lake), context.log.info)
        scored = scored_issues(lake)
        digest = history_digest(scored)
        said = f"{len(new)} issues of forecasts scored" if new else "no forecast has labels that are new"
        context.log.info(f"live_errors: {said}, {len(scored)} in all")
        seen = None if new else previous_metadata(context, context.asset_key, digest)
        metadata = seen or _metadata(lake, settings, new)
        return MaterializeResult(metadata=metadata, data_version=DataVersion(digest))

    return live_errors


def _metadata(lake: Lake, settings: Settings, new: list[int]) -> dict[str, Any]:
    scored, metric = scored_issues(lake), settings.evaluation.metric
    counted = {
        "dagster/row_count": lake.table(LIVE_ERRORS).row_count(),
        "issues": len(scored),
        "issues scored now": len(new),
        **{f"forecasts {name}": sum(said[name] for said in scored.values()) for name in ("scored", "missing")},
        "forecasts awaited": sum(said["awaited"] for said in scored.values()),
    }
    if not scored:
        return {**counted, "live error": "none yet: no forecast has a label"}
    return {
        **counted,
        "by version": table(live_by_version(lake, metric)),
        "by issue": table(live_by_issue(lake, metric)),
        "worst segments": table(worst_live_segments(lake, metric)),
        "live error": plot(live_plot(lake, metric)),
        **_compared(lake, metric),
        "dagster/column_schema": column_schema(lake.table(LIVE_ERRORS).schema()),
        "dagster/uri": MetadataValue.path(lake.table(LIVE_ERRORS).uri),
    }


def _compared(lake: Lake, metric: str) -> dict[str, Any]:
    """Challenger against champion, where both forecast the same segments and labels came."""
    frame, figure = live_comparison(lake, metric)
    return {"challenger against champion": table(frame), "difference": plot(figure)} if len(frame) else {}
