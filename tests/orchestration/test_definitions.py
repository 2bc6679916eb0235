"""What Dagster loads: light, complete, and apart from other fleets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    DynamicPartitionsDefinition,
)

from orchestration.definitions import fleet_definitions
from resources.notifier import NOTIFY_VARIABLE
from resources.settings import REPOSITORY_ROOT, Settings
from tests.cycle import minimal, without_time
from tests.instances import SQLITE, documented_settings

HEAVY = (
    "apprise",
    "pyspark",
    "mlflow",
    "lightgbm",
    "evidently",
    "matplotlib",
    "dagster_mlflow",
    "dagster_pyspark",
    "deltalake",
)
NAMES = (
    "raw",
    "features",
    "quarantine",
    "segment_models",
    "evaluation",
    "champions",
    "live_errors",
    "drift",
    "forecasts",
    "explanations",
    "serving",
    "backtest",
    "tuning",
)
OF_TIME = {"forecasts", "live_errors", "drift", "backtest"}
ON_DEMAND = {"backtest", "tuning"}
FLOW = {
    "raw": set(),
    "features": {"raw"},
    "quarantine": {"raw"},
    "segment_models": {"features"},
    "evaluation": {"segment_models"},
    "champions": {"evaluation", "live_errors"},
    "live_errors": {"features"},
    "drift": {"features", "live_errors"},
    "forecasts": {"champions"},
    "explanations": {"champions"},
    "serving": {"champions"},
    "backtest": {"features"},
    "tuning": {"features"},
}
CHECKS = {
    "raw": {"schema", "new_columns", "complete", "volume"},
    "features": {
        "schema",
        "unique",
        "no_leak",
        "rows_accounted_for",
        "segments_accounted_for",
        "rules_drop",
        "rules_warn",
        "no_infinities",
        "nulls",
        "label_distribution",
        "segments_since_last",
        "gaps",
        "freshness",
    },
    "quarantine": {"share_refused"},
    "segment_models": {"segments_accounted_for", "few_failures", "models_load"},
    "evaluation": {"segments_accounted_for", "comparison_clean", "challenger_against_baseline", "quantiles_calibrated"},
    "champions": {"gate", "segments_accounted_for", "champion_whole", "alias_as_published"},
    "live_errors": {"actuals_arrived", "as_good_as_promised"},
    "drift": {"drifted_share", "current_data_arrived", "calibrated"},
    "forecasts": {"complete", "finite", "schema", "known_ahead_given"},
    "serving": {"latency", "error_rate", "unknown_segments", "served_values"},
}


def definitions(**keys: object) -> Definitions:
    return fleet_definitions(Settings.model_validate({**minimal(), **keys}))


def test_loading_imports_nothing_heavy() -> None:
    program = (
        "import json, sys; import orchestration.definitions; "
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    environment = {**os.environ, "FLEET_CONFIG": str(REPOSITORY_ROOT / "fleet.yaml")}
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY_ROOT,
        env=environment,
        check=True,
    )
    assert json.loads(said.stdout.splitlines()[-1]) == []


def test_the_assets_and_their_flow() -> None:
    graph = definitions().resolve_asset_graph()
    nodes = {key.path[-1]: graph.get(key) for key in graph.materializable_asset_keys}
    assert set(nodes) == set(NAMES)
    assert {name: {key.path[-1] for key in node.parent_keys} for name, node in nodes.items()} == FLOW
    for name, node in nodes.items():
        assert node.key == AssetKey(["tiny", name])
        assert node.group_name == ("tiny_on_demand" if name in ON_DEMAND else "tiny")
        assert node.description
        assert node.owners
        assert node.kinds
        assert node.tags["stage"]


def test_the_checks() -> None:
    found: dict[str, set[str]] = {}
    for key in definitions().resolve_asset_graph().asset_check_keys:
        found.setdefault(key.asset_key.path[-1], set()).add(key.name)
    assert found == CHECKS


def test_without_time_there_are_no_forecasts() -> None:
    resolved = definitions(**without_time())
    graph = resolved.resolve_asset_graph()
    assert {key.path[-1] for key in graph.materializable_asset_keys} == {*NAMES} - OF_TIME
    assert {key.asset_key.path[-1] for key in graph.asset_check_keys} == {*CHECKS} - OF_TIME
    job = resolved.resolve_job_def("weekly_cycle")
    assert job.asset_layer.executable_asset_keys == graph.materializable_asset_keys - {AssetKey(["tiny", "tuning"])}


def test_the_weekly_cycle_holds_every_asset_and_every_check() -> None:
    resolved = definitions()
    job, graph = resolved.resolve_job_def("weekly_cycle"), resolved.resolve_asset_graph()
    on_demand = {AssetKey(["tiny", name]) for name in ON_DEMAND}
    assert job.asset_layer.executable_asset_keys == graph.materializable_asset_keys - on_demand
    assert set(job.asset_layer.asset_graph.asset_check_keys) == set(graph.asset_check_keys)


@pytest.mark.parametrize("name", ["approve_promotion", "rollback"])
def test_a_persons_jobs_hold_champions_and_forecasts_with_their_checks_but_not_the_gates(name: str) -> None:
    for keys, assets in (({}, {"champions", "forecasts"}), (without_time(), {"champions"})):
        job = definitions(**keys).resolve_job_def(name)
        assert {key.path[-1] for key in job.asset_layer.executable_asset_keys} == assets
        checks = {(key.asset_key.path[-1], key.name) for key in job.asset_layer.asset_graph.asset_check_keys}
        assert checks == {(asset, check) for asset in assets for check in CHECKS[asset]} - {("champions", "gate")}


def test_what_lands_is_looked_at_for_drift() -> None:
    landed = {"raw", "features", "quarantine"}
    for keys, assets in (({}, landed | {"live_errors", "drift"}), (without_time(), landed)):
        job = definitions(**keys).resolve_job_def("ingest")
        assert {key.path[-1] for key in job.asset_layer.executable_asset_keys} == assets


@pytest.mark.parametrize("enabled", [True, False])
def test_the_schedule_is_that_of_fleet_yaml(enabled: bool) -> None:
    schedule = {"cron": "30 4 * * 2", "timezone": "Asia/Tokyo", "enabled": enabled}
    found = definitions(schedule=schedule).resolve_schedule_def("weekly")
    assert (found.cron_schedule, found.execution_timezone, found.job_name) == (
        "30 4 * * 2",
        "Asia/Tokyo",
        "weekly_cycle",
    )
    wanted = DefaultScheduleStatus.RUNNING if enabled else DefaultScheduleStatus.STOPPED
    assert found.default_status == wanted


def test_two_fleets_share_no_key_and_no_partitions() -> None:
    one, two = definitions(name="one").resolve_asset_graph(), definitions(name="two").resolve_asset_graph()
    assert not one.materializable_asset_keys & two.materializable_asset_keys
    assert not set(one.asset_check_keys) & set(two.asset_check_keys)
    sets = [
        graph.get(AssetKey([name, "segment_models"])).partitions_def for name, graph in (("one", one), ("two", two))
    ]
    assert all(isinstance(each, DynamicPartitionsDefinition) for each in sets)
    assert [each.name for each in sets if isinstance(each, DynamicPartitionsDefinition)] == [
        "one_segments",
        "two_segments",
    ]


def test_only_segment_models_is_partitioned() -> None:
    graph = definitions().resolve_asset_graph()
    assert [k.path[-1] for k in graph.materializable_asset_keys if graph.get(k).partitions_def] == ["segment_models"]


SENSORS = {"landing", "drift", "serving", "failures", "stale_champions", "late_schedule"}


@pytest.mark.parametrize("told", [True, False])
def test_sensors_look_by_themselves_where_it_is_safe(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that tell, where there is somebody to tell; the one that retrains, unless fleet.yaml forbids it."""
    monkeypatch.setenv(NOTIFY_VARIABLE, "json://127.0.0.1") if told else monkeypatch.delenv(NOTIFY_VARIABLE, False)
    on = {"failures", "stale_champions", "late_schedule"} if told else set()
    on |= {"serving"}
    assert running(definitions()) == {"drift", *on}
    assert running(definitions(drift={"retrain": False}, schedule={"enabled": False})) == on - {"late_schedule"}
    assert running(definitions(**without_time())) == on


def running(resolved: Definitions) -> set[str]:
    found = {each.name: each.default_status for each in resolved.get_repository_def().sensor_defs}
    assert found.keys() == (SENSORS if "drift" in found else SENSORS - {"drift"})
    return {name for name, status in found.items() if status == DefaultSensorStatus.RUNNING}


def test_what_drifted_is_retrained_from_the_models_on() -> None:
    job = definitions().resolve_job_def("retrain_drifted")
    assets = {key.path[-1] for key in job.asset_layer.executable_asset_keys}
    assert assets == {"segment_models", "evaluation", "champions", "explanations", "live_errors", "forecasts"}
    checks = {(key.asset_key.path[-1], key.name) for key in job.asset_layer.asset_graph.asset_check_keys}
    assert checks == {(asset, check) for asset in assets for check in CHECKS.get(asset, ())}
    assert job.hook_defs


def test_runs_that_train_one_fleet_wait_for_one_another() -> None:
    resolved = definitions()
    tags = {job: resolved.resolve_job_def(job).tags.get("fleet/trains") for job in ("weekly_cycle", "retrain_drifted")}
    assert tags == dict.fromkeys(tags, "tiny")
    limit, of_gpus = documented_settings(SQLITE)["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limit == {"key": "fleet/trains", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    assert of_gpus == {"key": "fleet/gpu", "limit": 1}


def test_no_job_runs_for_ever_and_the_daemon_retries_only_what_no_sensor_does() -> None:
    resolved = definitions()
    jobs = {job.name: job.tags for job in resolved.resolve_all_job_defs() if not job.name.startswith("__")}
    assert {"weekly_cycle", "ingest", "retrain_drifted", "rollback", "check", "watch_serving"} < set(jobs)
    limits = {name: int(tags["dagster/max_runtime"]) for name, tags in jobs.items()}
    trains = {name for name, tags in jobs.items() if "fleet/trains" in tags}
    assert {name for name, seconds in limits.items() if seconds > 6 * 3600} == trains
    assert {name: tags["dagster/max_retries"] for name, tags in jobs.items() if "dagster/max_retries" in tags} == {
        "weekly_cycle": "1"
    }


def test_no_secret_is_in_what_dagster_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster._serdes import serialize_value

    monkeypatch.setenv(NOTIFY_VARIABLE, "json://ann:s3cret@127.0.0.1")
    snapshot = serialize_value(RepositorySnap.from_def(definitions().get_repository_def()))
    assert "s3cret" not in snapshot
    assert NOTIFY_VARIABLE in snapshot


def test_the_demo_settings_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from resources.settings import config_path, read_settings

    monkeypatch.delenv("FLEET_CONFIG", raising=False)
    assert config_path() == Path(REPOSITORY_ROOT / "fleet.yaml")
    assert fleet_definitions(read_settings(config_path())).resolve_job_def("weekly_cycle").name == "weekly_cycle"
