"""The calendar of a fleet as arrays: for each period its time and what the calendar says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.raw.calendar import nanoseconds
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """Periods from the table's first time to the end of the horizon, the first of which is number `start`.

    `micros` are their times (UTC, microseconds since 1970), `features` the values of each calendar feature.
    """

    start: int
    micros: NDArray[np.int64]
    features: dict[str, NDArray[np.float64]]


@lru_cache(maxsize=2)
def known_grid(recipe_json: str, profile_json: str) -> Grid:
    """The grid that a recipe's features of a table are built on, made once a process: too much to send with tasks."""
    recipe, timeline = Recipe.model_validate_json(recipe_json), Profile.from_json(profile_json).times
    times = recipe.calendar.times(timeline.first_time, timeline.last_label, recipe.horizon)
    start = recipe.calendar.period_of(times[0])
    features = {name: calendar_feature(name, times, start).to_numpy() for name in recipe.calendar_features}
    return Grid(start, nanoseconds(times) // 1000, features)


def calendar_feature(name: str, times: pd.DatetimeIndex, first_period: int) -> pd.Series:
    """A calendar feature (double) of grid times; `trend` is the period's number."""
    if name == "trend":
        return pd.Series(range(first_period, first_period + len(times)), dtype="float64")
    values = {
        "minute": times.minute,
        "hour": times.hour,
        "day_of_week": times.dayofweek,
        "day_of_month": times.day,
        "day_of_year": times.dayofyear,
        "week_of_year": times.isocalendar().week,
        "month": times.month,
        "quarter": times.quarter,
        "year": times.year,
    }[name]
    return pd.Series(values.to_numpy() if hasattr(values, "to_numpy") else values).astype("float64")
