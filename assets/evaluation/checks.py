"""Asset checks on `evaluation`: every segment judged or accounted for, the comparison clean, the models worth it."""

from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, asset_check

from assets.evaluation.judge import EVALUATION, latest_evaluation
from assets.features.publish import SEGMENTS, current_features
from assets.models.quantiles import quantile_name
from assets.raw.parse import KEY
from resources.lake import Lake
from resources.settings import Settings


def evaluation_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of `<name>/evaluation`."""
    key = AssetKey([settings.name, EVALUATION])

    @asset_check(asset=key, blocking=True, description="Every segment of the features is in the evaluation, once.")
    def segments_accounted_for(lake: Lake) -> AssetCheckResult:
        version = current_features(lake).record["segments_version"]
        found = set(lake.table(SEGMENTS).arrow(columns=[KEY], version=version)[KEY].to_pylist())
        listed = lake.table(EVALUATION).arrow(columns=["segment"])["segment"].to_pylist()
        missing = sorted(found - set(listed))
        passed = not missing and len(listed) == len(set(listed))
        return AssetCheckResult(passed=passed, metadata={"segments": len(listed), "missing": missing[:10]})

    @asset_check(asset=key, blocking=True, description="No model was trained or selected on rows that it is judged on.")
    def comparison_clean(lake: Lake) -> AssetCheckResult:
        judged = latest_evaluation(lake)
        assert judged is not None, "the check runs after an evaluation"
        record = judged.record
        names = ("judged_through", "selected_through", "incumbent_judged_through", "incumbent_selected_through")
        compared = (record.get("comparison") or {}).get("after", record["holdout_from"])
        since = dict.fromkeys(names[:2], record["holdout_from"]) | dict.fromkeys(names[2:], compared)
        late = [name for name in names if record[name] is not None and record[name] > since[name]]
        metadata = {
            "holdout begins after": record["holdout_from"],
            "comparison with the incumbent begins after": compared,
            **{name: record[name] for name in names if record[name]},
            "not clean": late,
        }
        return AssetCheckResult(passed=not late, metadata=metadata)

    @asset_check(asset=key, description="The new models beat the baseline in total.")
    def challenger_against_baseline(lake: Lake) -> AssetCheckResult:
        judged = latest_evaluation(lake)
        assert judged is not None, "the check runs after an evaluation"
        sums = judged.record["compared"]
        passed = bool(judged.record["rows"]) and sums["challenger"] <= sums["baseline"]
        errors = {name: error for name, error in judged.record["errors"].items() if error is not None}
        return AssetCheckResult(passed=passed, severity=AssetCheckSeverity.WARN, metadata=errors)

    @asset_check(asset=key, description="As many labels of the holdout were below each quantile as its level says.")
    def quantiles_calibrated(lake: Lake) -> AssetCheckResult:
        judged = latest_evaluation(lake)
        assert judged is not None, "the check runs after an evaluation"
        said = judged.record.get("quantiles")
        if said is None:
            why = "no quantiles are asked for, or deviations are too few to tell"
            return AssetCheckResult(passed=True, severity=AssetCheckSeverity.WARN, metadata={"not measured": why})
        found = dict(zip(said["levels"], said["measured"], strict=True))
        off = [quantile_name(level) for level, share in found.items() if abs(level - share) > settings.checks.coverage]
        measured = {f"below {quantile_name(level)}": share for level, share in found.items()}
        metadata = {**measured, "off by too much": off}
        return AssetCheckResult(passed=not off, severity=AssetCheckSeverity.WARN, metadata=metadata)

    return [segments_accounted_for, comparison_clean, challenger_against_baseline, quantiles_calibrated]
