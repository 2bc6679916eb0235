"""The simulation of executors: a schedule is never better than its limits allow, nor worse than Graham's bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.executors import limits, makespan


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(1, 40))
def test_list_scheduling_is_within_its_bounds(tasks: list[float], cores: int) -> None:
    took = makespan(tasks, cores, dispatch=0.0)
    least = max(limits(tasks, cores, 0.0).values())
    assert least <= took * (1 + 1e-9)
    # Graham, Bounds on Multiprocessing Timing Anomalies, 1969
    assert took <= (2 - 1 / cores) * least * (1 + 1e-9)


def test_more_cores_than_tasks_wait_for_the_longest() -> None:
    assert makespan([3.0, 2.0, 1.0], 100, dispatch=0.0) == 3.0
    assert makespan([1.0] * 100, 100, dispatch=0.5) == pytest.approx(51.0)
