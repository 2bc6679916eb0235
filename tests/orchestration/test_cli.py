"""The command `fleet`: exit codes, what it prints, and that wrong input leaves nothing behind."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from typer.testing import CliRunner, Result

from resources.spark import Spark
from tests.cycle import HORIZON, House, flats, house, sales, without_time

Fleet = Callable[..., Result]


def fleet(home: House, *arguments: str) -> Result:
    """`fleet` in this process, so that Spark is shared; the definitions are loaded anew, as a new process would."""
    from orchestration.cli import app

    sys.modules.pop("orchestration.definitions", None)
    for cached in (ReconstructableJob.get_definition, ReconstructableJob.get_repository_definition):
        cached.cache_clear()
    config = ["--config", str(home.folder / "fleet.yaml")]
    before = dict(os.environ)
    os.environ["DAGSTER_HOME"] = str(home.folder / "dagster_home")
    try:
        return CliRunner().invoke(app, [arguments[0], *config, *arguments[1:]])
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module", autouse=True)
def shuffle_partitions(spark: Spark) -> Iterator[None]:
    """The command brings settings of its own to the session that all tests share."""
    yield
    spark.session()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    spark.session()
    table = sales(3, 60).assign(department="food | drink")
    return house(tmp_path_factory.mktemp("cli"), spark, table, segment=["shop", "department"])


@pytest.fixture(scope="module")
def told(home: House) -> dict[str, Result]:
    """What the commands say, in the order in which a new user types them."""
    table = sales(3, 60).assign(department="food | drink")
    table[table["sold"].isna()].drop(columns="sold").to_csv(home.folder / "ahead.csv", index=False)
    score = ("score", "--input", str(home.folder / "ahead.csv"), "--out", str(home.folder / "scored.parquet"))
    return {
        "status before": fleet(home, "status", "--json"),
        "score before": fleet(home, *score),
        "tune before": fleet(home, "tune"),
        "validate": fleet(home, "validate"),
        "snapshots before": fleet(home, "snapshots"),
        "nobody": fleet(home, "run", "--segment", "shop 0|nobody"),
        "run": fleet(home, "run"),
        "score": fleet(home, *score),
        "tune": fleet(home, "tune", "--json"),
        "status": fleet(home, "status", "--json"),
        "segment": fleet(home, "run", "--segment", "shop 1|food %7C drink"),
        "status for people": fleet(home, "status"),
    }


def status(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


BEFORE = {
    "rows": {"read": 0, "valid": 0, "quarantined": 0, "by_reason": {}},
    "segments": {"found": 0, "trained": 0, "skipped": 0, "failed": 0},
    "champion": {"version": None, "segments": 0, "trained_through": None},
    "evaluation": {
        "metric": None,
        "challenger": None,
        "incumbent": None,
        "baseline": None,
        "served": None,
        "fleet": None,
        "holdout": {"start": None, "end": None},
    },
    "forecasts": {"rows": 0, "start": None, "end": None},
    "live": {"metric": None, "error": None, "issue": None, "scored": 0, "missing": 0, "awaited": 0},
    "drift": {"judged": 0, "drifted": 0, "new": 0, "through": None},
}


def test_the_status_before_the_first_run_is_zeros_and_nulls(told: dict[str, Result]) -> None:
    assert status(told["status before"]) == BEFORE


@pytest.mark.filterwarnings("error::FutureWarning")
def test_snapshots_are_listed_once_there_are_any(home: House, told: dict[str, Result]) -> None:
    assert told["snapshots before"].stdout == "no snapshot yet: fleet run\n"
    listed = fleet(home, "snapshots")
    assert listed.exit_code == 0, listed.stderr
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [["0", "192", "1", "1"]]


def test_a_run_says_what_it_did(told: dict[str, Result]) -> None:
    result = told["run"]
    assert result.exit_code == 0, result.stderr
    assert "tiny: done" in result.stdout
    for said in ("192 read", "3 trained", "version 1", "evaluation.html", "make ui"):
        assert said in result.stdout


def test_the_status_after_a_run_has_the_same_keys_and_the_numbers(told: dict[str, Result]) -> None:
    found = status(told["status"])
    assert {key: set(part) for key, part in found.items()} == {key: set(part) for key, part in BEFORE.items()}
    assert found["rows"] == {"read": 192, "valid": 192, "quarantined": 0, "by_reason": {}}
    assert found["segments"] == {"found": 3, "trained": 3, "skipped": 0, "failed": 0}
    assert found["champion"] == {"version": 1, "segments": 3, "trained_through": "2024-02-29T00:00:00"}
    judged = found["evaluation"]
    assert judged["metric"] == "wape"
    assert judged["incumbent"] is None
    assert 0 < judged["served"] < judged["baseline"]
    assert judged["holdout"] == {"start": "2024-02-26T00:00:00", "end": "2024-02-29T00:00:00"}
    assert found["forecasts"] == {
        "rows": 3 * HORIZON,
        "start": "2024-03-01T00:00:00",
        "end": "2024-03-04T00:00:00",
    }


def test_status_is_one_object_on_one_line(told: dict[str, Result]) -> None:
    assert told["status"].stdout.count("\n") == 1


def test_status_for_people_shows_the_same(told: dict[str, Result]) -> None:
    assert told["status for people"].exit_code == 0
    assert "champion" in told["status for people"].stdout


def test_validate_shows_what_was_derived(told: dict[str, Result]) -> None:
    assert told["validate"].exit_code == 0, told["validate"].stderr
    assert "tiny: valid" in told["validate"].stdout
    assert "sold@lag_4" in told["validate"].stdout.replace("\n", "")


def test_validate_of_a_table_without_time(tmp_path: Path, spark: Spark) -> None:
    said = fleet(house(tmp_path / "h", spark, flats(2, 60), **without_time()), "validate")
    assert said.exit_code == 0, said.stderr
    assert "a tenth of the rows, chosen by a hash of each" in " ".join(said.stdout.split())
    assert "size, floor, kind, lift" in " ".join(said.stdout.split())


def test_rows_that_are_brought_come_back_with_the_champions_forecasts(home: House, told: dict[str, Result]) -> None:
    assert told["score"].exit_code == 0, told["score"].stderr
    assert "12 rows by segment" in told["score"].stdout
    rows, keys = pd.read_parquet(home.folder / "scored.parquet"), ["shop", "day"]
    assert rows.columns.tolist() == ["shop", "day", "price", "department", "forecast", "model", "version", "reason"]
    assert rows["reason"].isna().all()
    batch = home.forecasts().set_index(keys)["forecast"]
    wanted = batch.loc[list(zip(rows["shop"], pd.to_datetime(rows["day"]), strict=True))]
    assert rows["forecast"].tolist() == pytest.approx(wanted.tolist(), rel=1e-9)


def test_without_a_champion_nothing_is_scored(told: dict[str, Result]) -> None:
    refused(told["score before"])
    assert "has no champion yet" in " ".join(told["score before"].stderr.split())


def test_nothing_is_searched_without_data_or_for_a_handful_of_segments(home: House, told: dict[str, Result]) -> None:
    refused(told["tune before"])
    assert "has no data yet" in " ".join(told["tune before"].stderr.split())
    refused(told["tune"])
    assert "3 segments and 0 fits, by tuning.budget (10%), are too few" in " ".join(told["tune"].stderr.split())
    assert not home.lake.read_file("tuning/chosen.json")


def test_a_named_segment_is_trained_alone(home: House, told: dict[str, Result]) -> None:
    assert told["segment"].exit_code == 0, told["segment"].stderr
    from assets.models.store import latest_training

    training = latest_training(home.lake)
    assert training is not None
    assert training.record["segments"] == ["shop 1|food %7C drink"]
    assert training.record["counts"] == {"trained": 1}


def test_an_unknown_segment_is_a_mistake(told: dict[str, Result]) -> None:
    refused(told["nobody"])
    assert "no such segment: 'shop 0|nobody'" in told["nobody"].stderr.replace("\n", " ")


def refused(result: Result) -> None:
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr + result.stdout
    assert "Stack Trace" not in result.stderr + result.stdout


YAML = {
    "unknown key": ("name: tiny\nsurce: {path: x}\n", "did you mean source?"),
    "no yaml": ("name: [tiny\n", "is not YAML"),
    "nothing": ("", "holds no settings"),
    "lag": (
        "name: tiny\nsource: {path: t.parquet}\nsegment: shop\ntime: day\nlabel: sold\nhorizon: 4\nfeatures: {lags: [1]}\n",
        "shorter than the horizon",
    ),
    "parameter": (
        "name: tiny\nsource: {path: t.parquet}\nsegment: shop\ntime: day\nlabel: sold\nmodel: {params: {num_leafs: 3}}\n",
        "did you mean num_leaves?",
    ),
    "value": (
        "name: tiny\nsource: {path: t.parquet}\nsegment: shop\ntime: day\nlabel: sold\nmodel: {params: {num_leaves: 1}}\n",
        "num_leaves",
    ),
}


# `status` trains nothing, so LightGBM is not asked about its parameters
ASKED = [
    (m, c) for m in YAML for c in ("run", "validate", "status") if c != "status" or m not in ("parameter", "value")
]


@pytest.mark.parametrize(("mistake", "command"), ASKED)
def test_a_wrong_fleet_yaml_is_explained(tmp_path: Path, spark: Spark, mistake: str, command: str) -> None:
    text, said = YAML[mistake]
    home = House(tmp_path, spark)
    (tmp_path / "fleet.yaml").write_text(text)
    result = fleet(home, command)
    refused(result)
    assert said in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.yaml"]


def test_a_missing_fleet_yaml_is_explained(tmp_path: Path, spark: Spark) -> None:
    refused(fleet(House(tmp_path, spark), "run"))


def _empty(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[:0]


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"price": "prices"})


def _words(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(sold="many")


def _constant(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(sold=3.0)


SOURCES: dict[str, tuple[Any, str]] = {
    "missing": (None, "no file at"),
    "empty": (_empty, "holds no rows"),
    "misspelt": (_renamed, "did you mean 'prices'?"),
    "words": (_words, "sold"),
    "untrainable": (_constant, "no segment can be trained"),
}


@pytest.mark.parametrize("mistake", list(SOURCES))
def test_wrong_input_is_explained_and_nothing_is_written(tmp_path: Path, spark: Spark, mistake: str) -> None:
    spoil, said = SOURCES[mistake]
    home = house(tmp_path / "h", spark, spoil(sales(2, 60)) if spoil else None)
    for command in ("validate", "run"):
        result = fleet(home, command)
        refused(result)
        assert said in " ".join(result.stderr.split()), command
    written = [path for path in (home.folder / "lake").rglob("*") if path.is_file()]
    assert written == []


def test_several_mistakes_are_listed_at_once(tmp_path: Path, spark: Spark) -> None:
    home = house(tmp_path / "h", spark, sales(2, 60), label="sald", time="dy")
    result = fleet(home, "run")
    refused(result)
    assert "2 problems" in result.stderr
    assert "did you mean 'sold'?" in result.stderr
    assert "did you mean 'day'?" in result.stderr


def test_a_corrupt_source_later_leaves_the_last_state(home: House, told: dict[str, Result]) -> None:
    before, state = home.commits(), home.status()
    source = Path(home.settings.source.path)
    kept = source.read_bytes()
    try:
        source.write_bytes(kept[: len(kept) // 2])
        refused(fleet(home, "run"))
    finally:
        source.write_bytes(kept)
    assert home.commits() == before
    assert home.status() == state


def test_a_blocking_check_that_fails_stops_the_run_with_1(
    tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assets.features import checks
    from assets.features.leak import Leaks

    home = house(tmp_path / "h", spark, sales(2, 60))
    monkeypatch.setattr(checks, "find_leaks", lambda *_: Leaks({"price": 3}, 10, 2))
    result = fleet(home, "run")
    assert result.exit_code == 1, result.stderr
    assert "no_leak" in result.stderr
    assert home.lake.table("models").version() is None
    assert home.status()["champion"]["version"] is None


def test_the_demo_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.cli import app

    calls: list[Path] = []
    monkeypatch.setattr("assets.raw.demo.write_demo", lambda path: calls.append(path) or path.touch())
    target = tmp_path / "sales.parquet"
    assert CliRunner().invoke(app, ["demo", "--path", str(target)]).exit_code == 0
    assert CliRunner().invoke(app, ["demo", "--path", str(target)]).exit_code == 0
    assert calls == [target]
    assert CliRunner().invoke(app, ["demo", "--path", str(target), "--force"]).exit_code == 0
    assert calls == [target, target]
