"""What a weekly run does with the last evaluation: promotes it, lets it wait, refuses it, or leaves all as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from assets.champions.approval import expire, expiry
from assets.champions.gate import Decision
from assets.champions.listing import OUTCOME, PROMOTED, fleet_listing, outcomes_of
from assets.champions.registry import (
    Fleet,
    Word,
    end_challenge,
    make_challenger,
    make_champion,
    moved_from,
    now,
    register,
    settle,
    withdraw,
)
from assets.evaluation.incumbent import (
    EXPIRED,
    PENDING,
    REJECTED,
    SHADOW,
    STATUS,
    WITHDRAWN,
    Champion,
    published_fleet,
    standing,
)
from assets.evaluation.judge import Evaluation
from assets.evaluation.live_summary import metric_of_live
from assets.evaluation.shadow import shadow_verdict
from assets.models.store import UNKNOWN, trainings
from assets.models.wholeness import missing_files, set_aside_corrupt
from resources.judging import Promotion
from resources.lake import Lake
from resources.mlflow import CHALLENGER, Mlflow

REFUSED, UNCHANGED = "refused", "unchanged"
GATE = "gate"


@dataclass(frozen=True)
class Outcome:
    """What came of it (`promoted`, `pending`, `refused`, `unchanged`, `withdrawn` ...), why, and who serves now.

    `listing`: the fleet that was decided on, with the `outcome` of each segment; `record`: that of its evaluation.
    """

    what: str
    reasons: tuple[str, ...]
    serving: Champion | None
    listing: pa.Table | None = None
    record: dict[str, Any] | None = None


def promote(
    lake: Lake, mlflow: Mlflow, promotion: Promotion, judged: Evaluation, decision: Decision, report: str = ""
) -> Outcome:
    """Carries out the gate's decision on an evaluation as `promotion` in fleet.yaml says.

    What a person rolled back, rejected or let expire is not promoted again by the same evaluation.
    """
    settle(mlflow)
    expire(mlflow)
    serving = standing(lake, mlflow).champion
    _note_moved_away(mlflow, serving)
    shadow = end_shadow(lake, mlflow, promotion, judged.record["metric"], serving)
    if shadow is None:
        return _decided(lake, mlflow, promotion, judged, decision, serving, report)
    if shadow.what not in (PROMOTED, REJECTED):
        return shadow
    outcome = _decided(lake, mlflow, promotion, judged, decision, shadow.serving, report)
    outcome = replace(outcome, reasons=(*shadow.reasons, *outcome.reasons))
    return replace(outcome, what=PROMOTED, listing=shadow.listing, record=None) if shadow.what == PROMOTED else outcome


def _decided(
    lake: Lake,
    mlflow: Mlflow,
    promotion: Promotion,
    judged: Evaluation,
    decision: Decision,
    serving: Champion | None,
    report: str,
) -> Outcome:
    if serving is not None and serving.tags.get("evaluation") == judged.digest:
        why = f"version {serving.version} is this evaluation's"
        return Outcome(UNCHANGED, (why,), serving, serving.listing, judged.record)
    refused = _refused(lake, judged), judged.record
    if known := _known(mlflow, judged.digest):
        return Outcome(known[STATUS], (_said(known),), serving, *refused)
    if not decision.promote:
        return Outcome(REFUSED, decision.reasons, serving, *refused)
    fleet = challenger_fleet(lake, mlflow, judged, decision, serving, report)
    if lost := _lost_models(lake, fleet.listing):
        return Outcome(REFUSED, (lost,), serving, *refused)
    version = register(lake, mlflow, fleet)
    if promotion.shadow and serving is not None:
        make_challenger(mlflow, version, SHADOW, {})
        waits = f"version {version} forecasts beside version {serving.version} for a week"
        return Outcome(SHADOW, (*decision.reasons, waits), serving, fleet.listing, judged.record)
    outcome = _let_through(lake, mlflow, promotion, version, decision.reasons, fleet.listing, serving)
    return replace(outcome, record=judged.record)


def end_shadow(
    lake: Lake, mlflow: Mlflow, promotion: Promotion, metric: str, serving: Champion | None
) -> Outcome | None:
    """What comes of the version that forecasts beside the champion: it goes on, is rejected, or is let through.

    None where there is none. A newer challenger waits until the older one's week is over.
    """
    waiting = mlflow.aliased(CHALLENGER)
    if waiting is None or waiting.get(STATUS) != SHADOW:
        return None
    number = waiting["version"]
    challenger = published_fleet(lake, waiting, never_served=True)
    if isinstance(challenger, str):
        end_challenge(mlflow, number, REJECTED, Word(SHADOW, challenger))
        return Outcome(REJECTED, (challenger,), serving)
    verdict = shadow_verdict(lake, challenger, serving, promotion.shadow, metric=metric_of_live(metric))
    if not verdict.ready:
        said = f"version {number} goes on forecasting beside the champion"
        return Outcome(SHADOW, (said, *verdict.reasons), serving, challenger.listing)
    if not verdict.passed:
        end_challenge(mlflow, number, REJECTED, Word(SHADOW, "; ".join(verdict.reasons)))
        return Outcome(REJECTED, verdict.reasons, serving, challenger.listing)
    return _let_through(lake, mlflow, promotion, number, verdict.reasons, challenger.listing, serving)


def _let_through(
    lake: Lake,
    mlflow: Mlflow,
    promotion: Promotion,
    version: str,
    reasons: tuple[str, ...],
    listing: pa.Table,
    serving: Champion | None,
) -> Outcome:
    """A version that has passed whatever judges by itself: it serves, or waits for a person."""
    if promotion.mode == "manual":
        make_challenger(mlflow, version, PENDING, expiry(promotion.expires))
        return Outcome(PENDING, (*reasons, _waits(version)), serving, listing)
    make_champion(mlflow, version, Word(GATE, "; ".join(reasons)))
    return Outcome(PROMOTED, reasons, _fleet(lake, mlflow, version), listing)


def challenger_fleet(
    lake: Lake, mlflow: Mlflow, judged: Evaluation, decision: Decision, serving: Champion | None, report: str
) -> Fleet:
    """The fleet of an evaluation as it is registered: its rows, but for segments that are kept or pinned."""
    rows, record = judged.rows(lake), judged.record
    listing = fleet_listing(rows, serving.listing if serving else None, decision.kept, now().date())
    tags = {
        "evaluation": judged.digest,
        "training": record["training"],
        "raw_digest": record["raw_digest"],
        "recipe_digest": record["recipe_digest"],
        "configuration_digest": record.get("configuration_digest", UNKNOWN),
        "trained_through": record["last_label"] or "",
    }
    return Fleet(listing, tags, _description(listing, record, decision, mlflow.run_url(), report), record)


def _refused(lake: Lake, judged: Evaluation) -> pa.Table:
    rows = fleet_listing(judged.rows(lake), None, None, now().date())
    outcome = pa.array([REFUSED] * len(rows), pa.string())
    return rows.set_column(rows.column_names.index(OUTCOME), rows.schema.field(OUTCOME), outcome)


def _lost_models(lake: Lake, listing: pa.Table) -> str | None:
    known = trainings(lake)
    set_aside_corrupt(lake, listing, known)
    lost = missing_files(lake, listing, known)
    return f"{len(lost):,} files of its models are lost or corrupt, such as {lost[0]}: fleet run" if lost else None


def _description(listing: pa.Table, record: dict[str, Any], decision: Decision, run: str, report: str) -> str:
    """What changed, error before and after, why, and where to look."""
    counts = ", ".join(f"{count:,} segments {name}" for name, count in outcomes_of(listing).items() if count)
    before, after = (record["errors"].get(name) for name in ("incumbent", "served"))
    errors = f"{record['metric']} {_shown(before)} before, {_shown(after)} after, on the same holdout"
    links = [f"run: {run}", f"snapshot: {record['raw_digest']}", *([f"report: {report}"] if report else [])]
    return "\n\n".join([f"{counts}; {errors}.", "; ".join(decision.reasons) + ".", "  \n".join(links)])


def _note_moved_away(mlflow: Mlflow, serving: Champion | None) -> None:
    """Who moves the alias in MLflow rolls back: what it was moved away from is not promoted again."""
    said = moved_from(mlflow)
    if said is None or serving is None or said.get(STATUS) == WITHDRAWN or str(serving.version) == said["version"]:
        return
    word = Word("somebody in MLflow", f"the alias was moved to version {serving.version} by hand")
    withdraw(mlflow, said["version"], word)


def _shown(error: float | None) -> str:
    return "none" if error is None else f"{error:.4f}"


def _known(mlflow: Mlflow, evaluation: str) -> dict[str, str] | None:
    """The version of an evaluation that waits, or that a person decided against."""
    waiting = mlflow.aliased(CHALLENGER)
    for tags in mlflow.versions():
        if tags.get("evaluation") != evaluation:
            continue
        if tags.get(STATUS) in (REJECTED, EXPIRED, WITHDRAWN):
            return tags
        if tags.get(STATUS) == PENDING and waiting is not None and waiting["version"] == tags["version"]:
            return tags
    return None


def _said(tags: dict[str, str]) -> str:
    status = tags[STATUS]
    if status == PENDING:
        return _waits(tags["version"])
    by, note = tags.get(f"{status}_by", "nobody"), tags.get(f"{status}_note", "")
    return f"version {tags['version']} was {status} by {by}" + (f": {note}" if note else "")


def _waits(version: str) -> str:
    return f"version {version} waits for approval: fleet promote {version} --by NAME"


def _fleet(lake: Lake, mlflow: Mlflow, version: str) -> Champion:
    fleet = published_fleet(lake, mlflow.version(version) or {})
    assert isinstance(fleet, Champion), fleet
    return fleet
