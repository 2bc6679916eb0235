"""`raw`: what the source held, unchanged, as one immutable snapshot."""

from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from assets.raw.ingest import RAW, Snapshot, ingest, read_snapshot
from assets.raw.summary import emptiest_segments, label_plot, label_quantiles, segment_count
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark


def raw_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/raw` of a fleet."""

    @asset(
        name=RAW,
        key_prefix=settings.name,
        description=f"Rows of `{settings.source.path}` as they came, one immutable snapshot for each content.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={settings.source.format or "table", "spark", "deltalake"},
        tags={"stage": "data"},
    )
    def raw(context: AssetExecutionContext, lake: Lake, spark: Spark) -> MaterializeResult:
        with mistakes_explained():
            snapshot = ingest(lake, spark, settings)
        said = "new snapshot" if snapshot.is_new else "nothing new: the source holds the last snapshot's bytes"
        context.log.info(f"raw: {snapshot.rows:,} rows, {said} (version {snapshot.version})")
        seen = None if snapshot.is_new else previous_metadata(context, context.asset_key, snapshot.digest)
        metadata = seen or _metadata(lake, spark, settings, snapshot)
        return MaterializeResult(metadata=metadata, data_version=DataVersion(snapshot.digest))

    return raw


def _metadata(lake: Lake, spark: Spark, settings: Settings, snapshot: Snapshot) -> dict[str, Any]:
    frame, profile = read_snapshot(spark, lake.table(RAW), settings), snapshot.profile
    schema = lake.table(RAW).schema(snapshot.version)
    return {
        "dagster/row_count": snapshot.rows,
        "segments": segment_count(frame, settings, profile),
        "files": snapshot.files,
        "snapshot": snapshot.version,
        "frequency": profile.frequency,
        "first time": str(profile.first_time),
        "last label": str(profile.last_label),
        "dagster/column_schema": column_schema(schema),
        "dagster/uri": MetadataValue.path(lake.table(RAW).uri),
        "most empty labels": table(emptiest_segments(frame, settings, profile)),
        "label over time": plot(label_plot(label_quantiles(frame, settings, profile), settings.label)),
    }
