"""Who serves, over whole weeks: versions that wait, go back, are lost or corrupt, and a registry that is down."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import AssetCheckSeverity, AssetKey, DagsterInstance, materialize

from assets.champions.asset import champions_asset
from assets.champions.checks import champions_checks
from assets.evaluation.incumbent import CHAMPIONS, published_champion
from assets.forecasts.asset import forecasts_asset
from assets.forecasts.checks import forecasts_checks
from assets.models.wholeness import SET_ASIDE
from resources.spark import Spark
from tests.cycle import HORIZON, House, give_store, house, sales
from tests.orchestration.test_cli import fleet

pytestmark = pytest.mark.slow

FIRST, SECOND = 60, 68


def table(days: int) -> pd.DataFrame:
    """Three shops that sell more from day 60 on, so that a model trained later is better."""
    return sales(3, days, shift=(FIRST, 3.0))


@pytest.fixture(scope="module")
def two_weeks(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Iterator[House]:
    """A fleet with two champions, one after the other."""
    made = house(tmp_path_factory.mktemp("weeks"), spark, table(FIRST))
    give_store(made)
    assert fleet(made, "run").exit_code == 0
    made.bring(table(SECOND))
    assert fleet(made, "run").exit_code == 0
    yield made
    spark.session()


@pytest.fixture
def own(two_weeks: House, tmp_path: Path) -> House:
    """A copy for one test."""
    shutil.copytree(two_weeks.folder, tmp_path / "own")
    return House(tmp_path / "own", two_weeks.spark)


def forecast_versions(home: House) -> set[int]:
    return set(home.forecasts()["version"])


def champion_files(home: House, version: int) -> list[Path]:
    """Shards that only this version's champion uses."""
    from assets.evaluation.incumbent import published_fleet

    shards = {}
    for tags in home.mlflow.versions():
        found = published_fleet(home.lake, tags)
        assert not isinstance(found, str), found
        shards[found.version] = set(found.listing["shard"].drop_null().to_pylist())
    others = set().union(*(files for number, files in shards.items() if number != version))
    return [home.folder / "lake" / shard for shard in sorted(shards[version] - others)]


def flip_a_byte_of_a_model(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    place = content.index(b"\x28\xb5\x2f\xfd") + 40  # within a Zstandard frame
    content[place] ^= 0xFF
    shard.write_bytes(bytes(content))


def serve_and_forecast(home: House) -> dict[str, Any]:
    """Runs `champions` and `forecasts` with their checks; gives the metadata of the checks of severity error that failed."""
    settings = home.settings
    builds = (champions_asset, forecasts_asset), (champions_checks, forecasts_checks)
    assets = [*(build(settings) for build in builds[0]), *(check for build in builds[1] for check in build(settings))]
    resources = {"lake": home.lake, "mlflow": home.mlflow, "spark": home.spark}
    result = materialize(assets, instance=home.instance, resources=resources)
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    errors = [check for check in failed if check.severity == AssetCheckSeverity.ERROR]
    return {check.check_name: {name: value.value for name, value in check.metadata.items()} for check in errors}


HARM: dict[str, Any] = {
    "deleted": Path.unlink,
    "a byte": flip_a_byte_of_a_model,
}


@pytest.mark.parametrize("harm", list(HARM))
def test_a_champion_that_lost_a_file_is_replaced_by_the_one_before_and_mended(own: House, harm: str) -> None:
    HARM[harm](champion_files(own, 2)[0])
    failed = serve_and_forecast(own)
    assert forecast_versions(own) == {1}
    assert failed["champion_whole"]["serves"] == "version 1"
    assert "version 2 has lost 1 files of models" in str(failed["champion_whole"]["instead, because"])
    kept = list((own.folder / "lake" / SET_ASIDE).rglob("*.parquet"))
    assert len(kept) == (0 if harm == "deleted" else 1)
    assert fleet(own, "status").exit_code == 0
    healed = fleet(own, "run")
    assert healed.exit_code == 0, healed.stderr
    assert "is lost or corrupt" in healed.stderr or "are lost or corrupt" in healed.stderr
    assert forecast_versions(own) == {published_champion(own.lake, own.mlflow).version}  # type: ignore[union-attr]
    assert own.status()["champion"]["version"] > 2


def test_a_champion_whose_rows_are_lost(own: House) -> None:
    rows = own.lake.table(CHAMPIONS).files(where=[("published", "=", (own.mlflow.version("2") or {})["published"])])
    Path(rows[0]).unlink()
    assert own.status()["champion"]["version"] == 1
    again = fleet(own, "run")
    assert again.exit_code == 0, again.stderr
    assert own.status()["champion"]["version"] == 2


def test_without_any_whole_version_the_baseline_serves_and_the_check_fails(own: House) -> None:
    shutil.rmtree(own.folder / "lake" / "boosters")
    said = fleet(own, "rollback", "--to", "1", "--by", "Ann")
    assert said.exit_code == 2
    assert "version 1: cannot serve: version 1 has lost" in said.stderr
    assert own.status()["champion"]["version"] is None
    again = fleet(own, "run")
    assert again.exit_code == 0, again.stderr
    assert own.status()["champion"]["version"] > 2


def test_a_person_rolls_back_and_forward_and_forecasts_follow(own: House) -> None:
    before = own.forecasts()
    said = fleet(own, "rollback", "--by", "Ann", "--note", "too high")
    assert said.exit_code == 0, said.stderr
    assert forecast_versions(own) == {1}
    listed = json.loads(fleet(own, "versions", "--json").stdout)
    assert [(row["version"], row["alias"], row["status"]) for row in listed] == [
        ("2", "previous", "withdrawn"),
        ("1", "champion", "approved"),
    ]
    assert [row["note"] for row in listed] == ["too high", "too high"]
    again = fleet(own, "run")
    assert again.exit_code == 0, again.stderr
    assert "version 2 was withdrawn by Ann: too high" in again.stderr
    assert forecast_versions(own) == {1}
    assert fleet(own, "rollback", "--to", "2", "--by", "Ann").exit_code == 0
    pd.testing.assert_frame_equal(own.forecasts(), before)


def test_some_segments_roll_back(own: House) -> None:
    both = own.lake.table("forecasts").arrow().to_pandas()
    said = fleet(own, "rollback", "--to", "1", "--segment", "shop 1", "--pin-until", "2999-01-01", "--by", "Ann")
    assert said.exit_code == 0, said.stderr
    after = own.forecasts()
    same = (
        after.sort_values(["shop", "day"])["forecast"].to_numpy()
        == both.sort_values(["shop", "day"])["forecast"].to_numpy()
    )
    assert same.reshape(3, HORIZON).all(axis=1).tolist() == [True, False, True]
    for wrong in (("--to", "1", "--segment", "shop 9"), ("--to", "7"), ("--to", "1", "--pin-until", "soon")):
        refused = fleet(own, "rollback", *wrong, "--by", "Ann")
        assert refused.exit_code == 2, refused.stderr
    assert set(own.forecasts()["version"]) == {3}


def test_a_version_waits_for_a_person(own: House) -> None:
    own.configure(promotion={"mode": "manual"})
    own.bring(table(SECOND + 4))
    waits = fleet(own, "run")
    assert waits.exit_code == 0, waits.stderr
    assert "version 3 waits for approval: fleet promote 3 --by NAME" in waits.stderr
    assert forecast_versions(own) == {2}
    assert fleet(own, "promote", "2", "--by", "Ann").exit_code == 2
    said = fleet(own, "promote", "3", "--by", "Ann", "--note", "fine")
    assert said.exit_code == 0, said.stderr
    assert forecast_versions(own) == {3}
    event = last_champions(own)
    assert (event["outcome"], event["by"], event["note"]) == ("approved", "Ann", "fine")
    twice = fleet(own, "promote", "3", "--by", "Bob")
    assert twice.exit_code == 2
    assert "does not wait for approval: it is approved by Ann" in twice.stderr


def test_a_challenger_forecasts_beside_the_champion_for_a_week_and_then_serves(own: House) -> None:
    own.configure(promotion={"shadow": 0.2})
    days, said = SECOND, []
    for _ in range(3):
        days += 8
        own.bring(table(days))
        result = fleet(own, "run")
        assert result.exit_code == 0, result.stderr
        said.append((last_champions(own)["outcome"], forecast_versions(own), aliases(own)))
        beside = own.lake.table("shadow_forecasts").arrow().to_pandas()
        assert set(beside["shop"]) == {"shop 0"}
    assert said == [
        ("shadow", {2}, {"champion": "2", "challenger": "3"}),
        ("promoted", {3}, {"champion": "3", "challenger": "4"}),
        ("promoted", {4}, {"champion": "4", "challenger": "5"}),
    ]
    page = (own.folder / "lake/reports/champions.html").read_text()
    compared = page.partition("Challenger against champion, once labels came")[2]
    assert re.search(r"<td>4</td><td>3</td>", compared)
    assert re.search(r"<td>3</td><td>2</td>", compared)
    assert "challenger wape" in compared
    stopped = fleet(own, "reject", "5", "--by", "Ann", "--note", "stop it")
    assert stopped.exit_code == 0, stopped.stderr
    assert aliases(own) == {"champion": "4"}


def aliases(home: House) -> dict[str, str]:
    """Which versions the aliases `champion` and `challenger` name."""
    named = {alias: home.mlflow.aliased(alias) for alias in ("champion", "challenger")}
    return {alias: tags["version"] for alias, tags in named.items() if tags is not None}


def last_champions(home: House) -> dict[str, Any]:
    """Metadata of the last materialization of `champions`, as the instance of the command has it."""
    with DagsterInstance.from_config(str(home.folder / "dagster_home")) as instance:
        event = instance.get_latest_materialization_event(AssetKey(["tiny", "champions"]))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}
