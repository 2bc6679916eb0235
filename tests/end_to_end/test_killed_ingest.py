"""SIGKILL at every step of ingest and features: what was committed stays readable, and the next run completes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from assets.features.publish import FEATURES, QUARANTINE, SEGMENTS, current_features, publish_features
from assets.raw.ingest import ingest
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.settings import REPOSITORY_ROOT, read_settings
from resources.spark import Spark
from tests.cycle import minimal, sales

MOST_STEPS = 60
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT)}


def bring(folder: Path, name: str, table: pd.DataFrame, suffix: str) -> None:
    (folder / "in").mkdir(parents=True, exist_ok=True)
    path = folder / "in" / f"{name}.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path, index=False)


Jvm = dict[str, str]


@pytest.fixture(scope="module")
def jvm() -> Iterator[Jvm]:
    """How to reach a JVM that every killed process uses anew."""
    command = [sys.executable, "-m", "tests.end_to_end.killed", "--jvm"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY_ROOT, env=ENVIRONMENT) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        port, secret = started.stdout.readline().split()
        yield {"PYSPARK_GATEWAY_PORT": port, "PYSPARK_GATEWAY_SECRET": secret}
        started.stdin.close()


def killed_at(folder: Path, step: int, jvm: Jvm) -> int | None:
    """Runs ingest and features in a process killed at a step; gives how many there were where it was not."""
    command = [sys.executable, "-m", "tests.end_to_end.killed", str(folder / "fleet.yaml"), str(step)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY_ROOT, env=ENVIRONMENT | jvm, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def complete(folder: Path, spark: Spark) -> None:
    """The next run, in this process."""
    settings = read_settings(folder / "fleet.yaml")
    ingest(Lake(uri=settings.lake), spark, settings)
    publish_features(Lake(uri=settings.lake), spark, settings)


def state(folder: Path) -> dict[str, Any]:
    """What a reader finds: rows of the tables, every one of them read."""
    lake = Lake(uri=read_settings(folder / "fleet.yaml").lake)
    found: dict[str, Any] = {}
    for name in (RAW, FEATURES, QUARANTINE):
        table = lake.table(name)
        found[name] = table.arrow().num_rows if table.exists() else None
        assert table.row_count() == (found[name] or 0)
    found["digest"] = current_features(lake).digest if found[FEATURES] else None
    found["segments"] = lake.table(SEGMENTS).arrow().num_rows if lake.table(SEGMENTS).exists() else None
    return found


# who reads the rows: of Parquet Spark and then workers by themselves, of CSV with a rule workers and then Spark
RULES = {"expectations": [{"name": "sold", "predicate": "sold < 1e6"}]}


@pytest.fixture(scope="module", params=[("parquet", {}), ("csv", RULES)], ids=["parquet", "csv"])
def first_week(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, jvm: Jvm) -> Path:
    """A folder with a lake of one snapshot, a second file that arrived, and a correction."""
    suffix, contract = request.param
    folder = tmp_path_factory.mktemp("killed") / "first"
    bring(folder, "a", sales(shops=2, days=40, ahead=0), suffix)
    document = {**minimal(), "source": {"path": "in", "format": suffix}, "contract": contract}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(document))
    assert killed_at(folder, MOST_STEPS, jvm)
    more = sales(shops=2, days=45, ahead=0)
    bring(folder, "b", more[more["day"] > "2024-02-05"].assign(weather="rain"), suffix)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_killed_at_any_step_loses_and_doubles_nothing(
    first_week: Path, tmp_path: Path, spark: Spark, jvm: Jvm
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(first_week, whole)
    before = state(whole)
    steps = killed_at(whole, MOST_STEPS, jvm)
    after = state(whole)
    assert steps is not None
    assert steps > 8
    assert after[RAW] == 80 + 18
    assert after[QUARANTINE] == 8
    for step in range(1, steps + 1):
        folder = tmp_path / f"step {step}"
        shutil.copytree(first_week, folder)
        assert killed_at(folder, step, jvm) is None
        found = state(folder)
        assert found[RAW] in (before[RAW], after[RAW]), step
        assert found["digest"] in (before["digest"], after["digest"]), step
        complete(folder, spark)
        assert state(folder) == after, step
        shutil.rmtree(folder)
