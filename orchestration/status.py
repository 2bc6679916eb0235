"""The state of a fleet, read from the lake and the registry."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from assets.drift.verdict import latest_drift
from assets.evaluation.incumbent import Champion, published_champion
from assets.evaluation.judge import EVALUATION, latest_evaluation
from assets.evaluation.live_summary import live_status
from assets.features.publish import FEATURES
from assets.forecasts.publish import FORECASTS
from assets.models.line import FAILED, SKIPPED, TRAINED
from resources.lake import Lake
from resources.mlflow import Mlflow

CANDIDATES = ("challenger", "incumbent", "baseline", "served", "fleet")


def fleet_status(lake: Lake, mlflow: Mlflow) -> dict[str, Any]:
    """What `fleet status --json` prints; zeros or nulls before the first run."""
    return {
        "rows": _rows(lake),
        "segments": _segments(lake),
        "champion": _champion(published_champion(lake, mlflow)),
        "evaluation": _evaluation(lake),
        "forecasts": _forecasts(lake),
        "live": live_status(lake, _metric(lake)),
        "drift": _drift(lake),
    }


def _rows(lake: Lake) -> dict[str, Any]:
    nothing = {"read": 0, "valid": 0, "quarantined": 0, "by_reason": {}}
    return lake.table(FEATURES).record().get("rows", nothing)


def _segments(lake: Lake) -> dict[str, int]:
    found = lake.table(FEATURES).record().get("segments", 0)
    counts: dict[str, int] = {}
    if lake.table(EVALUATION).exists():
        counted = pc.value_counts(lake.table(EVALUATION).arrow(["status"])["status"]).to_pylist()
        counts = {row["values"]: row["counts"] for row in counted}
    return {"found": found, **{status: counts.get(status, 0) for status in (TRAINED, SKIPPED, FAILED)}}


def _champion(champion: Champion | None) -> dict[str, Any]:
    if champion is None:
        return {"version": None, "segments": 0, "trained_through": None}
    return {
        "version": champion.version,
        "segments": len(champion.listing),
        "trained_through": champion.tags["trained_through"] or None,
    }


def _evaluation(lake: Lake) -> dict[str, Any]:
    judged = latest_evaluation(lake)
    if judged is None:
        return {"metric": None, **dict.fromkeys(CANDIDATES), "holdout": {"start": None, "end": None}}
    errors = judged.record["errors"]
    return {
        "metric": judged.record["metric"],
        **{name: errors[name] for name in CANDIDATES},
        "holdout": judged.record["holdout"],
    }


def _drift(lake: Lake) -> dict[str, Any]:
    """The last verdict: of how many segments judged how many drifted, how many of these newly, by which time."""
    verdict = latest_drift(lake)
    if verdict is None:
        return {"judged": 0, "drifted": 0, "new": 0, "through": None}
    drifted = round(verdict.share * verdict.judged)
    return {"judged": verdict.judged, "drifted": drifted, "new": verdict.new, "through": verdict.through}


def _metric(lake: Lake) -> str:
    judged = latest_evaluation(lake)
    return judged.record["metric"] if judged else "wape"


def _forecasts(lake: Lake) -> dict[str, Any]:
    record = lake.table(FORECASTS).record()
    return {"rows": record.get("rows", 0), "start": record.get("start"), "end": record.get("end")}
