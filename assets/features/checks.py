"""Asset checks on `features` and `quarantine`: every row accounted for, keys unique, nothing looks ahead."""

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    asset_check,
)

from assets.features.data_checks import content_checks, rule_checks, segment_checks
from assets.features.facts import repeated_rows
from assets.features.leak import find_leaks
from assets.features.publish import FEATURES, QUARANTINE, SEGMENTS, current_features
from assets.features.resolved import SUPERSEDED
from assets.raw.parse import KEY, PERIOD
from assets.remembered import remembered
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark


def features_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/features`."""
    key = AssetKey([settings.name, FEATURES])

    @asset_check(asset=key, blocking=True, description="The table has the recipe's columns.")
    def schema(lake: Lake) -> AssetCheckResult:
        present, recipe = lake.table(FEATURES).schema().names, current_features(lake).recipe
        wanted = [*recipe.segment, KEY, PERIOD, recipe.label, *recipe.features]
        missing = [column for column in wanted if column not in present]
        return AssetCheckResult(passed=not missing, metadata={"missing": missing, "features": len(recipe.features)})

    @asset_check(asset=key, blocking=True, description="No two rows have the same segment and time.")
    def unique(lake: Lake, spark: Spark) -> AssetCheckResult:
        features = current_features(lake)
        found = remembered(lake, "unique", features.digest, lambda: {"examples": repeated_rows(lake, spark, features)})
        return AssetCheckResult(passed=not found["examples"], metadata=found)

    @asset_check(asset=key, blocking=True, description="Features stay the same whatever happens a horizon later.")
    def no_leak(lake: Lake, spark: Spark) -> AssetCheckResult:
        features = current_features(lake)
        leaks = remembered(
            lake, "leaks", features.digest, lambda: find_leaks(lake, spark, settings, features)._asdict()
        )
        passed = not leaks["rows_by_feature"] and leaks["compared"] > 0
        return AssetCheckResult(passed=passed, metadata=leaks)

    @asset_check(asset=key, blocking=True, description="Rows read are rows valid plus rows quarantined.")
    def rows_accounted_for(lake: Lake) -> AssetCheckResult:
        record = current_features(lake).record
        rows, held = record["rows"], lake.table(QUARANTINE).row_count(record["quarantine_version"])
        passed = rows["read"] == rows["valid"] + rows["quarantined"] and held == rows["quarantined"]
        return AssetCheckResult(passed=passed, metadata={**rows, "rows held in quarantine": held})

    @asset_check(asset=key, blocking=True, description="Every segment with a valid row is a partition.")
    def segments_accounted_for(context: AssetCheckExecutionContext, lake: Lake) -> AssetCheckResult:
        version = current_features(lake).record["segments_version"]
        found = set(lake.table(SEGMENTS).arrow(columns=[KEY], version=version)[KEY].to_pylist())
        missing = sorted(found - set(context.instance.get_dynamic_partitions(settings.partitions_name)))
        return AssetCheckResult(passed=not missing, metadata={"segments": len(found), "missing": missing[:10]})

    whole = [schema, unique, no_leak, rows_accounted_for, segments_accounted_for]
    return [*whole, *rule_checks(settings), *content_checks(settings), *segment_checks(settings)]


def quarantine_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The check of `<name>/quarantine`."""

    @asset_check(
        asset=AssetKey([settings.name, QUARANTINE]),
        description=f"At most {settings.checks.quarantine:.0%} of the rows were refused.",
    )
    def share_refused(lake: Lake) -> AssetCheckResult:
        rows = current_features(lake).record["rows"]
        refused = rows["quarantined"] - rows["by_reason"].get(SUPERSEDED, 0)  # a correction is no fault
        share = refused / max(rows["read"], 1)
        return AssetCheckResult(
            passed=share <= settings.checks.quarantine,
            severity=AssetCheckSeverity.WARN,
            metadata={"share refused": share, "by reason": rows["by_reason"]},
        )

    return [share_refused]
