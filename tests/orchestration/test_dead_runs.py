"""Runs whose process was killed: marked as failed by the next one, and their places in pools given back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from dagster import DagsterInstance, DagsterRunStatus, job, op

from orchestration import run_job
from orchestration.dead_runs import PROCESS_TAG, fail_dead_runs, process_tag
from tests.looking import small_settings


@op
def nothing() -> None: ...


@job
def some_job() -> None:
    nothing()


@pytest.fixture
def instance() -> DagsterInstance:
    return DagsterInstance.ephemeral()


def started(instance: DagsterInstance, tag: str) -> str:
    run = instance.create_run_for_job(some_job, tags={PROCESS_TAG: tag}, status=DagsterRunStatus.STARTED)
    return run.run_id


def tag_of_a_dead_process() -> str:
    code = "from orchestration.dead_runs import process_tag; print(process_tag())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_run_whose_process_is_gone_is_failed_and_gives_its_slot_back(instance: DagsterInstance) -> None:
    run_id = started(instance, tag_of_a_dead_process())
    pools = instance.event_log_storage
    pools.set_concurrency_slots("promotion", 1)
    assert pools.claim_concurrency_slot("promotion", run_id, "step").is_claimed
    assert not pools.claim_concurrency_slot("promotion", "another", "step").is_claimed
    assert fail_dead_runs(instance) == [run_id]
    assert instance.get_run_by_id(run_id).status == DagsterRunStatus.FAILURE
    assert pools.claim_concurrency_slot("promotion", "another", "step").is_claimed
    assert fail_dead_runs(instance) == []


@pytest.mark.parametrize("change", [lambda tag: tag, lambda tag: f"another-{tag}", lambda _: "", lambda _: "nonsense"])
def test_runs_that_may_be_alive_are_left_alone(instance: DagsterInstance, change: object) -> None:
    started(instance, change(process_tag()))  # type: ignore[operator]
    assert fail_dead_runs(instance) == []


def test_a_number_given_to_another_process_is_not_taken_for_the_old_one(instance: DagsterInstance) -> None:
    host, _, process = process_tag().rpartition(":")[0].rpartition(":")
    assert process == str(os.getpid())
    run_id = started(instance, f"{host}:{process}:1")
    assert fail_dead_runs(instance) == [run_id]


def test_a_run_of_a_terminal_is_not_retried_by_a_daemon(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who interrupts or kills it does so knowingly."""
    seen: dict[str, str] = {}
    monkeypatch.setattr("dagster.execute_job", lambda *_, tags, **__: seen.update(tags))
    run_job._execute(small_settings(), instance, "weekly_cycle", {})
    assert (seen["dagster/max_retries"], seen["fleet"]) == ("0", "tiny")
    assert PROCESS_TAG in seen
