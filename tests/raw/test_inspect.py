"""What a table is like, and which tables are refused as a whole with the key to change."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assets.raw import description, kinds
from assets.raw.inspect import Inspected, inspect, inspect_frame
from assets.raw.kinds import column_kinds
from assets.raw.parse import KEY, TIME
from assets.raw.profile import Profile, Timeline
from assets.raw.read import read_source
from assets.raw.recipe import _objectives
from assets.raw.source import find_files
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales
from tests.cycle import flats, without_time
from tests.judging import kept


def look(spark: Spark, fleet: Fleet) -> Inspected:
    """Profile and recipe, which are the same whoever reads the rows; nothing is left behind."""
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    with tempfile.TemporaryDirectory() as folder:
        found = [told(lambda: inspect(spark, kept(raw, Path(folder) / "raw"), fleet.settings))]
    found.append(told(lambda: inspect_frame(spark, raw, fleet.settings)))
    assert str(found[0]) == str(found[1])
    assert not Path(fleet.settings.lake).exists()
    if isinstance(found[0], InputError):
        raise found[0]
    return found[0]


def told(work: Callable[[], Inspected]) -> Inspected | InputError:
    try:
        return work()
    except InputError as error:
        return error


def refused(spark: Spark, fleet: Fleet) -> str:
    with pytest.raises(InputError) as caught:
        look(spark, fleet)
    return str(caught.value)


def thinned(table: pd.DataFrame, share: float = 0.2) -> pd.DataFrame:
    return table[np.random.default_rng(3).random(len(table)) > share]


@pytest.mark.parametrize(
    ("frequency", "start"),
    [("h", "2024-01-01"), ("W-FRI", "2024-01-05"), ("MS", "1965-02-01"), ("D", "2024-01-01 06:00"), ("YS", "1960-01-01")],
)  # fmt: skip
def test_defaults_follow_the_frequency_and_gaps_are_tolerated(
    spark: Spark, make_fleet: MakeFleet, frequency: str, start: str
) -> None:
    table = thinned(daily_sales(shops=3, days=120 if frequency != "YS" else 50, frequency=frequency, start=start))
    profile, recipe, _ = look(spark, make_fleet(table))
    assert profile.times.frequency == frequency
    assert profile.rows == len(table)
    assert profile.times.last_label == table["day"].max()
    assert profile.times.history == (120 if frequency != "YS" else 50)
    assert recipe.horizon >= 1
    assert all(lag >= recipe.horizon for lag in recipe.lags)
    assert recipe.holdout + recipe.minimum_history <= profile.times.history
    assert Profile.from_json(profile.to_json()) == profile


@pytest.mark.parametrize("days", [5, 8, 13, 30])
def test_a_short_table_needs_no_configuration(spark: Spark, make_fleet: MakeFleet, days: int) -> None:
    _, recipe, _ = look(spark, make_fleet(daily_sales(days=days)))
    assert recipe.holdout < days
    assert min(recipe.lags) >= recipe.horizon


def mixed(*parts: tuple[str, int], shared: bool = False) -> pd.DataFrame:
    frames = [
        daily_sales(shops=2, days=periods, frequency=frequency).assign(
            shop=lambda frame, n=number: frame["shop"] + ("" if shared else f" of {n}")
        )
        for number, (frequency, periods) in enumerate(parts)
    ]
    if shared:
        frames[1]["day"] += frames[0]["day"].max() - frames[1]["day"].min() + pd.Timedelta("7D")
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (mixed(("D", 100), ("W-MON", 30)), ("1 D,", "1 W-")),
        (mixed(("h", 200), ("D", 20)), ("1 h,", "1 D")),
        (mixed(("D", 100), ("MS", 20)), ("1 D,", "1 MS")),
        (mixed(("W-FRI", 40), ("MS", 20)), ("1 W-", "1 MS")),
        (mixed(("D", 60), ("W-MON", 40), shared=True), ("1 D,", "1 W-")),
    ],
)
def test_mixed_frequencies_are_refused_by_both_names(
    spark: Spark, make_fleet: MakeFleet, table: pd.DataFrame, names: tuple[str, str]
) -> None:
    said = refused(spark, make_fleet(table))
    assert said.startswith("fleet.yaml frequency: frequencies are mixed")
    assert all(name in said for name in names), said


@pytest.mark.parametrize(
    ("actual", "given", "expected"),
    [
        ("D", "W-FRI", "the table looks like 'D'"),
        ("W-FRI", "W", "the table looks like 'W-FRI'"),
        ("D", "h", "set frequency to D"),
        ("W-WED", "D", "set frequency to W-WED"),
        ("3D", None, "set frequency to 3D"),
    ],
)
def test_a_frequency_that_does_not_fit(
    spark: Spark, make_fleet: MakeFleet, actual: str, given: str | None, expected: str
) -> None:
    keys = {"frequency": given} if given else {}
    said = refused(spark, make_fleet(daily_sales(days=80, frequency=actual), **keys))
    assert said.startswith("fleet.yaml frequency: ")
    assert expected in said


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"horizon": 80}, "fleet.yaml horizon: a horizon of 80 periods is longer than the history of 60"),
        ({"evaluation": {"holdout": 60}}, "fleet.yaml evaluation.holdout: a holdout of 60 periods is longer"),
        ({"evaluation": {"minimum_history": 59}}, "fleet.yaml evaluation.minimum_history"),
    ],
)
def test_lengths_the_history_cannot_hold(
    spark: Spark, make_fleet: MakeFleet, daily: pd.DataFrame, keys: dict[str, Any], expected: str
) -> None:
    assert expected in refused(spark, make_fleet(daily, **keys))


def test_no_segment_can_be_trained(spark: Spark, make_fleet: MakeFleet, daily: pd.DataFrame) -> None:
    constant = daily.assign(sold=1.0)
    assert "no segment can be trained: none of 3" in refused(spark, make_fleet(constant))
    singles = daily.assign(shop=[f"shop {number}" for number in range(len(daily))])
    assert "no segment can be trained: none of 180" in refused(spark, make_fleet(singles))


def test_a_table_without_time(spark: Spark, make_fleet: MakeFleet) -> None:
    table = flats(3, 60).assign(seen=pd.Timestamp("2024-01-01"), parts=[[1.0]] * 180)
    profile, recipe, _ = look(spark, make_fleet(table, **without_time()))
    assert profile.timeline is None
    assert profile.rows == 180
    assert recipe.features == ["size", "floor", "kind", "lift"], "what is no plain value is left out"
    assert recipe.text_features == ["kind"]
    assert sorted(recipe.split_by) == ["district", "floor", "kind", "lift", "rent", "size"]
    assert Profile.from_json(profile.to_json()) == profile
    _, chosen, _ = look(spark, make_fleet(table, **without_time(features={"known_ahead": ["kind", "size"]})))
    assert chosen.features == ["kind", "size"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda table: table.iloc[:0], "holds no rows"),
        (lambda table: table.assign(rent=np.nan), "no row has a usable value in 'rent'"),
        (lambda table: table.assign(rent=5.0), "none of 3 has 20 labelled rows that vary outside the holdout"),
        (lambda table: table.groupby("district").head(15), "none of 3 has 20 labelled rows"),
        (lambda table: table[["district", "rent"]], "no column that a model could look at"),
        (lambda table: table.rename(columns={"district": "distrikt"}), "did you mean 'distrikt'?"),
    ],
)
def test_a_table_without_time_that_is_refused(
    spark: Spark, make_fleet: MakeFleet, spoil: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    assert said in refused(spark, make_fleet(spoil(flats(3, 60)), **without_time()))


def test_one_typing_error_far_ahead_does_not_move_the_last_label(
    spark: Spark, make_fleet: MakeFleet, daily: pd.DataFrame
) -> None:
    typo = daily.iloc[:1].assign(day=pd.Timestamp("2198-01-01"))
    unkeyed = daily.iloc[:1].assign(day=pd.Timestamp("2024-03-05"), shop=None)
    profile, _, _ = look(spark, make_fleet(pd.concat([daily, typo, unkeyed])))
    assert profile.times.last_label == daily["day"].max()
    assert profile.rows == len(daily) + 2


def test_a_first_time_that_makes_the_calendar_endless(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(days=300, frequency="min")
    typo = table.iloc[:1].assign(day=pd.Timestamp("1901-01-01"))
    assert "look like typing errors" in refused(spark, make_fleet(pd.concat([table, typo])))


@pytest.mark.parametrize(
    "again", [[], ["shop 1,2024-01-09,5,1"], ["shop 1,2024-01-09,many,1"], ["shop 9,2024-01-09,5,1"]]
)
def test_whether_a_time_comes_twice_in_a_segment(spark: Spark, make_fleet: MakeFleet, again: list[str]) -> None:
    text = "\n".join([daily_sales().to_csv(index=False).strip(), *again]) + "\n"
    profile, _, _ = look(spark, make_fleet(text))
    assert profile.repeated is any("shop 1" in row for row in again)
    assert profile.segments == (4 if any("shop 9" in row for row in again) else 3)
    assert Profile.from_json(profile.to_json()) == profile


def kinds_of(spark: Spark, fleet: Fleet, rows: int) -> dict[str, str]:
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    return column_kinds(raw, fleet.settings, rows)


def test_some_rows_tell_what_columns_are_and_all_are_asked_where_they_do_not(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "ROWS_TO_TELL", 100)
    monkeypatch.setattr(kinds, "CELLS_TO_TELL", 20)
    looked_at: list[int] = []
    count = kinds._parse_counts

    def counted(raw: Any, *given: Any) -> Any:
        looked_at.append(raw.count())
        return count(raw, *given)

    monkeypatch.setattr(kinds, "_parse_counts", counted)
    table = daily_sales(shops=10, days=100).assign(open="yes", kind="x", rare=None, close=None)
    features = {"known_ahead": ["price", "open", "kind"]}
    clear = kinds_of(spark, make_fleet(table.to_csv(index=False), features=features), 1000)
    assert clear == {"sold": "number", "price": "number", "open": "boolean", "kind": "text"}
    assert len(looked_at) == 1
    assert 50 < looked_at.pop() < 200
    table.loc[::400, "rare"] = "1.5"  # three cells: perhaps none of them in the sample
    table["close"] = ["1" if n % 9 < 5 else "one" for n in range(1000)]
    features = {"known_ahead": ["rare", "close"]}
    doubtful = kinds_of(spark, make_fleet(table.to_csv(index=False), features=features), 1000)
    assert doubtful == {"sold": "number", "rare": "number", "close": "number"}
    assert looked_at[1:] == [1000]


def test_letters_of_which_most_could_mean_truth_are_text_and_a_typing_error_among_truths_is_one(
    spark: Spark, make_fleet: MakeFleet
) -> None:
    table = daily_sales(shops=3, days=100)
    table["grade"] = ["Y" if n % 5 else "U" for n in range(300)]
    table["open"] = ["yes" if n else "yees" for n in range(300)]
    features = {"known_ahead": ["grade", "open"]}
    found = kinds_of(spark, make_fleet(table.to_csv(index=False), features=features), 300)
    assert found == {"sold": "number", "grade": "text", "open": "boolean"}


@pytest.mark.parametrize(
    ("asked", "metric", "used"),
    [
        (None, "wape", ("regression_l1", "tweedie")),
        (None, "mae", ("regression_l1", "tweedie")),
        (None, "rmse", ("regression", None)),
        ("regression", "wape", ("regression", None)),
        ("poisson", "mae", ("poisson", None)),
    ],
)
def test_what_is_minimized_follows_the_metric_unless_the_user_says_it(asked: Any, metric: str, used: Any) -> None:
    assert tuple(_objectives(asked, metric).values()) == used


def test_what_people_are_shown_of_a_table(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(shops=14, days=60)
    table["sold"] = [None if n % 60 < n // 60 else sold for n, sold in enumerate(table["sold"])]
    unusable = pd.DataFrame({"shop": ["shop 99"] * 3, "day": ["x", "2024-01-05", None], "sold": ["many", "many", "1"]})
    table["day"] = table["day"].astype(str)
    found = look(spark, make_fleet(pd.concat([table, unusable.astype(str)]).to_csv(index=False))).description
    assert found.segments == 15
    shown = [(f"shop {n}", 60, n - 1, "2024-01-01 00:00:00", "2024-02-29 00:00:00") for n in range(14, 4, -1)]
    assert [tuple(each.values()) for each in found.emptiest] == shown
    drawn = pd.DataFrame(found.label)
    known = table.dropna(subset="sold").groupby("day")["sold"]
    for name, share in (("low", 0.1), ("median", 0.5), ("high", 0.9)):
        wanted = known.apply(lambda each, q=share: np.quantile(each, q, method="inverted_cdf"))
        assert drawn.set_index("time")[name].tolist() == pytest.approx(wanted.tolist())
    assert drawn["time"].iloc[0] == "2024-01-01T00:00:00.000"


def test_a_large_table_is_drawn_from_an_even_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "SAMPLED_ROWS", 500)
    day = pd.date_range("2024-01-01", periods=100)
    timeline = Timeline(
        time_type="date",
        frequency="D",
        phase=0,
        first_time=day[0],
        last_time=day[-1],
        first_label=day[0],
        last_label=day[-1],
    )
    rows = pa.table({
        KEY: np.repeat([f"s{n}" for n in range(40)], 100), TIME: pa.array(np.tile(day, 40), pa.timestamp("us")),
        "usable": [True] * 4000, "label": np.tile(np.arange(100.0), 40),
    })  # fmt: skip
    sample = pa.concat_tables([description.sample_of(rows.slice(n * 1000, 1000), timeline, 4) for n in range(4)])
    assert 450 <= sample.num_rows <= 550
    drawn = description.label_quantiles(sample, timeline)
    assert np.corrcoef(drawn["median"], np.arange(len(drawn["median"])))[0, 1] > 0.99


def test_what_people_are_shown_of_a_table_without_time(spark: Spark, make_fleet: MakeFleet) -> None:
    table = flats(12, 50)
    table.loc[table["district"] == "district 3", "rent"] = np.nan
    table.loc[table.index[table["district"] == "district 7"][:5], "rent"] = np.nan
    found = look(spark, make_fleet(table, **without_time())).description
    assert found.segments == 12
    assert [tuple(each.values()) for each in found.emptiest[:3]] == [
        ("district 3", 50, 50), ("district 7", 50, 5), ("district 0", 50, 0),
    ]  # fmt: skip
    assert sum(found.label["rows"]) == table["rent"].notna().sum()
    assert len(set(found.label["width"])) == 1
