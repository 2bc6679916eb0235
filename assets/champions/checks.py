"""Asset checks on `champions`: the gate's word, that what serves is whole, and that it is what was published."""

from typing import Any

import pyarrow.compute as pc
from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.champions.refit import REFITS, decided
from assets.champions.registry import moved_from
from assets.evaluation.incumbent import CHAMPIONS, published_champion, whole_standing
from assets.evaluation.judge import latest_evaluation
from resources.lake import Lake
from resources.mlflow import CHAMPION, Mlflow
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

    @asset_check(asset=key, blocking=True, description="Each segment is served once.")
    def segments_accounted_for(lake: Lake, mlflow: Mlflow) -> AssetCheckResult:
        serving = published_champion(lake, mlflow)
        if serving is None:
            return AssetCheckResult(passed=True, metadata={"version": "none: the baseline serves"})
        segments = serving.listing["segment"]
        twice = len(segments) - pc.count_distinct(segments).as_py()
        return AssetCheckResult(passed=not twice, metadata={"segments": len(segments), "listed twice": twice})

    # not blocking: what serves instead must be able to forecast
    @asset_check(asset=key, description="The version that the alias names serves, byte for byte as it was published.")
    def champion_whole(lake: Lake, mlflow: Mlflow) -> AssetCheckResult:
        found = whole_standing(lake, mlflow)
        problems = list(found.problems)
        serves = f"version {found.champion.version}" if found.champion else "none: the baseline serves"
        metadata: dict[str, Any] = {"serves": serves, "instead, because": problems}
        return AssetCheckResult(passed=not problems, severity=AssetCheckSeverity.ERROR, metadata=metadata)

    @asset_check(asset=key, description="The alias `champion` is where the last promotion or rollback has put it.")
    def alias_as_published(mlflow: Mlflow) -> AssetCheckResult:
        moved, names = moved_from(mlflow), mlflow.aliased(CHAMPION)
        metadata = {"alias names version": names["version"] if names else "none"}
        if moved is not None:
            metadata |= {
                "it was moved by hand from version": moved["version"],
                "to move it back": "fleet rollback --to",
            }
        return AssetCheckResult(passed=moved is None, severity=AssetCheckSeverity.WARN, metadata=metadata)

    return [gate, segments_accounted_for, champion_whole, alias_as_published]
