"""Where two devices cross: from how many rows on the GPU is the faster one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.models.calibrate import calibrate, crossing, row_counts
from assets.models.device import CALIBRATION
from resources.computing import Gpu
from resources.lake import Lake
from resources.problems import InputError
from resources.spark import Spark
from tests.devices import needs_opencl
from tests.models.small import recipe

seconds = st.floats(1e-4, 1e3)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=12))
def test_above_the_crossing_every_row_count_was_faster_on_the_gpu_and_the_one_below_was_not(
    measured: list[tuple[float, float]],
) -> None:
    times = [(1_000 * 3**place, *pair) for place, pair in enumerate(measured)]
    found = crossing(times)
    if found is None:
        assert times[-1][2] >= times[-1][1]
        return
    assert all(on_gpu < on_cpu for rows, on_cpu, on_gpu in times if rows >= found)
    below = [(on_cpu, on_gpu) for rows, on_cpu, on_gpu in times if rows < found]
    assert not below or below[-1][1] >= below[-1][0]


def test_the_crossing_lies_where_two_lines_meet() -> None:
    # CPU: a microsecond a row; GPU: ten milliseconds, whatever the rows
    times = [(rows, rows * 1e-6, 1e-2) for rows in row_counts(100_000)]
    assert crossing(times) == pytest.approx(10_000, rel=1e-3)


def test_row_counts_are_three_times_as_many_each() -> None:
    assert row_counts(30_000) == (1_000, 3_000, 9_000, 27_000)


def test_a_device_that_does_not_work_is_named(tmp_path: Path, spark: Spark) -> None:
    lake = Lake(uri=str(tmp_path))
    with pytest.raises(InputError, match="cuda cannot be used: LightGBMError: CUDA Tree Learner was not enabled"):
        calibrate(lake, spark, Gpu(device="cuda"), recipe(), 1_000)
    assert lake.read_file(CALIBRATION) is None


@pytest.mark.slow
@needs_opencl
def test_both_devices_are_timed_and_what_was_found_is_kept(tmp_path: Path, spark: Spark) -> None:
    lake = Lake(uri=str(tmp_path))
    found = calibrate(lake, spark, Gpu(device="gpu"), recipe(), 3_000)
    assert [each["rows"] for each in found["times"]] == [1_000, 3_000]
    assert all(each["cpu"] > 0 and each["gpu"] > 0 for each in found["times"])
    assert json.loads(lake.read_file(CALIBRATION) or b"") == found
