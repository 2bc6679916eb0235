"""Which runs are known to be gone, and which are left alone because nothing can be known of them.

The code server that forgot a run is tested for real in `tests/end_to_end/test_production.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import serialize_value
from dagster._utils.error import SerializableErrorInfo

from orchestration.dead_runs import PROCESS_TAG, process_tag
from orchestration.launcher import WatchedRunLauncher
from tests.production import free_ports


@pytest.fixture
def instance() -> DagsterInstance:
    return DagsterInstance.ephemeral()


def health(instance: DagsterInstance, run: DagsterRun) -> WorkerStatus:
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(run).status


def started(instance: DagsterInstance, **tags: str) -> DagsterRun:
    return create_run_for_test(instance, job_name="weekly_cycle", tags=tags, status=DagsterRunStatus.STARTED)


def of_code_server(instance: DagsterInstance) -> DagsterRun:
    [port] = free_ports(1)
    return started(instance, **{GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": port})})


def test_a_run_of_the_command_line_is_gone_with_its_process(instance: DagsterInstance) -> None:
    code = "from orchestration.dead_runs import process_tag; print(process_tag())"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert health(instance, started(instance, **{PROCESS_TAG: gone})) == WorkerStatus.FAILED
    assert health(instance, started(instance, **{PROCESS_TAG: process_tag()})) == WorkerStatus.RUNNING


def test_a_run_that_nobody_can_be_asked_about_is_left_alone(instance: DagsterInstance) -> None:
    assert health(instance, started(instance)) == WorkerStatus.RUNNING
    assert health(instance, of_code_server(instance)) == WorkerStatus.RUNNING


ERROR = SerializableErrorInfo(message="it stumbled", stack=[], cls_name=None)


@pytest.mark.parametrize(("known", "error", "status"), [
    (True, None, WorkerStatus.RUNNING),
    (False, None, WorkerStatus.FAILED),
    (False, ERROR, WorkerStatus.RUNNING),
])  # fmt: skip
def test_a_run_is_gone_when_its_code_server_says_that_it_has_none_such(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch, known: bool, error: object, status: WorkerStatus
) -> None:
    run = of_code_server(instance)
    runs = [run.run_id] if known else ["another"]
    said = GetCurrentRunsResult(current_runs=runs, serializable_error_info=error)  # type: ignore[arg-type]
    monkeypatch.setattr(DagsterGrpcClient, "get_current_runs", lambda _: serialize_value(said))
    assert health(instance, run) == status
