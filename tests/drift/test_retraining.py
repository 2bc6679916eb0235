"""Which segments a verdict on drift asks for, and the sensor that asks: once for the same evidence, not too often."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRequest
from dagster._core.test_utils import create_run_for_test

from assets.drift.retraining import due_segments, keep_due
from assets.features.publish import current_features
from assets.models.checks import models_checks
from assets.models.selection import keep_selection, segments_asked, selected, selection_facts
from assets.models.store import listing_of
from orchestration.sensors.landing import ATTEMPTS
from resources.monitoring import Drift
from resources.problems import InputError
from tests.cycle import House, sales
from tests.drift.verdicts import commit_verdict
from tests.inbox import Inbox, open_inbox
from tests.lakes import CLOSED, GOOD, Trained, built, train
from tests.looking import Looking

NOW = datetime(2030, 1, 7, tzinfo=UTC)
RULES = Drift(cooldown=7, fleet_share=0.5)


@pytest.fixture(scope="module")
def newer_rows(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """New features, which nothing was trained on yet."""
    folder = tmp_path_factory.mktemp("newer") / "rows"
    shutil.copytree(trained.home.folder, folder)
    home = House(folder, trained.home.spark)
    return _with_more_rows(Trained(home, trained.features, trained.recipe, trained.training), 64)


@pytest.fixture
def later(newer_rows: Trained, tmp_path: Path) -> Trained:
    """A copy of them for one test."""
    shutil.copytree(newer_rows.home.folder, tmp_path / "later")
    home = House(tmp_path / "later", newer_rows.home.spark)
    return Trained(home, current_features(home.lake), newer_rows.recipe, newer_rows.training)


def _with_more_rows(made: Trained, days: int) -> Trained:
    made.home.bring(sales([*GOOD, CLOSED], days).assign(weather="sun", footfall=1.0))
    features, recipe = built(made.home)
    return Trained(made.home, features, recipe, made.training)


def asked_for(made: Trained, segments: list[str], digest: str, at: datetime, *, whole: bool = False) -> int:
    """A verdict, what it asks for, and the training of that; gives the number of the selection."""
    lake = made.home.lake
    verdict = commit_verdict(lake, segments, digest)
    due = due_segments(lake, verdict, Drift(cooldown=0, fleet_share=0.0 if whole else 1.0), at)
    number = keep_due(lake, verdict, due, at)
    train(made.home, selected(lake, number), selection=selection_facts(lake, number))
    return number


def due_of(made: Trained, segments: list[str], digest: str = "now", now: datetime = NOW, **options: Any) -> list[str]:
    verdict = commit_verdict(made.home.lake, segments, digest)
    return due_segments(made.home.lake, verdict, RULES, now, **options).segments.to_pylist()


def test_what_drifted_is_due_and_nothing_else(later: Trained) -> None:
    assert due_of(later, ["shop 1"]) == ["shop 1"]
    assert due_of(later, ["shop 2", "shop 0"]) == ["shop 0", "shop 2"]
    assert due_of(later, []) == []


def test_nothing_is_due_that_was_trained_on_these_rows(own: Trained) -> None:
    verdict = commit_verdict(own.home.lake, ["shop 1"])
    found = due_segments(own.home.lake, verdict, RULES, NOW)
    assert found.segments.to_pylist() == []
    assert found.why_not == "those alarmed were trained on these rows, or for drift less than 7 days ago"


def test_a_segment_that_somebody_trained_meanwhile_is_not_due(later: Trained) -> None:
    train(later.home, ["shop 1"])
    assert due_of(later, ["shop 0", "shop 1"]) == ["shop 0"]


def test_an_alarm_that_still_stands_is_not_due_for_whoever_was_trained_on_its_rows(later: Trained) -> None:
    """The gate kept the model that drifted: new rows alone are no new evidence."""
    since = later.features.profile.last_period
    train(later.home)
    newer = _with_more_rows(later, 68)
    assert [due_since(newer, since), due_since(newer, since + 1)] == [[], ["shop 1"]]


def due_since(made: Trained, since: int, why: str = "data") -> list[str]:
    verdict = commit_verdict(made.home.lake, ["shop 1"], since=since, why=why)
    return due_segments(made.home.lake, verdict, RULES, NOW).segments.to_pylist()


def test_an_alarm_by_errors_is_over_for_whoever_was_trained_since_it_was_judged(later: Trained) -> None:
    first = later.features.profile.last_period - 50
    assert due_since(later, first, "error") == ["shop 1"]
    train(later.home, ["shop 1"])
    assert due_since(later, first, "error") == []


def test_a_segment_that_is_gone_is_not_asked_for(later: Trained) -> None:
    assert due_of(later, ["shop 0", "torn down"]) == ["shop 0"]


def test_a_segment_is_not_retrained_before_its_cooldown_is_over(later: Trained) -> None:
    asked_for(later, ["shop 1"], "first", NOW)
    newer = _with_more_rows(later, 68)
    assert due_of(newer, ["shop 0", "shop 1"], "second", NOW + timedelta(days=6.9)) == ["shop 0"]
    assert due_of(newer, ["shop 1"], "third", NOW + timedelta(days=6.9)) == []
    assert due_of(newer, ["shop 1"], "third", NOW + timedelta(days=7.1)) == ["shop 1"]


def test_a_fleet_that_was_retrained_whole_cools_down_whole(later: Trained) -> None:
    asked_for(later, ["shop 1"], "first", NOW, whole=True)
    newer = _with_more_rows(later, 68)
    assert due_of(newer, ["shop 0"], "second", NOW + timedelta(days=6.9)) == []
    assert due_of(newer, ["shop 0"], "second", NOW + timedelta(days=7.1)) == ["shop 0"]


def test_where_too_many_drift_the_whole_fleet_is_due(later: Trained) -> None:
    verdict = commit_verdict(later.home.lake, [*GOOD, CLOSED])
    found = due_segments(later.home.lake, verdict, RULES, NOW)
    assert found.whole_fleet
    assert selected(later.home.lake, keep_due(later.home.lake, verdict, found, NOW)) is None
    half = commit_verdict(later.home.lake, GOOD[:1])
    assert not due_segments(later.home.lake, half, RULES, NOW).whole_fleet


def test_alarms_that_stand_do_not_make_a_whole_fleet_of_one_segment(later: Trained) -> None:
    train(later.home, GOOD)
    verdict = commit_verdict(later.home.lake, [*GOOD, CLOSED])
    found = due_segments(later.home.lake, verdict, RULES, NOW)
    assert (verdict.share, found.segments.to_pylist(), found.whole_fleet) == (1.0, [CLOSED], False)


def test_what_a_run_trained_that_then_died_is_due_again(later: Trained) -> None:
    asked_for(later, ["shop 1"], "first", NOW)
    assert due_of(later, ["shop 1"], "first") == []
    assert due_of(later, ["shop 1"], "first", again=True) == ["shop 1"]
    train(later.home)  # the weekly cycle came in between
    assert due_of(later, ["shop 1"], "first", again=True) == []


def test_a_training_names_its_selection_and_not_each_segment_of_it(later: Trained) -> None:
    number = asked_for(later, ["shop 1"], "first", NOW)
    made = train(later.home, selected(later.home.lake, number), selection=selection_facts(later.home.lake, number))
    record = made.training.record
    assert (record["segments"], record["selection"]["number"]) == ([], number)
    assert not made.training.covers_all
    assert listing_of(later.home.lake, made.training)["segment"].to_pylist() == ["shop 1"]
    assert segments_asked(later.home.lake, made.training).to_pylist() == ["shop 1"]
    [check, *_] = models_checks(later.home.settings)
    assert check(later.home.lake).passed


def test_there_is_no_selection_of_another_number(own: Trained) -> None:
    keep_selection(own.home.lake, None, {})
    with pytest.raises(InputError, match="there is no set of segments 7"):
        selected(own.home.lake, 7)


# the sensor


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with open_inbox() as made:
        yield made


@pytest.fixture
def sensor(later: Trained, inbox: Inbox) -> Iterator[Looking]:
    with DagsterInstance.ephemeral() as instance:
        settings = later.home.settings.model_copy(update={"drift": RULES})
        yield Looking("drift", instance, settings, inbox.url, {"lake": later.home.lake})


def request_of(sensor: Looking) -> RunRequest:
    found = sensor.look()
    assert isinstance(found, RunRequest), found
    return found


def ran(sensor: Looking, request: RunRequest, status: DagsterRunStatus) -> str:
    config = dict(request.run_config)
    return create_run_for_test(
        sensor.instance, job_name="retrain_drifted", tags=request.tags, run_config=config, status=status
    ).run_id


def segments_of(sensor: Looking, request: RunRequest) -> list[str] | None:
    assert sensor.resources is not None
    number = request.run_config["ops"]["tiny__segment_models"]["config"]["selection"]
    return selected(sensor.resources["lake"], number)


def test_it_asks_once_for_the_same_evidence(sensor: Looking, later: Trained) -> None:
    assert sensor.said() == "drift was not looked at yet, or nothing could be judged"
    commit_verdict(later.home.lake, ["shop 2", "shop 0"], "first")
    request = request_of(sensor)
    assert segments_of(sensor, request) == ["shop 0", "shop 2"]
    assert request.tags == {"fleet": "tiny", "fleet/drift": "first", "fleet/drifted": "2: shop 0, shop 2"}
    assert request_of(sensor).run_key == request.run_key  # Dagster starts a run a key once
    for status in (DagsterRunStatus.STARTED, DagsterRunStatus.SUCCESS):
        run_id = ran(sensor, request, status)
        sensor.cursor = None  # it is not the cursor that remembers
        sensor.said()
        assert sensor.said() == "a run was asked for by this evidence"
        if status == DagsterRunStatus.STARTED:
            sensor.instance.delete_run(run_id)
    commit_verdict(later.home.lake, ["shop 1"], "second")
    assert segments_of(sensor, request_of(sensor)) == ["shop 1"]


def test_a_run_that_died_is_asked_for_again_for_the_same_segments_but_not_for_ever(
    sensor: Looking, later: Trained
) -> None:
    commit_verdict(later.home.lake, ["shop 1"], "first")
    keys, numbers = [], []
    for _ in range(ATTEMPTS):
        request = request_of(sensor)
        keys.append(request.run_key)
        numbers.append(request.run_config["ops"]["tiny__segment_models"]["config"]["selection"])
        ran(sensor, request, DagsterRunStatus.FAILURE)
    assert len(set(keys)) == ATTEMPTS
    assert len(set(numbers)) == 1
    assert "3 runs failed over this evidence" in sensor.said()
    commit_verdict(later.home.lake, ["shop 0"], "second")
    request_of(sensor)


@pytest.mark.parametrize("job", ["weekly_cycle", "ingest"])
def test_it_waits_for_a_run_that_changes_what_is_to_be_done(sensor: Looking, later: Trained, job: str) -> None:
    commit_verdict(later.home.lake, ["shop 1"], "first")
    tags = {"fleet": "tiny"}
    create_run_for_test(sensor.instance, job_name=job, tags={"fleet": "other"}, status=DagsterRunStatus.STARTED)
    run = create_run_for_test(sensor.instance, job_name=job, tags=tags, status=DagsterRunStatus.STARTED)
    assert sensor.said() == f"{job} is under way"
    sensor.instance.report_run_failed(run)
    request_of(sensor)


def test_of_many_segments_neither_tags_nor_config_name_all(sensor: Looking, later: Trained) -> None:
    sensor.settings = sensor.settings.model_copy(update={"drift": Drift(fleet_share=1.0)})
    commit_verdict(later.home.lake, [*GOOD, CLOSED], "first")
    request = request_of(sensor)
    assert request.run_config["ops"]["tiny__segment_models"]["config"].keys() == {"selection"}
    assert len(segments_of(sensor, request) or []) == 4


def test_where_too_many_drift_all_are_retrained_and_somebody_is_told_once(
    sensor: Looking, later: Trained, inbox: Inbox
) -> None:
    commit_verdict(later.home.lake, [*GOOD, CLOSED], "first")
    request = request_of(sensor)
    assert segments_of(sensor, request) is None
    assert request.run_config["ops"]["tiny__segment_models"]["config"]["search"]  # parameters may be others now
    run_id = ran(sensor, request, DagsterRunStatus.FAILURE)
    ran(sensor, request_of(sensor), DagsterRunStatus.SUCCESS)
    sensor.said()
    [message] = inbox.messages
    assert (message["title"], message["type"]) == ("tiny: 4 of 4 segments drifted", "failure")
    first, second, link = message["message"].splitlines()
    assert first.endswith("promoted if not worse: all; drifted 4: closed, shop 0, shop 1, shop 2")
    assert second.startswith("More than 50% (drift.fleet_share) drifted")
    assert link == f"http://127.0.0.1:3000/runs/{run_id}"


def test_what_drifted_is_told_with_a_link_to_the_run_that_retrains_it(
    sensor: Looking, later: Trained, inbox: Inbox
) -> None:
    commit_verdict(later.home.lake, ["shop 1"], "first")
    run_id = ran(sensor, request_of(sensor), DagsterRunStatus.STARTED)
    assert inbox.messages == []
    sensor.said()
    sensor.said()
    [message] = inbox.messages
    assert (message["title"], message["type"]) == ("tiny: 1 of 4 segments drifted", "warning")
    assert message["message"].splitlines() == [
        "retrained, judged, and promoted if not worse: 1: shop 1",
        f"http://127.0.0.1:3000/runs/{run_id}",
    ]


def test_an_alarm_that_nobody_took_is_sent_when_somebody_answers(
    sensor: Looking, later: Trained, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.sensors.outbox.FIRST_WAIT", 0.0)
    inbox.status = 500
    commit_verdict(later.home.lake, [*GOOD, CLOSED], "first")
    ran(sensor, request_of(sensor), DagsterRunStatus.STARTED)
    inbox.status = 200
    assert sensor.said() == "told: tiny: 4 of 4 segments drifted"
