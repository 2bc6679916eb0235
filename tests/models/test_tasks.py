"""How a training is divided: large segments alone on several threads, with the bytes that one thread gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.features.rebuild import committed_files
from assets.models import tasks
from assets.models.bucket import read_bucket
from assets.models.fit import fit
from assets.models.packing import packed
from assets.models.tasks import fleet_task, training_tasks
from assets.partitions import bucket_of
from resources.judging import Failures
from resources.spark import Spark
from tests.cycle import house
from tests.lakes import (
    CLOSED,
    GOOD,
    SKIPPED,
    Trained,
    again,
    listed,
    mixed_keys,
    mixed_table,
    packed_models,
    shard_files,
    train,
)
from tests.models.small import recipe, segment

LARGE = 58  # labels of the shops 0 and 1 and of the constant one: 60; of the others: 57 and less
LARGE_KEYS = ["constant", "shop 0", "shop 1"]


def test_by_default_a_task_is_a_bucket_the_largest_first(trained: Trained) -> None:
    found = training_tasks(trained.home.lake, trained.features, None, 2)
    files = committed_files(trained.home.lake, trained.features)
    assert {task.bucket: task.files for task in found} == files
    assert len(found) == len(files)
    assert all((task.segments, task.but, task.threads) == (None, frozenset(), 1) for task in found)
    sizes = [sum(Path(file).stat().st_size for file in task.files) for task in found]
    assert sizes == sorted(sizes, reverse=True)


def test_a_large_segment_is_a_task_of_its_own_and_its_bucket_leaves_it_out(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LARGE_SEGMENT", LARGE)
    found = training_tasks(trained.home.lake, trained.features, None, 2)
    alone, rest = found[:3], found[3:]
    assert sorted(key for task in alone for key in task.segments or ()) == LARGE_KEYS
    files = committed_files(trained.home.lake, trained.features)
    for task in alone:
        (key,) = task.segments or ()
        assert (task.threads, task.but) == (2, frozenset())
        assert task.bucket == bucket_of(key, trained.features.buckets)
        assert task.files == files[task.bucket]
    assert {task.bucket for task in rest} == set(files)
    assert all((task.segments, task.threads) == (None, 1) for task in rest)
    assert sorted(key for task in rest for key in task.but) == LARGE_KEYS
    assert all(bucket_of(key, trained.features.buckets) == task.bucket for task in rest for key in task.but)


def test_of_some_segments_only_the_large_ones_among_them_are_alone(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LARGE_SEGMENT", LARGE)
    found = training_tasks(trained.home.lake, trained.features, ["shop 1", "shop 2"], 2)
    assert [task.segments for task in found if task.threads == 2] == [frozenset(["shop 1"])]
    trains = [key for task in found for key in (task.segments or frozenset()) - task.but]
    assert sorted(trains) == ["shop 1", "shop 2"]


def test_large_segments_have_the_same_models_as_on_one_thread(own: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LARGE_SEGMENT", LARGE)
    made = again(own, anew=True, failures=Failures(time_limit=30.0, retries=0))
    rows = listed(made)
    assert set(rows) == {*GOOD, CLOSED, *SKIPPED}
    assert {key: rows[key]["status"] for key in (*GOOD, CLOSED)} == dict.fromkeys((*GOOD, CLOSED), "trained")
    threads = {key: rows[key]["threads"] for key in (*GOOD, CLOSED)}
    assert threads == {"shop 0": 2, "shop 1": 2, "shop 2": 1, CLOSED: 1}
    for which in ("served", "judged"):
        assert packed_models(made, which) == packed_models(own, which)


def test_a_large_segment_is_trained_by_a_worker_that_trained_the_fleet_wide_model_before(
    tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its child is forked from a process whose OpenMP threads exist already, and must not wait for them for ever."""
    monkeypatch.setattr(tasks, "LARGE_SEGMENT", 40)
    home = house(tmp_path / "h", spark, mixed_table(), **mixed_keys(), fleet_model={"enabled": True})
    made = train(home, failures=Failures(time_limit=30.0, retries=0))
    rows = listed(made)
    assert {key: rows[key]["reason"] for key in rows if rows[key]["status"] == "failed"} == {}
    assert {rows[key]["threads"] for key in (*GOOD, CLOSED)} == {2}
    assert shard_files(home) == {row["shard"] for row in rows.values() if row["shard"]} | {made.training.fleet_file}


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_packed_model_does_not_tell_how_many_threads_made_it(tmp_path: Path, threads: int) -> None:
    rows = segment()
    x, y = rows.through(99)
    one = packed(fit(x, y, recipe().model, []))
    assert packed(fit(x, y, recipe().model, [], threads)) == one


def test_the_fleet_wide_sample_is_as_many_rows_as_were_asked_for(trained: Trained) -> None:
    files = committed_files(trained.home.lake, trained.features)
    valid = trained.features.record["rows"]["valid"]
    for rows in (10 * valid, valid, valid // 2, 1):
        task = fleet_task(
            trained.home.lake, trained.features, trained.recipe.model_copy(update={"fleet_rows": rows}), "n"
        )
        assert set(task.files) <= set(files.values())
        assert len(task.files) == len(set(task.files)) >= 1
        assert task.share == min(1.0, rows / valid * len(files) / len(task.files))
        assert task.lake == trained.home.lake.root


def test_a_bucket_that_is_read_holds_the_segments_its_tasks_name(trained: Trained) -> None:
    found = training_tasks(trained.home.lake, trained.features, None, 1)
    keys = [rows.key for task in found for rows in read_bucket(task.files, trained.recipe).segments()]
    assert sorted(keys) == sorted([*GOOD, CLOSED, *SKIPPED])
