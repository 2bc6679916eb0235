"""What a fleet that serves is asked: the columns of a row, its calendar, and what each training's models look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assets.models.blend import Weights
from assets.models.quantiles import NO_QUANTILES, Quantiles, steps_of
from assets.raw.calendar import Calendar, nanoseconds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NUMBER, BOOLEAN, TEXT = "number", "boolean", "text"


@dataclass(frozen=True)
class Span:
    """The periods that can be asked for: from `first` on, up to `horizon` periods after `last`, the fleet's last label.

    Without a calendar rows have no time, and all are about the period a horizon after `last`.
    """

    last: int
    horizon: int
    frequency: str = ""
    phase: int = 0
    first: str = ""
    last_label: str = ""

    @property
    def calendar(self) -> Calendar:
        """The grid on which times lie."""
        return Calendar(self.frequency, self.phase)

    @cached_property
    def times(self) -> pd.DatetimeIndex:
        """Every time that can be asked for."""
        first, last_label = pd.Timestamp(self.first), pd.Timestamp(self.last_label)
        if first > last_label:  # just the horizon
            ahead = self.calendar.times(last_label, last_label, self.horizon)
            return ahead[ahead >= first]
        return self.calendar.times(first, last_label, self.horizon)

    @cached_property
    def reach(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """The first and the last time that can be asked for."""
        return pd.Timestamp(self.first), self.times[-1]

    @cached_property
    def _grid(self) -> tuple[NDArray[np.int64], int]:
        return nanoseconds(self.times), self.calendar.period_of(self.times[0])

    def steps(self, periods: Ints) -> Ints:
        """How many periods ahead each is forecast: one of the past a horizon; without a calendar all are 1."""
        if not self.frequency:
            return np.ones_like(periods)
        return steps_of(periods, self.last, self.horizon)

    def period_of(self, time: pd.Timestamp) -> int | None:
        """The period of a time within reach; None where it is off the calendar."""
        if unit := self.calendar.unit:
            number, rest = divmod(time.value - self.phase, unit)
            return None if rest else int(number)
        grid, start = self._grid
        place = int(np.searchsorted(grid, time.value))
        return start + place if place < len(grid) and grid[place] == time.value else None


@dataclass(frozen=True)
class Inputs:
    """What the models of one training look at, in the order of the matrix's columns, and how far ahead they reach."""

    features: tuple[str, ...]
    known_ahead: tuple[str, ...]
    kinds: Mapping[str, str]
    categories: Mapping[str, list[str]]
    label_transform: str
    through: int

    def kind(self, feature: str) -> str:
        """`number`, `boolean` or `text`."""
        return TEXT if feature in self.categories else self.kinds.get(feature, NUMBER)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Inputs:
        """The inverse of `to_json`."""
        lists = {name: tuple(fields[name]) for name in ("features", "known_ahead")}
        return cls(**{**fields, **lists})


@dataclass(frozen=True)
class Question:
    """Names of a row's columns, and its span. `columns` are all those that the fleet's table is known to have."""

    segment: tuple[str, ...]
    time: str | None
    label: str
    columns: frozenset[str]
    span: Span
    inputs: Mapping[str, Inputs] = field(default_factory=dict)

    @property
    def given(self) -> frozenset[str]:
        """Columns of a row that say what it is about, and are no inputs of a model."""
        return frozenset(name for name in (*self.segment, self.time, self.label) if name)

    @cached_property
    def known_ahead(self) -> frozenset[str]:
        """Columns that a row may bring and that some model looks at."""
        return frozenset(name for inputs in self.inputs.values() for name in inputs.known_ahead)

    @cached_property
    def computed(self) -> frozenset[str]:
        """Features that some model looks at and that no table has: lags, windows, calendar."""
        return frozenset(name for inputs in self.inputs.values() for name in inputs.features) - self.known_ahead


@dataclass(frozen=True)
class Place:
    """Who serves a segment (weights; the baseline has the rest), of which training, and where its own model lies."""

    segment: str
    weights: Weights
    training: str | None
    shard: str | None
    digest: str | None = None
    quantiles: Quantiles = NO_QUANTILES


@dataclass(frozen=True)
class SegmentFeatures:
    """Committed rows of one segment by period: labels (NaN: unknown) and inputs of a training's models."""

    periods: Ints
    labels: Floats
    x: Floats

    def at(self, periods: Ints) -> tuple[Floats, NDArray[np.bool_]]:
        """A row of inputs for each of some periods, and which of them there is a row for."""
        if not len(self.periods):
            return np.full((len(periods), self.x.shape[1]), np.nan), np.zeros(len(periods), bool)
        found = np.minimum(np.searchsorted(self.periods, periods), len(self.periods) - 1)
        return self.x[found], self.periods[found] == periods


@dataclass(frozen=True)
class FeatureRows:
    """Committed rows of some segments, one segment after the other."""

    begins: Mapping[str, tuple[int, int]]
    periods: Ints
    labels: Floats
    x: Floats

    def of(self, segment: str) -> SegmentFeatures:
        """The rows of one segment; none where it has none."""
        rows = slice(*self.begins.get(segment, (0, 0)))
        return SegmentFeatures(self.periods[rows], self.labels[rows], self.x[rows])

    @property
    def size(self) -> int:
        """Bytes."""
        return self.periods.nbytes + self.labels.nbytes + self.x.nbytes + 200 * len(self.begins)
