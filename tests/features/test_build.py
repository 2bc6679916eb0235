"""Features: calendar periods not rows, nothing known too late, a future for every open segment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assets.features.build import features_of_bucket, with_plain_text
from assets.features.contract import BUCKET
from assets.features.grid import calendar_feature
from assets.features.ordered import ordered
from assets.features.point_in_time import ASSUMED
from assets.raw.calendar import Calendar, calendar_of, seasons
from assets.raw.parse import KEY, PERIOD, TIME
from assets.raw.profile import Profile, Timeline
from assets.raw.recipe import Recipe, recipe_of
from resources.settings import Settings

KINDS: dict[str, Any] = {"sold": "number", "price": "number", "promo": "text", "visits": "number"}
CALENDAR = [
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "week_of_year",
    "month",
    "quarter",
    "year",
    "trend",
]


def table(frequency: str, periods: int, shops: int, gaps: float, seed: int, start: str = "2023-12-20") -> pd.DataFrame:
    """Random rows with gaps and missing values; the first and the last time are always there."""
    random = np.random.default_rng(seed)
    times = pd.date_range(start, periods=periods, freq=frequency)
    frame = pd.DataFrame({
        "shop": np.repeat([f"shop {shop}" for shop in range(shops)], periods),
        TIME: np.tile(times, shops),
        "sold": random.normal(size=periods * shops).round(3),
        "price": random.integers(1, 9, periods * shops).astype(float),
        "promo": random.choice(["a", "b"], periods * shops),
        "visits": random.normal(size=periods * shops).round(3),
    })  # fmt: skip
    for column in ("sold", "price", "promo", "visits"):
        frame.loc[random.random(len(frame)) < 0.1, column] = None
    edge = frame[TIME].isin([times[0], times[-1]])
    frame.loc[edge, "sold"] = 1.0
    kept = frame[edge | (random.random(len(frame)) >= gaps)]
    return kept.reset_index(drop=True)


def prepared(
    frame: pd.DataFrame, frequency: str, last: pd.Timestamp, **features: Any
) -> tuple[Profile, Recipe, Calendar]:
    times = pd.DatetimeIndex(frame[TIME].drop_duplicates().sort_values())
    calendar = calendar_of(frequency, times, np.ones(len(times), np.int64))
    timeline = Timeline(
        time_type="timestamp_ntz", frequency=frequency, phase=calendar.phase,
        first_time=times[0], last_time=times[-1], first_label=times[0], last_label=last,
    )  # fmt: skip
    profile = Profile(rows=len(frame), kinds=KINDS, timeline=timeline)
    chosen = {
        "known_ahead": ["price", "promo"], "past_only": ["visits"], "lags": [3, 5, 12],
        "rolling": {"windows": [2, 6], "statistics": ["mean", "std", "min", "max", "sum"]}, "calendar": CALENDAR,
    }  # fmt: skip
    settings = Settings(
        name="t", source={"path": "x"}, segment=["shop"], time="day", label="sold", horizon=3,
        features={**chosen, **features},
    )  # fmt: skip
    return profile, recipe_of(settings, profile), calendar


def built(frame: pd.DataFrame, profile: Profile, recipe: Recipe, buckets: int = 3) -> pd.DataFrame:
    periods = {time: profile.times.calendar.period_of(time) for time in frame[TIME].unique()}
    rows = frame.assign(**{KEY: frame["shop"], PERIOD: frame[TIME].map(periods)})
    rows[BUCKET] = rows[KEY].factorize()[0] % buckets
    build = features_of_bucket(recipe, profile)
    parts = ordered(pa.Table.from_pandas(rows, SCHEMA), ["shop"]).buckets()
    found = pa.concat_tables([with_plain_text(build(part)) for part in parts]).to_pandas()
    return found.sort_values([KEY, PERIOD]).reset_index(drop=True)


SCHEMA = pa.schema([
    ("shop", pa.string()), ("sold", pa.float64()), ("price", pa.float64()), ("promo", pa.string()), ("visits", pa.float64()),
    (KEY, pa.string()), (PERIOD, pa.int32()), (BUCKET, pa.int32()),
])  # fmt: skip


def range_of(grid: pd.DataFrame, places: Any) -> pd.DatetimeIndex:
    """The grid's times at some places, a time that it has not where there is none."""
    nowhere = grid.index[0] - pd.Timedelta("9999D")
    return pd.DatetimeIndex([grid.index[place] if place >= 0 else nowhere for place in places])


def steps_of(recipe: Recipe, periods: int) -> Any:
    """Steps ahead of all periods of a table and its future, by walking from origin to origin."""
    if not recipe.at_origin:
        return np.full(periods, recipe.horizon)
    last, steps = periods - recipe.horizon, [0] * periods
    stretch = max(recipe.holdout, recipe.horizon)
    starts = [last, *range(last - recipe.holdout, -2 * stretch, -stretch)]
    for start in reversed(starts):
        for place in range(max(start, 0), periods):
            steps[place] = (place - start) % recipe.horizon + 1
    return np.array(steps)


def reckoned(frame: pd.DataFrame, recipe: Recipe, times: pd.DatetimeIndex) -> pd.DataFrame:
    """Lags and windows by pandas alone: every segment laid out on the whole grid, then shifted."""
    parts = []
    for shop, rows in frame.groupby("shop"):
        grid = rows.set_index(TIME).reindex(times)
        columns: dict[str, Any] = {
            f"{column}@lag_{lag}": grid[column].shift(lag) for column in ("sold", "visits") for lag in recipe.lags
        }
        label, place = grid["sold"].astype(float), np.arange(len(grid))
        steps = steps_of(recipe, len(grid))
        for window in recipe.windows:
            rolling = label.rolling(window, min_periods=1)
            for statistic in recipe.statistics:
                until = getattr(rolling, statistic)().where(rolling.count() > 0)
                columns[f"sold@{statistic}_{window}"] = until.reindex(range_of(grid, place - steps)).to_numpy()
        if recipe.at_origin:
            columns["horizon@step"] = steps
            for name, column in {"sold@newest": "sold", "visits@newest": "visits"}.items():
                known = grid[column].astype(float).ffill(limit=recipe.horizon - 1)
                columns[name] = known.reindex(range_of(grid, place - steps)).to_numpy()
            for name, season in recipe.seasonal:
                back = np.array([next(n for n in range(season, 99, season) if n >= step) for step in steps])
                columns[name] = label.reindex(range_of(grid, place - back)).to_numpy()
        parts.append(pd.DataFrame(columns).assign(shop=shop).rename_axis(TIME).reset_index())
    return pd.concat(parts)


@hypothesis_settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frequency=st.sampled_from(["h", "D", "B", "W-FRI", "MS", "ME", "QS", "15min"]),
    gaps=st.sampled_from([0.0, 0.3, 0.7]),
    seed=st.integers(0, 10_000),
    horizon=st.sampled_from([None, 3, 8]),
)
def test_lags_and_windows_count_calendar_periods(frequency: str, gaps: float, seed: int, horizon: int | None) -> None:
    frame = table(frequency, 40, 3, gaps, seed)
    profile, recipe, calendar = prepared(frame, frequency, frame[TIME].max(), at_origin=horizon is not None)
    if horizon:
        cycles = [each for each in seasons(frequency) if 1 < each < horizon]
        recipe = recipe.model_copy(update={"horizon": horizon, "cycles": cycles})
    found = built(frame, profile, recipe)
    times = calendar.times(profile.times.first_time, profile.times.last_label, recipe.horizon)
    expected = reckoned(frame, recipe, times)
    joined = found.merge(expected, on=["shop", TIME], suffixes=("", " expected"), validate="one_to_one")
    assert len(joined) == len(found) == len(frame) + 3 * recipe.horizon
    of_past = [name for name in recipe.features if "@" in name and not name.startswith("calendar@")]
    assert ("horizon@step" in of_past) is (horizon is not None)
    for name in of_past:
        np.testing.assert_allclose(
            joined[name].astype(float), joined[f"{name} expected"].astype(float), atol=1e-9, err_msg=name
        )
    for name in CALENDAR[:-1]:
        wanted = calendar_feature(name, pd.DatetimeIndex(found[TIME]), 0)
        assert found[f"calendar@{name}"].tolist() == wanted.tolist(), name
    assert found["calendar@trend"].tolist() == found[PERIOD].tolist()
    assert [recipe.calendar.period_of(time) for time in found[TIME].iloc[:5]] == found[PERIOD].iloc[:5].tolist()


def noisy_after(frame: pd.DataFrame, cut_off: pd.Timestamp) -> pd.DataFrame:
    changed = frame.copy()
    later = changed[TIME] > cut_off
    changed.loc[later, ["sold", "visits"]] = np.random.default_rng(9).normal(size=(later.sum(), 2)) * 1e6
    return changed


@pytest.mark.parametrize("leaking", ["", "lag", "origin"])
@pytest.mark.parametrize("at_origin", [False, True])
def test_what_comes_after_a_cut_off_does_not_reach_features_a_horizon_long(leaking: str, at_origin: bool) -> None:
    frame = table("D", 60, 2, 0.2, seed=4)
    profile, recipe, _ = prepared(frame, "D", frame[TIME].max(), at_origin=at_origin)
    cut_off = frame[TIME].max() - pd.Timedelta(recipe.holdout, "D")
    changed = {"lag": {"lags": [recipe.horizon - 1]}, "origin": {"holdout": recipe.holdout - 1}, "": {}}[leaking]
    recipe = recipe.model_copy(update=changed)  # the test must notice what is one period too short
    honest = [built(rows, profile, recipe) for rows in (frame, noisy_after(frame, cut_off))]
    early = [rows[rows[TIME] <= cut_off + pd.Timedelta(recipe.horizon, "D")] for rows in honest]
    same = early[0][recipe.features].equals(early[1][recipe.features])
    assert same is not (leaking == "lag" or (leaking == "origin" and at_origin))


def test_open_segments_have_a_whole_horizon_and_closed_ones_none() -> None:
    frame = table("D", 30, 3, 0.0, seed=5)
    last = frame[TIME].max()
    frame[["price", "promo"]] = frame[["price", "promo"]].fillna({"price": 5.0, "promo": "a"})
    closed = (frame["shop"] == "shop 2") & (frame[TIME] > last - pd.Timedelta("3D"))
    future = pd.DataFrame({
        "shop": ["shop 0", "shop 0", "shop 1", "shop 0"],
        TIME: [last + pd.Timedelta(days, "D") for days in (1, 3, 2, 9)],
        "sold": None, "price": [100.0, 300.0, None, 900.0], "promo": ["x", "y", "z", "w"],
        "visits": [7.0, 7.0, 7.0, 7.0],
    })  # fmt: skip
    frame = pd.concat([frame[~closed], future], ignore_index=True)
    profile, recipe, _ = prepared(frame, "D", last)
    found = built(frame, profile, recipe)
    ahead = found[found[TIME] > last]
    assert ahead.groupby("shop").size().to_dict() == {"shop 0": 3, "shop 1": 3}
    assert ahead["sold"].isna().all()
    before = frame[frame[TIME] == last].set_index("shop")
    shown = {key: rows[["price", "promo", ASSUMED]].values.tolist() for key, rows in ahead.groupby("shop")}
    assert shown["shop 0"] == [[100.0, "x", False], [100.0, "x", True], [300.0, "y", False]]
    price, promo = before.loc["shop 1", "price"], before.loc["shop 1", "promo"]
    assert shown["shop 1"] == [[price, promo, True], [price, "z", True], [price, "z", True]]
    assert not found.loc[found[TIME] <= last, ASSUMED].any()
    assert len(found) == (frame[TIME] <= last).sum() + 6


def test_history_keeps_its_missing_values_and_nothing_is_carried_into_it() -> None:
    frame = table("D", 20, 1, 0.0, seed=6)
    frame.loc[5, ["price", "promo"]] = None
    profile, recipe, _ = prepared(frame, "D", frame[TIME].max())
    found = built(frame, profile, recipe)
    assert pd.isna(found.loc[5, "price"])
    assert found.loc[5, "promo"] is None


def test_without_any_feature_but_the_calendar() -> None:
    frame = table("D", 20, 1, 0.0, seed=7)
    keys = {"known_ahead": [], "past_only": [], "lags": [], "rolling": {"windows": []}, "calendar": ["month"]}
    profile, recipe, _ = prepared(frame, "D", frame[TIME].max(), **keys)
    found = built(frame, profile, recipe)
    assert recipe.features == ["calendar@month"]
    assert len(found) == 23
    assert not found[ASSUMED].any()
