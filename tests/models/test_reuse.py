"""A fleet trained again: only what changed is fitted, whatever died before, and accidents stay with their segments."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from assets.champions.gate import decide
from assets.evaluation.judge import evaluate
from assets.features.rebuild import committed_files
from assets.models import train as train_module
from assets.models import worker
from assets.models.bucket import SegmentRows
from assets.models.checks import models_checks
from assets.models.segment import fit_segment
from assets.models.store import MODELS, latest_training
from assets.models.worker import train_bucket
from resources.judging import Failures
from tests.cycle import House
from tests.lakes import (
    CLOSED,
    GOOD,
    SKIPPED,
    Trained,
    again,
    listed,
    mixed_table,
    packed_models,
    pickled_by_value,
    shard_files,
    train,
)

ALL = [*GOOD, CLOSED]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trains in this process rather than in Spark's workers; gives the tasks, as they are done."""
    done: list[Any] = []

    def spread(_: Any, tasks: Sequence[Any], work: Callable[[Any], Iterator[Any]], schema: Any, **__: Any) -> pa.Table:
        done.extend(tasks)
        return pa.Table.from_pylist([row for task in tasks for row in work(task)], schema)

    monkeypatch.setattr(train_module, "spread", spread)
    return done


def shards(made: Trained) -> dict[str, str]:
    return {key: row["shard"] for key, row in listed(made).items()}


def reused(made: Trained) -> set[str]:
    return {key for key, row in listed(made).items() if row["reused"]}


def with_table(home: House, change: Callable[[pd.DataFrame], pd.Series], by: float = 5.0) -> None:
    table = mixed_table()
    table.loc[change(table), "sold"] += by
    home.bring(table)


def test_one_label_of_the_past_is_one_segment_trained(own: Trained, here: list[Any]) -> None:
    """Day 20: inside every lag's reach but only of its own shop."""
    before, files = shards(own), shard_files(own.home)
    with_table(own.home, lambda t: (t["shop"] == "shop 1") & (t["day"] == pd.Timestamp("2024-01-21")))
    made = train(own.home)
    assert made.training.id != own.training.id
    assert made.training.record["counts"] == {"trained": 4, "skipped": 3}
    assert (made.training.record["fitted"], made.training.record["fits"]) == (1, 3)
    assert reused(made) == {*ALL} - {"shop 1"}
    after = shards(made)
    assert {key for key in after if after[key] != before[key]} == {"shop 1"}
    assert shard_files(own.home) - files == {after["shop 1"]}
    old, new = packed_models(own, "served"), packed_models(made, "served")
    assert {key for key in ALL if new[key] != old[key]} == {"shop 1"}


def test_other_parameters_are_another_model_for_all(own: Trained, here: list[Any]) -> None:
    recipe = own.recipe.model_copy(update={"model": {**own.recipe.model, "rounds": 3}})
    made = again(dataclasses.replace(own, recipe=recipe))
    assert made.training.record["fitted"] == 4
    assert reused(made) == set()
    assert not {shard for shard in shards(made).values() if shard} & set(shards(own).values())
    assert {row["trees"] for row in listed(made).values() if row["status"] == "trained"} == {3}


def test_a_recipe_that_shapes_no_model_trains_none(own: Trained, here: list[Any]) -> None:
    made = again(dataclasses.replace(own, recipe=own.recipe.model_copy(update={"metric": "rmse", "season": 3})))
    assert made.training.id != own.training.id
    assert made.training.record["fitted"] == 0
    assert shards(made) == shards(own)


def test_force_trains_all_again_and_gives_the_same_bytes(own: Trained, here: list[Any]) -> None:
    made = again(own, anew=True)
    assert made.training.id != own.training.id
    assert made.training.record["fitted"] == 4
    assert reused(made) == set()
    assert not {shard for shard in shards(made).values() if shard} & set(shards(own).values())
    for fit in ("served", "judged"):
        assert packed_models(made, fit) == packed_models(own, fit)
    assert latest_training(own.home.lake) == made.training


def test_some_segments_of_what_is_trained_already_are_not_fitted(own: Trained, here: list[Any]) -> None:
    made = again(own, ["shop 2", "constant"])
    assert made.training.record["fitted"] == made.training.record["fits"] == 0
    assert reused(made) == {"shop 2"}
    assert shards(made) == {key: shards(own)[key] for key in ("shop 2", "constant")}
    forced = again(own, ["shop 2"], anew=True)
    assert forced.training.record["fitted"] == 1


class Crash(Exception):
    """What a killed process looks like from inside."""


def crashed(made: Trained, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Forgets the lake's training, and trains up to the commit; gives the models that were there before."""
    import shutil

    before = packed_models(made, "served")
    for name in (MODELS, "boosters"):
        shutil.rmtree(made.home.folder / "lake" / name)

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(train_module, "_commit", crash)
        with pytest.raises(Crash):
            again(made)
    assert latest_training(made.home.lake) is None
    return before


def no_fit(*_: Any) -> dict[str, Any]:
    raise AssertionError("it was finished before the crash")


def test_what_was_finished_before_a_crash_is_not_fitted_again_and_counts_as_new(
    own: Trained, here: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = crashed(own, monkeypatch)
    files = shard_files(own.home)
    assert files
    monkeypatch.setattr(train_module, "train_bucket", partial(train_bucket, fit=no_fit))
    made = again(own, failures=Failures(retries=0))
    assert set(listed(made)) == {*ALL, *SKIPPED}
    assert made.training.record["counts"] == {"trained": 4, "skipped": 3}
    assert packed_models(made, "served") == before
    assert shard_files(own.home) == files
    assert reused(made) == set(), "never committed, so that Dagster has no event of them"


def test_what_a_crash_left_is_new_for_each_segment_not_for_each_shard(
    own: Trained, here: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One segment of a shard is committed by a run of its own; the shard's others still have no event."""
    crashed(own, monkeypatch)
    first = again(own, ["shop 0"])
    assert reused(first) == set()
    assert reused(again(own)) == {"shop 0"}


def test_each_feature_file_is_read_once_and_a_bucket_is_a_task(
    own: Trained, here: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(files: Sequence[str], *others: Any) -> Any:
        read.extend(files)
        return real(files, *others)

    real = worker.read_bucket
    monkeypatch.setattr(worker, "read_bucket", counted)
    again(own, anew=True)
    files = committed_files(own.home.lake, own.features)
    assert sorted(read) == sorted(file for each in files.values() for file in each)
    assert sorted(task.bucket for task in here) == sorted(files)


def test_training_is_one_spark_job_of_one_stage(own: Trained) -> None:
    context = own.home.spark.session().sparkContext
    context.setJobGroup("counted", "a training")
    try:
        made = again(own, anew=True)
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
    tracker = context.statusTracker()
    (job,) = tracker.getJobIdsForGroup("counted")
    info = tracker.getJobInfo(job)
    assert info is not None
    (stage,) = info.stageIds
    details = tracker.getStageInfo(stage)
    assert details is not None
    assert details.numTasks == len(committed_files(own.home.lake, own.features))
    assert made.training.record["fitted"] == 4


def accident(rows: SegmentRows, *others: Any) -> dict[str, Any]:
    if rows.key == "shop 0":
        raise RuntimeError("no reason")
    if rows.key == "shop 1":
        threading.Event().wait()
    if rows.key == "shop 2":
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_segment(rows, *others)


REASONS = {"shop 0": "exit code 1", "shop 1": "took longer than 20 s", "shop 2": "signal 9, SIGKILL"}


def test_accidents_in_a_worker_stay_with_their_segments_and_refuse_the_fleet(
    own: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled_by_value(__name__)
    monkeypatch.setattr(train_module, "train_bucket", partial(train_bucket, fit=accident))
    made = again(own, anew=True, failures=Failures(time_limit=20.0, retries=0))
    rows = listed(made)
    assert set(rows) == {*ALL, *SKIPPED}
    assert made.training.record["counts"] == {"trained": 1, "skipped": 3, "failed": 3}
    for key, reason in REASONS.items():
        assert rows[key]["status"] == "failed"
        assert reason in rows[key]["reason"]
        assert rows[key]["chosen"] in ("baseline", "median")
        assert rows[key]["shard"] is None
    assert packed_models(made, "served") == {CLOSED: packed_models(own, "served")[CLOSED]}
    refused_by_check_and_gate(made)


def refused_by_check_and_gate(made: Trained) -> None:
    """Three of seven failed."""
    home = made.home
    for tolerated, passes in ((0.05, False), (0.42, False), (0.43, True)):
        settings = home.settings.model_copy(update={"failures": Failures(tolerated=tolerated)})
        checks = {next(iter(check.check_keys)).name: check for check in models_checks(settings)}
        assert checks["few_failures"](home.lake).passed is passes
        assert checks["segments_accounted_for"](home.lake).passed
    judged, _ = evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)
    assert (judged.record["failed"], judged.record["segments"]) == (3, 7)
    refused = decide(judged.record, 0.42)
    assert not refused.promote
    assert "3 of 7 segments failed" in refused.reasons[-1]
    assert not any("segments failed" in reason for reason in decide(judged.record, 0.43).reasons)
