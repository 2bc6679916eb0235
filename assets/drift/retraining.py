"""Which segments are to be retrained for a verdict on drift: those alarmed, but for those that were just retrained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from assets.drift.verdict import DriftVerdict
from assets.features.publish import SEGMENTS, current_features
from assets.models.selection import keep_selection
from assets.models.store import BESIDE, SELECTION, Training, listing_of, trainings
from assets.raw.parse import KEY
from resources.lake import Lake
from resources.monitoring import Drift

EVIDENCE, ASKED_AT = "evidence", "asked_at"


@dataclass(frozen=True)
class Due:
    """Alarmed segments that are to be retrained, sorted; with `whole_fleet` all others too. `why_not`: if none is."""

    segments: pa.Array
    whole_fleet: bool = False
    why_not: str | None = None


def due_segments(lake: Lake, verdict: DriftVerdict, rules: Drift, now: datetime, *, again: bool = False) -> Due:
    """What a verdict asks for at a time (UTC), by the trainings that the lake remembers.

    Nothing is due that was trained on the rows that drifted, nor what was retrained for other evidence less than
    `rules.cooldown` days ago. Of more than `rules.fleet_share` of the segments the whole fleet is due. What was trained
    for this very evidence counts for nothing where it is asked `again`, because that run died.
    """
    known = [t for t in trainings(lake).values() if not (again and _evidence(t) == verdict.digest)]
    judged_on = verdict.table.record(verdict.version)["features_version"]
    since = [t for t in known if t.record["features_version"] >= judged_on and not t.record.get(BESIDE)]
    if any(training.covers_all for training in since):
        return _none("the fleet was trained on these rows")
    cooling = [t for t in known if _is_cooling(t, verdict, now - timedelta(days=rules.cooldown))]
    if any(training.covers_all for training in cooling):
        return _none(f"the fleet was retrained for drift less than {rules.cooldown:g} days ago")
    drifted = verdict.drifted()
    left = _without(_still_there(lake, drifted), _segments_of(lake, [*since, *cooling]))
    if not len(left):
        return _none("no segment is alarmed" if not len(drifted) else _just_trained(rules))
    return Due(left, whole_fleet=verdict.share > rules.fleet_share)


def keep_due(lake: Lake, verdict: DriftVerdict, due: Due, now: datetime) -> int:
    """Keeps what is due in the lake, with the evidence and the time, and gives the number to ask for it by."""
    why = {EVIDENCE: verdict.digest, "drift_version": verdict.version, ASKED_AT: now.isoformat()}
    return keep_selection(lake, None if due.whole_fleet else due.segments, why)


def _none(why: str) -> Due:
    return Due(pa.array([], pa.string()), why_not=why)


def _just_trained(rules: Drift) -> str:
    return f"those alarmed were trained on these rows, or retrained for drift less than {rules.cooldown:g} days ago"


def _evidence(training: Training) -> str | None:
    """The evidence of drift that a training was asked for by."""
    return (training.record.get(SELECTION) or {}).get(EVIDENCE)


def _is_cooling(training: Training, verdict: DriftVerdict, after: datetime) -> bool:
    if _evidence(training) in (None, verdict.digest):
        return False
    return datetime.fromisoformat(training.record[SELECTION][ASKED_AT]) > after


def _segments_of(lake: Lake, some: Iterable[Training]) -> pa.Array:
    """Segments of trainings that are not of all; one listing in memory at a time."""
    parts = {t.id: listing_of(lake, t)["segment"].combine_chunks() for t in some if not t.covers_all}
    return pa.concat_arrays(list(parts.values())) if parts else pa.array([], pa.string())


def _still_there(lake: Lake, segments: pa.Array) -> pa.Array:
    version = current_features(lake).record["segments_version"]
    known = lake.table(SEGMENTS).arrow(columns=[KEY], version=version)[KEY].combine_chunks()
    return segments.filter(pc.is_in(segments, known))


def _without(segments: pa.Array, others: pa.Array) -> pa.Array:
    return segments.filter(pc.invert(pc.is_in(segments, others)))
