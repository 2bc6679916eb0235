"""A live proof: data with drift lands, and without any hand exactly the drifted segments get new models, and forecasts.

A Dagster daemon really runs, as a process with SQLite; the runs that it starts are processes of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import DagsterRun, DagsterRunStatus, RunsFilter

from assets.drift.verdict import latest_drift
from assets.evaluation.incumbent import Champion, published_champion
from assets.forecasts.publish import FORECASTS
from assets.models.store import latest_training, listing_of
from orchestration.event_log import BATCHING
from resources.notifier import NOTIFY_VARIABLE
from resources.settings import REPOSITORY_ROOT
from resources.spark import Spark
from tests.cycle import House, give_store, house
from tests.inbox import Inbox, open_inbox
from tests.instances import SQLITE, documented_settings, instance_of

pytestmark = pytest.mark.slow

SHOPS, DRIFTED = 200, [3, 41, 42, 97, 120, 163, 199]
FIRST_WEEKS, NEXT_WEEKS = 12, 1  # so many past windows as a current one is measured against
HORIZON = 7
KEYS: dict[str, Any] = {
    "source": {"path": "in", "format": "parquet", "watch": True},
    "horizon": HORIZON,
    "features": {"known_ahead": [], "past_only": ["footfall"], "lags": [HORIZON], "rolling": {"windows": [7]}},
    "model": {"rounds": 5},
    "evaluation": {"holdout": HORIZON, "season": 7, "minimum_history": 28},
    "schedule": {"enabled": False},
    # at the default of 5% a false alarm among so few is not rare; what drifts here is far beyond doubt
    "drift": {"rate": 0.001},
}
MOST_SECONDS = 240.0


def weeks(first: int, last: int, *, drifted: bool) -> pd.DataFrame:
    """Sales of all shops from one week to another; the drifted ones are then visited, and sell, three times as much."""
    times = pd.date_range("2024-01-01", periods=7 * last, freq="D")
    frames = []
    for shop in range(SHOPS):
        draw = np.random.default_rng(shop)
        footfall = 100 + 10 * (np.arange(7 * last) % 7) + draw.normal(0, 5, 7 * 100)[: 7 * last]
        footfall[7 * first :] *= 3 if drifted and shop in DRIFTED else 1
        sold = footfall / 4 + draw.normal(0, 1, 7 * 100)[: 7 * last]
        frames.append(pd.DataFrame({"shop": f"shop {shop}", "day": times, "sold": sold, "footfall": footfall}))
    table = pd.concat(frames, ignore_index=True)
    return table[table["day"] >= times[7 * first]]


@dataclass(frozen=True)
class Proof:
    """What was before the data landed and after all came to rest."""

    home: House
    inbox: Inbox
    before: Champion
    after: Champion
    runs: list[DagsterRun]
    log: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Iterator[House]:
    """A fleet that was run once, on an instance that a daemon can open."""
    folder = tmp_path_factory.mktemp("proof")
    dagster = folder / "dagster"
    (folder / "in").mkdir()
    dagster.mkdir()
    settings = documented_settings(SQLITE)
    for name in ("storage", "compute_logs", "local_artifact_storage"):
        own = settings[name].get("custom", settings[name])
        own["config"]["base_dir"] = str(dagster / own["config"]["base_dir"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in BATCHING.items():
            patch.setenv(name, value)
        with instance_of(settings, dagster) as instance:
            made = house(folder, spark, **KEYS)
            made.instance = instance
            give_store(made)
            weeks(0, FIRST_WEEKS, drifted=False).to_parquet(folder / "in" / "first.parquet", index=False)
            assert made.run(raise_on_error=True).success
            yield made


@pytest.fixture(scope="module")
def proof(home: House) -> Iterator[Proof]:
    """Starts the daemon, lets data land, and waits until there is nothing left to do."""
    with open_inbox() as inbox:
        before = champion_of(home)
        daemon = started_daemon(home, inbox)
        try:
            wait_for(lambda: has_looked(home), daemon)
            weeks(FIRST_WEEKS, FIRST_WEEKS + NEXT_WEEKS, drifted=True).to_parquet(home.folder / "in" / "next.parquet")
            wait_for(lambda: done(home, "retrain_drifted"), daemon)
            wait_for(lambda: bool(inbox.messages), daemon)
            time.sleep(7)  # one more look at least
        finally:
            log = ended(daemon)
        runs = sorted(home.instance.get_runs(), key=lambda run: run.job_name)
        yield Proof(home, inbox, before, champion_of(home), runs, log)


def champion_of(home: House) -> Champion:
    found = published_champion(home.lake, home.mlflow)
    assert found is not None
    return found


def started_daemon(home: House, inbox: Inbox) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home.folder / "dagster"),
        "FLEET_CONFIG": str(home.folder / "fleet.yaml"),
        NOTIFY_VARIABLE: f"json://ann:s3cret@127.0.0.1:{inbox.port}/T0KEN",
        "FLEET_LOOK_SECONDS": "1",
        "PYTHONPATH": str(REPOSITORY_ROOT),
    }
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "orchestration.definitions"]
    with (home.folder / "daemon.log").open("w") as log:
        return subprocess.Popen(
            command, cwd=REPOSITORY_ROOT, env=environment, stdout=log, stderr=log, text=True, start_new_session=True
        )


def ended(daemon: subprocess.Popen[str]) -> str:
    """Ends the daemon with all that it started, and gives what it logged."""
    os.killpg(daemon.pid, signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
    return ""


def wait_for(so: Callable[[], bool], daemon: subprocess.Popen[str]) -> None:
    end = time.monotonic() + MOST_SECONDS
    while not so():
        assert daemon.poll() is None, "the daemon died"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.5)


def has_looked(home: House) -> bool:
    """Whether each sensor left its cursor once."""
    return len(home.instance.all_instigator_state()) >= 3


def done(home: House, job: str) -> bool:
    runs = home.instance.get_runs(RunsFilter(job_name=job))
    assert not [run for run in runs if run.status == DagsterRunStatus.FAILURE]
    return any(run.status == DagsterRunStatus.SUCCESS for run in runs)


def test_one_run_each_without_any_hand(proof: Proof) -> None:
    assert [run.job_name for run in proof.runs] == ["ingest", "retrain_drifted", "weekly_cycle"]
    assert {run.status for run in proof.runs} == {DagsterRunStatus.SUCCESS}


def test_exactly_the_drifted_segments_have_new_models(proof: Proof) -> None:
    wanted = sorted(f"shop {shop}" for shop in DRIFTED)
    verdict, training = latest_drift(proof.home.lake), latest_training(proof.home.lake)
    assert verdict is not None
    assert verdict.drifted().to_pylist() == wanted
    assert training is not None
    assert sorted(listing_of(proof.home.lake, training)["segment"].to_pylist()) == wanted
    before, after = (
        {row["segment"]: (row["training"], row["shard"]) for row in each.listing.to_pylist()}
        for each in (proof.before, proof.after)
    )
    assert len(before) == len(after) == SHOPS
    assert sorted(segment for segment in after if after[segment] != before[segment]) == wanted


def test_the_gate_decided_and_forecasts_followed(proof: Proof) -> None:
    assert (proof.before.version, proof.after.version) == (1, 2)
    assert proof.after.tags["approved_by"] == "gate"
    record, rows = proof.home.lake.table(FORECASTS).record(), proof.home.forecasts()
    assert record["version"] == 2
    assert len(rows) == SHOPS * HORIZON
    assert rows["day"].min() == pd.Timestamp("2024-01-01") + pd.Timedelta(days=7 * (FIRST_WEEKS + NEXT_WEEKS))


def test_the_receiver_was_told_which_segments_and_where_to_look(proof: Proof) -> None:
    [message] = [each for each in proof.inbox.messages if each["title"].endswith("segments drifted")]
    [run] = [run for run in proof.runs if run.job_name == "retrain_drifted"]
    assert message["title"] == f"tiny: 7 of {SHOPS} segments drifted"
    assert all(f"shop {shop}" in message["message"] for shop in DRIFTED)
    assert message["message"].endswith(f"/runs/{run.run_id}")
    assert len(proof.inbox.titles) == len(set(proof.inbox.titles))


def test_no_secret_in_any_log(proof: Proof) -> None:
    everything = [
        path.read_bytes() for path in proof.home.folder.rglob("*") if path.is_file() and path.suffix != ".parquet"
    ]
    assert len(everything) > 50
    assert not [text for text in everything if b"s3cret" in text or b"T0KEN" in text]
