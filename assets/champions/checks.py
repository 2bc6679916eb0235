"""Asset checks on `champions`: the gate's word, and that what serves is whole."""

import pyarrow.compute as pc
from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.champions.refit import REFITS, decided
from assets.evaluation.incumbent import CHAMPIONS, Champion, published_champion
from assets.evaluation.judge import latest_evaluation
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from assets.models.shard import missing_shards
from assets.models.store import TRAINING, trainings
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings


def champions_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/champions`."""
    key = AssetKey([settings.name, CHAMPIONS])

    @asset_check(asset=key, description="The gate let the last evaluated fleet through.")
    def gate(lake: Lake) -> AssetCheckResult:
        judged = latest_evaluation(lake)
        assert judged is not None, "the check runs after an evaluation"
        decision, instead = decided(lake, settings, judged), latest_evaluation(lake, REFITS)
        reasons, worse = list(decision.reasons), decision.worse
        if decision.refit and instead is not None and instead.record["raw_digest"] == judged.record["raw_digest"]:
            refitted = decided(lake, settings, instead)
            reasons += [f"the incumbent's recipe, refitted: {reason}" for reason in refitted.reasons]
            worse = worse or refitted.worse
        # what is refused is never published; to stop what is downstream would stop the incumbent's forecasts
        severity = AssetCheckSeverity.ERROR if worse else AssetCheckSeverity.WARN
        return AssetCheckResult(passed=decision.promote, severity=severity, metadata={"reasons": reasons})

    @asset_check(asset=key, blocking=True, description="Each segment is served once, and every serving model is there.")
    def segments_accounted_for(lake: Lake, mlflow: Mlflow) -> AssetCheckResult:
        serving = published_champion(lake, mlflow)
        if serving is None:
            return AssetCheckResult(passed=True, metadata={"version": "none: the baseline serves"})
        lost = missing_shards(lake.root, _used_files(lake, serving))
        segments = serving.listing["segment"]
        passed = not lost and len(segments) == len(segments.unique())
        return AssetCheckResult(passed=passed, metadata={"segments": len(segments), "lost shards": lost[:10]})

    return [gate, segments_accounted_for]


def _used_files(lake: Lake, serving: Champion) -> set[str]:
    """Shards and fleet-wide models that the champion forecasts with."""
    chosen, known = serving.listing["chosen"], trainings(lake)
    shards = serving.listing.filter(pc.equal(chosen, SEGMENT_MODEL))["shard"].unique().to_pylist()
    by_fleet = serving.listing.filter(pc.equal(chosen, FLEET_MODEL))[TRAINING].unique().to_pylist()
    return {*shards, *(file for training in by_fleet if (file := known[training].fleet_file))}
