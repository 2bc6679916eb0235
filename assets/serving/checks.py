"""Asset checks on `serving`: the REST service is fast, answers, and is asked for segments that the fleet has."""

from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.champions.serving.watch import SERVING
from assets.drift.served import JUDGED, served_columns, shift_table, shifted
from assets.evaluation.incumbent import published_champion
from assets.presentation import table
from assets.serving.summary import recent_hours, totals
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings

NOTHING: dict[str, Any] = {"requests": 0, "state": "nothing was served yet, or no server logs to this lake"}


def serving_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/serving`, on the last week of the log; all warn."""
    key, limits = AssetKey([settings.name, SERVING]), settings.checks

    def judged(lake: Lake, value: str, limit: float) -> AssetCheckResult:
        hours = recent_hours(lake)
        if not len(hours):
            return AssetCheckResult(passed=True, metadata=NOTHING)
        said = totals(hours)
        shares = {name: said[name] / max(said["requests"], 1) for name in ("refused", "failed", "unknown")}
        found = said["p99"] if value == "p99" else shares[value]
        metadata: dict[str, Any] = {**said, value if value == "p99" else f"share {value}": found, "allowed": limit}
        return AssetCheckResult(passed=found <= limit, severity=AssetCheckSeverity.WARN, metadata=metadata)

    @asset_check(asset=key, description=f"99% of the requests were answered within {limits.latency:g} seconds.")
    def latency(lake: Lake) -> AssetCheckResult:
        return judged(lake, "p99", limits.latency)

    @asset_check(asset=key, description=f"At most {limits.serving_errors:.1%} of the requests failed (5xx).")
    def error_rate(lake: Lake) -> AssetCheckResult:
        return judged(lake, "failed", limits.serving_errors)

    @asset_check(
        asset=key, description=f"At most {limits.unknown_segments:.1%} of the requests named an unknown segment."
    )
    def unknown_segments(lake: Lake) -> AssetCheckResult:
        return judged(lake, "unknown", limits.unknown_segments)

    @asset_check(
        asset=key,
        description=f"Inputs and forecasts lie within {limits.served_shift:g} spreads of the champion's own.",
    )
    def served_values(lake: Lake, mlflow: Mlflow) -> AssetCheckResult:
        columns = served_columns(lake, published_champion(lake, mlflow))
        moved = shifted(columns, limits.served_shift)
        metadata: dict[str, Any] = {
            "moved": [each.column for each in moved],
            "columns judged": sum(each.state == JUDGED for each in columns),
            "columns": table(shift_table(columns)),
            "allowed": limits.served_shift,
        }
        return AssetCheckResult(passed=not moved, severity=AssetCheckSeverity.WARN, metadata=metadata)

    return [latency, error_rate, unknown_segments, served_values]
