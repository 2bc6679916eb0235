"""The sensor that asks for one run that retrains the segments that drifted, and only them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assets.drift.retraining import Due, due_segments, keep_due
from assets.drift.verdict import DriftVerdict, latest_drift
from assets.models.asset import SEGMENT_MODELS
from orchestration.jobs import INGEST, RETRAIN_DRIFTED, WEEKLY_CYCLE
from orchestration.sensors.intervals import SECONDS_BETWEEN_LOOKS
from orchestration.sensors.landing import ATTEMPTS
from orchestration.sensors.outbox import Cursor, tell
from orchestration.sensors.run_message import DRIFTED_TAG, FLEET_TAG, MOST_NAMED, run_link
from resources.lake import Lake
from resources.notifier import Message, Notifier
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

EVIDENCE_TAG = "fleet/drift"
WHOLE = "all; drifted "
# while one of these runs, what drifted and what was trained on it is about to change
BUSY = (WEEKLY_CYCLE, INGEST, RETRAIN_DRIFTED)


def drift_sensor(
    settings: Settings, job: "UnresolvedAssetJobDefinition", status: DefaultSensorStatus
) -> SensorDefinition:
    """Asks for one run of `job` for each verdict on drift that leaves segments to be retrained.

    The run is told a number, under which the lake keeps which segments. One that died is asked for again, three times
    at most, for the same segments. What is remembered is in the runs' tags and in the lake's trainings.
    """

    @sensor(
        name="drift",
        job=job,
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=status,
        description="Retrains the segments that drifted, and only them; all, where too many did.",
    )
    def drift(context: SensorEvaluationContext, notifier: Notifier, lake: Lake) -> RunRequest | SkipReason:
        cursor, verdict = Cursor.read(context.cursor), latest_drift(lake)
        if verdict is None:
            return tell(context, notifier, cursor, [], "drift was not looked at yet, or nothing could be judged")
        runs, now = runs_for(context.instance, settings.name, verdict), datetime.now(UTC)
        new = runs and cursor.place.get("told") != verdict.digest
        cursor.place = {"told": verdict.digest} if new else cursor.place
        messages = [_message(settings, verdict, runs[-1])] if new else []
        if why := why_not_now(context.instance, settings.name, runs):
            return tell(context, notifier, cursor, messages, why)
        due = due_segments(lake, verdict, settings.drift, now, again=bool(runs))
        said = tell(context, notifier, cursor, messages, due.why_not or "")
        if due.why_not:
            return said
        return _again(runs) if runs else _request(settings, verdict, due, keep_due(lake, verdict, due, now))

    return drift


def runs_for(instance: DagsterInstance, name: str, verdict: DriftVerdict) -> list[DagsterRun]:
    """The runs that were asked for by a verdict's evidence, newest first."""
    tags = {FLEET_TAG: name, EVIDENCE_TAG: verdict.digest}
    return list(instance.get_runs(RunsFilter(job_name=RETRAIN_DRIFTED, tags=tags), limit=ATTEMPTS))


def why_not_now(instance: DagsterInstance, name: str, runs: list[DagsterRun]) -> str | None:
    """Why nothing is asked for, whatever drifted: it was before, or a run changes just now what is to be done."""
    if any(run.status == DagsterRunStatus.SUCCESS or not run.is_finished for run in runs):
        return "a run was asked for by this evidence"
    if len(runs) >= ATTEMPTS:
        return f"{ATTEMPTS} runs failed over this evidence: see their logs; new evidence sets off another"
    under_way = instance.get_runs(RunsFilter(tags={FLEET_TAG: name}, statuses=list(NOT_FINISHED_STATUSES)))
    busy = [run.job_name for run in under_way if run.job_name in BUSY]
    return f"{busy[0]} is under way" if busy else None


def _request(settings: Settings, verdict: DriftVerdict, due: Due, number: int) -> RunRequest:
    name, said = settings.name, f"{WHOLE}{_named(due)}" if due.whole_fleet else _named(due)
    # what changed for so many may have changed which parameters are right
    asked = {"search": True} if due.whole_fleet and settings.tuning.enabled else {}
    return RunRequest(
        run_key=f"{name}-{verdict.digest}-0",
        run_config={"ops": {f"{name}__{SEGMENT_MODELS}": {"config": {"selection": number, **asked}}}},
        tags={
            FLEET_TAG: name,
            EVIDENCE_TAG: verdict.digest,
            DRIFTED_TAG: said,
        },
    )


def _again(runs: Sequence[DagsterRun]) -> RunRequest:
    """What the run that died was asked for."""
    tags = {key: runs[0].tags[key] for key in (FLEET_TAG, EVIDENCE_TAG, DRIFTED_TAG)}
    key = f"{tags[FLEET_TAG]}-{tags[EVIDENCE_TAG]}-{len(runs)}"
    return RunRequest(run_key=key, run_config=runs[0].run_config, tags=tags)


def _named(due: Due) -> str:
    """How many segments are due, and the first of them by name."""
    named, more = ", ".join(due.segments.slice(0, MOST_NAMED).to_pylist()), len(due.segments) - MOST_NAMED
    return f"{len(due.segments):,}: {named}" + (f" and {more:,} more" if more > 0 else "")


def _message(settings: Settings, verdict: DriftVerdict, run: DagsterRun) -> Message:
    drifted, said = round(verdict.share * verdict.judged), run.tags[DRIFTED_TAG]
    is_alarm, lines = said.startswith(WHOLE), [f"retrained, judged, and promoted if not worse: {said}"]
    if is_alarm:
        limit = f"{settings.drift.fleet_share:.0%} (drift.fleet_share)"
        lines.append(f"More than {limit} drifted. Look at the source first: a unit, a join, a day that is missing?")
    body = "\n".join([*lines, run_link(settings, run.run_id)])
    return Message(f"{settings.name}: {drifted:,} of {verdict.judged:,} segments drifted", body, is_error=is_alarm)
