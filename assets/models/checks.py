"""Asset checks on `segment_models`: every segment accounted for, few failures, models that load."""

from itertools import islice
from typing import Any

import pyarrow.compute as pc
from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.features.publish import SEGMENTS, current_features
from assets.models.asset import SEGMENT_MODELS
from assets.models.shard import FAILED
from assets.models.store import boosters, latest_training, listing_of, shards_by_bucket
from assets.raw.parse import KEY
from resources.lake import Lake
from resources.settings import Settings

TOLERATED_FAILURES = 0.05
LOADED_MODELS = 20


def models_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/segment_models`; one speaks for all segments and names the worst."""
    key = AssetKey([settings.name, SEGMENT_MODELS])

    @asset_check(asset=key, blocking=True, description="Every segment asked for was trained, skipped or failed, once.")
    def segments_accounted_for(lake: Lake) -> AssetCheckResult:
        training, features = latest_training(lake), current_features(lake)
        assert training is not None, "the check runs after a training"
        listed = listing_of(lake, training)["segment"].to_pylist()
        version = features.record["segments_version"]
        found = lake.table(SEGMENTS).arrow(columns=[KEY], version=version)[KEY].to_pylist()
        wanted = set(training.record["segments"] or found)
        missing, twice = sorted(wanted - set(listed)), len(listed) - len(set(listed))
        metadata: dict[str, Any] = {"segments": len(wanted), "missing": missing[:10], "listed twice": twice}
        return AssetCheckResult(passed=not missing and not twice, metadata=metadata)

    @asset_check(asset=key, description=f"At most {TOLERATED_FAILURES:.0%} of the segments failed.")
    def few_failures(lake: Lake) -> AssetCheckResult:
        training = latest_training(lake)
        assert training is not None, "the check runs after a training"
        listing = listing_of(lake, training)
        failed = listing.filter(pc.equal(listing["status"], FAILED)).select(["segment", "reason"])
        share = len(failed) / max(len(listing), 1)
        metadata = {"failed": len(failed), "share": share, "examples": failed.slice(0, 10).to_pylist()}
        return AssetCheckResult(
            passed=share <= TOLERATED_FAILURES, severity=AssetCheckSeverity.ERROR, metadata=metadata
        )

    @asset_check(asset=key, blocking=True, description=f"{LOADED_MODELS} models, read back, have trees.")
    def models_load(lake: Lake) -> AssetCheckResult:
        training = latest_training(lake)
        assert training is not None, "the check runs after a training"
        parts = [part for own in shards_by_bucket(lake, listing_of(lake, training)).values() for part in own]
        trees = {key: booster.num_trees() for key, booster in islice(boosters(parts, "served"), LOADED_MODELS)}
        empty = [key for key, count in trees.items() if not count]
        passed = not empty and bool(trees) == bool(parts)
        return AssetCheckResult(passed=passed, metadata={"loaded": len(trees), "without trees": empty})

    return [segments_accounted_for, few_failures, models_load]
