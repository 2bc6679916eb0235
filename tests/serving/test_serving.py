"""What servers logged becomes a table: nothing is lost or counted twice, and who is slow or fails is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus, RunRequest, materialize
from dagster._core.test_utils import create_run_for_test
from hypothesis import given
from hypothesis import strategies as st

from assets.champions.serving.watch import LOG, SAMPLE, SERVING, STEP, step_of
from assets.serving import log as log_module
from assets.serving.asset import serving_asset
from assets.serving.checks import serving_checks
from assets.serving.log import DAYS_KEPT, fold_log, has_news, quantile
from assets.serving.summary import recent_hours, stability_index, totals
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings
from tests.cycle import minimal
from tests.looking import Looking

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
Log = Callable[..., None]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"))


@pytest.fixture
def logged(lake: Lake) -> Log:
    """Writes a document as a server does."""
    count = iter(range(10_000))

    def write(at: datetime = NOW, requests: int = 10, seconds: float = 0.004, **said: Any) -> None:
        sample = [{"forecast": float(n), "model": "segment", "inputs": {"price": 2.0, "kind": "old"}} for n in range(3)]
        document = {
            "start": at.timestamp(), "end": at.timestamp() + 300, "process": "host-1-a", "version": 4,
            "requests": requests, "refused": 0, "failed": 0, "unknown": 0, "rows": 3 * requests, "slowest": seconds,
            "made_by": {"segment": 2 * requests, "baseline": requests}, "latency": {str(step_of(seconds)): requests},
            "sample": sample, "offered": 3, **said,
        }  # fmt: skip
        lake.write_file(f"{LOG}/{at:%Y-%m-%d}/{next(count):06d}.json", json.dumps(document).encode())

    return write


def test_hours_of_all_processes_are_summed_by_version(lake: Lake, logged: Log) -> None:
    logged(NOW, 10, 0.004)
    logged(NOW + timedelta(minutes=5), 30, 0.5, process="host-2-b", failed=2)
    logged(NOW + timedelta(minutes=9), 1, version=5)
    logged(NOW + timedelta(hours=1), 7, unknown=1, refused=1)
    fold_log(lake, NOW)
    rows = lake.table(SERVING).arrow().sort_by([("hour", "ascending"), ("version", "ascending")]).to_pylist()
    assert [(row["hour"].hour, row["version"], row["requests"], row["processes"]) for row in rows] == [
        (12, 4, 40, 2), (12, 5, 1, 1), (13, 4, 7, 1),
    ]  # fmt: skip
    first = rows[0]
    assert (first["segment"], first["fleet"], first["baseline"], first["failed"]) == (80, 0, 40, 2)
    assert 0.5 <= first["p50"] <= 0.5 * STEP
    assert totals(recent_hours(lake)) | {"p50": 0, "p99": 0} == {
        "requests": 48, "refused": 1, "failed": 2, "unknown": 1, "rows": 144, "p50": 0, "p99": 0,
    }  # fmt: skip


def test_whenever_it_is_looked_nothing_is_lost_or_counted_twice(lake: Lake, logged: Log) -> None:
    for number in range(12):
        logged(NOW + timedelta(hours=5 * number), number + 1)
        if number % 3 == 0:
            assert has_news(lake)
            fold_log(lake, NOW + timedelta(days=3))
            assert not has_news(lake)
    fold_log(lake, NOW + timedelta(days=3))
    before = lake.table(SERVING).version()
    assert fold_log(lake, NOW + timedelta(days=3)).days == []
    assert lake.table(SERVING).version() == before
    assert totals(recent_hours(lake))["requests"] == 78
    assert lake.table(SAMPLE).row_count() == 36


def test_a_run_that_dies_between_its_tables_leaves_what_the_next_puts_right(
    lake: Lake, logged: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged()
    replace = log_module._replace

    def dies(lake: Lake, name: str, *others: Any) -> None:
        if name == SERVING:
            raise OSError("gone")
        replace(lake, name, *others)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="gone"):
        patched.setattr(log_module, "_replace", dies)
        fold_log(lake, NOW)
    logged()
    fold_log(lake, NOW)
    assert (lake.table(SERVING).row_count(), lake.table(SAMPLE).row_count()) == (1, 6)
    assert totals(recent_hours(lake))["requests"] == 20


def test_old_documents_go_and_what_was_counted_stays(lake: Lake, logged: Log) -> None:
    logged(NOW, 10)
    logged(NOW + timedelta(days=1), 5)
    later = NOW + timedelta(days=DAYS_KEPT + 1)
    fold_log(lake, later)
    assert sorted(path.name for path in Path(lake.path(LOG)).iterdir()) == [f"{NOW + timedelta(days=1):%Y-%m-%d}"]
    logged(NOW, 99)  # a latecomer of a day whose documents are gone
    fold_log(lake, later)
    assert totals(recent_hours(lake))["requests"] == 15


def test_a_document_that_is_none_is_counted_as_such(lake: Lake, logged: Log) -> None:
    logged()
    lake.write_file(f"{LOG}/{NOW:%Y-%m-%d}/broken.json", b"{")
    assert fold_log(lake, NOW).unreadable == 1
    assert totals(recent_hours(lake))["requests"] == 10


@given(st.lists(st.floats(0.001, 20), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_of_the_histogram_are_at_most_5_percent_too_high(latencies: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for each in latencies:
        counts[step_of(each)] = counts.get(step_of(each), 0) + 1
    exact = float(np.quantile(latencies, share, method="inverted_cdf"))
    found = quantile(counts, share)
    assert found is not None
    assert exact * (1 - 1e-9) <= found <= exact * STEP * (1 + 1e-9)


def nobody(lake: Lake) -> Mlflow:
    """An MLflow in which no champion is registered."""
    return Mlflow(tracking_uri=f"sqlite:///{lake.root}/none.db", experiment="tiny")


def outcomes(lake: Lake, **limits: Any) -> dict[str, bool]:
    """Whether each check passes, once the asset was made of the log."""
    settings = Settings.model_validate({**minimal(), "checks": limits})
    made = [serving_asset(settings), *serving_checks(settings)]
    with DagsterInstance.ephemeral() as instance:
        result = materialize(made, instance=instance, resources={"lake": lake, "mlflow": nobody(lake)})
        event = instance.get_latest_materialization_event(AssetKey(["tiny", SERVING]))
    assert event is not None
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


ALL = {"latency": True, "error_rate": True, "unknown_segments": True, "served_values": True}


@pytest.mark.parametrize(("said", "fails"), [
    ({}, None),
    ({"seconds": 2.0}, "latency"),
    ({"failed": 1}, "error_rate"),
    ({"refused": 1, "unknown": 1}, "unknown_segments"),
    ({"refused": 9}, None),  # clients' mistakes are theirs
])  # fmt: skip
def test_each_check_fails_for_its_own_reason(lake: Lake, logged: Log, said: dict[str, Any], fails: str | None) -> None:
    logged(**said)
    assert outcomes(lake) == {name: name != fails for name in ALL}


def test_limits_are_those_of_fleet_yaml(lake: Lake, logged: Log) -> None:
    logged(seconds=2.0, failed=1, unknown=1)
    assert outcomes(lake) == {**dict.fromkeys(ALL, False), "served_values": True}
    assert outcomes(lake, latency=3.0, serving_errors=0.1, unknown_segments=0.1) == ALL


def test_where_nothing_is_served_nothing_is_wrong(lake: Lake) -> None:
    assert outcomes(lake) == ALL
    assert lake.table(SERVING).version() is None


def test_a_look_is_asked_for_when_something_was_served_and_only_one_at_a_time(lake: Lake, logged: Log) -> None:
    settings = Settings.model_validate({**minimal(), "lake": lake.root})
    with DagsterInstance.ephemeral() as instance:
        looking = Looking("serving", instance, settings, resources={"lake": lake})
        assert "nothing was served" in looking.said()
        logged()
        assert isinstance(looking.look(), RunRequest)
        tags = {"fleet": "tiny"}
        run = create_run_for_test(instance, job_name="watch_serving", tags=tags, status=DagsterRunStatus.STARTED)
        assert looking.said() == "a look is under way"
        instance.report_run_failed(run)
        assert isinstance(looking.look(), RunRequest)
        fold_log(lake, NOW)
        assert "nothing was served" in looking.said()


def test_an_index_of_stability_is_zero_of_the_same_and_large_of_another() -> None:
    draw = np.random.default_rng(0)
    same, moved = draw.normal(0, 1, 2_000), draw.normal(1, 1, 2_000)
    assert stability_index(same, same) == pytest.approx(0)
    assert (stability_index(same, moved) or 0) > 0.25
    assert stability_index(same, np.empty(0)) is None
    assert stability_index(np.ones(10), np.ones(10)) == pytest.approx(0)


def test_values_that_were_brought_stand_beside_the_committed_ones(lake: Lake, logged: Log) -> None:
    from assets.serving.summary import values_served

    logged()
    fold_log(lake, NOW)
    forecasts, inputs = values_served(lake)
    assert forecasts.set_index("of").loc["segment", ["rows", "median"]].tolist() == [3, 1.0]
    assert inputs.set_index("of")["rows"].to_dict() == {"kind": 0, "price": 3}
    assert pd.isna(inputs["median, committed"]).all()
