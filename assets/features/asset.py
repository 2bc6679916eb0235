"""`features` and `quarantine`: the contract applied, duplicates resolved, features built without looking ahead."""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    multi_asset,
)

from assets.features.publish import CODE_VERSION, FEATURES, QUARANTINE, SEGMENTS, FeatureSet, publish_features
from assets.features.summary import (
    WORST,
    null_plot,
    null_shares,
    quarantine_by_segment,
    quarantine_rows,
    reasons_plot,
    shortest_segments,
)
from assets.partitions import add_partitions
from assets.presentation import column_schema, mistakes_explained, plot, previous_metadata, table
from assets.raw.parse import KEY
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark


def features_asset(settings: Settings) -> AssetsDefinition:
    """The assets `<name>/features` and `<name>/quarantine` of a fleet; segments found become partitions."""
    keys = {name: AssetKey([settings.name, name]) for name in (FEATURES, QUARANTINE)}

    @multi_asset(
        name=f"{settings.name}__features",
        pool=f"{settings.name}_data",
        specs=[
            _spec(
                settings,
                FEATURES,
                "Point-in-time features of every valid row and of the horizon, by segment.",
                "data",
            ),
            _spec(settings, QUARANTINE, "Refused rows, kept whole with the reason.", "quality"),
        ],
    )
    def features(context: AssetExecutionContext, lake: Lake, spark: Spark) -> Iterator[MaterializeResult]:
        with mistakes_explained():
            built = publish_features(lake, spark, settings, context.log.info)
        rows = built.record["rows"]
        context.log.info(
            f"features: {rows['valid']:,} of {rows['read']:,} rows valid, {rows['quarantined']:,} in quarantine, "
            f"{built.record['segments']:,} segments" + ("" if built.is_new else ", unchanged")
        )
        segments = lake.table(SEGMENTS).arrow(version=built.record["segments_version"])
        add_partitions(context.instance, settings.partitions_name, segments[KEY].to_pylist())
        version = DataVersion(built.digest)
        seen = {name: None if built.is_new else previous_metadata(context, keys[name], built.digest) for name in keys}
        refused = seen[QUARANTINE] or _quarantine_metadata(lake, spark, built)
        yield MaterializeResult(asset_key=keys[QUARANTINE], metadata=refused, data_version=version)
        described = seen[FEATURES] or _features_metadata(lake, spark, built)
        yield MaterializeResult(asset_key=keys[FEATURES], metadata=described, data_version=version)

    return features


def _spec(settings: Settings, name: str, description: str, stage: str) -> AssetSpec:
    return AssetSpec(
        AssetKey([settings.name, name]),
        deps=[AssetKey([settings.name, RAW])],
        description=description,
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"spark", "deltalake"},
        tags={"stage": stage},
        code_version=CODE_VERSION,
    )


def _features_metadata(lake: Lake, spark: Spark, built: FeatureSet) -> dict[str, Any]:
    record, recipe = built.record, built.recipe
    segments = lake.table(SEGMENTS).arrow(version=record["segments_version"]).to_pandas()
    shares = null_shares(lake, spark, built)
    return {
        "dagster/row_count": lake.table(FEATURES).row_count(built.version),
        "segments": record["segments"],
        "open segments": int(segments["__open"].sum()),
        "rows": MetadataValue.json(record["rows"]),
        "features": len(recipe.features),
        "recipe": MetadataValue.json(recipe.model_dump()),
        "snapshot": record["raw_version"],
        "buckets": built.buckets,
        "dagster/column_schema": column_schema(lake.table(FEATURES).schema(built.version)),
        "dagster/uri": MetadataValue.path(lake.table(FEATURES).uri),
        "shortest segments": table(shortest_segments(segments)),
        "nulls by feature": plot(null_plot(shares)),
    }


def _quarantine_metadata(lake: Lake, spark: Spark, built: FeatureSet) -> dict[str, Any]:
    rows, version = built.record["rows"], built.record["quarantine_version"]
    by_segment = quarantine_by_segment(lake, spark, version)
    return {
        "dagster/row_count": rows["quarantined"],
        "segments": int(by_segment["segment"].notna().sum()),
        "share of rows": rows["quarantined"] / max(rows["read"], 1),
        "by reason": MetadataValue.json(rows["by_reason"]),
        "dagster/column_schema": column_schema(lake.table(QUARANTINE).schema(version)),
        "dagster/uri": MetadataValue.path(lake.table(QUARANTINE).uri),
        "segments with most refused rows": table(by_segment.head(WORST)),
        "examples": table(quarantine_rows(lake, version)),
        "rows by reason": plot(reasons_plot(rows["by_reason"])),
    }
