"""`raw`: what the source held, unchanged, as one immutable snapshot."""

from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)
from pydantic import Field

from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from assets.raw.ingest import Snapshot, ingest
from assets.raw.profile import Profile
from assets.raw.snapshot import RAW, read_snapshot
from assets.raw.summary import (
    emptiest_segments,
    label_counts,
    label_histogram,
    label_plot,
    label_quantiles,
    segment_count,
    snapshots,
)
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class SnapshotConfig(Config):
    """Which snapshot a run works on."""

    snapshot: int | None = Field(
        None, description="An earlier snapshot to go back to; the source is not looked at. Absent: what it holds now."
    )


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
        pool=f"{settings.name}_data",
    )
    def raw(context: AssetExecutionContext, config: SnapshotConfig, lake: Lake, spark: Spark) -> MaterializeResult:
        with mistakes_explained():
            snapshot = ingest(lake, spark, settings, config.snapshot)
        said = "new snapshot" if snapshot.is_new else "nothing new: a snapshot of these bytes was there"
        context.log.info(f"raw: {snapshot.rows:,} rows, {said} (version {snapshot.version})")
        seen = None if snapshot.is_new else previous_metadata(context, context.asset_key, snapshot.digest)
        metadata = seen or _metadata(lake, spark, settings, snapshot)
        return MaterializeResult(metadata=metadata, data_version=DataVersion(snapshot.digest))

    return raw


def _metadata(lake: Lake, spark: Spark, settings: Settings, snapshot: Snapshot) -> dict[str, Any]:
    frame, profile = read_snapshot(spark, lake.table(RAW), settings), snapshot.profile
    schema, record = lake.table(RAW).schema(snapshot.version), lake.table(RAW).record()
    return {
        "dagster/row_count": snapshot.rows,
        "segments": segment_count(frame, settings, profile),
        "files": snapshot.files,
        "new files": record.get("new_files", snapshot.files),
        "snapshot": snapshot.version,
        "snapshots": table(snapshots(lake)),
        **_of_time(profile),
        "dagster/column_schema": column_schema(schema),
        "dagster/uri": MetadataValue.path(lake.table(RAW).uri),
        "most empty labels": table(emptiest_segments(frame, settings, profile)),
        **_label_plot(frame, settings, profile),
    }


def _of_time(profile: Profile) -> dict[str, Any]:
    if profile.timeline is None:
        return {}
    return {
        "frequency": profile.timeline.frequency,
        "first time": str(profile.timeline.first_time),
        "last label": str(profile.timeline.last_label),
    }


def _label_plot(frame: "DataFrame", settings: Settings, profile: Profile) -> dict[str, Any]:
    if profile.timeline is None:
        return {"label": plot(label_histogram(label_counts(frame, settings, profile), settings.label))}
    quantiles = label_quantiles(frame, settings, profile)
    return {"label over time": plot(label_plot(quantiles, settings.label))}
