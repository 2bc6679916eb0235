"""`drift`: what came since each champion was trained, against what it was trained on; and the live errors."""

from typing import Any

import pyarrow as pa
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.drift.look import CODE_VERSION, Look, look_at_drift
from assets.drift.observations import record_observations
from assets.drift.report import publish_reports
from assets.drift.served import SERVED_VALUES, served_columns, shift_table
from assets.drift.summary import (
    drift_history,
    heat_map,
    history_plot,
    observed,
    worst_features,
    worst_segments,
)
from assets.drift.verdict import DRIFT
from assets.evaluation.incumbent import published_champion
from assets.evaluation.live_errors import LIVE_ERRORS
from assets.features.publish import FEATURES, FeatureSet, current_features
from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings
from resources.spark import Spark

NEXT_WORST = 50  # segments that are told on their partitions beside the alarmed ones
BEFORE_CHAMPIONS = {"dagster/priority": "10"}  # what came is looked at before somebody serves who was trained on it


def drift_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/drift` of a fleet with time."""

    @asset(
        name=DRIFT,
        key_prefix=settings.name,
        # of the champion as well, but as it serves until now: no circle
        deps=[AssetKey([settings.name, FEATURES]), AssetKey([settings.name, LIVE_ERRORS])],
        description="What came since each champion was trained against what it was trained on, and its live error.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"spark", "deltalake", "evidently"},
        tags={"stage": "monitoring"},
        op_tags=BEFORE_CHAMPIONS,
        code_version=CODE_VERSION,
    )
    def drift(context: AssetExecutionContext, lake: Lake, spark: Spark, mlflow: Mlflow) -> MaterializeResult:
        with mistakes_explained():
            features, before = current_features(lake), lake.table(DRIFT).version()
            look = look_at_drift(
                lake, spark, settings, features, published_champion(lake, mlflow), context.log.info
            )  # fmt: skip
            columns = served_columns(lake, published_champion(lake, mlflow))
        served = {SERVED_VALUES: table(shift_table(columns))} if columns else {}
        if look is None:
            context.log.info("drift: nobody serves yet who was trained on such data; nothing to compare")
            return MaterializeResult(metadata={"state": "no champion"}, data_version=DataVersion("none"))
        said = look.record
        context.log.info(
            f"drift: {said['drifted']:,} of {said['judged']:,} judged segments drifted, {said['new']:,} of them newly"
        )
        version = DataVersion(said["digest"])
        seen = None if look.is_new else previous_metadata(context, context.asset_key, said["digest"])
        if seen is not None:
            return MaterializeResult(metadata={**seen, **served}, data_version=version)
        rows = lake.table(DRIFT).arrow(version=look.version)
        older = lake.table(DRIFT).arrow(["segment", "alarmed"], version=before) if before is not None else None
        record_observations(context, settings.name, observed(rows, older, NEXT_WORST), said["digest"])
        metadata = _metadata(lake, settings, features, look, rows)
        return MaterializeResult(metadata={**metadata, **served}, data_version=version)

    return drift


def _metadata(lake: Lake, settings: Settings, features: FeatureSet, look: Look, rows: pa.Table) -> dict[str, Any]:
    said, history = look.record, drift_history(lake)
    counted = {name: said[name] for name in ("segments", "judged", "judged_now", "drifted", "new", "share")}
    reports = publish_reports(lake, features, rows, look, settings.drift.worst)
    return {
        **{name.replace("_", " "): value for name, value in counted.items()},
        "dagster/row_count": len(rows),
        "looked at through": said["through"],
        "window, periods": said["window"],
        "champion": said["champion"],
        "states": MetadataValue.json(said["states"]),
        "states of live errors": MetadataValue.json(said["error_states"]),
        "alarmed by": MetadataValue.json(said["why"]),
        "quiet windows that would have alarmed": said["quiet"],
        "worst segments": table(worst_segments(rows)),
        "worst features": table(worst_features(rows, said["columns"])),
        "features by segment group": plot(heat_map(rows, said["columns"])),
        "share drifted": plot(history_plot(history, settings.drift.fleet_share)),
        "history": table(history),
        **{f"report: {name}": MetadataValue.path(uri) for name, uri in reports.items()},
        "dagster/column_schema": column_schema(rows.schema),
        "dagster/uri": MetadataValue.path(lake.table(DRIFT).uri),
    }
