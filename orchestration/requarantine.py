"""The command `fleet requarantine`: the rules of today over every row of the last snapshot."""

from __future__ import annotations

from typing import Any

import pandas as pd

from resources.lake import Lake


def rows_by_state(lake: Lake) -> dict[str, int]:
    """Rows of the committed features by what became of them: `valid`, and each reason of the quarantine."""
    from assets.features.publish import FEATURES

    rows: dict[str, Any] = lake.table(FEATURES).record().get("rows", {})
    return {"valid": rows.get("valid", 0), **rows.get("by_reason", {})}


def moved_rows(before: dict[str, int], after: dict[str, int]) -> pd.DataFrame:
    """How many rows were in each state and are now: `state`, `before`, `after`."""
    states = ["valid", *sorted({*before, *after} - {"valid"})]
    return pd.DataFrame([(s, before.get(s, 0), after.get(s, 0)) for s in states], columns=["state", "before", "after"])
