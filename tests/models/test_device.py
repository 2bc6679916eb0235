"""Fits on a GPU: placed by rows, recorded with their device, and on the CPU where the GPU does not serve."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.models.device import CALIBRATION, Device, Placement, placement_of
from assets.models.segment import fit_segment
from assets.models.tasks import training_tasks
from resources.computing import Gpu
from resources.lake import Lake
from resources.problems import InputError
from resources.spark import Spark
from tests.devices import needs_opencl
from tests.lakes import GOOD, Trained
from tests.models.small import bucket_lines, models_of, segment

# the wheel of LightGBM was built without it: no driver, on every machine
ABSENT = Device("cuda", 0, True, "0")
OPENCL = Device("gpu", 0, True, "0")


def on_gpu(recipe: Any) -> bool:
    return "device_type" in recipe.model["params"]


def as_if_on_gpu(rows: Any, recipe: Any, *given: Any) -> dict[str, Any]:
    """Fits on the CPU what is asked of a GPU, as one whose models are a little different would."""
    if on_gpu(recipe):
        recipe = recipe.model_copy(update={"model": {**recipe.model, "params": {"learning_rate": 0.11}}})
    return fit_segment(rows, recipe, *given)


def killed_by_the_gpu(rows: Any, recipe: Any, *given: Any) -> dict[str, Any]:
    if on_gpu(recipe):
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_segment(rows, recipe, *given)


@pytest.mark.parametrize(
    ("fit", "why"),
    [
        (fit_segment, "cuda:0: LightGBMError: CUDA Tree Learner was not enabled"),
        (killed_by_the_gpu, "signal 9, SIGKILL"),
    ],
)
def test_a_segment_that_a_gpu_fails_at_is_fitted_on_the_cpu_and_its_record_says_why(
    tmp_path: Path, fit: Any, why: str
) -> None:
    rows = [segment(key="a"), segment(key="b", seed=1)]
    plain = bucket_lines(tmp_path / "cpu", rows) if (tmp_path / "cpu").mkdir() is None else {}
    found = bucket_lines(tmp_path, rows, task={"device": ABSENT}, fit=fit)
    for key in ("a", "b"):
        assert found[key]["device"].startswith("cpu (cuda")
        assert why in found[key]["device"]
        assert plain[key]["device"] == "cpu"
        assert found[key]["served_digest"] == plain[key]["served_digest"]
        assert found[key]["fingerprint"] == plain[key]["fingerprint"]
        assert models_of(tmp_path, found[key])["device"] == found[key]["device"]


def test_without_an_address_from_spark_a_segment_is_fitted_on_the_cpu(tmp_path: Path) -> None:
    line = bucket_lines(tmp_path, [segment()], task={"device": Device("gpu", 0, True)})["s"]
    assert line["device"] == "cpu (no gpu was offered)"


def test_a_gpu_is_content_with_models_of_the_cpu_but_not_the_cpu_with_those_of_a_gpu(tmp_path: Path) -> None:
    rows = [segment()]
    gpu, cpu = ({"task": {"device": device}, "fit": as_if_on_gpu} for device in (OPENCL, None))
    first = bucket_lines(tmp_path, rows, **gpu)["s"]
    assert first["device"] == "gpu:0"
    assert bucket_lines(tmp_path, rows, **gpu)["s"]["finished_at"] == first["finished_at"]
    of_cpu = bucket_lines(tmp_path, rows, **cpu)["s"]
    assert (of_cpu["device"], of_cpu["served_digest"] == first["served_digest"]) == ("cpu", False)
    assert of_cpu["fingerprint"] != first["fingerprint"]
    single = {"task": {"device": Device("gpu", 0, False, "0")}, "fit": as_if_on_gpu}
    assert bucket_lines(tmp_path, rows, **single)["s"]["fingerprint"] == of_cpu["fingerprint"], "another precision"


@pytest.mark.slow
@needs_opencl
def test_an_opencl_device_gives_the_errors_of_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    by_cpu = bucket_lines(tmp_path / "cpu", [segment()])["s"]
    by_gpu = bucket_lines(tmp_path, [segment()], task={"device": OPENCL})["s"]
    assert by_gpu["device"] == "gpu:0"
    for name in ("fold_model_absolute", "fold_model_squared"):
        assert by_gpu[name] == pytest.approx(by_cpu[name], rel=1e-6)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 120), st.none() | st.sets(st.sampled_from(GOOD), min_size=1))
def test_every_segment_is_in_one_task_and_on_the_gpu_if_it_has_the_rows(
    trained: Trained, least: int, wanted: set[str] | None
) -> None:
    lake, features = trained.home.lake, trained.features
    labelled = lake.table("segments").arrow(columns=["__segment", "__labelled"]).to_pylist()
    rows = {row["__segment"]: row["__labelled"] for row in labelled}
    tasks = training_tasks(lake, features, wanted and sorted(wanted), 1, Placement(OPENCL, least, 1.0))
    for key in rows if wanted is None else wanted:
        own = [t for t in tasks if (t.segments is None or key in t.segments) and key not in t.but]
        assert len([t for t in own if t.device or rows[key] < least]) >= 1
        devices = [t.device for t in own if t.bucket == _bucket(features, key)]
        assert devices == [OPENCL if rows[key] >= least else None]


def _bucket(features: Any, key: str) -> int:
    from assets.partitions import bucket_of

    return bucket_of(key, features.buckets)


def test_where_the_devices_cross_is_what_auto_means(tmp_path: Path, spark: Spark) -> None:
    lake = Lake(uri=str(tmp_path))
    assert placement_of(lake, spark, Gpu()) is None
    with pytest.raises(InputError, match="run fleet calibrate"):
        placement_of(lake, spark, Gpu(device="gpu"))
    lake.write_file(CALIBRATION, json.dumps({"device": "gpu", "crossing": 5_000}).encode())
    found = placement_of(lake, spark, Gpu(device="gpu", per_task=0.5))
    assert found == Placement(OPENCL, 5_000, 0.5)
    with pytest.raises(InputError, match="never timed"):
        placement_of(lake, spark, Gpu(device="cuda"))
    lake.write_file(CALIBRATION, json.dumps({"device": "gpu", "crossing": None}).encode())
    assert placement_of(lake, spark, Gpu(device="gpu")) is None


def test_processes_of_a_machine_take_turns() -> None:
    device = Device("gpu", 0, True, "77")
    with open(f"{tempfile.gettempdir()}/fleet-gpu-{os.getuid()}-77.lock", "w") as other:
        with device.turn(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
