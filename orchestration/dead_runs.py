"""Runs of the command line whose process is gone: marked as failed, and their places in pools given back.

The daemon's run monitoring does so too while it is up (`orchestration.launcher`); it may not be.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

PROCESS_TAG = "fleet/process"


def process_tag() -> str:
    """Host, number and start of this process: enough to tell later whether it is still the same one."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def fail_dead_runs(instance: DagsterInstance) -> list[str]:
    """Marks runs of this host as failed whose process died without saying so, and gives their ids."""
    under_way = RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED])
    dead = [run for run in instance.get_runs(under_way) if is_dead(run.tags.get(PROCESS_TAG, ""))]
    for run in dead:
        instance.report_run_failed(run, "The process of this run is gone: it was killed, or the machine went down.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def is_dead(tag: str) -> bool:
    """Whether a process tag names a process of this host that is gone."""
    host, _, process = tag.rpartition(":")[0].rpartition(":")
    started = tag.rpartition(":")[2]
    return host == socket.gethostname() and process.isdigit() and _started(int(process)) != started


def _started(process: int) -> str:
    """When a process was started, in clock ticks since boot; empty if there is none. See proc(5), field 22 of stat."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
