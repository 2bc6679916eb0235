"""A weekly cycle that did not begin is told once, counting the time that the daemon was up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.test_utils import create_run_for_test

from orchestration.sensors import late
from tests.inbox import Inbox, open_inbox
from tests.looking import Looking, small_settings

MINUTE, HOUR = 60.0, 3_600.0
CRON = {"cron": "0 3 * * 1", "timezone": "Asia/Tokyo"}
TICK = datetime(2030, 1, 6, 18, 0, tzinfo=UTC).timestamp()  # Monday at three in Tokyo


class Clock:
    """The time that the sensor sees."""

    def __init__(self) -> None:
        self.now = TICK - 2 * HOUR

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(late.time, "time", made.time)
    return made


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with open_inbox() as made:
        yield made


@pytest.fixture
def looking(inbox: Inbox, tmp_path: Path) -> Iterator[Looking]:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Looking("late_schedule", instance, small_settings(schedule=CRON), inbox.url)


def until(looking: Looking, clock: Clock, end: float) -> None:
    """Looks every five minutes."""
    while clock.now < end:
        looking.look()
        clock.now += 5 * MINUTE


def weekly_run(instance: DagsterInstance, status: DagsterRunStatus, name: str = "tiny") -> str:
    return create_run_for_test(instance, job_name="weekly_cycle", tags={"fleet": name}, status=status).run_id


def test_a_run_that_did_not_come_is_told_once_an_hour_after_its_time(
    looking: Looking, clock: Clock, inbox: Inbox
) -> None:
    until(looking, clock, TICK + HOUR)
    assert inbox.messages == []
    until(looking, clock, TICK + 5 * HOUR)
    [message] = inbox.messages
    assert message["title"] == "tiny: weekly_cycle is late"
    assert "at 2030-01-06 18:00 UTC; no run was asked for" in message["message"]


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTED, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED])
def test_a_run_that_came_is_not_missed_however_it_ended(
    looking: Looking, clock: Clock, inbox: Inbox, status: DagsterRunStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = weekly_run(looking.instance, status)
    monkeypatch.setattr(looking.instance, "get_runs", asked(looking.instance, run_id, created=TICK + MINUTE))
    until(looking, clock, TICK + 5 * HOUR)
    assert inbox.messages == []


def asked(instance: DagsterInstance, run_id: str, created: float):
    """The runs of an instance whose only run was made at another time than in truth."""
    run = instance.get_run_by_id(run_id)

    def get_runs(filters, *_, **__):
        assert (filters.job_name, filters.tags) == ("weekly_cycle", {"fleet": "tiny"})
        return [run] if created > filters.created_after.timestamp() else []

    return get_runs


def test_a_run_from_before_its_time_does_not_count(
    looking: Looking, clock: Clock, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = weekly_run(looking.instance, DagsterRunStatus.SUCCESS)
    monkeypatch.setattr(looking.instance, "get_runs", asked(looking.instance, run_id, created=TICK - HOUR))
    until(looking, clock, TICK + 2 * HOUR)
    assert len(inbox.messages) == 1


def test_a_run_that_waits_in_the_queue_is_late_too(
    looking: Looking, clock: Clock, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = weekly_run(looking.instance, DagsterRunStatus.STARTING)
    monkeypatch.setattr(looking.instance, "get_runs", asked(looking.instance, run_id, created=TICK + MINUTE))
    until(looking, clock, TICK + 2 * HOUR)
    [message] = inbox.messages
    assert f"run {run_id} waits" in message["message"]


def test_a_daemon_that_was_down_has_an_hour_to_make_up_for_it(looking: Looking, clock: Clock, inbox: Inbox) -> None:
    looking.look()
    clock.now = TICK + 10 * HOUR
    until(looking, clock, TICK + 11 * HOUR)
    assert inbox.messages == []
    until(looking, clock, TICK + 12 * HOUR)
    assert len(inbox.messages) == 1


def test_what_was_before_the_first_look_is_not_missed(looking: Looking, clock: Clock, inbox: Inbox) -> None:
    clock.now = TICK + MINUTE
    until(looking, clock, TICK + 5 * HOUR)
    assert inbox.messages == []


def test_each_week_is_told_of_for_itself(looking: Looking, clock: Clock, inbox: Inbox) -> None:
    for week in range(3):
        clock.now = TICK + week * 7 * 24 * HOUR - MINUTE
        until(looking, clock, clock.now + 3 * HOUR)
    assert len({message["message"] for message in inbox.messages}) == len(inbox.messages) == 3


def test_a_schedule_that_somebody_stopped_is_not_late(looking: Looking, clock: Clock, inbox: Inbox) -> None:
    location = RegisteredCodeLocationOrigin("fleet")
    origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin("weekly")
    stopped = InstigatorState(
        origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, ScheduleInstigatorData("0 3 * * 1")
    )
    looking.instance.add_instigator_state(stopped)
    until(looking, clock, TICK + 2 * HOUR)
    looking.instance.update_instigator_state(stopped.with_status(InstigatorStatus.RUNNING))
    until(looking, clock, TICK + 4 * HOUR)
    assert inbox.messages == []


def test_runs_are_found_in_a_real_instance() -> None:
    with DagsterInstance.ephemeral() as instance:
        past, future = datetime(2020, 1, 1, tzinfo=UTC).timestamp(), TICK
        assert late.why_late(instance, "tiny", past) == "no run was asked for: see the schedule's ticks"
        weekly_run(instance, DagsterRunStatus.STARTED, "other")
        assert late.why_late(instance, "tiny", past) is not None
        weekly_run(instance, DagsterRunStatus.STARTED)
        assert late.why_late(instance, "tiny", past) is None
        assert late.why_late(instance, "tiny", future) is not None
