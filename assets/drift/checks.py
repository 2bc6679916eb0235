"""Asset checks on `drift`: the share that drifted, current data to judge by, and whether the null is to be trusted."""

from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.drift.bucket import FEW_ROWS, NO_ROWS
from assets.drift.errors import NO_ACTUALS
from assets.drift.verdict import DRIFT
from resources.lake import Lake
from resources.settings import Settings

MISSING = 0.1  # share of the planned segments without rows to judge by, above which a check warns


def drift_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/drift`; none of them stops anything."""
    key, drift = AssetKey([settings.name, DRIFT]), settings.drift

    @asset_check(asset=key, description=f"At most {drift.fleet_share:.0%} of the judged segments drifted.")
    def drifted_share(lake: Lake) -> AssetCheckResult:
        said = lake.table(DRIFT).record()
        share = said.get("share", 0.0)
        # some drift is what retraining is for; drift of the fleet is somebody's business
        severity = AssetCheckSeverity.ERROR if share > drift.fleet_share else AssetCheckSeverity.WARN
        metadata = {name: said.get(name, 0) for name in ("judged", "drifted", "new", "share")}
        return AssetCheckResult(passed=share <= drift.fleet_share, severity=severity, metadata=metadata)

    @asset_check(asset=key, description=f"At most {MISSING:.0%} of the segments that are due lack rows or labels.")
    def current_data_arrived(lake: Lake) -> AssetCheckResult:
        said = lake.table(DRIFT).record()
        states: dict[str, int] = said.get("states", {})
        missing = states.get(NO_ROWS, 0) + states.get(FEW_ROWS, 0)
        due = missing + said.get("judged_now", 0)
        actuals = said.get("error_states", {}).get(NO_ACTUALS, 0)
        share = max(missing / due if due else 0.0, actuals / max(1, said.get("segments", 1)))
        metadata: dict[str, Any] = {**states, "due": due, "without rows": missing, NO_ACTUALS: actuals}
        return AssetCheckResult(passed=share <= MISSING, severity=AssetCheckSeverity.WARN, metadata=metadata)

    @asset_check(
        asset=key,
        description=f"There are quiet windows enough to learn from, and the last alarms at most {drift.rate:.0%}.",
    )
    def calibrated(lake: Lake) -> AssetCheckResult:
        said = lake.table(DRIFT).record()
        quiet, known = said.get("quiet", 0.0), said.get("calibrated", True)
        metadata = {"enough quiet windows": known, "alarmed in the last quiet window": quiet}
        passed = bool(known and quiet <= drift.rate)
        return AssetCheckResult(passed=passed, severity=AssetCheckSeverity.WARN, metadata=metadata)

    return [drifted_share, current_data_arrived, calibrated]
