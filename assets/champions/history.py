"""The registered versions of a fleet as people look at them: what became of each, who decided, and why."""

from __future__ import annotations

from typing import Any

import pandas as pd

from assets.evaluation.incumbent import APPROVED, CHAMPIONS, PUBLISHED, REPLACES, STATUS, Champion
from resources.lake import Lake
from resources.mlflow import CHALLENGER, CHAMPION, PREVIOUS, Mlflow

SHOWN = 20
# the newest word first: a version may be approved, withdrawn and restored
WORDS = ("restored", "withdrawn", "rejected", "expired", "superseded", "approved")
COLUMNS = ["version", "alias", "status", "replaced", "by", "at", "note", "trained through"]


def versions_table(mlflow: Mlflow, count: int = SHOWN) -> pd.DataFrame:
    """A row (see `COLUMNS`) for each of the newest registered versions, newest first."""
    aliases: dict[str, list[str]] = {}
    for alias in (CHAMPION, CHALLENGER, PREVIOUS):
        if (tags := mlflow.aliased(alias)) is not None:
            aliases.setdefault(tags["version"], []).append(alias)
    rows = [_row(tags, aliases) for tags in mlflow.versions()[:count] if PUBLISHED in tags]
    return pd.DataFrame(rows, columns=COLUMNS)


def evaluation_behind(lake: Lake, champion: Champion) -> dict[str, Any] | None:
    """The record of the evaluation that a version was promoted by; None where it was made of others."""
    records = lake.table(CHAMPIONS).records().values()
    found = next((record for record in records if record.get(PUBLISHED) == champion.tags[PUBLISHED]), {})
    return found if "errors" in found else None


def _row(tags: dict[str, str], aliases: dict[str, list[str]]) -> dict[str, str]:
    said = [(tags[f"{word}_at"], word) for word in WORDS if f"{word}_at" in tags]
    word = max(said)[1] if said else APPROVED
    return {
        "version": tags["version"],
        "alias": ", ".join(aliases.get(tags["version"], [])),
        "status": tags.get(STATUS, APPROVED),
        "replaced": tags.get(REPLACES, ""),
        "by": tags.get(f"{word}_by", ""),
        "at": tags.get(f"{word}_at", ""),
        "note": tags.get(f"{word}_note", ""),
        "trained through": tags.get("trained_through", ""),
    }
