"""The landing sensor: one run for what arrived, once it stands still, and again where a run died."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    SensorEvaluationContext,
    SkipReason,
    build_sensor_context,
)
from dagster._core.test_utils import create_run_for_test

from orchestration.definitions import fleet_definitions
from orchestration.sensors.landing import ATTEMPTS
from resources.settings import Settings
from tests.cycle import minimal, sales


class Landing:
    """A folder that files arrive in, looked at by the sensor of a fleet."""

    def __init__(self, folder: Path, instance: DagsterInstance) -> None:
        self.folder, self._instance, self._cursor = folder, instance, None
        document = {
            **minimal(),
            "source": {"path": str(folder), "format": "parquet"},
            "lake": str(folder.parent / "lake"),
        }
        self.sensor = fleet_definitions(Settings.model_validate(document)).resolve_sensor_def("landing")

    def arrive(self, name: str) -> None:
        sales(days=30).to_parquet(self.folder / f"{name}.parquet")

    def look(self) -> RunRequest | SkipReason:
        context: SensorEvaluationContext = build_sensor_context(self._instance, cursor=self._cursor)
        found = self.sensor(context)
        self._cursor = context.cursor
        assert isinstance(found, RunRequest | SkipReason)
        return found

    def asked(self) -> RunRequest:
        found = self.look()
        assert isinstance(found, RunRequest), found
        return found

    def ran(self, request: RunRequest, status: DagsterRunStatus) -> None:
        create_run_for_test(self._instance, job_name="ingest", tags=request.tags, status=status)


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    (tmp_path / "in").mkdir()
    with DagsterInstance.ephemeral() as instance:
        yield Landing(tmp_path / "in", instance)


def test_what_arrives_sets_off_one_run_once_it_stands_still(landing: Landing) -> None:
    assert isinstance(landing.look(), SkipReason)  # an empty folder
    landing.arrive("a")
    assert isinstance(landing.look(), SkipReason)
    request = landing.asked()
    assert landing.asked().run_key == request.run_key  # Dagster starts a run a key once
    landing.ran(request, DagsterRunStatus.STARTED)
    assert isinstance(landing.look(), SkipReason)
    landing.arrive("b")
    assert isinstance(landing.look(), SkipReason)
    second = landing.asked()
    assert second.run_key != request.run_key
    landing.ran(second, DagsterRunStatus.SUCCESS)
    assert isinstance(landing.look(), SkipReason)


def test_a_folder_that_is_again_as_it_was_sets_off_a_run(landing: Landing) -> None:
    landing.arrive("a")
    landing.look()
    keys = []
    for change in (lambda: landing.arrive("b"), (landing.folder / "b.parquet").unlink):
        request = landing.asked()
        keys.append(request.run_key)
        landing.ran(request, DagsterRunStatus.SUCCESS)
        assert isinstance(landing.look(), SkipReason)
        change()
        landing.look()
    keys.append(landing.asked().run_key)
    assert len(set(keys)) == 3


def test_a_file_that_grows_from_look_to_look_is_waited_for(landing: Landing) -> None:
    path = landing.folder / "a.parquet"
    for size in range(1, 4):
        path.write_bytes(b"x" * size)
        assert isinstance(landing.look(), SkipReason)
    landing.asked()
    os.utime(path, ns=(1, 1))
    assert isinstance(landing.look(), SkipReason)


def test_a_run_that_died_is_asked_for_again_but_not_for_ever(landing: Landing) -> None:
    landing.arrive("a")
    landing.look()
    keys = []
    for _ in range(ATTEMPTS):
        request = landing.asked()
        keys.append(request.run_key)
        landing.ran(request, DagsterRunStatus.FAILURE)
    assert len(set(keys)) == ATTEMPTS
    given_up = landing.look()
    assert isinstance(given_up, SkipReason)
    assert "failed" in (given_up.skip_message or "")
    landing.arrive("b")
    landing.look()
    landing.asked()


def test_it_looks_by_itself_only_where_fleet_yaml_says_so(tmp_path: Path) -> None:
    for watch, status in ((False, DefaultSensorStatus.STOPPED), (True, DefaultSensorStatus.RUNNING)):
        settings = Settings.model_validate({**minimal(), "source": {"path": str(tmp_path), "watch": watch}})
        assert fleet_definitions(settings).resolve_sensor_def("landing").default_status == status
