"""Runs and checks that failed are told, once, with what, which segments, and where to look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
    DagsterRun,
    Failure,
    asset,
    asset_check,
    materialize,
)

from orchestration.sensors import outbox
from resources.notifier import LONGEST
from tests.inbox import Inbox, open_inbox
from tests.looking import Looking, small_settings

KEY = AssetKey(["tiny", "segment_models"])


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with open_inbox() as made:
        yield made


@pytest.fixture
def failures(inbox: Inbox) -> Iterator[Looking]:
    with DagsterInstance.ephemeral() as instance:
        made = Looking("failures", instance, small_settings(), inbox.url)
        made.look()
        yield made


def ran(
    instance: DagsterInstance, results: dict[str, AssetCheckResult], *, error: Exception | None = None, **tags: str
) -> DagsterRun:
    """A real run of one asset with checks that come out as told."""

    @asset(name="segment_models", key_prefix="tiny")
    def models() -> None:
        if error is not None:
            raise error

    def check(name: str, result: AssetCheckResult) -> Any:
        @asset_check(asset=KEY, name=name)
        def made() -> AssetCheckResult:
            return result

        return made

    checks = [check(name, result) for name, result in results.items()]
    own = {"fleet": "tiny", **tags}
    return materialize([models, *checks], instance=instance, tags=own, raise_on_error=False).dagster_run


def failing(severity: AssetCheckSeverity, **metadata: Any) -> AssetCheckResult:
    return AssetCheckResult(passed=False, severity=severity, metadata=metadata)


def errors(**metadata: Any) -> AssetCheckResult:
    return failing(AssetCheckSeverity.ERROR, **metadata)


def warns(**metadata: Any) -> AssetCheckResult:
    return failing(AssetCheckSeverity.WARN, **metadata)


OWN = {"warnings": False, "ui": "https://fleet.example.com/"}
PASSES = AssetCheckResult(passed=True)


def test_a_run_that_failed_is_told_once(failures: Looking, inbox: Inbox) -> None:
    run = ran(failures.instance, {}, error=Failure("table.parquet: is gone -> bring it\nday: unparsable"))
    failures.look()
    failures.look()
    [message] = inbox.messages
    assert message["title"] == "tiny: __ephemeral_asset_job__ failed"
    assert message["type"] == "failure"
    assert message["message"].splitlines() == [
        "segment_models failed: table.parquet: is gone -> bring it",
        "segment_models failed: day: unparsable",
        f"http://127.0.0.1:3000/runs/{run.run_id}",
    ]


def test_a_run_of_some_segments_that_failed_says_which(failures: Looking, inbox: Inbox) -> None:
    ran(failures.instance, {}, error=ValueError("x"), **{"fleet/drifted": "2: shop 1, ice 🍦"})
    failures.look()
    [message] = inbox.messages
    assert "it was asked for segments 2: shop 1, ice 🍦" in message["message"].splitlines()


def test_an_error_nobody_explained_says_what_it_is(failures: Looking, inbox: Inbox) -> None:
    ran(failures.instance, {}, error=ValueError("of postgresql://ann:s3cret@db/x"))
    failures.look()
    [message] = inbox.messages
    assert "segment_models failed: ValueError: of postgresql://***@db/x" in message["message"]


def test_checks_of_a_run_are_one_message_that_tells_errors_from_warnings(failures: Looking, inbox: Inbox) -> None:
    named = [{"segment": f"shop {n}", "reason": "killed"} for n in range(12)]
    results = {"many": errors(failed=12, share=1 / 3, examples=named), "late": warns(days=3), "good": PASSES}
    ran(failures.instance, results)
    failures.look()
    [message] = inbox.messages
    assert message["title"] == "tiny: __ephemeral_asset_job__: 1 check failed, 1 check warned"
    assert message["type"] == "failure"
    first, second, _ = message["message"].splitlines()
    assert first.startswith("ERROR segment_models.many: examples shop 0, killed; shop 1, killed; ")
    assert first.endswith("shop 9, killed and 2 more; failed 12; share 0.3333")
    assert second == "WARN segment_models.late: days 3"


def test_segments_that_failed_are_named_though_so_few_are_tolerated(failures: Looking, inbox: Inbox) -> None:
    few = AssetCheckResult(passed=True, metadata={"failed": 1, "examples": [{"segment": "ice 🍦", "reason": "hung"}]})
    ran(failures.instance, {"few_failures": few})
    ran(failures.instance, {"few_failures": AssetCheckResult(passed=True, metadata={"failed": 0})})
    failures.look()
    [message] = inbox.messages
    assert (message["title"], message["type"]) == ("tiny: __ephemeral_asset_job__: some segments failed", "warning")
    assert "tolerated segment_models.few_failures: examples ice 🍦, hung; failed 1" in message["message"]


def test_warnings_are_kept_back_where_fleet_yaml_says_so(failures: Looking, inbox: Inbox) -> None:
    failures = replace(failures, settings=small_settings(notify=OWN), made=None)
    ran(failures.instance, {"late": warns()})
    run = ran(failures.instance, {"late": warns(), "many": errors()})
    failures.look()
    [message] = inbox.messages
    link = f"https://fleet.example.com/runs/{run.run_id}"
    assert message["message"].splitlines() == ["ERROR segment_models.many: failed", link]


def test_a_warning_that_stands_is_told_when_it_begins_and_once_a_week(
    failures: Looking, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, told = time.time(), []
    outcomes = [(0, warns()), (1, warns()), (2, errors()), (6.9, warns()), (7.1, warns()), (8, PASSES), (9, warns())]
    for day, outcome in outcomes:
        monkeypatch.setattr("orchestration.sensors.failures.time.time", lambda day=day: now + day * 86_400)
        ran(failures.instance, {"late": outcome})
        failures.look()
        told.append(len(inbox.messages))
    assert told == [1, 1, 2, 3, 3, 3, 4]
    assert inbox.messages[1]["type"] == "failure"


def test_nothing_is_told_of_good_runs_other_fleets_and_what_was_before(inbox: Inbox) -> None:
    with DagsterInstance.ephemeral() as instance:
        ran(instance, {"many": errors()})
        failures = Looking("failures", instance, small_settings(), inbox.url)
        assert failures.said() == "from now on runs that end are looked at"
        ran(instance, {"many": PASSES})
        ran(instance, {"many": errors()}, fleet="other")
        assert failures.said() == "nothing failed"
    assert inbox.messages == []


def test_what_is_materialized_in_the_ui_has_no_tag_and_is_known_by_its_assets(failures: Looking) -> None:
    from orchestration.sensors.run_message import is_of_fleet

    def run(*keys: list[str]) -> DagsterRun:
        return DagsterRun("__ASSET_JOB", asset_selection=frozenset(map(AssetKey, keys)) or None)

    assert is_of_fleet(run(["tiny", "raw"], ["tiny", "features"]), "tiny")
    assert not is_of_fleet(run(["other", "raw"]), "tiny")
    assert not is_of_fleet(run(), "tiny")


def test_many_failing_checks_are_cut_and_counted(failures: Looking, inbox: Inbox) -> None:
    ran(failures.instance, {f"check_{n}": errors(why="x" * 5_000) for n in range(35)})
    failures.look()
    [message] = inbox.messages
    assert "35 checks failed" in message["title"]
    *_, more, link = message["message"].splitlines()
    assert more == "and 29 more"
    assert link.startswith("http://127.0.0.1:3000/runs/")
    assert len(message["message"]) < LONGEST


def test_a_receiver_that_is_down_hears_of_it_later_and_only_once(
    failures: Looking, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_WAIT", 0.0)
    with open_inbox() as other:
        failures.urls = f"{inbox.url} {other.url}"
        inbox.status = 500
        ran(failures.instance, {"many": errors()})
        assert failures.said() == "not told yet: tiny: __ephemeral_asset_job__: 1 check failed"
        assert (len(inbox.messages), len(other.messages)) == (0, 1)
        failures.look()
        inbox.status = 200
        assert failures.said().startswith("told: ")
        failures.look()
        assert (len(inbox.messages), len(other.messages)) == (1, 1)


def test_two_ends_of_one_run_are_one_message(failures: Looking, inbox: Inbox) -> None:
    run = ran(failures.instance, {}, error=ValueError("x"))
    failures.look()
    failures.instance.report_run_failed(run, "found dead")
    failures.look()
    assert len(inbox.messages) == 1


def test_a_wrong_url_breaks_nothing(failures: Looking, inbox: Inbox) -> None:
    failures.urls = f"nonsense://ann:s3cret@host {inbox.url}"
    ran(failures.instance, {"many": errors()})
    assert "not told yet" in failures.said()
    assert len(inbox.messages) == 1
    assert "s3cret" not in (failures.cursor or "")
