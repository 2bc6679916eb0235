"""`fleet diff` and `fleet deploy`: what would change, what refuses, what is recorded; and migrations of a lake."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from dagster import DagsterInstance
from typer.testing import Result

from assets.features.publish import FEATURES
from orchestration.deployment.difference import as_lines, as_markdown, difference
from orchestration.deployment.home import HEADER, home_of
from orchestration.deployment.migrations import MIGRATIONS, Migration, migrate, pending
from orchestration.deployment.reload import reload_location
from orchestration.deployment.state import State, by_dotted_key, deployments, record_deployment, state_from, state_text
from resources.deployment import Dagster
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import CONFIG_VARIABLE, REPOSITORY_ROOT, TARGET_VARIABLE, read_settings
from resources.spark import Spark
from tests.cycle import House, house, sales
from tests.lakes import Trained
from tests.orchestration.test_cli import fleet

STATE = State({"model.rounds": 200, "owner": "team:a"}, {"features": "a", "segment_models": "b"}, 0, "c0ffee", "prod")


def copied(lake: Lake, change: Any) -> None:
    """Writes a changed copy of the features over them."""
    rows = lake.table(FEATURES).arrow()
    frame = change(rows.select([name for name in rows.column_names if name != "fleet_bucket"]))
    table = lake.table(FEATURES)
    with table.staging() as staging:
        os.makedirs(staging.uri)
        pq.write_table(frame, f"{staging.uri}/rows.parquet")
        table.commit(staging, frame.schema, {**table.record(), "copied": True})


def test_a_migration_may_add_and_must_not_lose(own: Trained) -> None:
    lake = own.home.lake
    rows, record = lake.table(FEATURES).row_count(), lake.table(FEATURES).record()
    adds = Migration(
        "adds a column", lambda lake: copied(lake, lambda rows: rows.append_column("__one", [[1] * len(rows)]))
    )
    assert migrate(lake, [adds]) == ["adds a column"]
    assert "__one" in lake.table(FEATURES).schema().names
    before = lake.table(FEATURES).version()
    loses = Migration("tidies up", lambda lake: copied(lake, lambda rows: rows.slice(1)))
    with pytest.raises(InputError, match=f"'tidies up': loses rows of features: {rows} before, {rows - 1} after"):
        migrate(lake, [loses])
    assert lake.table(FEATURES).row_count() == rows
    assert {"__one"} <= set(lake.table(FEATURES).schema().names)
    assert lake.table(FEATURES).record()["digest"] == record["digest"]
    assert lake.table(FEATURES).version() > before


def test_the_migrations_of_this_version_lose_nothing(own: Trained) -> None:
    assert migrate(own.home.lake, MIGRATIONS) == [each.says for each in MIGRATIONS]


def test_a_new_lake_lacks_no_migration_and_an_old_one_those_it_had_not(own: Trained, tmp_path: Path) -> None:
    some = [Migration(name, lambda lake: None) for name in "abc"]
    assert pending(Lake(uri=str(tmp_path / "new")), None, some) == ()
    assert pending(own.home.lake, None, some) == some
    assert pending(own.home.lake, 2, some) == some[2:]
    assert pending(own.home.lake, 3, some) == []


@pytest.mark.parametrize(
    ("change", "retrained", "said"),
    [
        ({}, "nothing: no model depends on what changed", "nothing changes"),
        ({"settings": {"owner": "team:b"}}, "nothing: no model", "setting owner: team:a -> team:b"),
        ({"settings": {"model.rounds": 3}}, "all 7 segments", "asset segment_models: model.rounds changed"),
        ({"settings": {"horizon": 3}}, "at most all 7 segments", "asset features: horizon changed"),
        ({"settings": {"source.path": "x"}}, "nothing: no model", "setting source.path: not set -> x"),
        ({"code": {"features": "z"}}, "at most all 7 segments", "asset features: its code changed (a to z)"),
        ({"code": {"segment_models": "z"}}, "all 7 segments", "asset segment_models: its code changed (b to z)"),
        ({"code": {"drift": "z"}}, "nothing: no model", "asset drift: the asset is new"),
    ],
)
def test_a_difference_says_what_is_retrained(change: dict[str, dict[str, Any]], retrained: str, said: str) -> None:
    now = replace(STATE, **{part: {**getattr(STATE, part), **values} for part, values in change.items()})
    found = difference(STATE, now, 7)
    assert found.retrained.startswith(retrained)
    assert said in as_lines(found)
    assert found.is_empty == (not change)
    assert found.retrained in as_markdown("title", found)


def test_a_state_is_read_as_it_was_written_and_the_last_deployments_are_kept(tmp_path: Path) -> None:
    assert state_from(state_text(STATE)) == STATE
    lake = Lake(uri=str(tmp_path))
    assert deployments(lake) == []
    for number in range(102):
        record_deployment(lake, replace(STATE, format=number))
    assert [each.format for each in deployments(lake)] == list(range(2, 102))
    assert by_dotted_key({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}


def test_a_home_has_an_instance_of_its_own_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://u:s3cret@h/d")
    folder = tmp_path / "home"
    home_of(Dagster(home=str(folder)))
    with DagsterInstance.from_config(str(folder)) as instance:
        assert str(folder) in str(instance.event_log_storage._base_dir)
    assert not (tmp_path / ".dagster").exists()
    home_of(Dagster(home=str(folder), storage="${DAGSTER_POSTGRES_URL}"))
    text = (folder / "dagster.yaml").read_text()
    assert "s3cret" not in text
    assert yaml.safe_load(text)["storage"]["custom"]["config"] == {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}
    (folder / "dagster.yaml").write_text(text.removeprefix(HEADER) + "# mine\n")
    home_of(Dagster(home=str(folder)))
    assert (folder / "dagster.yaml").read_text().endswith("# mine\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    spark.session()
    targets = {"dev": None, "prod": {"lake": "prod", "dagster": {"home": "prod_home"}}, "lost": {"label": "nobody"}}
    return house(tmp_path_factory.mktemp("deploy"), spark, sales(2, 60), targets=targets)


@pytest.fixture(scope="module")
def told(home: House) -> dict[str, Result]:
    """What the commands say, in the order of a first deployment, a change and a bad one."""
    said = {
        "all": fleet(home, "validate", "--all-targets"),
        "diff before": fleet(home, "diff", "--target", "prod"),
        "deploy": fleet(home, "deploy", "--target", "prod", "--by", "ann"),
        "diff same": fleet(home, "diff", "--target", "prod"),
        "lost": fleet(home, "deploy", "--target", "lost"),
        "nobody": fleet(home, "deploy", "--target", "prot"),
    }
    document = yaml.safe_load((home.folder / "fleet.yaml").read_text())
    document["targets"]["prod"]["model"] = {"rounds": 7}
    home.configure(targets=document["targets"])
    page = home.folder / "diff.md"
    said["diff changed"] = fleet(home, "diff", "--target", "prod", "--markdown", str(page))
    said["page"] = page.read_text()  # type: ignore[assignment]
    return said


@pytest.mark.slow
@pytest.mark.proof
def test_every_target_is_validated(told: dict[str, Result]) -> None:
    result = told["all"]
    assert result.exit_code == 0, result.stderr
    for said in ("without a target", "targets.dev", "_tiny in", "runs when asked", "targets.prod", "runs at 0 3 * * 1"):
        assert said in result.stdout


@pytest.mark.slow
@pytest.mark.proof
def test_a_deployment_is_recorded_and_a_change_is_seen(told: dict[str, Result], home: House) -> None:
    assert "nothing was deployed yet" in told["diff before"].stdout
    assert told["deploy"].exit_code == 0, told["deploy"].stderr
    for said in ("deployed to prod", "128 rows", "no data yet", "BatchedSqliteEventLogStorage"):
        assert said in told["deploy"].stdout
    [state] = deployments(Lake(uri=str(home.folder / "prod")))
    assert (state.target, state.by, state.settings["model.rounds"]) == ("prod", "ann", 30)
    assert {"raw", "features", "segment_models"} <= set(state.code)
    assert (home.folder / "prod_home/dagster.yaml").exists()
    assert "nothing changes" in told["diff same"].stdout
    assert "setting model.rounds: 30 -> 7" in told["diff changed"].stdout
    assert "retrained: all segments" in told["diff changed"].stdout
    assert "| `model.rounds` | 30 | 7 |" in str(told["page"])


@pytest.mark.slow
@pytest.mark.proof
def test_what_cannot_be_deployed_changes_nothing(told: dict[str, Result], home: House) -> None:
    assert (told["lost"].exit_code, told["nobody"].exit_code) == (2, 2)
    assert "nobody" in told["lost"].stderr
    assert "did you mean prod?" in told["nobody"].stderr
    assert deployments(Lake(uri=str(home.folder / "lake"))) == []


@pytest.fixture
def webserver(home: House, tmp_path: Path) -> Iterator[str]:
    """Dagster's real web page of the fleet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "DAGSTER_HOME": str(tmp_path), CONFIG_VARIABLE: str(home.folder / "fleet.yaml"), TARGET_VARIABLE: "prod",
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-h", "127.0.0.1", "-p", str(port)]
    command += ["-m", "orchestration.definitions", "--path-prefix", "/x"]
    process = subprocess.Popen(command, env=environment, cwd=REPOSITORY_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    address = f"http://127.0.0.1:{port}/x"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=2).read()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.proof
def test_a_webserver_loads_the_code_anew(webserver: str, home: House, told: dict[str, Result]) -> None:
    assert told["deploy"].exit_code == 0
    assert read_settings(home.folder / "fleet.yaml", "prod").model.rounds == 7
    found = urllib.request.urlopen(
        urllib.request.Request(
            f"{webserver}/graphql",
            json.dumps({"query": "{workspaceOrError{... on Workspace{locationEntries{name}}}}"}).encode(),
            {"Content-Type": "application/json"},
        ),
        timeout=60,
    ).read()
    [entry] = json.loads(found)["data"]["workspaceOrError"]["locationEntries"]
    reload_location(webserver, entry["name"])
    with pytest.raises(InputError, match="nowhere"):
        reload_location(webserver, "nowhere")


def test_a_webserver_that_is_not_there_is_said_without_its_password() -> None:
    with pytest.raises(InputError) as caught:
        reload_location("http://ann:s3cret@127.0.0.1:9", "fleet")
    assert "cannot be asked to reload" in str(caught.value)
    assert "s3cret" not in str(caught.value)
