"""`fleet check`: on the data as they are and on a fixed table, what was accepted, and what other programs read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

from orchestration.checks.accepted import LOCK, Accepted, better_than_accepted, read_accepted, worse_than_accepted
from orchestration.checks.results import FAILED, PASSED, WARNS, CheckResult, as_json, as_junit, as_markdown
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import MakeFleet
from tests.cycle import House, house, sales
from tests.orchestration.test_cli import fleet

RESULTS = [
    CheckResult("features.unique", FAILED, "rows: 3 | \x00 <b>"),
    CheckResult("raw.volume", PASSED, ""),
    CheckResult("raw.new_columns", WARNS, "weather"),
]
ACCEPTED = Accepted(table="a", metric="wape", errors={"served": 0.1, "baseline": 0.2}, checks=["raw.volume"])


@pytest.fixture(scope="module", autouse=True)
def shuffle_partitions(spark: Spark) -> Iterator[None]:
    """The command brings settings of its own to the session that all tests share."""
    yield
    spark.session()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    spark.session()
    return house(tmp_path_factory.mktemp("check"), spark, sales(3, 60))


@pytest.fixture(scope="module")
def told(home: House) -> dict[str, Result]:
    """What the command says before and after a week, and of a fixed table: accepted, the same, worse, other rows."""
    fixed = home.folder / "fixed.parquet"
    table = sales(3, 60)
    table.to_parquet(fixed, index=False)
    files = [f"--{kind}" for kind in ("junit", "markdown", "json")]
    written = [part for flag in files for part in (flag, str(home.folder / f"checks{flag}"))]
    said = {"no data": fleet(home, "check"), "run": fleet(home, "run")}
    runs = len(commits := home.commits())
    said["now"] = fleet(home, "check", *written)
    assert home.commits() == commits
    assert runs
    said["some"] = fleet(home, "check", "--select", "key:tiny/features", "--check", "unique")
    said["none"] = fleet(home, "check", "--check", "nonsense")
    said["accept"] = fleet(home, "check", "--table", str(fixed), "--accept")
    said["same"] = fleet(home, "check", "--table", str(fixed))
    home.configure(model={"rounds": 1})
    said["worse"] = fleet(home, "check", "--table", str(fixed), *written)
    home.configure(model={"rounds": 30})
    assert home.commits() == commits
    return said


@pytest.mark.slow
def test_without_data_there_is_nothing_to_check(told: dict[str, Result]) -> None:
    assert told["no data"].exit_code == 2
    assert "has no data yet" in told["no data"].stderr


@pytest.mark.slow
def test_every_check_runs_on_the_data_as_they_are(told: dict[str, Result]) -> None:
    assert told["run"].exit_code == 0, told["run"].stderr
    assert told["now"].exit_code == 0, told["now"].stderr
    for asset in ("raw", "features", "quarantine", "segment_models", "evaluation", "champions", "forecasts"):
        assert f" {asset}." in told["now"].stdout


@pytest.mark.slow
def test_chosen_checks_alone_run(told: dict[str, Result]) -> None:
    assert told["some"].exit_code == 0, told["some"].stderr
    assert told["some"].stdout.count("features.") == 1
    assert "features.unique" in told["some"].stdout
    assert told["none"].exit_code == 2
    assert "no check is chosen" in told["none"].stderr


@pytest.mark.slow
def test_a_fixed_table_is_judged_by_what_was_accepted(told: dict[str, Result], home: House) -> None:
    assert told["accept"].exit_code == 0, told["accept"].stderr
    accepted = read_accepted(home.folder / LOCK)
    assert accepted is not None
    assert "features.unique" in accepted.checks
    assert told["same"].exit_code == 0, told["same"].stderr
    assert f"wape of served: {accepted.errors['served']:.4f}" in told["same"].stdout
    assert told["worse"].exit_code == 1
    assert "worse than accepted: wape of challenger is" in told["worse"].stderr


@pytest.mark.slow
def test_what_is_written_says_what_failed(told: dict[str, Result], home: House) -> None:
    assert told["worse"].exit_code == 1
    found = json.loads((home.folder / "checks--json").read_text())
    assert found["worse than accepted"]
    assert {"features.unique", "forecasts.finite"} <= {each["name"] for each in found["checks"]}
    suite = ET.parse(home.folder / "checks--junit").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["failures"]) == len(found["worse than accepted"])
    assert int(suite.attrib["tests"]) == len(found["checks"]) + len(found["worse than accepted"])
    assert "❌ wape of challenger" in (home.folder / "checks--markdown").read_text()


@pytest.mark.slow
def test_a_fixed_table_that_is_not_there_and_one_that_is_not_named(home: House, told: dict[str, Result]) -> None:
    lost = fleet(home, "check", "--table", str(home.folder / "lost.parquet"))
    assert (lost.exit_code, "is no file of this machine" in lost.stderr) == (2, True)
    unnamed = fleet(home, "check", "--accept")
    assert (unnamed.exit_code, "is about a fixed table" in unnamed.stderr) == (2, True)
    (home.folder / LOCK).write_text("{}")
    broken = fleet(home, "check", "--table", str(home.folder / "fixed.parquet"))
    assert (broken.exit_code, "cannot be read" in broken.stderr) == (2, True)


def test_junit_markdown_and_json_hold_whatever_a_check_says() -> None:
    suite = ET.fromstring(as_junit("a & b", RESULTS, ["the check x was dropped"])).find("testsuite")
    assert suite is not None
    failures = {case.attrib["name"]: case.find("failure") for case in suite.findall("testcase")}
    said = {name: failure.attrib["message"] for name, failure in failures.items() if failure is not None}
    assert said == {"unique": "rows: 3 |  <b>", "accepted": "the check x was dropped"}
    page = as_markdown("title", RESULTS, ["a | b"])
    assert page.index("features.unique") < page.index("raw.new_columns") < page.index("raw.volume")
    assert "1 passed, 1 warns, 1 failed" in page
    assert "rows: 3 \\| " in page
    assert [each["outcome"] for each in json.loads(as_json(RESULTS, {"title": "t"}))["checks"]] == [
        FAILED,
        PASSED,
        WARNS,
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"errors": {"served": 0.1011, "baseline": 0.2}}, "wape of served is 0.1011"),
        ({"errors": {"served": float("nan"), "baseline": 0.2}}, "wape of served is nan"),
        ({"errors": {"served": 0.1}}, "there is no wape of baseline"),
        ({"checks": []}, "raw.volume was dropped"),
        ({"table": "b"}, "other rows"),
        ({"metric": "mae"}, "judged by mae"),
    ],
)
def test_what_is_worse_than_accepted(change: dict[str, Any], why: str) -> None:
    assert worse_than_accepted(ACCEPTED, ACCEPTED) == []
    found = worse_than_accepted(ACCEPTED, ACCEPTED.model_copy(update=change))
    assert len(found) == 1
    assert why in found[0]


def test_what_is_better_may_be_accepted_anew() -> None:
    now = ACCEPTED.model_copy(update={"errors": {"served": 0.09, "baseline": 0.2}, "checks": ["raw.volume", "x.y"]})
    assert better_than_accepted(ACCEPTED, ACCEPTED) == []
    assert better_than_accepted(ACCEPTED, now) == ["the check x.y is new", "wape of served fell from 0.1000 to 0.0900"]
    assert worse_than_accepted(ACCEPTED, now) == []


@given(st.floats(0, 1e6), st.floats(0, 0.5), st.floats(0, 3))
def test_an_error_passes_up_to_its_tolerance(error: float, tolerance: float, share: float) -> None:
    accepted = ACCEPTED.model_copy(update={"errors": {"served": error}, "tolerance": tolerance})
    now = accepted.model_copy(update={"errors": {"served": error * (1 + share)}})
    assert bool(worse_than_accepted(accepted, now)) == (error * (1 + share) > error * (1 + tolerance))


def test_a_lock_that_is_none(tmp_path: Path) -> None:
    assert read_accepted(tmp_path / LOCK) is None
    (tmp_path / LOCK).write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_accepted(tmp_path / LOCK)


def test_the_same_rows_have_the_samerows_digest(tmp_path: Path) -> None:
    from orchestration.checks.fixed_table import rows_digest

    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    for name, frame, compression in (("1", table, "zstd"), ("2", table, "gzip"), ("3", table.assign(a=[1, 3]), "zstd")):
        frame.to_parquet(tmp_path / f"{name}.parquet", compression=compression)
    one, two, three = (rows_digest(tmp_path / f"{name}.parquet") for name in "123")
    assert one == two != three


def test_a_week_before_knows_no_label_of_the_week_and_the_table_comes_back_whole(make_fleet: MakeFleet) -> None:
    from orchestration.checks.fixed_table import FixedTable, rows_digest

    table = sales(2, 60).assign(footfall=1.0)
    keys = {"horizon": 8, "features": {"known_ahead": ["price"], "past_only": ["footfall"]}}
    fleet_ = make_fleet(table, **keys)
    fixed = FixedTable(fleet_.folder / "fleet.yaml", fleet_.folder / "table.parquet", "")
    before = rows_digest(fixed.file)
    with fixed.a_week_before(fleet_.settings) as has_one:
        assert has_one
        found = pd.read_parquet(fixed.file)
        last = table.loc[table["sold"].notna(), "day"].max()
        cut = last - pd.Timedelta(days=2)  # a quarter of the horizon
        assert found.loc[found["sold"].notna(), "day"].max() == cut
        assert found.loc[found["footfall"].notna(), "day"].max() == cut
        assert found["day"].max() == table["day"].max() - pd.Timedelta(days=2)
        known = table[table["day"] <= cut].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[found["day"] <= cut].reset_index(drop=True), known)
    assert rows_digest(fixed.file) == before


@pytest.mark.parametrize("table", [sales(2, 60).assign(day="soon"), sales(2, 10), "shop,day,sold\n"])
def test_a_table_without_times_or_of_few_days_has_no_week_before(
    make_fleet: MakeFleet, table: pd.DataFrame | str
) -> None:
    from orchestration.checks.fixed_table import FixedTable

    fleet_ = make_fleet(table, horizon=4)
    fixed = FixedTable(fleet_.folder / "fleet.yaml", Path(fleet_.settings.source.path), "")
    before = fixed.file.read_bytes()
    with fixed.a_week_before(fleet_.settings) as has_one:
        assert not has_one
    assert fixed.file.read_bytes() == before
