"""The production shape, for real: Postgres, MLflow's server, code server, webserver and daemon, each its own process.

A schedule starts the weekly cycle. The code server is killed with the first run in it, then the webserver and the daemon
are killed while the second try runs; a person asks for a run while no daemon is there. No run is lost or doubled.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as db
import yaml
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from orchestration.event_log import BATCHING
from resources.mlflow import CHAMPION
from resources.spark import Spark
from tests.cycle import HORIZON, House, house, sales
from tests.instances import PRODUCTION, instance_of, of_database
from tests.production import Deployment, answers, as_user, asked, execute, free_ports, graphql, salted

pytestmark = [pytest.mark.slow, pytest.mark.proof]

SHOPS, EACH_MINUTE = 4, "* * * * *"
TICK = ".dagster/scheduled_execution_time"
LAUNCH = """mutation($job: String!) { launchRun(executionParams: {selector: {repositoryLocationName: "fleet",
 repositoryName: "__repository__", jobName: $job}}) { __typename ... on LaunchRunSuccess { run { runId } }
 ... on PythonError { message } } }"""
SCHEDULE = """query { scheduleOrError(scheduleSelector: {repositoryLocationName: "fleet", repositoryName: "__repository__",
 scheduleName: "weekly"}) { ... on Schedule { id scheduleState { status ticks { status runIds timestamp } } } } }"""
STOP = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


RUNS = "{ runsOrError { ... on Runs { count } } }"
EDITOR, VIEWER = ("ann", "editor's own"), ("bob", "viewer's own")


@dataclass(frozen=True)
class Story:
    """What was there when all had come to rest."""

    home: House
    runs: list[DagsterRun]
    ticks: list[dict[str, Any]]
    by_hand: str
    killed: str
    log: str = field(repr=False)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, postgres_roles: str) -> Iterator[Deployment]:
    """The services, none of them started; everything they need to know."""
    folder = tmp_path_factory.mktemp("production")
    ui, viewer, code, mlflow = map(str, free_ports(4))
    made = Deployment(folder, {
        "DAGSTER_HOME": str(folder / "dagster"),
        "DAGSTER_POSTGRES_URL": of_database(postgres_roles, "dagster", "fleet_dagster"),
        "MLFLOW_POSTGRES_URL": of_database(postgres_roles, "mlflow", "fleet_mlflow"),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
        "MLFLOW_ARTIFACTS": str(folder / "artifacts"),
        "MLFLOW_PORT": mlflow,
        "MLFLOW_HOSTS": f"127.0.0.1:{mlflow}",
        "FLEET_CONFIG": str(folder / "fleet.yaml"),
        "FLEET_LOGS": str(folder / "logs"),
        "FLEET_WORKSPACE": str(PRODUCTION.with_name("workspace.yaml")),
        "FLEET_BIND": "127.0.0.1",
        "FLEET_CODE_HOST": "127.0.0.1",
        "FLEET_CODE_PORT": code,
        "FLEET_UI_PORT": ui,
        "FLEET_VIEWER_PORT": viewer,
        "VIEWER_POSTGRES_URL": of_database(postgres_roles, "dagster", "fleet_viewer"),
        "FLEET_LOOK_SECONDS": "5",
    })  # fmt: skip
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def home(deployment: Deployment, spark: Spark) -> House:
    """A fleet whose weekly cycle is due every minute."""
    uri = deployment.variables["MLFLOW_TRACKING_URI"]
    keys = {"mlflow": {"tracking_uri": uri}, "schedule": {"cron": EACH_MINUTE}, "drift": {"retrain": False}}
    return house(deployment.folder, spark, sales(SHOPS, 60), **keys)


@pytest.fixture(scope="module")
def instance(deployment: Deployment) -> Iterator[DagsterInstance]:
    """Dagster as production configures it, but looking after its runs every few seconds."""
    settings = yaml.safe_load(PRODUCTION.read_text())
    settings["run_monitoring"]["poll_interval_seconds"] = 3
    dagster = deployment.folder / "dagster"
    dagster.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**BATCHING, **deployment.variables}.items():
            if name.startswith(("DAGSTER_", "FLEET_LOGS")):
                patch.setenv(name, value)
        with instance_of(settings, dagster) as made:
            yield made


@pytest.fixture(scope="module")
def story(deployment: Deployment, home: House, instance: DagsterInstance) -> Story:
    ui = f"http://127.0.0.1:{deployment.variables['FLEET_UI_PORT']}"
    for name in ("mlflow", "code", "webserver"):
        deployment.start(name)
    deployment.wait_for("MLflow", lambda: answers(deployment.variables["MLFLOW_PORT"]))
    deployment.wait_for("code server", lambda: answers(deployment.variables["FLEET_CODE_PORT"]))
    deployment.start("daemon")

    first = deployment.wait_for("a scheduled run", lambda: started(instance))
    deployment.kill("code")
    deployment.start("code")
    again = deployment.wait_for("its second try", lambda: started(instance, but=first))
    deployment.kill("webserver")
    deployment.kill("daemon")
    without_daemon = time.time()
    deployment.start("webserver")
    deployment.wait_for("webserver", lambda: answers(deployment.variables["FLEET_UI_PORT"]))
    assert graphql(ui, RUN, {"id": again.run_id})["data"]["runOrError"]["status"] in ("STARTED", "SUCCESS")
    launched = graphql(ui, LAUNCH, {"job": "ingest"})["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    while int(time.time()) // 60 == int(without_daemon) // 60:  # a time of the schedule at which there is no daemon
        time.sleep(0.5)
    deployment.start("daemon")
    deployment.wait_for("what was missed", lambda: any(tick_of(run) > without_daemon for run in instance.get_runs()))
    schedule = graphql(ui, SCHEDULE)["data"]["scheduleOrError"]
    graphql(ui, STOP, {"id": schedule["id"]})
    deployment.wait_for("all to end", lambda: all(run.is_finished for run in instance.get_runs()))
    state = graphql(ui, SCHEDULE)["data"]["scheduleOrError"]["scheduleState"]
    assert state["status"] == "STOPPED"
    runs = sorted(instance.get_runs(), key=tick_of)
    return Story(home, runs, state["ticks"], launched["run"]["runId"], first.run_id, deployment.log("daemon"))


def started(instance: DagsterInstance, but: DagsterRun | None = None) -> DagsterRun | None:
    runs = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
    return next((run for run in runs if but is None or run.parent_run_id == but.run_id), None)


def tick_of(run: DagsterRun) -> float:
    """When the schedule asked for a run; 0 where it did not."""
    return datetime.fromisoformat(run.tags[TICK]).timestamp() if TICK in run.tags else 0.0


def test_each_time_of_the_schedule_has_one_run(story: Story) -> None:
    times = sorted(tick_of(run) for run in story.runs if tick_of(run) and run.parent_run_id is None)
    assert times == [times[0] + 60 * n for n in range(len(times))]
    assert len(times) >= 2
    assert {len(tick["runIds"]) for tick in story.ticks if tick["status"] == "SUCCESS"} == {1}
    assert Counter(run.job_name for run in story.runs)["ingest"] == 1


def test_what_a_person_asked_for_without_a_daemon_is_run_when_it_is_back(story: Story) -> None:
    [run] = [run for run in story.runs if run.run_id == story.by_hand]
    assert (run.job_name, run.status) == ("ingest", DagsterRunStatus.SUCCESS)


def test_the_run_that_died_with_its_code_server_is_tried_again_and_all_others_succeed(story: Story) -> None:
    assert [run.run_id for run in story.runs if run.status != DagsterRunStatus.SUCCESS] == [story.killed]
    [again] = [run for run in story.runs if run.parent_run_id == story.killed]
    assert (again.job_name, again.status) == ("weekly_cycle", DagsterRunStatus.SUCCESS)
    assert "the code server has no such run" in story.log


def test_the_work_was_done_once(story: Story) -> None:
    assert story.home.mlflow.aliased(CHAMPION)["version"] == "1"
    forecasts = story.home.forecasts()
    assert len(forecasts) == SHOPS * HORIZON
    assert set(forecasts["version"]) == {1}
    assert story.home.commits()["raw"] == 0


def test_mlflow_lies_in_postgres_as_its_own_role(story: Story, deployment: Deployment) -> None:
    url = db.make_url(deployment.variables["MLFLOW_POSTGRES_URL"])
    assert (url.username, url.database) == ("fleet_mlflow", "mlflow")
    status, said = asked(f"{story.home.mlflow.tracking_uri}/api/2.0/mlflow/registered-models/search")
    assert (status, [each["name"] for each in said["registered_models"]]) == (200, ["tiny"])


@dataclass(frozen=True)
class Proxy:
    """Where nginx listens."""

    ui: str
    mlflow: str


@pytest.fixture(scope="module")
def proxy(story: Story, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """The proxy in front of what runs after the story; no daemon, so that nothing starts that is launched."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    deployment.kill("daemon")
    deployment.start("viewer")
    secrets = tmp_path_factory.mktemp("secrets")
    secrets.chmod(0o755)
    (secrets / "users.htpasswd").write_text("".join(f"{name}:{salted(word)}\n" for name, word in (EDITOR, VIEWER)))
    (secrets / "editors.map").write_text(f"{EDITOR[0]} 1;\n")
    ui, mlflow = (f"127.0.0.1:{port}" for port in free_ports(2))
    places = {"FLEET_UI": "FLEET_UI_PORT", "FLEET_VIEWER": "FLEET_VIEWER_PORT", "FLEET_MLFLOW": "MLFLOW_PORT"}
    behind = {name: f"127.0.0.1:{deployment.variables[port]}" for name, port in places.items()}
    deployment.start_proxy(secrets, FLEET_LISTEN=ui, FLEET_MLFLOW_LISTEN=mlflow, **behind)
    deployment.wait_for("viewer", lambda: answers(deployment.variables["FLEET_VIEWER_PORT"]))
    deployment.wait_for("proxy", lambda: answers(ui.rpartition(":")[2]))
    return Proxy(f"http://{ui}", f"http://{mlflow}")


def test_without_a_password_nothing_is_seen(proxy: Proxy) -> None:
    wrong = [{}, as_user("ann", "guessed"), as_user("eve", EDITOR[1])]
    for url in (proxy.ui, f"{proxy.ui}/graphql", proxy.mlflow, f"{proxy.mlflow}/api/2.0/mlflow/experiments/search"):
        assert {asked(url, **headers)[0] for headers in wrong} == {401}


def test_who_looks_sees_all_and_starts_nothing(proxy: Proxy, instance: DagsterInstance) -> None:
    viewer, before = as_user(*VIEWER), instance.get_runs_count()
    assert asked(proxy.ui, **viewer)[0] == 200
    assert graphql(proxy.ui, RUNS, **viewer)["data"]["runsOrError"]["count"] == before
    refused = graphql(proxy.ui, LAUNCH, {"job": "ingest"}, **viewer)
    assert refused["data"]["launchRun"]["__typename"] == "UnauthorizedError"
    assert instance.get_runs_count() == before


def test_who_may_act_launches_a_run(proxy: Proxy, instance: DagsterInstance) -> None:
    launched = graphql(proxy.ui, LAUNCH, {"job": "ingest"}, **as_user(*EDITOR))["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = instance.get_run_by_id(launched["run"]["runId"])
    assert run is not None
    assert run.status == DagsterRunStatus.QUEUED


def test_a_page_of_another_site_may_not_use_a_browsers_password(proxy: Proxy) -> None:
    for url in (proxy.ui, proxy.mlflow):
        assert asked(url, **as_user(*EDITOR), Origin="https://elsewhere.example.com")[0] == 403
        assert asked(url, **as_user(*EDITOR), Origin=url)[0] == 200


def test_mlflow_is_read_by_all_and_written_by_editors(proxy: Proxy) -> None:
    search, create = (f"{proxy.mlflow}/api/2.0/mlflow/experiments/{what}" for what in ("search", "create"))
    for user in (EDITOR, VIEWER):
        assert asked(proxy.mlflow, **as_user(*user))[0] == 200
        status, said = asked(search, {"max_results": 10}, **as_user(*user))
        assert (status, "tiny" in [each["name"] for each in said["experiments"]]) == (200, True)
    assert asked(create, {"name": "by a viewer"}, **as_user(*VIEWER))[0] == 403
    assert asked(create, {"name": "by an editor"}, **as_user(*EDITOR))[0] == 200
    assert asked(f"{proxy.mlflow}/graphql", {"query": "{ __typename }"}, **as_user(*VIEWER))[0] == 403


SELECT, INSERT = "select count(*) from runs", "insert into kvs (key, value) values ('x', 'y')"
ALLOWED = [
    ("fleet_viewer", "dagster", SELECT),
    ("fleet_dagster", "dagster", f"{INSERT} on conflict do nothing"),
    ("fleet_mlflow", "mlflow", "select count(*) from experiments"),
]
REFUSED = [
    ("fleet_viewer", "dagster", INSERT),
    ("fleet_viewer", "dagster", f"set transaction read write; {INSERT}"),
    ("fleet_viewer", "dagster", "set transaction read write; create table mine (x int)"),
    ("fleet_viewer", "mlflow", "select 1"),
    ("fleet_dagster", "mlflow", "select 1"),
    ("fleet_mlflow", "dagster", "select 1"),
    ("fleet_dagster", "dagster", "create role another"),
    ("fleet_dagster", "dagster", "create database another"),
    ("fleet_dagster", "dagster", "copy runs to '/tmp/stolen'"),
]


def test_roles_of_the_database_may_do_what_they_must_and_no_more(story: Story, postgres_roles: str) -> None:
    for role, database, statement in ALLOWED:
        execute(of_database(postgres_roles, database, role), statement)
    for role, database, statement in REFUSED:
        with pytest.raises(db.exc.DBAPIError, match=r"permission denied|read-only transaction|must be"):
            execute(of_database(postgres_roles, database, role), statement)
