"""Tens of thousands of segments in one run, on SQLite and on a Postgres server: who is marked, and at what price."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as db
from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DataVersion,
    Definitions,
    MaterializeResult,
    asset,
    materialize,
)
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from assets.models import events
from assets.partitions import add_partitions, partition_key, segment_values
from orchestration.event_log import BATCHING
from orchestration.postgres import BatchedPostgresEventLogStorage, with_driver
from resources.settings import REPOSITORY_ROOT
from tests.hostile import HOSTILE
from tests.instances import POSTGRES, documented_settings, instance_of
from tests.recording import KEY, SEGMENTS, listing, marks, recording


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement sent to any database."""
    sent: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    db.event.listen(db.Engine, "before_cursor_execute", keep)
    yield sent
    db.event.remove(db.Engine, "before_cursor_execute", keep)


def test_a_scattered_set_is_one_run_and_only_the_trained_are_marked(instance: DagsterInstance) -> None:
    keys = [partition_key([f"store {n // 60}", f"{n % 60}"]) for n in range(6_000)]
    add_partitions(instance, SEGMENTS, keys)
    statuses = ["trained", "failed", "trained", "skipped", "trained"]
    asked = {key: statuses[n % 5] for n, key in enumerate(keys[::7] + keys[3::11])}
    trained = {key: n for n, (key, status) in enumerate(asked.items()) if status == "trained"}

    result = materialize([recording(listing(asked))], instance=instance)

    assert result.success
    assert len(trained) > 700
    assert marks(instance) == list(trained.items())
    assert instance.get_materialized_partitions(KEY) == set(trained)
    assert [run.run_id for run in instance.get_runs()] == [result.run_id]
    assert {record.run_id for record in instance.fetch_materializations(KEY, limit=5_000).records} == {result.run_id}


def test_a_batch_costs_a_handful_of_statements(
    instance: DagsterInstance, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of the same steps, of which one stores three batches more."""
    monkeypatch.setattr(events, "ROWS_A_BATCH", 500)
    counted = []
    for name, size in (("small", 500), ("large", 2_000)):
        statements.clear()
        listed = listing({f"{name} {n}": "trained" for n in range(size)})
        assert materialize([recording(listed)], instance=instance).success
        counted.append(len(statements))
    assert len(instance.get_materialized_partitions(KEY)) == 2_500
    assert counted[1] - counted[0] <= 3 * 8


def test_what_a_step_prints_is_not_a_line_a_segment(
    instance: DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    assert materialize([recording(listing({f"s{n}": "trained" for n in range(600)}))], instance=instance).success
    assert len(capfd.readouterr().err.splitlines()) < 100


def test_a_run_that_died_halfway_is_repeated_without_doubles(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = listing({f"s{n}": "trained" for n in range(1_500)})
    monkeypatch.setattr(events, "ROWS_A_BATCH", 500)
    storage, stored = instance.event_log_storage, []
    store = storage.store_event_batch

    def stores_one(batch: Any) -> None:
        if stored:
            raise ConnectionError("the database went away")
        stored.append(batch)
        store(batch)

    monkeypatch.setattr(storage, "store_event_batch", stores_one)
    assert not materialize([recording(listed)], instance=instance, raise_on_error=False).success
    assert len(marks(instance)) == 500
    monkeypatch.undo()
    assert materialize([recording(listed)], instance=instance).success
    assert marks(instance) == [(f"s{n}", n) for n in range(1_500)]


def test_a_batch_is_stored_whole_or_not_at_all(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = instance.event_log_storage
    store_tags = storage._store_asset_event_tags

    def fails_in_a_batch(connection: Any, events: Any, ids: Any) -> None:
        if len(events) > 1:
            raise ConnectionError("the database went away")
        store_tags(connection, events, ids)

    monkeypatch.setattr(storage, "_store_asset_event_tags", fails_in_a_batch)
    done = materialize([recording(listing({"a": "trained", "b": "trained"}))], instance=instance, raise_on_error=False)
    assert not done.success
    assert marks(instance) == []
    assert instance.get_materialized_partitions(KEY) == set()


def test_another_training_marks_its_segments_again(instance: DagsterInstance) -> None:
    both = {"a": "trained", "b": "trained"}
    for training, statuses in (("t1", both), ("t2", {"b": "trained"}), ("t1", both)):
        assert materialize([recording(listing(statuses, training), training)], instance=instance).success
    assert [key for key, _ in marks(instance)] == ["a", "b", "b", "b"]


def test_forty_thousand_partitions_are_added_at_once(instance: DagsterInstance) -> None:
    keys = [f"store {n // 100}|{n % 100}" for n in range(40_000)]
    assert add_partitions(instance, SEGMENTS, keys) == 40_000
    assert add_partitions(instance, SEGMENTS, [*keys, "one more"]) == 1
    assert set(instance.get_dynamic_partitions(SEGMENTS)) == {*keys, "one more"}
    assert instance.has_dynamic_partition(SEGMENTS, keys[-1])


def test_hostile_names_come_back_letter_by_letter(instance: DagsterInstance) -> None:
    values = [[name, other] for name, other in zip(HOSTILE, reversed(HOSTILE), strict=True)]
    keys = [partition_key(pair) for pair in values]
    add_partitions(instance, SEGMENTS, keys)
    assert sorted(map(segment_values, instance.get_dynamic_partitions(SEGMENTS))) == sorted(values)

    assert materialize([recording(listing(dict.fromkeys(keys, "trained")))], instance=instance).success

    assert [segment_values(key) for key, _ in marks(instance)] == values
    assert instance.get_materialized_partitions(KEY) == set(keys)


def test_a_range_of_partitions_is_planned_as_one_event(instance: DagsterInstance) -> None:
    keys = [f"{n:04}" for n in range(1_200)]
    add_partitions(instance, SEGMENTS, keys)
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    trained = dict.fromkeys(keys[::2], "trained")

    result = materialize([recording(listing(trained))], instance=instance, tags=tags)

    planned = instance.get_records_for_run(result.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert len(planned.records) == 1
    assert instance.get_materialized_partitions(KEY) == set(trained)


def test_a_segment_is_out_of_date_when_its_features_changed_and_not_before(instance: DagsterInstance) -> None:
    versions = iter("12")

    @asset(key=AssetKey(["tiny", "features"]))
    def features() -> MaterializeResult:
        return MaterializeResult(data_version=DataVersion(next(versions)))

    segment_models = recording(listing({"a": "trained"}))
    stale = []
    for chosen in ([features, segment_models], [features]):
        assert materialize([features, segment_models], instance=instance, selection=chosen).success
        graph = Definitions(assets=[features, segment_models]).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        stale.append(resolver.get_status(KEY, "a").value)
    assert stale == ["FRESH", "STALE"]


@pytest.mark.parametrize("start", ["postgresql+psycopg2://", "postgresql://", "postgres://"])
def test_any_spelling_of_the_address_opens_the_database(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    for name in BATCHING:
        monkeypatch.delenv(name)
    address = start + postgres_url.partition("://")[2]
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", address)
    with instance_of(documented_settings(POSTGRES), tmp_path) as instance:
        assert isinstance(instance.event_log_storage, BatchedPostgresEventLogStorage)
        assert instance.get_runs() == []
        assert {name: os.environ[name] for name in BATCHING} == BATCHING
    assert with_driver("postgresql+psycopg://h/d") == "postgresql+psycopg://h/d"


def test_loading_the_definitions_turns_batching_on() -> None:
    """Whatever storage they meet, as Dagster's own Postgres storage."""
    program = f"import os, orchestration.definitions; print([os.environ.get(n) for n in {list(BATCHING)}])"
    bare = {name: value for name, value in os.environ.items() if name not in BATCHING}
    environment = {**bare, "FLEET_CONFIG": str(REPOSITORY_ROOT / "fleet.yaml")}
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY_ROOT,
        env=environment,
        check=True,
    )
    assert said.stdout.splitlines()[-1] == str(list(BATCHING.values()))
