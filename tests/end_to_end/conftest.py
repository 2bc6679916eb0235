"""Names that break things, and a fleet of them that lives through several weeks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from dagster import ExecuteInProcessResult

from resources.spark import Spark
from tests.cycle import House, house, sales

HOSTILE = [
    "plain",
    "Plain",
    "PLAIN",
    "with space ",
    "a/b\\c",
    "a,b;c",
    'it\'s "quoted"',
    "line\nbreak",
    "ice 🍦",
    "a|b",
    "../../escaped",
    "x" * 200,
]
WEEK_ONE, WEEK_TWO = 60, 80


@dataclass(frozen=True)
class Seen:
    """What a run left behind."""

    result: ExecuteInProcessResult
    commits: dict[str, int | None]
    versions: int
    status: dict[str, Any]
    forecasts: pd.DataFrame


Story = dict[str, Seen]


def seen(home: House, **arguments: Any) -> Seen:
    """Runs a cycle and looks."""
    result = home.run(**arguments)
    return Seen(result, home.commits(), home.versions(), home.status(), home.forecasts())


def table(days: int) -> pd.DataFrame:
    """Hostile shops; from day 60 on every shop sells 40 more, which only a model trained later knows."""
    return sales(HOSTILE, days, shift=(WEEK_ONE, 40.0))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    """The house of the story."""
    return house(tmp_path_factory.mktemp("story") / "deep" / "down", spark, table(WEEK_ONE))


@pytest.fixture(scope="module")
def story(home: House) -> Story:
    """Five runs: a first week, a second with new rows, one with nothing new, a recipe that is no good, and back."""
    told: Story = {"first": seen(home)}
    home.bring(table(WEEK_TWO))
    told["second"] = seen(home)
    told["unchanged"] = seen(home)
    home.configure(
        model={"rounds": 1, "params": {"learning_rate": 0.001}},
        features={"known_ahead": [], "lags": [5], "rolling": {"windows": [2]}, "calendar": ["trend"]},
    )
    told["worse"] = seen(home)
    home.configure()
    told["back"] = seen(home)
    return told
