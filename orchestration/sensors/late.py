"""The sensor that tells of a weekly cycle that did not start when its schedule said."""

import time
from datetime import UTC, datetime
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._utils.schedules import get_latest_completed_cron_tick

from orchestration.jobs import WEEKLY_CYCLE
from orchestration.schedules import WEEKLY
from orchestration.sensors.intervals import SECONDS_BETWEEN_LOOKS
from orchestration.sensors.outbox import Cursor, tell
from resources.notifier import Message, Notifier
from resources.settings import Settings

# looks that are further apart than this mean that the daemon was down between them
MOST_BETWEEN_LOOKS = 600.0
NOT_STARTED = (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING)


def late_schedule_sensor(settings: Settings, status: DefaultSensorStatus) -> SensorDefinition:
    """Sends one message about each time of the schedule at which no weekly cycle began.

    Counted is the time that the daemon was up: after a pause the schedule makes up for what it missed.
    """

    @sensor(
        name="late_schedule",
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=status,
        description=f"Tells the owner (FLEET_NOTIFY) of a weekly cycle that is {settings.notify.late:g} minutes late.",
    )
    def late_schedule(context: SensorEvaluationContext, notifier: Notifier) -> SkipReason:
        cursor, now = Cursor.read(context.cursor), time.time()
        cursor.place = watched(cursor.place, now)
        tick = last_tick(settings, now).timestamp()
        if not is_overdue(cursor.place, tick, now, settings.notify.late * 60):
            return tell(context, notifier, cursor, [], "no run is overdue")
        cursor.place["told"] = tick
        if _is_stopped(context):
            return tell(context, notifier, cursor, [], "the schedule is stopped")
        why = why_late(context.instance, settings.name, tick)
        messages = [_message(settings, tick, why)] if why else []
        return tell(context, notifier, cursor, messages, "the last scheduled run began")

    return late_schedule


def watched(place: dict[str, Any], now: float) -> dict[str, Any]:
    """What is remembered at this look: the first look, since when looks came without a pause, and the last one."""
    paused = now - place.get("last", now) > MOST_BETWEEN_LOOKS
    since = now if paused else place.get("since", now)
    return {"first": now, "told": 0.0, **place, "since": since, "last": now}


def is_overdue(place: dict[str, Any], tick: float, now: float, late: float) -> bool:
    """Whether a time of the schedule is so many seconds past that its run must have begun, and was not looked at."""
    return place["first"] < tick and place["told"] < tick and now > max(tick, place["since"]) + late


def last_tick(settings: Settings, now: float) -> datetime:
    """The last time at which the schedule should have started a run."""
    schedule = settings.schedule
    return get_latest_completed_cron_tick(schedule.cron, datetime.fromtimestamp(now, UTC), schedule.timezone)


def why_late(instance: DagsterInstance, name: str, tick: float) -> str | None:
    """Why no weekly cycle began since a time, by whomever; None if one did."""
    since = RunsFilter(job_name=WEEKLY_CYCLE, tags={"fleet": name}, created_after=datetime.fromtimestamp(tick - 1, UTC))
    runs = instance.get_runs(since)
    if not runs:
        return "no run was asked for: see the schedule's ticks"
    if all(run.status in NOT_STARTED for run in runs):
        return f"run {runs[-1].run_id} waits: see the queue, and whether other runs hang"
    return None


def _is_stopped(context: SensorEvaluationContext) -> bool:
    """Whether a person stopped the schedule in the UI."""
    here = context.code_location_origin.location_name if context.code_location_origin else None
    return any(
        state.instigator_name == WEEKLY and state.status == InstigatorStatus.STOPPED
        for state in context.instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
        if here in (None, state.origin.repository_origin.code_location_origin.location_name)
    )


def _message(settings: Settings, tick: float, why: str) -> Message:
    when = datetime.fromtimestamp(tick, UTC)
    said = f"{WEEKLY_CYCLE} should have begun at {when:%Y-%m-%d %H:%M} UTC; {why}"
    return Message(f"{settings.name}: {WEEKLY_CYCLE} is late", f"{said}\n{settings.notify.ui.rstrip('/')}/automation")
