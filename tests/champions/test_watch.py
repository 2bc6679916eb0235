"""What a server counts of its answers: all of them, in bounded space, and never at the cost of one."""

from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.champions.serving.asked import UNKNOWN
from assets.champions.serving.watch import (
    LOG_VARIABLE,
    SAMPLED,
    SERVER_VARIABLE,
    STEP,
    Watch,
    log_folder,
    seconds_of,
    step_of,
)
from resources.problems import InputError, Problem


def question(rows: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"shop": ["a"] * rows, "day": "2024-03-01", "price": np.arange(rows) / 2, "note": None})


def reply(rows: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"forecast": np.arange(rows) + 0.5, "model": "segment", "version": 3})


def ask(watch: Watch, rows: int = 1, error: Exception | None = None) -> Any:
    def answer() -> pd.DataFrame:
        if error is not None:
            raise error
        return reply(rows)

    return watch.timed(question(rows), answer)


def written(folder: Path) -> list[dict[str, Any]]:
    assert not list(folder.rglob("*.tmp"))
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


def watching(folder: Path, **options: Any) -> Watch:
    return Watch(str(folder), 3, **{"given": ("shop", "day"), **options})


def test_answers_refusals_and_failures_are_counted(tmp_path: Path) -> None:
    watch = watching(tmp_path)
    pd.testing.assert_frame_equal(ask(watch, 5), reply(5))
    for error in (InputError([Problem("segment shop='x'", UNKNOWN)]), InputError([Problem("the rows", "are none")])):
        with pytest.raises(InputError):
            ask(watch, 2, error)
    with pytest.raises(ZeroDivisionError):
        ask(watch, 1, ZeroDivisionError())
    watch.flush()
    watch.flush()
    [said] = written(tmp_path)
    counted = {name: said[name] for name in ("requests", "refused", "failed", "unknown", "rows", "version", "made_by")}
    assert counted == {
        "requests": 4, "refused": 2, "failed": 1, "unknown": 1, "rows": 5, "version": 3, "made_by": {"segment": 5},
    }  # fmt: skip
    assert sum(said["latency"].values()) == 4
    assert 0 < said["slowest"] < 1


def test_the_sample_holds_what_was_brought_and_forecast_and_nothing_of_who_it_is_about(tmp_path: Path) -> None:
    watch = watching(tmp_path)
    ask(watch)
    watch.flush()
    [said] = written(tmp_path)
    assert said["sample"] == [{"forecast": 0.5, "model": "segment", "inputs": {"price": 0.0}}]


def test_whatever_the_traffic_what_is_written_is_small(tmp_path: Path) -> None:
    watch = watching(tmp_path)
    for _ in range(2_000):
        ask(watch, 9)
    watch.flush()
    [path] = tmp_path.rglob("*.json")
    [said] = written(tmp_path)
    assert (said["requests"], said["rows"], len(said["sample"])) == (2_000, 18_000, SAMPLED)
    assert path.stat().st_size < 50_000

    assert said["offered"] == 8_000


def test_a_folder_that_cannot_be_written_costs_no_answer_and_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("a file in its place")
    watch = watching(tmp_path / "log" / "deep")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            pd.testing.assert_frame_equal(ask(watch), reply())
            watch.flush()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "what is served cannot be logged, and is served all the same"
    ]
    (tmp_path / "log").unlink()
    watch.flush()
    assert sum(said["requests"] for said in written(tmp_path / "log" / "deep")) == 3


def test_what_cannot_be_counted_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watching(tmp_path)
    monkeypatch.setattr(watch, "_count", lambda *_: 1 / 0)
    pd.testing.assert_frame_equal(ask(watch), reply())


def serve(folder: str) -> None:
    watch = watching(Path(folder))
    for _ in range(50):
        ask(watch)
    watch.flush()


def test_several_processes_write_beside_one_another(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    parent = watching(tmp_path)
    ask(parent)
    workers = [context.Process(target=serve, args=(str(tmp_path),)) for _ in range(3)]
    workers.append(context.Process(target=lambda: (ask(parent), parent.flush())))  # type: ignore[func-returns-value]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    parent.flush()
    said = written(tmp_path)
    assert len({each["process"] for each in said}) == len(said) == 5
    # a fork takes nothing along of what its parent counted
    assert sorted(each["requests"] for each in said) == [1, 1, 50, 50, 50]


@given(st.floats(0.0006, 50))
def test_a_latency_is_counted_in_a_step_that_is_at_most_5_percent_too_long(seconds: float) -> None:
    found = seconds_of(step_of(seconds))
    assert seconds * (1 - 1e-9) <= found <= seconds * STEP * (1 + 1e-9)


def test_only_who_serves_logs_and_only_where_there_is_a_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (LOG_VARIABLE, SERVER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert log_folder("/lake") is None
    monkeypatch.setenv(SERVER_VARIABLE, "/model")
    assert (log_folder("/lake"), log_folder(None)) == ("/lake/serving_log", None)
    monkeypatch.setenv(LOG_VARIABLE, "/elsewhere/")
    assert (log_folder("/lake"), log_folder(None)) == ("/elsewhere", "/elsewhere")
    monkeypatch.setenv(LOG_VARIABLE, "off")
    assert log_folder("/lake") is None
