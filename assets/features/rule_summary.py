"""What became of the contract's rules: how often each was broken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from assets.raw.rules import Rule


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
