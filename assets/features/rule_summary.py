"""What became of the contract's rules: how often each was broken, and by which rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.features.publish import FeatureSet
from assets.raw.parse import NOTED, REASONS, SOURCE, parse_rows
from assets.raw.rules import Rule
from assets.raw.snapshot import RAW, read_snapshot
from assets.raw.source import FILE
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark

if TYPE_CHECKING:
    from pyspark.sql import Column

ROWS_A_RULE, LONGEST_ROW = 3, 300


def rule_table(rules: Iterable[Rule], record: dict[str, Any]) -> pd.DataFrame:
    """Each rule with the rows read that broke it: `rule`, `action`, `rows`, `share`, `tolerance`, `kept`.

    A rule that only drops, without a tolerance, is kept however many rows break it.
    """
    read = max(record["rows"]["read"], 1)
    rows = []
    for rule in rules:
        broken_by = record["by_rule"].get(rule.name, 0)
        tolerance = 1.0 if rule.tolerance is None and rule.action == "drop" else rule.tolerance or 0.0
        rows.append((rule.name, rule.action, broken_by, broken_by / read, tolerance, broken_by <= tolerance * read))
    return pd.DataFrame(rows, columns=["rule", "action", "rows", "share", "tolerance", "kept"]).astype({"kept": bool})


def rule_examples(
    lake: Lake, spark: Spark, settings: Settings, features: FeatureSet, rules: list[Rule]
) -> pd.DataFrame:
    """Some rows that break each rule: `rule`, `file`, `row`."""
    raw = read_snapshot(spark, lake.table(RAW), settings, features.record["raw_version"])
    parsed = parse_rows(raw, settings, features.profile.kinds)
    found: list[tuple[str, str, str]] = []
    for rule in rules:
        rows = parsed.where(_breaks(rule)).selectExpr(FILE, f"to_json({SOURCE}) as row").take(ROWS_A_RULE)
        found += [(rule.name, row[FILE].rpartition("/")[2], row["row"][:LONGEST_ROW]) for row in rows]
    return pd.DataFrame(found, columns=["rule", "file", "row"])


def _breaks(rule: Rule) -> Column:
    from pyspark.sql import functions as F

    return F.array_contains(REASONS if rule.action == "drop" else NOTED, rule.name)
