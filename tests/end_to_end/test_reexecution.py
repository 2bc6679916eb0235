"""Each step of each job fails once, after its work was done; re-executed from failure, all is as if nothing happened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import (
    DagsterEvent,
    Failure,
    JobDefinition,
    ReexecutionOptions,
    build_reconstructable_job,
    execute_job,
)
from dagster._core.execution.job_execution_result import JobExecutionResult
from dagster._core.execution.plan import execute_plan

from assets.champions.serving.watch import Watch
from assets.evaluation.incumbent import published_champion
from assets.forecasts.publish import FORECASTS
from orchestration import definitions
from orchestration.jobs import (
    APPROVE,
    BACKTEST,
    CHECK,
    INGEST,
    REQUARANTINE,
    RETRAIN_DRIFTED,
    ROLLBACK,
    TUNING,
    WATCH_SERVING,
    WEEKLY_CYCLE,
)
from resources.settings import read_settings
from resources.spark import Spark
from tests.champions.killed import counting
from tests.cycle import House, give_store, house, sales
from tests.instances import SQLITE, documented_settings, instance_of

pytestmark = [pytest.mark.slow, pytest.mark.proof]

MOST_TRIES = 40
WEEK_ONE, WEEK_TWO, WEEK_THREE = 60, 70, 80
SAID = ("status", "approved_by", "rejected_by", "restored_by", "withdrawn_by", "replaces", "compared_with")
APPROVED = {"action": "APPROVE", "by": "Ann", "note": ""}


def job_of(config: str, job: str) -> JobDefinition:
    """A job of the fleet that a `fleet.yaml` describes."""
    return definitions.fleet_definitions(read_settings(Path(config))).resolve_job_def(job)


class Trouble:
    """Lets each step fail once: when its work is done and all its events are written, or before it began."""

    def __init__(self, before: set[str]) -> None:
        self.before, self.failed, self._real = before, [], execute_plan.core_dagster_event_sequence_for_step

    def __call__(self, step_context: Any) -> Iterator[DagsterEvent]:
        key = step_context.step.key
        fails = key not in self.failed
        if fails and key in self.before:
            self.failed.append(key)
            raise Failure(f"{key} was stopped before it began", allow_retries=False)
        for event in self._real(step_context):
            if fails and event.is_step_success:
                self.failed.append(key)
                raise Failure(f"{key} was stopped when it was done", allow_retries=False)
            yield event


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, spark: Spark, patch: pytest.MonkeyPatch) -> Iterator[list[House]]:
    """Two fleets alike, each with an instance of its own: in the first every step fails once, in the other none."""
    patch.setattr(definitions.Spark, "of", staticmethod(lambda _: spark))
    folder = tmp_path_factory.mktemp("reexecution")
    made = []
    for name in ("troubled", "calm"):
        home = house(folder / name, spark, sales(3, WEEK_ONE), source={"path": "table.parquet"})
        give_store(home)
        settings = documented_settings(SQLITE)
        for part in ("storage", "compute_logs", "local_artifact_storage"):
            own = settings[part].get("custom", settings[part])
            own["config"]["base_dir"] = str(folder / name / "dagster" / own["config"]["base_dir"])
        (folder / name / "dagster").mkdir()
        made.append((home, instance_of(settings, folder / name / "dagster")))
    with made[0][1] as one, made[1][1] as two:
        made[0][0].instance, made[1][0].instance = one, two
        yield [made[0][0], made[1][0]]


def run(
    home: House, job: str, asset_config: dict[str, Any] | None = None, parent: str | None = None
) -> JobExecutionResult:
    """One run of a job in this process; of what failed in `parent`, where it is named."""
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    config["ops"] = {f"tiny__{asset}": {"config": own} for asset, own in (asset_config or {}).items()}
    made = build_reconstructable_job(
        "tests.end_to_end.test_reexecution", "job_of", (str(home.folder / "fleet.yaml"), job)
    )
    again = ReexecutionOptions.from_failure(parent, home.instance) if parent else None
    return execute_job(made, home.instance, run_config=config, raise_on_error=False, reexecution_options=again)


def run_in_trouble(home: House, job: str, config: dict[str, Any] | None = None, before: set[str] | None = None) -> list[str]:  # fmt: skip
    """Runs a job, and from failure again until it ends well; gives the steps that failed, each of them once."""
    trouble = Trouble(before or set())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execute_plan, "core_dagster_event_sequence_for_step", trouble)
        result = run(home, job, config)
        for _ in range(MOST_TRIES):
            if result.success:
                break
            result = run(home, job, config, result.run_id)
    assert result.success
    steps = {event.step_key for event in result.all_events if event.is_step_event}
    assert len(trouble.failed) == len(set(trouble.failed))
    assert steps <= set(trouble.failed)
    return trouble.failed


def in_both(homes: list[House], job: str, config: dict[str, Any] | None = None, before: set[str] | None = None) -> list[str]:  # fmt: skip
    troubled, calm = homes
    failed = run_in_trouble(troubled, job, config, before)
    result = run(calm, job, config)
    assert result.success
    assert set(failed) == {event.step_key for event in result.all_events if event.is_step_success}
    return failed


def state(home: House) -> dict[str, Any]:
    """What is served and said of a fleet, but for when."""
    champion = published_champion(home.lake, home.mlflow)
    assert champion is not None
    columns = [name for name in champion.listing.column_names if name in ("segment", "chosen", "digest", "reason")]
    forecasts = home.lake.table(FORECASTS).arrow().to_pandas().sort_values(["shop", "day"], ignore_index=True)
    status = home.status()
    return {
        "commits": home.commits(),
        "version": champion.version,
        "versions": home.versions(),
        "listing": champion.listing.select(columns).sort_by("segment").to_pylist(),
        "forecasts": forecasts,
        "rows": status["rows"],
        "segments": status["segments"],
    }


def assert_alike(homes: list[House], *, commits: bool = True) -> None:
    troubled, calm = (state(home) for home in homes)
    if not commits:
        del troubled["commits"], calm["commits"]
    pd.testing.assert_frame_equal(troubled.pop("forecasts"), calm.pop("forecasts"))
    assert troubled == calm


def test_the_weekly_cycle(homes: list[House]) -> None:
    failed = in_both(homes, WEEKLY_CYCLE)
    assert {"tiny__raw", "tiny__segment_models", "tiny__forecasts", "tiny__champions_gate"} < set(failed)
    assert_alike(homes)


def test_what_arrives_and_a_second_cycle(homes: list[House]) -> None:
    for home in homes:
        home.bring(sales(3, WEEK_TWO))
    in_both(homes, INGEST)
    for home in homes:
        assert run(home, WEEKLY_CYCLE).success
    assert_alike(homes)
    assert homes[0].versions() == 2


@pytest.mark.parametrize(("job", "config"), [
    (REQUARANTINE, None),
    (RETRAIN_DRIFTED, {"segment_models": {"segments": ["shop 1"]}}),
    (CHECK, None),
    (BACKTEST, {"backtest": {"origins": 1}}),
    (TUNING, None),
])  # fmt: skip
def test_other_jobs(homes: list[House], job: str, config: dict[str, Any] | None) -> None:
    in_both(homes, job, config)
    # segments that are asked for by name are a training each time they are asked for, of the same models
    assert_alike(homes, commits=job == REQUARANTINE)


def test_a_look_at_what_was_served(homes: list[House]) -> None:
    for home in homes:
        watch = Watch(home.lake.path("serving_log"), 1)
        watch.timed(None, lambda: pd.DataFrame({"forecast": [1.0], "model": ["segment"]}))
        watch.flush()
    in_both(homes, WATCH_SERVING)
    counted = [home.lake.table("serving").arrow(["requests", "version"]).to_pylist() for home in homes]
    assert counted[0] == counted[1] == [{"requests": 1, "version": 1}]


def test_a_rollback_is_carried_out_once(homes: list[House]) -> None:
    newest = state(homes[0])["version"]
    word = {"action": "ROLLBACK", "by": "Ann", "note": ""}
    in_both(homes, ROLLBACK, {"champions": word})
    assert_alike(homes, commits=False)
    assert state(homes[0])["version"] == newest - 1
    # what is asked for anew is another word
    for home in homes:
        assert run(home, ROLLBACK, {"champions": {**word, "version": newest}}).success
        assert state(home)["version"] == newest


def registered(home: House) -> dict[str, Any]:
    """Aliases, and what is said of each version, but for when and by which run."""
    named = {name: (home.mlflow.aliased(name) or {}).get("version") for name in ("champion", "previous", "challenger")}
    return {
        **named,
        "said": {tags["version"]: {name: tags.get(name) for name in SAID} for tags in home.mlflow.versions()},
    }


def died_at_each_write(homes: list[House], config: dict[str, Any]) -> int:
    """From one state of the registry: runs that die one write later each, re-executed from failure; gives how many."""
    troubled, calm = homes
    store = Path(troubled.settings.tracking_uri.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(":memory:")) as kept, closing(sqlite3.connect(store)) as live:
        live.backup(kept)
        job = ROLLBACK if config["action"] == "ROLLBACK" else APPROVE
        assert run(calm, job, {"champions": config}).success
        for write in range(1, MOST_TRIES):
            kept.backup(live)
            with pytest.MonkeyPatch.context() as patched:
                counting(patched.setattr, write, died)
                first = run(troubled, job, {"champions": config})
            if first.success:
                return write - 1
            assert run(troubled, job, {"champions": config}, first.run_id).success, write
            assert registered(troubled) == registered(calm), write
            assert_alike(homes, commits=False)
    raise AssertionError("it never ends")


def died() -> None:
    raise RuntimeError("died")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("action", "days", "writes"), [("REJECT", WEEK_THREE, 3), ("APPROVE", WEEK_THREE + 1, 9)])
def test_a_word_that_fails_in_the_middle_is_carried_out_once(
    homes: list[House], action: str, days: int, writes: int
) -> None:
    serves = state(homes[0])["version"]
    for home in homes:
        home.configure(source={"path": "table.parquet"}, promotion={"mode": "manual"})
        home.bring(sales(3, days))
        assert run(home, WEEKLY_CYCLE).success
        assert (state(home)["version"], registered(home)["challenger"]) == (serves, str(home.versions()))
    assert died_at_each_write(homes, {**APPROVED, "action": action}) >= writes
    assert state(homes[0])["version"] == (serves if action == "REJECT" else homes[0].versions())


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("segments", [[], ["shop 1"]])
def test_a_rollback_that_fails_in_the_middle_is_carried_out_once(homes: list[House], segments: list[str]) -> None:
    before, word = state(homes[0]), {**APPROVED, "action": "ROLLBACK", "segments": segments}
    assert died_at_each_write(homes, word) > 8
    assert state(homes[0])["version"] != before["version"]


def test_every_job_is_tried(homes: list[House]) -> None:
    tried = {
        WEEKLY_CYCLE,
        INGEST,
        REQUARANTINE,
        RETRAIN_DRIFTED,
        CHECK,
        BACKTEST,
        TUNING,
        WATCH_SERVING,
        ROLLBACK,
        APPROVE,
    }
    made = definitions.fleet_definitions(homes[0].settings).resolve_all_job_defs()
    assert {job.name for job in made if not job.name.startswith("__")} == tried
