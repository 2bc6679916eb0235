"""`make cluster`: what it prints is what `fleet.yaml` needs, and interrupted it leaves nothing running."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.cluster import free_port, waited_for
from resources.settings import REPOSITORY_ROOT
from tests.cluster.command import fleet
from tests.cycle import HORIZON, minimal, sales

pytestmark = [pytest.mark.slow, pytest.mark.proof]


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """What the Makefile starts, on other ports than a developer's own."""
    ports = ["--port", str(free_port()), "--ui-port", str(free_port())]
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cluster", *ports, "--memory", "1g"],
        cwd=REPOSITORY_ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def processes_of(folder: str) -> list[str]:
    """Commands of living processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [command] if folder in command else []
    return found


def test_a_fleet_runs_on_it_and_nothing_is_left_of_it(started: subprocess.Popen[str], tmp_path: Path) -> None:
    assert "python -m deploy.cluster" in (REPOSITORY_ROOT / "Makefile").read_text()
    assert started.stdout is not None
    said, _, logs = started.stdout.readline().partition("   # in fleet.yaml; logs in ")
    document = {**minimal(), **yaml.safe_load(said)}
    document["spark"] |= {"executor_memory": "512m", "memory": "1g", "conf": {"spark.sql.shuffle.partitions": 2}}
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(document))
    sales(3, 60).to_parquet(tmp_path / "table.parquet", index=False)
    fleet(tmp_path, "run")
    status = json.loads(re.search(r"\{.*\}", fleet(tmp_path, "status", "--json"), re.DOTALL)[0])
    assert status["forecasts"]["rows"] == 3 * HORIZON
    assert len(processes_of(logs.strip())) >= 2, "the workers"
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=60) == 0
    waited_for(lambda: not processes_of(logs.strip()), "the end of all workers")
