"""Work on a real standalone cluster: shipped code, GPUs as Spark assigns them, models equal to those of CPUs."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.models.line import TRAINED
from deploy.cluster import Cluster, waited_for
from resources.settings import REPOSITORY_ROOT
from tests.cluster.driver import Driver
from tests.cluster.programs import ON_GPU_FROM, asleep, page, predictions, problems_of, train_slowly, trained_on_gpus
from tests.cycle import House, house, sales
from tests.devices import needs_opencl
from tests.lakes import Trained, built, listed

pytestmark = [pytest.mark.slow, pytest.mark.proof]


@pytest.fixture
def given(cluster: Cluster, lake: Path) -> dict[str, Any]:
    """What a driver on the cluster is configured with."""
    return on(cluster, lake)


def on(cluster: Cluster, lake: Path, **keys: Any) -> dict[str, Any]:
    conf = {"spark.master.ui.port": str(cluster.ui_port), "spark.sql.shuffle.partitions": "2"}
    own = {"master": cluster.master, "memory": "1g", "executor_memory": "512m", "lake": str(lake), "conf": conf}
    return {**own, "gpus": 1, "ui": True, **keys}


def at_most_at_once(tasks: list[dict[str, Any]]) -> int:
    """How many of some tasks ran at the same time at most."""
    return max(sum(other["began"] <= each["began"] < other["ended"] for other in tasks) for each in tasks)


class TestOneSession:
    """What is looked at in one session."""

    @pytest.mark.parametrize(("per_task", "at_once"), [(1.0, 1), (0.5, 2)])
    def test_no_gpu_has_more_tasks_at_once_than_their_shares_allow(
        self, driver: Driver, given: dict[str, Any], per_task: float, at_once: int, tmp_path: Path
    ) -> None:
        driver.run(asleep, given, 0.5, 8, 0)  # or a worker that is still starting would look like one that waits
        found = driver.run(asleep, given, per_task, 6, 4, tmp_path / "met" if per_task == 1.0 else None)
        on_gpu = [each for each in found if each["task"].startswith("gpu")]
        on_cpu = [each for each in found if each["task"].startswith("cpu")]
        assert len(on_gpu) == 6
        assert len(on_cpu) == 4
        for number in range(2):
            own = [each for each in on_gpu if f"worker{number}" in each["folder"]]
            assert {each["address"] for each in own} == {str(number)}, "the address that Spark gave to that executor"
            assert at_most_at_once(own) == at_once
        assert {each["address"] for each in on_cpu} == {None}
        assert all(each["ended"] < each["began"] + 30 for each in on_gpu), (
            "the cores that GPUs leave work at the same time"
        )

    def test_the_page_of_spark_is_named(self, driver: Driver, given: dict[str, Any]) -> None:
        assert driver.run(page, given).startswith("<!DOCTYPE html>")

    def test_workers_run_the_code_that_was_shipped(self, driver: Driver, given: dict[str, Any]) -> None:
        code = {each["code"] for each in driver.run(asleep, given, 1.0, 0, 4)}
        assert len(code) == 1
        assert all(".zip/" in path and str(REPOSITORY_ROOT) not in path for path in code)

    @needs_opencl
    def test_models_fitted_on_gpus_err_as_those_of_cpus_do(
        self, driver: Driver, given: dict[str, Any], lake: Path, trained: Trained
    ) -> None:
        made, by_cpu = driver.run(trained_on_gpus, given, lake), listed(trained)
        assert made["listed"].keys() == by_cpu.keys()
        for key, row in made["listed"].items():
            assert (row["status"], row["reason"]) == (by_cpu[key]["status"], by_cpu[key]["reason"])
            if row["status"] == TRAINED:
                assert row["device"].startswith("gpu:" if row["rows"] >= ON_GPU_FROM else "cpu")
                expected = by_cpu[key]["fold_model_absolute"]
                assert row["fold_model_absolute"] == (pytest.approx(expected, rel=1e-6) if expected else expected)
                same = row["fingerprint"] == by_cpu[key]["fingerprint"]
                assert same == (row["device"] == "cpu"), "a model of a GPU is never taken for one of a CPU"
                assert not same or row["served_digest"] == by_cpu[key]["served_digest"]
        assert len({row["device"] for row in made["listed"].values() if row["status"] == TRAINED}) > 1
        for key, expected in predictions(trained).items():
            np.testing.assert_allclose(made["predicted"][key], expected, rtol=1e-6)


@pytest.fixture
def fresh() -> Iterator[Driver]:
    """A driver without a session."""
    made = Driver()
    yield made
    made.close()


@pytest.fixture
def foreign_environment(tmp_path: Path) -> Path:
    """A packed environment whose LightGBM says that it is another."""
    (tmp_path / "lightgbm-9.9.9.dist-info").mkdir()
    (tmp_path / "lightgbm-9.9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lightgbm\nVersion: 9.9.9\n"
    )
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as archive:
        archive.add(interpreter, "bin/python")
    return tmp_path / "packed.tar.gz"


def test_what_makes_workers_unfit_is_said_before_anything_is_trained(
    cluster: Cluster, fresh: Driver, lake: Path, foreign_environment: Path, tmp_path: Path
) -> None:
    said = fresh.run(problems_of, on(cluster, lake, gpus=2))
    assert "an executor asks for 2, but 2 workers offer 2 GPUs, at most 1 each" in said
    fresh.run(os.chdir, tmp_path)
    (tmp_path / "hidden" / "in").mkdir(parents=True)
    hidden = Path("/proc/self/cwd/hidden")  # another folder for each process
    said = fresh.run(
        problems_of, on(cluster, hidden, table=str(hidden / "in" / "*.csv"), environment=str(foreign_environment))
    )
    assert f"does not see the lake {hidden}" in said
    assert f"does not see the table {hidden}/in" in said
    assert "has LightGBM 9.9.9, the driver" in said
    assert said.count("9.9.9") == 1, "a host is named once"


ANOTHER_PYTHON = """
import sys
from collections import namedtuple
sys.version_info = namedtuple("version_info", "major minor micro releaselevel serial")(3, 99, 0, "final", 0)
"""


def test_an_interpreter_that_workers_lack_or_that_is_another_is_named(
    cluster: Cluster, fresh: Driver, lake: Path, tmp_path: Path
) -> None:
    said = fresh.run(problems_of, on(cluster, lake, gpus=0, python=str(tmp_path / "nowhere")))
    assert "workers lack the Python interpreter that they are told to use" in said
    (tmp_path / "sitecustomize.py").write_text(ANOTHER_PYTHON)
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    said = fresh.run(problems_of, on(cluster, lake, gpus=0, python=str(other)))
    assert "workers have another Python than the driver" in said
    assert "3.99" in said


SHOPS = 24


@pytest.fixture
def home(tmp_path: Path, trained: Trained) -> House:
    """A fleet with features, of segments that each take a while."""
    made = house(tmp_path / "own", trained.home.spark, sales(SHOPS))
    built(made)
    return made


def shards(home: House) -> set[str]:
    return {path.name for path in (home.folder / "lake" / "boosters").rglob("*.parquet")}


def test_a_run_outlives_its_workers_and_another_goes_on_where_a_driver_died(cluster: Cluster, home: House) -> None:
    given = on(cluster, home.folder / "lake", gpus=0, cores=1)
    first = Driver()
    try:
        first.start(train_slowly, given, home.folder)
        waited_for(lambda: len(shards(home)) >= 2, "models", 300)
    finally:
        first.kill()
    left = shards(home)
    assert len(left) < SHOPS
    second = Driver()
    try:
        running = second.start(train_slowly, given, home.folder)
        waited_for(lambda: len(shards(home)) >= len(left) + 2, "more models", 300)
        cluster.kill("worker1")
        cluster.add_worker("late", cores=2, memory="1g", gpus=["1"])
        found = running.result(timeout=400)
        executors = {Path(f"/proc/{row['worker']}/cwd").resolve() for row in found.values() if row["finished_at"]}
    finally:
        second.close()
    assert {key: row["status"] for key, row in found.items()} == {f"shop {n}": TRAINED for n in range(SHOPS)}
    assert len({row["shard"] for row in found.values()}) == SHOPS
    assert left <= {Path(row["shard"]).name for row in found.values()}, "what the dead driver's workers had finished"
    assert any("late" in str(folder) for folder in executors), "the worker that came late had work"
