"""The sensor that tells of runs that failed, and of checks that failed in runs that went on: one message a run."""

import time
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    RunsFilter,
    RunStatusChangeRecordsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.event_api import RunStatusChangeEventType

from orchestration.sensors.intervals import SECONDS_BETWEEN_LOOKS
from orchestration.sensors.outbox import Cursor, tell
from orchestration.sensors.run_message import is_of_fleet, message_of
from resources.notifier import Notifier
from resources.settings import Settings

ENDS: tuple[RunStatusChangeEventType, ...] = (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS)
RUNS_A_LOOK = 25
SEEN, REMEMBERED = "seen", 100


def failures_sensor(settings: Settings, status: DefaultSensorStatus) -> SensorDefinition:
    """Sends one message about each run of the fleet that failed, or in which a check failed or segments did.

    Dagster's own `run_failure_sensor` moves on past a run whose message nobody took, and does not see runs of the
    command line; this one keeps what was not taken, and where it is in the log, in its cursor.
    """

    @sensor(
        name="failures",
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=status,
        description="Tells the owner (FLEET_NOTIFY) which runs, checks and segments failed, and where to look.",
    )
    def failures(context: SensorEvaluationContext, notifier: Notifier) -> SkipReason:
        cursor = Cursor.read(context.cursor)
        if not cursor.place:
            cursor.place = _newest(context.instance)
            return tell(context, notifier, cursor, [], "from now on runs that end are looked at")
        ended = [run for run in _ended(context.instance, cursor) if is_of_fleet(run, settings.name)]
        standing, now = cursor.place.setdefault("standing", {}), time.time()
        found = [message_of(context.instance, run, settings, standing, now) for run in ended]
        return tell(context, notifier, cursor, [message for message in found if message], "nothing failed")

    return failures


def _newest(instance: DagsterInstance) -> dict[str, Any]:
    """Where the log ends, for each way that a run can end; what is older is not told."""
    newest = {kind: instance.fetch_run_status_changes(kind, limit=1).records for kind in ENDS}
    return {kind.value: records[0].storage_id if records else 0 for kind, records in newest.items()}


def _ended(instance: DagsterInstance, cursor: Cursor) -> list[DagsterRun]:
    """Runs that ended since the last look, as they are now; the cursor's place moves past them.

    A run may be said to have ended twice, by itself and by whoever found it dead.
    """
    run_ids: list[str] = []
    for kind in ENDS:
        after = RunStatusChangeRecordsFilter(kind, after_storage_id=cursor.place[kind.value])
        records = instance.fetch_run_status_changes(after, limit=RUNS_A_LOOK, ascending=True).records
        if records:
            cursor.place[kind.value] = records[-1].storage_id
            run_ids += [record.event_log_entry.run_id for record in records]
    before = cursor.place.get(SEEN, [])
    new = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in before]
    cursor.place[SEEN] = [*before, *new][-REMEMBERED:]
    known = {run.run_id: run for run in instance.get_runs(RunsFilter(run_ids=new))} if new else {}
    return [known[run_id] for run_id in new if run_id in known]
