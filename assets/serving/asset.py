"""`serving`: how the REST service answered, from what its servers logged to the lake."""

from datetime import UTC, datetime
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

from assets.champions.serving.watch import SERVING
from assets.code_version import version_of
from assets.drift.served import SERVED_VALUES, served_columns, shift_table
from assets.evaluation.incumbent import CHAMPIONS, published_champion
from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from assets.serving.log import CODE_VERSION, fold_log
from assets.serving.summary import (
    by_version,
    latency_plot,
    recent_hours,
    refusals_plot,
    totals,
    values_served,
)
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings


def serving_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/serving` of a fleet."""

    @asset(
        name=SERVING,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, CHAMPIONS])],
        description="How the REST service answered: latency, errors, and the values that came and went.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"deltalake", "mlflow"},
        tags={"stage": "monitoring"},
        code_version=CODE_VERSION,
    )
    def serving(context: AssetExecutionContext, lake: Lake, mlflow: Mlflow) -> MaterializeResult:
        with mistakes_explained():
            folded = fold_log(lake, datetime.now(UTC))
            columns = served_columns(lake, published_champion(lake, mlflow))
        said = f"{folded.documents:,} documents of {len(folded.days)} days" if folded.days else "nothing new was served"
        context.log.info(f"serving: {said}" + (f", {folded.unreadable} unreadable" if folded.unreadable else ""))
        digest = version_of(lake.table(SERVING).version())
        seen = None if folded.days else previous_metadata(context, context.asset_key, digest)
        metadata = seen or _metadata(lake, folded.unreadable)
        # of another champion, or of newer features, the same log says something else
        said_now = {SERVED_VALUES: table(shift_table(columns))} if columns else {}
        return MaterializeResult(metadata={**metadata, **said_now}, data_version=DataVersion(digest))

    return serving


def _metadata(lake: Lake, unreadable: int) -> dict[str, Any]:
    hours = recent_hours(lake)
    if not len(hours):
        return {"state": "nothing was served yet, or no server logs to this lake"}
    forecasts, inputs = values_served(lake)
    return {
        "dagster/row_count": lake.table(SERVING).row_count(),
        "first hour shown": str(hours["hour"].min()),
        "last hour": str(hours["hour"].max()),
        **{name: value for name, value in totals(hours).items() if value is not None},
        "documents that could not be read": unreadable,
        "by version": table(by_version(hours)),
        "latency": plot(latency_plot(hours)),
        "requests an hour": plot(refusals_plot(hours)),
        "forecasts, a sample": table(forecasts),
        "inputs that were brought, a sample": table(inputs),
        "dagster/column_schema": column_schema(lake.table(SERVING).schema()),
        "dagster/uri": MetadataValue.path(lake.table(SERVING).uri),
    }
