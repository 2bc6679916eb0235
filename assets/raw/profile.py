"""What a raw table is: rows, kinds, calendar, span; refused where nothing could be trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import BaseModel

from assets.raw.calendar import (
    FIRST_SENSIBLE,
    LAST_SENSIBLE,
    MOST_PERIODS,
    ON_GRID,
    Calendar,
    calendar_of,
    default_horizon,
    infer_calendar,
    share_on_grid,
)
from assets.raw.parse import Kind
from assets.raw.split import LAST_ROW
from resources.problems import InputError, Problem
from resources.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONELY_SHARE = 0.01
THIN_SHARE = 0.5
FEWEST_TO_TELL = 20


class Timeline(BaseModel):
    """The calendar of a table with time, and what it spans; periods are numbers of calendar periods since 1970."""

    time_type: str
    frequency: str
    phase: int
    first_time: pd.Timestamp
    last_time: pd.Timestamp
    first_label: pd.Timestamp
    last_label: pd.Timestamp

    model_config = {"arbitrary_types_allowed": True}

    @property
    def calendar(self) -> Calendar:
        """The grid that the table's times lie on."""
        return Calendar(self.frequency, self.phase)

    @property
    def last_period(self) -> int:
        """Period of the fleet's last label."""
        return self.calendar.period_of(self.last_label)

    def last(self, periods: int) -> pd.DatetimeIndex:
        """The last so many periods up to the fleet's last label."""
        return self.calendar.times(self.first_time, self.last_label)[-periods:]

    def ahead(self, periods: int) -> pd.DatetimeIndex:
        """The first so many periods after the fleet's last label."""
        return self.calendar.times(self.first_time, self.last_label, periods)[-periods:]

    @property
    def history(self) -> int:
        """Periods from the first label to the last."""
        return self.last_period - self.calendar.period_of(self.first_label) + 1


TIMESTAMPS = ("first_time", "last_time", "first_label", "last_label")


class Profile(BaseModel):
    """A raw table in numbers.

    `segments` counts those with a usable row, `repeated` says whether several rows may have the same segment and time.
    Of a table without time `timeline` is None, and `split_by` names the columns by whose hash a row is held out.
    """

    rows: int
    kinds: dict[str, Kind]
    segments: int = 0
    repeated: bool = True
    timeline: Timeline | None = None
    split_by: list[str] = []

    @property
    def times(self) -> Timeline:
        """The timeline of a table that has one."""
        assert self.timeline is not None, "asked of tables with time only"
        return self.timeline

    @property
    def last_period(self) -> int:
        """Period of the fleet's last label; without time, of the last row that can be held out."""
        return self.timeline.last_period if self.timeline else LAST_ROW

    def to_json(self) -> str:
        """The profile as JSON, for the lake."""
        fields = self.model_dump(exclude={"timeline"})
        if self.timeline:
            fields |= self.timeline.model_dump() | {name: str(getattr(self.timeline, name)) for name in TIMESTAMPS}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> Profile:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        if "frequency" not in fields:
            return cls(**fields)
        times = fields | {name: pd.Timestamp(fields[name]) for name in TIMESTAMPS}
        timeline = Timeline(**{name: times[name] for name in Timeline.model_fields})
        return cls(
            **{name: fields[name] for name in ("rows", "kinds", "segments", "repeated") if name in fields},
            timeline=timeline,
        )


@dataclass(frozen=True)
class _Times:
    """Distinct times, sorted, with the rows and the usable labels at each."""

    index: pd.DatetimeIndex
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def profile_of(found: pd.DataFrame, settings: Settings, kinds: dict[str, Kind], time_type: str) -> Profile:
    """The profile of a table with time, from its distinct times (see `moments.times_of`).

    Raises:
        InputError: no rows, no labels, times that follow no frequency.
    """
    rows, times = _times(found, settings)
    calendar = _calendar(times, settings)
    labelled = calendar.holds(times.index) & (times.labels > 0)
    if not labelled.any():
        what = "no row with a usable label lies on the calendar"
        raise InputError([Problem("fleet.yaml label", what, "check label and frequency")])
    labels = times.index[labelled]
    timeline = Timeline(
        time_type=time_type,
        frequency=calendar.frequency,
        phase=calendar.phase,
        first_time=times.index[0],
        last_time=times.index[-1],
        first_label=labels[0],
        last_label=last_label(labels, times.labels[labelled], calendar, settings.horizon),
    )
    _refuse_endless(timeline)
    return Profile(rows=rows, kinds=kinds, timeline=timeline)


def _times(found: pd.DataFrame, settings: Settings) -> tuple[int, _Times]:
    """How many rows there are in all, and the sensible times of them."""
    found = found.sort_values("time")
    rows, distinct = int(found["rows"].sum()), found.dropna(subset="time")
    if not rows:
        raise InputError([Problem(settings.source.path, "holds no rows", "give a table with rows")])
    if distinct.empty:
        what = f"no row has a usable time in {settings.time!r}"
        remedy = f"times lie between {FIRST_SENSIBLE} and {LAST_SENSIBLE}"
        raise InputError([Problem("fleet.yaml time", what, remedy)])
    if len(distinct) >= MOST_PERIODS:
        what = f"{settings.time!r} has {MOST_PERIODS:,} distinct times or more"
        raise InputError([Problem("fleet.yaml time", what, "round times to the frequency of the forecasts")])
    if not distinct["labels"].sum():
        what = f"no row has a usable value in {settings.label!r}"
        raise InputError([Problem("fleet.yaml label", what, "name a column that holds numbers")])
    index = pd.DatetimeIndex(distinct["time"]).as_unit("ns")
    return rows, _Times(index, distinct["rows"].to_numpy(), distinct["labels"].to_numpy())


def _calendar(times: _Times, settings: Settings) -> Calendar:
    where, one = "fleet.yaml frequency", "round the times to one frequency"
    if settings.frequency is None:
        calendar = infer_calendar(times.index, times.rows)
        if calendar is None:
            what = f"the times in {settings.time!r} follow no frequency"
            raise InputError([Problem(where, what, one)])
        return calendar
    calendar = calendar_of(settings.frequency, times.index, times.rows)
    share = share_on_grid(calendar, times.index, times.rows)
    if share < ON_GRID:
        fitting = infer_calendar(times.index, times.rows)
        what = f"{1 - share:.1%} of the rows lie off the calendar of {settings.frequency!r}"
        remedy = f"the table looks like {fitting.frequency!r}" if fitting else one
        raise InputError([Problem(where, what, remedy)])
    return calendar


def last_label(
    times: pd.DatetimeIndex, labels: NDArray[np.int64], calendar: Calendar, horizon: int | None
) -> pd.Timestamp:
    """The last labelled time that is no typing error.

    Such errors lie after a silence of more than a horizon, are a hundredth of the labels at most, and look
    odd: the silence is longer than all that came before, or they are at one time only, or far fewer than usual.
    `times` are sorted grid times, `labels` counts the labels at each.
    """
    periods = calendar.periods(times)
    silence, history = np.diff(periods), periods[:-1] - periods[0]
    rows_after = labels.sum() - labels.cumsum()[:-1]
    times_after = np.arange(len(times) - 1, 0, -1)
    few = rows_after <= max(LONELY_SHARE * labels.sum(), 1)
    thin = rows_after / times_after <= THIN_SHARE * np.median(labels)
    odd = (silence > history) | (times_after == 1) | thin
    lonely = few & odd & (silence > (horizon or default_horizon(calendar.frequency)))
    lonely &= labels.sum() >= FEWEST_TO_TELL
    return times[int(np.argmax(lonely))] if lonely.any() else times[-1]


def _refuse_endless(timeline: Timeline) -> None:
    """Refuses a first time so far back that the periods since then cannot be counted out."""
    periods = timeline.last_period - timeline.calendar.period_of(timeline.first_time)
    if periods > MOST_PERIODS:
        span = f"{timeline.first_time} and {timeline.last_label}"
        what = f"{periods:,} periods of {timeline.frequency!r} lie between {span}"
        remedy = "mend the first times, which look like typing errors, or set a coarser frequency"
        raise InputError([Problem("fleet.yaml time", what, remedy)])
