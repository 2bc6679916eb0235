"""Asset checks on what the data say: rules, freshness, segments, gaps, nulls, infinities, the label's distribution."""

from typing import Any

import pandas as pd
from dagster import AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, AssetKey, MetadataValue, asset_check

from assets.features.contract import Example, examples_of
from assets.features.facts import before_this, feature_facts, label_shift, missing_periods, segments_of
from assets.features.publish import FEATURES, current_features
from assets.features.rule_summary import rule_table
from assets.presentation import table
from assets.raw.parse import KEY, parse_rows
from assets.raw.rules import rules_of
from assets.raw.snapshot import RAW, read_snapshot
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark

WARN, WORST = AssetCheckSeverity.WARN, 10
NOTHING_BEFORE = {"compared with": "nothing: this is the first snapshot"}


def rule_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks on the contract's rules."""
    key = AssetKey([settings.name, FEATURES])

    def verdict(lake: Lake, spark: Spark, action: str, severity: AssetCheckSeverity) -> AssetCheckResult:
        features = current_features(lake)
        rules = [rule for rule in rules_of(settings) if rule.action == action]
        rows = rule_table(rules, features.record)
        worse = rows[~rows["kept"]]["rule"].tolist()
        metadata: dict[str, MetadataValue | int] = {"rules": table(rows), "broken too often": len(worse)}
        if worse:
            raw = read_snapshot(spark, lake.table(RAW), settings, features.record["raw_version"])
            found = examples_of(parse_rows(raw, settings, features.profile.kinds), worse)
            metadata["examples"] = table(pd.DataFrame(found, columns=Example._fields))
        return AssetCheckResult(passed=not worse, severity=severity, metadata=metadata)

    @asset_check(asset=key, blocking=True, description="Rules that drop rows dropped no more than tolerated.")
    def rules_drop(lake: Lake, spark: Spark) -> AssetCheckResult:
        return verdict(lake, spark, "drop", AssetCheckSeverity.ERROR)

    @asset_check(asset=key, description="Rules that only warn are broken by no more rows than tolerated.")
    def rules_warn(lake: Lake, spark: Spark) -> AssetCheckResult:
        return verdict(lake, spark, "warn", WARN)

    return [rules_drop, rules_warn]


def content_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks on features and label."""
    key, limits = AssetKey([settings.name, FEATURES]), settings.checks

    @asset_check(asset=key, blocking=True, description="No feature is infinite.")
    def no_infinities(lake: Lake, spark: Spark) -> AssetCheckResult:
        found = feature_facts(lake, spark, current_features(lake))["infinite"]
        return AssetCheckResult(passed=not found, metadata={"rows by feature": found})

    @asset_check(asset=key, description=f"No feature is null in more than {limits.nulls:.0%} of the rows.")
    def nulls(lake: Lake, spark: Spark) -> AssetCheckResult:
        shares = feature_facts(lake, spark, current_features(lake))["nulls"]
        over = {name: share for name, share in shares.items() if share > limits.nulls}
        return AssetCheckResult(
            passed=not over, severity=WARN, metadata={"over the limit": over, "share by feature": shares}
        )

    @asset_check(asset=key, description=f"The label moved by less than {limits.label_shift} since the last snapshot.")
    def label_distribution(lake: Lake, spark: Spark) -> AssetCheckResult:
        features = current_features(lake)
        before = before_this(lake, features)
        shift = label_shift(lake, spark, features, before) if before else None
        if before is None or shift is None:
            return AssetCheckResult(passed=True, metadata=NOTHING_BEFORE)
        metadata = {"population stability index": shift, "compared with snapshot": before.record["raw_version"]}
        return AssetCheckResult(passed=shift <= limits.label_shift, severity=WARN, metadata=metadata)

    return [no_infinities, nulls, label_distribution]


def segment_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks on which segments there are, and when."""
    key, limits = AssetKey([settings.name, FEATURES]), settings.checks

    @asset_check(asset=key, description="Few segments vanished or appeared since the last snapshot.")
    def segments_since_last(lake: Lake) -> AssetCheckResult:
        features = current_features(lake)
        before = before_this(lake, features)
        if before is None:
            return AssetCheckResult(passed=True, metadata=NOTHING_BEFORE)
        now, was = (set(segments_of(lake, each)[KEY]) for each in (features, before))
        vanished, appeared = sorted(was - now), sorted(now - was)
        metadata: dict[str, Any] = {
            "segments": len(now),
            "vanished": len(vanished),
            "appeared": len(appeared),
            "some that vanished": vanished[:WORST],
            "some that appeared": appeared[:WORST],
            "compared with snapshot": before.record["raw_version"],
        }
        passed = len(vanished) <= limits.vanished * len(was) and len(appeared) <= limits.appeared * len(was)
        return AssetCheckResult(passed=passed, severity=WARN, metadata=metadata)

    @asset_check(asset=key, description=f"At most {limits.gaps:.0%} of the periods of a segment's life are missing.")
    def gaps(lake: Lake) -> AssetCheckResult:
        found = missing_periods(segments_of(lake, current_features(lake)))
        share = float(found["missing"].sum() / max(found["periods"].sum(), 1))
        worst = table(found[found["missing"] > 0].head(WORST))
        passed = share <= limits.gaps
        return AssetCheckResult(passed=passed, severity=WARN, metadata={"share missing": share, "most gaps": worst})

    @asset_check(asset=key, description="The last label is as new as it should be.")
    def freshness(lake: Lake) -> AssetCheckResult:
        features = current_features(lake)
        timeline, allowed = features.profile.times, limits.freshness or 2 * features.recipe.horizon
        now = pd.Timestamp.now(tz="UTC").tz_localize(None)
        late = timeline.calendar.periods_since(timeline.last_label, now)
        metadata: dict[str, Any] = {"last label": str(timeline.last_label), "periods since": late, "allowed": allowed}
        return AssetCheckResult(passed=late <= allowed, severity=WARN, metadata=metadata)

    return [segments_since_last, gaps, freshness] if settings.time else [segments_since_last]
