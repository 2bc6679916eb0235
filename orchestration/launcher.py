"""How runs are started in production: by the code server, which is asked afterwards whether they still live.

Dagster's own launcher reports no health: the code server notices a run process that dies, but nobody notices runs
that die with their code server (a machine that goes down, a container that is killed), and they stay "started" until
their time limit, holding their place in the queue. Dagster's run monitoring asks a launcher that can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import ConfigurableClassData, deserialize_value

from orchestration.dead_runs import PROCESS_TAG, is_dead


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, which can also tell that a run is gone.

    Works with `dagster api grpc`. `dagster code-server start` does not say which runs it has: nothing is told of those.
    """

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> WatchedRunLauncher:
        """Build the launcher from its entry in `dagster.yaml`."""
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a run that began is gone; one of which nothing can be known counts as running."""
        if is_dead(run.tags.get(PROCESS_TAG, "")):
            return CheckRunHealthResult(WorkerStatus.FAILED, "the process of the command line is gone")
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "nobody can be asked")
        try:
            said = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError:
            # it may be on its way back, or be one that does not answer this
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the code server does not answer")
        if said.serializable_error_info or run.run_id in said.current_runs:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "the code server has no such run: it was restarted meanwhile")
