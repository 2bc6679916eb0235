"""Asset checks on `raw`: is the snapshot whole, and does it still have the columns that the fleet reads."""

from dagster import AssetCheckResult, AssetChecksDefinition, AssetKey, asset_check

from assets.raw.ingest import RAW
from resources.lake import Lake
from resources.settings import Settings


def raw_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/raw`."""
    key = AssetKey([settings.name, RAW])

    @asset_check(asset=key, blocking=True, description="Every column that fleet.yaml names is in the snapshot.")
    def schema(lake: Lake) -> AssetCheckResult:
        present = lake.table(RAW).schema().names
        missing = [column for column in settings.columns if column not in present]
        return AssetCheckResult(passed=not missing, metadata={"missing": missing, "columns": len(present)})

    @asset_check(asset=key, blocking=True, description="The snapshot holds as many rows as were read.")
    def complete(lake: Lake) -> AssetCheckResult:
        table = lake.table(RAW)
        read, held = table.record()["rows"], table.row_count()
        return AssetCheckResult(passed=read == held > 0, metadata={"rows read": read, "rows held": held})

    return [schema, complete]
