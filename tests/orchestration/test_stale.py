"""Models that serve though they are old are told once, but for those that somebody pinned."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from dagster import DagsterInstance

from orchestration.sensors import stale
from orchestration.sensors.stale import champion_age, stale_trainings
from resources.lake import Lake
from resources.mlflow import Mlflow
from tests.inbox import Inbox, open_inbox
from tests.looking import Looking, small_settings

NOW = datetime(2026, 1, 7, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "segment": pa.string(),
        "training": pa.string(),
        "finished_at": pa.timestamp("us", "UTC"),
        "pinned_until": pa.date32(),
    }.items()
)


def listing(*rows: tuple[str, str, float | None, date | None]) -> pa.Table:
    """Segments, each with its training, the days since it was fitted, and until when it is pinned."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for segment, training, days, pinned in rows:
        fitted = None if days is None else NOW - timedelta(days=days)
        for name, value in zip(SCHEMA.names, (segment, training, fitted, pinned), strict=True):
            columns[name].append(value)
    return pa.table(columns, schema=SCHEMA)


def found(rows: pa.Table, limit: float = 28) -> dict[str, list[str]]:
    return {each.training: each.segments.to_pylist() for each in stale_trainings(rows, NOW, limit)}


def test_a_training_is_stale_when_its_newest_model_is() -> None:
    rows = listing(("a", "old", 40, None), ("b", "old", 30, None), ("c", "new", 5, None), ("d", "new", 90, None))
    assert found(rows) == {"old": ["a", "b"]}  # what was not fitted anew because it has no new row is not stale
    assert found(rows, 31) == {}
    assert found(rows, 3) == {"old": ["a", "b"], "new": ["c", "d"]}


def test_segments_without_a_model_say_nothing_of_its_age() -> None:
    assert found(listing(("a", "old", None, None))) == {}
    assert found(listing(("a", "old", None, None), ("b", "old", 50, None))) == {"old": ["a", "b"]}


def test_what_somebody_pinned_is_meant_to_be_old() -> None:
    tomorrow, yesterday = NOW.date() + timedelta(days=1), NOW.date() - timedelta(days=1)
    rows = listing(("a", "x", 40, tomorrow), ("b", "x", 40, yesterday), ("c", "y", 40, tomorrow))
    assert found(rows) == {"x": ["b"]}
    assert found(rows.drop_columns(["pinned_until"])) == {"x": ["a", "b"], "y": ["c"]}


@pytest.mark.parametrize(
    ("cron", "given", "days"),
    [("0 3 * * 1", None, 28), ("0 3 1 * *", None, 120), ("@hourly", None, 28), ("0 3 1 * *", 7.0, 7)],
)
def test_four_rounds_of_the_schedule_are_too_old_unless_fleet_yaml_says_otherwise(
    cron: str, given: float | None, days: float
) -> None:
    settings = small_settings(schedule={"cron": cron}, notify={} if given is None else {"champion_age": given})
    assert champion_age(settings) == pytest.approx(days, abs=4)


class Registry(Mlflow):
    """A registry whose champion is version 12."""

    def aliased(self, alias: str) -> dict[str, str]:
        return {"version": "12", "published": "it"}


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with open_inbox() as made:
        yield made


def test_each_stale_training_is_told_once(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"now": listing(*[(f"s{n}", "a", 40.0, None) for n in range(12)], ("new", "b", 1.0, None))}
    monkeypatch.setattr(stale, "published_rows", lambda lake, published: rows["now"])
    resources = {"lake": Lake(uri="nowhere"), "mlflow": Registry(tracking_uri="", experiment="tiny")}
    settings = small_settings(notify={"champion_age": (datetime.now(UTC) - NOW).total_seconds() / 86_400 + 28})
    with DagsterInstance.ephemeral() as instance:
        looking = Looking("stale_champions", instance, settings, inbox.url, resources)
        looking.look()
        assert looking.said() == "version 12: no model is newly stale"
        [message] = inbox.messages
        assert (message["title"], message["type"]) == ("tiny: models of version 12 are stale", "warning")
        assert "12 of 13 segments have models of 2025-11-28: s0, s1, " in message["message"]
        assert "s9 and 2 more" in message["message"]
        rows["now"] = listing(("s0", "a", 40.0, None), ("new", "b", 29.0, None))
        looking.look()
        assert "1 of 2 segments have models of 2025-12-09: new" in inbox.messages[1]["message"]
        assert "s0" not in inbox.messages[1]["message"]
