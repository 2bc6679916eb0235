"""What the page of a run with very many partitions loads, on SQLite and on a Postgres server."""

from __future__ import annotations

import pytest
from dagster import DagsterEventType, DagsterInstance, materialize
from dagster._core.event_api import EventLogCursor
from dagster._core.execution.stats import StepEventStatus

from orchestration import run_log
from tests.recording import KEY, listing, recording


@pytest.mark.parametrize("count", [100, 101])
def test_the_log_of_a_run_shows_its_first_partitions_and_every_other_event(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(run_log, "PARTITIONS_SHOWN", 100)
    run_id = materialize([recording(listing({f"s{n}": "trained" for n in range(count)}))], instance=instance).run_id
    made = DagsterEventType.ASSET_MATERIALIZATION
    log = instance.get_records_for_run(run_id).records
    of_dagster = [r for r in log if r.event_log_entry.is_dagster_event]
    assert [r.partition_key for r in of_dagster if r.event_type == made] == [f"s{n}" for n in range(100)]
    assert log[-1].event_type == DagsterEventType.RUN_SUCCESS
    assert {r.event_type for r in of_dagster} >= {DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS, made}
    assert f"{count} models" in [r.event_log_entry.user_message for r in log]
    assert len(instance.get_records_for_run(run_id, of_type=made).records) == count

    assert paged(instance, run_id, ascending=True) == [r.storage_id for r in log]
    assert paged(instance, run_id, ascending=False) == [r.storage_id for r in log][::-1]
    seventh = EventLogCursor.from_offset(7).to_string()
    assert [r.storage_id for r in instance.get_records_for_run(run_id, seventh).records] == [r.storage_id for r in log][
        7:
    ]
    assert len(instance.get_materialized_partitions(KEY)) == count


def test_steps_of_a_long_run_have_their_times_and_outcomes(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = materialize([recording(listing({f"s{n}": "trained" for n in range(300)}))], instance=instance).run_id
    monkeypatch.setattr(run_log, "PARTITIONS_SHOWN", 300)
    (stock,) = instance.get_run_step_stats(run_id)
    assert len(stock.materialization_events) == 300
    monkeypatch.setattr(run_log, "PARTITIONS_SHOWN", 100)
    for asked in (None, [stock.step_key]):
        (short,) = instance.get_run_step_stats(run_id, asked)
        assert len(short.materialization_events) == 100
        for name in ("step_key", "status", "start_time", "end_time", "attempts", "attempts_list"):
            assert getattr(short, name) == getattr(stock, name)
    assert (stock.status, stock.attempts) == (StepEventStatus.SUCCESS, 1)
    assert instance.get_run_step_stats(run_id, ["another"]) == []


def paged(instance: DagsterInstance, run_id: str, ascending: bool) -> list[int]:
    """Ids of a run's log, as the UI asks for them: page by page until there is no more, and once again."""
    ids, cursor, more = [], None, True
    while more:
        page = instance.get_records_for_run(run_id, cursor, limit=7, ascending=ascending)
        ids += [record.storage_id for record in page.records]
        cursor, more = page.cursor, page.has_more
    again = instance.get_records_for_run(run_id, cursor, limit=7, ascending=ascending)
    assert (list(again.records), again.cursor) == ([], cursor)
    return ids
