"""The recipe: `fleet.yaml` with every default filled in from the table, so that it can be repeated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel

from assets.raw.calendar import Calendar, base, seasons
from assets.raw.lengths import (
    SHORTEST_HISTORY,
    calendar_features_of,
    cycles_of,
    holdout_of,
    horizon_of,
    lags_of,
    minimum_history_of,
    steps_can_be_learnt,
    windows_of,
)
from assets.raw.parse import Kind
from assets.raw.profile import Profile, Timeline
from assets.raw.split import EVERYTHING, ROWS_A_CLASS
from resources.judging import metrics_of
from resources.problems import Problem
from resources.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

Item = TypeVar("Item")
STEP = "horizon@step"
SHORTEST_USABLE = 4


class Recipe(BaseModel):
    """What is refitted each week: columns, features, parameters, and lengths in calendar periods.

    Without time a row's period is its place in a split by hash (see `split.py`): the holdout is the last class of it,
    one horizon long, and the season is all of it, so that the baseline is the mean of the labels known.

    `at_origin`: features say what was known at each row's own origin (see `steps_ahead`), of which `cycles` are the
    seasons shorter than the horizon; without, they end a horizon before each row.
    """

    segment: list[str]
    time: str | None
    label: str
    frequency: str
    phase: int
    horizon: int
    kinds: dict[str, Kind]
    known_ahead: list[str]
    past_only: list[str]
    lags: list[int]
    windows: list[int]
    statistics: list[str]
    calendar_features: list[str]
    season: int
    holdout: int
    minimum_history: int
    closed_after: int
    metric: str
    model: dict[str, Any]
    fleet_rows: int
    categories: dict[str, list[str]] = {}
    split_by: list[str] = []
    at_origin: bool = False
    cycles: list[int] = []

    @property
    def blend(self) -> bool:
        """Whether a segment may be served by several candidates, each with a weight."""
        return bool(self.model.get("blend", True))

    @property
    def horizons_held_out(self) -> int:
        """How many horizons the holdout is long, and the fold before it: so many forecasts of a segment it judges."""
        return max(1, self.holdout // self.horizon)

    @property
    def calendar(self) -> Calendar:
        """The grid of times on which periods are counted."""
        return Calendar(self.frequency, self.phase)

    @property
    def time_columns(self) -> list[str]:
        """The time column; none of a table without time."""
        return [self.time] if self.time else []

    @property
    def lagged(self) -> list[tuple[str, str, int]]:
        """(feature, column, lag) for the label and each `past_only` column."""
        return [(f"{column}@lag_{lag}", column, lag) for column in [self.label, *self.past_only] for lag in self.lags]

    @property
    def rolled(self) -> list[tuple[str, str, int]]:
        """(feature, statistic, window) of the label."""
        return [(f"{self.label}@{s}_{window}", s, window) for window in self.windows for s in self.statistics]

    @property
    def newest(self) -> list[tuple[str, str]]:
        """(feature, column): the newest value known at a row's origin."""
        return [(f"{column}@newest", column) for column in [self.label, *self.past_only] if self.at_origin]

    @property
    def seasonal(self) -> list[tuple[str, int]]:
        """(feature, season): the label in the same place of the newest season known at a row's origin."""
        return [(f"{self.label}@newest_of_{season}", season) for season in self.cycles]

    @property
    def features(self) -> list[str]:
        """Names of the model's inputs, in the order of the matrix's columns."""
        return [
            *self.known_ahead,
            *(name for name, _, _ in self.lagged),
            *(name for name, _, _ in self.rolled),
            *(name for name, _ in self.newest),
            *(name for name, _ in self.seasonal),
            *([STEP] if self.at_origin else []),
            *(f"calendar@{name}" for name in self.calendar_features),
        ]

    @property
    def text_features(self) -> list[str]:
        """Those features whose values are categories."""
        text = {column for column, kind in self.kinds.items() if kind == "text"}
        earlier = {name for name, column, _ in self.lagged if column in text}
        earlier |= {name for name, column in self.newest if column in text}
        return [name for name in self.features if name in text or name in earlier]

    def steps_ahead(self, periods: NDArray[np.int64], last: int) -> NDArray[np.int64]:
        """How many periods after its origin each row lies, from 1 to the horizon; labels are known up to period `last`.

        The future's origin is `last`. The past is cut into stretches of a holdout, each into horizons, and every row
        has the period before its horizon for an origin: so models learn from each step ahead what they will have there,
        and what is held out is judged from origins that lie in it or at its beginning, never after the row.
        """
        stretch = max(self.holdout, self.horizon)
        past = (periods - (last - self.holdout) - 1) % stretch % self.horizon + 1
        return np.where(periods > last, periods - last, past)

    @property
    def problem_digest(self) -> str:
        """Digest of the question asked: fleets with the same one can be compared."""
        return _digest([self.segment, self.time, self.label, self.frequency, self.phase])

    @property
    def features_digest(self) -> str:
        """Digest of everything that shapes the feature table."""
        parts = self.model_dump(exclude={"model", "fleet_rows", "metric", "season", "minimum_history", "categories"})
        return _digest(parts)

    @property
    def refitted_digest(self) -> str:
        """Digest of what is refitted each week, without what follows the rows: categories seen, and what is held out.

        Equal ones are the same recipe, on newer data.
        """
        return _digest(self.model_dump(exclude={"categories", "holdout", "closed_after"}))

    def without_inputs(self) -> Recipe:
        """The recipe of models that look at nothing but the label."""
        none: dict[str, list[str]] = {
            "known_ahead": [],
            "lags": [],
            "windows": [],
            "calendar_features": [],
            "cycles": [],
        }
        return self.model_copy(update={**none, "at_origin": False})

    def shapes_like(self, other: Recipe) -> bool:
        """Whether feature rows give the same matrix under both recipes."""
        return self.features_digest == other.features_digest and self.categories == other.categories

    @property
    def digest(self) -> str:
        """Digest of the whole recipe."""
        return _digest(self.model_dump())


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def recipe_of(settings: Settings, profile: Profile) -> Recipe:
    """The settings completed by what the table is like; `too_long` says whether the history can hold it."""
    lengths = _by_calendar(settings, profile.timeline) if profile.timeline else _by_split(settings, profile)
    metric = settings.evaluation.metric or metrics_of(settings.model.objective)[0]
    return Recipe(
        segment=settings.segment,
        time=settings.time,
        label=settings.label,
        kinds=profile.kinds,
        past_only=settings.features.past_only,
        metric=metric,
        model={**settings.model.model_dump(), **_objectives(settings.model.objective, metric)},
        fleet_rows=settings.fleet_model.rows if settings.fleet_model.enabled else 0,
        **lengths,
    )


def _objectives(asked: str | None, metric: str) -> dict[str, str | None]:
    """What models minimize, and what those of segments whose labels are mostly zero do, where that is another."""
    if asked is not None:
        return {"objective": asked, "objective_of_zeros": None}
    of_median = metric in ("wape", "mae")
    return {
        "objective": "regression_l1" if of_median else "regression",
        "objective_of_zeros": "tweedie" if of_median else None,
    }


def _by_calendar(settings: Settings, timeline: Timeline) -> dict[str, Any]:
    horizon = settings.horizon or horizon_of(settings, timeline)
    rolling, lags, calendar = settings.features.rolling, settings.features.lags, settings.features.calendar
    natural = seasons(timeline.frequency)[-1 if base(timeline.frequency) == "W" else 0]
    asked = settings.features.at_origin
    at_origin = horizon > 1 and (lags != [] and steps_can_be_learnt(horizon, timeline) if asked is None else asked)
    return {
        "frequency": timeline.frequency,
        "phase": timeline.phase,
        "known_ahead": settings.features.known_ahead,
        "lags": sorted(set(lags_of(horizon, timeline) if lags is None else lags)),
        "windows": _distinct(rolling.windows if rolling else windows_of(timeline)),
        "statistics": _distinct(rolling.statistics if rolling else ["mean", "std"]),
        "calendar_features": _distinct(calendar_features_of(timeline) if calendar is None else calendar),
        "horizon": horizon,
        "season": settings.evaluation.season or natural,
        "holdout": settings.evaluation.holdout or holdout_of(horizon, timeline),
        "minimum_history": settings.evaluation.minimum_history or minimum_history_of(horizon, timeline),
        "closed_after": settings.forecasts.closed_after or horizon,
        "at_origin": at_origin,
        "cycles": cycles_of(horizon, timeline) if at_origin else [],
    }


def _by_split(settings: Settings, profile: Profile) -> dict[str, Any]:
    return {
        "frequency": "",
        "phase": 0,
        "known_ahead": [column for column in profile.kinds if column != settings.label],
        "lags": [],
        "windows": [],
        "statistics": [],
        "calendar_features": [],
        "horizon": ROWS_A_CLASS,
        "season": EVERYTHING,
        "holdout": ROWS_A_CLASS,
        "minimum_history": settings.evaluation.minimum_history or SHORTEST_HISTORY,
        "closed_after": EVERYTHING,
        "split_by": profile.split_by,
    }


def _distinct(values: Iterable[Item]) -> list[Item]:
    return list(dict.fromkeys(values))


def too_long(recipe: Recipe, timeline: Timeline) -> list[Problem]:
    """A problem for each length that the table's history cannot hold."""
    history, problems = timeline.history, []

    def refuse(key: str, what: str, remedy: str) -> None:
        problems.append(Problem(f"fleet.yaml {key}", f"{what} the history of {history}", remedy))

    if history < SHORTEST_USABLE:
        unit = f"period{'s' * (history > 1)} of {timeline.frequency!r}"
        what = f"the label spans {history} {unit}, too few to learn from"
        return [Problem("fleet.yaml label", what, "bring more history")]
    if recipe.holdout >= history:
        remedy = f"write less than {history // 2}, or bring more history"
        refuse("evaluation.holdout", f"a holdout of {recipe.holdout} periods is longer than", remedy)
    elif recipe.holdout + recipe.minimum_history > history:
        what = f"{recipe.minimum_history} periods before a holdout of {recipe.holdout} do not fit"
        refuse("evaluation.minimum_history", what, "shorten one of the two, or bring more history")
    if recipe.horizon >= history:
        what = f"a horizon of {recipe.horizon} periods is longer than"
        refuse("horizon", what, f"write less than {history // 2}")
    return problems
