"""Checks on what the data say: each fails for what it is there to catch, with the offenders named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import AssetCheckResult, AssetChecksDefinition

from assets.features.checks import features_checks, quarantine_checks
from assets.features.facts import missing_periods, stability_index
from assets.features.publish import publish_features
from assets.raw.checks import raw_checks
from assets.raw.ingest import ingest
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales

KEYS: dict[str, Any] = {"features": {"known_ahead": ["price"]}, "horizon": 7, "checks": {"freshness": 100_000}}


def built(spark: Spark, fleet: Fleet) -> Fleet:
    ingest(fleet.lake, spark, fleet.settings)
    publish_features(fleet.lake, spark, fleet.settings)
    return fleet


def check(spark: Spark, fleet: Fleet, name: str) -> AssetCheckResult:
    builders = (raw_checks, features_checks, quarantine_checks)
    found: dict[str, AssetChecksDefinition] = {
        next(iter(c.check_keys)).name: c for build in builders for c in build(fleet.settings)
    }
    given = {"lake": fleet.lake, "spark": spark}
    wanted = found[name].required_resource_keys
    result = found[name](**{key: value for key, value in given.items() if key in wanted})
    assert isinstance(result, AssetCheckResult)
    return result


def said(result: AssetCheckResult, name: str) -> Any:
    return result.metadata[name].value


def test_rules_that_are_broken_too_often_fail_with_examples(spark: Spark, make_fleet: MakeFleet) -> None:
    expectations = [
        {"name": "cheap", "predicate": "price < 5", "action": "drop", "tolerance": 0.1},
        {"name": "any", "predicate": "price < 4", "action": "warn", "tolerance": 0.5},
        {"name": "few", "predicate": "sold < 300", "action": "warn"},
    ]
    fleet = built(spark, make_fleet(daily_sales(), **KEYS, contract={"expectations": expectations}))
    dropped = check(spark, fleet, "rules_drop")
    assert not dropped.passed
    examples = said(dropped, "examples") if "examples" in dropped.metadata else None
    assert examples is not None
    assert {record.data["rule"] for record in dropped.metadata["examples"].records} == {"expectation:cheap"}
    warned = check(spark, fleet, "rules_warn")
    assert not warned.passed
    rows = {record.data["rule"]: record.data for record in warned.metadata["rules"].records}
    assert rows["expectation:any"]["kept"] is True
    assert rows["expectation:few"]["kept"] is False
    assert {record.data["rule"] for record in warned.metadata["examples"].records} == {"expectation:few"}
    refused = check(spark, fleet, "share_refused")
    assert not refused.passed


def test_segments_columns_volume_and_label_since_the_last_snapshot(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(shops=4)
    fleet = built(spark, make_fleet(table, **KEYS))
    for name in ("segments_since_last", "new_columns", "volume", "label_distribution"):
        assert check(spark, fleet, name).passed, name
    check(spark, fleet, "nulls")
    other = table[table["shop"] != "shop 4"].assign(sold=lambda t: t["sold"] * 3, weather="rain")
    pd.concat([other] * 1).to_parquet(fleet.folder / "table.parquet", index=False)
    built(spark, fleet)
    vanished = check(spark, fleet, "segments_since_last")
    assert not vanished.passed
    assert said(vanished, "some that vanished") == ["shop 4"]
    columns = check(spark, fleet, "new_columns")
    assert not columns.passed
    assert said(columns, "new") == ["weather"]
    assert not check(spark, fleet, "label_distribution").passed
    assert check(spark, fleet, "volume").passed
    other.head(60).to_parquet(fleet.folder / "table.parquet", index=False)
    built(spark, fleet)
    assert not check(spark, fleet, "volume").passed


def test_gaps_nulls_and_age(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(shops=2)
    whole = built(spark, make_fleet(table, **KEYS))
    for name in ("gaps", "nulls", "freshness", "no_infinities"):
        assert check(spark, whole, name).passed, name
    holes = table[(table["shop"] != "shop 2") | ~table["day"].dt.day.between(5, 25)].assign(price=np.nan)
    fleet = built(spark, make_fleet(holes, **{**KEYS, "checks": {"gaps": 0.2}}, frequency="D"))
    gaps = check(spark, fleet, "gaps")
    assert not gaps.passed
    assert [record.data["segment"] for record in gaps.metadata["most gaps"].records] == ["shop 2"]
    nulls = check(spark, fleet, "nulls")
    assert not nulls.passed
    assert list(said(nulls, "over the limit")) == ["price"]
    assert not check(spark, fleet, "freshness").passed


def test_periods_without_a_row() -> None:
    segments = pd.DataFrame({"__segment": ["a", "b"], "__rows": [3, 5], "__first": [10, 10], "__last": [14, 14]})
    found = missing_periods(segments)
    assert found.to_dict("list") == {"segment": ["a", "b"], "missing": [2, 0], "periods": [5, 5]}


def test_the_stability_index_is_the_published_one() -> None:
    same = np.array([0.25, 0.25, 0.5])
    assert stability_index(same, same) == 0
    moved = np.array([0.5, 0.25, 0.25])
    assert stability_index(same, moved) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(2))
    assert stability_index(same, moved) == pytest.approx(stability_index(moved, same))
