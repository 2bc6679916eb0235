"""Asset checks on `raw`: is the snapshot whole, as large as usual, and are its columns those of the last one."""

from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.raw.layout import missing_columns
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.settings import Settings
from resources.table import Table

WARN, COMPARED = AssetCheckSeverity.WARN, 5


def raw_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/raw`."""
    key, limit = AssetKey([settings.name, RAW]), settings.checks.volume

    @asset_check(asset=key, blocking=True, description="Every column that fleet.yaml names is in the snapshot.")
    def schema(lake: Lake) -> AssetCheckResult:
        present = lake.table(RAW).schema().names
        missing = [problem.what for problem in missing_columns(present, settings, settings.needed_columns)]
        return AssetCheckResult(passed=not missing, metadata={"missing": missing, "columns": len(present)})

    @asset_check(asset=key, description="The snapshot has no column that the one before it had not.")
    def new_columns(lake: Lake) -> AssetCheckResult:
        table = lake.table(RAW)
        before = _before(table)
        if before is None:
            return AssetCheckResult(passed=True, metadata={"compared with": "nothing: this is the first snapshot"})
        now, was = set(table.schema().names), set(table.schema(before).names)
        metadata: dict[str, Any] = {
            "new": sorted(now - was),
            "gone": sorted(was - now),
            "compared with snapshot": before,
        }
        return AssetCheckResult(passed=now == was, severity=WARN, metadata=metadata)

    @asset_check(asset=key, blocking=True, description="The snapshot holds as many rows as were read.")
    def complete(lake: Lake) -> AssetCheckResult:
        table = lake.table(RAW)
        read, held = table.record()["rows"], table.row_count()
        return AssetCheckResult(passed=read == held > 0, metadata={"rows read": read, "rows held": held})

    @asset_check(asset=key, description=f"Rows within {limit:.0%} of the most that the last {COMPARED} snapshots had.")
    def volume(lake: Lake) -> AssetCheckResult:
        table = lake.table(RAW)
        records = [record for record in table.records().values() if "rows" in record]
        rows, usual = records[0]["rows"], [record["rows"] for record in records[1 : COMPARED + 1]]
        if not usual:
            return AssetCheckResult(passed=True, metadata={"rows": rows, "compared with": "nothing: first snapshot"})
        passed = (1 - limit) * max(usual) <= rows <= (1 + limit) * max(usual)
        return AssetCheckResult(passed=passed, severity=WARN, metadata={"rows": rows, "rows of the last ones": usual})

    return [schema, new_columns, complete, volume]


def _before(table: Table) -> int | None:
    """The version of the last snapshot with other content than the newest."""
    records = table.records()
    digests = [record.get("digest") for record in records.values()]
    other = next((digest for digest in digests if digest != digests[0]), None)
    # a commit that only adds columns has the record of the one before it
    return (
        min((version for version, record in records.items() if record.get("digest") == other), default=None)
        if other
        else None
    )
