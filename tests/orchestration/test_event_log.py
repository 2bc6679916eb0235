"""The batched event log leaves what Dagster's own leaves, in one transaction a database."""

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as db
import yaml
from dagster import (
    AssetCheckKey,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    DagsterInstance,
    DynamicPartitionsDefinition,
    asset,
    materialize,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationPlanned,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.events import (
    AssetMaterializationFailure,
    AssetMaterializationFailureReason,
    AssetMaterializationFailureType,
)
from dagster._core.events import (
    AssetFailedToMaterializeData,
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    DagsterEventBatchMetadata,
    StepMaterializationData,
)
from dagster._core.events import DagsterEventType as EventType
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.config import PoolGranularity
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration import event_log
from orchestration.event_log import (
    BatchedSqliteEventLogStorage,
    BatchedSqliteStorage,
    RootedArtifactStorage,
    RootedComputeLogManager,
    enable_batching,
)

RUNS = ["run_a", "run_b"]
ASSETS = [AssetKey("raw"), AssetKey(["models", "segment_models"])]
COMPARED = ["event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"]
WRITTEN_BY_THE_CLOCK = {"create_timestamp"}


# --- events ---------------------------------------------------------------------------------------


def entry(kind: EventType, data: Any, run_id: str = "run_a", when: float = 0.0) -> EventLogEntry:
    event = DagsterEvent(kind.value, job_name="weekly", event_specific_data=data, step_key="train")
    return EventLogEntry(
        error_info=None,
        level=10,
        user_message="",
        run_id=run_id,
        timestamp=1_700_000_000.0 + when,
        step_key="train",
        job_name="weekly",
        dagster_event=event,
    )


def materialized(
    key: AssetKey, partition: str | None = None, tags: dict[str, str] | None = None, **kwargs: Any
) -> EventLogEntry:
    materialization = AssetMaterialization(key, partition=partition, tags=tags, metadata={"rows": 3})
    return entry(EventType.ASSET_MATERIALIZATION, StepMaterializationData(materialization), **kwargs)


def observed(key: AssetKey, partition: str | None, tags: dict[str, str], **kwargs: Any) -> EventLogEntry:
    observation = AssetObservation(key, partition=partition, tags=tags)
    return entry(EventType.ASSET_OBSERVATION, AssetObservationData(observation), **kwargs)


def planned(key: AssetKey, partition: str | None, **kwargs: Any) -> EventLogEntry:
    data = AssetMaterializationPlannedData(key, partition=partition)
    return entry(EventType.ASSET_MATERIALIZATION_PLANNED, data, **kwargs)


def not_materialized(key: AssetKey, partition: str | None, **kwargs: Any) -> EventLogEntry:
    failure = AssetMaterializationFailure(
        asset_key=key,
        partition=partition,
        failure_type=AssetMaterializationFailureType.FAILED,
        reason=AssetMaterializationFailureReason.FAILED_TO_MATERIALIZE,
    )
    return entry(EventType.ASSET_FAILED_TO_MATERIALIZE, AssetFailedToMaterializeData(failure), **kwargs)


def check_planned(key: AssetKey, name: str, **kwargs: Any) -> EventLogEntry:
    data = AssetCheckEvaluationPlanned(asset_key=key, check_name=name)
    return entry(EventType.ASSET_CHECK_EVALUATION_PLANNED, data, **kwargs)


def check_evaluated(key: AssetKey, name: str, passed: bool, **kwargs: Any) -> EventLogEntry:
    evaluation = AssetCheckEvaluation(
        asset_key=key, check_name=name, passed=passed, metadata={}, severity=AssetCheckSeverity.WARN
    )
    return entry(EventType.ASSET_CHECK_EVALUATION, evaluation, **kwargs)


def run_status(kind: EventType, **kwargs: Any) -> EventLogEntry:
    return entry(kind, None, **kwargs)


def logged(message: str, run_id: str, when: float) -> EventLogEntry:
    """A line a user logged, which is no Dagster event."""
    return EventLogEntry(
        error_info=None, level=20, user_message=message, run_id=run_id, timestamp=1_700_000_000.0 + when
    )


def build(kind: str, key: AssetKey, partition: str | None, tags: dict[str, str], **kwargs: Any) -> EventLogEntry:
    builders: dict[str, Callable[[], EventLogEntry]] = {
        "materialized": lambda: materialized(key, partition, tags, **kwargs),
        "observed": lambda: observed(key, partition, tags, **kwargs),
        "planned": lambda: planned(key, partition, **kwargs),
        "not materialized": lambda: not_materialized(key, partition, **kwargs),
        "check": lambda: check_evaluated(key, partition or "whole", bool(tags), **kwargs),
        "started": lambda: run_status(EventType.RUN_START, **kwargs),
        "failed": lambda: run_status(EventType.RUN_FAILURE, **kwargs),
        "step": lambda: entry(EventType.STEP_START, None, **kwargs),
        "logged": lambda: logged(f"about {partition}", **kwargs),
    }
    return builders[kind]()


KINDS = [
    "materialized",
    "observed",
    "planned",
    "not materialized",
    "check",
    "started",
    "failed",
    "step",
    "logged",
]
TAGS = st.sampled_from([{}, {DATA_VERSION_TAG: "v1"}, {DATA_VERSION_TAG: "v2", "team": "pricing"}])


@st.composite
def batches(draw: st.DrawFn) -> list[EventLogEntry]:
    """A run's mixed events in any order, sometimes of two runs, after the checks it has planned."""
    plans = draw(st.sets(st.tuples(st.sampled_from(RUNS), st.sampled_from(ASSETS), st.sampled_from("pq"))))
    events = [check_planned(key, name, run_id=run_id) for run_id, key, name in sorted(plans, key=str)]
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(KINDS),
                st.sampled_from(ASSETS),
                st.sampled_from([None, "p", "q"]),
                TAGS,
                st.sampled_from(RUNS),
            ),
            min_size=12,
            max_size=40,
        )
    )
    events += [
        build(kind, key, partition, tags, run_id=run_id, when=float(i))
        for i, (kind, key, partition, tags, run_id) in enumerate(drawn)
    ]
    return events


# --- what a storage holds ---------------------------------------------------------------------------


def rows(folder: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Every row of every database under a folder, but for the times at which rows were written."""
    held: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            held[path.name] = {
                table: [
                    {name: row[name] for name in row.keys() if name not in WRITTEN_BY_THE_CLOCK}  # noqa: SIM118
                    for row in connection.execute(f"select * from {table} order by id")
                ]
                for table in COMPARED
            }
    return held


@pytest.fixture
def committed() -> Iterator[Counter[str]]:
    """How many transactions were committed, by database."""
    counts: Counter[str] = Counter()

    def count(connection: db.Connection) -> None:
        counts[Path(str(connection.engine.url.database)).name] += 1

    db.event.listen(db.Engine, "commit", count)
    yield counts
    db.event.remove(db.Engine, "commit", count)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Databases with their tables, which take longer to make than to fill."""
    folder = tmp_path_factory.mktemp("empty")
    storage = SqliteEventLogStorage(str(folder))
    for run_id in RUNS:
        with storage.run_connection(run_id):
            pass
    return folder


@settings(max_examples=30)
@given(first=batches(), second=batches())
def test_batches_leave_the_rows_of_the_stock_loop(
    tmp_path_factory: pytest.TempPathFactory,
    empty: Path,
    first: list[EventLogEntry],
    second: list[EventLogEntry],
) -> None:
    folder = tmp_path_factory.mktemp("both")
    stock_folder, batched_folder = (shutil.copytree(empty, folder / name) for name in ("stock", "batched"))
    stock = SqliteEventLogStorage(str(stock_folder))
    batched = BatchedSqliteEventLogStorage(str(batched_folder))
    checks_planned = {EventType.ASSET_CHECK_EVALUATION_PLANNED}
    second = [event for event in second if event.dagster_event_type not in checks_planned]

    for batch in (first, second):
        stock.store_event_batch(batch)
        batched.store_event_batch(batch)

    assert rows(batched_folder) == rows(stock_folder)


def test_the_property_would_notice_a_missing_mirror(tmp_path: Path) -> None:
    """Each kind of event leaves the rows that the comparison above relies on seeing."""
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event_batch(
        [
            check_planned(ASSETS[0], "p"),
            materialized(ASSETS[0], "p", {DATA_VERSION_TAG: "v1", "team": "pricing"}),
            observed(ASSETS[1], None, {DATA_VERSION_TAG: "v2"}),
            check_evaluated(ASSETS[0], "p", True),
            run_status(EventType.RUN_SUCCESS),
            entry(EventType.STEP_START, None),
            logged("a line", "run_a", 0.0),
        ]
    )
    held = rows(tmp_path)
    assert len(held["run_a.db"]["event_logs"]) == 7
    assert len(held["index.db"]["event_logs"]) == 5
    assert [row["value"] for row in held["index.db"]["asset_event_tags"]] == ["v1", "v2"]
    assert [row["asset_key"] for row in held["index.db"]["asset_keys"]] == [k.to_string() for k in ASSETS]
    assert [row["execution_status"] for row in held["index.db"]["asset_check_executions"]] == ["SUCCEEDED"]


def test_a_batch_is_one_transaction_a_database(tmp_path: Path, committed: Counter[str]) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event(run_status(EventType.RUN_START))  # makes the shard's tables
    committed.clear()

    storage.store_event_batch(
        [
            check_planned(ASSETS[0], "p"),
            *[materialized(ASSETS[0], f"segment {i}", {DATA_VERSION_TAG: "v1"}) for i in range(1000)],
            check_evaluated(ASSETS[0], "p", True),
            run_status(EventType.RUN_SUCCESS),
        ]
    )

    assert committed == {"run_a.db": 1, "index.db": 1}


def test_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Dagster then stores the batch's events one by one: what was left would be there twice."""
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event_batch([check_planned(ASSETS[0], "p"), check_planned(ASSETS[0], "p")])
    before = rows(tmp_path)

    with pytest.raises(Exception, match="duplicate AssetCheckPlanned"):
        storage.store_event_batch([materialized(ASSETS[0], "p"), check_evaluated(ASSETS[0], "p", True)])

    assert rows(tmp_path) == before
    storage.store_event(materialized(ASSETS[0], "p"))
    assert storage.get_materialized_partitions(ASSETS[0]) == {"p"}


def test_five_thousand_segments_are_materialized(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    segments = [f"store {i % 50} | department {i // 50}" for i in range(5000)]
    storage.store_event_batch([materialized(ASSETS[1], segment) for segment in segments])
    assert storage.get_materialized_partitions(ASSETS[1]) == set(segments)


# --- through Dagster --------------------------------------------------------------------------------


def instance_in(folder: Path) -> DagsterInstance:
    """An instance that keeps its state in a folder, configured by the repository's dagster.yaml."""
    repository = Path(event_log.__file__).resolve().parents[1]
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), config_dir=str(repository)))


def test_events_of_a_step_reach_the_storage_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    store = BatchedSqliteEventLogStorage.store_event_batch

    def counting(self: BatchedSqliteEventLogStorage, events: list[EventLogEntry]) -> None:
        sizes.append(sum(event.dagster_event_type == EventType.ASSET_MATERIALIZATION for event in events))
        store(self, events)

    monkeypatch.setattr(event_log, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.setattr(BatchedSqliteEventLogStorage, "store_event_batch", counting)
    segments = [f"segment {i}" for i in range(2500)]
    trained = segments[::2] + segments[1::4]

    @asset(output_required=False, partitions_def=DynamicPartitionsDefinition(name="segment"))
    def segment_models(context: AssetExecutionContext) -> Iterator[Any]:
        for segment in trained:
            batch = DagsterEventBatchMetadata("of this step", segment is trained[-1])
            materialization = AssetMaterialization("segment_models", partition=segment)
            DagsterEvent.asset_materialization(context.get_step_execution_context(), materialization, batch)
        yield from ()

    with instance_in(tmp_path) as instance:
        instance.add_dynamic_partitions("segment", segments)
        assert materialize([segment_models], instance=instance, raise_on_error=True).success
        assert instance.get_materialized_partitions(AssetKey("segment_models")) == set(trained)
    assert [size for size in sizes if size] == [1000, 875]


def test_dagster_yaml_keeps_state_at_the_repository_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr(event_log, "REPOSITORY_ROOT", root)
    monkeypatch.chdir(elsewhere)

    @asset
    def raw() -> int:
        print("read 3 rows")
        return 3

    with instance_in(elsewhere) as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
        assert isinstance(instance.compute_log_manager, RootedComputeLogManager)
        assert not instance.telemetry_enabled
        pools = instance.get_concurrency_config().pool_config
        assert (pools.default_pool_limit, pools.pool_granularity) == (1, PoolGranularity.OP)
        assert materialize([raw], instance=instance).success

    assert (root / ".dagster/history/runs/index.db").exists()
    assert list((root / ".dagster").glob("**/compute_logs/*.out"))
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("base_dir", [".dagster", "{root}/.dagster"])
def test_base_dir_is_from_the_repository_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_dir: str) -> None:
    monkeypatch.setattr(event_log, "REPOSITORY_ROOT", tmp_path)
    config = yaml.dump({"base_dir": base_dir.format(root=tmp_path)})

    def configured(name: str) -> Any:
        return ConfigurableClassData("orchestration.event_log", name, config).rehydrate()

    assert configured("BatchedSqliteStorage").base_dir == str(tmp_path / ".dagster")
    assert isinstance(configured("BatchedSqliteStorage"), BatchedSqliteStorage)
    assert configured("RootedArtifactStorage").base_dir == str(tmp_path / ".dagster")
    assert isinstance(configured("RootedArtifactStorage"), RootedArtifactStorage)
    logs = configured("RootedComputeLogManager").get_captured_local_path(["run", "step"], "out")
    assert Path(logs).is_relative_to(tmp_path / ".dagster")


def test_many_that_open_a_new_folder_at_once_all_get_their_tables(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = str(tmp_path / str(attempt))
        with ThreadPoolExecutor(max_workers=8) as pool:
            opened = list(pool.map(lambda _, folder=folder: BatchedSqliteStorage(folder), range(8)))
        assert [storage.run_storage.get_runs() for storage in opened] == [[]] * 8


def test_of_many_that_want_the_only_slot_of_a_pool_at_once_one_gets_it(tmp_path: Path) -> None:
    storages = [BatchedSqliteEventLogStorage(str(tmp_path)) for _ in range(8)]
    for attempt in range(3):
        pool, start = f"pool {attempt}", Barrier(len(storages))
        storages[0].set_concurrency_slots(pool, 1)

        def claimed(number: int, pool: str = pool, start: Barrier = start) -> bool:
            start.wait()
            return storages[number].claim_concurrency_slot(pool, f"run {number}", "champions").is_claimed

        with ThreadPoolExecutor(max_workers=8) as threads:
            assert sum(threads.map(claimed, range(8))) == 1


def test_batching_is_on_unless_it_was_set_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "7")
    monkeypatch.delenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS")
    enable_batching()
    assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "7"
    assert os.environ["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] == "1"


def test_asset_checks_are_answered_from_a_batch(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event_batch([check_planned(ASSETS[0], "p"), check_evaluated(ASSETS[0], "p", False)])
    key = AssetCheckKey(ASSETS[0], "p")
    (record,) = storage.get_asset_check_execution_history(key, limit=10)
    assert record.status.value == "FAILED"
