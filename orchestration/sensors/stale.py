"""The sensor that tells of models that serve though they are old: those that came since were refused, or none came."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SkipReason, sensor
from dagster._utils.schedules import reverse_cron_string_iterator

from assets.champions.listing import PINNED_UNTIL
from assets.evaluation.incumbent import PUBLISHED, published_rows
from assets.models.store import TRAINING
from orchestration.sensors.intervals import SECONDS_BETWEEN_LOOKS
from orchestration.sensors.outbox import Cursor, tell
from orchestration.sensors.run_message import MOST_NAMED
from resources.lake import Lake
from resources.mlflow import CHAMPION, Mlflow
from resources.notifier import Message, Notifier
from resources.settings import Settings

LOOKS_AN_HOUR = 60
ROUNDS, LEAST_AGE = 4, 28.0
DAY = 86_400.0


@dataclass(frozen=True)
class Stale:
    """A training that still serves: when its newest model was fitted, and the segments it serves that nobody pinned."""

    training: str
    fitted: datetime
    segments: pa.Array


def stale_champions_sensor(settings: Settings, status: DefaultSensorStatus) -> SensorDefinition:
    """Sends one message about each training whose models still serve when they are too old."""
    limit = champion_age(settings)

    @sensor(
        name="stale_champions",
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS * LOOKS_AN_HOUR,
        default_status=status,
        description=f"Tells the owner (FLEET_NOTIFY) of models that serve for more than {limit:g} days.",
    )
    def stale_champions(context: SensorEvaluationContext, notifier: Notifier, lake: Lake, mlflow: Mlflow) -> SkipReason:
        cursor, champion = Cursor.read(context.cursor), mlflow.aliased(CHAMPION)
        rows = published_rows(lake, champion[PUBLISHED]) if champion and PUBLISHED in champion else None
        if champion is None or rows is None:
            return tell(context, notifier, cursor, [], "no version serves")
        found = stale_trainings(rows, datetime.now(UTC), limit)
        told = cursor.place.get("told", [])
        new = [each for each in found if each.training not in told]
        cursor.place = {"told": [each.training for each in found]}
        messages = [_message(settings.name, champion, len(rows), new)] if new else []
        return tell(context, notifier, cursor, messages, f"version {champion['version']}: no model is newly stale")

    return stale_champions


def champion_age(settings: Settings) -> float:
    """Days after which models that serve are stale: `notify.champion_age`, or what the schedule suggests."""
    if settings.notify.champion_age is not None:
        return settings.notify.champion_age
    cron, timezone = settings.schedule.cron, settings.schedule.timezone
    last = list(islice(reverse_cron_string_iterator(time.time(), cron, timezone), ROUNDS + 1))
    return max(LEAST_AGE, round((last[0] - last[-1]).total_seconds() / DAY))


def stale_trainings(listing: pa.Table, now: datetime, limit: float) -> list[Stale]:
    """Trainings in a champion's listing none of whose models is younger than `limit` days, the oldest first."""
    free = listing
    if PINNED_UNTIL in listing.column_names:  # a person wants these to be old
        pinned = pc.greater_equal(listing[PINNED_UNTIL], pa.scalar(_day(now)))
        free = listing.filter(pc.invert(pc.fill_null(pinned, False)))
    newest = listing.group_by(TRAINING).aggregate([("finished_at", "max")]).to_pylist()
    found = []
    for row in newest:
        fitted = row["finished_at_max"]
        if fitted is None or (now - fitted).total_seconds() <= limit * DAY:
            continue
        segments = free.filter(pc.equal(free[TRAINING], row[TRAINING]))["segment"].combine_chunks()
        found += [Stale(row[TRAINING], fitted, segments)] if len(segments) else []
    return sorted(found, key=lambda each: each.fitted)


def _day(now: datetime) -> date:
    return now.date()


def _message(name: str, champion: Mapping[str, str], total: int, stale: Sequence[Stale]) -> Message:
    lines = []
    for each in stale:
        named = ", ".join(each.segments.slice(0, MOST_NAMED).to_pylist())
        more = f" and {len(each.segments) - MOST_NAMED:,} more" if len(each.segments) > MOST_NAMED else ""
        lines.append(
            f"{len(each.segments):,} of {total:,} segments have models of {each.fitted:%Y-%m-%d}: {named}{more}"
        )
    why = "why no newer one took their place: asset champions, and fleet versions"
    title = f"{name}: models of version {champion['version']} are stale"
    return Message(title, "\n".join([*lines, why]), is_error=False)
