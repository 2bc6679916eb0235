"""Asset checks on `live_errors`: the labels came, and the forecasts are as good as their versions promised."""

from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.evaluation.live_errors import LIVE_ERRORS, scored_issues
from assets.evaluation.live_summary import live_by_version
from resources.lake import Lake
from resources.settings import Settings


def live_errors_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/live_errors`; both warn."""
    key, limits, metric = AssetKey([settings.name, LIVE_ERRORS]), settings.checks, settings.evaluation.metric

    @asset_check(asset=key, description=f"At most {limits.actuals:.1%} of the forecasts that are due lack their label.")
    def actuals_arrived(lake: Lake) -> AssetCheckResult:
        newest = _newest(scored_issues(lake))
        came, missing = (sum(said[name] for said in newest.values()) for name in ("scored", "missing"))
        share = missing / (came + missing) if missing else 0.0
        metadata = {"forecasts due": came + missing, "missing": missing, "share missing": share}
        return AssetCheckResult(
            passed=share <= limits.actuals, severity=AssetCheckSeverity.WARN, metadata={**metadata, **_span(newest)}
        )

    @asset_check(
        asset=key,
        description=f"No serving version's live error is more than {limits.live_error:.0%} above that at promotion.",
    )
    def as_good_as_promised(lake: Lake) -> AssetCheckResult:
        newest = _newest(scored_issues(lake))
        serving = {str(total["version"]) for said in newest.values() for total in said["totals"] if total["in_force"]}
        versions = live_by_version(lake, metric).set_index("version")
        live, promised = versions[f"live {metric}"], versions[f"{metric} at promotion"]
        worse = (live > (1 + limits.live_error) * promised) & versions.index.isin(serving)
        metadata = {
            f"version {version}": f"{metric} {live[version]:.4f}, {promised[version]:.4f} at promotion"
            for version in versions.index[promised.notna() & versions.index.isin(serving)]
        }
        return AssetCheckResult(passed=not worse.any(), severity=AssetCheckSeverity.WARN, metadata=metadata)

    return [actuals_arrived, as_good_as_promised]


def _newest(scored: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The issues that were scored with the newest labels."""
    last = max((said["last_period"] for said in scored.values()), default=0)
    return {issue: said for issue, said in scored.items() if said["last_period"] == last}


def _span(newest: dict[int, dict[str, Any]]) -> dict[str, str]:
    if not newest:
        return {"issues": "none yet"}
    return {"issues": ", ".join(map(str, newest)), "first period": min(said["start"] for said in newest.values())}
