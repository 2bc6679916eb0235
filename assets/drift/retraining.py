"""Which segments are to be retrained for a verdict on drift: those alarmed, but for those that were just retrained."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from assets.drift.verdict import DriftVerdict
from assets.features.publish import SEGMENTS, current_features
from assets.models.selection import keep_selection
from assets.models.store import SELECTION, Training, listing_of, trainings
from assets.raw.parse import KEY
from resources.lake import Lake
from resources.monitoring import Drift

EVIDENCE, ASKED_AT = "evidence", "asked_at"
NOT_YET, EVER = 1 << 61, 1 << 62


@dataclass(frozen=True)
class Due:
    """Alarmed segments that are to be retrained, sorted; with `whole_fleet` all others too. `why_not`: if none is."""

    segments: pa.Array
    whole_fleet: bool = False
    why_not: str | None = None


def due_segments(lake: Lake, verdict: DriftVerdict, rules: Drift, now: datetime, *, again: bool = False) -> Due:
    """What a verdict asks for at a time (UTC), by the trainings that the lake remembers.

    An alarm is over for whoever was trained on the rows that it is about, promoted or not: it is the same evidence. Nor
    is due what was retrained for drift less than `rules.cooldown` days ago. Where that leaves more than
    `rules.fleet_share` of the segments judged, the whole fleet is due. What was trained for just this verdict counts
    for nothing where it is asked `again`, because that run died.
    """
    alarmed, judged_on = _alarms(verdict), verdict.table.record(verdict.version)["features_version"]
    if not len(alarmed):
        return _none("no segment is alarmed")
    cools = now - timedelta(days=rules.cooldown)
    for training in trainings(lake).values():
        if again and _evidence(training) == verdict.digest:
            continue
        lately = training.record["features_version"] >= judged_on or _is_cooling(training, verdict, cools)
        alarmed = _without_known(lake, alarmed, training, EVER if lately else training.record["trained_through"])
    left = _still_there(lake, alarmed)
    if not len(left):
        return _none(f"those alarmed were trained on these rows, or for drift less than {rules.cooldown:g} days ago")
    return Due(left["segment"].combine_chunks(), whole_fleet=len(left) > rules.fleet_share * verdict.judged)


def keep_due(lake: Lake, verdict: DriftVerdict, due: Due, now: datetime) -> int:
    """Keeps what is due in the lake, with the evidence and the time, and gives the number to ask for it by."""
    why = {EVIDENCE: verdict.digest, "drift_version": verdict.version, ASKED_AT: now.isoformat()}
    return keep_selection(lake, None if due.whole_fleet else due.segments, why)


def _none(why: str) -> Due:
    return Due(pa.array([], pa.string()), why_not=why)


def _evidence(training: Training) -> str | None:
    """The evidence of drift that a training was asked for by."""
    return (training.record.get(SELECTION) or {}).get(EVIDENCE)


def _is_cooling(training: Training, verdict: DriftVerdict, after: datetime) -> bool:
    if _evidence(training) in (None, verdict.digest):
        return False
    return datetime.fromisoformat(training.record[SELECTION][ASKED_AT]) > after


def _alarms(verdict: DriftVerdict) -> pa.Table:
    """A row (segment, since) for each alarm, sorted; `since` is the last period of the rows that it is about.

    Live errors alarm at any time, so that only a training on the rows that were judged knows what they say.
    """
    rows = verdict.table.arrow(["segment", "alarmed", "since", "why"], version=verdict.version)
    alarmed = rows.filter(rows["alarmed"]).sort_by("segment")
    since = pc.if_else(pc.equal(alarmed["why"], "error"), NOT_YET, alarmed["since"])
    return pa.table({"segment": alarmed["segment"], "since": since})


def _without_known(lake: Lake, alarmed: pa.Table, training: Training, through: int) -> pa.Table:
    """The alarms that are not about periods up to `through` of the training's segments."""
    seen = pc.less_equal(alarmed["since"], through)
    if not pc.any(seen).as_py():
        return alarmed
    if not training.covers_all:
        seen = pc.and_(seen, pc.is_in(alarmed["segment"], listing_of(lake, training)["segment"].combine_chunks()))
    return alarmed.filter(pc.invert(seen))


def _still_there(lake: Lake, alarmed: pa.Table) -> pa.Table:
    version = current_features(lake).record["segments_version"]
    known = lake.table(SEGMENTS).arrow(columns=[KEY], version=version)[KEY].combine_chunks()
    return alarmed.filter(pc.is_in(alarmed["segment"], known))
