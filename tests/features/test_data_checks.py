"""Checks on what the data say: each fails for what it is there to catch, with the offenders named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dagster import AssetCheckResult, AssetChecksDefinition

from assets.features import handed
from assets.features.checks import features_checks, quarantine_checks
from assets.features.contract import BUCKET
from assets.features.facts import feature_facts, missing_periods, stability_index
from assets.features.leak import Leaks, find_leaks
from assets.features.publish import FEATURES, current_features, publish_features
from assets.raw.checks import raw_checks
from assets.raw.ingest import ingest
from assets.raw.parse import KEY, PERIOD
from resources.files import write_parquet
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


def respoiled(fleet: Fleet, spoil: Any) -> None:
    """Commits the features once more, the first file of each bucket changed."""
    table = fleet.lake.table(FEATURES)
    with table.staging() as staging:
        for file in table.files():
            rows = spoil(pq.ParquetFile(file).read())
            write_parquet(rows, f"{staging.uri}/{'/'.join(file.split('/')[-2:])}")
        table.commit(staging, table.schema(), {**table.record(), "digest": "spoiled"}, partition_by=[BUCKET])


@pytest.mark.parametrize(
    ("spoil", "said_of_it"),
    [
        (lambda rows: pa.concat_tables([rows, rows.slice(5, 1)]), "at period"),
        (lambda rows: rows.set_column(0, "shop", rows["shop"]), None),
        (lambda rows: rows.set_column(rows.column_names.index(KEY), KEY, pa.array([f"other {n}" for n in range(len(rows))])), "in bucket"),
    ],
)  # fmt: skip
def test_rows_that_come_twice_and_segments_in_a_bucket_of_others(
    spark: Spark, make_fleet: MakeFleet, spoil: Any, said_of_it: str | None
) -> None:
    fleet = built(spark, make_fleet(daily_sales(shops=5), **KEYS))
    assert check(spark, fleet, "unique").passed
    respoiled(fleet, spoil)
    found = check(spark, fleet, "unique")
    assert found.passed is (said_of_it is None)
    assert found.passed or all(said_of_it in example for example in said(found, "examples"))


def test_facts_are_those_that_pandas_counts(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(shops=7, days=80).assign(kind=lambda t: np.where(t["price"] > 3, None, "x"))
    table.loc[::9, "price"] = np.nan
    features = {"known_ahead": ["price", "kind"]}
    fleet = built(spark, make_fleet(table, **{**KEYS, "features": features}))
    respoiled(fleet, lambda rows: rows.set_column(rows.column_names.index("price"), "price", infinite(rows["price"])))
    features_now = current_features(fleet.lake)
    found = feature_facts(fleet.lake, spark, features_now)
    history = fleet.lake.table(FEATURES).arrow().to_pandas()
    history = history[history[PERIOD] <= features_now.profile.last_period]
    assert found["rows"] == len(history) == 560
    assert found["nulls"] == pytest.approx({c: history[c].isna().mean() for c in features_now.recipe.features})
    assert found["nulls"]["kind"] > 0.3
    assert found["infinite"] == {"price": int(np.isinf(history["price"]).sum())}
    assert found["infinite"]["price"] > 50
    assert not check(spark, fleet, "no_infinities").passed
    points = np.linspace(0, 1, 101)
    assert found["label"] == pytest.approx(np.quantile(history["sold"], points, method="inverted_cdf"))


def infinite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, 2.0), float("-inf"), column)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("read_by", ["workers", "spark"])
def test_a_feature_that_looks_ahead_is_caught(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch, text: bool, read_by: str
) -> None:
    table = daily_sales(shops=25, days=80).assign(seen=lambda t: t["price"].astype(str) + (" x" if text else ""))
    table = pd.concat([table, table.iloc[: 3 * text]])  # with duplicates every row travels with its raw cells
    features = {"known_ahead": ["price"], "past_only": ["seen"], "lags": [7, 14]}
    fleet = built(spark, make_fleet(table, **{**KEYS, "features": features}))
    if read_by == "spark":
        monkeypatch.setattr(handed, "plain_reading", lambda *_: None)
    committed = current_features(fleet.lake)
    assert find_leaks(fleet.lake, spark, fleet.settings, committed) == Leaks({}, 20 * 80, 20)
    recipe = committed.recipe.model_copy(update={"lags": [6, 14]})  # the shortest is a period too short
    leaking = replace(committed, record={**committed.record, "recipe": recipe.model_dump()})
    found = find_leaks(fleet.lake, spark, fleet.settings, leaking)
    assert found == Leaks({"sold@lag_6": 20, "seen@lag_6": 20}, 20 * 80, 20)
