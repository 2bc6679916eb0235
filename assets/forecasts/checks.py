"""Asset checks on `forecasts`: complete, finite, and honest about what was assumed."""

import pyarrow.compute as pc
from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.evaluation.issues import output_name
from assets.features.publish import current_features, open_segments
from assets.forecasts.publish import FORECASTS, levels_asked
from assets.forecasts.score import COLUMNS
from assets.models.quantiles import quantile_name
from resources.lake import Lake
from resources.settings import Settings


def forecasts_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/forecasts`."""
    key = AssetKey([settings.name, FORECASTS])

    @asset_check(asset=key, blocking=True, description="Every open segment has one forecast a period of the horizon.")
    def complete(lake: Lake) -> AssetCheckResult:
        features = current_features(lake)
        still_open = open_segments(lake, features)
        keys = [*features.recipe.segment, *features.recipe.time_columns]
        rows = lake.table(FORECASTS).arrow(keys)
        distinct = len(rows.group_by(keys).aggregate([]))
        wanted = still_open * features.recipe.horizon
        metadata = {
            "open segments": still_open,
            "rows wanted": wanted,
            "rows": len(rows),
            "distinct": distinct,
        }
        return AssetCheckResult(passed=wanted == len(rows) == distinct, metadata=metadata)

    @asset_check(asset=key, blocking=True, description="Every forecast is a finite number.")
    def finite(lake: Lake) -> AssetCheckResult:
        column = output_name("forecast", current_features(lake).recipe)
        values = lake.table(FORECASTS).arrow([column])[column]
        bad = len(values) - int(pc.sum(pc.fill_null(pc.is_finite(values), False)).as_py() or 0)
        return AssetCheckResult(passed=not bad, metadata={"rows": len(values), "not finite": bad})

    @asset_check(asset=key, blocking=True, description="The columns that users read are there.")
    def schema(lake: Lake) -> AssetCheckResult:
        recipe = current_features(lake).recipe
        names = [*COLUMNS, *map(quantile_name, levels_asked(settings, recipe))]
        wanted = [*recipe.segment, *recipe.time_columns, *(output_name(name, recipe) for name in names)]
        present = lake.table(FORECASTS).schema().names
        return AssetCheckResult(passed=present == wanted, metadata={"columns": present, "wanted": wanted})

    @asset_check(asset=key, description="Values known ahead were there for the horizon; none had to be carried on.")
    def known_ahead_given(lake: Lake) -> AssetCheckResult:
        record = lake.table(FORECASTS).record()
        metadata = {"rows assumed": record["assumed"], "rows": record["rows"]}
        return AssetCheckResult(passed=not record["assumed"], severity=AssetCheckSeverity.WARN, metadata=metadata)

    return [complete, finite, schema, known_ahead_given]
