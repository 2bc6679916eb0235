"""Retention: what nothing needs any more goes, and all that the champion and the next run need stays."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from assets.champions.gate import Decision
from assets.champions.promotion import promote
from assets.evaluation.incumbent import CHAMPIONS, published_champion
from assets.evaluation.judge import evaluate
from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS, score_issues
from assets.features.publish import FEATURES, QUARANTINE, SEGMENTS, current_features
from assets.forecasts.publish import FORECASTS, publish_forecasts
from assets.models.shard import boosters
from assets.models.store import MODELS, listing_of, trainings
from assets.raw.ingest import ingest
from assets.raw.snapshot import RAW, read_snapshot
from orchestration import retention
from orchestration.retention import Plan, carry_out, plan_of
from resources.mlflow import CHALLENGER, CHAMPION, PREVIOUS, Mlflow
from resources.problems import InputError
from resources.pruned import pruned
from resources.spark import Spark
from tests.champions.test_publish import in_run
from tests.cycle import TABLES, House, give_store, house, sales
from tests.lakes import train
from tests.orchestration.test_cli import fleet
from tests.orchestration.test_dead_runs import some_job

pytestmark = pytest.mark.slow

# all segments are trained in the first two weeks, only `shop 1` later: the others serve from the second training
WHOLE_WEEKS, DAYS = 2, [60, 64, 68, 72, 76, 80, 84]
NEWEST = len(DAYS) - 1


def table(days: int) -> pd.DataFrame:
    """Three shops."""
    return sales(3, days)


def week(home: House, mlflow: Mlflow, days: int, segments: list[str] | None) -> None:
    """New rows, a training, and its fleet published, whatever the gate would say."""
    home.bring(table(days))
    made, serving = train(home, segments), published_champion(home.lake, mlflow)
    judged, _ = evaluate(home.lake, home.spark, home.settings, made.features, made.training, serving)
    champion = promote(home.lake, mlflow, home.settings.promotion, judged, Decision(True, ("as asked",))).serving
    score_issues(home.lake, home.spark, made.features)
    publish_forecasts(home.lake, home.spark, home.settings, made.features, champion)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Iterator[House]:
    """Seven weeks, a champion each."""
    made = house(tmp_path_factory.mktemp("retention"), spark)
    give_store(made)
    mlflow = in_run(made.mlflow, "run-1")
    for number, days in enumerate(DAYS):
        week(made, mlflow, days, None if number < WHOLE_WEEKS else ["shop 1"])
    yield made
    mlflow.end_run("FINISHED")


@pytest.fixture
def own(home: House, tmp_path: Path) -> House:
    """A copy for one test."""
    shutil.copytree(home.folder, tmp_path / "own")
    return House(tmp_path / "own", home.spark)


def plan(home: House, keep: int) -> Plan:
    return plan_of(home.lake, home.mlflow, home.settings, keep)


def prune(home: House, keep: int) -> None:
    carry_out(home.lake, plan(home, keep))


def files(home: House) -> set[str]:
    """Every file of the lake but those of MLflow and the commit logs."""
    lake = home.folder / "lake"
    found = (path.relative_to(lake) for path in lake.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if path.parts[0] != "mlflow" and "_delta_log" not in path.parts}


def gone(asked: Plan) -> dict[str, tuple[str, ...]]:
    return {part.name: part.gone for part in asked.parts if part.gone}


def snapshot_rows(home: House, version: int) -> int:
    return read_snapshot(home.spark, home.lake.table(RAW), home.settings, version).count()


def refuse_to_have_lost_anything(home: House) -> None:
    """Reads all that the champion needs: boosters, listings, and the tables behind its trainings."""
    champion, lake = published_champion(home.lake, home.mlflow), home.lake
    assert champion is not None
    for fit in ("served", "judged"):
        loaded = [key for key, _ in boosters(lake.root, champion.listing, fit)]
        assert sorted(loaded) == sorted(r["segment"] for r in champion.listing.to_pylist() if r["shard"]) != []
    known = trainings(lake)
    for identity in champion.trainings:
        record = known[identity].record
        assert len(listing_of(lake, known[identity]))
        assert lake.table(FEATURES).arrow(version=record["features_version"]).num_rows
        assert snapshot_rows(home, record["raw_version"]) == lake.table(RAW).record(record["raw_version"])["rows"]
        made = lake.table(FEATURES).record(record["features_version"])
        assert len(lake.table(SEGMENTS).arrow(version=made["segments_version"])) == 3
        lake.table(QUARANTINE).arrow(version=made["quarantine_version"])
    for name in TABLES:
        lake.table(name).arrow()


def test_the_plan_names_what_nothing_needs(home: House) -> None:
    found = gone(plan(home, 2))
    ids = list(trainings(home.lake))[::-1]
    # raw and features 1 are behind the champion's second training, 3 and 4 behind those that are known again
    assert found[RAW] == found[FEATURES] == found[SEGMENTS] == ("0", "2")
    assert found[FORECASTS] == ("0", "1", "2", "3", "4")
    assert set(found[MODELS]) == {ids[0], ids[2]}
    assert len(found[CHAMPIONS]) == NEWEST - 1


def test_a_plan_counts_files_and_bytes(home: House) -> None:
    asked = plan(home, 2)
    there = {file.uri: file.size for part in asked.parts for file in part.files}
    assert asked.files == len(there) > 0
    assert asked.size == sum(Path(uri).stat().st_size for uri in there) == sum(there.values())


def test_who_keeps_all_plans_nothing(home: House) -> None:
    assert plan(home, 100).parts == ()


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 6])
def test_after_a_prune_all_that_is_needed_reads_and_a_second_one_removes_nothing(own: House, keep: int) -> None:
    before, asked = published_champion(own.lake, own.mlflow), plan(own, keep)
    names = {file.uri.removeprefix(f"{own.lake.root}/") for part in asked.parts for file in part.files}
    there = files(own)
    carry_out(own.lake, asked)
    assert files(own) - {"pruned.json"} == there - names
    refuse_to_have_lost_anything(own)
    after = published_champion(own.lake, own.mlflow)
    assert before is not None
    assert after is not None
    assert after.listing.sort_by("segment").equals(before.listing.sort_by("segment"))
    assert plan(own, keep).parts == ()
    left = files(own)
    prune(own, keep)
    assert files(own) == left


@pytest.mark.parametrize("keep", [1, 2, 3, 6])
def test_the_newest_of_each_table_stay(own: House, keep: int) -> None:
    prune(own, keep)
    for version in range(NEWEST + 1 - keep, NEWEST + 1):
        assert snapshot_rows(own, version) == 3 * (DAYS[version] + 4)
        for name in (FEATURES, SEGMENTS, FORECASTS):
            assert own.lake.table(name).arrow(version=version).num_rows
    assert len(trainings(own.lake)) >= keep


def test_the_next_run_goes_on_from_a_pruned_lake(own: House) -> None:
    prune(own, 1)
    assert train(own, ["shop 1"]).training.record["fitted"] == 0
    own.bring(table(DAYS[-1] + 4))
    made = train(own)
    champion = published_champion(own.lake, own.mlflow)
    judged, is_new = evaluate(own.lake, own.spark, own.settings, made.features, made.training, champion)
    assert is_new
    assert judged.record["incumbent_left_out"] is None
    refuse_to_have_lost_anything(own)


def test_no_folder_is_left_empty(own: House) -> None:
    prune(own, 1)
    for name in TABLES:
        assert all(any(folder.iterdir()) for folder in (own.folder / "lake" / name).rglob("*") if folder.is_dir())


def test_what_is_pinned_stays(own: House) -> None:
    own.configure(retention={"keep": 1, "pinned": [0]})
    carry_out(own.lake, plan_of(own.lake, own.mlflow, own.settings))
    assert snapshot_rows(own, 0) == 3 * (DAYS[0] + 4)
    assert "0" not in pruned(own.lake, RAW)
    own.configure()
    prune(own, 1)
    with pytest.raises(InputError, match="snapshot 0: raw 0 was pruned on 20"):
        snapshot_rows(own, 0)


def test_what_is_pinned_must_be_there(own: House) -> None:
    own.configure(retention={"pinned": [99]})
    with pytest.raises(InputError, match=r"retention.pinned: there is no snapshot 99 -> known: 0, 1"):
        plan(own, 1)
    own.configure()
    prune(own, 1)
    own.configure(retention={"pinned": [0]})
    with pytest.raises(InputError, match=r"retention.pinned: raw 0 was pruned on"):
        plan(own, 1)


def test_a_pruned_snapshot_is_refused_by_name_and_read_anew_by_content(own: House) -> None:
    prune(own, 1)
    with pytest.raises(InputError, match="--snapshot: raw 0 was pruned on 20"):
        ingest(own.lake, own.spark, own.settings, 0)
    own.bring(table(DAYS[0]))
    again = ingest(own.lake, own.spark, own.settings)
    assert (again.version, again.is_new) == (NEWEST + 1, True)
    assert again.digest == own.lake.table(RAW).record(0)["digest"]
    assert snapshot_rows(own, again.version) == again.rows
    prune(own, 1)
    assert snapshot_rows(own, again.version) == again.rows
    assert ingest(own.lake, own.spark, own.settings).version == again.version


def test_a_pruned_training_is_unknown_and_can_be_made_again(own: House) -> None:
    first = list(trainings(own.lake))[-1]
    prune(own, 1)
    assert first not in trainings(own.lake)
    own.bring(table(DAYS[0]))
    made = train(own)
    assert made.training.id == first
    assert made.training.record["fitted"] == 3
    assert first in trainings(own.lake)
    assert len(listing_of(own.lake, made.training)) == 3


def test_a_champion_that_was_pruned_cannot_be_made_to_serve(own: House) -> None:
    prune(own, 1)
    own.mlflow.client().set_registered_model_alias("tiny", CHAMPION, "1")
    with pytest.raises(InputError, match=r"champion 1: champions .* was pruned on 20"):
        published_champion(own.lake, own.mlflow)


def test_the_champion_that_serves_stays_however_old(own: House) -> None:
    own.mlflow.client().set_registered_model_alias("tiny", CHAMPION, "1")
    prune(own, 1)
    refuse_to_have_lost_anything(own)
    serving = published_champion(own.lake, own.mlflow)
    assert serving is not None
    assert serving.version == 1


class Crash(Exception):
    """The process dies."""


@pytest.mark.parametrize("step", ["record_pruned", "_take_out", "remove_file", "_remove_empty_folders"])
@pytest.mark.parametrize("times", [0, 1, 7])
def test_a_prune_that_dies_is_harmless_and_the_next_one_completes_it(
    own: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, times: int
) -> None:
    shutil.copytree(own.folder, tmp_path / "other")
    undisturbed, done, real = House(tmp_path / "other", own.spark), [0], getattr(retention, step)
    prune(undisturbed, 2)

    def dies(*given: object) -> None:
        if done[0] == times:
            raise Crash
        done[0] += 1
        real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(retention, step, dies)
        try:
            prune(own, 2)
        except Crash:
            refuse_to_have_lost_anything(own)
    prune(own, 2)
    refuse_to_have_lost_anything(own)
    assert files(own) == files(undisturbed)
    assert set(trainings(own.lake)) == set(trainings(undisturbed.lake))


LEFT = (
    "raw/data-dead/fleet_bucket=1/part.parquet",
    "features/rebuilt-dead/fleet_bucket=1/part.parquet",
    "shared/dead.parquet",
    "brought-dead/rows/part.parquet",
    "fleet-exchange-dead/part.arrow",
    "manifests/dead.json",
    "profiles/dead.json",
    "verdicts/facts-dead.json",
    "boosters/fleet/dead.parquet",
)


@pytest.mark.parametrize("file", LEFT)
def test_leftovers_go_once_they_are_a_day_old(own: House, file: str) -> None:
    left = own.folder / "lake" / file
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"left")
    assert plan(own, 100).parts == ()
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    asked = plan(own, 100)
    assert [f.uri for part in asked.parts for f in part.files] == [str(left)]
    carry_out(own.lake, asked)
    assert not left.exists()
    assert plan(own, 100).parts == ()


def test_rows_that_were_left_beside_a_bucket_go_too(
    own: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.retention.exchanged_in", lambda *_: str(tmp_path / "aside"))
    left, others = (
        tmp_path / "aside" / "fleet-exchange-dead" / "part.arrow",
        tmp_path / "aside" / "brought-mine" / "part.parquet",
    )
    yesterday = time.time() - 25 * 3600
    for file in (left, others):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"left")
        os.utime(file, (yesterday, yesterday))
    asked = plan(own, 100)
    assert [f.uri for part in asked.parts for f in part.files] == [str(left)]
    carry_out(own.lake, asked)
    assert [path.name for path in (tmp_path / "aside").iterdir()] == ["brought-mine"]


def test_models_that_a_run_has_left_stay_for_the_next(own: House) -> None:
    shard = own.folder / "lake" / "boosters" / "00000" / f"{time.time_ns():020d}-dead.parquet"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(b"left")
    prune(own, 1)
    assert shard.exists()


def test_nothing_is_pruned_where_something_is_missing_already(own: House) -> None:
    Path(own.lake.table(FEATURES).files()[0]).unlink()
    with pytest.raises(InputError, match="features: 1 files that are to be kept are not there"):
        plan(own, 1)


def test_a_lake_before_its_first_run_has_nothing_to_prune(tmp_path: Path, spark: Spark) -> None:
    assert plan(house(tmp_path / "fresh", spark), 1).parts == ()


def test_the_command_shows_without_yes_and_removes_with_it(own: House) -> None:
    before = files(own)
    shown = fleet(own, "prune", "--keep", "2")
    assert shown.exit_code == 0, shown.stderr
    for said in ("--yes", "nothing was changed", "2 versions (0, 2)", "2 trainings", "5 champions", "in all"):
        assert said in shown.stdout
    assert files(own) == before
    removed = fleet(own, "prune", "--keep", "2", "--yes")
    assert removed.exit_code == 0, removed.stderr
    assert "removed" in removed.stdout
    assert files(own) < before | {"pruned.json"}
    assert before - files(own)
    refuse_to_have_lost_anything(own)
    again = fleet(own, "prune", "--keep", "2")
    assert "all that is there is needed" in again.stdout
    told = fleet(own, "prune", "--keep", "-1")
    assert told.exit_code == 2


def test_the_command_waits_for_runs_that_are_under_way(own: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (own.folder / "dagster_home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(own.folder / "dagster_home"))
    with DagsterInstance.get() as instance:
        run = instance.create_run_for_job(some_job, tags={"fleet": "tiny"}, status=DagsterRunStatus.STARTED)
    before = files(own)
    refused = fleet(own, "prune", "--keep", "2", "--yes")
    assert refused.exit_code == 2
    assert f"run {run.run_id} is under way" in refused.stderr
    assert files(own) == before


def test_forecasts_stay_until_their_labels_came_and_were_scored(own: House) -> None:
    asked = gone(plan(own, 1))
    assert str(NEWEST - 1) in asked[FORECASTS]
    assert str(NEWEST) not in asked[FORECASTS]
    own.bring(table(DAYS[-1] + 1))
    made = train(own, ["shop 1"])
    champion = published_champion(own.lake, own.mlflow)
    publish_forecasts(own.lake, own.spark, own.settings, made.features, champion)
    for _ in range(2):  # not scored, then one label of four
        asked = gone(plan(own, 1))
        assert str(NEWEST - 1) in asked[FORECASTS]
        assert not {str(NEWEST), str(NEWEST + 1)} & set(asked[FORECASTS])
        score_issues(own.lake, own.spark, made.features)
    own.bring(table(DAYS[-1] + 4))
    made = train(own, ["shop 1"])
    score_issues(own.lake, own.spark, made.features)
    assert str(NEWEST) in gone(plan(own, 1))[FORECASTS]


def test_the_history_of_live_errors_stays_whole(own: House) -> None:
    before = own.lake.table(LIVE_ERRORS).arrow().sort_by([("issue", "ascending"), ("segment", "ascending")])
    assert set(before["issue"].to_pylist()) == set(range(NEWEST))
    prune(own, 1)
    assert pruned(own.lake, LIVE_ERRORS)
    assert pruned(own.lake, LIVE_PERIODS)
    after = own.lake.table(LIVE_ERRORS).arrow().sort_by([("issue", "ascending"), ("segment", "ascending")])
    assert after.equals(before)
    assert score_issues(own.lake, own.spark, current_features(own.lake)) == []


@pytest.mark.parametrize("alias", [CHALLENGER, PREVIOUS])
def test_the_challenger_and_the_previous_champion_stay(own: House, alias: str) -> None:
    own.mlflow.client().set_registered_model_alias("tiny", alias, "1")
    before = published_champion(own.lake, own.mlflow, alias)
    prune(own, 1)
    after = published_champion(own.lake, own.mlflow, alias)
    assert before is not None
    assert after is not None
    assert after.listing.sort_by("segment").equals(before.listing.sort_by("segment"))
    assert sorted(key for key, _ in boosters(own.lake.root, after.listing, "served")) == [f"shop {n}" for n in range(3)]
