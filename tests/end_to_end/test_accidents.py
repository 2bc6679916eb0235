"""What goes wrong in the middle: a text source, a first fleet that is no good, a worker that dies, a process that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from dagster import AssetKey, DagsterInstance

from assets.models import train as train_module
from assets.models.bucket import SegmentRows
from assets.models.segment import fit_segment
from assets.models.shard import BOOSTERS
from assets.models.store import MODELS
from assets.models.worker import BucketTask, Plan, train_bucket
from resources.settings import REPOSITORY_ROOT
from resources.spark import Spark
from tests.cycle import HORIZON, House, give_store, house, sales
from tests.end_to_end.conftest import HOSTILE
from tests.lakes import pickled_by_value, shard_files


@pytest.mark.slow
def test_hostile_names_come_back_from_csv(tmp_path: Path, spark: Spark) -> None:
    home = house(tmp_path / "h", spark, source={"path": "table.csv"})
    home.bring(sales(HOSTILE, 60))
    assert home.run().success
    forecasts = home.forecasts()
    assert sorted(forecasts["shop"].unique()) == sorted(HOSTILE)
    assert len(forecasts) == HORIZON * len(HOSTILE)
    rows = len(HOSTILE) * (60 + HORIZON)
    assert home.status()["rows"] == {"read": rows, "valid": rows, "quarantined": 0, "by_reason": {}}
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(home.folder / "lake")]
    assert {path.name for path in outside} == {"fleet.yaml", "table.csv"}


def test_a_first_fleet_that_is_refused_leaves_the_baseline_to_forecast(tmp_path: Path, spark: Spark) -> None:
    """On the fold the price explains all, in the holdout it is turned round: the model is chosen, and vetoed."""
    table = sales(3, 60)
    late = table["day"] > table["day"].max() - 2 * HORIZON * (table["day"].iloc[1] - table["day"].iloc[0])
    season = table.groupby("shop")["sold"].shift(HORIZON)
    table["sold"] = np.where(late & table["sold"].notna(), season, table["sold"])
    home = house(tmp_path / "h", spark, table)
    give_store(home)
    result = home.run()
    assert result.success
    state = home.status()
    assert state["evaluation"]["served"] > state["evaluation"]["baseline"]
    assert state["champion"] == {"version": None, "segments": 0, "trained_through": None}
    forecasts = home.forecasts()
    assert len(forecasts) == 3 * HORIZON
    assert set(forecasts["model"]) == {"baseline"}
    assert forecasts["version"].isna().all()
    warned = [c.check_name for c in result.get_asset_check_evaluations() if not c.passed]
    assert "gate" in warned
    assert home.lake.table("champions").version() is None


def dies_once(flag: str, task: BucketTask, plan: Plan) -> Iterator[dict[str, Any]]:
    """The work of a bucket whose Spark worker, not just the child that fits, is killed after a segment, once."""
    for line in train_bucket(task, plan):
        if not os.path.exists(flag):
            with open(flag, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        yield line


def test_a_worker_that_is_killed_costs_a_retry_and_nothing_else(
    tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled_by_value(__name__)
    flag = str(tmp_path / "killed")
    monkeypatch.setattr(train_module, "train_bucket", partial(dies_once, flag))
    home = house(tmp_path / "h", spark, sales(4, 60))
    give_store(home)
    assert home.run().success
    assert os.path.exists(flag)
    models = home.lake.table(MODELS).arrow(columns=["segment", "status"]).to_pydict()
    assert sorted(models["segment"]) == [f"shop {n}" for n in range(4)]
    assert set(models["status"]) == {"trained"}
    assert home.lake.table(MODELS).version() == 0
    assert home.status()["champion"]["version"] == 1


def fit_dies_once(folder: str, rows: SegmentRows, *others: Any) -> dict[str, Any]:
    """A fit whose process is killed the first time, for every segment."""
    flag = Path(folder) / rows.key
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_segment(rows, *others)


def test_a_fit_that_is_killed_once_is_tried_again_and_the_run_does_not_notice(
    tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled_by_value(__name__)
    (tmp_path / "flags").mkdir()
    fit = partial(fit_dies_once, str(tmp_path / "flags"))
    monkeypatch.setattr(train_module, "train_bucket", partial(train_bucket, fit=fit))
    home = house(tmp_path / "h", spark, sales(4, 60))
    give_store(home)
    assert home.run().success
    assert sorted(path.name for path in (tmp_path / "flags").iterdir()) == [f"shop {n}" for n in range(4)]
    assert home.status()["segments"] == {"found": 4, "trained": 4, "skipped": 0, "failed": 0}
    assert home.status()["champion"]["version"] == 1


def command(home: House, *arguments: str) -> list[str]:
    config = str(home.folder / "fleet.yaml")
    return [
        sys.executable,
        "-c",
        "from orchestration.cli import main; main()",
        arguments[0],
        "--config",
        config,
        *arguments[1:],
    ]


def environment(home: House) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DAGSTER", "FLEET"))}
    return {**clean, "DAGSTER_HOME": str(home.folder / "dagster_home")}


def wait_for(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_training_leaves_the_last_state_and_the_next_one_completes(
    tmp_path: Path, spark: Spark
) -> None:
    home = house(tmp_path / "h", spark, sales(40, 60), model={"rounds": 4000, "params": {"min_data_in_leaf": 3}})
    shards = home.folder / "lake" / BOOSTERS
    run = subprocess.Popen(
        command(home, "run"),
        cwd=REPOSITORY_ROOT,
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert wait_for(lambda: run.poll() is not None or any(shards.rglob("*.parquet")), 180)
        assert run.poll() is None, "it ended before it could be killed"
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert home.commits()["features"] == 0
    assert home.commits()[MODELS] is None
    assert home.status()["champion"]["version"] is None
    left = {path for path in shard_files(home) if path.endswith(".parquet")}
    finished = {key for path in left for key in pq.read_table(f"{home.lake.root}/{path}")["segment"].to_pylist()}
    assert 0 < len(finished) < 40
    done = subprocess.run(
        command(home, "run"), cwd=REPOSITORY_ROOT, env=environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = subprocess.run(
        command(home, "status", "--json"),
        cwd=REPOSITORY_ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    state = json.loads(said.stdout)
    assert state["segments"] == {"found": 40, "trained": 40, "skipped": 0, "failed": 0}
    assert state["forecasts"]["rows"] == 40 * HORIZON
    rows = home.lake.table(MODELS).arrow(columns=["segment", "shard", "reused"]).to_pylist()
    assert len(rows) == len({row["segment"] for row in rows}) == 40
    assert {row["segment"] for row in rows if row["shard"] in left} == finished
    assert left < {row["shard"] for row in rows}
    assert not any(row["reused"] for row in rows), "none was committed before"
    with DagsterInstance.from_config(str(home.folder / "dagster_home")) as instance:
        marked = instance.get_materialized_partitions(AssetKey(["tiny", "segment_models"]))
    assert marked == {row["segment"] for row in rows}
    nothing_to_score = {"live_errors": None, "live_periods": None}
    assert home.commits() == {**dict.fromkeys(home.commits(), 0), **nothing_to_score}
    shutil.rmtree(home.folder)
