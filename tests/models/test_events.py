"""Partitions: only trained segments are marked, each with metadata of its own, in one run."""

import os
import signal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from dagster import (
    AssetExecutionContext,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    EventRecordsFilter,
    asset,
    materialize,
)

from assets.models import asset as asset_module
from assets.models import train as train_module
from assets.models.asset import TrainingConfig, models_asset
from assets.models.bucket import SegmentRows
from assets.models.checks import models_checks
from assets.models.events import record_materializations, segment_metadata
from assets.models.segment import fit_segment
from assets.models.store import LISTING
from assets.models.worker import train_bucket
from assets.partitions import add_partitions
from resources.mlflow import Mlflow
from tests.lakes import CLOSED, GOOD, SKIPPED, Trained, built, mixed_table, pickled_by_value

KEY = AssetKey(["tiny", "segment_models"])
ALL = [*GOOD, CLOSED, *SKIPPED]


def events(instance: DagsterInstance, run_id: str) -> dict[str, Any]:
    """Materializations of partitions in a run, by partition."""
    asked = EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, asset_key=KEY)
    found = [r for r in instance.get_event_records(asked) if r.run_id == run_id and r.partition_key]
    assert len({record.partition_key for record in found}) == len(found)
    return {record.partition_key: record.asset_materialization for record in found}


def train(made: Trained, instance: DagsterInstance, checks: bool = False, **arguments: Any) -> Any:
    settings, known = made.home.settings, made.home
    add_partitions(instance, settings.partitions_name, ALL)
    given = {name: arguments.pop(name) for name in ("segments", "force") if name in arguments}
    config = {"ops": {"tiny__segment_models": {"config": given}}} if given else {}
    assets = [models_asset(settings), *(models_checks(settings) if checks else [])]
    mlflow = Mlflow(tracking_uri=settings.tracking_uri, experiment="tiny")
    resources = {"lake": known.lake, "spark": known.spark, "mlflow": mlflow}
    return materialize(assets, instance=instance, resources=resources, run_config=config, **arguments)


@pytest.fixture
def instance() -> DagsterInstance:
    return DagsterInstance.ephemeral()


def test_a_run_of_everything_marks_what_was_trained_and_no_more(own: Trained, instance: DagsterInstance) -> None:
    result = train(own, instance, checks=True)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    marked = events(instance, result.run_id)
    assert set(marked) == {*GOOD, CLOSED}
    assert instance.get_materialized_partitions(KEY) == {*GOOD, CLOSED}
    rows = {key: marked[key].metadata["rows"].value for key in marked}
    assert rows == {"shop 0": 60, "shop 1": 60, "shop 2": 57, CLOSED: 50}
    assert (
        marked["shop 0"].metadata["fold wape of model"].value < marked["shop 0"].metadata["fold wape of baseline"].value
    )
    assert marked["shop 0"].metadata["serves"].value == "segment"
    again = train(own, instance)
    assert events(instance, again.run_id) == {}


def test_a_scattered_set_is_one_run_and_only_it_is_marked(own: Trained, instance: DagsterInstance) -> None:
    result = train(own, instance, force=True, segments=["shop 2", "constant", "shop 0"])
    assert set(events(instance, result.run_id)) == {"shop 0", "shop 2"}
    assert instance.get_materialized_partitions(KEY) == {"shop 0", "shop 2"}
    assert len(instance.get_runs()) == 1


def test_a_run_of_a_range_marks_nothing_untrained(own: Trained, instance: DagsterInstance) -> None:
    tags = {"dagster/asset_partition_range_start": CLOSED, "dagster/asset_partition_range_end": "shop 1"}
    result = train(own, instance, force=True, tags=tags)
    assert result.success
    assert set(events(instance, result.run_id)) == {"shop 0", "shop 1", CLOSED}
    assert instance.get_materialized_partitions(KEY) == {"shop 0", "shop 1", CLOSED}


def test_a_run_of_one_partition_trains_it(own: Trained, instance: DagsterInstance) -> None:
    result = train(own, instance, force=True, partition_key="shop 1")
    assert instance.get_materialized_partitions(KEY) == {"shop 1"}
    assert set(events(instance, result.run_id)) == {"shop 1"}


def test_of_what_was_forced_only_what_can_be_trained_is_marked(own: Trained, instance: DagsterInstance) -> None:
    result = train(own, instance, force=True, segments=["shop 1", "short"])
    assert set(events(instance, result.run_id)) == {"shop 1"}


def fails_for_shop_1(rows: SegmentRows, *others: Any) -> dict[str, Any]:
    if rows.key == "shop 1":
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_segment(rows, *others)


def test_what_failed_is_not_marked_and_the_check_says_so(
    own: Trained, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled_by_value(__name__)
    monkeypatch.setattr(train_module, "train_bucket", partial(train_bucket, fit=fails_for_shop_1))
    result = train(own, instance, checks=True, force=True)
    assert result.success
    assert set(events(instance, result.run_id)) == {"shop 0", "shop 2", CLOSED}
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [check.check_name for check in failed] == ["few_failures"]
    (example,) = failed[0].metadata["examples"].value
    assert example["segment"] == "shop 1"
    assert "signal 9" in example["reason"]


def test_only_what_changed_is_marked_again(own: Trained, instance: DagsterInstance) -> None:
    first = train(own, instance, force=True)
    assert set(events(instance, first.run_id)) == {*GOOD, CLOSED}
    table = mixed_table()
    table.loc[(table["shop"] == "shop 1") & (table["day"] == "2024-01-21"), "sold"] += 5.0
    own.home.bring(table)
    built(own.home)
    second = train(own, instance)
    assert set(events(instance, second.run_id)) == {"shop 1"}
    assert instance.get_materialized_partitions(KEY) == {*GOOD, CLOSED}


def test_a_run_that_died_over_its_records_is_completed_by_the_next(
    own: Trained, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(context: AssetExecutionContext, listing: pa.Table, *others: Any) -> int:
        some = listing.filter(pc.is_in(listing["segment"], pa.array(["shop 0", "shop 1"])))
        assert record_materializations(context, some, *others) == 2
        raise OSError("the log is gone")

    with monkeypatch.context() as patched:
        patched.setattr(asset_module, "record_materializations", dies)
        assert not train(own, instance, raise_on_error=False).success
    assert instance.get_materialized_partitions(KEY) == {"shop 0", "shop 1"}
    result = train(own, instance)
    assert set(events(instance, result.run_id)) == {"shop 2", CLOSED}


def test_nobody_by_that_name_is_a_mistake_explained_and_not_retried(own: Trained, instance: DagsterInstance) -> None:
    result = train(own, instance, segments=["nobody"], raise_on_error=False)
    assert not result.success
    failures = [event for event in result.all_events if event.is_step_failure]
    assert (
        "no such segment: 'nobody'"
        in failures[0].step_failure_data.user_failure_data.metadata["input_problems"].value[0]
    )
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def row(**keys: Any) -> dict[str, Any]:
    return {**dict.fromkeys(LISTING.names), "status": "trained", "chosen": "segment", **keys}


def test_thousands_of_events_keep_their_own_metadata() -> None:
    count = 2_501
    rows = [
        row(segment=f"s{n}", rows=n, trees=1, fold_count=0, status="failed" if n == 7 else "trained")
        for n in range(count)
    ]
    listing = pa.Table.from_pylist(rows, LISTING)

    @asset(key=KEY, output_required=False)
    def marks(context: AssetExecutionContext):  # type: ignore[no-untyped-def]
        assert record_materializations(context, listing, "wape", "t1") == count - 1
        yield from ()

    instance = DagsterInstance.ephemeral()
    result = materialize([marks], instance=instance)
    marked = events(instance, result.run_id)
    assert set(marked) == {f"s{n}" for n in range(count) if n != 7}
    assert all(marked[f"s{n}"].metadata["rows"].value == n for n in (0, 999, 1000, 2500))


def test_a_segment_without_a_fold_shows_no_error() -> None:
    shown = segment_metadata(row(fold_count=0, rows=3, trees=2), "wape")
    assert shown == {"serves": "segment", "rows": 3, "trees": 2}


def test_config_takes_any_segments() -> None:
    assert TrainingConfig().segments is None
    assert TrainingConfig(segments=["a|b"]).segments == ["a|b"]
