"""`raw`: what the source held, unchanged, as one immutable snapshot."""

from typing import Any

import pandas as pd
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
from assets.raw.description import Description
from assets.raw.ingest import Snapshot, ingest
from assets.raw.inspect import description_of
from assets.raw.profile import Profile
from assets.raw.snapshot import RAW
from assets.raw.summary import label_figure, snapshots
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark


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
            snapshot = ingest(lake, spark, settings, config.snapshot, context.log.info)
        said = "new snapshot" if snapshot.is_new else "nothing new: a snapshot of these bytes was there"
        context.log.info(f"raw: {snapshot.rows:,} rows, {said} (version {snapshot.version})")
        seen = None if snapshot.is_new else previous_metadata(context, context.asset_key, snapshot.digest)
        metadata = seen or _metadata(lake, settings, snapshot)
        return MaterializeResult(metadata=metadata, data_version=DataVersion(snapshot.digest))

    return raw


def _metadata(lake: Lake, settings: Settings, snapshot: Snapshot) -> dict[str, Any]:
    schema, record = lake.table(RAW).schema(snapshot.version), lake.table(RAW).record()
    return {
        "dagster/row_count": snapshot.rows,
        "files": snapshot.files,
        "new files": record.get("new_files", snapshot.files),
        "snapshot": snapshot.version,
        "snapshots": table(snapshots(lake)),
        **_of_time(snapshot.profile),
        "dagster/column_schema": column_schema(schema),
        "dagster/uri": MetadataValue.path(lake.table(RAW).uri),
        **_described(description_of(lake, settings, snapshot.digest), settings),
    }


def _of_time(profile: Profile) -> dict[str, Any]:
    if profile.timeline is None:
        return {}
    return {
        "frequency": profile.timeline.frequency,
        "first time": str(profile.timeline.first_time),
        "last label": str(profile.timeline.last_label),
    }


def _described(found: Description | None, settings: Settings) -> dict[str, Any]:
    if found is None:
        return {}
    drawn = plot(label_figure(found.label, settings.label))
    return {
        "segments": found.segments,
        "most empty labels": table(pd.DataFrame(found.emptiest)),
        "label over time" if settings.time else "label": drawn,
    }
