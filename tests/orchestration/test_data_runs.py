"""The command line on data: rules that come and go, weeks that come, an earlier one again."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import Result

from assets.forecasts.publish import FORECASTS
from resources.spark import Spark
from tests.cycle import House, house, sales
from tests.orchestration.test_cli import fleet

pytestmark = pytest.mark.slow

RULE = {"name": "dear", "predicate": "price < 5", "action": "drop"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    spark.session()
    return house(tmp_path_factory.mktemp("data"), spark, sales(3, 60))


@pytest.fixture(scope="module")
def told(home: House) -> dict[str, Result]:
    """What the commands say, in their order."""
    found = {"too early": fleet(home, "requarantine"), "first": fleet(home, "run")}
    home.configure(contract={"expectations": [RULE]})
    found["ruled"] = fleet(home, "requarantine")
    home.configure()
    found["unruled"] = fleet(home, "requarantine")
    home.bring(sales(3, 64))
    found["more"] = fleet(home, "run")
    found["back"] = fleet(home, "run", "--snapshot", "0")
    found["snapshots"] = fleet(home, "snapshots")
    found["nowhere"] = fleet(home, "run", "--snapshot", "77")
    home.spark.session()
    return found


def test_rules_that_come_and_go_move_rows_and_lose_none(told: dict[str, Result]) -> None:
    ruled, unruled = told["ruled"], told["unruled"]
    assert (ruled.exit_code, unruled.exit_code) == (0, 0), ruled.stderr + unruled.stderr
    refused = sales(3, 60)["price"].eq(5).sum()
    assert f"expectation:dear  0 before, {refused} now" in ruled.stdout
    assert f"expectation:dear  {refused} before, 0 now" in unruled.stdout
    assert f"{192 - refused} before, 192 now" in unruled.stdout


def test_before_the_first_run_there_is_nothing_to_judge(told: dict[str, Result]) -> None:
    assert told["too early"].exit_code == 2
    assert "has no data yet -> run the weekly cycle" in told["too early"].stderr


def test_an_earlier_snapshot_is_run_again_to_the_last_digit(told: dict[str, Result], home: House) -> None:
    assert [told[name].exit_code for name in ("more", "back", "snapshots", "nowhere")] == [0, 0, 0, 2]
    assert "204 read" in told["more"].stdout
    assert "192 read" in told["back"].stdout
    assert told["snapshots"].stdout.splitlines()[1].split() == ["2", "192", "1", "1", "0"]
    assert "there is no snapshot 77 -> known: 0, 1, 2" in told["nowhere"].stderr
    weeks = [home.lake.table(FORECASTS).arrow(version=version).to_pandas() for version in (0, 1, 2)]
    columns = ["shop", "day", "forecast", "model"]
    first, more, back = (week[columns].sort_values(["shop", "day"], ignore_index=True) for week in weeks)
    pd.testing.assert_frame_equal(first, back, check_exact=True)
    assert more["day"].min() > back["day"].max()
