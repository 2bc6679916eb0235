"""What is under `deploy/`: valid by its schemas and linters, and the same thing said everywhere.

The compose file's commands, the roles and the proxy run for real in `tests/end_to_end/test_production.py`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.champions.export import NEEDED
from orchestration.event_log import BATCHING
from orchestration.launcher import WatchedRunLauncher
from resources.settings import REPOSITORY_ROOT
from tests.instances import PRODUCTION, documented_settings, instance_of
from tests.production import COMPOSE, DEPLOY, interpolated

BIN = Path(sys.executable).parent
UNITS = DEPLOY / "systemd"
SERVICES = ("mlflow", "code", "webserver", "viewer", "daemon")
# what differs between the two by intent
OWN = {"storage", "compute_logs", "local_artifact_storage"}
# of the addresses that compose takes from its environment, what systemd's machine has
HERE = {"FLEET_BIND": "127.0.0.1", "FLEET_WORKSPACE": "/opt/fleet/deploy/workspace.yaml", "MLFLOW_HOSTS": "127.0.0.1:5000,localhost:5000"}  # fmt: skip


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_production_is_configured_as_a_laptop_is_but_for_where_things_are() -> None:
    here, there = documented_settings("sqlite"), loaded(PRODUCTION)
    assert here.keys() == there.keys()
    assert {key for key in here if here[key] != there[key]} == OWN


def test_the_instance_of_production_opens(tmp_path: Path, postgres_database: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres_database)
    monkeypatch.setenv("FLEET_LOGS", str(tmp_path / "logs"))
    for name, value in BATCHING.items():
        monkeypatch.setenv(name, value)
    with instance_of(loaded(PRODUCTION), tmp_path) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        assert instance.run_monitoring_enabled
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 0)
        assert not instance.run_retries_retry_on_asset_or_op_failure


def test_the_compose_file_is_one() -> None:
    checked = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    assert subprocess.run([*checked, COMPOSE], check=False, capture_output=True).returncode == 0
    services = loaded(COMPOSE)["services"]
    assert set(SERVICES) < set(services)
    # nothing but the proxy, and the REST service on this machine alone, is reachable from outside
    assert {name for name, service in services.items() if "ports" in service} == {"proxy", "serving"}
    assert all(port.startswith("127.0.0.1:") for port in services["serving"]["ports"])


def test_every_variable_that_compose_needs_is_in_the_example() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    example = (DEPLOY / "production.env.example").read_text()
    given = dict(line.split("=", 1) for line in example.splitlines() if line and line[0] != "#")
    assert needed <= set(given)
    assert all(given[name] for name in needed)


@pytest.mark.parametrize("name", ["Dockerfile", "serving.Dockerfile"])
def test_dockerfiles_are_lean_locked_and_not_of_root(name: str) -> None:
    said = subprocess.run([BIN / "hadolint", DEPLOY / name], check=False, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")
    text = (DEPLOY / name).read_text()
    commands = [each for each in text.replace("\\\n", " ").split("&&") if "pip install" in each]
    assert commands
    assert all("--require-hashes" in each or "--no-index" in each for each in commands)
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    copied = [word for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]]  # fmt: skip
    ignored = (REPOSITORY_ROOT / ".dockerignore").read_text().splitlines()
    assert all(any(f"!{word}".startswith(line) for line in ignored if line[0] == "!") for word in copied)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_what_the_units_say(tmp_path: Path) -> None:
    for path in UNITS.rglob("*.*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(UNITS)
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(path.read_text().replace("/opt/fleet", str(REPOSITORY_ROOT)))
    assert verified(tmp_path) == (0, "")
    unit = tmp_path / "fleet-daemon.service"
    unit.write_text(unit.read_text().replace("ExecStart=/", "ExecStart=/not/there/").replace("[Install]", "[Instal]"))
    assert verified(tmp_path)[0] != 0


def verified(folder: Path) -> tuple[int, str]:
    command = ["systemd-analyze", "verify", *sorted(folder.glob("fleet*.*"))]
    files = [each for each in command if not Path(each).is_dir()]
    said = subprocess.run(
        files, env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"}, check=False, capture_output=True, text=True
    )  # fmt: skip
    return said.returncode, said.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_runs_what_compose_runs(name: str) -> None:
    unit = (UNITS / f"fleet-{name}.service").read_text()
    [started] = re.findall(r"^ExecStart=/opt/fleet/\.venv/bin/(.*)$", unit, re.MULTILINE)
    command = [interpolated(part, HERE) for part in loaded(COMPOSE)["services"][name]["command"]]
    assert started.split() == command


def test_kubernetes_is_told_the_same_limits() -> None:
    values, settings = loaded(DEPLOY / "helm" / "values.yaml"), loaded(PRODUCTION)
    assert snake(values["concurrency"]) == {"enabled": True, **settings["concurrency"]}
    monitoring = snake(values["dagsterDaemon"]["runMonitoring"])
    assert monitoring.pop("max_resume_run_attempts") == 0
    # how long a run may take is a tag of its job, which counts everywhere
    assert monitoring == {
        key: value for key, value in settings["run_monitoring"].items() if key != "max_runtime_seconds"
    }
    retries = settings["run_retries"]
    assert snake(values["dagsterDaemon"]["runRetries"]) == {key: retries[key] for key in ("enabled", "max_retries")}
    assert {key: snake(values["retention"][key]) for key in ("schedule", "sensor")} == {key: settings["retention"][key] for key in ("schedule", "sensor")}  # fmt: skip
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    [code] = values["dagster-user-deployments"]["deployments"]
    for env in (values["dagsterWebserver"]["env"], values["dagsterDaemon"]["env"], code["env"]):
        assert {**BATCHING, **{each["name"]: each["value"] for each in env}} == {each["name"]: each["value"] for each in env}  # fmt: skip


def snake(value: Any) -> Any:
    """Keys as Dagster spells them, but for values that Dagster itself spells otherwise."""
    if isinstance(value, list):
        return [snake(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "applyLimitPerUniqueValue" in value:
        return value
    return {re.sub(r"(?<=[a-z])([A-Z])", lambda found: f"_{found[1].lower()}", key): snake(each) for key, each in value.items()}  # fmt: skip


def test_images_hold_the_versions_that_the_tests_ran_with() -> None:
    ours, theirs = (locked(REPOSITORY_ROOT / name) for name in ("requirements.lock", "deploy/requirements.lock"))
    assert {name: version for name, version in theirs.items() if ours.get(name, version) != version} == {}
    project = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    assert {re.split(r"[<>=\[ ]", each)[0] for each in wanted} <= theirs.keys()
    assert not {"pytest", "moto", "mypy"} & theirs.keys()


def test_the_serving_image_holds_what_an_export_asks_for() -> None:
    ours, theirs = (locked(REPOSITORY_ROOT / name) for name in ("requirements.lock", "deploy/serving.lock"))
    assert {name: version for name, version in theirs.items() if ours.get(name) != version} == {}
    lines = (DEPLOY / "serving.in").read_text().splitlines()
    assert sorted(NEEDED) == [line for line in lines if line[0] != "#"]
    assert set(NEEDED) <= theirs.keys()
    assert not {"pyspark", "dagster"} & theirs.keys()


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^ ;]+)", path.read_text(), re.MULTILINE))
