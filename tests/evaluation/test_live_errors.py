"""Live errors through whole weeks: scored once, completed as labels come, equal to what pandas makes of the same rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import AssetCheckResult, AssetCheckSeverity, AssetKey

from assets.evaluation import live_errors
from assets.evaluation.judge import EVALUATION
from assets.evaluation.live_checks import live_errors_checks
from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS, pending_issues, score_issues, scored_issues
from assets.evaluation.live_score import SUMS
from assets.evaluation.live_summary import live_by_version
from assets.features.publish import current_features
from assets.forecasts.publish import FORECASTS
from resources.lake import Lake
from resources.pruned import record_pruned
from resources.spark import Spark
from tests.cycle import HORIZON, House, house, sales
from tests.lakes import built

SHOPS, WEEKS = 3, (60, 62, 66)
FIRST = pd.Timestamp("2024-01-01")


def actuals(days: int) -> pd.DataFrame:
    table = sales(SHOPS, days)
    return table[table["sold"].notna()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    """Three weeks, each with a cycle: 60 days, two more (half a horizon), four more."""
    made = house(tmp_path_factory.mktemp("live"), spark)
    for days in WEEKS:
        made.bring(sales(SHOPS, days))
        assert made.run().success
    return made


def by_hand(home: House, issue: int, days: int, after: int = 0, until: int = 1000) -> pd.DataFrame:
    """Sums of an issue's rows of some days (counted from the first) by shop, straight from forecasts and labels."""
    rows = home.lake.table(FORECASTS).arrow(version=issue).to_pandas().merge(actuals(days), on=["shop", "day"])
    day = (rows["day"] - FIRST).dt.days + 1
    rows = rows[(day > after) & (day <= until)]
    error = rows["forecast"] - rows["sold"]
    sums = {
        "count": 1,
        "missing": 0,
        "label_absolute": rows["sold"].abs(),
        "absolute": error.abs(),
        "squared": error**2,
        "signed": error,
    }
    return rows.assign(**sums).groupby("shop")[list(SUMS)].sum()


def history(home: House) -> pd.DataFrame:
    rows = home.lake.table(LIVE_ERRORS).arrow().to_pandas()
    return rows.sort_values(["issue", "segment", "in_force"], ignore_index=True)


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    found = found.set_index("segment")[list(SUMS)].sort_index().rename_axis("shop")
    pd.testing.assert_frame_equal(found, wanted.sort_index(), check_dtype=False, rtol=1e-12)


def test_sums_over_segments_are_those_of_forecasts_and_labels(home: House) -> None:
    rows = history(home)
    assert set(rows["issue"]) == {0, 1}
    first = rows[rows["issue"] == 0]
    same(first[first["in_force"]], by_hand(home, 0, 66, until=62))
    same(first[~first["in_force"]], by_hand(home, 0, 66, after=62))
    second = rows[rows["issue"] == 1]
    assert second["in_force"].all()
    same(second, by_hand(home, 1, 66))
    assert set(rows["version"]) <= {1, 2, 3}


@pytest.fixture
def own(home: House, tmp_path: Path) -> House:
    """A copy for one test."""
    shutil.copytree(home.folder, tmp_path / "own")
    return House(tmp_path / "own", home.spark)


def score(home: House) -> list[int]:
    return score_issues(home.lake, home.spark, current_features(home.lake))


def bring(home: House, table: pd.DataFrame) -> None:
    """New rows as far as features, then scored."""
    home.bring(table)
    built(home)
    score(home)


def test_scored_twice_is_scored_once(own: House) -> None:
    before, rows = own.commits(), history(own)
    assert score(own) == []
    assert own.commits() == before
    pd.testing.assert_frame_equal(history(own), rows)


def test_an_issue_without_a_label_is_not_scored_yet(home: House) -> None:
    assert home.lake.table(FORECASTS).version() == 2
    assert list(scored_issues(home.lake)) == [0, 1]
    assert pending_issues(home.lake, current_features(home.lake)) == []


def test_the_record_of_an_issue_counts_what_is_awaited_and_its_totals_are_those_of_the_rows(home: House) -> None:
    scored, rows = scored_issues(home.lake), history(home)
    assert {n: said["awaited"] for n, said in scored.items()} == {0: 0, 1: 0}
    first = scored_after(home, 1)
    assert {n: (said["scored"], said["awaited"]) for n, said in first.items()} == {0: (2 * SHOPS, 2 * SHOPS)}
    for issue, said in scored.items():
        assert sum(total["absolute"] for total in said["totals"]) == pytest.approx(
            rows[rows["issue"] == issue]["absolute"].sum()
        )
        assert said["scored"] == HORIZON * SHOPS


def scored_after(home: House, commits: int) -> dict[int, dict[str, Any]]:
    """What the first commits of the history said."""
    records = home.lake.table(LIVE_ERRORS).records()
    return {int(n): said for version in range(commits) for n, said in records[version]["issues"].items()}


def test_periods_sum_up_to_segments_and_have_their_times(home: House) -> None:
    periods, rows = home.lake.table(LIVE_PERIODS).arrow().to_pandas(), history(home)
    keys = ["issue", "version", "in_force"]
    pd.testing.assert_frame_equal(
        periods.groupby(keys)[list(SUMS)].sum(), rows.groupby(keys)[list(SUMS)].sum(), rtol=1e-12
    )
    first = periods[periods["issue"] == 0].sort_values("period")
    assert first["time"].tolist() == list(pd.date_range("2024-03-01", periods=HORIZON))
    assert first["in_force"].tolist() == [True, True, False, False]


def test_each_period_is_in_force_for_one_issue(home: House) -> None:
    periods = home.lake.table(LIVE_PERIODS).arrow().to_pandas()
    counted = periods[periods["in_force"]].groupby("period")["count"].sum()
    assert (counted == SHOPS).all()
    assert len(counted) == 6


def test_late_labels_complete_an_issue_and_corrected_ones_replace_its_rows(own: House) -> None:
    whole = sales(SHOPS, 66)
    late = (whole["shop"] == "shop 1") & (whole["day"] >= "2024-03-05")
    bring(own, whole.assign(sold=whole["sold"].mask(late)))
    rows = history(own).groupby(["issue", "segment"])[["count", "missing"]].sum()
    assert rows.loc[(1, "shop 1")].tolist() == [2, 2]
    assert rows.loc[(1, "shop 0")].tolist() == [4, 0]
    assert scored_issues(own.lake)[1]["missing"] == 2
    bring(own, whole.assign(sold=whole["sold"] + 100.0 * (whole["day"] == "2024-03-04")))
    rows = history(own)
    assert len(rows[rows["issue"] == 1]) == SHOPS
    forecast = own.lake.table(FORECASTS).arrow(version=1).to_pandas().merge(whole, on=["shop", "day"])
    error = forecast["forecast"] - forecast["sold"] - 100.0 * (forecast["day"] == "2024-03-04")
    assert rows[rows["issue"] == 1]["absolute"].sum() == pytest.approx(error.abs().sum(), rel=1e-12)


def test_an_older_snapshot_takes_no_label_away_again(own: House) -> None:
    before = history(own)
    bring(own, sales(SHOPS, 64))
    assert own.commits()[LIVE_ERRORS] == 1
    pd.testing.assert_frame_equal(history(own), before)


def test_a_horizon_after_its_end_an_issue_is_settled(own: House) -> None:
    bring(own, sales(SHOPS, 68))
    assert scored_issues(own.lake)[0]["last_period"] - scored_issues(own.lake)[0]["origin"] == 8
    settled = history(own).query("issue == 0")
    whole = sales(SHOPS, 69)
    bring(own, whole.assign(sold=whole["sold"] + 5))
    pd.testing.assert_frame_equal(
        history(own).query("issue == 0").reset_index(drop=True), settled.reset_index(drop=True)
    )
    assert scored_issues(own.lake)[1]["last_period"] > scored_issues(own.lake)[0]["last_period"]


def test_the_history_outlives_the_forecasts(own: House) -> None:
    bring(own, sales(SHOPS, 66))
    before = history(own)
    for file in own.lake.table(FORECASTS).files(0):
        Path(file).unlink()
    record_pruned(own.lake, {FORECASTS: ["0"]}, "2024-04-01")
    bring(own, sales(SHOPS, 67))
    after = history(own)
    pd.testing.assert_frame_equal(after[after["issue"] == 0], before[before["issue"] == 0])
    assert set(after["issue"]) == {0, 1, 2}


def test_a_segment_that_vanished_is_missing_under_its_name(own: House) -> None:
    table = sales(SHOPS, 67)
    bring(own, table[table["shop"] != "shop 2"])
    rows = history(own)
    gone = rows[(rows["issue"] == 2) & (rows["segment"] == "shop 2")]
    assert gone[["count", "missing"]].values.tolist() == [[0, 1]]


def test_nothing_is_kept_of_a_crash_between_the_two_tables(own: House, monkeypatch: pytest.MonkeyPatch) -> None:
    own.bring(sales(SHOPS, 67))
    built(own)
    real = live_errors._replace

    def dies(lake: Lake, name: str, *rest: Any) -> None:
        if name == LIVE_ERRORS:
            raise RuntimeError("died")
        real(lake, name, *rest)

    before = scored_issues(own.lake)
    with monkeypatch.context() as patched:
        patched.setattr(live_errors, "_replace", dies)
        with pytest.raises(RuntimeError):
            score(own)
    assert scored_issues(own.lake) == before
    assert score(own) == [0, 1, 2]
    periods = own.lake.table(LIVE_PERIODS).arrow().to_pandas()
    assert periods["count"].sum() == history(own)["count"].sum()
    assert not periods.duplicated(["issue", "period", "in_force", "role"]).any()


def test_what_was_promised_stands_beside_what_came(home: House) -> None:
    shown = live_by_version(home.lake, "wape").set_index("version")
    judged = home.lake.table(EVALUATION).record(0)["errors"]["served"]
    assert shown.loc["1", "wape at promotion"] == judged
    rows = history(home)
    mine = rows[(rows["version"] == 1) & rows["in_force"]]
    assert shown.loc["1", "live wape"] == pytest.approx(mine["absolute"].sum() / mine["label_absolute"].sum())


def checks(home: House) -> dict[str, AssetCheckResult]:
    return {next(iter(c.check_keys)).name: c(home.lake) for c in live_errors_checks(home.settings)}


def test_the_checks_pass_in_good_weeks_and_warn_of_missing_labels_and_broken_promises(own: House) -> None:
    assert {name: result.passed for name, result in checks(own).items()} == {
        "actuals_arrived": True,
        "as_good_as_promised": True,
    }
    table = sales(SHOPS, 67)
    table.loc[table["day"] == "2024-03-07", "sold"] += 300
    bring(own, table[(table["shop"] != "shop 1") | (table["day"] < "2024-03-05")])
    found = checks(own)
    assert not found["actuals_arrived"].passed
    assert found["actuals_arrived"].metadata["missing"].value == 3
    assert not found["as_good_as_promised"].passed
    assert all(result.severity == AssetCheckSeverity.WARN for result in found.values())


def test_the_asset_shows_it_and_an_empty_history_honestly(home: House) -> None:
    events = home.instance.fetch_materializations(AssetKey(["tiny", LIVE_ERRORS]), limit=10).records
    newest, *_, first = [event.asset_materialization.metadata for event in events]
    assert first["issues"].value == 0
    assert first["live error"].value.startswith("none yet")
    assert newest["issues"].value == 2
    assert newest["dagster/row_count"].value == len(history(home))
    for shown in ("by version", "by issue", "worst segments"):
        assert newest[shown].value.records
    assert newest["live error"].value.startswith("![plot](data:image/png;base64,")
