"""Lineage: from any segment of the champion to snapshot, code, configuration and MLflow run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from dagster import AssetKey

from assets.champions.lineage import RECORDED, champion_lineage, segment_lineage
from assets.evaluation.incumbent import published_champion
from assets.features.publish import CODE_VERSION as FEATURES_CODE
from assets.features.publish import FEATURES
from assets.models.store import MODELS, TRAINING, UNKNOWN, trainings
from assets.models.train import CODE_VERSION as MODELS_CODE
from assets.raw.snapshot import RAW
from resources.problems import InputError
from resources.spark import Spark
from tests.cycle import House, house, sales
from tests.orchestration.test_cli import fleet

FIRST, SECOND = 60, 80
FIRST_LABEL, SECOND_LABEL = "2024-02-29T00:00:00", "2024-03-20T00:00:00"


def table(days: int) -> pd.DataFrame:
    """Three shops that sell more from day 60 on, so that a model trained later is better."""
    return sales(3, days, shift=(FIRST, 3.0))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    """A fleet whose champion has `shop 1` from a later training, of a later snapshot, than the others."""
    made = house(tmp_path_factory.mktemp("lineage"), spark, table(FIRST))
    made.run(raise_on_error=True)
    made.bring(table(SECOND))
    made.run(segments=["shop 1"], raise_on_error=True)
    return made


@pytest.fixture
def own(home: House, tmp_path: Path) -> House:
    """A copy for one test."""
    shutil.copytree(home.folder, tmp_path / "own")
    return House(tmp_path / "own", home.spark)


@pytest.mark.parametrize(("segment", "label"), [("shop 0", FIRST_LABEL), ("shop 1", SECOND_LABEL)])
def test_a_segment_leads_to_what_its_model_was_made_from(home: House, segment: str, label: str) -> None:
    found = segment_lineage(home.lake, home.mlflow, segment)
    record = trainings(home.lake)[found["training"]].record
    raw, features = home.lake.table(RAW).records(), home.lake.table(FEATURES).records()
    assert (found["segment"], found["champion"], found["trained_through"]) == (segment, 2, label)
    assert found["snapshot"] == record["raw_version"]
    assert found["snapshot_digest"] == raw[found["snapshot"]]["digest"]
    assert found["features_digest"] == features[found["features"]]["digest"]
    assert (found["features_code"], found["models_code"]) == (FEATURES_CODE, MODELS_CODE)
    assert found["recipe_digest"] == trainings(home.lake)[found["training"]].recipe.digest
    assert found["configuration_digest"] == home.settings.digest
    assert UNKNOWN not in found.values()


def test_segments_of_one_champion_come_from_different_trainings(home: House) -> None:
    first, second, other = (segment_lineage(home.lake, home.mlflow, f"shop {n}") for n in (0, 1, 2))
    assert first["training"] == other["training"] != second["training"]
    assert first["snapshot_digest"] != second["snapshot_digest"]
    assert first["training_run"] == other["training_run"] != second["training_run"]
    assert first["registered_run"] == second["registered_run"] == second["training_run"]


def test_the_runs_are_mlflows(home: House) -> None:
    found, client = segment_lineage(home.lake, home.mlflow, "shop 0"), home.mlflow.client()
    assert client.get_run(found["training_run"]).data.tags["training"] == found["training"]
    version = client.get_model_version_by_alias("tiny", "champion")
    assert version.run_id == found["registered_run"]
    assert version.tags["configuration_digest"] == home.settings.digest


def test_who_serves_and_with_which_file_is_as_listed(home: House) -> None:
    champion = published_champion(home.lake, home.mlflow)
    assert champion is not None
    for row in champion.listing.to_pylist():
        found = segment_lineage(home.lake, home.mlflow, row["segment"])
        assert found["served_by"] == row["chosen"]
        assert found["model"] == (row["shard"] if row["chosen"] == "segment" else None)
        if found["model"]:
            assert (home.folder / "lake" / found["model"]).is_file()


def test_the_champions_asset_shows_each_training_that_still_serves(home: House) -> None:
    event = home.instance.get_latest_materialization_event(AssetKey(["tiny", "champions"]))
    assert event is not None
    assert event.asset_materialization is not None
    rows = [record.data for record in event.asset_materialization.metadata["lineage"].value.records]
    assert [row["segments"] for row in rows] == [2, 1]
    assert [row["trained_through"] for row in rows] == [FIRST_LABEL, SECOND_LABEL]
    assert all(set(row) == {"training", "segments", *RECORDED, "training_run"} for row in rows)


def test_records_of_older_trainings_show_unknown(own: House) -> None:
    before = segment_lineage(own.lake, own.mlflow, "shop 0")
    models, known = own.lake.table(MODELS), trainings(own.lake)[before["training"]].record
    lacking = ("last_label", "raw_digest", "code_version", "features_code_version", "configuration_digest")
    older = {key: value for key, value in known.items() if key not in lacking}
    with models.staging() as staging:
        models.commit(staging, models.schema(), older, mode="append", partition_by=[TRAINING], files=[])
    found = segment_lineage(own.lake, own.mlflow, "shop 0")
    unknown = {name for name, value in found.items() if value == UNKNOWN}
    assert unknown == {fact for fact, key in RECORDED.items() if key in lacking}
    assert {name: found[name] for name in found if name not in unknown} == {
        name: before[name] for name in before if name not in unknown
    }
    champion = published_champion(own.lake, own.mlflow)
    assert champion is not None
    assert champion_lineage(own.lake, own.mlflow, champion)["segments"].sum() == 3


def test_a_segment_that_does_not_exist_is_refused_with_the_nearest(home: House) -> None:
    with pytest.raises(InputError, match=r"shop 11: is no segment of champion 2 -> did you mean .*'shop 1'"):
        segment_lineage(home.lake, home.mlflow, "shop 11")
    with pytest.raises(InputError, match="is no segment of champion 2"):
        segment_lineage(home.lake, home.mlflow, "?")


def test_before_the_first_champion_it_says_what_to_run(tmp_path: Path, spark: Spark) -> None:
    fresh = house(tmp_path / "fresh", spark)
    with pytest.raises(InputError, match="has no champion yet -> run the weekly cycle: fleet run"):
        segment_lineage(fresh.lake, fresh.mlflow, "shop 0")


def test_the_command_prints_it_for_machines_and_for_people(home: House) -> None:
    told = fleet(home, "lineage", "shop 1", "--json")
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout) == segment_lineage(home.lake, home.mlflow, "shop 1")
    shown = fleet(home, "lineage", "shop 1")
    assert shown.exit_code == 0, shown.stderr
    assert "configuration digest" in shown.stdout
    assert home.settings.digest in shown.stdout
    wrong = fleet(home, "lineage", "shop 11")
    assert wrong.exit_code == 2
    assert "did you mean" in wrong.stderr
