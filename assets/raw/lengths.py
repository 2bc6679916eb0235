"""Lengths that follow from a table's frequency and history: horizon, holdout, lags, windows; and calendar features."""

from __future__ import annotations

from assets.raw.calendar import base, default_holdout, default_horizon, seasons
from assets.raw.profile import Timeline
from resources.settings import Settings

CALENDAR_FEATURES = {
    "s": ["minute", "hour", "day_of_week"],
    "min": ["minute", "hour", "day_of_week", "month"],
    "h": ["hour", "day_of_week", "month"],
    "D": ["day_of_week", "day_of_month", "week_of_year", "month", "trend"],
    "B": ["day_of_week", "day_of_month", "week_of_year", "month", "trend"],
    "W": ["week_of_year", "month", "trend"],
}
SHORTEST_HISTORY, LONGEST_HISTORY = 20, 60
HORIZONS_TO_LEARN_STEPS = 100  # measured: docs/accuracy.md


def calendar_features_of(timeline: Timeline) -> list[str]:
    """What the calendar says of a row, where nothing else is asked for."""
    return CALENDAR_FEATURES.get(base(timeline.frequency), ["month", "trend"])


def horizon_of(settings: Settings, timeline: Timeline) -> int:
    """Periods to forecast, where nothing else is asked for: at most the shortest lag, and a sixth of the history."""
    shortest_lag = min(settings.features.lags or [timeline.history])
    return max(1, min(default_horizon(timeline.frequency), timeline.history // 6, shortest_lag))


def holdout_of(horizon: int, timeline: Timeline) -> int:
    """Whole horizons, enough of them to tell luck from skill: four weeks of hours, not one day."""
    fewest = default_holdout(timeline.frequency)
    longest = max(1, timeline.history // 6 // horizon)
    return horizon * min(-(-fewest // horizon), longest)


def minimum_history_of(horizon: int, timeline: Timeline) -> int:
    """Labelled rows that a segment needs for a model of its own."""
    wanted = max(SHORTEST_HISTORY, min(2 * horizon, LONGEST_HISTORY))
    return max(2, min(wanted, timeline.history // 2))


def lags_of(horizon: int, timeline: Timeline) -> list[int]:
    """The horizon, the first multiples of the seasons from there on, and one more."""
    natural = seasons(timeline.frequency)
    multiples = [-(-horizon // season) * season for season in natural if season > 1]
    has_season = multiples and natural[0] <= horizon
    second = multiples[0] + natural[0] if has_season else horizon + -(-horizon // 2)
    lags = {horizon, *multiples, second}
    return sorted(lag for lag in lags if lag < timeline.history) or [horizon]


def windows_of(timeline: Timeline) -> list[int]:
    """A season, where it is a handful of periods, and four."""
    shortest = seasons(timeline.frequency)[0]
    window = shortest if 2 <= shortest <= 48 and base(timeline.frequency) not in ("MS", "ME") else 4
    return [w for w in (window, 4 * window) if w < timeline.history]


def cycles_of(horizon: int, timeline: Timeline) -> list[int]:
    """Seasons shorter than the horizon."""
    return [season for season in seasons(timeline.frequency) if 1 < season < horizon]


def steps_can_be_learnt(horizon: int, timeline: Timeline) -> bool:
    """Whether each step ahead comes often enough for models to learn what the newest labels say of it."""
    return timeline.history >= HORIZONS_TO_LEARN_STEPS * horizon
