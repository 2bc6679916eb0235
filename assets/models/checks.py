"""Asset checks on `segment_models`: every segment accounted for, few failures, models that load."""

from itertools import islice
from typing import Any

import pyarrow.compute as pc
from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.features.publish import SEGMENTS, current_features
from assets.models.asset import SEGMENT_MODELS
from assets.models.line import FAILED
from assets.models.selection import segments_asked
from assets.models.shard import boosters
from assets.models.store import latest_training, listing_of
from assets.raw.parse import KEY
from resources.lake import Lake
from resources.settings import Settings

LOADED_MODELS = 20


def models_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/segment_models`; one speaks for all segments and names the worst."""
    key, tolerated = AssetKey([settings.name, SEGMENT_MODELS]), settings.failures.tolerated

    @asset_check(asset=key, blocking=True, description="Every segment asked for was trained, skipped or failed, once.")
    def segments_accounted_for(lake: Lake) -> AssetCheckResult:
        training, features = latest_training(lake), current_features(lake)
        assert training is not None, "the check runs after a training"
        listed = listing_of(lake, training)["segment"].combine_chunks()
        version = features.record["segments_version"]
        found = lake.table(SEGMENTS).arrow(columns=[KEY], version=version)[KEY].combine_chunks()
        wanted = found if training.covers_all else segments_asked(lake, training)
        missing = wanted.filter(pc.invert(pc.is_in(wanted, listed)))
        twice = len(listed) - pc.count_distinct(listed).as_py()
        shown = sorted(missing.slice(0, 10).to_pylist())
        metadata: dict[str, Any] = {"segments": len(wanted), "missing": shown, "listed twice": twice}
        return AssetCheckResult(passed=not len(missing) and not twice, metadata=metadata)

    @asset_check(asset=key, description=f"At most {tolerated:.1%} of the segments failed; more block promotion.")
    def few_failures(lake: Lake) -> AssetCheckResult:
        training = latest_training(lake)
        assert training is not None, "the check runs after a training"
        listing = listing_of(lake, training)
        failed = listing.filter(pc.equal(listing["status"], FAILED)).select(["segment", "reason"])
        share = len(failed) / max(len(listing), 1)
        metadata = {"failed": len(failed), "share": share, "examples": failed.slice(0, 10).to_pylist()}
        return AssetCheckResult(passed=share <= tolerated, severity=AssetCheckSeverity.ERROR, metadata=metadata)

    @asset_check(asset=key, blocking=True, description=f"{LOADED_MODELS} models, read back, have trees.")
    def models_load(lake: Lake) -> AssetCheckResult:
        training = latest_training(lake)
        assert training is not None, "the check runs after a training"
        listing = listing_of(lake, training)
        some = listing.filter(pc.is_valid(listing["shard"])).slice(0, LOADED_MODELS)
        loaded = islice(boosters(lake.root, some, "served"), LOADED_MODELS)
        trees = {key: booster.num_trees() for key, booster in loaded}
        empty = [key for key, count in trees.items() if not count]
        return AssetCheckResult(
            passed=not empty and len(trees) == len(some), metadata={"loaded": len(trees), "without trees": empty}
        )

    return [segments_accounted_for, few_failures, models_load]
